//! `PUT …/stock/bulk_update` and `GET …/stock/{product}`: every product's outcome, and refusals.

use super::batch::{StockBatch, StockProduct, StockRowError, StockState};
use super::body::StockBodyError;
use super::read::{StockLevel, StockResult};
use super::shapes::{StockLevelState, StockProductResult, StockUpdated};
use crate::api::Problem;
use crate::api::error::{Asker, EventRefused, Refuse, problem, refused as event_refused};
use crate::api::etag::tagged;
use crate::api::problem::ErrorItem;
use crate::base::counters::Cell;
use crate::config::AckLevel;
use crate::http::Answer;
use crate::query::QueryError;

/// The maximum number of errors listed for one request.
const ROW_ERRORS_MAX: usize = 1_000;

/// Why a response does not report individual products.
#[derive(Debug)]
pub enum StockRefused {
    /// A reason that every keyed write can have.
    Event(EventRefused),
    Body(StockBodyError),
    /// Every product has an invalid row.
    Rows(Vec<StockRowError>),
    NoSuchStock,
    Query(QueryError),
}

impl<E: Into<EventRefused>> From<E> for StockRefused {
    fn from(error: E) -> StockRefused {
        StockRefused::Event(error.into())
    }
}

impl Refuse for StockRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        refused(self, asker.body_bytes_max, asker.request_id, asker.problems)
    }
}

/// Returns the response to a request whose products are decided as far as possible. The status is 202 if at least one
/// product is pending. Otherwise, it is 200 if at least one product was applied, now or before, and 409 if none was.
#[must_use]
pub(super) fn updated(batch: &StockBatch, level: AckLevel) -> Answer {
    let mut told = StockUpdated { applied: 0, duplicates: 0, failed: 0, pending: 0, products: Vec::new() };
    for product in &batch.products {
        let row = result(product);
        *match row.result {
            "applied" => &mut told.applied,
            "duplicate" => &mut told.duplicates,
            "pending" | "unknown" => &mut told.pending,
            _ => &mut told.failed,
        } += 1;
        told.products.push(row);
    }
    let status = match () {
        () if told.products.iter().any(|product| product.result == "pending") => 202,
        () if told.applied + told.duplicates > 0 => 200,
        () => 409,
    };
    Answer::new(status, "application/json", serde_json::to_vec(&told).unwrap_or_default())
        .with("Firehose-Ack", level.word())
}

fn result(product: &StockProduct) -> StockProductResult {
    let mut row = StockProductResult {
        product_id: product.product_id.clone(),
        result: "rejected",
        quantity: None,
        version: None,
        code: None,
        pointer: None,
    };
    match product.state {
        StockState::Invalid(StockRowError { index, error }) => {
            row.code = Some(error.code.as_str());
            row.pointer = Some(format!("/updates/{index}{}", error.pointer));
        }
        StockState::Refused(code) => row.code = Some(code),
        StockState::Decided(decision) => {
            row.result = match decision.result {
                StockResult::Applied => "applied",
                StockResult::Duplicate => "duplicate",
                StockResult::Conflict => "conflict",
                StockResult::Rejected => "rejected",
            };
            row.quantity = Some(decision.quantity);
            row.version = Some(decision.version);
            row.code = decision.code.map(|code| code.as_str());
        }
        StockState::Sent { .. } | StockState::Pending => row.result = "pending",
        StockState::Unknown => (row.result, row.code) = ("unknown", Some("outcome_unknown")),
    }
    row
}

/// Returns the response with a product's stock, or 304 if the client has this version.
#[must_use]
pub(super) fn level(product_id: &str, level: &StockLevel, headers: &hyper::HeaderMap) -> Answer {
    let body = || serde_json::to_vec(&StockLevelState::new(product_id, level)).unwrap_or_default();
    tagged(format!("\"{}\"", level.version), headers, body)
}

