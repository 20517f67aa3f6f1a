//! The rows of a segment: a head, and one row a column.

use super::column::{ColumnError, seal, unseal};
use crate::base::money::Currency;
use crate::shard::ShardError;

/// The maximum number of orders of a segment. A question reads a segment in one go, which takes about a millisecond.
pub(super) const SEGMENT_ORDERS: i64 = if cfg!(test) { 4 } else { 16_384 };
/// The number of orders of which the open partition's segments have a multiple. Fewer are in none.
pub(super) const SMALL_ORDERS: i64 = if cfg!(test) { 2 } else { 1_024 };
/// The maximum number of items of a segment, unless it has one order only.
pub(super) const SEGMENT_ITEMS: usize = if cfg!(test) { 7 } else { 65_536 };

/// The row ids of a segment begin at the id of its first order times this number.
const FIELDS: i64 = 16;
/// The version of the head's bytes, and of the meaning of the columns.
const VERSION: u8 = 1;

/// A row of a segment. The numbers are stored and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Field {
    Head = 0,
    Time = 1,
    Status = 2,
    Tenant = 3,
    /// A place in the head's list.
    Currency = 4,
    Total = 5,
    Units = 6,
    /// The hash of the customer, in eight bytes; 0 if the order is gone.
    Customer = 7,
    /// The number of items of the order.
    Items = 8,
    Product = 9,
    Quantity = 10,
    UnitPrice = 11,
}

impl Field {
    /// The columns of orders, and then those of items.
    pub(super) const ORDERS: [Field; 8] = [
        Field::Time,
        Field::Status,
        Field::Tenant,
        Field::Currency,
        Field::Total,
        Field::Units,
        Field::Customer,
        Field::Items,
    ];
    pub(super) const ITEMS: [Field; 3] = [Field::Product, Field::Quantity, Field::UnitPrice];
    /// What a question by product reads, in ascending order.
    pub(super) const OF_PRODUCTS: [Field; 8] = [
        Field::Time,
        Field::Status,
        Field::Tenant,
        Field::Currency,
        Field::Items,
        Field::Product,
        Field::Quantity,
        Field::UnitPrice,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Field::Head => "head",
            Field::Time => "time",
            Field::Status => "status",
            Field::Tenant => "tenant",
            Field::Currency => "currency",
            Field::Total => "total",
            Field::Units => "units",
            Field::Customer => "customer",
            Field::Items => "items",
            Field::Product => "product",
            Field::Quantity => "quantity",
            Field::UnitPrice => "unit price",
        }
    }

    /// Returns the id of this field's row, in the segment of orders from `first_id` on.
    pub(super) const fn row_id(self, first_id: i64) -> i64 {
        first_id * FIELDS + self as i64
    }

    /// Returns the error of this field of a segment, with its place in the file.
    pub(super) fn damaged(self, first_id: i64, error: ColumnError) -> ShardError {
        let (row, name) = (self.row_id(first_id), self.name());
        ShardError::Corrupt(format!(
            "sales_segment {row}: column {name} of the orders from {first_id} on: {error}"
        ))
    }
}

/// Returns the row ids of all segments that begin with one of the orders `[first, end)`. The end is exclusive.
pub(super) const fn row_ids(first_id: i64, end_id: i64) -> [i64; 2] {
    [first_id * FIELDS, end_id * FIELDS]
}

/// Returns the first order of the segment that a row belongs to.
pub(super) const fn first_id_of(row_id: i64) -> i64 {
    row_id.div_euclid(FIELDS)
}

/// A segment: consecutive orders of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    pub first_id: i64,
    /// The number of ids. Orders that were deleted before are among them.
    pub orders: usize,
    pub items: usize,
    /// The earliest and the latest time of an order, or `None` if all were deleted.
    pub times_us: Option<(i64, i64)>,
    /// The currencies of the orders.
    pub currencies: Vec<Currency>,
}

impl SegmentHead {
    /// Returns the id after the last order.
    #[must_use]
    pub fn end_id(&self) -> i64 {
        self.first_id + self.orders as i64
    }

