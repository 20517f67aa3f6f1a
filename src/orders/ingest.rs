//! Order ingest: turns lines into rows staged by shard, and outcomes into a summary with the first thousand errors.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::body::{Order, OrderDecoder, OrderError};
use super::record::{ItemRow, ORDER, OrderParts, decode_order, encode_order};
use crate::base::ids::ShardId;
use crate::base::keys::KeyHasher;
use crate::event::Code;
use crate::ingest::KeyedRows;
use crate::shard::Outcome;
use crate::unpack::{SKIPPED_MAX, Skipped};

/// The maximum number of errors that one ingest reports. Further errors are only counted.
const ERRORS_MAX: usize = 1_000;

/// An error in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestError {
    /// The line number, counted from 1 over the whole upload.
    pub line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// JSON Pointer to the field. It is empty for the line as a whole.
    pub pointer: String,
    pub code: Cow<'static, str>,
    pub detail: String,
}

/// The outcomes of an ingest's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub inserted: u64,
    /// The number of orders that the tenant already has, with the same content or different content.
    pub duplicate: u64,
    /// The number of lines that are not orders, plus the number of orders that could not be stored.
    pub failed: u64,
    /// The number of failed orders whose customer was erased.
    #[serde(default)]
    known: u64,
    errors: Vec<IngestError>,
    errors_truncated: bool,
    /// The first parts and entries that were not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<SkippedPart>,
    #[serde(default)]
    skipped_truncated: bool,
    /// The format that the first line seems to have, if the line is not an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<Shape>,
}

/// A form part or an archive entry that was not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedPart {
    pub name: String,
    pub reason: Cow<'static, str>,
}

/// The response to a finished ingest.
#[derive(Debug, Serialize)]
pub struct IngestResponse<'s> {
    rows_received: u64,
    rows_inserted: u64,
    rows_duplicate: u64,
    rows_failed: u64,
    /// In seconds.
    processing_time: f64,
    idempotency_key: &'s str,
    errors: &'s [IngestError],
    errors_truncated: bool,
    skipped: &'s [SkippedPart],
    skipped_truncated: bool,
}

impl Summary {
    #[must_use]
    pub fn received(&self) -> u64 {
        self.inserted + self.duplicate + self.failed
    }

    /// Returns `true` if at least one order of the ingest was suppressed or is in the database. It does not matter
    /// which ingest stored the order, or whether its content differs. If the function returns `false`, the ingest is
    /// refused, and its key remains free for the corrected file.
    #[must_use]
    pub fn is_anything_known(&self) -> bool {
        self.inserted + self.duplicate + self.known > 0
    }

    /// Adds a part that was not read, and the reason.
    pub fn skip(&mut self, name: String, reason: &'static str) {
        match self.skipped.len() < SKIPPED_MAX {
            true => self.skipped.push(SkippedPart { name, reason: Cow::Borrowed(reason) }),
            false => self.skipped_truncated = true,
        }
    }

    /// Adds the archive entries that were not read.
    pub fn skip_entries(&mut self, skipped: &Skipped) {
        for name in &skipped.names {
            self.skip(name.to_string(), "the entry is not named *.ndjson, *.jsonl or *.json");
        }
        self.skipped_truncated |= skipped.count > skipped.names.len() as u64;
    }

    #[must_use]
    pub fn skipped(&self) -> &[SkippedPart] {
        &self.skipped
    }

    #[must_use]
    pub fn is_truncated(&self) -> (bool, bool) {
        (self.errors_truncated, self.skipped_truncated)
    }

    /// Returns a sentence that advises the client if [`Summary::is_anything_known`] returns `false`.
    #[must_use]
    pub fn advice(&self) -> String {
        let rows = self.received();
        match self.shape {
            _ if rows == 0 && !self.skipped.is_empty() => {
                let names: Vec<&str> = self.skipped.iter().take(3).map(|part| part.name.as_str()).collect();
                format!(
                    "no part of the body was read as orders: {} was skipped ({}); send NDJSON as the body, \
                     as a form part with a file name, or as an entry named *.ndjson",
                    names.join(", "),
                    self.skipped[0].reason
                )
            }
            _ if rows == 0 => {
                "the body has no lines; send one JSON object per line, each an order".to_owned()
            }
            Some(shape) => shape.advice().to_owned(),
            None => format!(
                "none of the {rows} lines is an order that could be stored; errors lists the reason for \
                 each"
            ),
        }
    }

    /// Returns the errors reported so far. [`Summary::sort`] sorts them by line.
    #[must_use]
    pub fn errors(&self) -> &[IngestError] {
        &self.errors
    }

