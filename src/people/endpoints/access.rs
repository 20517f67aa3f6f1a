//! `GET …/customers/{customer}` and `GET …/customers/{customer}/export`: what is held of a customer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::access::AccessScan;
use super::super::access::reader::Files;
use super::super::answer;
use super::super::place::Place;
use super::super::places;
use super::super::query;
use super::super::refused::PeopleRefused;
use super::super::report::KnownCustomer;
use super::customer_in_path;
use crate::api;
use crate::base::clock;
use crate::exports::export_store;
use crate::http::Answer;
use crate::lane::{AnswerBody, Body, BodyError, Call, Lane, NextBytes, Pieces, Reply};
use crate::query::Shape;
use crate::shard::suppressed::Suppression;
use crate::uploads::upload_store;

/// How long the count of what is held may take. What was not searched by then is reported.
const COUNT_TIME: Duration = Duration::from_secs(10);

async fn known(lane: &Lane, tenant_id: &str, customer_id: &str) -> Result<KnownCustomer, PeopleRefused> {
    let ids = Arc::new(vec![customer_id.to_owned()]);
    let mut known = query::known_customers(&lane.readers, lane.keys, tenant_id, &ids).await?;
    Ok(known.pop().unwrap_or_default())
}

async fn scan(
    call: &Call<'_>,
    customer_id: &str,
    known: &KnownCustomer,
    places: Vec<&'static Place>,
) -> Result<AccessScan, PeopleRefused> {
    let lane = call.lane;
    let files = Files { uploads: upload_store(lane).clone(), exports: export_store(lane).clone() };
    let (readers, data) = ((call.readers(), lane.keys), &lane.vitals.config.data);
    let sees_all = !call.principal.is_bound();
    let sought = query::sought(readers, data, (call.tenant(), customer_id), known, sees_all).await?;
    AccessScan::begin(call.readers(), files, sought, places)
}

/// Returns a customer, and the number of rows that are held by place.
pub async fn customer(call: Call<'_>, _: Body<'_>) -> Result<Answer, PeopleRefused> {
    let customer_id = customer_in_path(&call)?;
    let known = known(call.lane, call.tenant(), &customer_id).await?;
    let mut scan = scan(&call, &customer_id, &known, places::countable()).await?;
    let until_us = clock::monotonic_us() + COUNT_TIME.as_micros() as u64;
    while clock::monotonic_us() < until_us {
        if scan.next().await?.is_none() {
            break;
        }
    }
    let unfinished = scan.unfinished();
    if scan.rows().is_empty() && unfinished.is_empty() && known.suppression.is_none() {
        return Err(PeopleRefused::NothingHeld);
    }
    Ok(answer::customer(&customer_id, &known, scan.rows(), &unfinished))
}

/// Streams everything that is held of a customer.
pub async fn export(call: Call<'_>, _: Body<'_>) -> Result<Reply, PeopleRefused> {
    let customer_id = customer_in_path(&call)?;
    let (lane, tenant_id) = (call.lane.clone(), call.tenant().to_owned());
    let known = known(&lane, &tenant_id, &customer_id).await?;
    let scan = scan(&call, &customer_id, &known, places::readable()).await?;
    let mut export =
        AccessExport { lane, tenant_id, customer_id, scan, suppression: known.suppression, is_ended: false };
    // The first piece is read before the head is sent, so that the client still gets an error response if something
    // cannot be read.
    let first = export.piece().await?;
    let answer = api::reads::rows(Shape::Lines);
    let body = if call.is_head() { AnswerBody::empty() } else { AnswerBody::rows(first, Box::new(export)) };
    Ok(Reply::streamed(answer, body))
}

/// The lines of everything that is held of a customer.
struct AccessExport {
    lane: Rc<Lane>,
    tenant_id: String,
    customer_id: String,
    scan: AccessScan,
    /// The customer's earlier erasure, when the export began.
    suppression: Option<Suppression>,
    is_ended: bool,
}

impl AccessExport {
    /// Returns the next lines, or `None` after the last.
    async fn piece(&mut self) -> Result<Option<Vec<u8>>, PeopleRefused> {
        while !self.is_ended {
            match self.scan.next().await? {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => return Ok(Some(bytes)),
                None => {
                    self.is_ended = true;
                    return self.end().await.map(Some);
                }
            }
        }
        Ok(None)
    }

    /// Returns the last line. An erasure that began in the meantime may have removed what was not read yet, and the
    /// export must not look complete.
    async fn end(&self) -> Result<Vec<u8>, PeopleRefused> {
        let now = known(&self.lane, &self.tenant_id, &self.customer_id).await?;
        if now.suppression != self.suppression {
            return Err(PeopleRefused::ErasedMeanwhile);
        }
        let places: Vec<_> =
            self.scan.rows().iter().map(|(place, rows)| json!({"place": place, "rows": rows})).collect();
        // Items are part of the lines of their orders.
        let lines = self.scan.rows().iter().filter(|(place, _)| *place != "items");
        let rows: u64 = lines.map(|(_, rows)| rows).sum();
        let end = json!({"_end": true, "rows": rows, "held": places});
        Ok(format!("{end}\n").into_bytes())
    }
}

impl Pieces for AccessExport {
    fn next(&mut self) -> NextBytes<'_> {
        Box::pin(async {
            self.piece().await.map_err(|error| match error {
                PeopleRefused::Query(error) => BodyError::Query(error),
                PeopleRefused::ErasedMeanwhile => {
                    BodyError::Ended("the customer was erased during the export")
                }
                error => {
                    tracing::error!(%error, "the export of a customer was aborted");
                    BodyError::Ended("a file could not be read")
                }
            })
        })
    }
}
