//! The groups that one batch of sales forms: what each adds up to, and its customers and totals.
//!
//! Lists for each of some thousand groups would grow a few entries at a time. Instead, each sale is kept once, with an
//! entry for each group that counts it, and the entries are sorted into their groups at the end, by counting.

use std::ops::Range;

use crate::base::money::Currency;

/// Tenant, currency, start, and the category or product number (0 for hours and days).
pub(super) type Key = (i64, Currency, i64, i64);

/// Orders, units and revenue. No sum overflows, because an order that would cause an overflow is not counted as a
/// sale ([`Sums::has_room`](super::sums::Sums::has_room)). In a file of an earlier version, a sum may already be at its
/// limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) orders: i64,
    pub(super) units: i64,
    pub(super) revenue: i64,
}

impl Counts {
    pub(super) fn add(&mut self, more: Counts) {
        self.orders += more.orders;
        self.units = self.units.saturating_add(more.units);
        self.revenue = self.revenue.saturating_add(more.revenue);
    }

    pub(super) fn negated(self) -> Counts {
        Counts { orders: -self.orders, units: -self.units, revenue: -self.revenue }
    }
}

/// The customers and totals of a batch's sales.
#[derive(Debug, Default)]
pub(super) struct BatchSales(Vec<(u64, i64)>);

/// The maximum capacities that are kept from one batch to the next.
const SALES_KEPT: usize = 1 << 14;
const ENTRIES_KEPT: usize = 1 << 15;
const GROUPS_KEPT: usize = 1 << 12;

impl BatchSales {
    /// Returns the sale's number.
    #[inline]
    pub(super) fn push(&mut self, customer: u64, total: i64) -> u32 {
        self.0.push((customer, total));
        self.0.len() as u32 - 1
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(SALES_KEPT);
    }
}

/// The share of a batch in one group.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    counts: Counts,
    /// The number of sales that were added.
    sales: u32,
    /// Set once a sale is removed. Sketches cannot remove a value, so they are rebuilt from the rows.
    is_recounted: bool,
}

/// The groups of one kind.
#[derive(Debug, Default)]
pub(super) struct BatchGroups {
    groups: Vec<(Key, Group)>,
    /// The number of a group, and that of a sale.
    entries: Vec<(u32, u32)>,
}

impl BatchGroups {
    /// Adds a group. Returns its number.
    pub(super) fn begin(&mut self, key: Key) -> u32 {
        self.groups.push((key, Group::default()));
        self.groups.len() as u32 - 1
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.groups.iter().map(|(key, _)| key)
    }

    /// Adds a sale to a group.
    #[inline]
    pub(super) fn add(&mut self, group: u32, counts: Counts, sale: u32) {
        let to = &mut self.groups[group as usize].1;
        to.counts.add(counts);
        to.sales += 1;
        self.entries.push((group, sale));
    }

    /// Removes a sale from a group.
    pub(super) fn take_out(&mut self, group: u32, counts: Counts) {
        let from = &mut self.groups[group as usize].1;
        from.counts.add(counts.negated());
        from.is_recounted = true;
    }

    /// Returns all groups in the order of their keys, in which the sales of neighbours are neighbours. The sales of a
    /// group are in the order in which they were added.
    pub(super) fn sorted(&self, sales: &BatchSales) -> SortedGroups {
        let mut order: Vec<u32> = (0..self.groups.len() as u32).collect();
        order.sort_unstable_by_key(|group| self.groups[*group as usize].0);
        let mut groups = Vec::with_capacity(order.len());
        let mut places = vec![0; order.len()];
        let mut end = 0;
        for number in order {
            let (key, Group { counts, sales, is_recounted }) = self.groups[number as usize];
            let first = end;
            end += sales as usize;
            places[number as usize] = first;
            groups.push(SortedGroup { key, counts, is_recounted, sales: first..end });
        }
        let (mut customers, mut totals) = (vec![0; end], vec![0; end]);
        for (group, sale) in &self.entries {
            let place = &mut places[*group as usize];
            (customers[*place], totals[*place]) = sales.0[*sale as usize];
            *place += 1;
        }
        SortedGroups { groups, customers, totals }
    }

