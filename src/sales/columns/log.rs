//! Sales by product: the customer and the total of each order once, and a few bytes for each of its parts, in one of
//! some buckets of names. A bucket can be divided by name in the CPU's cache afterwards, instead of growing a list for
//! each of many names.

use std::collections::HashMap;
use std::ops::Range;

use super::groups::{GroupKey, place_of};
use super::names::NameTable;
use crate::base::money::Currency;
use crate::orders::SegmentColumns;
use crate::shard::ShardError;

/// The number of buckets. Ten million parts of 20,000 names leave 625,000 parts of 1,250 names in one.
pub(in super::super) const BUCKETS: usize = if cfg!(test) { 3 } else { 16 };
/// The number of parts of a chunk, and of orders. Chunks are never moved.
const PARTS_CHUNK: usize = if cfg!(test) { 8 } else { 1 << 10 };
const ORDERS_CHUNK: usize = if cfg!(test) { 8 } else { 1 << 14 };
/// The number of orders of a block. Their items' sums fit into the CPU's first cache.
const BLOCK_ORDERS: usize = if cfg!(test) { 3 } else { 128 };
/// The number of items up to which an order's items are listed without a loop.
const FEW_ITEMS: usize = if cfg!(test) { 2 } else { 8 };
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

/// The part of an order that counts for one name.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct LoggedPart {
    /// The number of its order, minus that of the part before it in the bucket.
    ahead: u16,
    /// The number of its sum in the bucket, or [`NO_SUM`].
    of: u16,
}

/// Marks an entry that is no part: orders lie between two parts that are further apart than a part can say.
const NO_SUM: u16 = u16::MAX;

impl LoggedPart {
    /// Moves on to its order. Returns the number of its sum, or `None` if it is no part.
    #[inline]
    pub(in super::super) fn next(self, order: &mut u32) -> Option<usize> {
        *order += u32::from(self.ahead);
        (self.of != NO_SUM).then_some(usize::from(self.of))
    }
}

/// The chunk of a bucket that is not full yet.
#[derive(Debug, Default)]
struct OpenChunk {
    parts: Vec<LoggedPart>,
    /// The number of the last part's order.
    last: u32,
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

/// An order of a block.
#[derive(Clone, Copy, Debug)]
struct BlockOrder {
    customer: u64,
    total: i64,
    currency: u32,
    has_parts: bool,
    /// Its number among the logged orders, if it has parts.
    number: u32,
}

/// An item of a block: its place in the columns, its order in the block, and the place of its sum.
#[derive(Clone, Copy, Debug, Default)]
struct BlockItem {
    at: u32,
    order: u32,
    place: u32,
}

/// Orders whose items are added in one loop. A loop for each order ends after a few items, which a CPU guesses wrong,
/// and the sums that it had begun to read for the items behind are waited for again.
#[derive(Debug, Default)]
struct Block {
    orders: Vec<BlockOrder>,
    /// The first `len` are items of the orders. The memory is kept.
    items: Vec<BlockItem>,
    len: usize,
}

impl Block {
    #[inline]
    fn push(&mut self, currency: u32, (customer, total): (u64, i64), items: Range<usize>) {
        let order = self.orders.len() as u32;
        self.orders.push(BlockOrder { customer, total, currency, has_parts: false, number: 0 });
        let room = self.len + items.len().max(FEW_ITEMS);
        if room > self.items.len() {
            self.items.resize(room * 2, BlockItem::default());
        }
        let first = items.start as u32;
        let item = |at: u32| BlockItem { at, order, place: 0 };
        // Always as many, so that there is no end to guess. The next order overwrites those that are too many.
        for (at, place) in (first..).zip(&mut self.items[self.len..self.len + FEW_ITEMS]) {
            *place = item(at);
        }
        self.len += items.len();
        if items.len() > FEW_ITEMS {
            for (at, place) in (first..).zip(&mut self.items[self.len - items.len()..self.len]) {
                *place = item(at);
            }
        }
    }
}

/// The sales of one shard. A group is a name in one currency.
#[derive(Debug, Default)]
pub(in super::super) struct SaleLog {
    places: Vec<(Currency, Places)>,
    keys: Vec<GroupKey>,
    sums: Vec<OpenSum>,
    /// Units and revenue beyond the sums that they did not fit into, by place.
    carried: HashMap<u32, (i128, i128)>,
    /// The last chunk of each bucket.
    open: Vec<OpenChunk>,
    buckets: Vec<Bucket>,
    chunks: usize,
    pub(in super::super) orders: LoggedOrders,
    block: Block,
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

