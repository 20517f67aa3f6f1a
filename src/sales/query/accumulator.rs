//! Adds up single sales by group. Distinct customers are found by sorting, and ranks by selection.

use std::collections::{BTreeMap, HashMap};

use super::super::read::{SalePart, SaleParts};
use super::super::spans::Spans;
use super::super::totals::{Totals, push_tight};
use super::figures::{Figures, SalesGroup};
use crate::base::ids::ShardId;
use crate::base::money::Currency;

/// The maximum memory for the customers and totals of all groups together. Only one query at a time holds this much.
const BYTES_MAX: usize = 80 << 20;

/// The groups of one pass.
#[derive(Debug)]
pub(super) struct GroupAccumulator {
    spans: Spans,
    names: HashMap<String, u32>,
    /// For each shard, the value in `names` of each name that the shard sent, indexed by the shard's own number for
    /// the name.
    numbers: HashMap<ShardId, Vec<u32>>,
    open: BTreeMap<(u32, u32, Currency), Group>,
    done: Vec<SalesGroup>,
    bytes: usize,
    rows: u64,
}

#[derive(Debug, Default)]
struct Group {
    orders: i64,
    units: i128,
    revenue: i128,
    customers: Distinct,
    totals: Totals,
}

/// A set of distinct keys: the sorted ones, and those that arrived since the last sort.
#[derive(Debug, Default)]
struct Distinct {
    sorted: Vec<u64>,
    fresh: Vec<u64>,
}

/// The minimum number of fresh keys that [`Distinct::push`] merges at once.
const FRESH_MIN: usize = 1_024;

impl Distinct {
    #[inline]
    fn push(&mut self, key: u64) {
        push_tight(&mut self.fresh, key);
        if self.fresh.len() >= FRESH_MIN.max(self.sorted.len() / 4) {
            self.settle();
        }
    }

    /// Sorts the fresh keys and merges them into the sorted ones in linear time. [`Distinct::push`] calls it when
    /// there are at least [`FRESH_MIN`] fresh keys, and at least a quarter as many as sorted keys.
    fn settle(&mut self) {
        self.fresh.sort_unstable();
        self.fresh.dedup();
        let mut known = self.sorted.iter().copied().peekable();
        self.fresh.retain(|key| {
            while known.next_if(|known| known < key).is_some() {}
            known.peek() != Some(key)
        });
        let (mut from, mut to) = (self.sorted.len(), self.sorted.len() + self.fresh.len());
        self.sorted.reserve_exact(self.fresh.len());
        self.sorted.resize(to, 0);
        // The merge runs from the end, so that no key is overwritten before it is moved.
        while let Some(key) = self.fresh.pop() {
            while from > 0 && self.sorted[from - 1] > key {
                (from, to) = (from - 1, to - 1);
                self.sorted[to] = self.sorted[from];
            }
            to -= 1;
            self.sorted[to] = key;
        }
    }

    fn count(&mut self) -> u64 {
        self.settle();
        self.sorted.len() as u64
    }

    fn bytes(&self) -> usize {
        (self.sorted.capacity() + self.fresh.capacity()) * size_of::<u64>()
    }
}

impl GroupAccumulator {
    pub(super) fn new(spans: Spans) -> GroupAccumulator {
        GroupAccumulator {
            spans,
            names: HashMap::new(),
            numbers: HashMap::new(),
            open: BTreeMap::new(),
            done: Vec::new(),
            bytes: 0,
            rows: 0,
        }
    }

    /// Returns `true` if the groups hold more memory than allowed.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// Adds the sales from the next step of each shard. Takes about 30 ns per sale.
    pub(super) fn add(&mut self, shares: Vec<(ShardId, SaleParts)>) {
        for (shard, share) in shares {
            let numbers = self.numbers.entry(shard).or_default();
            for name in share.names {
                let next = self.names.len() as u32;
                numbers.push(*self.names.entry(name).or_insert(next));
            }
            self.rows += share.sales.len() as u64;
            // Sales are roughly ordered by time, so neighbours are mostly in one group.
            let (spans, mut span) = (&self.spans, ((i64::MAX, i64::MIN), 0_u32));
            let mut group_of = |at_us: i64| {
                if at_us < span.0.0 || at_us >= span.0.1 {
                    span = spans.find(at_us)?;
                }
                Some(span.1)
            };
            let mut sales = share
                .sales
                .iter()
                .filter_map(|sale| {
                    let name = numbers.get(sale.name as usize).copied().unwrap_or_default();
                    // A sale without a group arrived after the groups were determined, or its day is incomplete.
                    Some(((group_of(sale.ordered_at_us)?, name, sale.currency), sale))
                })
                .peekable();
            while let Some((key, sale)) = sales.next() {
                let group = self.open.entry(key).or_default();
                let before = group.bytes();
                group.add(sale);
                while let Some((_, sale)) = sales.next_if(|(next, _)| *next == key) {
                    group.add(sale);
                }
                self.bytes = self.bytes + group.bytes() - before;
            }
        }
    }

