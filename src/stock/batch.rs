//! Stock updates. A request's rows are grouped by product, each product becomes a record for its shard, and the
//! response reports each product's result.

use std::borrow::Cow;
use std::collections::HashMap;

use super::body::{StockAmount, StockFault, StockRequest, StockUpdate};
use super::mode::StockMode;
use super::read::{StockDecision, StockResult};
use super::record::{STOCK_UPDATE, StockChange, StockEvent, StockUpdateRow, encode_stock_update};
use crate::base::keys::KeyHasher;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::event::{Code, FieldError, FieldErrors};
use crate::ingest::KeyedRows;

/// The number of bytes that a record adds to its events, with some slack.
const RECORD_HEAD_BYTES_MAX: usize = 1024;

/// An error in one row. `index` counts from 0, and `pointer` is within the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockRowError {
    pub index: usize,
    pub error: FieldError,
}

/// One product in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StockProduct {
    /// The product's id, or `None` if a row does not contain it. Such a row is a separate entry.
    pub product_id: Option<String>,
    pub state: StockState,
}

/// The state of a product in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StockState {
    /// A row is invalid. This is the first error.
    Invalid(StockRowError),
    /// The product's record was sent with the rows for a shard.
    Sent { shard: u16 },
    /// The product was not accepted, for a reason on the server's side.
    Refused(&'static str),
    /// The writer has decided on the product.
    Decided(StockDecision),
    /// The product's record is in the journal, but not decided yet.
    Pending,
    /// The product's record may be in the journal, but no reply arrived.
    Unknown,
}

/// A request for stock changes, grouped by product.
#[derive(Debug)]
pub(super) struct StockBatch {
    /// The products, in the order of their first rows.
    pub products: Vec<StockProduct>,
    /// The records for each shard. A record's index is that of its product.
    pub shards: Vec<KeyedRows>,
    /// All errors in the rows.
    pub errors: Vec<StockRowError>,
}

impl StockBatch {
    /// Returns the approximate memory use of the batch and its response.
    #[must_use]
    pub(super) fn memory_bytes(&self) -> usize {
        let rows: usize = self.shards.iter().map(KeyedRows::memory_bytes).sum();
        rows + self.products.len() * (size_of::<StockProduct>() + ANSWER_BYTES)
            + self.errors.len() * size_of::<StockRowError>()
    }
}

/// The approximate size of one product in a response, in bytes, including its strings.
const ANSWER_BYTES: usize = 256;

/// One product's rows so far.
struct ProductRows<'b> {
    place: usize,
    events: Vec<StockUpdate<'b>>,
    bytes: usize,
    fault: Option<StockRowError>,
}

/// A request's tenant, number and time, and the number of shards.
#[derive(Clone, Copy, Debug)]
pub(super) struct StockRequestContext<'a> {
    pub tenant_id: &'a str,
    pub request: i64,
    pub received_us: i64,
    pub shard_count: u16,
}

