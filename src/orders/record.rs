//! The journal record format of an order, a status change and a finished ingest.

use super::status::OrderStatus;
use super::sums_by::SumsBy;
use crate::base::kinds::{Kind, KindRow, Placement};
use crate::base::limits::ORDER_ITEMS_MAX;
use crate::base::money::Currency;

/// The record kind of an order with its items.
pub const ORDER: Kind = Kind::new(3);
/// The record kind of a status change.
pub const ORDER_STATUS: Kind = Kind::new(4);
/// The record kind of a finished ingest. It stores the response for the ingest's idempotency key.
pub const INGEST: Kind = Kind::new(5);
/// The record kind of a sum of dropped orders, which is carried into another shard.
pub const SALES_DROPPED: Kind = Kind::new(13);

/// The record kinds of this family.
pub(super) const KINDS: &[KindRow] = &[
    row(ORDER, "order", true, "not an order"),
    row(ORDER_STATUS, "order_status", false, "not a status of an order"),
    row(INGEST, "ingest", false, "not a finished ingest"),
    row(SALES_DROPPED, "sales_dropped", false, "not a sum of dropped orders"),
];

const fn row(kind: Kind, name: &'static str, is_counted: bool, rejection: &'static str) -> KindRow {
    KindRow { kind, name, placement: Placement::KeyShard, is_counted, rejection }
}

pub const ITEM_IDS: i64 = 1_024;

/// One order, borrowed from its record. Its strings satisfy the field rules for orders: identifiers of at most 200
/// bytes, a name of at most 200, an e-mail address of at most 320, no control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRow<'a> {
    /// The ingest that the order arrived in. A repeated ingest recognises its own orders by this id and their line
    /// numbers.
    pub ingest: i64,
    pub line: i64,
    /// The time when the order was accepted, in microseconds since 1970 UTC, like all times.
    pub received_us: i64,
    pub tenant_id: &'a str,
    pub order_id: &'a str,
    pub customer_id: &'a str,
    pub customer_name: &'a str,
    pub customer_email: &'a str,
    pub status: OrderStatus,
    pub currency: Currency,
    pub ordered_at_us: i64,
    /// The sum of the items, in minor units.
    pub total: i64,
    /// The sum of the quantities.
    pub units: i64,
    items: Items<'a>,
    /// The bytes that are equal for two equal orders: all except the ingest, the line and the time of acceptance.
    pub content: &'a [u8],
}

/// An order's items, not yet parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Items<'a> {
    count: u16,
    bytes: &'a str,
    /// For each item, its quantity and price (16 bytes), then the lengths of its strings (2 bytes).
    numbers: &'a [u8],
}

/// One line of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemRow<'a> {
    pub product_id: &'a str,
    pub category: &'a str,
    pub quantity: i64,
    /// The price of one unit, in minor units.
    pub unit_price: i64,
}

const NUMBERS_BYTES: usize = 18;

/// The parts of an order, as [`encode_order`] writes them.
#[derive(Clone, Copy, Debug)]
pub struct OrderParts<'a> {
    pub tenant_id: &'a str,
    pub order_id: &'a str,
    pub customer_id: &'a str,
    pub customer_name: &'a str,
    pub customer_email: &'a str,
    pub status: OrderStatus,
    pub currency: Currency,
    pub ordered_at_us: i64,
}

/// Appends the record's payload to `out`. The caller passes at most [`ORDER_ITEMS_MAX`] items, and strings that
/// satisfy their rules.
pub fn encode_order<'i>(
    order: &OrderParts<'_>,
    (ingest, line, received_us): (i64, i64, i64),
    items: impl Iterator<Item = ItemRow<'i>> + Clone,
    out: &mut Vec<u8>,
) {
    for number in [ingest, line, received_us, order.ordered_at_us] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.push(order.status as u8);
    out.extend_from_slice(order.currency.as_str().as_bytes());
    out.extend_from_slice(&(items.clone().count() as u16).to_le_bytes());
    let texts =
        [order.tenant_id, order.order_id, order.customer_id, order.customer_name, order.customer_email];
    for text in texts {
        out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    }
    for item in items.clone() {
        out.extend_from_slice(&item.quantity.to_le_bytes());
        out.extend_from_slice(&item.unit_price.to_le_bytes());
        out.push(item.product_id.len() as u8);
        out.push(item.category.len() as u8);
    }
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
    for item in items {
        out.extend_from_slice(item.product_id.as_bytes());
        out.extend_from_slice(item.category.as_bytes());
    }
}