/// Returns the response to a request without individual products. `body_bytes_max` is the endpoint's limit.
#[must_use]
pub(super) fn refused(
    error: &StockRefused,
    body_bytes_max: u64,
    request_id: &str,
    problems: &[Cell],
) -> Answer {
    let listed = |kind, detail: &str, errors: &[ErrorItem<'_>]| {
        problem(kind, detail, request_id, errors, &[], problems)
    };
    match error {
        StockRefused::Event(error) => event_refused(error, body_bytes_max, request_id, problems),
        StockRefused::Query(error) => crate::api::reads::refused(error, request_id, problems),
        StockRefused::NoSuchStock => listed(Problem::NoSuchStock, "this product has no stock events", &[]),
        StockRefused::Body(error) => {
            let kind = match error {
                StockBodyError::Fields(_) => Problem::InvalidStockUpdate,
                StockBodyError::TooManyRows => Problem::TooManyUpdates,
            };
            let errors: Vec<_> = match error {
                StockBodyError::Fields(errors) => errors.iter().map(ErrorItem::from).collect(),
                _ => Vec::new(),
            };
            listed(kind, &error.to_string(), &errors)
        }
        StockRefused::Rows(rows) => {
            let item = |row: &'_ StockRowError| (row.index, row.error);
            let found: Vec<_> = rows.iter().map(item).take(ROW_ERRORS_MAX).collect();
            let errors: Vec<_> = found
                .iter()
                .map(|(index, error)| ErrorItem { index: Some(*index), ..ErrorItem::from(error) })
                .collect();
            let detail = "every product has an invalid update; the first errors are listed";
            listed(Problem::InvalidStockUpdate, detail, &errors)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::decide::StockCode;
    use super::super::read::StockDecision;
    use super::*;
    use crate::event::{Code, FieldError};

    fn answered(states: &[StockState]) -> (u16, Value) {
        let product = |(at, state): (usize, &StockState)| StockProduct {
            product_id: Some(format!("p{at}")),
            state: *state,
        };
        let products = states.iter().enumerate().map(product).collect();
        let answer = updated(&StockBatch { products, shards: Vec::new(), errors: Vec::new() }, AckLevel::Os);
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    fn decided(result: StockResult, code: Option<StockCode>) -> StockState {
        StockState::Decided(StockDecision { result, code, quantity: 5, version: 2 })
    }

    #[test]
    fn every_product_is_told_and_counted() {
        let error = FieldError { pointer: "/delta", code: Code::NeedsQuantity, detail: "" };
        let invalid = StockState::Invalid(StockRowError { index: 3, error });
        let stale = decided(StockResult::Conflict, Some(StockCode::StaleVersion));
        let (status, said) = answered(&[
            decided(StockResult::Applied, None),
            stale,
            decided(StockResult::Duplicate, None),
            invalid,
            StockState::Refused("journal_full"),
        ]);
        assert_eq!(status, 200);
        assert_eq!(
            said,
            json!({"applied":1,"duplicates":1,"failed":3,"pending":0,"products":[
                {"product_id":"p0","result":"applied","quantity":5,"version":2},
                {"product_id":"p1","result":"conflict","quantity":5,"version":2,"code":"stale_version"},
                {"product_id":"p2","result":"duplicate","quantity":5,"version":2},
                {"product_id":"p3","result":"rejected","code":"needs_quantity","pointer":"/updates/3/delta"},
                {"product_id":"p4","result":"rejected","code":"journal_full"},
            ]})
        );
        assert_eq!(answered(&[stale, invalid]).0, 409);
        assert_eq!(answered(&[decided(StockResult::Duplicate, None), stale]).0, 200);
        assert_eq!(answered(&[decided(StockResult::Applied, None), StockState::Pending]).0, 202);
        assert_eq!(
            answered(&[StockState::Pending]).1["products"][0],
            json!({"product_id":"p0","result":"pending"})
        );
    }

    #[test]
    fn a_version_that_is_known_is_not_sent_again() {
        let stock = StockLevel { quantity: 7, version: 12, updated_us: 0 };
        let ask = |tags: &[&str]| {
            let mut headers = hyper::HeaderMap::new();
            for tag in tags {
                headers.append("if-none-match", tag.parse().unwrap());
            }
            let answer = level("p", &stock, &headers);
            assert!(answer.headers.contains(&("ETag", "\"12\"".into())));
            (answer.status, answer.body.len())
        };
        assert_eq!(ask(&["\"12\""]), (304, 0));
        for known in [&["W/\"12\""][..], &["*"], &["\"1\", \"12\""], &["\"1\"", "\"12\""]] {
            assert_eq!(ask(known).0, 304, "{known:?}");
        }
        for other in [&[][..], &["12"], &["\"1\""], &["\"112\""]] {
            assert_eq!(ask(other).0, 200, "{other:?}");
        }
    }
}