    /// Returns `true` if an order may be in the range.
    #[must_use]
    pub fn overlaps(&self, (from_us, to_us): (i64, i64)) -> bool {
        self.times_us.is_some_and(|(low, high)| low < to_us && high >= from_us)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let (low, high) = self.times_us.unwrap_or((i64::MAX, i64::MIN));
        let mut content = vec![VERSION];
        content.extend_from_slice(&(self.orders as u32).to_le_bytes());
        content.extend_from_slice(&(self.items as u32).to_le_bytes());
        content.extend_from_slice(&low.to_le_bytes());
        content.extend_from_slice(&high.to_le_bytes());
        content.extend(self.currencies.iter().flat_map(|currency| currency.as_str().bytes()));
        seal(Field::Head.row_id(self.first_id), &content)
    }

    pub(super) fn decode(first_id: i64, bytes: &[u8]) -> Result<SegmentHead, ShardError> {
        let content = unseal(Field::Head.row_id(first_id), bytes);
        let head = content.and_then(|content| parse(first_id, content).ok_or(ColumnError::Header));
        head.map_err(|error| Field::Head.damaged(first_id, error))
    }
}

fn parse(first_id: i64, content: &[u8]) -> Option<SegmentHead> {
    let (version, rest) = content.split_first()?;
    let (orders, rest) = rest.split_first_chunk::<4>()?;
    let (items, rest) = rest.split_first_chunk::<4>()?;
    let (low, rest) = rest.split_first_chunk::<8>()?;
    let (high, codes) = rest.split_first_chunk::<8>()?;
    let (low, high) = (i64::from_le_bytes(*low), i64::from_le_bytes(*high));
    let (codes, left) = codes.as_chunks::<3>();
    let code = |code: &[u8; 3]| Currency::parse(str::from_utf8(code).ok()?);
    let currencies = codes.iter().map(code).collect::<Option<Vec<Currency>>>()?;
    let orders = u32::from_le_bytes(*orders) as usize;
    let is_valid = *version == VERSION && orders > 0 && left.is_empty();
    is_valid.then_some(SegmentHead {
        first_id,
        orders,
        items: u32::from_le_bytes(*items) as usize,
        times_us: (low <= high).then_some((low, high)),
        currencies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_every_changed_bit_is_noticed() {
        let currencies = ["USD", "JPY"].map(|code| Currency::parse(code).unwrap()).to_vec();
        let full = SegmentHead { first_id: 17, orders: 9, items: 30, times_us: Some((-5, 7)), currencies };
        let empty = SegmentHead { items: 0, times_us: None, currencies: Vec::new(), ..full.clone() };
        for head in [full, empty] {
            let bytes = head.encode();
            assert_eq!(SegmentHead::decode(17, &bytes).unwrap(), head);
            assert_eq!((head.end_id(), head.overlaps((7, 8))), (26, head.times_us.is_some()));
            assert!(!head.overlaps((8, 9)) && !head.overlaps((-9, -5)));
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let error = SegmentHead::decode(17, &damaged).unwrap_err().to_string();
                assert!(error.contains("sales_segment 272: column head of the orders from 17 on"), "{error}");
            }
            assert!(SegmentHead::decode(18, &bytes).is_err());
            for end in 0..bytes.len() {
                assert!(SegmentHead::decode(17, &bytes[..end]).is_err());
            }
        }
        let sealed = |content: &[u8]| SegmentHead::decode(1, &seal(16, content));
        assert!(sealed(&[1; 25]).is_ok(), "without a currency");
        assert!(sealed(&[2; 25]).is_err(), "another version");
        assert!(sealed(&[1; 26]).is_err() && sealed(&[1; 28]).is_err(), "no currency");
        assert!(sealed(&[[1, 0, 0, 0, 0].as_slice(), &[1; 20]].concat()).is_err(), "no orders");
    }

    #[test]
    fn row_ids_belong_to_one_segment() {
        for field in [&[Field::Head][..], &Field::ORDERS, &Field::ITEMS].concat() {
            assert_eq!(first_id_of(field.row_id(5)), 5);
            let [first, end] = row_ids(5, 6);
            assert!((first..end).contains(&field.row_id(5)) && !field.name().is_empty());
        }
    }
}