/// A sum of dropped orders, or a day whose sums are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedSumRow<'a> {
    /// `None` for a day whose sums are deleted.
    pub by: Option<SumsBy>,
    pub start_us: i64,
    /// Orders, units and revenue.
    pub counts: [i64; 3],
    pub tenant_id: &'a str,
    pub currency: Currency,
    /// Empty unless the sums are by product.
    pub product_id: &'a str,
    /// Empty unless the sums are by category or product.
    pub category: &'a str,
    /// The encoded sketches.
    pub customers: &'a [u8],
    pub order_value: &'a [u8],
}

impl DroppedSumRow<'_> {
    /// Appends the record's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let [orders, units, revenue] = self.counts;
        for number in [self.start_us, orders, units, revenue] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let by = self.by.and_then(|by| SumsBy::ALL.iter().position(|known| *known == by));
        out.push(by.map_or(u8::MAX, |by| by as u8));
        out.extend_from_slice(&(self.customers.len() as u32).to_le_bytes());
        let texts = [self.tenant_id, self.currency.as_str(), self.product_id, self.category];
        out.extend(texts.map(|text| text.len() as u8));
        texts.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
        out.extend_from_slice(self.customers);
        out.extend_from_slice(self.order_value);
    }
}

/// Decodes a payload. Returns `None` if it is not a sum of dropped orders.
#[must_use]
pub fn decode_dropped_sum(payload: &[u8]) -> Option<DroppedSumRow<'_>> {
    let (numbers, rest) = payload.split_first_chunk::<32>()?;
    let [start_us, orders, units, revenue] =
        [0, 1, 2, 3].map(|at| i64::from_le_bytes(numbers.as_chunks::<8>().0[at]));
    let ([by], rest) = rest.split_first_chunk::<1>()?;
    let by = match *by {
        u8::MAX => None,
        by => Some(*SumsBy::ALL.get(usize::from(by))?),
    };
    let (customers, rest) = rest.split_first_chunk::<4>()?;
    let (lengths, mut rest) = rest.split_first_chunk::<4>()?;
    let mut text = |length: u8| {
        let (bytes, behind) = rest.split_at_checked(usize::from(length))?;
        rest = behind;
        std::str::from_utf8(bytes).ok()
    };
    let [tenant_id, currency, product_id, category] =
        [text(lengths[0])?, text(lengths[1])?, text(lengths[2])?, text(lengths[3])?];
    let (customers, order_value) = rest.split_at_checked(u32::from_le_bytes(*customers) as usize)?;
    let is_named = match by {
        Some(SumsBy::Product) => !product_id.is_empty() && !category.is_empty(),
        Some(SumsBy::Category) => product_id.is_empty() && !category.is_empty(),
        _ => product_id.is_empty() && category.is_empty(),
    };
    let has_sketches = by.is_some_and(|by| SumsBy::WITH_SKETCHES.contains(&by));
    let is_whole = has_sketches != (customers.is_empty() && order_value.is_empty());
    (is_named && is_whole && !tenant_id.is_empty()).then_some(DroppedSumRow {
        by,
        start_us,
        counts: [orders, units, revenue],
        tenant_id,
        currency: Currency::parse(currency)?,
        product_id,
        category,
        customers,
        order_value,
    })
}

