//! The body of a request that erases several customers.

use super::refused::{PeopleFault, PeopleRefused};
use crate::api::members::Member;
use crate::api::request::is_identifier;
use crate::shard::ErasureMode;

/// The maximum number of customers in one request. One pass searches for all of them, and each has a certificate.
pub(super) const CUSTOMERS_MAX: usize = 1_000;
/// The maximum length of a body in bytes: a thousand ids of 200 bytes, each byte escaped.
pub const ERASE_BYTES_MAX: usize = 2 << 20;

/// The customers to erase, sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EraseRequest {
    pub mode: ErasureMode,
    pub customers: Vec<String>,
}

const ID: &str = "a customer id must be a string of 1 to 200 bytes without control characters";

impl EraseRequest {
    /// Parses the body.
    ///
    /// # Errors
    /// Returns every error in the body, or that it has too many customers. No error repeats any of its content.
    pub(super) fn read(body: Member<'_>) -> Result<EraseRequest, PeopleRefused> {
        let mut faults = Vec::new();
        let mut wrong = |pointer: &str, code, detail: &str| {
            faults.push(PeopleFault { pointer: pointer.to_owned(), code, detail: detail.to_owned() });
        };
        let Some(mut members) = body.members() else {
            wrong("", "not_an_object", "the body must be a JSON object with customers, and possibly a mode");
            return Err(PeopleRefused::Invalid(faults));
        };
        // Nobody may be erased by a guess: a repeated member has no value, and a null is none of the choices.
        let has_customers = members.has("customers");
        let mode = members.take_with_null("mode", "/mode", &mut wrong);
        let customers = members.take_with_null("customers", "/customers", &mut wrong);
        let mode = match mode {
            None => Some(ErasureMode::default()),
            Some(mode) => mode.text().as_deref().and_then(ErasureMode::parse),
        };
        if mode.is_none() {
            wrong("/mode", "invalid_choice", "mode must be erase or pseudonymise");
        }
        let listed: Option<Vec<Member<'_>>> =
            customers.and_then(Member::elements).map(|ids| ids.take(CUSTOMERS_MAX + 1).collect());
        match (&listed, customers) {
            (Some(listed), _) if listed.len() > CUSTOMERS_MAX => return Err(PeopleRefused::TooMany),
            (Some(listed), _) if listed.is_empty() => {
                wrong("/customers", "too_few", "customers must have at least one id");
            }
            (Some(_), _) => {}
            (None, Some(_)) => wrong("/customers", "invalid_type", "customers must be an array of ids"),
            (None, None) if has_customers => {}
            (None, None) => {
                wrong("/customers", "missing", "customers is required: an array of 1 to 1000 ids");
            }
        }
        if !members.is_empty() {
            wrong("", "unknown_member", "unknown members; the known members are mode and customers");
        }
        let listed = listed.unwrap_or_default();
        let mut customers = Vec::with_capacity(listed.len());
        for (index, id) in listed.into_iter().enumerate() {
            match id.text().filter(|id| is_identifier(id)) {
                Some(id) => customers.push(id.into_owned()),
                None => wrong(&format!("/customers/{index}"), "invalid_id", ID),
            }
        }
        let Some(mode) = mode else { return Err(PeopleRefused::Invalid(faults)) };
        if !faults.is_empty() {
            return Err(PeopleRefused::Invalid(faults));
        }
        customers.sort_unstable();
        customers.dedup();
        Ok(EraseRequest { mode, customers })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &str) -> Result<EraseRequest, PeopleRefused> {
        EraseRequest::read(Member::of(body.as_bytes()).unwrap())
    }

    fn faults(body: &Value) -> Vec<(String, &'static str)> {
        faults_of(&body.to_string())
    }

    fn faults_of(body: &str) -> Vec<(String, &'static str)> {
        match read(body) {
            Err(PeopleRefused::Invalid(faults)) => {
                faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_customer_who_is_listed_twice_is_one() {
        let body = json!({"mode": "erase", "customers": ["b", "a", "b"]});
        let read = read(&body.to_string()).unwrap();
        assert_eq!((read.mode, read.customers), (ErasureMode::Erase, vec!["a".to_owned(), "b".to_owned()]));
    }

    /// A misspelt name of the mode is an unknown member, so it never leads to the default.
    #[test]
    fn without_a_mode_a_customer_is_erased_and_a_misspelt_mode_is_refused() {
        let read = read(r#"{"customers":["a"]}"#).unwrap();
        assert_eq!((read.mode, read.customers), (ErasureMode::Erase, vec!["a".to_owned()]));
        let misspelt = json!({"mod": "pseudonymise", "customers": ["a"]});
        assert_eq!(faults(&misspelt), [(String::new(), "unknown_member")]);
    }

    #[test]
    fn a_repeated_member_is_refused_however_it_is_written() {
        for (body, pointer) in [
            (r#"{"mode":"erase","mode":"pseudonymise","customers":["a"]}"#, "/mode"),
            (r#"{"mode":"erase","customers":["a"],"custom\u0065rs":["b"]}"#, "/customers"),
        ] {
            assert_eq!(faults_of(body), [(pointer.to_owned(), "repeated")], "{body}");
        }
    }

    #[test]
    fn every_error_has_its_pointer() {
        let at = |pointer: &str, code| (pointer.to_owned(), code);
        assert_eq!(faults(&json!([])), [at("", "not_an_object")]);
        // A string with a lone surrogate is JSON, but no id.
        assert_eq!(faults_of(r#"{"customers":["a","\ud800"]}"#), [at("/customers/1", "invalid_id")]);
        assert_eq!(faults_of(r#"{"\ud800":1,"customers":["a"]}"#), [at("", "unknown_member")]);
        assert_eq!(faults(&json!({"customers": null})), [at("/customers", "invalid_type")]);
        assert_eq!(faults(&json!({})), [at("/customers", "missing")]);
        assert_eq!(faults(&json!({"mode": null, "customers": ["a"]})), [at("/mode", "invalid_choice")]);
        assert_eq!(faults(&json!({"mode": "", "customers": ["a"]})), [at("/mode", "invalid_choice")]);
        let body = json!({"mode": "hide", "customers": ["a", "", 7, "a\u{1}", "x".repeat(201)], "all": true});
        let expected = [
            at("/mode", "invalid_choice"),
            at("", "unknown_member"),
            at("/customers/1", "invalid_id"),
            at("/customers/2", "invalid_id"),
            at("/customers/3", "invalid_id"),
            at("/customers/4", "invalid_id"),
        ];
        assert_eq!(faults(&body), expected);
        assert_eq!(faults(&json!({"mode": "erase", "customers": []})), [at("/customers", "too_few")]);
        assert_eq!(faults(&json!({"mode": "erase", "customers": "a"})), [at("/customers", "invalid_type")]);
        let many = json!({"mode": "erase", "customers": vec!["a"; CUSTOMERS_MAX + 1]});
        assert!(matches!(read(&many.to_string()), Err(PeopleRefused::TooMany)));
        let most = json!({"mode": "erase", "customers": vec!["a"; CUSTOMERS_MAX]});
        assert!(read(&most.to_string()).is_ok());
    }
}
