//! Stock events in bulk updates, in mode `reject`, which accepts quantities and deltas.
//!
//! The events of a product are divided into changes in the same way in every run, so that a repeated change is
//! recognised. The n-th change of a product expects version n, so no change is applied twice or out of order.

use serde::Deserialize;
use ureq::http::Method;

use super::super::error::GenError;
use super::super::row::StockEvent;
use super::super::text::{Clockface, push_number, push_stock_event};
use super::Posted;
use super::client::{Answered, Client, Request, Verdict, shown};
use crate::base::limits::STOCK_UPDATES_MAX;

/// The maximum number of events in a change, at 20 bytes each in a record.
const CHANGE_EVENTS_MAX: usize = STOCK_UPDATES_MAX / 2;

/// The events of the next request.
#[derive(Debug)]
pub(super) struct StockPoster {
    path: String,
    /// The tenant, the product, and the number of its changes before the current one.
    of: Option<(u32, u32, u64)>,
    body: Vec<u8>,
    /// The number of events of each product, in the order of the request.
    products: Vec<usize>,
    events: usize,
    clock: Clockface,
}

/// The server's response to a bulk update.
#[derive(Debug, Deserialize)]
struct Updated {
    products: Vec<ProductResult>,
}

#[derive(Debug, Deserialize)]
struct ProductResult {
    product_id: Option<String>,
    result: String,
    code: Option<String>,
}

impl StockPoster {
    pub(super) fn new() -> StockPoster {
        StockPoster {
            path: String::new(),
            of: None,
            body: Vec::new(),
            products: Vec::new(),
            events: 0,
            clock: Clockface::new(),
        }
    }

    pub(super) fn push(
        &mut self,
        row: &StockEvent<'_>,
        client: &mut Client,
        posted: &mut Posted,
    ) -> Result<(), GenError> {
        let version = match self.of {
            Some((tenant, product, version)) if (tenant, product) == (row.tenant, row.product) => {
                let is_full = self.products.last().is_none_or(|events| *events == CHANGE_EVENTS_MAX);
                if is_full {
                    // A request changes a product once.
                    self.flush(client, posted)?;
                    self.products.push(0);
                }
                version + u64::from(is_full)
            }
            before => {
                // The path is the tenant's, and the next change has to fit.
                let is_other_tenant = before.is_none_or(|(tenant, _, _)| tenant != row.tenant);
                if is_other_tenant || self.events + CHANGE_EVENTS_MAX > STOCK_UPDATES_MAX {
                    self.flush(client, posted)?;
                    self.path = format!("/api/v1/tenants/{}/stock/bulk_update", row.tenant_id);
                }
                self.products.push(0);
                0
            }
        };
        self.of = Some((row.tenant, row.product, version));
        self.body.extend_from_slice(if self.body.is_empty() { HEAD } else { b"," });
        push_stock_event(row, &mut self.clock, &mut self.body);
        self.body.truncate(self.body.len() - b"}\n".len());
        self.body.extend_from_slice(b",\"expected_version\":");
        push_number(version, &mut self.body);
        self.body.push(b'}');
        self.events += 1;
        if let Some(events) = self.products.last_mut() {
            *events += 1;
        }
        Ok(())
    }

    /// Sends the collected events.
    pub(super) fn flush(&mut self, client: &mut Client, posted: &mut Posted) -> Result<(), GenError> {
        if self.events == 0 {
            return Ok(());
        }
        self.body.extend_from_slice(b"]}");
        posted.requests += 1;
        let request = Request {
            method: Method::PUT,
            path: &self.path,
            headers: &[("Content-Type", "application/json")],
            body: &self.body,
            name: &self.path,
        };
        // The products that any attempt has changed. A later attempt reports them as duplicates.
        let mut changed = vec![false; self.products.len()];
        let answer = client.send(&request, &mut |answer| judge(answer, &self.path, &mut changed))?;
        for ((result, events), is_new) in answer.products.iter().zip(&self.products).zip(changed) {
            let events = *events as u64;
            posted.rows_sent += events;
            match result.result.as_str() {
                _ if is_new => posted.rows_inserted += events,
                "duplicate" => posted.rows_duplicate += events,
                _ => posted.fail(events, || describe(result)),
            }
        }
        self.body.clear();
        self.products.clear();
        self.events = 0;
        Ok(())
    }
}

const HEAD: &[u8] = b"{\"mode\":\"reject\",\"updates\":[";

fn describe(result: &ProductResult) -> String {
    let ProductResult { product_id, result, code } = result;
    let (product, code) = (product_id.as_deref().unwrap_or("a product"), code.as_deref().unwrap_or(result));
    shown(&format!("{product} is refused: {code}"))
}

/// Notes the products that were changed, and asks again if one is not decided.
fn judge(answer: &Answered, path: &str, changed: &mut [bool]) -> Verdict<Updated> {
    // A 409 without results is a refusal of the whole request.
    let updated: Updated = match answer.status {
        200 | 202 | 409 => match answer.json(path) {
            Ok(updated) => updated,
            Err(error) if answer.status != 409 => return Verdict::Never(error),
            Err(_) => return answer.refusal(path),
        },
        _ => return answer.refusal(path),
    };
    if updated.products.len() != changed.len() {
        let reason = format!("{} products were sent, {} answered", changed.len(), updated.products.len());
        return Verdict::Never(GenError::Answer { request: path.to_owned(), reason });
    }
    let mut undecided = None;
    for (result, changed) in updated.products.iter().zip(changed) {
        // What an earlier attempt of this run may have stored counts as new.
        *changed |= result.result == "applied" || (answer.is_uncertain && result.result == "duplicate");
        let is_refused = ["queue_full", "journal_full", "overloaded", "outcome_unknown"]
            .map(Some)
            .contains(&result.code.as_deref());
        if is_refused || ["pending", "unknown"].contains(&&*result.result) {
            undecided = Some(describe(result));
        }
    }
    undecided.map_or(Verdict::Done(updated), Verdict::Again)
}
