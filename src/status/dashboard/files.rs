//! The dashboard's files. They are served from the binary, compressed once, and transferred again only when they
//! change.

use std::borrow::Cow;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::api::Wants;
use crate::api::etag::{Comparison, lists};
use crate::http::Answer;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// The policy permits nothing inline, nothing from other hosts, and no frames. Strings become text nodes, never
/// markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A file that may change with the program. A client asks whether it has.
const CHECKED: &str = "no-cache";
/// A file whose name contains its version, so that it never changes.
const FIXED: &str = "public, max-age=31536000, immutable";
/// A file that may be old for a day.
const A_DAY: &str = "public, max-age=86400";

struct File {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// The value of `Cache-Control`.
    kept: &'static str,
    served: OnceLock<Served>,
}

/// A file as served. It is created once per process, at the first request for the file. All files take 110 KB in
/// total.
struct Served {
    tag: String,
    /// The compressed file with its own tag. `None` if compression gains nothing.
    gzip: Option<(String, Vec<u8>)>,
}

macro_rules! file {
    ($name:literal, $content_type:expr, $path:literal, $kept:expr) => {
        File {
            name: $name,
            content_type: $content_type,
            bytes: include_bytes!($path),
            kept: $kept,
            served: OnceLock::new(),
        }
    };
}

static FAVICON: File = file!("favicon.ico", "image/x-icon", "page/favicon.ico", A_DAY);
static INDEX: File = file!("index.html", HTML, "page/index.html", CHECKED);
static FILES: [File; 14] = [
    file!("style.css", CSS, "page/style.css", CHECKED),
    file!("main.js", JS, "page/main.js", CHECKED),
    file!("theme.js", JS, "page/theme.js", CHECKED),
    file!("dom.js", JS, "page/dom.js", CHECKED),
    file!("format.js", JS, "page/format.js", CHECKED),
    file!("rates.js", JS, "page/rates.js", CHECKED),
    file!("charts.js", JS, "page/charts.js", CHECKED),
    file!("tables.js", JS, "page/tables.js", CHECKED),
    file!("outage.js", JS, "page/outage.js", CHECKED),
    file!("tenant.js", JS, "page/tenant.js", CHECKED),
    file!("icon.svg", "image/svg+xml", "page/icon.svg", CHECKED),
    file!("uPlot-1.6.32/uPlot.js", JS, "vendor/uPlot-1.6.32/uPlot.iife.min.js", FIXED),
    file!("uPlot-1.6.32/uPlot.css", CSS, "vendor/uPlot-1.6.32/uPlot.min.css", FIXED),
    file!("uPlot-1.6.32/LICENSE", TEXT, "vendor/uPlot-1.6.32/LICENSE", FIXED),
];

/// Returns the page itself, which `/` serves to clients that accept HTML.
pub(super) fn index(wants: &Wants<'_>) -> Answer {
    INDEX.answer(wants, "Accept, Accept-Encoding")
}

/// Returns the icon that browsers request if a page names none, such as a problem's page or a JSON document.
pub(super) fn favicon(wants: &Wants<'_>) -> Answer {
    FAVICON.answer(wants, "Accept-Encoding")
}

/// Returns the file at `/dashboard` or below it, or `None` if there is none. `path` is the request's path without its
/// query.
pub(super) fn file(path: &str, wants: &Wants<'_>) -> Option<Answer> {
    let below = path.strip_prefix("/dashboard")?;
    let file = match below.strip_prefix('/') {
        None if below.is_empty() => &INDEX,
        None => return None,
        Some(name) => FILES.iter().find(|file| file.name == name)?,
    };
    Some(file.answer(wants, "Accept-Encoding"))
}

