//! Orders as NDJSON in chunks. A chunk that was sent before is recognised by its idempotency key.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::Value;
use ureq::http::Method;

use super::super::error::GenError;
use super::super::row::Order;
use super::super::spec::Spec;
use super::super::text::{Clockface, push_order};
use super::Posted;
use super::client::{Answered, Client, Request, Target, Verdict, shown};

const PATH: &str = "/api/v1/ingest/orders/";

/// The orders of the next request.
#[derive(Debug)]
pub(super) struct OrderPoster {
    /// `gen-<seed>-<hash>-`. The chunk's number follows it.
    key_prefix: String,
    chunk_rows: u64,
    gzip: bool,
    chunk: Vec<u8>,
    rows: u64,
    number: u64,
    clock: Clockface,
}

/// The server's summary of one request.
#[derive(Debug, Deserialize)]
struct Summary {
    rows_received: u64,
    rows_inserted: u64,
    rows_duplicate: u64,
    rows_failed: u64,
    #[serde(default)]
    errors: Vec<Value>,
}

impl OrderPoster {
    pub(super) fn new(target: &Target, spec: &Spec) -> OrderPoster {
        // The hash includes the size and coding of chunks, because these change the requests.
        let hash = spec.hash(&format!("{} {}", target.chunk_rows, target.gzip));
        OrderPoster {
            key_prefix: format!("gen-{}-{hash}-", spec.seed),
            chunk_rows: target.chunk_rows.into(),
            gzip: target.gzip,
            chunk: Vec::new(),
            rows: 0,
            number: 0,
            clock: Clockface::new(),
        }
    }

    pub(super) fn push(
        &mut self,
        row: &Order<'_>,
        client: &mut Client,
        posted: &mut Posted,
    ) -> Result<(), GenError> {
        push_order(row, &mut self.clock, &mut self.chunk);
        self.rows += 1;
        if self.rows == self.chunk_rows { self.flush(client, posted) } else { Ok(()) }
    }

    /// Sends the collected orders.
    pub(super) fn flush(&mut self, client: &mut Client, posted: &mut Posted) -> Result<(), GenError> {
        if self.rows == 0 {
            return Ok(());
        }
        self.number += 1;
        posted.requests += 1;
        let (name, key) = (format!("chunk {}", self.number), format!("{}{}", self.key_prefix, self.number));
        let packed = if self.gzip { Some(packed(&self.chunk).map_err(GenError::Packing)?) } else { None };
        let headers = [
            ("Content-Type", "application/x-ndjson"),
            ("Idempotency-Key", &*key),
            ("Content-Encoding", "gzip"),
        ];
        let request = Request {
            method: Method::POST,
            path: PATH,
            headers: if self.gzip { &headers } else { &headers[..2] },
            body: packed.as_deref().unwrap_or(&self.chunk),
            name: &name,
        };
        let (summary, is_replayed) = client.send(&request, &mut |answer| judge(answer, &name))?;
        if summary.rows_received != self.rows {
            let reason = format!("{} orders were sent, {} read", self.rows, summary.rows_received);
            return Err(GenError::Answer { request: name, reason });
        }
        posted.rows_sent += self.rows;
        // A replayed summary is that of an earlier run, which inserted the rows.
        let [inserted, known] = match is_replayed {
            true => [0, summary.rows_inserted + summary.rows_duplicate],
            false => [summary.rows_inserted, summary.rows_duplicate],
        };
        // A row is not stored if the server has a different row with the same id.
        let conflicts = summary.errors.iter().filter(|error| error["code"] == "conflict").count() as u64;
        let conflicts = conflicts.min(known);
        posted.rows_inserted += inserted;
        posted.rows_duplicate += known - conflicts;
        if summary.rows_failed + conflicts > 0 {
            let error = summary.errors.first().map_or_else(|| "not described".to_owned(), Value::to_string);
            posted.fail(summary.rows_failed + conflicts, || format!("{name}, {}", shown(&error)));
        }
        self.chunk.clear();
        self.rows = 0;
        Ok(())
    }
}

/// Returns the summary, and whether it is that of an earlier run.
fn judge(answer: &Answered, name: &str) -> Verdict<(Summary, bool)> {
    match answer.status {
        200 | 201 => {
            let is_replayed = !answer.is_uncertain && answer.header("idempotent-replayed") == Some("true");
            answer.json(name).map_or_else(Verdict::Never, |summary| Verdict::Done((summary, is_replayed)))
        }
        // An earlier attempt, or a run that was killed, is still being stored. Other content under the same key is 422.
        409 => Verdict::Again("status 409".to_owned()),
        _ => answer.refusal(name),
    }
}

fn packed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}