impl StockBatch {
    /// Groups the rows by product. A product with an invalid row is invalid as a whole. All other products are sent.
    #[must_use]
    pub(super) fn new(
        keys: &KeyHasher,
        ask: &StockRequestContext<'_>,
        request: StockRequest<'_>,
    ) -> StockBatch {
        let mode = request.mode;
        let mut errors = Vec::new();
        let mut products: Vec<StockProduct> = Vec::new();
        let mut gathered: Vec<ProductRows<'_>> = Vec::new();
        let mut places: HashMap<Cow<'_, str>, usize> = HashMap::new();
        // Detects a product's repeated ids without a scan of its rows.
        let mut seen: HashMap<(usize, Cow<'_, str>), usize> = HashMap::new();
        for (index, row) in request.rows.into_iter().enumerate() {
            let row = match row {
                Ok(update) if update.occurred_at_us > ask.received_us.saturating_add(AHEAD_US) => {
                    let errors = FieldErrors::new(vec![AHEAD]);
                    Err(StockFault { product_id: Some(update.product_id), errors })
                }
                row => row,
            };
            let product_id = match &row {
                Ok(update) => Some(update.product_id.clone()),
                Err(fault) => fault.product_id.clone(),
            };
            let fault = |errors: &mut Vec<StockRowError>, fault: &StockFault<'_>| {
                let of_row = fault.errors.iter().map(|error| StockRowError { index, error: *error });
                errors.extend(of_row);
                fault.errors.first().map(|error| StockRowError { index, error: *error })
            };
            let Some(product_id) = product_id else {
                if let Err(row) = &row
                    && let Some(first) = fault(&mut errors, row)
                {
                    products.push(StockProduct { product_id: None, state: StockState::Invalid(first) });
                }
                continue;
            };
            let at = *places.entry(product_id.clone()).or_insert_with(|| {
                products.push(StockProduct {
                    product_id: Some(product_id.into_owned()),
                    state: StockState::Pending,
                });
                gathered.push(ProductRows {
                    place: products.len() - 1,
                    events: Vec::new(),
                    bytes: RECORD_HEAD_BYTES_MAX,
                    fault: None,
                });
                gathered.len() - 1
            });
            let product = &mut gathered[at];
            match row {
                Err(row) => {
                    let first = fault(&mut errors, &row);
                    product.fault = product.fault.or(first);
                }
                Ok(update) => match seen.get(&(at, update.event_id.clone())) {
                    Some(before) if is_same(&product.events[*before], &update) => {}
                    Some(_) => {
                        let error = StockRowError { index, error: REUSED };
                        errors.push(error);
                        product.fault = product.fault.or(Some(error));
                    }
                    None => {
                        product.bytes += 32 + update.event_id.len();
                        if product.bytes > RECORD_BYTES_MAX && product.fault.is_none() {
                            let error = StockRowError { index, error: TOO_LARGE };
                            errors.push(error);
                            product.fault = Some(error);
                        }
                        seen.insert((at, update.event_id.clone()), product.events.len());
                        product.events.push(update);
                    }
                },
            }
        }
        let mut shards: Vec<KeyedRows> = (0..ask.shard_count).map(|_| KeyedRows::of(STOCK_UPDATE)).collect();
        for product in gathered {
            let place = product.place;
            products[place].state = match product.fault {
                Some(fault) => StockState::Invalid(fault),
                None => {
                    let product_id = products[place].product_id.as_deref().unwrap_or_default();
                    let shard = keys.hash(ask.tenant_id, product_id).shard(ask.shard_count).0;
                    let row = StockUpdateRow {
                        received_us: ask.received_us,
                        request: ask.request,
                        place: place as u32,
                        mode,
                        expected_version: expected(mode, &product.events),
                        tenant_id: ask.tenant_id,
                        product_id,
                        events: product.events.iter().map(event).collect(),
                    };
                    shards[usize::from(shard)].push_record(place, |bytes| encode_stock_update(&row, bytes));
                    StockState::Sent { shard }
                }
            };
        }
        StockBatch { products, shards, errors }
    }

    /// Returns `true` if no product has to be sent.
    #[must_use]
    pub(super) fn is_invalid(&self) -> bool {
        self.shards.iter().all(KeyedRows::is_empty)
    }

    /// Returns `true` if at least one product was changed, now or before, or is not decided yet.
    #[must_use]
    pub(super) fn has_success(&self) -> bool {
        self.products.iter().any(|product| match product.state {
            StockState::Decided(decision) => {
                matches!(decision.result, StockResult::Applied | StockResult::Duplicate)
            }
            StockState::Sent { .. } | StockState::Pending => true,
            StockState::Invalid(_) | StockState::Refused(_) | StockState::Unknown => false,
        })
    }

    /// Sets the state of all products that were sent to a shard.
    pub(super) fn settle(&mut self, shard: u16, state: StockState) {
        for product in &mut self.products {
            if product.state == (StockState::Sent { shard }) {
                product.state = state;
            }
        }
    }

    /// Sets the writer's decision on the product at the index `place`.
    pub(super) fn decide(&mut self, place: usize, decision: StockDecision) {
        if let Some(product) = self.products.get_mut(place) {
            product.state = StockState::Decided(decision);
        }
    }
}

/// Returns `true` if two rows of one request are the same. Such rows count once. The expected version is compared
/// here, because in the shard it is not part of an event.
fn is_same(one: &StockUpdate<'_>, other: &StockUpdate<'_>) -> bool {
    (one.amount, one.occurred_at_us, one.expected_version)
        == (other.amount, other.occurred_at_us, other.expected_version)
}

fn event<'u>(update: &'u StockUpdate<'_>) -> StockEvent<'u> {
    let change = match update.amount {
        StockAmount::Quantity(number) => StockChange::Quantity(number),
        StockAmount::Delta(number) => StockChange::Delta(number),
    };
    StockEvent { occurred_us: update.occurred_at_us, event_id: &update.event_id, change }
}

