//! The head that was parsed last, so that an equal one is compared instead of parsed.
//!
//! The result of parsing a head depends on its bytes alone, so it is also that of equal bytes on another connection.
//! Clients send the same head with every event, except for the digits of its `Content-Length`.

use super::head::{Head, Places};
use crate::base::limits::HEAD_BYTES_MAX;

/// The maximum length of a head that is kept. Clients of events send 100 to 300 bytes.
const KNOWN_BYTES_MAX: usize = 512;
/// The maximum number of digits that are compared here. No accepted length has more, except with zeros in front.
const DIGITS_MAX: usize = 19;
const _: () = assert!(10_u128.pow(DIGITS_MAX as u32) <= u64::MAX as u128);
/// After one head that differs, this many pass before the next is kept. Keeping one takes as long as parsing one.
const PASSED_OVER: u32 = 31;

// No head that equals a kept one exceeds the limit of a head.
const _: () = assert!(KNOWN_BYTES_MAX + DIGITS_MAX < HEAD_BYTES_MAX);

/// A head with a `Content-Length` that [`find_end`](super::head::find_end) and [`parse`](super::head::parse) have
/// accepted. It takes 0.7 KB.
#[derive(Clone, Debug)]
pub struct KnownHead {
    bytes: [u8; KNOWN_BYTES_MAX],
    head_bytes: usize,
    /// The position of the digits of the length.
    digits: (usize, usize),
    /// `None` while no head is known.
    places: Option<Places>,
    /// The number of heads to parse before the next one is kept.
    passed_over: u32,
}

impl Default for KnownHead {
    fn default() -> KnownHead {
        KnownHead { bytes: [0; KNOWN_BYTES_MAX], head_bytes: 0, digits: (0, 0), places: None, passed_over: 0 }
    }
}

impl KnownHead {
    /// Returns the length of the head at the front of `bytes`, and its content, if it equals the known one except for
    /// the digits of its length. The result is that of parsing it. Takes about 20 ns.
    #[inline]
    pub(super) fn find(&self, bytes: &[u8]) -> Option<(usize, Places)> {
        let places = self.places.as_ref()?;
        let known = &self.bytes[..self.head_bytes];
        let (start, end) = self.digits;
        let rest = bytes.strip_prefix(&known[..start])?;
        let (mut length, mut count) = (0_u64, 0);
        while let Some(digit @ b'0'..=b'9') = rest.get(count) {
            if count == DIGITS_MAX {
                return None;
            }
            // The largest number of so many digits fits.
            length = length * 10 + u64::from(digit - b'0');
            count += 1;
        }
        if count == 0 || length > i64::MAX as u64 || !rest[count..].starts_with(&known[end..]) {
            return None;
        }
        let places = places.with_length(length, (start, end), count);
        Some((start + count + known.len() - end, places))
    }

