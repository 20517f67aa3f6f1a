//! `Accept` and similar headers (RFC 9110 §12.4.2, §12.5): which of several representations a client prefers.
//!
//! In: the values of the header, on any number of lines. Out: the index of the preferred media type or coding, or
//! whether a coding may be used. There is one parser for every route, so that a header has the same meaning everywhere.

/// A weight in thousandths. 0 means not acceptable.
type Weight = u16;

/// A media type that the server can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// `type/subtype`.
    pub essence: &'static str,
    /// The known values of its `version` parameter; empty if it has none. Other parameters of a range do not matter.
    pub versions: &'static [&'static str],
}

impl Media {
    #[must_use]
    pub const fn new(essence: &'static str) -> Media {
        Media { essence, versions: &[] }
    }
}

/// How precisely a range names a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closeness {
    Any,
    Type,
    Named,
}

/// Returns a media type's weight: that of the range that names it most precisely. Without a header, all media types
/// have the same weight.
fn weigh(accept: &[&str], media: Media) -> (Weight, Closeness) {
    let (mut is_given, mut found) = (false, None);
    for range in accept.iter().copied().flat_map(items) {
        is_given = true;
        let Some(closeness) = closeness(range, media) else { continue };
        let weight = weight(range);
        match found {
            Some((known, _)) if known > closeness => {}
            Some((known, before)) if known == closeness => found = Some((known, weight.max(before))),
            _ => found = Some((closeness, weight)),
        }
    }
    match found {
        Some((closeness, weight)) => (weight, closeness),
        None => (if is_given { 0 } else { 1_000 }, Closeness::Any),
    }
}

fn closeness(range: &str, media: Media) -> Option<Closeness> {
    let mut parts = range.split(';').map(str::trim);
    let named = parts.next().unwrap_or_default();
    let has_other_version = parts.filter_map(|part| part.split_once('=')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case("version")
            && !media.versions.is_empty()
            && !media.versions.contains(&value.trim().trim_matches('"'))
    });
    if has_other_version {
        return None;
    }
    if named.eq_ignore_ascii_case(media.essence) {
        return Some(Closeness::Named);
    }
    let kind = media.essence.split('/').next().unwrap_or_default();
    match named.split_once('/') {
        Some(("*", "*")) => Some(Closeness::Any),
        Some((wanted, "*")) if wanted.eq_ignore_ascii_case(kind) => Some(Closeness::Type),
        _ => None,
    }
}

