//! Sales in the order in which they were read: the customer and the total of each order once, and a few bytes for each of
//! its parts. A histogram of the parts is kept, so that they can be scattered by name into one array afterwards, instead
//! of growing a list for each of many names.

use std::collections::HashMap;

use super::groups::GroupKey;
use crate::base::money::Currency;

/// The number of orders of a chunk, and of words of parts. Chunks are never moved.
pub(in super::super) const CHUNK: usize = if cfg!(test) { 8 } else { 1 << 16 };
/// Set in the first word of an order's first part.
const FIRST: u16 = 1 << 15;
/// The word of a part whose group does not fit into 15 bits. Two words with the group follow.
const WIDE: u16 = FIRST - 1;
/// Groups from here on are wide.
const WIDE_FROM: u32 = if cfg!(test) { 5 } else { WIDE as u32 };
/// A total that does not fit into 32 bits is elsewhere.
pub(in super::super) const LARGE: u32 = u32::MAX;

/// One order. Its twelve bytes need no padding.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct LoggedOrder {
    /// The lower and the upper half.
    customer: [u32; 2],
    total: u32,
}

impl LoggedOrder {
    #[inline]
    pub(in super::super) fn customer(self) -> u64 {
        u64::from(self.customer[0]) | u64::from(self.customer[1]) << 32
    }

    /// Returns the total, or [`LARGE`] if it is among the large ones.
    #[inline]
    pub(in super::super) fn total(self) -> u32 {
        self.total
    }
}

/// What is added up of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct PartSum {
    pub(in super::super) orders: u32,
    pub(in super::super) units: i128,
    pub(in super::super) revenue: i128,
}

/// The sales of one shard. A group is a name in one currency.
#[derive(Debug, Default)]
pub(in super::super) struct SaleLog {
    /// For each currency, the place of each name's sum plus one, or 0 if the name has none yet.
    places: Vec<(Currency, Vec<u32>)>,
    pub(in super::super) sums: Vec<(GroupKey, PartSum)>,
    /// All chunks but the last one are full.
    pub(in super::super) orders: Vec<Vec<LoggedOrder>>,
    /// The totals that do not fit into an order, by the number of the order.
    pub(in super::super) large: HashMap<u32, i64>,
    /// Each part is the place of its sum. It is in one chunk.
    pub(in super::super) parts: Vec<Vec<u16>>,
    /// The number of parts.
    pub(in super::super) rows: u64,
}

impl SaleLog {
    /// Returns the memory of the log and of the array that its parts will be scattered to.
    pub(in super::super) fn bytes(&self) -> usize {
        self.orders.len() * CHUNK * size_of::<LoggedOrder>()
            + self.parts.len() * CHUNK * size_of::<u16>()
            + self.rows as usize * size_of::<u32>()
            + self.sums.capacity() * size_of::<(GroupKey, PartSum)>()
            + self.large.capacity() * 2 * size_of::<(u32, i64)>()
    }

    /// Returns the place of a currency, for [`SaleLog::push`].
    pub(super) fn currency(&mut self, currency: Currency) -> usize {
        match self.places.iter().position(|(known, _)| *known == currency) {
            Some(place) => place,
            None => {
                self.places.push((currency, Vec::new()));
                self.places.len() - 1
            }
        }
    }

    /// Adds an order with its parts: name, units and revenue. At least one part is required. Takes about 5 ns a part.
    #[inline]
    pub(super) fn push(&mut self, currency: usize, (customer, total): (u64, i64), parts: &[(u32, i64, i64)]) {
        self.push_order(customer, total);
        let mut first = FIRST;
        for (name, units, revenue) in parts {
            let place = match self.places[currency].1.get(*name as usize) {
                Some(place) if *place > 0 => *place - 1,
                _ => self.sum(currency, *name),
            };
            let sum = &mut self.sums[place as usize].1;
            sum.orders += 1;
            sum.units += i128::from(*units);
            sum.revenue += i128::from(*revenue);
            self.push_part(place, first);
            first = 0;
        }
        self.rows += parts.len() as u64;
    }