    /// Completes the groups by time that end by `end_us`.
    pub(super) fn finish_before(&mut self, end_us: i64) {
        while let Some(entry) = self.open.first_entry() {
            let (span, _, currency) = *entry.key();
            if !self.spans.ends_by(span, end_us) {
                return;
            }
            let group = entry.remove();
            self.bytes -= group.bytes();
            self.done.push(group.done(&self.spans, span, currency));
        }
    }

    /// Replaces every group's values with its figures. Nothing may be added afterwards.
    pub(super) fn settled(mut self) -> GroupAccumulator {
        let mut names = vec![String::new(); self.names.len()];
        for (name, number) in &self.names {
            names[*number as usize].clone_from(name);
        }
        for ((span, name, currency), group) in std::mem::take(&mut self.open) {
            let name = names.get(name as usize).cloned().unwrap_or_default();
            self.done.push(SalesGroup { name, ..group.done(&self.spans, span, currency) });
        }
        self.bytes = 0;
        self
    }

    /// Returns all groups and their number of sales.
    pub(super) fn finish(self) -> (Vec<SalesGroup>, u64) {
        let settled = self.settled();
        (settled.done, settled.rows)
    }
}

impl Group {
    #[inline]
    fn add(&mut self, sale: &SalePart) {
        self.orders += 1;
        self.units += i128::from(sale.units);
        self.revenue += i128::from(sale.revenue);
        self.customers.push(sale.customer_key);
        self.totals.push(sale.total);
    }

    fn bytes(&self) -> usize {
        self.customers.bytes() + self.totals.bytes()
    }

    fn done(mut self, spans: &Spans, span: u32, currency: Currency) -> SalesGroup {
        let customers = self.customers.count();
        let mut totals = self.totals;
        let quantiles = totals.nearest_ranks([0.5, 0.95, 0.99]);
        SalesGroup {
            start_us: spans.start_us(span),
            name: String::new(),
            currency,
            figures: Figures {
                orders: self.orders,
                units: self.units,
                revenue: self.revenue,
                details: Some((customers, quantiles)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn distinct_keys_are_as_many_as_a_set_has(keys in prop::collection::vec(0..3_000_u64, 0..8_000)) {
            let mut distinct = Distinct::default();
            for key in &keys {
                distinct.push(*key);
            }
            let expected: BTreeSet<u64> = keys.into_iter().collect();
            prop_assert_eq!(distinct.count(), expected.len() as u64);
            prop_assert!(distinct.sorted.iter().eq(expected.iter()));
            prop_assert!(distinct.bytes() <= 8 * (expected.len() + 2 * FRESH_MIN));
        }
    }

    #[test]
    fn customers_are_counted_once_and_ranks_are_values_that_are_there() {
        let usd = Currency::parse("USD").unwrap();
        let sale = |at: i64, customer_key: u64, total: i64| SalePart {
            ordered_at_us: at,
            name: 0,
            currency: usd,
            customer_key,
            total,
            units: 2,
            revenue: total,
        };
        let share = |sales: Vec<SalePart>| (ShardId(0), SaleParts { sales, names: Vec::new() });
        let mut adding = GroupAccumulator::new(Spans::each(vec![(0, 100), (100, 200), (250, 300)]));
        adding.add(vec![
            share((0..100).map(|n| sale(n, n as u64 % 7, n + 1)).collect()),
            share(vec![sale(99, 3, 1_000), sale(100, 1, 5)]),
        ]);
        adding.finish_before(100);
        assert_eq!(adding.open.len(), 1);
        assert_eq!(adding.bytes, adding.open.values().map(Group::bytes).sum::<usize>());
        adding.add(vec![share(vec![sale(250, 9, 9), sale(110, 1, 4), sale(240, 1, 4)])]);
        let (groups, rows) = adding.finish();
        assert_eq!((groups.len(), rows), (3, 105));
        let first = &groups[0];
        assert_eq!((first.start_us, first.figures.orders, first.figures.units), (0, 101, 202));
        assert_eq!(first.figures.revenue, 5_050 + 1_000);
        assert_eq!(first.figures.details, Some((7, [51, 96, 100])));
        assert_eq!(groups[1].figures.details, Some((1, [4, 5, 5])));
        assert_eq!((groups[2].start_us, groups[2].figures.orders), (250, 1));
    }
}
