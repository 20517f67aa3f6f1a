//! Sales by category: the lists of all shards have the same numbers, and their customers are in one set.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use super::super::totals::{Totals, push_tight};
use super::groups::{SaleList, place_of};
use super::masks::{CustomerMasks, LISTS_MAX, lists_of};
use super::names::NameTable;
use super::pool::ColumnPool;
use crate::base::money::Currency;
use crate::orders::SegmentColumns;
use crate::shard::ShardError;

/// The number of totals after which a list begins another chunk, instead of moving to larger memory.
const CHUNK: usize = if cfg!(test) { 3 } else { 8_192 };

/// The set of customers and the numbers of lists that the shards of one question have in common. A clone shares them.
#[derive(Clone, Debug)]
pub(in super::super) struct SharedLists {
    /// Has one entry while no step uses it.
    free: (async_channel::Sender<Shared>, async_channel::Receiver<Shared>),
    pool: ColumnPool,
}

impl Default for SharedLists {
    fn default() -> SharedLists {
        SharedLists::new(usize::MAX, ColumnPool::default())
    }
}

/// The shared part while one step has it. Dropping it returns it.
struct Lent<'s> {
    shared: Shared,
    free: &'s async_channel::Sender<Shared>,
}

impl Deref for Lent<'_> {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Shared {
        &mut self.shared
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let _ = self.free.try_send(std::mem::take(&mut self.shared));
    }
}

#[derive(Debug, Default)]
struct Shared {
    numbers: HashMap<(String, Currency), usize>,
    /// The customers of the first lists.
    masks: CustomerMasks,
}

/// The name and currency of each list, and the distinct customers of the lists that count them in the set.
pub(in super::super) type ListKeys = Vec<((String, Currency), Option<u64>)>;

impl SharedLists {
    /// Returns what the steps of a question share: a set of customers of at most `bytes_max`, and columns.
    pub(in super::super) fn new(bytes_max: usize, pool: ColumnPool) -> SharedLists {
        let free = async_channel::bounded(1);
        let _ = free.0.try_send(Shared { numbers: HashMap::new(), masks: CustomerMasks::new(bytes_max) });
        SharedLists { free, pool }
    }

    /// Waits until no other step uses what is shared.
    fn lent(&self) -> Lent<'_> {
        Lent { shared: self.free.1.recv_blocking().unwrap_or_default(), free: &self.free.0 }
    }

    fn number(&self, name: &str, currency: Currency) -> usize {
        let mut shared = self.lent();
        let next = shared.numbers.len();
        *shared.numbers.entry((name.to_owned(), currency)).or_insert(next)
    }

    /// Returns the memory of the set.
    pub(in super::super) fn bytes(&self) -> usize {
        self.lent().masks.bytes()
    }

    /// Removes the keys of all lists, in the order of their numbers.
    pub(in super::super) fn take(&self) -> ListKeys {
        let Shared { numbers, masks } = std::mem::take(&mut *self.lent());
        let counts = masks.counts();
        let mut keys: Vec<_> = numbers.into_iter().collect();
        keys.sort_unstable_by_key(|(_, number)| *number);
        let count = |number: usize| (number < LISTS_MAX).then(|| counts[number]);
        keys.into_iter().map(|(key, number)| (key, count(number))).collect()
    }
}

/// The sales of one shard by category.
#[derive(Debug, Default)]
pub(super) struct CategoryLists {
    shared: SharedLists,
    /// For each currency, the number of each name's list plus one, or 0 if it is not known here yet.
    numbers: Vec<(Currency, Vec<u32>)>,
    /// By their numbers. Some may be of other shards only.
    lists: Vec<CategoryList>,
    /// The customers of the segment that is being added, with their lists.
    customers: Vec<(u64, u64)>,
    bytes: usize,
    /// The number of parts of orders.
    pub(super) rows: u64,
}

/// One category in one currency.
#[derive(Debug, Default)]
struct CategoryList {
    /// Its customers are only here if the list is not one of the first.
    list: SaleList,
    /// Chunks of totals that are full.
    full: Vec<Totals>,
}