    #[inline]
    fn push_order(&mut self, customer: u64, total: i64) {
        let total = match u32::try_from(total) {
            Ok(total) if total != LARGE => total,
            _ => {
                let number = self.orders.len().saturating_sub(1) * CHUNK;
                let number = number + self.orders.last().map_or(0, Vec::len);
                self.large.insert(number as u32, total);
                LARGE
            }
        };
        let order = LoggedOrder { customer: [customer as u32, (customer >> 32) as u32], total };
        match self.orders.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push(order),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(order);
                self.orders.push(chunk);
            }
        }
    }

    #[inline]
    fn push_part(&mut self, place: u32, first: u16) {
        const WORDS_MAX: usize = 3;
        if self.parts.last().is_none_or(|chunk| chunk.len() + WORDS_MAX > CHUNK) {
            self.parts.push(Vec::with_capacity(CHUNK));
        }
        let Some(chunk) = self.parts.last_mut() else { return };
        if place < WIDE_FROM {
            chunk.push(place as u16 | first);
        } else {
            chunk.extend_from_slice(&[WIDE | first, place as u16, (place >> 16) as u16]);
        }
    }

    /// Returns the place of a new sum.
    #[cold]
    fn sum(&mut self, currency: usize, name: u32) -> u32 {
        let (currency, places) = &mut self.places[currency];
        let at = name as usize;
        if at >= places.len() {
            places.resize((at + 1).max(places.len() * 2), 0);
        }
        self.sums.push(((name, *currency), PartSum::default()));
        places[at] = self.sums.len() as u32;
        places[at] - 1
    }
}

/// Calls `each` with the place of the sum of every part of a chunk, and `true` if the part is the first of its order.
#[inline]
pub(in super::super) fn each_part(chunk: &[u16], mut each: impl FnMut(u32, bool)) {
    let mut words = chunk.iter();
    while let Some(word) = words.next() {
        let place = match word & !FIRST {
            WIDE => {
                let mut half = || u32::from(words.next().copied().unwrap_or_default());
                half() | half() << 16
            }
            place => u32::from(place),
        };
        each(place, word & FIRST != 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn orders_and_parts_are_read_as_they_were_logged(
            logged in prop::collection::vec(
                (
                    any::<u64>(),
                    prop_oneof![0..9_i64, Just(i64::from(LARGE) - 1), Just(i64::from(LARGE)), 0..i64::MAX],
                    0..2_usize,
                    prop::collection::vec((prop_oneof![0..9_u32, 70_000..70_003_u32], 1..9_i64, 0..9_i64), 1..5),
                ),
                0..60,
            ),
        ) {
            let currencies = ["USD", "JPY"].map(|code| Currency::parse(code).unwrap());
            let mut log = SaleLog::default();
            for (customer, total, currency, parts) in &logged {
                let place = log.currency(currencies[*currency]);
                log.push(place, (*customer, *total), parts);
            }
            let mut found: Vec<(u64, i64, Vec<GroupKey>)> = Vec::new();
            for (number, order) in log.orders.iter().flatten().enumerate() {
                let total = match order.total() {
                    LARGE => log.large[&(number as u32)],
                    total => i64::from(total),
                };
                found.push((order.customer(), total, Vec::new()));
            }
            let mut next = 0;
            for chunk in &log.parts {
                prop_assert!(chunk.len() <= CHUNK);
                each_part(chunk, |place, is_first| {
                    next += usize::from(is_first);
                    found[next - 1].2.push(log.sums[place as usize].0);
                });
            }
            let mut sums = HashMap::<GroupKey, (u32, i128, i128)>::new();
            let mut expected = Vec::new();
            for (customer, total, currency, parts) in &logged {
                let keys = parts.iter().map(|(name, units, revenue)| {
                    let key = (*name, currencies[*currency]);
                    let sum = sums.entry(key).or_default();
                    *sum = (sum.0 + 1, sum.1 + i128::from(*units), sum.2 + i128::from(*revenue));
                    key
                });
                expected.push((*customer, *total, keys.collect()));
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(log.rows as usize, logged.iter().map(|(.., parts)| parts.len()).sum::<usize>());
            let of_log = log.sums.iter().map(|(key, sum)| (*key, (sum.orders, sum.units, sum.revenue)));
            prop_assert_eq!(of_log.collect::<HashMap<_, _>>(), sums);
        }
    }
}
