//! The body of a request that erases several customers.

use serde_json::Value;

use super::refused::{PeopleFault, PeopleRefused};
use crate::api::members::{Member, REPEATED};
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
    pub(super) fn read(body: &[u8]) -> Result<EraseRequest, PeopleRefused> {
        let mut faults = Vec::new();
        let mut wrong = |pointer: &str, code, detail| {
            faults.push(PeopleFault { pointer: pointer.to_owned(), code, detail });
        };
        let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
            wrong("", "not_an_object", "the body must be a JSON object with customers, and possibly a mode");
            return Err(PeopleRefused::Invalid(faults));
        };
        // The parser has kept one of two members of the same name. Nobody may be erased by a guess.
        if let Some(written) = Member::of(body).and_then(Member::members) {
            for (name, pointer) in [("mode", "/mode"), ("customers", "/customers")] {
                if written.has_repeated(name) {
                    wrong(pointer, REPEATED.0, REPEATED.1);
                }
            }
        }
        let mode = match members.remove("mode") {
            None => Some(ErasureMode::default()),
            Some(mode) => mode.as_str().and_then(ErasureMode::parse),
        };
        if mode.is_none() {
            wrong("/mode", "invalid_choice", "mode must be erase or pseudonymise");
        }
        let listed = match members.remove("customers") {
            Some(Value::Array(listed)) if listed.is_empty() => {
                wrong("/customers", "too_few", "customers must have at least one id");
                Vec::new()
            }
            Some(Value::Array(listed)) => listed,
            Some(_) => {
                wrong("/customers", "invalid_type", "customers must be an array of ids");
                Vec::new()
            }
            None => {
                wrong("/customers", "missing", "customers is required: an array of 1 to 1000 ids");
                Vec::new()
            }
        };
        if listed.len() > CUSTOMERS_MAX {
            return Err(PeopleRefused::TooMany);
        }
        if !members.is_empty() {
            wrong("", "unknown_member", "unknown members; the known members are mode and customers");
        }
        let mut customers = Vec::with_capacity(listed.len());
        for (index, id) in listed.into_iter().enumerate() {
            match id {
                Value::String(id) if is_identifier(&id) => customers.push(id),
                _ => wrong(&format!("/customers/{index}"), "invalid_id", ID),
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
    use serde_json::json;

    use super::*;

    fn faults(body: &Value) -> Vec<(String, &'static str)> {
        match EraseRequest::read(body.to_string().as_bytes()) {
            Err(PeopleRefused::Invalid(faults)) => {
                faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_customer_who_is_listed_twice_is_one() {
        let body = json!({"mode": "erase", "customers": ["b", "a", "b"]});
        let read = EraseRequest::read(body.to_string().as_bytes()).unwrap();
        assert_eq!((read.mode, read.customers), (ErasureMode::Erase, vec!["a".to_owned(), "b".to_owned()]));
    }

    /// A misspelt name of the mode is an unknown member, so it never leads to the default.
    #[test]
    fn without_a_mode_a_customer_is_erased_and_a_misspelt_mode_is_refused() {
        let read = EraseRequest::read(br#"{"customers":["a"]}"#).unwrap();
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
            match EraseRequest::read(body.as_bytes()) {
                Err(PeopleRefused::Invalid(faults)) => {
                    assert_eq!((faults[0].pointer.as_str(), faults[0].code), (pointer, "repeated"), "{body}");
                }
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn every_error_has_its_pointer() {
        let at = |pointer: &str, code| (pointer.to_owned(), code);
        assert_eq!(faults(&json!([])), [at("", "not_an_object")]);
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
        assert!(matches!(EraseRequest::read(many.to_string().as_bytes()), Err(PeopleRefused::TooMany)));
        let most = json!({"mode": "erase", "customers": vec!["a"; CUSTOMERS_MAX]});
        assert!(EraseRequest::read(most.to_string().as_bytes()).is_ok());
    }
}
