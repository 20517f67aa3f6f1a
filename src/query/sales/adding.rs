//! Single sales added up by group: distinct customers by sorting, ranks by sorting.

use std::collections::{BTreeMap, HashMap};

use super::{Figures, SalesGroup};
use crate::base::ids::ShardId;
use crate::base::money::Currency;
use crate::shard::{SingleSale, SingleSales};

/// Customers and totals of all groups together; one query at a time holds so much.
const BYTES_MAX: usize = 96 << 20;
/// A customer's key, and most totals.
const CUSTOMER_BYTES: usize = 8;
const TOTAL_BYTES: usize = 4;

/// The groups of one pass.
#[derive(Debug)]
pub(super) struct Adding {
    starts: Vec<i64>,
    names: HashMap<String, u32>,
    /// By shard: the numbers here of the names it told, in its order.
    numbers: HashMap<ShardId, Vec<u32>>,
    open: BTreeMap<(u32, u32, Currency), Group>,
    done: Vec<SalesGroup>,
    bytes: usize,
    rows: u64,
}

#[derive(Debug, Default)]
struct Group {
    orders: i64,
    units: i64,
    revenue: i64,
    customers: Vec<u64>,
    /// How many of them there were when they were last made distinct.
    distinct: usize,
    totals: Totals,
}

/// Totals by size: nearly all fit in half the bytes.
#[derive(Debug, Default)]
struct Totals {
    small: Vec<u32>,
    /// Those that do not fit: greater than all others. None is negative.
    large: Vec<i64>,
}

impl Totals {
    #[inline]
    fn push(&mut self, total: i64) {
        match u32::try_from(total) {
            Ok(total) => self.small.push(total),
            Err(_) => self.large.push(total),
        }
    }

    fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    /// The value that at least the share `q` of all are not above; 0 where there is none.
    fn nearest_rank(&mut self, q: f64) -> i64 {
        let rank = ((q * self.len() as f64).ceil() as usize).clamp(1, self.len().max(1)) - 1;
        if rank < self.small.len() {
            return i64::from(*self.small.select_nth_unstable(rank).1);
        }
        let rank = rank - self.small.len();
        if rank < self.large.len() { *self.large.select_nth_unstable(rank).1 } else { 0 }
    }
}

impl Adding {
    pub(super) fn new(starts: Vec<i64>) -> Adding {
        Adding {
            starts,
            names: HashMap::new(),
            numbers: HashMap::new(),
            open: BTreeMap::new(),
            done: Vec::new(),
            bytes: 0,
            rows: 0,
        }
    }

    /// Whether more is held than may be.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// Takes the next step of each shard. About 30 ns a sale.
    pub(super) fn add(&mut self, shares: Vec<(ShardId, SingleSales)>) {
        for (shard, share) in shares {
            let numbers = self.numbers.entry(shard).or_default();
            for name in share.names {
                let next = self.names.len() as u32;
                numbers.push(*self.names.entry(name).or_insert(next));
            }
            self.rows += share.sales.len() as u64;
            // Sales come about in order of time: neighbours are of one group.
            let (starts, mut span) = (&self.starts, (i64::MAX, i64::MIN, 0_u32));
            let mut group_of = |at_us: i64| {
                if at_us < span.0 || at_us >= span.1 {
                    let next = starts.partition_point(|start| *start <= at_us);
                    let begin = next.checked_sub(1).map_or(i64::MIN, |at| starts[at]);
                    let end = starts.get(next).copied().unwrap_or(i64::MAX);
                    span = (begin, end, next.saturating_sub(1) as u32);
                }
                span.2
            };
            let mut sales = share
                .sales
                .iter()
                .map(|sale| {
                    let name = numbers.get(sale.name as usize).copied().unwrap_or_default();
                    ((group_of(sale.ordered_at_us), name, sale.currency), sale)
                })
                .peekable();
            while let Some((key, sale)) = sales.next() {
                let group = self.open.entry(key).or_default();
                self.bytes += group.add(sale);
                while let Some((_, sale)) = sales.next_if(|(next, _)| *next == key) {
                    self.bytes += group.add(sale);
                }
                if group.customers.len() > group.distinct * 2 + 4_096 {
                    self.bytes -= group.make_distinct() * CUSTOMER_BYTES;
                }
            }
        }
    }

