//! The journal record format of one request's changes to one product.

use super::mode::{STOCK_MAX, StockMode};
use crate::base::kinds::{Kind, KindRow, Placement};
use crate::base::observed::Observed;

/// The record kind of a stock event that was loaded as history or is carried into another shard.
pub const STOCK: Kind = Kind::new(7);
/// The record kind of the changes that one request makes to one product.
pub const STOCK_UPDATE: Kind = Kind::new(10);
/// The record kind of what remains of a product's deleted events, which is carried into another shard.
pub const STOCK_DROPPED: Kind = Kind::new(12);

/// The record kinds of this family.
pub(super) const KINDS: &[KindRow] = &[
    row(STOCK, "stock", "not a stock event"),
    row(STOCK_UPDATE, "stock_update", "not a change of stock"),
    row(STOCK_DROPPED, "stock_dropped", "not the deleted events of stock"),
];

const fn row(kind: Kind, name: &'static str, rejection: &'static str) -> KindRow {
    KindRow { kind, name, placement: Placement::KeyShard, is_counted: false, rejection }
}

/// A stock event from history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockRow<'a> {
    pub observed: Observed<'a>,
    pub change: StockChange,
}

/// The content of a stock event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StockChange {
    /// That many units arrived or, if negative, left.
    Delta(i64),
    /// That many units are in stock.
    Quantity(i64),
}

impl StockChange {
    /// Returns the kind and the number, as the tables store them.
    pub(super) fn parts(self) -> (&'static str, i64) {
        match self {
            StockChange::Delta(number) => ("delta", number),
            StockChange::Quantity(number) => ("quantity", number),
        }
    }

    /// Returns the change with this stored kind and number, or `None` if the kind is unknown.
    pub(super) fn from_parts(kind: &str, number: i64) -> Option<StockChange> {
        [StockChange::Delta(number), StockChange::Quantity(number)]
            .into_iter()
            .find(|change| change.parts().0 == kind)
    }
}

impl StockRow<'_> {
    /// Appends the record's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (tag, number) = match self.change {
            StockChange::Delta(number) => (b"dlt", number),
            StockChange::Quantity(number) => (b"qty", number),
        };
        self.observed.encode(number, tag, out);
    }
}

/// Decodes a payload. Returns `None` if it is not a stock event.
#[must_use]
pub fn decode_stock(payload: &[u8]) -> Option<StockRow<'_>> {
    let (observed, number, tag) = Observed::decode(payload)?;
    let change = match &tag {
        b"dlt" => StockChange::Delta(number),
        b"qty" => StockChange::Quantity(number),
        _ => return None,
    };
    Some(StockRow { observed, change })
}

const HEADER_BYTES: usize = 33;
const EVENT_BYTES: usize = 18;

/// One of a product's events. Two events with the same id are the same if all their fields and their modes are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StockEvent<'a> {
    /// When the event happened according to the client, in microseconds since 1970 UTC. Events are ordered by this
    /// time, then by their ids.
    pub occurred_us: i64,
    /// 1 to 200 bytes.
    pub event_id: &'a str,
    pub change: StockChange,
}

/// The changes that one request makes to one product, as journaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockUpdateRow<'a> {
    pub received_us: i64,
    /// The request's number. Together with the product's index in the request, it identifies the decision on this
    /// record until the decision is read. The decisions of request 0 are never read.
    pub request: i64,
    pub place: u32,
    pub mode: StockMode,
    /// The version that the change expects, in mode `reject`. No product has a version below zero.
    pub expected_version: i64,
    /// The tenant. The tenant and the product have at most 200 bytes each.
    pub tenant_id: &'a str,
    pub product_id: &'a str,
    /// The events, ordered by time and id, with distinct ids. There is at least one.
    pub events: Vec<StockEvent<'a>>,
}

/// Appends the record's payload to `out`. The events have distinct ids and may be in any order.
pub fn encode_stock_update(row: &StockUpdateRow<'_>, out: &mut Vec<u8>) {
    for number in [row.received_us, row.request, row.expected_version] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&row.place.to_le_bytes());
    out.push(row.mode.code());
    out.extend_from_slice(&(row.events.len() as u16).to_le_bytes());
    out.push(row.tenant_id.len() as u8);
    out.push(row.product_id.len() as u8);
    for event in &row.events {
        let (tag, number) = match event.change {
            StockChange::Delta(number) => (b'd', number),
            StockChange::Quantity(number) => (b'q', number),
        };
        out.extend_from_slice(&event.occurred_us.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.push(tag);
        out.push(event.event_id.len() as u8);
    }
    for text in [row.tenant_id, row.product_id] {
        out.extend_from_slice(text.as_bytes());
    }
    for event in &row.events {
        out.extend_from_slice(event.event_id.as_bytes());
    }
}

