//! The template of a path, such as `/t/{tenant}/orders/{order}`. `{name}` matches one segment, `{name..}` at the end
//! matches any number of them.

/// A template, with the figures that rule out most other paths without a look at their segments.
#[derive(Debug)]
pub(super) struct Template {
    text: &'static str,
    /// Greater for a more specific template. At the first difference, a word precedes a parameter, a parameter
    /// precedes the end, and the end precedes `{name..}`.
    pub(super) rank: u64,
    slashes: usize,
    /// The end of the part before the first parameter, with its slash.
    fixed: usize,
    /// The start of the part after the last parameter. 0 if there is no parameter.
    tail: usize,
    /// Set if the template ends with `{name..}`.
    is_rest: bool,
    pub(super) has_tenant: bool,
}

impl Template {
    pub(super) const fn new(text: &'static str) -> Template {
        let bytes = text.as_bytes();
        let (mut at, mut slashes, mut fixed, mut tail) = (0, 0, text.len(), 0);
        let (mut rank, mut shift, mut is_rest, mut has_tenant) = (0, 62, false, false);
        while at < bytes.len() {
            // Every segment starts after a slash.
            if bytes[at] == b'/' {
                let is_parameter = at + 1 < bytes.len() && bytes[at + 1] == b'{';
                let mut end = at + 1;
                while end < bytes.len() && bytes[end] != b'/' {
                    end += 1;
                }
                is_rest = is_parameter && bytes[end - 2] == b'.';
                if is_parameter {
                    assert!(!is_rest || tail == 0, "another parameter precedes the rest of the path");
                    has_tenant |= is_named(bytes, at + 2, end - 1, b"tenant");
                    if tail == 0 {
                        fixed = at + 1;
                    }
                    tail = end;
                }
                let code = match (is_rest, is_parameter) {
                    (true, _) => 0,
                    (false, true) => 2,
                    (false, false) => 3,
                };
                rank |= code << shift;
                assert!(shift > 2, "a template has too many segments");
                shift -= 2;
                slashes += 1;
            }
            at += 1;
        }
        let rank = if is_rest { rank } else { rank | 1 << shift };
        Template { text, rank, slashes, fixed, tail, is_rest, has_tenant }
    }

    /// Returns `true` if a path matches. `slashes` is the number of slashes in it. A path of another shape takes 1 ns,
    /// one that matches 20 ns.
    #[inline]
    pub(super) fn matches(&self, path: &str, slashes: usize) -> bool {
        if self.tail == 0 {
            return self.text == path;
        }
        if self.is_rest {
            // The slash before the rest is not required, because the rest may be nothing.
            let rest = path.strip_prefix(&self.text[..self.fixed - 1]);
            return rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        }
        self.slashes == slashes
            && path.ends_with(&self.text[self.tail..])
            && path.starts_with(&self.text[..self.fixed])
            && self.steps(path).is_some_and(|mut steps| steps.all(|(part, segment)| fits(part, segment)))
    }

    /// Returns the segment of a path that matches the parameter with this name, as sent. For `{name..}`, this is the
    /// rest of the path.
    pub(super) fn segment<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        if self.is_rest {
            let is_it = self.text[self.fixed + 1..].strip_suffix("..}") == Some(name);
            return is_it.then(|| path.get(self.fixed..).unwrap_or_default());
        }
        let found = self.steps(path)?.find(|(part, _)| {
            let part = part.strip_prefix(b"{").and_then(|part| part.strip_suffix(b"}"));
            part == Some(name.as_bytes())
        });
        // A segment ends at slashes, which are never within a character.
        found.and_then(|(_, segment)| std::str::from_utf8(segment).ok())
    }

    /// Returns the segments after the fixed part, each with the part of the template at its place.
    fn steps<'p>(&self, path: &'p str) -> Option<impl Iterator<Item = (&'static [u8], &'p [u8])>> {
        let parts = self.text.as_bytes()[self.fixed..].split(|byte| *byte == b'/');
        let segments = path.as_bytes().get(self.fixed..)?.split(|byte| *byte == b'/');
        Some(parts.zip(segments))
    }
}

/// Returns `true` if these bytes are this name.
const fn is_named(bytes: &[u8], from: usize, to: usize, name: &[u8]) -> bool {
    if to - from != name.len() {
        return false;
    }
    let mut at = 0;
    while at < name.len() {
        if bytes[from + at] != name[at] {
            return false;
        }
        at += 1;
    }
    true
}

fn fits(part: &[u8], segment: &[u8]) -> bool {
    part.starts_with(b"{") || part == segment
}

/// Returns the number of slashes in a path.
pub(super) fn slashes(path: &str) -> usize {
    path.bytes().filter(|byte| *byte == b'/').count()
}

/// Removes one trailing slash.
#[inline]
pub(super) fn trimmed(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEMPLATES: [&str; 9] = [
        "/",
        "/a",
        "/a/b",
        "/a/{x}",
        "/{x}/b",
        "/a/{x}/b/{tenant}",
        "/a/{x}/b/{y}/c",
        "/a/{x}/{y}/c",
        "/a/{x..}",
    ];

    /// The definition of a match, by segments.
    fn is_match(template: &str, path: &str) -> bool {
        let mut segments = path.split('/');
        for part in template.split('/') {
            let Some(segment) = segments.next() else { return part.ends_with("..}") };
            match part.strip_prefix('{') {
                Some(name) if name.ends_with("..}") => return true,
                Some(_) => {}
                None if part == segment => {}
                None => return false,
            }
        }
        segments.next().is_none()
    }

    proptest! {
        #[test]
        fn the_figures_of_a_template_change_no_match(path in "/?([abc\u{e9}]{0,2}/){0,5}[abc{]{0,2}") {
            for text in TEMPLATES {
                let template = Template::new(text);
                prop_assert_eq!(template.matches(&path, slashes(&path)), is_match(text, &path), "{} {}", text, path);
            }
        }
    }

    #[test]
    fn a_segment_is_that_at_the_place_of_its_name() {
        let segment = |text, path, name| Template::new(text).segment(path, name).map(str::to_owned);
        let text = "/a/{x}/b/{tenant}";
        assert_eq!(segment(text, "/a/1/b/\u{e9}2", "x").as_deref(), Some("1"));
        assert_eq!(segment(text, "/a//b/\u{e9}2", "tenant").as_deref(), Some("\u{e9}2"));
        assert_eq!(segment(text, "/a//b/2", "x").as_deref(), Some(""));
        assert_eq!(segment(text, "/a/1/b/2", "b"), None);
        assert_eq!(segment("/a", "/a", "a"), None);
        for (path, rest) in [("/a", ""), ("/a/1/2", "1/2")] {
            assert_eq!(segment("/a/{x..}", path, "x").as_deref(), Some(rest));
        }
        let has_tenant: Vec<_> = TEMPLATES.iter().filter(|text| Template::new(text).has_tenant).collect();
        assert_eq!(has_tenant, [&"/a/{x}/b/{tenant}"]);
    }
}
