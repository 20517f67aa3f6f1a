//! The query parameters of every operation, taken from its description, and the refusal of all others.
//!
//! In: a request's operation and its query string. Out: nothing, or every error in the names. Never: a second list of
//! names beside the document, so that a new operation follows the rule without a line of its own.

use std::sync::OnceLock;

use utoipa::openapi::RefOr;
use utoipa::openapi::path::ParameterIn;

use super::{Endpoints, Found, Operation};
use crate::http::Method;
use crate::query::{ParameterError, QueryError, pair_errors};

/// The names of the query parameters of each row's operations.
#[derive(Debug, Default)]
pub struct QueryNames(OnceLock<Vec<Vec<Vec<String>>>>);

impl QueryNames {
    pub(super) const fn new() -> QueryNames {
        QueryNames(OnceLock::new())
    }
}

/// Returns `true` if the query consists of a valid `ack` alone, as most queries of writes do.
#[inline]
#[must_use]
pub fn is_plain_ack(query: &str) -> bool {
    matches!(query, "ack=disk" | "ack=os")
}

impl<H> Endpoints<H> {
    /// Checks the names of a request's parameters. Responses without an operation, and OPTIONS, have no parameters to
    /// check. The first call builds every description, which takes about a millisecond.
    ///
    /// # Errors
    /// Returns every parameter that the operation does not have, that has no value or that is repeated.
    pub fn check_query(&self, found: &Found<H>, query: Option<&str>) -> Result<(), QueryError> {
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(()) };
        let (Some(endpoint), Some(operation)) = (found.endpoint, found.operation) else { return Ok(()) };
        if operation.method == Method::Options {
            return Ok(());
        }
        let at = endpoint.operations.iter().position(|one| one.method == operation.method);
        let names = self.names().get(found.row).and_then(|row| row.get(at?));
        let mut errors = pair_errors(query, names.map(Vec::as_slice).unwrap_or_default());
        // A row may share its description with another one, which a parameter selects. The parameters belong to that
        // one.
        let is_selected =
            |other: &&super::Endpoint<H>| other.path == endpoint.path && other.if_query.is_some();
        let selected = self.0.iter().find(is_selected).filter(|_| endpoint.if_query.is_none());
        if let Some(name) = selected.and_then(|row| row.if_query)
            && errors.is_empty()
            && query.bytes().any(|byte| byte != b'&')
        {
            let (code, detail) = match pair_errors(query, &[name]).is_empty() {
                true => {
                    ("unknown_parameter", format!("unknown parameter {name}; this page has no parameters"))
                }
                false => ("missing_parameter", format!("{name} is required with any other parameter")),
            };
            errors.push(ParameterError { name: name.into(), code, detail });
        }
        if errors.is_empty() { Ok(()) } else { Err(QueryError::Parameters(errors)) }
    }

    fn names(&self) -> &[Vec<Vec<String>>] {
        let of_operation = |operation: &Operation<H>| {
            let parameters = (operation.describe)().build().parameters.unwrap_or_default();
            let named = parameters.into_iter().filter_map(|parameter| match parameter {
                RefOr::T(one) if matches!(one.parameter_in, ParameterIn::Query) => Some(one.name),
                _ => None,
            });
            named.collect()
        };
        let names = || self.0.iter().map(|row| row.operations.iter().map(of_operation).collect()).collect();
        self.1.0.get_or_init(names)
    }
}
