//! The headers that decide whether the response is a page for people or data for programs.

use crate::http::{Media, preferred, takes_coding};

/// The request headers that matter to pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants<'a> {
    /// Set if the request wants a page for people: it names `text/html`, as browsers do.
    pub html: bool,
    /// Set if the response may be compressed with gzip.
    pub gzip: bool,
    /// The entity tags that the client has (`If-None-Match`).
    pub known: Option<&'a str>,
}

impl<'a> Wants<'a> {
    /// Creates the value from the headers `Accept`, `Accept-Encoding` and `If-None-Match`.
    #[must_use]
    pub fn new(accept: &[&str], accept_encoding: &[&str], known: Option<&'a str>) -> Wants<'a> {
        // Everything that is not a page is JSON, or redirects to JSON.
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