impl File {
    fn answer(&'static self, wants: &Wants<'_>, vary: &'static str) -> Answer {
        let served = self.served.get_or_init(|| self.pack());
        let (tag, body, coding) = match &served.gzip {
            Some((tag, packed)) if wants.gzip => (tag, packed.as_slice(), Some("gzip")),
            _ => (&served.tag, self.bytes, None),
        };
        let mut answer = match wants.known.is_some_and(|known| lists(known.as_bytes(), tag, Comparison::Weak))
        {
            true => Answer::new(304, "", Cow::default()),
            false => Answer::new(200, self.content_type, body),
        };
        answer = answer.with("ETag", tag.as_str()).with("Cache-Control", self.kept).with("Vary", vary);
        if answer.status == 200 {
            if let Some(coding) = coding {
                answer = answer.with("Content-Encoding", coding);
            }
            answer = answer
                .with("Content-Security-Policy", POLICY)
                .with("X-Content-Type-Options", "nosniff")
                .with("Referrer-Policy", "no-referrer");
        }
        answer
    }

    fn pack(&self) -> Served {
        use std::io::Write as _;
        let hash = blake3::hash(self.bytes).to_hex();
        let hash = &hash[..16];
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        let packed = packer.write_all(self.bytes).and_then(|()| packer.finish()).ok();
        let gzip = packed.filter(|packed| packed.len() < self.bytes.len());
        Served { tag: format!("\"{hash}\""), gzip: gzip.map(|packed| (format!("\"{hash}-gz\""), packed)) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
        answer.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_ref())
    }

    #[test]
    fn a_file_is_the_same_packed_and_plain_and_is_not_sent_twice() {
        for name in FILES.iter().map(|file| format!("/dashboard/{}", file.name)).chain(["/dashboard".into()])
        {
            let plain = file(&name, &Wants::default()).unwrap();
            let packed = file(&name, &Wants { gzip: true, ..Wants::default() }).unwrap();
            assert_eq!((plain.status, packed.status), (200, 200), "{name}");
            assert_eq!(header(&packed, "Content-Encoding"), Some("gzip"), "{name}");
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == *plain.body && !unpacked.is_empty(), "{name}");
            for (answer, gzip) in [(&plain, false), (&packed, true)] {
                let tag = header(answer, "ETag").unwrap();
                let again = |known| file(&name, &Wants { gzip, known: Some(known), html: false }).unwrap();
                let list = format!("\"x\", W/{tag}");
                for known in [tag, "*", &list] {
                    let again = again(known);
                    assert_eq!((again.status, again.body.len()), (304, 0), "{name} {known}");
                    assert_eq!(header(&again, "ETag"), Some(tag));
                }
                assert_eq!(again("\"x\"").status, 200);
            }
            assert_ne!(header(&plain, "ETag"), header(&packed, "ETag"));
        }
        for name in ["/dashboard/", "/dashboard/../main.js", "/dashboards", "/dashboard/main.jsx"] {
            assert!(file(name, &Wants::default()).is_none(), "{name}");
        }
    }

    #[test]
    fn k3_the_page_names_only_files_there_are_and_nothing_elsewhere() {
        let mut named = 0;
        for file_of in FILES.iter().chain([&INDEX]).filter(|file| file.kept == CHECKED) {
            // A namespace is only a name. It is not fetched.
            let text = std::str::from_utf8(file_of.bytes).unwrap().replace("http://www.w3.org/2000/svg", "");
            for quoted in text.split(['"', '\'', '`']).skip(1).step_by(2) {
                let path = quoted.strip_prefix("./").map(|name| format!("/dashboard/{name}"));
                let path = path.unwrap_or_else(|| quoted.to_owned());
                if path.starts_with("/dashboard/") && path != "/dashboard/state" {
                    assert!(file(&path, &Wants::default()).is_some(), "{} names {path}", file_of.name);
                    named += 1;
                }
            }
            for found in text.match_indices("//").map(|(at, _)| &text[..at]) {
                assert!(!found.ends_with("http:") && !found.ends_with("https:"), "{}", file_of.name);
            }
            for inline in [" style=", "<style", "onclick=", "onload=", "javascript:", "innerHTML"] {
                assert!(!text.contains(inline), "{} has {inline}", file_of.name);
            }
        }
        assert!(named > 12, "{named}");
    }

    #[test]
    fn what_is_vendored_is_what_its_note_says() {
        use sha2::Digest as _;
        let note = include_str!("vendor/README.md");
        for file in FILES.iter().filter(|file| file.kept == FIXED) {
            let sum: String =
                sha2::Sha256::digest(file.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(note.contains(&sum), "{} has sha256 {sum}", file.name);
        }
    }
}