impl CategoryList {
    /// Counts an order. Returns the bytes by which the memory grew.
    #[inline]
    fn count(&mut self, total: i64) -> usize {
        self.list.orders += 1;
        if self.list.totals.len() < CHUNK {
            return self.list.totals.push(total);
        }
        let mut chunk = Totals::with_capacity(CHUNK);
        chunk.push(total);
        let bytes = chunk.bytes() + size_of::<Totals>();
        self.full.push(std::mem::replace(&mut self.list.totals, chunk));
        bytes
    }
}

impl CategoryLists {
    pub(super) fn new(shared: SharedLists) -> CategoryLists {
        CategoryLists { shared, ..CategoryLists::default() }
    }

    /// Returns the memory of the lists, without the set of customers.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the memory for columns.
    pub(super) fn pool(&self) -> ColumnPool {
        self.shared.pool.clone()
    }

    /// Returns the place of a currency.
    pub(super) fn currency(&mut self, currency: Currency) -> usize {
        place_of(&mut self.numbers, currency)
    }

    /// Adds the selected orders of a segment, each given by the place of its currency. Takes about 5 ns an item and 20 ns
    /// an order.
    #[inline(never)]
    pub(super) fn add(
        &mut self,
        columns: &SegmentColumns,
        selected: &[Option<(u32, u32)>],
        names: &NameTable,
    ) -> Result<(), ShardError> {
        self.customers.clear();
        let (mut end, mut others) = (0, Vec::new());
        for (place, (items, selected)) in columns.items.iter().zip(selected).enumerate() {
            let first = end;
            end += *items as usize;
            let Some((currency, _)) = selected else { continue };
            let mut mask = 0_u64;
            let numbers = columns.quantities[first..end].iter().zip(&columns.unit_prices[first..end]);
            for (product, (units, unit_price)) in columns.products[first..end].iter().zip(numbers) {
                let Some(name) = names.place(*product)? else { continue };
                let number = self.number(*currency as usize, name, names);
                let list = &mut self.lists[number].list;
                list.units += i128::from(*units);
                list.revenue += i128::from(units.saturating_mul(*unit_price));
                if number < LISTS_MAX {
                    mask |= 1 << number;
                } else if !others.contains(&number) {
                    others.push(number);
                }
            }
            let (customer, total) = (columns.customers[place] as u64, columns.totals[place]);
            for number in lists_of(mask) {
                self.bytes += self.lists[number].count(total);
            }
            self.rows += u64::from(mask.count_ones()) + others.len() as u64;
            for number in others.drain(..) {
                let list = &mut self.lists[number];
                self.bytes += list.count(total) + push_tight(&mut list.list.customers, customer);
            }
            if mask != 0 {
                self.customers.push((customer, mask));
            }
        }
        // In a loop of their own, several look-ups wait for memory at the same time.
        let mut shared = self.shared.lent();
        self.customers.iter().for_each(|(customer, mask)| shared.masks.add(*customer, *mask));
        Ok(())
    }

    #[inline]
    fn number(&mut self, currency: usize, name: u32, names: &NameTable) -> usize {
        match self.numbers[currency].1.get(name as usize) {
            Some(number) if *number > 0 => *number as usize - 1,
            _ => self.new_number(currency, name as usize, names),
        }
    }

    #[cold]
    fn new_number(&mut self, currency: usize, name: usize, names: &NameTable) -> usize {
        let (currency, numbers) = &mut self.numbers[currency];
        let number = self.shared.number(&names.names[name], *currency);
        if name >= numbers.len() {
            numbers.resize(names.names.len(), 0);
        }
        numbers[name] = number as u32 + 1;
        if number >= self.lists.len() {
            self.bytes += (number + 1 - self.lists.len()) * size_of::<CategoryList>();
            self.lists.resize_with(number + 1, CategoryList::default);
        }
        number
    }