/// Returns a list's items, without empty ones.
fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Returns an item's weight. The default is 1, and an invalid weight is 0.
fn weight(item: &str) -> Weight {
    let parameters = item.split(';').skip(1).filter_map(|part| part.split_once('='));
    let mut weights = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    let Some((_, text)) = weights.next() else { return 1_000 };
    let text = text.trim().as_bytes();
    let digits = match text {
        [b'0'] | [b'0', b'.'] => return 0,
        [b'1'] | [b'1', b'.'] => return 1_000,
        [b'1', b'.', zeros @ ..] if zeros.len() <= 3 && zeros.iter().all(|zero| *zero == b'0') => {
            return 1_000;
        }
        [b'0', b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return 0,
    };
    let scaled = digits.iter().chain(b"00").take(3);
    scaled.fold(0, |weight, digit| weight * 10 + Weight::from(digit - b'0'))
}

/// Returns the index of the preferred offer: the one with the highest weight, then the one that is named most
/// precisely, then the first. The result is `usual` if the client has no preference (no header, or only wildcards
/// match) or accepts none of them.
#[must_use]
pub fn preferred(accept: &[&str], offers: &[Media], usual: usize) -> usize {
    let weights = || offers.iter().map(|offer| weigh(accept, *offer));
    let Some(best) = weights().max() else { return usual };
    if best.0 == 0 || best.1 < Closeness::Named && weights().nth(usual) == Some(best) {
        return usual;
    }
    weights().position(|weight| weight == best).unwrap_or(usual)
}

/// Returns `true` if a coding may be used: `Accept-Encoding` names it, or names all, with a weight above zero.
#[must_use]
pub fn takes_coding(accept_encoding: &[&str], coding: &str) -> bool {
    coding_weight(accept_encoding, coding) > 0
}

/// Returns the index of the acceptable coding with the highest weight, or the first of equals. `None` if the client
/// accepts none of them.
#[must_use]
pub fn preferred_coding(accept_encoding: &[&str], offers: &[&str]) -> Option<usize> {
    let weights = || offers.iter().map(|offer| coding_weight(accept_encoding, offer));
    let best = weights().max().filter(|weight| *weight > 0)?;
    weights().position(|weight| weight == best)
}

fn coding_weight(accept_encoding: &[&str], coding: &str) -> Weight {
    let (mut named, mut any) = (None, 0);
    for item in accept_encoding.iter().copied().flat_map(items) {
        let name = item.split(';').next().unwrap_or_default().trim();
        if name.eq_ignore_ascii_case(coding) {
            named = Some(weight(item).max(named.unwrap_or(0)));
        } else if name == "*" {
            any = any.max(weight(item));
        }
    }
    named.unwrap_or(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: Media = Media::new("application/x-ndjson");
    const JSON: Media = Media::new("application/json");

    #[test]
    fn the_highest_weight_wins_then_the_closest_name_then_what_is_usual() {
        for (accept, usual, wanted) in [
            (&[][..], 0, 0),
            (&[][..], 1, 1),
            (&[""], 1, 1),
            (&["*/*"], 1, 1),
            (&["application/*"], 0, 0),
            (&["application/json"], 0, 1),
            (&["Application/JSON ; charset=utf-8"], 0, 1),
            (&["application/json;q=0.5, application/x-ndjson;q=0.9"], 1, 0),
            (&["application/json;q=0.9, application/x-ndjson;q=0.5"], 0, 1),
            (&["application/json;q=0.9", "application/x-ndjson;q=0.5"], 0, 1),
            (&["application/json;Q=0.9,application/x-ndjson; q=0.901"], 1, 0),
            // axios sends this.
            (&["application/json, text/plain, */*"], 0, 1),
            (&["application/json;q=0.8, */*"], 1, 0),
            (&["application/json;q=0, */*"], 1, 0),
            (&["*/*;q=0.1, application/x-ndjson;q=0"], 0, 1),
            (&["application/x-ndjson, application/json"], 1, 0),
            (&["application/json, application/x-ndjson"], 1, 0),
            // None of the offers matches, so the result is the usual one.
            (&["text/html"], 0, 0),
            (&["application/json;q=0"], 1, 1),
            (&["application/json;q=0, application/x-ndjson;q=0"], 1, 1),
            (&["application/json;q=2"], 0, 0),
            (&["application/json;q=nan"], 0, 0),
        ] {
            assert_eq!(preferred(accept, &[LINES, JSON], usual), wanted, "{accept:?} {usual}");
        }
    }

    #[test]
    fn a_version_that_there_is_not_is_another_media_type() {
        const OPEN: Media = Media { essence: "application/openmetrics-text", versions: &["1.0.0", "0.0.1"] };
        let weight = |accept: &str| weigh(&[accept], OPEN).0;
        assert_eq!(weight("application/openmetrics-text;version=\"1.0.0\";q=0.5"), 500);
        assert_eq!(weight("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6"), 600);
        assert_eq!(weight("application/openmetrics-text;version=0.0.1;q=0.25,*/*;q=0.1"), 250);
        assert_eq!(weight("application/openmetrics-text;version=9.0.0"), 0);
        assert_eq!(weight("application/openmetrics-text;version=9.0.0,application/*;q=0.125"), 125);
    }

    #[test]
    fn a_coding_is_taken_where_it_is_named_with_a_weight() {
        let gzip = |list: &str| takes_coding(&[list], "gzip");
        assert!(gzip("gzip, deflate, br, zstd") && gzip("br;q=1.0, GZIP;q=0.2") && gzip("*"));
        assert!(!gzip("gzip;q=0, *") && !gzip("identity") && !gzip("") && !gzip("*;q=0.000"));
        assert!(!takes_coding(&[], "gzip"));
        let preferred = |list: &str| preferred_coding(&[list], &["zstd", "gzip"]);
        assert_eq!((preferred("gzip"), preferred("gzip, zstd"), preferred("*")), (Some(1), Some(0), Some(0)));
        assert_eq!(preferred("zstd;q=0.5, gzip;q=0.9, br"), Some(1));
        assert_eq!(
            (preferred("zstd;q=0, *;q=0.1"), preferred("br, identity"), preferred("")),
            (Some(1), None, None)
        );
    }
}