/// Decodes an order. Returns `None` if the payload is not an order, or if its total does not fit into 64 bits.
#[must_use]
pub fn decode_order(payload: &[u8]) -> Option<OrderRow<'_>> {
    let (ingest, rest) = number(payload)?;
    let (line, rest) = number(rest)?;
    let (received_us, content) = number(rest)?;
    let (ordered_at_us, rest) = number(content)?;
    let (status, rest) = rest.split_first()?;
    let (currency, rest) = rest.split_at_checked(3)?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let (lengths, rest) = rest.split_first_chunk::<10>()?;
    let count = u16::from_le_bytes(*count);
    if usize::from(count) > ORDER_ITEMS_MAX {
        return None;
    }
    let (numbers, texts) = rest.split_at_checked(usize::from(count) * NUMBERS_BYTES)?;
    let mut texts = std::str::from_utf8(texts).ok()?;
    let mut names = [""; 5];
    for (name, length) in names.iter_mut().zip(lengths.as_chunks::<2>().0) {
        (*name, texts) = texts.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    }
    let [tenant_id, order_id, customer_id, customer_name, customer_email] = names;
    if [tenant_id, order_id, customer_id].iter().any(|name| name.is_empty()) {
        return None;
    }
    let items = Items { count, bytes: texts, numbers };
    let (mut total, mut units, mut taken) = (0_i64, 0_i64, 0);
    for item in items.iter() {
        total = total.checked_add(item.quantity.checked_mul(item.unit_price)?)?;
        units = units.checked_add(item.quantity)?;
        taken += 1;
    }
    // An item whose strings are truncated ends the iteration early.
    if taken != count {
        return None;
    }
    Some(OrderRow {
        ingest,
        line,
        received_us,
        tenant_id,
        order_id,
        customer_id,
        customer_name,
        customer_email,
        status: OrderStatus::from_code(*status)?,
        currency: Currency::parse(std::str::from_utf8(currency).ok()?)?,
        ordered_at_us,
        total,
        units,
        items,
        content,
    })
}

fn number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((i64::from_le_bytes(*number), rest))
}

impl<'a> Items<'a> {
    fn iter(self) -> impl Iterator<Item = ItemRow<'a>> + Clone {
        let mut texts = self.bytes;
        let (numbers, _) = self.numbers.as_chunks::<NUMBERS_BYTES>();
        numbers.iter().map_while(move |numbers| {
            let (quantity, rest) = number(numbers)?;
            let (unit_price, lengths) = number(rest)?;
            let (product_id, rest) = texts.split_at_checked(usize::from(*lengths.first()?))?;
            let (category, rest) = rest.split_at_checked(usize::from(*lengths.get(1)?))?;
            texts = rest;
            Some(ItemRow { product_id, category, quantity, unit_price })
        })
    }
}

impl<'a> OrderRow<'a> {
    #[must_use]
    pub fn item_count(&self) -> usize {
        usize::from(self.items.count)
    }

    pub fn items(&self) -> impl Iterator<Item = ItemRow<'a>> + Clone {
        self.items.iter()
    }
}

/// A status change of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRow<'a> {
    pub received_us: i64,
    /// The time of the status change. It is [`StatusRow::UNKNOWN_US`] if the time is no longer known.
    pub occurred_us: i64,
    pub status: OrderStatus,
    pub tenant_id: &'a str,
    pub order_id: &'a str,
}

/// A flag in the status byte. If set, the time of the change follows, because it differs from the time of receipt.
const HAS_OCCURRED: u8 = 0x80;

impl StatusRow<'_> {
    /// A time earlier than any other, so that every later change is newer.
    pub const UNKNOWN_US: i64 = i64::MIN;

    /// Appends the record's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.received_us.to_le_bytes());
        if self.occurred_us == self.received_us {
            out.push(self.status as u8);
        } else {
            out.push(self.status as u8 | HAS_OCCURRED);
            out.extend_from_slice(&self.occurred_us.to_le_bytes());
        }
        out.push(self.tenant_id.len() as u8);
        out.extend_from_slice(self.tenant_id.as_bytes());
        out.extend_from_slice(self.order_id.as_bytes());
    }
}

/// Decodes a status change. Returns `None` if the payload is not one.
#[must_use]
pub fn decode_status(payload: &[u8]) -> Option<StatusRow<'_>> {
    let (received_us, rest) = number(payload)?;
    let (status, rest) = rest.split_first()?;
    let (occurred_us, rest) = match status & HAS_OCCURRED {
        0 => (received_us, rest),
        _ => number(rest)?,
    };
    let (length, rest) = rest.split_first()?;
    let texts = std::str::from_utf8(rest).ok()?;
    let (tenant_id, order_id) = texts.split_at_checked(usize::from(*length))?;
    let is_named = !tenant_id.is_empty() && !order_id.is_empty();
    let status = OrderStatus::from_code(*status & !HAS_OCCURRED)?;
    is_named.then_some(StatusRow { received_us, occurred_us, status, tenant_id, order_id })
}

