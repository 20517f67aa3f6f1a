//! Sales by product: the customer and the total of each order once, and a few bytes for each of its parts, in one of
//! some buckets of names. A bucket can be divided by name in the CPU's cache afterwards, instead of growing a list for
//! each of many names.

use std::collections::HashMap;

use super::groups::{GroupKey, place_of};
use super::names::NameTable;
use crate::base::money::Currency;
use crate::shard::ShardError;

/// The number of buckets. Ten million parts of 20,000 names leave 78,000 parts of 160 names in one.
pub(in super::super) const BUCKETS: usize = if cfg!(test) { 3 } else { 128 };
/// The number of parts of a chunk, and of orders. Chunks are never moved.
const PARTS_CHUNK: usize = if cfg!(test) { 8 } else { 1 << 10 };
const ORDERS_CHUNK: usize = if cfg!(test) { 8 } else { 1 << 14 };
/// A total that does not fit into 32 bits is elsewhere.
pub(in super::super) const LARGE: u32 = u32::MAX;

/// The memory of a scattered part: its customer and its total.
const SCATTERED_BYTES: usize = size_of::<u64>() + size_of::<u32>();
/// The memory of a log that cannot be continued.
pub(super) const MORE_THAN_ANY_LIMIT: usize = 1 << 40;

/// A product that was not seen in a currency.
const UNSEEN: u32 = u32::MAX;
/// A product whose name is not in this part of the names.
const LEFT_OUT: u32 = u32::MAX - 1;

/// One order. Its twelve bytes need no padding.
#[derive(Clone, Copy, Debug)]
struct LoggedOrder {
    customer: [u8; 8],
    total: [u8; 4],
}

/// The part of an order that counts for one name. Its six bytes need no padding.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct LoggedPart {
    order: [u8; 4],
    /// The number of its sum in the bucket.
    of: [u8; 2],
}

impl LoggedPart {
    /// Returns the number of the order.
    #[inline]
    pub(in super::super) fn order(self) -> u32 {
        u32::from_ne_bytes(self.order)
    }

    #[inline]
    pub(in super::super) fn of(self) -> usize {
        usize::from(u16::from_ne_bytes(self.of))
    }
}

/// The orders of one shard. Chunks are full, except the last one.
#[derive(Debug, Default)]
pub(in super::super) struct LoggedOrders {
    chunks: Vec<Vec<LoggedOrder>>,
    /// The totals that do not fit into an order, by its number.
    large: HashMap<u32, i64>,
    count: u32,
}

impl LoggedOrders {
    /// Returns an order's customer and its total, or [`LARGE`] if that is among the large ones.
    #[inline]
    pub(in super::super) fn get(&self, number: u32) -> (u64, u32) {
        let order = self.chunks[number as usize / ORDERS_CHUNK][number as usize % ORDERS_CHUNK];
        (u64::from_ne_bytes(order.customer), u32::from_ne_bytes(order.total))
    }

    /// Returns the total of an order that has a large one.
    pub(in super::super) fn large(&self, number: u32) -> i64 {
        self.large.get(&number).copied().unwrap_or_default()
    }

    #[inline]
    fn push(&mut self, customer: u64, total: i64) {
        let small = u32::try_from(total).unwrap_or(LARGE);
        if small == LARGE {
            self.large.insert(self.count, total);
        }
        self.count += 1;
        let order = LoggedOrder { customer: customer.to_ne_bytes(), total: small.to_ne_bytes() };
        match self.chunks.last_mut().filter(|chunk| chunk.len() < ORDERS_CHUNK) {
            Some(chunk) => chunk.push(order),
            None => {
                let mut chunk = Vec::with_capacity(ORDERS_CHUNK);
                chunk.push(order);
                self.chunks.push(chunk);
            }
        }
    }
}

/// What is added up of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct PartSum {
    pub(in super::super) orders: u32,
    pub(in super::super) units: i128,
    pub(in super::super) revenue: i128,
}

/// A sum while it is added to. All names' sums are added to in no order, so they should fit into the CPU's cache.
#[derive(Clone, Copy, Debug)]
struct OpenSum {
    revenue: i64,
    units: u32,
    orders: u32,
    /// The number of the order that was added last, plus one.
    last: u32,
    bucket: u16,
    /// The number of the sum in its bucket.
    of: u16,
}