    fn fail(&mut self, error: IngestError) {
        self.failed += 1;
        self.report(error);
    }

    fn report(&mut self, error: IngestError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
            return;
        }
        self.errors_truncated = true;
        // Shards respond in any order, so an earlier line may be reported after later ones.
        if let Some(last) = self.errors.iter_mut().max_by_key(|known| known.line)
            && error.line < last.line
        {
            *last = error;
        }
    }

    /// Counts the outcome of one journaled order. `payload` is its record.
    pub fn settle(&mut self, line: u64, payload: &[u8], outcome: Outcome) {
        self.known += u64::from(outcome == Outcome::Suppressed);
        match outcome {
            Outcome::Inserted | Outcome::Repeated => self.inserted += 1,
            Outcome::Duplicate => self.duplicate += 1,
            Outcome::Conflict => {
                self.duplicate += 1;
                self.report(IngestError {
                    line,
                    order_id: decode_order(payload).map(|order| order.order_id.to_owned()),
                    pointer: "/order_id".to_owned(),
                    code: Cow::Borrowed("conflict"),
                    detail: "the tenant has an order with this id and other content; the first one remains"
                        .to_owned(),
                });
            }
            // The order's id is not reported. The response is stored and must contain nothing about the person.
            Outcome::Suppressed => self.fail(IngestError {
                line,
                order_id: None,
                pointer: "/customer_id".to_owned(),
                code: Cow::Borrowed("suppressed"),
                detail: "the customer was erased; nothing of the order was stored".to_owned(),
            }),
            Outcome::SumTooLarge => self.fail(IngestError {
                line,
                order_id: decode_order(payload).map(|order| order.order_id.to_owned()),
                pointer: "/items".to_owned(),
                code: Cow::Borrowed("amount_out_of_range"),
                detail: "this order would take the sales of its day in its currency beyond \
                         9223372036854775807 units or minor units; nothing of it was stored"
                    .to_owned(),
            }),
            Outcome::Rejected | Outcome::Missing | Outcome::Superseded | Outcome::Flagged => {
                self.fail(IngestError {
                    line,
                    order_id: None,
                    pointer: String::new(),
                    code: Cow::Borrowed("rejected"),
                    detail: "the shard could not store the order; it is kept in rejected_record".to_owned(),
                })
            }
        }
    }

    /// Removes the order ids from the errors, and the names of skipped parts. The errors keep their line numbers.
    /// Returns `true` if there were any ids or names.
    pub fn forget_order_ids(&mut self) -> bool {
        let ids = self.errors.iter_mut().filter_map(|error| error.order_id.take());
        let forgotten = ids.count() + self.skipped.len();
        self.skipped.clear();
        forgotten > 0
    }

    /// Sorts the errors by line, because outcomes arrive shard by shard.
    pub fn sort(&mut self) {
        self.errors.sort_by_key(|error| error.line);
    }

    /// Returns the response as JSON.
    #[must_use]
    pub fn json(&self, key: &str, took_us: u64) -> Vec<u8> {
        serde_json::to_vec(&self.answer(key, took_us)).unwrap_or_default()
    }

    pub fn answer<'s>(&'s self, key: &'s str, took_us: u64) -> IngestResponse<'s> {
        IngestResponse {
            rows_received: self.received(),
            rows_inserted: self.inserted,
            rows_duplicate: self.duplicate,
            rows_failed: self.failed,
            processing_time: took_us as f64 / 1e6,
            idempotency_key: key,
            errors: &self.errors,
            errors_truncated: self.errors_truncated,
            skipped: &self.skipped,
            skipped_truncated: self.skipped_truncated,
        }
    }
}

/// The format that a first line seems to have, if it is not an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    /// Names or values with separators between them.
    Csv,
    /// The start of a JSON value that continues on the next line.
    Document,
    /// A complete array.
    Array,
}

impl Shape {
    /// Returns the format of a first line, or `None` if the line looks like an order.
    fn of(line: &[u8]) -> Option<Shape> {
        let line = line.trim_ascii();
        let read = || serde_json::from_slice::<serde::de::IgnoredAny>(line);
        match line.first() {
            Some(b'[') if read().is_ok() => Some(Shape::Array),
            Some(b'[' | b'{') if read().is_err_and(|error| error.is_eof()) => Some(Shape::Document),
            Some(b'[' | b'{') | None => None,
            Some(_) => {
                line.iter().any(|byte| matches!(byte, b',' | b';' | b'\t' | b'|')).then_some(Shape::Csv)
            }
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Shape::Csv => {
                "the body appears to be CSV; send NDJSON instead: one JSON object per line, each an order \
                 with its items as an array"
            }
            Shape::Document => {
                "the body appears to be a JSON document that spans several lines; send each order on its own line, \
                 for example with jq -c '.[]' (an array) or jq -c . (a sequence of orders)"
            }
            Shape::Array => {
                "the body is a JSON array; send its members one per line, without brackets and commas, for \
                 example with jq -c '.[]'"
            }
        }
    }
}

