//! The members of a JSON object as they are written: numbers keep their digits, and a repeated name is an error.

use serde::de::IgnoredAny;

use super::filters::Wrong;
use crate::event::{members, unescape};

/// One member's value, as written. It is valid JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'b>(&'b [u8]);

/// The members of an object that were not taken yet.
#[derive(Debug)]
pub(super) struct Members<'b>(Vec<(String, Member<'b>)>);

impl<'b> Member<'b> {
    /// Returns the value of a whole document, or `None` if it is not JSON.
    pub(super) fn of(document: &'b [u8]) -> Option<Member<'b>> {
        let text = std::str::from_utf8(document).ok()?;
        serde_json::from_str::<IgnoredAny>(text).ok().map(|_| Member(document))
    }

    /// Returns the members of an object, or `None` for any other value.
    pub(super) fn members(self) -> Option<Members<'b>> {
        let mut found = Vec::new();
        let name = |key: &[u8]| String::from_utf8_lossy(&unescape(key)).into_owned();
        members(self.0, |key, value| found.push((name(key), Member(value)))).then_some(Members(found))
    }

    pub(super) fn text(self) -> Option<String> {
        serde_json::from_slice(self.0).ok()
    }

    /// Returns the non-empty strings of an array of strings, or of one string.
    pub(super) fn texts(self) -> Option<Vec<String>> {
        let texts = self.text().map(|text| vec![text]).or_else(|| serde_json::from_slice(self.0).ok())?;
        texts.iter().all(|text: &String| !text.is_empty()).then_some(texts)
    }

    /// Returns a number with the digits of the request. A float would round them.
    pub(super) fn number(self) -> Option<&'b str> {
        let is_number = self.0.first().is_some_and(|first| first.is_ascii_digit() || *first == b'-');
        std::str::from_utf8(self.0).ok().filter(|_| is_number)
    }
}

impl<'b> Members<'b> {
    /// Takes a member. A `null` counts as absent. A name that occurs more than once is an error.
    pub(super) fn take(
        &mut self,
        name: &str,
        pointer: &'static str,
        wrong: &mut Wrong<'_>,
    ) -> Option<Member<'b>> {
        let mut found = self.0.extract_if(.., |(known, _)| known == name).map(|(_, value)| value);
        let first = found.next()?;
        if found.next().is_some() {
            wrong(pointer, "repeated", "a member must not be repeated");
            found.for_each(drop);
            return None;
        }
        Some(first).filter(|value| value.0 != b"null")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