impl OpenSum {
    /// Adds one item. Returns `false`, without a change, if the sum would not fit.
    #[inline]
    fn add(&mut self, units: i64, revenue: i64) -> bool {
        let Ok(units) = u32::try_from(units) else { return false };
        match (self.units.checked_add(units), self.revenue.checked_add(revenue)) {
            (Some(units), Some(revenue)) => (self.units, self.revenue) = (units, revenue),
            _ => return false,
        }
        true
    }
}

/// Parts in the order in which they were read.
#[derive(Debug, Default)]
pub(in super::super) struct Bucket {
    /// All chunks but the first, which is empty, and the last one are full.
    pub(in super::super) chunks: Vec<Vec<LoggedPart>>,
    /// The places of its sums.
    pub(in super::super) sums: Vec<u32>,
}

/// The numbers of one currency.
#[derive(Debug, Default)]
struct Places {
    /// The place of each product's sum.
    of_products: Vec<u32>,
    /// The same of each name.
    of_names: Vec<u32>,
}

/// The sales of one shard. A group is a name in one currency.
#[derive(Debug, Default)]
pub(in super::super) struct SaleLog {
    places: Vec<(Currency, Places)>,
    keys: Vec<GroupKey>,
    sums: Vec<OpenSum>,
    /// Units and revenue beyond the sums that they did not fit into, by place.
    carried: HashMap<u32, (i128, i128)>,
    /// The chunk of each bucket that is not full yet.
    open: Vec<Vec<LoggedPart>>,
    buckets: Vec<Bucket>,
    chunks: usize,
    pub(in super::super) orders: LoggedOrders,
    /// Set if a bucket has more sums than it can number.
    is_full: bool,
    /// The number of parts.
    pub(in super::super) rows: u64,
}

impl SaleLog {
    /// Returns the memory of the parts and their sums.
    pub(in super::super) fn bytes(&self) -> usize {
        if self.is_full {
            return MORE_THAN_ANY_LIMIT;
        }
        let places =
            self.places.iter().map(|(_, places)| places.of_products.capacity() + places.of_names.capacity());
        // The merge scatters one bucket after the other.
        let scattered = self.buckets.iter().map(|bucket| bucket.chunks.len()).max().unwrap_or_default();
        places.sum::<usize>() * size_of::<u32>()
            + scattered * PARTS_CHUNK * SCATTERED_BYTES
            + self.chunks * PARTS_CHUNK * size_of::<LoggedPart>()
            + self.orders.chunks.len() * ORDERS_CHUNK * size_of::<LoggedOrder>()
            + self.sums.capacity() * (size_of::<OpenSum>() + size_of::<GroupKey>())
            + self.orders.large.capacity() * 2 * size_of::<(u32, i64)>()
    }

    /// Returns the place of a currency, for [`SaleLog::push`].
    pub(super) fn currency(&mut self, currency: Currency) -> usize {
        place_of(&mut self.places, currency)
    }

    /// Adds an order with its items: their products, units and prices of one. Items of one name are one part. Takes
    /// about 10 ns an item.
    #[inline]
    pub(super) fn push(
        &mut self,
        currency: usize,
        (customer, total): (u64, i64),
        [products, units, unit_prices]: [&[i64]; 3],
        names: &NameTable,
    ) -> Result<(), ShardError> {
        let (number, mut has_parts) = (self.orders.count, false);
        // Orders have few items, so an iterator over three slices takes as long to set up as its items.
        let (units, unit_prices) = (&units[..products.len()], &unit_prices[..products.len()]);
        for at in 0..products.len() {
            let (product, units, unit_price) = (products[at], units[at], unit_prices[at]);
            // A negative number is behind the end too.
            let place = match self.places[currency].1.of_products.get(product as usize) {
                Some(place) if *place < LEFT_OUT => *place,
                Some(&LEFT_OUT) => continue,
                _ => match self.place(currency, product, names)? {
                    Some(place) => place,
                    None => continue,
                },
            };
            let revenue = units.saturating_mul(unit_price);
            let sum = &mut self.sums[place as usize];
            let is_added = sum.add(units, revenue);
            if sum.last != number + 1 {
                (sum.last, sum.orders) = (number + 1, sum.orders + 1);
                let part = LoggedPart { order: number.to_ne_bytes(), of: sum.of.to_ne_bytes() };
                let bucket = usize::from(sum.bucket);
                self.push_part(bucket, part);
                has_parts = true;
            }
            if !is_added {
                self.carry(place, units, revenue);
            }
        }
        if has_parts {
            self.orders.push(customer, total);
        }
        Ok(())
    }