/// The lines of one upload on their way to their shards.
#[derive(Debug)]
pub struct OrderIngest {
    /// The ingest's id as stored in its rows. A repeated ingest has the same id.
    id: i64,
    /// The tenant whose orders are accepted. If `None`, orders of every tenant are accepted.
    tenant: Option<String>,
    received_us: i64,
    staged: Vec<KeyedRows>,
    staged_bytes: usize,
    pub summary: Summary,
}

impl OrderIngest {
    #[must_use]
    pub fn new(id: i64, tenant: Option<String>, received_us: i64, shard_count: u16) -> OrderIngest {
        OrderIngest {
            id,
            tenant,
            received_us,
            staged: (0..shard_count).map(|_| KeyedRows::of(ORDER)).collect(),
            staged_bytes: 0,
            summary: Summary::default(),
        }
    }

    /// Stages one line, or counts it as failed. Takes about 1.5 us for an order of three items.
    pub fn line(&mut self, decoder: &mut OrderDecoder, keys: &KeyHasher, number: u64, line: &[u8]) {
        match decoder.order(line) {
            Ok(order) if self.tenant.as_ref().is_some_and(|tenant| tenant != order.tenant_id) => {
                self.summary.fail(IngestError {
                    line: number,
                    order_id: Some(order.order_id.to_owned()),
                    pointer: "/tenant_id".to_owned(),
                    code: Cow::Borrowed("wrong_tenant"),
                    detail: "the key belongs to another tenant".to_owned(),
                });
            }
            Ok(order) => self.stage(keys, number, &order),
            Err(error) => {
                if self.summary.received() == 0 && self.staged_bytes == 0 {
                    self.summary.shape = Shape::of(line);
                }
                self.summary.fail(ingest_error(number, &error));
            }
        }
    }

    /// Counts a line that exceeds the maximum length as failed.
    pub fn too_long(&mut self, number: u64, bytes_max: usize) {
        self.summary.fail(IngestError {
            line: number,
            order_id: None,
            pointer: String::new(),
            code: Cow::Borrowed(Code::TooLarge.as_str()),
            detail: format!("a line must be at most {bytes_max} bytes"),
        });
    }

    fn stage(&mut self, keys: &KeyHasher, number: u64, order: &Order<'_>) {
        let parts = OrderParts {
            tenant_id: order.tenant_id,
            order_id: order.order_id,
            customer_id: order.customer_id,
            customer_name: order.customer_name,
            customer_email: order.customer_email,
            status: order.status,
            currency: order.currency,
            ordered_at_us: order.ordered_at_us,
        };
        let shard = keys.hash(order.tenant_id, order.order_id).shard(self.staged.len() as u16);
        let Some(rows) = self.staged.get_mut(usize::from(shard.0)) else { return };
        let before = rows.bytes();
        let items = order.items().map(|item| ItemRow {
            product_id: item.product_id,
            category: item.category,
            quantity: item.quantity,
            unit_price: item.unit_price_minor,
        });
        let from = (self.id, number as i64, self.received_us);
        rows.push_record(number as usize, |bytes| encode_order(&parts, from, items, bytes));
        self.staged_bytes += rows.bytes() - before;
    }

    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    /// Takes the staged rows, by shard.
    pub fn take(&mut self) -> Vec<(ShardId, KeyedRows)> {
        self.staged_bytes = 0;
        let places = self.staged.iter_mut().enumerate().filter(|(_, rows)| !rows.is_empty());
        places
            .map(|(shard, rows)| (ShardId(shard as u16), std::mem::replace(rows, KeyedRows::of(ORDER))))
            .collect()
    }
}