    /// Adds the selected orders, which have the places of their currencies. Items of one name are one part of their
    /// order. Takes about 10 ns an item.
    pub(super) fn add(
        &mut self,
        columns: &SegmentColumns,
        selected: &[Option<(u32, u32)>],
        names: &NameTable,
    ) -> Result<(), ShardError> {
        let mut block = std::mem::take(&mut self.block);
        let mut end = 0;
        let orders = columns.customers.iter().zip(&columns.totals).zip(columns.items.iter().zip(selected));
        for ((customer, total), (items, selected)) in orders {
            let first = end;
            end += *items as usize;
            let Some((currency, _)) = selected else { continue };
            block.push(*currency, (*customer as u64, *total), first..end);
            if block.orders.len() == BLOCK_ORDERS {
                self.add_block(&mut block, columns, names)?;
            }
        }
        self.add_block(&mut block, columns, names)?;
        self.block = block;
        Ok(())
    }

    fn add_block(
        &mut self,
        block: &mut Block,
        columns: &SegmentColumns,
        names: &NameTable,
    ) -> Result<(), ShardError> {
        let Block { orders, items, len } = block;
        let items = &mut items[..std::mem::take(len)];
        // The sums are read into the CPU's cache here, where the items behind do not depend on them.
        let mut touched = 0_u32;
        for item in &mut *items {
            let order = &mut orders[item.order as usize];
            let product = columns.products[item.at as usize];
            // A negative number is behind the end too.
            let known = self.places[order.currency as usize].1.of_products.get(product as usize);
            item.place = match known {
                Some(place) if *place != UNSEEN => *place,
                _ => self.place(order.currency as usize, product, names)?,
            };
            order.has_parts |= item.place != LEFT_OUT;
            touched ^= self.sums.get(item.place as usize).map_or(0, |sum| sum.last);
        }
        std::hint::black_box(touched);
        for order in &mut *orders {
            order.number = self.orders.count;
            if order.has_parts {
                self.orders.push(order.customer, order.total);
            }
        }
        for item in items.iter().filter(|item| item.place != LEFT_OUT) {
            let number = orders[item.order as usize].number;
            let units = columns.quantities[item.at as usize];
            let revenue = units.saturating_mul(columns.unit_prices[item.at as usize]);
            let sum = &mut self.sums[item.place as usize];
            let is_added = sum.add(units, revenue);
            if sum.last != number + 1 {
                (sum.last, sum.orders) = (number + 1, sum.orders + 1);
                let (bucket, of) = (usize::from(sum.bucket), sum.of);
                self.push_part(bucket, number, of);
            }
            if !is_added {
                self.carry(item.place, units, revenue);
            }
        }
        orders.clear();
        Ok(())
    }

    #[inline]
    fn push_part(&mut self, bucket: usize, order: u32, of: u16) {
        let ahead = order - self.open[bucket].last;
        let ahead = u16::try_from(ahead).unwrap_or_else(|_| self.pass_over(bucket, ahead));
        self.open[bucket].last = order;
        self.push_entry(bucket, LoggedPart { ahead, of });
        self.rows += 1;
    }

    #[inline]
    fn push_entry(&mut self, bucket: usize, entry: LoggedPart) {
        let chunk = &self.open[bucket].parts;
        if chunk.len() == chunk.capacity() {
            self.begin_chunk(bucket);
        }
        self.open[bucket].parts.push(entry);
    }

    #[cold]
    fn begin_chunk(&mut self, bucket: usize) {
        let full = std::mem::replace(&mut self.open[bucket].parts, Vec::with_capacity(PARTS_CHUNK));
        self.buckets[bucket].chunks.push(full);
        self.chunks += 1;
    }

    /// Adds entries without a sum for orders that have no part in the bucket. Returns what a part can say of the rest.
    #[cold]
    fn pass_over(&mut self, bucket: usize, ahead: u32) -> u16 {
        for _ in 0..ahead / u32::from(u16::MAX) {
            self.push_entry(bucket, LoggedPart { ahead: u16::MAX, of: NO_SUM });
        }
        (ahead % u32::from(u16::MAX)) as u16
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

    /// Returns the place of a product's sum in a currency that it was not seen in, or [`LEFT_OUT`].
    #[cold]
    fn place(&mut self, currency: usize, product: i64, names: &NameTable) -> Result<u32, ShardError> {
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
                self.begin_sum(key, names.hashes[name as usize]);
                place
            }
        };
        self.places[currency].1.of_products[product as usize] = place;
        Ok(place)
    }