    /// Keeps a head that was parsed and has a `Content-Length`, unless one was kept a few heads ago.
    pub(super) fn keep(&mut self, head: &Head<'_>, bytes: &[u8], places: &Places) {
        if self.passed_over > 0 {
            self.passed_over -= 1;
            return;
        }
        self.passed_over = PASSED_OVER;
        // Requests with an id of their own differ.
        if bytes.len() > KNOWN_BYTES_MAX || head.request_id.is_some() {
            return;
        }
        let digits = head.field("content-length").next().filter(|digits| digits.len() <= DIGITS_MAX);
        let Some(digits) = digits else { return };
        let start = (digits.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
        if bytes.get(start..start.saturating_add(digits.len())) != Some(digits) {
            return;
        }
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.head_bytes = bytes.len();
        self.digits = (start, start + digits.len());
        self.places = Some(*places);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::head::{self, Framing};
    use crate::http::{Credential, Refusal};

    /// Returns the head at the front of bytes as [`crate::http::Connection`] parses it.
    fn parsed(bytes: &[u8]) -> Result<Option<(usize, Head<'_>)>, Refusal> {
        if head::empty_lines(bytes) > 0 {
            return Ok(None);
        }
        let Some(head_bytes) = head::find_end(bytes, 0)? else { return Ok(None) };
        Ok(Some((head_bytes, head::parse(&bytes[..head_bytes])?)))
    }

    fn known(bytes: &[u8]) -> KnownHead {
        let mut known = KnownHead::default();
        if let Ok(Some((head_bytes, head))) = parsed(bytes) {
            known.keep(&head, &bytes[..head_bytes], &head.places(bytes));
        }
        known
    }

    /// Checks that a head which is found is the one that is parsed, and returns `true` if one was found.
    #[track_caller]
    fn agrees(known: &KnownHead, bytes: &[u8]) -> bool {
        let Some((head_bytes, places)) = known.find(bytes) else { return false };
        let found = (head_bytes, places.head(&bytes[..head_bytes]));
        assert_eq!(Ok(Some(found)), parsed(bytes), "{}", String::from_utf8_lossy(bytes));
        true
    }

    const HEAD: &str = "POST /event?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nX-API-Key: fh_1_abc\r\n\
                        Content-Type: application/json\r\n\r\n";

    #[test]
    fn an_equal_head_is_found_with_its_own_length() {
        let known = known(HEAD.as_bytes());
        for length in ["12", "7", "0", "123456", "0012", "9223372036854775807"] {
            let bytes = HEAD.replace("12", length) + "and the body";
            assert!(agrees(&known, bytes.as_bytes()), "{length}");
            let (_, places) = known.find(bytes.as_bytes()).unwrap();
            let head = places.head(bytes.as_bytes());
            assert_eq!(head.framing, Framing::Length(length.parse().unwrap()));
            assert_eq!((head.path, head.query), ("/event", Some("a=b")));
            assert_eq!(head.credential, Credential::Key("fh_1_abc"), "behind the length");
        }
    }

    #[test]
    fn what_differs_is_not_found() {
        let known = known(HEAD.as_bytes());
        let others = [
            HEAD.replace("12", ""),
            HEAD.replace("12", "+1"),
            HEAD.replace("12", "1 2"),
            HEAD.replace("12", "12 "),
            HEAD.replace("12", "12\n"),
            HEAD.replace("12", "12\r\nContent-Length: 12"),
            HEAD.replace("12", "9223372036854775808"),
            HEAD.replace("12", "00000000000000000012"),
            HEAD.replace("12\r\n", "12\r\n "),
            HEAD.replace("12\r\n", "12\n"),
            HEAD.replace("Host: a", "Host: b"),
            HEAD.replace("POST", "post"),
            HEAD.replace("\r\n\r\n", "\r\nA: b\r\n\r\n"),
            HEAD.replace("Host", "\r\nHost"),
            format!("\r\n{HEAD}"),
            HEAD[..HEAD.len() - 1].to_owned(),
            HEAD[..30].to_owned(),
            String::new(),
        ];
        for other in others {
            assert!(known.find(other.as_bytes()).is_none(), "{other:?}");
        }
        assert!(KnownHead::default().find(HEAD.as_bytes()).is_none());
        assert!(KnownHead::default().find(b"").is_none());
    }

    #[test]
    fn heads_without_a_length_or_with_an_id_or_too_long_are_not_kept() {
        let padded = format!("Host: a\r\nA: {}", "b".repeat(KNOWN_BYTES_MAX));
        for other in [
            HEAD.replace("Content-Length: 12\r\n", ""),
            HEAD.replace("Content-Length: 12", "Transfer-Encoding: chunked"),
            HEAD.replace("Content-Type", "X-Request-Id"),
            HEAD.replace("Host: a", &padded),
        ] {
            assert!(matches!(parsed(other.as_bytes()), Ok(Some(_))), "{other}");
            assert_eq!(known(other.as_bytes()).head_bytes, 0, "{other}");
        }
    }

    #[test]
    fn one_of_a_few_heads_is_kept() {
        let mut known = KnownHead::default();
        let mut kept = Vec::new();
        for number in 0..70 {
            let bytes = HEAD.replace("Host: a", &format!("Host: a{number}"));
            let (head_bytes, head) = parsed(bytes.as_bytes()).unwrap().unwrap();
            known.keep(&head, &bytes.as_bytes()[..head_bytes], &head.places(bytes.as_bytes()));
            kept.extend(known.find(bytes.as_bytes()).map(|_| number));
        }
        assert_eq!(kept, [0, 32, 64]);
    }

    /// Generates lines that a head may have, valid or not.
    fn line() -> impl Strategy<Value = String> {
        let length = prop_oneof![
            8 => (0..100_000_u32).prop_map(|length| length.to_string()),
            1 => "[0-9]{17,21}",
            1 => "[ \t]{0,2}[0-9]{0,3}[ \t+,]{0,2}",
        ];
        prop_oneof![
            6 => length.prop_map(|length| format!("Content-Length: {length}")),
            2 => Just("content-length:5".to_owned()),
            3 => Just("Host: a".to_owned()),
            2 => prop_oneof![Just("X-API-Key: fh_1_a"), Just("Authorization: Bearer fh_1_a"), Just("Expect: 100-continue"),
                Just("Content-Encoding: gzip"), Just("Origin: x"), Just("Connection: close"),
                Just("Transfer-Encoding: chunked"), Just(" folded")].prop_map(str::to_owned),
            1 => "[a-zA-Z-]{1,4}: ?[ -~]{0,6}",
        ]
    }

    fn head_text() -> impl Strategy<Value = String> {
        let request = prop_oneof![
            5 => Just("POST /event HTTP/1.1"),
            1 => Just("POST /event?tenant=1 HTTP/1.1"),
            1 => Just("POST http://a HTTP/1.0"),
            1 => Just("GET /% HTTP/1.1"),
        ];
        (request, proptest::collection::vec(line(), 0..5))
            .prop_map(|(request, lines)| format!("{request}\r\nHost: a\r\n{}\r\n\r\n", lines.join("\r\n")))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_found_is_what_is_parsed(
            one in head_text(),
            other in head_text(),
            digits in "[0-9]{0,21}",
            change in (any::<prop::sample::Index>(), any::<u8>()),
            cut in any::<prop::sample::Index>(),
        ) {
            let known = known(one.as_bytes());
            let is_kept = known.head_bytes > 0;
            prop_assert_eq!(agrees(&known, one.as_bytes()), is_kept);
            agrees(&known, other.as_bytes());
            let mut changed = one.clone().into_bytes();
            if is_kept {
                // The same head with other digits, which may be none or too many.
                let (start, end) = known.digits;
                changed.splice(start..end, digits.bytes());
                let is_found = agrees(&known, &changed);
                prop_assert_eq!(is_found, digits.len() <= DIGITS_MAX && parsed(&changed).is_ok());
            }
            agrees(&known, &changed[..cut.index(changed.len() + 1)]);
            let at = change.0.index(changed.len());
            changed[at] = change.1;
            agrees(&known, &changed);
        }
    }
}