#[cold]
fn ingest_error(line: u64, error: &OrderError) -> IngestError {
    let first = error.faults().first();
    IngestError {
        line,
        order_id: error.order_id().map(str::to_owned),
        pointer: first.map_or_else(String::new, |fault| fault.pointer.to_string()),
        code: Cow::Borrowed(error.code().as_str()),
        // The detail lists all errors in one sentence. The pointer and the code refer to the first error.
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(order_id: &str, tenant: &str, price: &str) -> Vec<u8> {
        json!({
            "order_id": order_id, "tenant_id": tenant, "customer_id": "c", "customer_name": "Ann",
            "customer_email": "a@b.c", "status": "paid", "currency": "USD",
            "ordered_at": "2026-03-01T12:00:00Z",
            "items": [{"product_id": "p", "category": "x", "quantity": 2, "unit_price": price}],
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn every_line_is_staged_or_told() {
        let keys = KeyHasher::new(&[7; 16]);
        let mut decoder = OrderDecoder::new();
        let mut ingest = OrderIngest::new(9, Some("t".to_owned()), 5, 3);
        ingest.line(&mut decoder, &keys, 1, &line("a", "t", "19.99"));
        ingest.line(&mut decoder, &keys, 2, &line("b", "other", "19.99"));
        ingest.line(&mut decoder, &keys, 3, &line("c", "t", "1.999"));
        ingest.line(&mut decoder, &keys, 4, b"{");
        ingest.too_long(5, 100);
        assert!(ingest.staged_bytes() > 0);
        let taken = ingest.take();
        assert_eq!((taken.len(), ingest.staged_bytes()), (1, 0));
        let (number, payload) = taken[0].1.rows().next().unwrap();
        let order = decode_order(payload).unwrap();
        assert_eq!((number, order.order_id, order.total, order.ingest, order.line), (1, "a", 3998, 9, 1));
        ingest.summary.settle(1, payload, Outcome::Conflict);
        ingest.summary.settle(1, payload, Outcome::Repeated);
        ingest.summary.settle(1, payload, Outcome::Duplicate);
        ingest.summary.sort();
        let said: Value = serde_json::from_slice(&ingest.summary.json("k", 1_500_000)).unwrap();
        assert_eq!((&said["rows_received"], &said["rows_failed"]), (&json!(7), &json!(4)));
        assert_eq!((&said["rows_inserted"], &said["rows_duplicate"]), (&json!(1), &json!(2)));
        assert_eq!(said["processing_time"], json!(1.5));
        let errors = said["errors"].as_array().unwrap();
        let codes: Vec<_> = errors.iter().map(|error| error["code"].as_str().unwrap()).collect();
        assert_eq!(codes, ["conflict", "wrong_tenant", "too_many_digits", "not_json", "too_large"]);
        assert_eq!(errors[2]["pointer"], "/items/0/unit_price");
        assert_eq!(errors[2]["order_id"], "c");
    }

    #[test]
    fn a_body_without_an_order_is_told_what_to_send_instead() {
        let advice = |lines: &[&[u8]]| {
            let (keys, mut decoder) = (KeyHasher::new(&[7; 16]), OrderDecoder::new());
            let mut ingest = OrderIngest::new(1, None, 0, 1);
            for (line, number) in lines.iter().zip(1..) {
                ingest.line(&mut decoder, &keys, number, line);
            }
            assert!(!ingest.summary.is_anything_known());
            ingest.summary.advice()
        };
        assert!(advice(&[b"order_id,tenant_id,status", b"1,acme,paid"]).contains("CSV"));
        assert!(advice(&[b"order_id;tenant_id", b"1;acme"]).contains("CSV"));
        assert!(advice(&[b"{", b"  \"order_id\": \"a\","]).contains("several lines"));
        assert!(advice(&[b"[", b"  {\"order_id\": \"a\"}", b"]"]).contains("several lines"));
        assert!(advice(&[b"[{\"order_id\":\"a\"},{\"order_id\":\"b\"}]"]).contains("array"));
        assert!(advice(&[b"{\"order_id\":7,}"]).contains("none of the 1 lines"));
        assert!(advice(&[b"{\"order_id\":7}", b"order_id,tenant_id"]).contains("none of the 2 lines"));
        assert!(advice(&[]).contains("no lines"));
        let mut summary = Summary::default();
        summary.skip("note".to_owned(), "the part has no file name");
        assert!(summary.advice().contains("note was skipped (the part has no file name)"));
    }

    #[test]
    fn errors_beyond_the_first_thousand_are_counted() {
        let mut ingest = OrderIngest::new(1, None, 0, 1);
        for number in (1..=1_001).rev() {
            ingest.too_long(number, 1);
        }
        ingest.summary.sort();
        assert_eq!(ingest.summary.errors().last().unwrap().line, 1_000);
        let said: Value = serde_json::from_slice(&ingest.summary.json("k", 0)).unwrap();
        assert_eq!(said["errors"].as_array().unwrap().len(), 1_000);
        assert_eq!((&said["rows_failed"], &said["errors_truncated"]), (&json!(1_001), &json!(true)));
    }
}
