//! A JSON body as it is written: numbers keep their digits, and a repeated name is an error.

use std::borrow::Cow;

use super::problem::ErrorItem;
use crate::event::{DecodeError, elements, members, second_look, unescape, unescape_exactly};

/// Gets each error: the pointer of the member, the code and the detail.
pub(crate) type Wrong<'w> = dyn FnMut(&'static str, &'static str, &str) + 'w;

/// The code and the detail of a repeated member.
pub(crate) const REPEATED: (&str, &str) = ("repeated", "a member must not be repeated");

/// An error in one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// JSON Pointer; `""` is the whole body.
    pub pointer: &'static str,
    pub code: &'static str,
    pub detail: &'static str,
}

impl<'a> From<&'a Fault> for ErrorItem<'a> {
    fn from(fault: &'a Fault) -> ErrorItem<'a> {
        let Fault { pointer, code, detail } = *fault;
        ErrorItem { pointer: Some(pointer), code, detail, ..ErrorItem::default() }
    }
}

/// Returns the details of all errors, in one sentence.
#[must_use]
pub(crate) fn details(faults: &[Fault]) -> String {
    let details: Vec<&str> = faults.iter().map(|fault| fault.detail).collect();
    details.join("; ")
}

/// One value, as written. It is valid JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'b>(&'b [u8]);

/// The members of an object that were not taken yet.
#[derive(Debug)]
pub(crate) struct Members<'b>(Vec<(Cow<'b, str>, Member<'b>)>);

impl<'b> Member<'b> {
    /// Returns the value of a decoded body. Every JSON body is checked here, or by the decoder of events with the same
    /// result, before it has a meaning: what is not one JSON value of permitted depth has the same response at every
    /// endpoint.
    ///
    /// # Errors
    /// The body is empty, nested too deeply, not UTF-8, or not JSON.
    pub(crate) fn of(body: &'b [u8]) -> Result<Member<'b>, DecodeError> {
        second_look(body).map(|()| Member(body))
    }

    /// Returns the bytes of the request.
    pub(crate) fn bytes(self) -> &'b [u8] {
        self.0
    }

    /// Returns the members of an object, or `None` for any other value.
    pub(crate) fn members(self) -> Option<Members<'b>> {
        let mut found = Vec::new();
        members(self.0, |key, value| found.push((name(key), Member(value)))).then_some(Members(found))
    }

    /// Returns the elements of an array, or `None` for any other value.
    pub(crate) fn elements(self) -> Option<impl Iterator<Item = Member<'b>>> {
        elements(self.0).map(|elements| elements.map(Member))
    }

    /// Returns a string, or `None` for any other value and for a string with a lone surrogate, which is valid JSON but
    /// not text.
    pub(crate) fn text(self) -> Option<Cow<'b, str>> {
        let [b'"', raw @ .., b'"'] = self.0 else { return None };
        unescape_exactly(std::str::from_utf8(raw).ok()?)
    }

    /// Returns the non-empty strings of an array of strings, or of one string.
    pub(crate) fn texts(self) -> Option<Vec<String>> {
        let texts: Vec<_> = match self.elements() {
            Some(elements) => elements.map(Member::text).collect::<Option<_>>()?,
            None => vec![self.text()?],
        };
        let is_empty = |text: &Cow<'_, str>| text.is_empty();
        (!texts.iter().any(is_empty)).then(|| texts.into_iter().map(Cow::into_owned).collect())
    }

    /// Returns `true` if a string, or a string of an array, is no text because of a lone surrogate.
    pub(crate) fn has_lone_surrogate(self) -> bool {
        let is_no_text = |value: Member<'_>| value.0.first() == Some(&b'"') && value.text().is_none();
        self.elements().map_or_else(|| is_no_text(self), |mut elements| elements.any(is_no_text))
    }

    /// Returns a number with the digits of the request. A float would round them.
    pub(crate) fn number(self) -> Option<&'b str> {
        let is_number = self.0.first().is_some_and(|first| first.is_ascii_digit() || *first == b'-');
        std::str::from_utf8(self.0).ok().filter(|_| is_number)
    }
}

/// Returns a member's name. A lone surrogate becomes U+FFFD, so it equals no known name.
fn name(key: &[u8]) -> Cow<'_, str> {
    match unescape(key) {
        Cow::Borrowed(key) => String::from_utf8_lossy(key),
        Cow::Owned(key) => Cow::Owned(String::from_utf8_lossy(&key).into_owned()),
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
        self.take_with_null(name, pointer, wrong).filter(|value| value.0 != b"null")
    }

    /// Takes a member. A `null` is a value like any other. A name that occurs more than once is an error.
    pub(crate) fn take_with_null(
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
        first.filter(|_| !is_repeated)
    }

    /// Returns `true` if a name that was not taken yet occurs more than once.
    pub(crate) fn has_repeated(&self, name: &str) -> bool {
        self.0.iter().filter(|(known, _)| known == name).count() > 1
    }

    /// Returns `true` if a name was not taken yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::JSON_DEPTH_MAX;

    #[test]
    fn a_body_that_is_not_json_is_refused_before_it_has_a_meaning() {
        let refused = |body: &[u8]| Member::of(body).unwrap_err();
        assert_eq!(refused(b""), DecodeError::Empty);
        assert_eq!(refused(b"{\"a\":\"\xff\"}"), DecodeError::NotUtf8);
        for (body, offset) in [("x", 0), ("{} x", 3), ("{", 1), (" ", 1), ("[NaN]", 1)] {
            assert_eq!(refused(body.as_bytes()), DecodeError::NotJson { offset }, "{body}");
        }
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Member::of(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(refused(nested(JSON_DEPTH_MAX + 1).as_bytes()), DecodeError::TooDeep);
    }

    #[test]
    fn a_lone_surrogate_is_no_text_and_leaves_the_rest_as_it_is() {
        let body = br#" {"\ud800":1,"a":["\ud83d\ude00","\udc00",7],"b":"\u0062"} "#;
        let mut members = Member::of(body).unwrap().members().unwrap();
        let mut take = |name| members.take(name, "", &mut |_, _, _| panic!("{name}")).unwrap();
        let texts: Vec<_> = take("a").elements().unwrap().map(Member::text).collect();
        assert_eq!(texts, [Some("\u{1f600}".into()), None, None]);
        assert_eq!(take("b").text().as_deref(), Some("b"));
        assert!(!members.is_empty());
    }

    #[test]
    fn an_array_has_the_elements_that_it_is_written_with() {
        for (body, expected) in [
            ("[]", &[][..]),
            ("[ ]", &[]),
            ("\n[ 1 ,\"a,]\", [2,3],{\"b\":[]} ]", &["1", "\"a,]\"", "[2,3]", "{\"b\":[]}"]),
        ] {
            let elements = Member::of(body.as_bytes()).unwrap().elements().unwrap();
            let found: Vec<_> = elements.map(|element| std::str::from_utf8(element.0).unwrap()).collect();
            assert_eq!(found, expected, "{body}");
        }
        for body in ["{}", "1", "\"[]\""] {
            assert!(Member::of(body.as_bytes()).unwrap().elements().is_none(), "{body}");
        }
        let texts = |body: &'static str| Member::of(body.as_bytes()).unwrap().texts();
        assert_eq!(texts("\"a\""), Some(vec!["a".to_owned()]));
        assert_eq!(texts("[]"), Some(Vec::new()));
        assert_eq!(
            (texts("[\"a\",\"\"]"), texts("[1]"), texts("\"\""), texts("{}")),
            (None, None, None, None)
        );
    }
}
