//! Single sales added up by group: distinct customers by sorting, ranks by sorting.

use std::collections::{BTreeMap, HashMap};

use super::{Figures, SalesGroup};
use crate::base::money::Currency;
use crate::shard::SingleSales;

/// Customers and totals of all groups together: 8 bytes each.
const VALUES_MAX: usize = 6_000_000;

/// The groups of one pass.
#[derive(Debug)]
pub(super) struct Adding {
    starts: Vec<i64>,
    names: HashMap<String, u32>,
    open: BTreeMap<(u32, u32, Currency), Group>,
    done: Vec<SalesGroup>,
    values: usize,
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
    totals: Vec<i64>,
}

impl Adding {
    pub(super) fn new(starts: Vec<i64>) -> Adding {
        Adding { starts, names: HashMap::new(), open: BTreeMap::new(), done: Vec::new(), values: 0, rows: 0 }
    }

    /// Whether more is held than may be.
    pub(super) fn is_full(&self) -> bool {
        self.values > VALUES_MAX
    }

    /// About 30 ns a sale.
    pub(super) fn add(&mut self, shares: Vec<SingleSales>) {
        for share in shares {
            let numbers: Vec<u32> = share
                .names
                .into_iter()
                .map(|name| {
                    let next = self.names.len() as u32;
                    *self.names.entry(name).or_insert(next)
                })
                .collect();
            self.rows += share.sales.len() as u64;
            for sale in share.sales {
                let start = self.starts.partition_point(|start| *start <= sale.ordered_at_us);
                let name = numbers.get(sale.name as usize).copied().unwrap_or_default();
                let key = (start.saturating_sub(1) as u32, name, sale.currency);
                let group = self.open.entry(key).or_default();
                group.orders += 1;
                group.units = group.units.saturating_add(sale.units);
                group.revenue = group.revenue.saturating_add(sale.revenue);
                group.customers.push(sale.customer_key);
                group.totals.push(sale.total);
                self.values += 2;
                if group.customers.len() > group.distinct * 2 + 4_096 {
                    self.values -= group.make_distinct();
                }
            }
        }
    }

    /// Groups in time that end by then are complete.
    pub(super) fn finish_before(&mut self, end_us: i64) {
        while let Some(entry) = self.open.first_entry() {
            let (start, name, currency) = *entry.key();
            let ends = self.starts.get(start as usize + 1).is_some_and(|next| *next <= end_us);
            if !ends {
                return;
            }
            let group = entry.remove();
            self.values -= group.customers.len() + group.totals.len();
            self.done.push(group.done(&self.starts, start, name, currency));
        }
    }

    /// All groups, and how many sales they are of.
    pub(super) fn finish(mut self) -> (Vec<SalesGroup>, u64) {
        let mut names = vec![String::new(); self.names.len()];
        for (name, number) in self.names {
            names[number as usize] = name;
        }
        let mut groups = self.done;
        for ((start, name, currency), group) in std::mem::take(&mut self.open) {
            groups.push(SalesGroup {
                name: names.get(name as usize).cloned().unwrap_or_default(),
                ..group.done(&self.starts, start, name, currency)
            });
        }
        (groups, self.rows)
    }
}

impl Group {
    /// How many were there twice.
    fn make_distinct(&mut self) -> usize {
        let before = self.customers.len();
        self.customers.sort_unstable();
        self.customers.dedup();
        self.distinct = self.customers.len();
        before - self.distinct
    }

    fn done(mut self, starts: &[i64], start: u32, _: u32, currency: Currency) -> SalesGroup {
        self.make_distinct();
        let mut totals = self.totals;
        let quantiles = [0.5, 0.95, 0.99].map(|q| nearest_rank(&mut totals, q));
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

/// The value that at least the share `q` of all are not above. There is at least one.
fn nearest_rank(values: &mut [i64], q: f64) -> i64 {
    let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len().max(1));
    if values.is_empty() {
        return 0;
    }
    *values.select_nth_unstable(rank - 1).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::SingleSale;

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
        let share = |sales: Vec<SingleSale>| SingleSales { sales, names: vec![String::new()] };
        let mut adding = Adding::new(vec![0, 100, 200]);
        adding.add(vec![
            share((0..100).map(|n| sale(n, n as u64 % 7, n + 1)).collect()),
            share(vec![sale(99, 3, 1_000), sale(100, 1, 5)]),
        ]);
        adding.finish_before(100);
        assert_eq!((adding.open.len(), adding.values), (1, 2));
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