    /// Groups in time that end by then are complete.
    pub(super) fn finish_before(&mut self, end_us: i64) {
        while let Some(entry) = self.open.first_entry() {
            let (start, _, currency) = *entry.key();
            let ends = self.starts.get(start as usize + 1).is_some_and(|next| *next <= end_us);
            if !ends {
                return;
            }
            let group = entry.remove();
            self.bytes -= group.customers.len() * CUSTOMER_BYTES + group.totals.len() * TOTAL_BYTES;
            self.done.push(group.done(&self.starts, start, currency));
        }
    }

    /// Nothing more comes: every group's figures instead of its values.
    pub(super) fn settled(mut self) -> Adding {
        let mut names = vec![String::new(); self.names.len()];
        for (name, number) in &self.names {
            names[*number as usize].clone_from(name);
        }
        for ((start, name, currency), group) in std::mem::take(&mut self.open) {
            let name = names.get(name as usize).cloned().unwrap_or_default();
            self.done.push(SalesGroup { name, ..group.done(&self.starts, start, currency) });
        }
        self.bytes = 0;
        self
    }

    /// All groups, and how many sales they are of.
    pub(super) fn finish(self) -> (Vec<SalesGroup>, u64) {
        let settled = self.settled();
        (settled.done, settled.rows)
    }
}

impl Group {
    /// How many bytes it takes.
    #[inline]
    fn add(&mut self, sale: &SingleSale) -> usize {
        self.orders += 1;
        self.units = self.units.saturating_add(sale.units);
        self.revenue = self.revenue.saturating_add(sale.revenue);
        self.customers.push(sale.customer_key);
        self.totals.push(sale.total);
        CUSTOMER_BYTES + TOTAL_BYTES
    }

    /// How many were there twice.
    fn make_distinct(&mut self) -> usize {
        let before = self.customers.len();
        self.customers.sort_unstable();
        self.customers.dedup();
        self.distinct = self.customers.len();
        before - self.distinct
    }

    fn done(mut self, starts: &[i64], start: u32, currency: Currency) -> SalesGroup {
        self.make_distinct();
        let mut totals = self.totals;
        let quantiles = [0.5, 0.95, 0.99].map(|q| totals.nearest_rank(q));
        SalesGroup {
            start_us: starts.get(start as usize).copied().unwrap_or_default(),
            name: String::new(),
            currency,
            figures: Figures {
                orders: self.orders,
                units: self.units,
                revenue: self.revenue,
                details: Some((self.customers.len() as u64, quantiles)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_are_counted_once_and_ranks_are_values_that_are_there() {
        let usd = Currency::parse("USD").unwrap();
        let sale = |at: i64, customer_key: u64, total: i64| SingleSale {
            ordered_at_us: at,
            name: 0,
            currency: usd,
            customer_key,
            total,
            units: 2,
            revenue: total,
        };
        let share = |sales: Vec<SingleSale>| (ShardId(0), SingleSales { sales, names: Vec::new() });
        let mut adding = Adding::new(vec![0, 100, 200]);
        adding.add(vec![
            share((0..100).map(|n| sale(n, n as u64 % 7, n + 1)).collect()),
            share(vec![sale(99, 3, 1_000), sale(100, 1, 5)]),
        ]);
        adding.finish_before(100);
        assert_eq!((adding.open.len(), adding.bytes), (1, 12));
        adding.add(vec![share(vec![sale(250, 9, 9), sale(110, 1, 4)])]);
        let (groups, rows) = adding.finish();
        assert_eq!((groups.len(), rows), (3, 104));
        let first = &groups[0];
        assert_eq!((first.start_us, first.figures.orders, first.figures.units), (0, 101, 202));
        assert_eq!(first.figures.revenue, 5_050 + 1_000);
        assert_eq!(first.figures.details, Some((7, [51, 96, 100])));
        assert_eq!(groups[1].figures.details, Some((1, [4, 5, 5])));
        assert_eq!(groups[2].start_us, 200);
    }
}