    /// Adds a sum. Names have the same bucket in every shard.
    fn begin_sum(&mut self, key: GroupKey, hash: u32) {
        if self.buckets.is_empty() {
            self.buckets.resize_with(BUCKETS, Bucket::default);
            self.open.resize_with(BUCKETS, OpenChunk::default);
        }
        // The other bits alone select the part of the names that is read, if the number of parts is a power of two.
        let bucket = (hash >> 16) as usize % BUCKETS;
        let of = self.buckets[bucket].sums.len();
        self.is_full |= of >= usize::from(NO_SUM);
        self.buckets[bucket].sums.push(self.sums.len() as u32);
        let of = of.min(usize::from(NO_SUM) - 1) as u16;
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
            bucket.chunks.push(open.parts);
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
            let (mut columns, mut selected) = (SegmentColumns::default(), Vec::new());
            for (customer, total, currency, items) in &logged {
                columns.customers.push(*customer as i64);
                columns.totals.push(*total);
                columns.items.push(items.len() as i64);
                columns.products.extend(items.iter().map(|item| item.0));
                columns.quantities.extend(items.iter().map(|item| item.1));
                columns.unit_prices.extend(items.iter().map(|item| item.2));
                if customer % 5 == 0 {
                    selected.push(None);
                    continue;
                }
                selected.push(Some((log.currency(currencies[*currency]) as u32, 0)));
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
            // A segment may have fewer selected orders than a block, or more, and no orders.
            for _ in 0..2 {
                log.add(&columns, &selected, &names).unwrap();
            }
            for sum in expected.values_mut() {
                (sum.0, sum.1) = (sum.0 * 2, sum.1 * 2);
                sum.2.extend_from_within(..);
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
                let mut order = 0;
                for part in bucket.chunks.iter().flatten() {
                    let of = part.next(&mut order).unwrap();
                    let total = match log.orders.get(order).1 {
                        LARGE => log.orders.large(order),
                        total => i64::from(total),
                    };
                    let key = sums[bucket.sums[of] as usize].0;
                    found.get_mut(&key).unwrap().2.push((log.orders.get(order).0, total));
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
        let mut add = |product| {
            let one = || vec![1];
            let columns = SegmentColumns {
                customers: one(),
                totals: one(),
                items: one(),
                products: vec![product],
                quantities: one(),
                unit_prices: one(),
                ..SegmentColumns::default()
            };
            log.add(&columns, &[Some((usd as u32, 0))], &names)
        };
        assert!([-1, 1, i64::MAX].into_iter().all(|product| add(product).is_err()));
        assert!(add(0).is_ok());
    }

    #[test]
    fn parts_of_a_bucket_may_be_far_from_each_other() {
        let mut log = SaleLog::default();
        let usd = Currency::parse("USD").unwrap();
        [7, 7, 8].into_iter().for_each(|hash| log.begin_sum((hash, usd), hash << 16));
        let orders = [0, 1, 65_535, 65_536, 131_072, 400_000, 400_000 + 2 * 65_535, 1 << 31, u32::MAX];
        orders.into_iter().for_each(|order| log.push_part(7 % BUCKETS, order, 1));
        let bucket = &log.take_buckets()[7 % BUCKETS];
        let (mut order, mut found) = (0, Vec::new());
        for part in bucket.chunks.iter().flatten() {
            found.extend(part.next(&mut order).map(|of| (order, of)));
        }
        assert_eq!(found, orders.map(|order| (order, 1)));
        assert_eq!(log.rows, 9);
    }

    #[test]
    fn more_sums_than_a_bucket_can_number_need_another_pass() {
        let mut log = SaleLog::default();
        let usd = Currency::parse("USD").unwrap();
        for name in 0..1 << 16 {
            assert!(log.bytes() < MORE_THAN_ANY_LIMIT);
            log.begin_sum((name, usd), 7);
        }
        assert!(log.bytes() >= MORE_THAN_ANY_LIMIT);
    }
}
