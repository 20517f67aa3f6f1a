//! The rendering of problem documents (RFC 9457). The catalogue lists the problems.

mod catalogue;

pub use catalogue::Problem;

use crate::event::{BulkError, DecodeError, FieldError};

/// One entry of a document's `errors`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorItem<'a> {
    /// The index of the row, if the request has many rows.
    pub index: Option<usize>,
    /// The line number of the row, from 1, if the body has lines.
    pub line: Option<usize>,
    /// The name of the query parameter.
    pub parameter: Option<&'a str>,
    /// A JSON Pointer within the event.
    pub pointer: Option<&'a str>,
    pub code: &'a str,
    pub detail: &'a str,
}

impl<'a> From<&'a FieldError> for ErrorItem<'a> {
    fn from(error: &'a FieldError) -> ErrorItem<'a> {
        ErrorItem {
            pointer: Some(error.pointer),
            code: error.code.as_str(),
            detail: error.detail,
            ..ErrorItem::default()
        }
    }
}

/// The media type of a problem document.
pub const CONTENT_TYPE: &str = "application/problem+json";

impl From<&DecodeError> for Problem {
    fn from(error: &DecodeError) -> Problem {
        match error {
            DecodeError::Empty => Problem::EmptyBody,
            DecodeError::NotUtf8 => Problem::NotUtf8,
            DecodeError::NotJson { .. } => Problem::NotJson,
            DecodeError::TooDeep => Problem::TooDeep,
            DecodeError::Fields(_) => Problem::InvalidEvent,
        }
    }
}

impl From<&BulkError> for Problem {
    fn from(error: &BulkError) -> Problem {
        match error {
            BulkError::Body(error) => Problem::from(error),
            BulkError::Rows(_) => Problem::InvalidEvents,
            BulkError::TooManyRows => Problem::TooManyEvents,
        }
    }
}

/// Appends the document to `out`: always `type`, `title`, `status`, `detail` and `instance` (the request's id),
/// `errors` if there are any, then the `extra` members. Everything is escaped. No part of a payload may be in it.
pub fn write(
    out: &mut Vec<u8>,
    problem: Problem,
    detail: &str,
    instance: &str,
    errors: &[ErrorItem<'_>],
    extra: &[(&'static str, u64)],
) {
    out.extend_from_slice(b"{\"type\":\"/docs/problems/");
    out.extend_from_slice(problem.slug().as_bytes());
    out.extend_from_slice(b"\",\"title\":");
    write_string(out, problem.title());
    out.extend_from_slice(b",\"status\":");
    out.extend_from_slice(itoa::Buffer::new().format(problem.status()).as_bytes());
    out.extend_from_slice(b",\"detail\":");
    write_string(out, detail);
    out.extend_from_slice(b",\"instance\":");
    write_string(out, instance);
    for (index, error) in errors.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b",\"errors\":[{" } else { b",{" });
        for (name, number) in [("index", error.index), ("line", error.line)] {
            let Some(number) = number else { continue };
            write_string(out, name);
            out.push(b':');
            out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            out.push(b',');
        }
        for (name, text) in [("parameter", error.parameter), ("pointer", error.pointer)] {
            let Some(text) = text else { continue };
            write_string(out, name);
            out.push(b':');
            write_string(out, text);
            out.push(b',');
        }
        out.extend_from_slice(b"\"code\":");
        write_string(out, error.code);
        out.extend_from_slice(b",\"detail\":");
        write_string(out, error.detail);
        out.push(b'}');
    }
    if !errors.is_empty() {
        out.push(b']');
    }
    for (name, value) in extra {
        out.push(b',');
        write_string(out, name);
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes());
    }
    out.push(b'}');
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail, and JSON can represent any string.
    let _ = serde_json::to_writer(out, text);
}

const _: () = assert!(Problem::ALL.len() <= crate::ops::vitals::PROBLEMS);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::event::Decoder;

    fn document(
        problem: Problem,
        detail: &str,
        errors: &[FieldError],
        extra: &[(&'static str, u64)],
    ) -> Value {
        let mut out = Vec::new();
        let errors: Vec<_> = errors.iter().map(ErrorItem::from).collect();
        write(&mut out, problem, detail, "req\"1", &errors, extra);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn what_the_operators_port_tells_of_by_itself_is_in_the_catalogue() {
        for own in crate::ops::OpsProblem::OWN {
            let known = Problem::ALL.iter().find(|problem| problem.slug() == own.slug);
            let known = known.unwrap_or_else(|| panic!("{own:?}"));
            assert_eq!((known.status(), known.title()), (own.status, own.title));
        }
    }

    #[test]
    fn the_catalogue_is_whole_and_every_slug_is_one_of_a_kind() {
        let slugs: HashSet<_> = Problem::ALL.iter().map(|problem| problem.slug()).collect();
        assert_eq!(slugs.len(), Problem::ALL.len());
        // The last variant's number: a variant missing from the list would make it shorter.
        assert_eq!(Problem::ALL.len(), Problem::InvalidErasure as usize + 1);
        assert!(Problem::ALL.is_sorted_by_key(|problem| problem.status()));
        for problem in Problem::ALL {
            let is_kebab =
                problem.slug().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            assert!(is_kebab, "{problem:?}");
            assert!((400..600).contains(&problem.status()));
            assert!(problem.explanation().ends_with('.') && !problem.title().ends_with('.'));
        }
    }

    #[test]
    fn retry_is_advised_where_it_may_help_only() {
        let retryable: Vec<_> = Problem::ALL.iter().filter(|problem| problem.retryable()).collect();
        assert_eq!(
            retryable,
            [
                &Problem::RequestTimeout,
                &Problem::RateLimited,
                &Problem::QueueFull,
                &Problem::Overloaded,
                &Problem::Draining,
                &Problem::JournalUnsynced,
                &Problem::OutcomeUnknown,
                &Problem::ShardUnavailable,
                &Problem::JournalFull,
                &Problem::NoRoomForUpload,
                &Problem::NoRoomForExport,
            ]
        );
    }

    #[test]
    fn a_document_is_json_whatever_the_detail_says() {
        let detail = "a \"quote\", a \\ and a \u{1}\n\u{2028}";
        assert_eq!(
            document(Problem::NotFound, detail, &[], &[]),
            json!({
                "type": "/docs/problems/not-found", "title": "Not found", "status": 404,
                "detail": detail, "instance": "req\"1",
            })
        );
    }

    #[test]
    fn every_broken_field_is_listed() {
        let error = Decoder::new().click(b"{\"user_id\":1.5}").unwrap_err();
        let DecodeError::Fields(errors) = &error else { panic!("{error:?}") };
        let document = document(Problem::from(&error), &error.to_string(), errors, &[]);
        assert_eq!(document["status"], 422);
        let errors: Vec<_> = document["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap()))
            .collect();
        assert_eq!(
            errors,
            [("/user_id", "invalid_type"), ("/timestamp", "missing_field"), ("/metadata", "missing_field")]
        );
    }

    #[test]
    fn extra_members_stand_beside_the_others() {
        let document =
            document(Problem::QueueFull, "wait", &[], &[("queue_size", 7), ("queue_bytes", u64::MAX)]);
        assert_eq!((&document["queue_size"], &document["queue_bytes"]), (&json!(7), &json!(u64::MAX)));
        assert_eq!(document.get("errors"), None);
    }
}