/// Decodes a payload. Returns `None` if it is not a stock update.
#[must_use]
pub fn decode_stock_update(payload: &[u8]) -> Option<StockUpdateRow<'_>> {
    let (header, rest) = payload.split_first_chunk::<HEADER_BYTES>()?;
    let (words, header) = header.split_at(24);
    let [received_us, request, expected_version] =
        [0, 1, 2].map(|at| i64::from_le_bytes(words.as_chunks::<8>().0[at]));
    let (place, header) = header.split_first_chunk::<4>()?;
    let [mode, count_low, count_high, tenant, product] = header else { return None };
    let count = usize::from(u16::from_le_bytes([*count_low, *count_high]));
    let (numbers, texts) = rest.split_at_checked(count * EVENT_BYTES)?;
    let texts = std::str::from_utf8(texts).ok()?;
    let (tenant_id, texts) = texts.split_at_checked(usize::from(*tenant))?;
    let (product_id, mut texts) = texts.split_at_checked(usize::from(*product))?;
    let mut events = Vec::with_capacity(count);
    for event in numbers.as_chunks::<EVENT_BYTES>().0 {
        let (occurred_us, event) = event.split_first_chunk::<8>()?;
        let (number, event) = event.split_first_chunk::<8>()?;
        let [tag, length] = event else { return None };
        let number = i64::from_le_bytes(*number);
        let change = match tag {
            b'd' if number.unsigned_abs() <= STOCK_MAX as u64 => StockChange::Delta(number),
            b'q' if (0..=STOCK_MAX).contains(&number) => StockChange::Quantity(number),
            _ => return None,
        };
        let event_id;
        (event_id, texts) = texts.split_at_checked(usize::from(*length))?;
        if event_id.is_empty() {
            return None;
        }
        events.push(StockEvent { occurred_us: i64::from_le_bytes(*occurred_us), event_id, change });
    }
    let is_whole = texts.is_empty() && !tenant_id.is_empty() && !product_id.is_empty() && count > 0;
    if !is_whole || has_twins(&events) {
        return None;
    }
    events.sort_unstable();
    Some(StockUpdateRow {
        received_us,
        request,
        place: u32::from_le_bytes(*place),
        mode: StockMode::from_code(*mode)?,
        expected_version,
        tenant_id,
        product_id,
        events,
    })
}

/// What remains of deleted events of a product: the level after all of them, and some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockDroppedRow<'a> {
    pub tenant_id: &'a str,
    pub product_id: &'a str,
    pub quantity: i64,
    pub version: i64,
    pub newest_us: i64,
    pub newest_event_id: &'a str,
    /// When the level's last change was accepted.
    pub updated_us: i64,
    pub events: Vec<DroppedEvent>,
}

/// What identifies an event after its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedEvent {
    /// A keyed hash of tenant, product and event id.
    pub event: i64,
    /// A keyed hash of everything that makes two events the same.
    pub content: u32,
    pub version: i64,
    /// The stock after its change.
    pub stock: i64,
}

const DROPPED_BYTES: usize = 28;

impl StockDroppedRow<'_> {
    /// Appends the record's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.quantity, self.version, self.newest_us, self.updated_us] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let texts = [self.tenant_id, self.product_id, self.newest_event_id];
        out.extend(texts.map(|text| text.len() as u8));
        texts.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
        for DroppedEvent { event, content, version, stock } in &self.events {
            out.extend_from_slice(&content.to_le_bytes());
            [event, version, stock].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        }
    }
}

