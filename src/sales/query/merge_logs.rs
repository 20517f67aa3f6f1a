//! Merges the shards' logs of sales: their parts are scattered by group into one array, whose places the histograms
//! give, and then each group is counted.

use std::collections::{HashMap, VecDeque};

use super::super::columns::{CHUNK, ColumnScan, GroupKey, LARGE, LoggedOrder, PartSum, each_part};
use super::super::totals::Totals;
use super::figures::{Figures, SalesGroup};
use super::join_names::JoinedNames;
use super::merge_lists::KeySet;
use crate::base::clock;

/// The time after which a slice ends. One group takes as long as it takes.
const SLICE_US: u64 = 10_000;

/// The state of a merge.
#[derive(Debug, Default)]
pub(super) struct LogMerge {
    names: JoinedNames,
    groups: Vec<(GroupKey, PartSum)>,
    logs: VecDeque<Log>,
    /// The orders of all shards, in chunks. The number of an order has its chunk and its place in it.
    orders: Vec<Vec<LoggedOrder>>,
    large: HashMap<u32, i64>,
    /// The number of the order of each part, by group.
    scattered: Vec<u32>,
    /// The place of each group's next part in `scattered`, and its end once all are there.
    ends: Vec<u32>,
    next_group: usize,
    seen: KeySet,
    customers: Vec<u64>,
    pub(super) done: Vec<SalesGroup>,
}

/// The parts of one shard that are not scattered yet.
#[derive(Debug)]
struct Log {
    parts: VecDeque<Vec<u16>>,
    /// The group of each of the shard's sums.
    groups: Vec<u32>,
    /// The number of the next order.
    next_order: u32,
}

impl LogMerge {
    /// Takes the logs of all shards. Takes about 0.2 us for each name of each shard.
    pub(super) fn new<'s>(scans: impl Iterator<Item = &'s mut ColumnScan>) -> LogMerge {
        let mut merge = LogMerge::default();
        let mut known = HashMap::<GroupKey, u32>::new();
        for scan in scans {
            let numbers = merge.names.numbers(scan.names());
            let log = std::mem::take(&mut scan.log);
            let groups = log.sums.into_iter().map(|((name, currency), sum)| {
                let key = (numbers.get(name as usize).copied().unwrap_or(u32::MAX), currency);
                let group = *known.entry(key).or_insert_with(|| {
                    merge.groups.push((key, PartSum::default()));
                    merge.groups.len() as u32 - 1
                });
                let all = &mut merge.groups[group as usize].1;
                all.orders += sum.orders;
                all.units += sum.units;
                all.revenue += sum.revenue;
                group
            });
            let groups: Vec<u32> = groups.collect();
            let next_order = (merge.orders.len() * CHUNK) as u32;
            merge.large.extend(log.large.into_iter().map(|(order, total)| (next_order + order, total)));
            merge.orders.extend(log.orders);
            merge.logs.push_back(Log { parts: log.parts.into(), groups, next_order });
        }
        let mut end = 0;
        for (_, sum) in &merge.groups {
            merge.ends.push(end);
            end += sum.orders;
        }
        merge.scattered = vec![0; end as usize];
        merge
    }

    /// Merges for about 10 ms. Returns `true` once all groups are complete. Their sales began at `start_us`.
    pub(super) fn slice(&mut self, start_us: i64) -> bool {
        let until_us = clock::monotonic_us() + SLICE_US;
        while let Some(log) = self.logs.front_mut() {
            match log.parts.pop_front() {
                Some(chunk) => scatter(&chunk, log, &mut self.ends, &mut self.scattered),
                None => _ = self.logs.pop_front(),
            }
            if clock::monotonic_us() >= until_us {
                return false;
            }
        }
        while self.next_group < self.groups.len() {
            let group = self.group(start_us);
            self.done.push(group);
            self.next_group += 1;
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        self.next_group == self.groups.len()
    }

    /// Returns the figures of the next group. Takes about 10 ns a part.
    fn group(&mut self, start_us: i64) -> SalesGroup {
        let ((name, currency), sum) = self.groups[self.next_group];
        let end = self.ends[self.next_group] as usize;
        let parts = &self.scattered[end - sum.orders as usize..end];
        let order = |number: &u32| self.orders[*number as usize / CHUNK][*number as usize % CHUNK];
        self.customers.clear();
        // Loops of known length that only copy, so that several orders are waited for at the same time.
        self.customers.extend(parts.iter().map(|number| order(number).customer()));
        let mut totals = Totals::of_small(parts.iter().map(|number| order(number).total()).collect());
        if totals.has_small(LARGE) {
            totals = Totals::default();
            for number in parts {
                let total = order(number).total();
                let large = || self.large.get(number).copied().unwrap_or_default();
                totals.push(if total == LARGE { large() } else { i64::from(total) });
            }
        }
        let customers = self.seen.count(std::iter::once(self.customers.as_slice()));
        let figures = Figures {
            orders: i64::from(sum.orders),
            units: sum.units,
            revenue: sum.revenue,
            details: Some((customers, totals.nearest_ranks([0.5, 0.95, 0.99]))),
        };
        SalesGroup { start_us, name: self.names.get(name).unwrap_or_default().to_owned(), currency, figures }
    }
}

/// Scatters a chunk of parts.
fn scatter(chunk: &[u16], log: &mut Log, ends: &mut [u32], scattered: &mut [u32]) {
    let Log { groups, next_order, .. } = log;
    each_part(chunk, |place, is_first| {
        *next_order += u32::from(is_first);
        let end = &mut ends[groups[place as usize] as usize];
        scattered[*end as usize] = *next_order - 1;
        *end += 1;
    });
}