/// Returns the version that all rows expect. If they differ, no version satisfies all rows, and the function returns
/// one that never exists.
fn expected(mode: StockMode, events: &[StockUpdate<'_>]) -> i64 {
    let mut versions = events.iter().map(|event| event.expected_version);
    match (mode, versions.next().flatten()) {
        (StockMode::Reject, Some(first)) if versions.all(|version| version == Some(first)) => first,
        _ => -1,
    }
}

const REUSED: FieldError = FieldError {
    pointer: "/event_id",
    code: Code::EventIdReused,
    detail: "another update of this product in this request has the same event_id and other content",
};
/// The maximum time by which an update may be ahead of the clock. Without this limit, an update from the far future
/// would remain the newest until that time.
const AHEAD_US: i64 = 86_400_000_000;
const AHEAD: FieldError = FieldError {
    pointer: "/occurred_at",
    code: Code::OutOfRange,
    detail: "occurred_at must be at most a day ahead of the server's clock",
};
const TOO_LARGE: FieldError = FieldError {
    pointer: "",
    code: Code::TooLarge,
    detail: "the updates of this product exceed one journal record (1 MiB): send fewer in one request",
};
const _: () = assert!(RECORD_BYTES_MAX == 1024 * 1024);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record::decode_stock_update;
    use super::*;
    use crate::api::members::Member;

    fn batch(mode: &str, updates: serde_json::Value) -> StockBatch {
        let body = json!({"mode": mode, "updates": updates}).to_string();
        let request = StockRequest::read(Member::of(body.as_bytes()).unwrap()).unwrap();
        let ask = StockRequestContext { tenant_id: "t", request: 9, received_us: 1, shard_count: 3 };
        StockBatch::new(&KeyHasher::new(&[1; 16]), &ask, request)
    }

    fn update(event: &str, product: &str, quantity: i64, version: i64) -> serde_json::Value {
        json!({"event_id": event, "product_id": product, "quantity": quantity, "expected_version": version,
               "occurred_at": "1970-01-01T00:00:01Z"})
    }

    #[test]
    fn rows_come_together_by_product_in_the_order_of_the_first() {
        let batch = batch(
            "reject",
            json!([
                update("a", "q", 1, 0),
                update("b", "p", 2, 4),
                {"event_id": "x"},
                update("c", "q", 3, 0),
                update("c", "q", 3, 0),
                update("d", "r", -1, 0),
                update("e", "p", 2, 5),
                update("f", "s", 1, 0),
                update("f", "s", 2, 0),
            ]),
        );
        let names: Vec<_> = batch.products.iter().map(|product| product.product_id.as_deref()).collect();
        assert_eq!(names, [Some("q"), Some("p"), None, Some("r"), Some("s")]);
        let mut rows: Vec<_> = batch
            .shards
            .iter()
            .flat_map(KeyedRows::rows)
            .map(|(place, payload)| (place, decode_stock_update(payload).unwrap()))
            .collect();
        rows.sort_by_key(|(place, _)| *place);
        let told: Vec<_> = rows
            .iter()
            .map(|(place, row)| {
                (*place, row.place as usize, row.product_id, row.expected_version, row.events.len())
            })
            .collect();
        assert_eq!(told, [(0, 0, "q", 0, 2), (1, 1, "p", -1, 2)]);
        let invalid: Vec<_> = batch
            .products
            .iter()
            .filter_map(|product| match product.state {
                StockState::Invalid(error) => Some((error.index, error.error.pointer, error.error.code)),
                _ => None,
            })
            .collect();
        assert_eq!(
            invalid,
            [
                (2, "/product_id", Code::MissingField),
                (5, "/quantity", Code::NegativeStock),
                (8, "/event_id", Code::EventIdReused)
            ]
        );
        assert!(!batch.is_invalid() && batch.errors.len() == 6, "{:?}", batch.errors);
    }

    #[test]
    fn an_update_from_the_far_future_is_refused_and_pins_no_level() {
        let at =
            |time: &str| json!({"event_id": time, "product_id": time, "quantity": 1, "occurred_at": time});
        // The clock is 1 us past the start of 1970.
        let times = ["1970-01-02T00:00:00.000001Z", "1970-01-02T00:00:00.000002Z", "2099-01-01T00:00:00Z"];
        let batch = batch("last_write_wins", json!(times.map(at)));
        let wrong: Vec<_> =
            batch.errors.iter().map(|row| (row.index, row.error.pointer, row.error.code)).collect();
        assert_eq!(wrong, [(1, "/occurred_at", Code::OutOfRange), (2, "/occurred_at", Code::OutOfRange)]);
        assert_eq!(batch.shards.iter().map(KeyedRows::len).sum::<usize>(), 1);
    }

    #[test]
    fn a_product_of_more_than_a_record_is_told_so() {
        let rows = |length: usize| -> Vec<_> {
            (0..10_000).map(|n| update(&format!("{n:0length$}"), "p", 1, 0)).collect()
        };
        assert!(!batch("last_write_wins", json!(rows(64))).is_invalid());
        let batch = batch("last_write_wins", json!(rows(150)));
        assert!(batch.is_invalid());
        assert_eq!(batch.errors.len(), 1);
        assert_eq!(batch.errors[0].error.code, Code::TooLarge);
    }
}