/// Decodes a payload. Returns `None` if it does not describe deleted events.
#[must_use]
pub fn decode_stock_dropped(payload: &[u8]) -> Option<StockDroppedRow<'_>> {
    let (numbers, rest) = payload.split_first_chunk::<32>()?;
    let [quantity, version, newest_us, updated_us] =
        [0, 1, 2, 3].map(|at| i64::from_le_bytes(numbers.as_chunks::<8>().0[at]));
    let (lengths, mut rest) = rest.split_first_chunk::<3>()?;
    let mut text = |length: u8| {
        let (bytes, behind) = rest.split_at_checked(usize::from(length))?;
        rest = behind;
        std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
    };
    let [tenant_id, product_id, newest_event_id] = [text(lengths[0])?, text(lengths[1])?, text(lengths[2])?];
    let (events, odd) = rest.as_chunks::<DROPPED_BYTES>();
    let event = |bytes: &[u8; DROPPED_BYTES]| {
        let (content, numbers) = bytes.split_first_chunk::<4>()?;
        let [event, version, stock] = [0, 1, 2].map(|at| i64::from_le_bytes(numbers.as_chunks::<8>().0[at]));
        Some(DroppedEvent { event, content: u32::from_le_bytes(*content), version, stock })
    };
    let events = events.iter().map(event).collect::<Option<Vec<_>>>()?;
    (odd.is_empty() && version > 0).then_some(StockDroppedRow {
        tenant_id,
        product_id,
        quantity,
        version,
        newest_us,
        newest_event_id,
        updated_us,
        events,
    })
}

/// Returns `true` if two events have the same id, so that they could not both be stored.
fn has_twins(events: &[StockEvent<'_>]) -> bool {
    if events.len() < 2 {
        return false;
    }
    let mut ids: Vec<&str> = events.iter().map(|event| event.event_id).collect();
    ids.sort_unstable();
    ids.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_events_read_back_as_written_and_a_part_does_not() {
        let row = StockDroppedRow {
            tenant_id: "t",
            product_id: "pü",
            quantity: -3,
            version: 7,
            newest_us: 5,
            newest_event_id: "e",
            updated_us: 9,
            events: vec![DroppedEvent { event: -1, content: 2, version: 3, stock: 4 }; 2],
        };
        let mut bytes = Vec::new();
        row.encode(&mut bytes);
        assert_eq!(decode_stock_dropped(&bytes), Some(row));
        let whole = bytes.len();
        let parts = (0..whole).filter(|cut| (whole - cut) % DROPPED_BYTES != 0);
        assert!(parts.into_iter().all(|cut| decode_stock_dropped(&bytes[..cut]).is_none()));
    }

    #[test]
    fn a_stock_event_reads_back_as_written_and_nothing_else_does() {
        let observed =
            Observed { at_us: -1, received_us: 2, tenant_id: "t", product_id: "pü", event_id: "e" };
        for change in [StockChange::Delta(-3), StockChange::Quantity(7)] {
            let stock = StockRow { observed, change };
            let mut bytes = Vec::new();
            stock.encode(&mut bytes);
            assert_eq!(decode_stock(&bytes), Some(stock));
        }
        // A price is not a stock event.
        let mut bytes = Vec::new();
        observed.encode(1999, b"JPY", &mut bytes);
        assert_eq!(decode_stock(&bytes), None);
    }

    fn row() -> StockUpdateRow<'static> {
        let event = |occurred_us, event_id, change| StockEvent { occurred_us, event_id, change };
        StockUpdateRow {
            received_us: 5,
            request: 7,
            place: 3,
            mode: StockMode::Reject,
            expected_version: -1,
            tenant_id: "tenant_1",
            product_id: "pü",
            events: vec![
                event(-9, "e2", StockChange::Delta(-3)),
                event(1, "e1", StockChange::Quantity(STOCK_MAX)),
            ],
        }
    }

    #[test]
    fn a_change_reads_back_in_order_and_nothing_else_is_one() {
        let mut bytes = Vec::new();
        let mut shuffled = row();
        shuffled.events.reverse();
        encode_stock_update(&shuffled, &mut bytes);
        assert_eq!(decode_stock_update(&bytes), Some(row()));
        assert!((0..bytes.len()).all(|cut| decode_stock_update(&bytes[..cut]).is_none()));
        assert_eq!(decode_stock_update(&[&bytes[..], b"x"].concat()), None);
        for (at, byte) in [(28, 9), (32, 0)] {
            let mut other = bytes.clone();
            other[at] = byte;
            assert_eq!(decode_stock_update(&other), None, "{at}");
        }
        let refused = |events: Vec<StockEvent<'static>>| {
            let mut bytes = Vec::new();
            encode_stock_update(&StockUpdateRow { events, ..row() }, &mut bytes);
            decode_stock_update(&bytes).is_none()
        };
        let event = row().events[0];
        assert!(refused(vec![event, StockEvent { occurred_us: 0, ..event }]), "one id twice");
        assert!(refused(Vec::new()));
        for change in
            [StockChange::Quantity(-1), StockChange::Delta(i64::MIN), StockChange::Quantity(STOCK_MAX + 1)]
        {
            assert!(refused(vec![StockEvent { change, ..event }]), "{change:?}");
        }
    }
}