    pub(super) fn clear(&mut self) {
        self.groups.clear();
        self.groups.shrink_to(GROUPS_KEPT);
        self.entries.clear();
        self.entries.shrink_to(ENTRIES_KEPT);
    }
}

#[derive(Clone, Debug)]
struct SortedGroup {
    key: Key,
    counts: Counts,
    is_recounted: bool,
    sales: Range<usize>,
}

/// Groups in the order of their keys.
#[derive(Debug)]
pub(super) struct SortedGroups {
    groups: Vec<SortedGroup>,
    customers: Vec<u64>,
    totals: Vec<i64>,
}

/// One group with the customers and totals of its sales.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupSales<'g> {
    pub(super) key: Key,
    pub(super) counts: Counts,
    pub(super) is_recounted: bool,
    pub(super) customers: &'g [u64],
    pub(super) totals: &'g [i64],
}

impl SortedGroups {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = GroupSales<'_>> {
        self.groups.iter().map(|group| GroupSales {
            key: group.key,
            counts: group.counts,
            is_recounted: group.is_recounted,
            customers: &self.customers[group.sales.clone()],
            totals: &self.totals[group.sales.clone()],
        })
    }

    /// Joins groups that get the same key. Neighbours stay neighbours.
    pub(super) fn join(&mut self, key: impl Fn(&Key) -> Key) {
        self.groups.iter_mut().for_each(|group| group.key = key(&group.key));
        self.groups.dedup_by(|next, kept| {
            let is_same = next.key == kept.key;
            if is_same {
                kept.counts.add(next.counts);
                kept.is_recounted |= next.is_recounted;
                kept.sales.end = next.sales.end;
            }
            is_same
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_have_the_sales_that_were_added_and_joined_groups_those_of_both(
            steps in prop::collection::vec((0..9_i64, 0..5_i64, any::<bool>(), any::<u64>()), 0..80),
        ) {
            let usd = Currency::parse("USD").unwrap();
            let (mut sales, mut groups) = (BatchSales::default(), BatchGroups::default());
            for _ in 0..2 {
                let mut numbers = BTreeMap::new();
                let mut expected = BTreeMap::<Key, (i64, bool, Vec<u64>, Vec<i64>)>::new();
                for (start, name, is_added, customer) in &steps {
                    let key = (3, usd, *start, *name);
                    let number = *numbers.entry(key).or_insert_with(|| groups.begin(key));
                    let counts = Counts { orders: 1, units: 2, revenue: *name };
                    let group = expected.entry(key).or_default();
                    if *is_added {
                        groups.add(number, counts, sales.push(*customer, *start));
                        group.0 += 1;
                        group.2.push(*customer);
                        group.3.push(*start);
                    } else {
                        groups.take_out(number, counts);
                        group.0 -= 1;
                        group.1 = true;
                    }
                }
                let mut sorted = groups.sorted(&sales);
                let found = |sorted: &SortedGroups| -> Vec<_> {
                    let group = |group: GroupSales<'_>| {
                        let GroupSales { key, counts, is_recounted, customers, totals } = group;
                        assert_eq!(counts, Counts { orders: counts.orders, units: counts.orders * 2, ..counts });
                        (key, (counts.orders, is_recounted, customers.to_vec(), totals.to_vec()))
                    };
                    sorted.iter().map(group).collect()
                };
                prop_assert_eq!(found(&sorted), expected.clone().into_iter().collect::<Vec<_>>());
                sorted.join(|key| (key.0, key.1, key.2 / 3, 0));
                let mut joined = BTreeMap::<Key, (i64, bool, Vec<u64>, Vec<i64>)>::new();
                for (key, (orders, is_recounted, customers, totals)) in expected {
                    let group = joined.entry((3, usd, key.2 / 3, 0)).or_default();
                    group.0 += orders;
                    group.1 |= is_recounted;
                    group.2.extend(customers);
                    group.3.extend(totals);
                }
                prop_assert_eq!(found(&sorted), joined.into_iter().collect::<Vec<_>>());
                groups.clear();
                sales.clear();
            }
        }
    }
}