    /// Removes the lists, with their numbers. Each chunk of totals is a list.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (usize, SaleList)> {
        self.bytes = 0;
        let lists = std::mem::take(&mut self.lists).into_iter().enumerate();
        let lists = lists.filter(|(_, list)| list.list.orders > 0);
        lists.flat_map(|(number, CategoryList { list, full })| {
            let full = full.into_iter().map(|totals| SaleList { totals, ..SaleList::default() });
            std::iter::once(list).chain(full).map(move |list| (number, list))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::sales::read::SaleSplit;

    #[test]
    fn lists_of_all_shards_have_the_same_numbers_and_their_customers_are_counted_once() {
        let usd = Currency::parse("USD").unwrap();
        for categories in [LISTS_MAX as i64, LISTS_MAX as i64 + 3] {
            let shared = SharedLists::default();
            let mut expected = BTreeMap::<String, (i64, i128, BTreeSet<u64>, Vec<i64>)>::new();
            let mut found = Vec::new();
            for shard in 0..2 {
                // The second shard knows the categories in another order.
                let of_product = |product: i64| if shard == 0 { product } else { categories - 1 - product };
                let names: Vec<String> =
                    (0..categories).map(|product| format!("c{}", of_product(product))).collect();
                let products: Vec<u32> = (0..names.len() as u32).collect();
                let names = NameTable::known(SaleSplit::Category, &products, names);
                let mut lists = CategoryLists::new(shared.clone());
                let place = lists.currency(usd) as u32;
                let mut columns = SegmentColumns::default();
                let mut selected = Vec::new();
                for order in 0..50_i64 {
                    let products: Vec<i64> =
                        (0..order % 4).map(|item| order * (item + 1) % categories).collect();
                    let is_selected = order % 7 != 0;
                    selected.push(is_selected.then_some((place, 0)));
                    columns.items.push(products.len() as i64);
                    columns.totals.push(order * 10);
                    columns.customers.push(order % 9 + shard);
                    for product in &products {
                        columns.products.push(*product);
                        columns.quantities.push(2);
                        columns.unit_prices.push(5);
                        if is_selected {
                            let entry = expected.entry(format!("c{}", of_product(*product))).or_default();
                            entry.1 += 10;
                        }
                    }
                    for product in
                        products.into_iter().collect::<BTreeSet<_>>().into_iter().filter(|_| is_selected)
                    {
                        let entry = expected.entry(format!("c{}", of_product(product))).or_default();
                        entry.0 += 1;
                        entry.2.insert((order % 9 + shard) as u64);
                        entry.3.push(order * 10);
                    }
                }
                lists.add(&columns, &selected, &names).unwrap();
                assert_eq!(lists.rows, lists.lists.iter().map(|list| list.list.orders as u64).sum::<u64>());
                found.extend(lists.take());
            }
            let keys = shared.take();
            assert_eq!(keys.len(), expected.len());
            for (number, ((name, currency), customers)) in keys.into_iter().enumerate() {
                assert_eq!((customers.is_some(), currency), (number < LISTS_MAX, usd));
                let (orders, revenue, of_list, mut totals) = expected.remove(&name).unwrap();
                let lists: Vec<&SaleList> =
                    found.iter().filter(|(of, _)| *of == number).map(|(_, list)| list).collect();
                assert_eq!(lists.iter().map(|list| list.orders).sum::<i64>(), orders, "{name}");
                assert_eq!(lists.iter().map(|list| list.revenue).sum::<i128>(), revenue, "{name}");
                let mut found: Vec<i64> = lists
                    .iter()
                    .flat_map(|list| list.totals.small())
                    .map(|total| i64::from(*total))
                    .collect();
                found.sort_unstable();
                totals.sort_unstable();
                assert_eq!(found, totals, "{name}");
                let in_lists: BTreeSet<u64> = lists.iter().flat_map(|list| list.customers.clone()).collect();
                assert_eq!(customers.unwrap_or(in_lists.len() as u64), of_list.len() as u64, "{name}");
            }
        }
    }
}