    #[inline]
    fn push_part(&mut self, bucket: usize, part: LoggedPart) {
        let chunk = &mut self.open[bucket];
        if chunk.len() == chunk.capacity() {
            let full = std::mem::replace(chunk, Vec::with_capacity(PARTS_CHUNK));
            self.buckets[bucket].chunks.push(full);
            self.chunks += 1;
        }
        self.open[bucket].push(part);
        self.rows += 1;
    }

    /// Adds one item to a sum that it does not fit into.
    #[cold]
    fn carry(&mut self, place: u32, units: i64, revenue: i64) {
        let sum = &mut self.sums[place as usize];
        let carried = self.carried.entry(place).or_default();
        carried.0 += i128::from(units) + i128::from(sum.units);
        carried.1 += i128::from(revenue) + i128::from(sum.revenue);
        (sum.units, sum.revenue) = (0, 0);
    }

    /// Returns the place of a product's sum in a currency that it was not seen in, or `None` if it is left out.
    #[cold]
    fn place(&mut self, currency: usize, product: i64, names: &NameTable) -> Result<Option<u32>, ShardError> {
        let name = names.place(product)?;
        let (of, places) = &mut self.places[currency];
        places.of_products.resize(names.products(), UNSEEN);
        places.of_names.resize(names.names.len(), UNSEEN);
        if self.sums.is_empty() {
            self.sums.reserve_exact(names.names.len());
            self.keys.reserve_exact(names.names.len());
        }
        let place = match name {
            None => LEFT_OUT,
            Some(name) if places.of_names[name as usize] != UNSEEN => places.of_names[name as usize],
            Some(name) => {
                let place = self.sums.len() as u32;
                places.of_names[name as usize] = place;
                let key = (name, *of);
                self.begin_sum(key, &names.names[name as usize]);
                place
            }
        };
        self.places[currency].1.of_products[product as usize] = place;
        Ok(Some(place).filter(|place| *place != LEFT_OUT))
    }

    /// Adds a sum. Names have the same bucket in every shard.
    fn begin_sum(&mut self, key: GroupKey, name: &str) {
        if self.buckets.is_empty() {
            self.buckets.resize_with(BUCKETS, Bucket::default);
            self.open.resize_with(BUCKETS, Vec::new);
        }
        // The other bits alone select the part of the names that is read, if the number of parts is a power of two.
        let bucket = (crc32c::crc32c(name.as_bytes()) >> 16) as usize % BUCKETS;
        let of = self.buckets[bucket].sums.len();
        self.is_full |= of > usize::from(u16::MAX);
        self.buckets[bucket].sums.push(self.sums.len() as u32);
        let of = of.min(usize::from(u16::MAX)) as u16;
        self.sums.push(OpenSum { revenue: 0, units: 0, orders: 0, last: 0, bucket: bucket as u16, of });
        self.keys.push(key);
    }

    /// Takes every sum, in the order of its place.
    pub(in super::super) fn take_sums(&mut self) -> Vec<(GroupKey, PartSum)> {
        let sums = std::mem::take(&mut self.sums);
        let keys = std::mem::take(&mut self.keys);
        let sum = |(place, sum): (u32, OpenSum)| {
            let (units, revenue) = self.carried.get(&place).copied().unwrap_or_default();
            PartSum {
                orders: sum.orders,
                units: units + i128::from(sum.units),
                revenue: revenue + i128::from(sum.revenue),
            }
        };
        keys.into_iter().zip((0..).zip(sums).map(sum)).collect()
    }

