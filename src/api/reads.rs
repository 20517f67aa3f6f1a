//! The responses to reads, and their refusals.

use serde::Serialize;

use super::Problem;
use super::error::{Asker, Refuse, problem};
use super::problem::ErrorItem;
use crate::base::counters::Cell;
use crate::http::Answer;
use crate::query::{Page, QueryError, RowsPlan, Shape};

/// Creates a JSON response that caches must not store.
pub fn json(status: u16, body: &impl serde::Serialize) -> Answer {
    let body = serde_json::to_vec(body).unwrap_or_default();
    Answer::new(status, "application/json", body).with("Cache-Control", "no-store")
}

/// Creates the head of a stream of rows.
#[must_use]
pub fn rows(shape: Shape) -> Answer {
    let content_type = match shape {
        Shape::Lines => "application/x-ndjson",
        Shape::Object => "application/json",
    };
    Answer::new(200, content_type, &b""[..]).with("Cache-Control", "no-store")
}

const PAGE_BEGIN: &[u8] = b"{\"events\":[";

/// Creates the response for one page of rows.
#[must_use]
pub fn events_page(plan: &RowsPlan, page: Page) -> Answer {
    #[derive(Serialize)]
    struct Rest<'p> {
        #[serde(skip_serializing_if = "Option::is_none")]
        page: Option<u64>,
        page_size: usize,
        total: u64,
        next_cursor: Option<&'p str>,
    }
    let rest = Rest {
        page: plan.paging.cursor.is_none().then_some(plan.paging.page),
        page_size: plan.paging.page_size,
        total: page.total,
        next_cursor: page.next_cursor.as_deref(),
    };
    // The document's other members follow, without their opening brace.
    let rest = serde_json::to_vec(&rest).unwrap_or_default();
    // A page may be large, so it is not copied.
    let mut body = page.rows;
    body.reserve_exact(PAGE_BEGIN.len() + 2 + rest.len());
    body.splice(0..0, PAGE_BEGIN.iter().copied());
    body.extend_from_slice(b"],");
    body.extend_from_slice(rest.strip_prefix(b"{").unwrap_or_default());
    Answer::new(200, "application/json", body).with("Cache-Control", "no-store")
}

impl Refuse for QueryError {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        refused(self, asker.request_id, asker.problems)
    }
}

/// Returns the response to a query that a stop ends.
#[must_use]
pub fn stopped(asker: &Asker<'_>) -> Answer {
    let detail = "the server is shutting down and has ended this query; nothing was changed";
    problem(Problem::Draining, detail, asker.request_id, &[], &[], asker.problems)
}

/// Returns the response to a failed query.
#[must_use]
pub fn refused(error: &QueryError, request_id: &str, problems: &[Cell]) -> Answer {
    match error {
        QueryError::Parameters(errors) => {
            let items: Vec<_> = errors
                .iter()
                .map(|error| ErrorItem {
                    parameter: Some(&*error.name).filter(|name| !name.is_empty()),
                    code: error.code,
                    detail: &error.detail,
                    ..ErrorItem::default()
                })
                .collect();
            problem(Problem::BadParameter, &error.to_string(), request_id, &items, &[], problems)
        }
        QueryError::Busy | QueryError::ShareUsed | QueryError::MemorySpent => {
            problem(Problem::Overloaded, &error.to_string(), request_id, &[], &[], problems)
        }
        QueryError::TooLarge(_) => {
            problem(Problem::QueryTooLarge, &error.to_string(), request_id, &[], &[], problems)
        }
        QueryError::Dropped(_) => {
            problem(Problem::SalesDropped, &error.to_string(), request_id, &[], &[], problems)
        }
        QueryError::Shard { .. } => {
            problem(Problem::ShardUnavailable, &error.to_string(), request_id, &[], &[], problems)
        }
    }
}
