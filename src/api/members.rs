//! The members of a JSON object as they are written: numbers keep their digits, and a repeated name is an error.

use serde::de::IgnoredAny;

use super::problem::ErrorItem;
use crate::event::{members, unescape};

/// Gets each error: the pointer of the member, the code and the detail.
pub(crate) type Wrong<'w> = dyn FnMut(&'static str, &'static str, &str) + 'w;

/// The code and the detail of a repeated member.
pub(crate) const REPEATED: (&str, &str) = ("repeated", "a member must not be repeated");

/// Returns the error for a repeated member.
#[must_use]
pub(crate) fn repeated(pointer: &str) -> ErrorItem<'_> {
    ErrorItem { pointer: Some(pointer), code: REPEATED.0, detail: REPEATED.1, ..ErrorItem::default() }
}

/// One member's value, as written. It is valid JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'b>(&'b [u8]);

/// The members of an object that were not taken yet.
#[derive(Debug)]
pub(crate) struct Members<'b>(Vec<(String, Member<'b>)>);

impl<'b> Member<'b> {
    /// Returns the value of a whole document, or `None` if it is not JSON.
    pub(crate) fn of(document: &'b [u8]) -> Option<Member<'b>> {
        let text = std::str::from_utf8(document).ok()?;
        serde_json::from_str::<IgnoredAny>(text).ok().map(|_| Member(document))
    }

    /// Returns the members of an object, or `None` for any other value.
    pub(crate) fn members(self) -> Option<Members<'b>> {
        let mut found = Vec::new();
        let name = |key: &[u8]| String::from_utf8_lossy(&unescape(key)).into_owned();
        members(self.0, |key, value| found.push((name(key), Member(value)))).then_some(Members(found))
    }

    pub(crate) fn text(self) -> Option<String> {
        serde_json::from_slice(self.0).ok()
    }

    /// Returns the non-empty strings of an array of strings, or of one string.
    pub(crate) fn texts(self) -> Option<Vec<String>> {
        let texts = self.text().map(|text| vec![text]).or_else(|| serde_json::from_slice(self.0).ok())?;
        texts.iter().all(|text: &String| !text.is_empty()).then_some(texts)
    }

    /// Returns a number with the digits of the request. A float would round them.
    pub(crate) fn number(self) -> Option<&'b str> {
        let is_number = self.0.first().is_some_and(|first| first.is_ascii_digit() || *first == b'-');
        std::str::from_utf8(self.0).ok().filter(|_| is_number)
    }
}

impl<'b> Members<'b> {
    /// Takes a member. A `null` counts as absent. A name that occurs more than once is an error.
    pub(crate) fn take(
        &mut self,
        name: &str,
        pointer: &'static str,
        wrong: &mut Wrong<'_>,
    ) -> Option<Member<'b>> {
        let is_repeated = self.has_repeated(name);
        if is_repeated {
            wrong(pointer, REPEATED.0, REPEATED.1);
        }
        let mut found = self.0.extract_if(.., |(known, _)| known == name).map(|(_, value)| value);
        let first = found.next();
        found.for_each(drop);
        first.filter(|value| !is_repeated && value.0 != b"null")
    }

    /// Returns `true` if a name that was not taken yet occurs more than once.
    pub(crate) fn has_repeated(&self, name: &str) -> bool {
        self.0.iter().filter(|(known, _)| known == name).count() > 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