/// A finished ingest: its content fingerprint and its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestRow<'a> {
    pub finished_us: i64,
    /// The time when the key expires.
    pub expires_us: i64,
    /// The key's owner: a tenant, or `*` for a key of all tenants.
    pub scope: &'a str,
    /// The idempotency key.
    pub key: &'a str,
    pub fingerprint: &'a [u8; 32],
    /// The response as JSON.
    pub response: &'a str,
}

impl IngestRow<'_> {
    /// Appends the record's payload to `out`. The scope and the key have at most 255 bytes each.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.finished_us.to_le_bytes());
        out.extend_from_slice(&self.expires_us.to_le_bytes());
        out.extend_from_slice(self.fingerprint);
        out.push(self.scope.len() as u8);
        out.push(self.key.len() as u8);
        for text in [self.scope, self.key, self.response] {
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Decodes a finished ingest. Returns `None` if the payload is not one.
#[must_use]
pub fn decode_ingest(payload: &[u8]) -> Option<IngestRow<'_>> {
    let (finished_us, rest) = number(payload)?;
    let (expires_us, rest) = number(rest)?;
    let (fingerprint, rest) = rest.split_first_chunk::<32>()?;
    let ([scope, key], rest) = rest.split_first_chunk::<2>()?;
    let texts = std::str::from_utf8(rest).ok()?;
    let (scope, texts) = texts.split_at_checked(usize::from(*scope))?;
    let (key, response) = texts.split_at_checked(usize::from(*key))?;
    Some(IngestRow { finished_us, expires_us, scope, key, fingerprint, response })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> OrderParts<'static> {
        OrderParts {
            tenant_id: "tenant_1",
            order_id: "ord-ü",
            customer_id: "c1",
            customer_name: "",
            customer_email: "a@b.c",
            status: OrderStatus::Paid,
            currency: Currency::parse("USD").unwrap(),
            ordered_at_us: -7,
        }
    }

    fn items() -> [ItemRow<'static>; 2] {
        let item = |product_id, quantity| ItemRow { product_id, category: "x", quantity, unit_price: 1999 };
        [item("p", 2), item("pé", 1)]
    }

    #[test]
    fn an_order_reads_back_as_written_and_nothing_else_is_one() {
        let mut bytes = Vec::new();
        encode_order(&parts(), (5, 6, 7), items().into_iter(), &mut bytes);
        let row = decode_order(&bytes).unwrap();
        assert_eq!((row.ingest, row.line, row.received_us, row.ordered_at_us), (5, 6, 7, -7));
        assert_eq!((row.order_id, row.customer_name, row.customer_email), ("ord-ü", "", "a@b.c"));
        assert_eq!((row.total, row.units, row.item_count()), (3 * 1999, 3, 2));
        assert!(row.items().eq(items()));
        for cut in 0..bytes.len() {
            let is_order = decode_order(&bytes[..cut]).is_some();
            assert!(!is_order, "{cut}");
        }
        // The same order from another ingest has the same content.
        let mut other = Vec::new();
        encode_order(&parts(), (0, 0, 0), items().into_iter(), &mut other);
        assert_eq!(decode_order(&other).unwrap().content, row.content);
        // A total beyond 64 bits.
        let huge = [ItemRow { quantity: i64::MAX, ..items()[0] }];
        let mut bytes = Vec::new();
        encode_order(&parts(), (0, 0, 0), huge.into_iter(), &mut bytes);
        assert_eq!(decode_order(&bytes), None);
    }

    #[test]
    fn a_status_and_an_ingest_read_back_as_written() {
        for (occurred_us, length) in [(1, 12), (-7, 20), (StatusRow::UNKNOWN_US, 20)] {
            let status = StatusRow {
                received_us: 1,
                occurred_us,
                status: OrderStatus::Refunded,
                tenant_id: "t",
                order_id: "o",
            };
            let mut bytes = Vec::new();
            status.encode(&mut bytes);
            assert_eq!((decode_status(&bytes), bytes.len()), (Some(status), length));
            assert_eq!(decode_status(&bytes[..10]), None);
        }
        let ingest = IngestRow {
            finished_us: 1,
            expires_us: 2,
            scope: "*",
            key: "k",
            fingerprint: &[7; 32],
            response: "{}",
        };
        let mut bytes = Vec::new();
        ingest.encode(&mut bytes);
        assert_eq!(decode_ingest(&bytes), Some(ingest));
        assert_eq!(decode_ingest(&bytes[..50]), None);
    }
}
