//! The dashboard: its files, all from the binary, and what they are told once a second.
//!
//! The page asks `/dashboard/state` ([`state()`]) with the key its reader typed in, or `/health` where it is not
//! let in. It loads nothing from elsewhere and needs no inline script or style, which its policy says. The
//! operators' listener does not serve it: browsers send more header fields than that takes
//! (`ops/listen.rs`).

mod files;
mod state;

pub use state::state;

use super::docs::NO_PAGE;
use super::{Asked, Problem};
use crate::http::{Answer, Media, preferred, takes_coding};

/// `/`: the page for those who want HTML; others are sent to the docs.
#[must_use]
pub fn root(asked: &Asked<'_>) -> Answer {
    match asked.wants.html {
        true => files::index(&asked.wants),
        false => Answer::new(303, "", &b""[..]).with("Location", "/docs").with("Vary", "Accept"),
    }
}

/// The page or a file of it; 404 where there is none.
#[must_use]
pub fn file(asked: &Asked<'_>) -> Answer {
    let found = files::file(asked.path, &asked.wants);
    found.unwrap_or_else(|| asked.not_found(Problem::NotFound, NO_PAGE))
}

/// What of a request matters to the files of the dashboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants<'a> {
    /// A page for people: the request names `text/html`, as browsers do.
    pub html: bool,
    /// The answer may be packed by gzip.
    pub gzip: bool,
    /// Entity tags the client has (`If-None-Match`).
    pub known: Option<&'a str>,
}

impl<'a> Wants<'a> {
    /// From the headers `Accept`, `Accept-Encoding` and `If-None-Match`.
    #[must_use]
    pub fn new(accept: &[&str], accept_encoding: &[&str], known: Option<&'a str>) -> Wants<'a> {
        // What is no page is JSON, or leads to some.
        let offers = [Media::new("text/html"), Media::new("application/json")];
        Wants { html: preferred(accept, &offers, 1) == 0, gzip: takes_coding(accept_encoding, "gzip"), known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_want_pages_and_others_do_not() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, html) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), false),
            (Some(browser), true),
            (Some("Text/HTML;q=0.5"), true),
            (Some("text/html;level=1;q=0, */*"), false),
            (Some("text/htmlx"), false),
        ] {
            assert_eq!(Wants::new(accept.as_slice(), &[], None).html, html, "{accept:?}");
        }
        for (coding, gzip) in [
            (None, false),
            (Some("gzip, deflate, br, zstd"), true),
            (Some("br;q=1.0, gzip;q=0.2"), true),
            (Some("gzip;q=0"), false),
            (Some("identity"), false),
        ] {
            assert_eq!(Wants::new(&[], coding.as_slice(), None).gzip, gzip, "{coding:?}");
        }
    }
}
