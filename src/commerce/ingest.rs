//! Orders in: lines to staged rows by shard, outcomes to a summary with the first thousand errors.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::base::ids::ShardId;
use crate::base::keys::KeyHasher;
use crate::base::kinds::Kind;
use crate::event::{Code, Decoder, Order, OrderError};
use crate::ingest::KeyedRows;
use crate::shard::{ItemRow, OrderParts, Outcome, decode_order, encode_order};

/// Errors told of one ingest; more are counted.
const ERRORS_MAX: usize = 1_000;

/// What is wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestError {
    /// From 1, over the whole upload.
    pub line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// JSON Pointer to the field; empty for the line as a whole.
    pub pointer: String,
    pub code: Cow<'static, str>,
    pub detail: String,
}

/// What became of the lines of one ingest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Orders whose fate is known.
    pub inserted: u64,
    pub duplicate: u64,
    /// Lines that are no order, orders that conflict with a stored one.
    pub failed: u64,
    errors: Vec<IngestError>,
    errors_truncated: bool,
}

/// The answer to a finished ingest.
#[derive(Debug, Serialize)]
pub(super) struct Answer<'s> {
    rows_received: u64,
    rows_inserted: u64,
    rows_duplicate: u64,
    rows_failed: u64,
    /// Seconds.
    processing_time: f64,
    idempotency_key: &'s str,
    errors: &'s [IngestError],
    errors_truncated: bool,
}

impl Summary {
    #[must_use]
    pub fn received(&self) -> u64 {
        self.inserted + self.duplicate + self.failed
    }

    /// What is told so far, in the order of the lines.
    #[must_use]
    pub fn errors(&self) -> &[IngestError] {
        &self.errors
    }

    fn fail(&mut self, error: IngestError) {
        self.failed += 1;
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
            return;
        }
        self.errors_truncated = true;
        // Shards answer in turns: an earlier line may be told after later ones.
        if let Some(last) = self.errors.iter_mut().max_by_key(|known| known.line)
            && error.line < last.line
        {
            *last = error;
        }
    }

    /// The fate of one order that was journaled; `payload` is its record.
    pub fn settle(&mut self, line: u64, payload: &[u8], outcome: Outcome) {
        match outcome {
            Outcome::Inserted | Outcome::Repeated => self.inserted += 1,
            Outcome::Duplicate => self.duplicate += 1,
            Outcome::Conflict => self.fail(IngestError {
                line,
                order_id: decode_order(payload).map(|order| order.order_id.to_owned()),
                pointer: "/order_id".to_owned(),
                code: Cow::Borrowed("conflict"),
                detail: "the tenant has an order with this id and other content; the first one stands"
                    .to_owned(),
            }),
            // Its id is not told: the answer is kept, and nothing of the person is to be.
            Outcome::Suppressed => self.fail(IngestError {
                line,
                order_id: None,
                pointer: "/customer_id".to_owned(),
                code: Cow::Borrowed("suppressed"),
                detail: "the customer was erased; nothing of the order is kept".to_owned(),
            }),
            Outcome::SumTooLarge => self.fail(IngestError {
                line,
                order_id: decode_order(payload).map(|order| order.order_id.to_owned()),
                pointer: "/items".to_owned(),
                code: Cow::Borrowed("amount_out_of_range"),
                detail: "with this order the sales of its day in its currency would be more than \
                         9223372036854775807 units or smallest coins; nothing of it is kept"
                    .to_owned(),
            }),
            Outcome::Rejected | Outcome::Missing => self.fail(IngestError {
                line,
                order_id: None,
                pointer: String::new(),
                code: Cow::Borrowed("rejected"),
                detail: "the shard could not store the order; it is kept in rejected_record".to_owned(),
            }),
        }
    }

    /// The errors keep their lines; whether any had an id.
    pub fn forget_order_ids(&mut self) -> bool {
        let ids = self.errors.iter_mut().filter_map(|error| error.order_id.take());
        ids.count() > 0
    }

    /// Outcomes come shard by shard; the errors are told by line.
    pub fn sort(&mut self) {
        self.errors.sort_by_key(|error| error.line);
    }

    /// The answer, as JSON.
    #[must_use]
    pub fn json(&self, key: &str, took_us: u64) -> Vec<u8> {
        serde_json::to_vec(&self.answer(key, took_us)).unwrap_or_default()
    }

    pub(super) fn answer<'s>(&'s self, key: &'s str, took_us: u64) -> Answer<'s> {
        Answer {
            rows_received: self.received(),
            rows_inserted: self.inserted,
            rows_duplicate: self.duplicate,
            rows_failed: self.failed,
            processing_time: took_us as f64 / 1e6,
            idempotency_key: key,
            errors: &self.errors,
            errors_truncated: self.errors_truncated,
        }
    }
}

/// The lines of one upload on their way to their shards.
#[derive(Debug)]
pub struct OrderIngest {
    /// What this ingest is known by in the rows; the same for a repetition.
    id: i64,
    /// The tenant whose orders may come; `None`: any.
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
            staged: (0..shard_count).map(|_| KeyedRows::of(Kind::Order)).collect(),
            staged_bytes: 0,
            summary: Summary::default(),
        }
    }

    /// Takes one line in. About 1.5 us for an order of three items.
    pub fn line(&mut self, decoder: &mut Decoder, keys: &KeyHasher, number: u64, line: &[u8]) {
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
            Err(error) => self.summary.fail(told(number, &error)),
        }
    }

    /// A line of which only the beginning was kept.
    pub fn too_long(&mut self, number: u64, bytes_max: usize) {
        self.summary.fail(IngestError {
            line: number,
            order_id: None,
            pointer: String::new(),
            code: Cow::Borrowed(Code::TooLarge.as_str()),
            detail: format!("a line must not have more than {bytes_max} bytes"),
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

    /// What is staged, by shard; nothing is afterwards.
    pub fn take(&mut self) -> Vec<(ShardId, KeyedRows)> {
        self.staged_bytes = 0;
        let places = self.staged.iter_mut().enumerate().filter(|(_, rows)| !rows.is_empty());
        places
            .map(|(shard, rows)| (ShardId(shard as u16), std::mem::replace(rows, KeyedRows::of(Kind::Order))))
            .collect()
    }
}

#[cold]
fn told(line: u64, error: &OrderError) -> IngestError {
    let first = error.faults().first();
    IngestError {
        line,
        order_id: error.order_id().map(str::to_owned),
        pointer: first.map_or_else(String::new, |fault| fault.pointer.to_string()),
        code: Cow::Borrowed(error.code().as_str()),
        // All of them in one sentence; the pointer is the first one's.
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
        let mut decoder = Decoder::new();
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
        assert_eq!((&said["rows_received"], &said["rows_failed"]), (&json!(7), &json!(5)));
        assert_eq!((&said["rows_inserted"], &said["rows_duplicate"]), (&json!(1), &json!(1)));
        assert_eq!(said["processing_time"], json!(1.5));
        let errors = said["errors"].as_array().unwrap();
        let codes: Vec<_> = errors.iter().map(|error| error["code"].as_str().unwrap()).collect();
        assert_eq!(codes, ["conflict", "wrong_tenant", "too_many_digits", "not_json", "too_large"]);
        assert_eq!(errors[2]["pointer"], "/items/0/unit_price");
        assert_eq!(errors[2]["order_id"], "c");
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
