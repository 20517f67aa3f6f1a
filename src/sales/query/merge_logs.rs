//! Merges the shards' logs of sales, one bucket of names after the other: its parts are scattered by group into two
//! arrays, whose places the sums give, and then each of its groups is counted.

use std::collections::HashMap;

use super::super::columns::{BUCKETS, Bucket, ColumnScan, GroupKey, LARGE, LoggedOrders, PartSum};
use super::super::totals::{Totals, nearest_of_small};
use super::figures::{Figures, SalesGroup};
use super::join_names::JoinedNames;
use super::merge_lists::KeySet;
use crate::base::clock;
use crate::base::money::Currency;

/// The time after which a slice ends. One bucket is scattered in one go, and one group takes as long as it takes.
const SLICE_US: u64 = 10_000;
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// The state of a merge.
#[derive(Debug, Default)]
pub(super) struct LogMerge {
    names: Vec<String>,
    groups: Vec<(GroupKey, PartSum)>,
    logs: Vec<Log>,
    next_bucket: usize,
    /// The groups of the current bucket that are not counted yet, in descending order.
    left: Vec<u32>,
    /// The customers and the totals of the bucket's parts, by group.
    customers: Vec<u64>,
    totals: Vec<u32>,
    /// The place of each group's next part in them, and its end once all are there.
    ends: Vec<u32>,
    /// Totals that do not fit into 32 bits, by group.
    large: HashMap<u32, Vec<i64>>,
    seen: KeySet,
    pub(super) done: Vec<SalesGroup>,
}

/// The parts of one shard.
#[derive(Debug)]
struct Log {
    orders: LoggedOrders,
    buckets: Vec<Bucket>,
    /// The group of each of the shard's sums, and its orders.
    sums: Vec<(u32, u32)>,
}

impl LogMerge {
    /// Takes the logs of all shards. Takes about 0.1 us for each name of each shard.
    pub(super) fn new<'s>(scans: impl Iterator<Item = &'s mut ColumnScan>) -> LogMerge {
        let mut merge = LogMerge::default();
        let scans: Vec<&mut ColumnScan> = scans.collect();
        let (mut lists, mut logs) = (Vec::new(), Vec::new());
        for scan in scans {
            lists.push(scan.names());
            logs.push(std::mem::take(&mut scan.log));
        }
        let (names, numbers) = JoinedNames::join(lists);
        merge.names = names;
        // For each currency, the group of each name plus one, or 0 if the name has none yet.
        let mut known: Vec<(Currency, Vec<u32>)> = Vec::new();
        for (mut log, numbers) in logs.into_iter().zip(numbers) {
            let sums = log.take_sums().into_iter().map(|((name, currency), sum)| {
                let name = numbers.get(name as usize).copied().unwrap_or_default();
                let of_currency = match known.iter().position(|(known, _)| *known == currency) {
                    Some(place) => &mut known[place].1,
                    None => {
                        known.push((currency, vec![0; merge.names.len()]));
                        let place = known.len() - 1;
                        &mut known[place].1
                    }
                };
                let group = &mut of_currency[name as usize];
                if *group == 0 {
                    merge.groups.push(((name, currency), PartSum::default()));
                    *group = merge.groups.len() as u32;
                }
                let all = &mut merge.groups[*group as usize - 1].1;
                all.orders += sum.orders;
                all.units += sum.units;
                all.revenue += sum.revenue;
                (*group - 1, sum.orders)
            });
            let sums = sums.collect();
            let buckets = log.take_buckets();
            merge.logs.push(Log { orders: log.orders, buckets, sums });
        }
        merge.ends = vec![u32::MAX; merge.groups.len()];
        merge
    }

    /// Merges for about 10 ms. Returns `true` once all groups are complete. Their sales began at `start_us`.
    pub(super) fn slice(&mut self, start_us: i64) -> bool {
        let until_us = clock::monotonic_us() + SLICE_US;
        loop {
            match self.left.pop() {
                Some(group) => self.count(group, start_us),
                None if self.next_bucket == BUCKETS => return true,
                None => self.scatter(),
            }
            if clock::monotonic_us() >= until_us {
                return false;
            }
        }
    }

    /// Scatters the parts of the next bucket by group. Takes about 3 ns a part.
    fn scatter(&mut self) {
        let LogMerge { groups, logs, next_bucket, left, customers, totals, ends, large, .. } = self;
        let next = *next_bucket;
        *next_bucket += 1;
        let taken = |log: &mut Log| log.buckets.get_mut(next).map(std::mem::take).unwrap_or_default();
        let buckets: Vec<Bucket> = logs.iter_mut().map(taken).collect();
        let mut len = 0;
        for (log, bucket) in logs.iter().zip(&buckets) {
            for sum in &bucket.sums {
                let group = log.sums[*sum as usize].0 as usize;
                if ends[group] == u32::MAX {
                    ends[group] = len;
                    len += groups[group].1.orders;
                    left.push(group as u32);
                }
            }
        }
        left.reverse();
        // Every place up to this one is written.
        customers.resize(len as usize, 0);
        totals.resize(len as usize, 0);
        let mut gathered = Vec::new();
        for (log, bucket) in logs.iter().zip(buckets) {
            let begin = |sum: &u32| {
                let (group, orders) = log.sums[*sum as usize];
                let end = &mut ends[group as usize];
                *end += orders;
                *end - orders
            };
            let mut places: Vec<u32> = bucket.sums.iter().map(begin).collect();
            let mut order = 0;
            for chunk in bucket.chunks {
                // In a loop of their own, so that many orders are waited for at the same time.
                gathered.clear();
                for part in &chunk {
                    let Some(of) = part.next(&mut order) else { continue };
                    let (customer, total) = log.orders.get(order);
                    gathered.push((customer, total, of as u32));
                    if total == LARGE {
                        let group = log.sums[bucket.sums[of] as usize].0;
                        large.entry(group).or_default().push(log.orders.large(order));
                    }
                }
                for (customer, total, of) in &gathered {
                    let place = &mut places[*of as usize];
                    (customers[*place as usize], totals[*place as usize]) = (*customer, *total);
                    *place += 1;
                }
            }
        }
    }

    /// Counts a group of the scattered bucket. Takes about 10 ns a part.
    fn count(&mut self, group: u32, start_us: i64) {
        let ((name, currency), sum) = self.groups[group as usize];
        let end = self.ends[group as usize] as usize;
        let parts = end - sum.orders as usize..end;
        let customers = self.seen.count_one(&self.customers[parts.clone()]);
        let totals = &mut self.totals[parts];
        let quantiles = match self.large.remove(&group) {
            None => nearest_of_small(totals, QUANTILES),
            Some(large) => {
                let mut all =
                    Totals::of_small(totals.iter().copied().filter(|total| *total != LARGE).collect());
                large.into_iter().for_each(|total| _ = all.push(total));
                all.nearest_ranks(QUANTILES)
            }
        };
        let figures = Figures {
            orders: i64::from(sum.orders),
            units: sum.units,
            revenue: sum.revenue,
            details: Some((customers, quantiles)),
        };
        let name = self.names.get(name as usize).cloned().unwrap_or_default();
        self.done.push(SalesGroup { start_us, name, currency, figures });
    }
}