    /// Takes every bucket.
    pub(in super::super) fn take_buckets(&mut self) -> Vec<Bucket> {
        let mut buckets = std::mem::take(&mut self.buckets);
        for (bucket, open) in buckets.iter_mut().zip(std::mem::take(&mut self.open)) {
            bucket.chunks.push(open);
        }
        buckets
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::sales::read::SaleSplit;

    proptest! {
        #[test]
        fn parts_and_sums_are_those_of_the_orders(
            logged in prop::collection::vec(
                (
                    any::<u64>(),
                    prop_oneof![0..9_i64, Just(i64::from(LARGE) - 1), Just(i64::from(LARGE)), 0..i64::MAX],
                    0..2_usize,
                    prop::collection::vec(
                        (
                            0..12_i64,
                            prop_oneof![1..9_i64, 1..i64::from(u32::MAX), Just(1 << 33)],
                            prop_oneof![0..9_i64, Just(i64::MAX)],
                        ),
                        0..5,
                    ),
                ),
                0..60,
            ),
        ) {
            let currencies = ["USD", "JPY"].map(|code| Currency::parse(code).unwrap());
            // Two of the twelve products have the same name, and the name of another one is not read.
            let of_products = [0, 1, 2, 3, 3, 4, u32::MAX - 1, 5, 6, 7, 8, 9];
            let names = (0..10).map(|name| format!("p{name}")).collect();
            let names = NameTable::known(SaleSplit::Product, &of_products, names);
            let mut log = SaleLog::default();
            let mut expected = BTreeMap::<GroupKey, (i128, i128, Vec<(u64, i64)>)>::new();
            for (customer, total, currency, items) in &logged {
                let place = log.currency(currencies[*currency]);
                let columns: [Vec<i64>; 3] = [
                    items.iter().map(|item| item.0).collect(),
                    items.iter().map(|item| item.1).collect(),
                    items.iter().map(|item| item.2).collect(),
                ];
                log.push(place, (*customer, *total), columns.each_ref().map(Vec::as_slice), &names).unwrap();
                let mut seen = Vec::new();
                for (product, units, unit_price) in items {
                    let name = of_products[*product as usize];
                    if name > 9 {
                        continue;
                    }
                    let sum = expected.entry((name, currencies[*currency])).or_default();
                    sum.0 += i128::from(*units);
                    sum.1 += i128::from(units.saturating_mul(*unit_price));
                    if !seen.contains(&name) {
                        seen.push(name);
                        sum.2.push((*customer, *total));
                    }
                }
            }
            prop_assert_eq!(log.rows as usize, expected.values().map(|sum| sum.2.len()).sum::<usize>());
            prop_assert!(log.bytes() >= log.rows as usize * 6);
            let sums = log.take_sums();
            let mut found = BTreeMap::<GroupKey, (i128, i128, Vec<(u64, i64)>)>::new();
            for (key, sum) in &sums {
                prop_assert_eq!(sum.orders as usize, expected[key].2.len());
                found.insert(*key, (sum.units, sum.revenue, Vec::new()));
            }
            for bucket in log.take_buckets() {
                for part in bucket.chunks.iter().flatten() {
                    let total = match log.orders.get(part.order()).1 {
                        LARGE => log.orders.large(part.order()),
                        total => i64::from(total),
                    };
                    let key = sums[bucket.sums[part.of()] as usize].0;
                    found.get_mut(&key).unwrap().2.push((log.orders.get(part.order()).0, total));
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_unknown_product_is_damage() {
        let names = NameTable::known(SaleSplit::Product, &[0], vec!["a".to_owned()]);
        let mut log = SaleLog::default();
        let usd = log.currency(Currency::parse("USD").unwrap());
        for product in [-1, 1, i64::MAX] {
            assert!(log.push(usd, (1, 1), [&[product], &[1], &[1]], &names).is_err());
        }
        assert!(log.push(usd, (1, 1), [&[0], &[1], &[1]], &names).is_ok());
    }

    #[test]
    fn more_sums_than_a_bucket_can_number_need_another_pass() {
        let mut log = SaleLog::default();
        let usd = Currency::parse("USD").unwrap();
        for name in 0..=1 << 16 {
            assert!(log.bytes() < MORE_THAN_ANY_LIMIT);
            log.begin_sum((name, usd), "the same");
        }
        assert!(log.bytes() >= MORE_THAN_ANY_LIMIT);
    }
}
