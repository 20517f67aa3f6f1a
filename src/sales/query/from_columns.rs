//! Exact figures from columns: every shard adds its sales to groups, by period or by name, and complete groups are merged.

use super::super::columns::{
    ColumnPool, ColumnScan, Coverage, GroupKey, NameTable, PeriodScan, SaleList, SharedLists, coverage,
};
use super::super::read::SaleSplit;
use super::super::spans::Spans;
use super::figures::{PASSES_MAX, SalesGroup, SalesQuery, SalesResult, TOO_LARGE};
use super::join_names::{JoinedNames, NamedLists};
use super::merge_lists::ListMerge;
use super::merge_logs::LogMerge;
use super::windows::{days, windows};
use crate::base::ids::ShardId;
use crate::query::{QueryError, Readers, received};

/// The maximum memory for the customers and totals of all groups together. Only one question at a time holds this much.
const BYTES_MAX: usize = if cfg!(test) { 6 << 10 } else { 80 << 20 };
/// The same for groups by category, which several passes read in parts. The set of customers may take all of it; while it
/// grows for the last time, it takes two thirds more for a moment.
const NAMED_BYTES_MAX: usize = if cfg!(test) { 16 << 10 } else { 104 << 20 };
/// The same for sales by product: 3.3 M orders of 10 M items in eight shards, in one pass.
const PRODUCT_BYTES_MAX: usize = if cfg!(test) { 8 << 10 } else { 120 << 20 };
/// The part of it by which the groups of all shards grow in one step.
const BYTES_PER_STEP: usize = 10 << 20;
/// The same for groups by period, which are merged after each step, while they are in the CPU's cache.
const PERIOD_BYTES_PER_STEP: usize = 4 << 20;
/// The number of sales in one window, over all shards, if not all fit into memory. Each takes 12 to 15 bytes.
const WINDOW_SALES: i64 = if cfg!(test) { 5 } else { 2_000_000 };
/// A question of fewer sales does not count as one that uses much memory.
const HEAVY_SALES: i64 = 100_000;
/// Columns are read if at least one in this many of the orders is selected. They are read whole, and rows by an index.
const SELECTED_SHARE: i64 = 16;

/// Returns what a question needs of all shards.
pub(super) async fn covered(
    readers: &Readers,
    query: &SalesQuery,
    range: (i64, i64),
) -> Result<Coverage, QueryError> {
    let of = query.of.clone();
    let shares =
        readers.ask_all(Coverage::default(), move |connection| coverage(connection, &of, range)).await?;
    Ok(shares.into_iter().fold(Coverage::default(), |sum, share| Coverage {
        wanted: sum.wanted + share.wanted,
        orders: sum.orders + share.orders,
        uncovered: sum.uncovered + share.uncovered,
    }))
}

/// Returns `true` if columns are faster than rows.
pub(super) fn is_faster(found: &Coverage) -> bool {
    found.wanted.saturating_mul(SELECTED_SHARE) >= found.orders && found.uncovered * 2 < found.orders
}

/// Returns `true` if the answer requires the permission to use much memory.
pub(super) fn is_heavy(found: &Coverage) -> bool {
    found.wanted > HEAVY_SALES
}

type Scans = Vec<(ShardId, ColumnScan)>;

fn scans(
    readers: &Readers,
    query: &SalesQuery,
    spans: &Spans,
    pins: &[i64],
    (names, shared): (impl Fn() -> NameTable, &SharedLists),
) -> Scans {
    let scan = |pin: &i64| ColumnScan::new(query.of.clone(), *pin, spans.clone(), names(), shared.clone());
    readers.shards().zip(pins.iter().map(scan)).collect()
}

/// Reads a window to its end in every shard. Returns `false` if its groups do not fit into memory, with what was read.
async fn read(
    readers: &Readers,
    mut scans: Scans,
    shared: &SharedLists,
    (window, bytes_max): ((i64, i64), usize),
) -> Result<(Scans, bool), QueryError> {
    scans.iter_mut().for_each(|(_, scan)| scan.begin(window));
    let step_bytes = BYTES_PER_STEP / scans.len().max(1);
    while scans.iter().any(|(_, scan)| !scan.is_done) {
        let mut asked = Vec::with_capacity(scans.len());
        for (shard, scan) in scans {
            if scan.is_done {
                asked.push((shard, Ok(scan)));
                continue;
            }
            let absent = scan.absent();
            let step = move |connection: &rusqlite::Connection| scan.step(connection, step_bytes);
            asked.push((shard, Err(readers.ask(shard, absent, step)?)));
        }
        scans = Vec::with_capacity(asked.len());
        for (shard, scan) in asked {
            let scan = match scan {
                Ok(done) => done,
                Err(answer) => received(answer.recv().await)?,
            };
            scans.push((shard, scan));
        }
        let bytes: usize = scans.iter().map(|(_, scan)| scan.bytes()).sum();
        if bytes + shared.bytes() > bytes_max {
            return Ok((scans, false));
        }
    }
    Ok((scans, true))
}

/// Merges complete groups, in bounded slices.
async fn merged(
    readers: &Readers,
    mut merge: ListMerge,
    lists: Vec<(GroupKey, SaleList)>,
    spans: &Spans,
    names: JoinedNames,
) -> Result<ListMerge, QueryError> {
    if lists.is_empty() {
        return Ok(merge);
    }
    merge.add(lists);
    let mut state = (merge, names, false);
    while !state.2 {
        let spans = spans.clone();
        let (mut merge, names, _) = state;
        let slice = move || {
            let is_done = merge.slice(&spans, &names);
            (merge, names, is_done)
        };
        state = readers.compute(slice).await?;
    }
    Ok(state.0)
}

/// Merges the logs of all shards, in bounded slices.
async fn merged_logs(
    readers: &Readers,
    mut scans: Scans,
    spans: &Spans,
) -> Result<Vec<SalesGroup>, QueryError> {
    let start_us = spans.start_us(0);
    let begin = move || LogMerge::new(scans.iter_mut().map(|(_, scan)| scan));
    let mut state = (readers.compute(begin).await?, false);
    while !state.1 {
        let (mut merge, _) = state;
        let slice = move || {
            let is_done = merge.slice(start_us);
            (merge, is_done)
        };
        state = readers.compute(slice).await?;
    }
    Ok(state.0.done)
}

/// Computes groups by time: in one reading of all sales, or in windows of them if most of them have to be kept at once.
pub(super) async fn by_period(
    readers: &Readers,
    query: &SalesQuery,
    spans: Spans,
    bounds: (i64, i64),
    (pins, pool): (&[i64], ColumnPool),
) -> Result<SalesResult, QueryError> {
    let all = spans.clip(bounds).into_iter().collect();
    if let Some(result) = in_windows(readers, query, &spans, all, (pins, &pool)).await? {
        return Ok(result);
    }
    let days = days(readers, query, bounds).await?;
    let windows = windows(bounds, &days, WINDOW_SALES).into_iter().filter_map(|window| spans.clip(window));
    in_windows(readers, query, &spans, windows.collect(), (pins, &pool)).await?.ok_or(TOO_LARGE)
}

/// Computes groups by time, window by window. Groups are merged and freed once nothing that is not read yet has sales of
/// them. Returns `None` if those that are not complete do not fit into memory.
async fn in_windows(
    readers: &Readers,
    query: &SalesQuery,
    spans: &Spans,
    windows: Vec<(i64, i64)>,
    (pins, pool): (&[i64], &ColumnPool),
) -> Result<Option<SalesResult>, QueryError> {
    let scan = |pin: &i64| PeriodScan::new(query.of.clone(), *pin, spans.clone(), pool.clone());
    let mut scans: Vec<(ShardId, PeriodScan)> = readers.shards().zip(pins.iter().map(scan)).collect();
    let (mut merge, mut ended) = (ListMerge::default(), 0);
    for window in windows {
        scans.iter_mut().for_each(|(_, scan)| scan.begin(window));
        while scans.iter().any(|(_, scan)| !scan.is_done()) {
            scans = period_steps(readers, scans).await?;
            if scans.iter().map(|(_, scan)| scan.groups.bytes()).sum::<usize>() > BYTES_MAX {
                return Ok(None);
            }
            let unread_from_us = scans.iter().map(|(_, scan)| scan.unread_from_us()).min();
            let until_us = unread_from_us.unwrap_or(i64::MAX).min(window.1);
            // Nothing else is complete until a further period has ended.
            let ended_now = spans.ended_by(until_us);
            if ended_now <= ended {
                continue;
            }
            ended = ended_now;
            let is_complete = |group| spans.ends_by(group, until_us);
            let lists = scans.iter_mut().flat_map(|(_, scan)| scan.groups.take(is_complete)).collect();
            merge = merged(readers, merge, lists, spans, JoinedNames::default()).await?;
        }
    }
    let lists = scans.iter_mut().flat_map(|(_, scan)| scan.groups.take(|_| true)).collect();
    let merge = merged(readers, merge, lists, spans, JoinedNames::default()).await?;
    let rows_scanned = scans.iter().map(|(_, scan)| scan.groups.rows).sum();
    Ok(Some(SalesResult { groups: merge.done, rows_scanned, ..SalesResult::default() }))
}

/// Runs a step in every shard that has something left.
async fn period_steps(
    readers: &Readers,
    scans: Vec<(ShardId, PeriodScan)>,
) -> Result<Vec<(ShardId, PeriodScan)>, QueryError> {
    let step_bytes = PERIOD_BYTES_PER_STEP / scans.len().max(1);
    let (mut read, mut asked) = (Vec::with_capacity(scans.len()), Vec::with_capacity(scans.len()));
    for (shard, scan) in scans {
        if scan.is_done() {
            read.push((shard, scan));
            continue;
        }
        let absent = scan.absent();
        let step = move |connection: &rusqlite::Connection| scan.step(connection, step_bytes);
        asked.push((shard, readers.ask(shard, absent, step)?));
    }
    for (shard, answer) in asked {
        read.push((shard, received(answer.recv().await)?));
    }
    // No figure depends on the order of the shards.
    Ok(read)
}

/// Computes groups by name, in as many passes over parts of the names as memory requires.
pub(super) async fn by_name(
    readers: &Readers,
    query: &SalesQuery,
    by: SaleSplit,
    (spans, bounds): (&Spans, (i64, i64)),
    (pins, pool): (&[i64], ColumnPool),
) -> Result<SalesResult, QueryError> {
    let mut passes = 1;
    loop {
        match in_passes(readers, query, by, (spans, bounds), (pins, &pool), passes).await? {
            Passes::Done(result) => return Ok(result),
            Passes::TooFew(next) if passes < PASSES_MAX => passes = next.min(PASSES_MAX),
            Passes::TooFew(_) => return Err(TOO_LARGE),
        }
    }
}

/// The result of a number of passes.
enum Passes {
    Done(SalesResult),
    /// A pass did not fit into memory. With this many, each might.
    TooFew(u32),
}

async fn in_passes(
    readers: &Readers,
    query: &SalesQuery,
    by: SaleSplit,
    (spans, bounds): (&Spans, (i64, i64)),
    (pins, pool): (&[i64], &ColumnPool),
    passes: u32,
) -> Result<Passes, QueryError> {
    let mut result = SalesResult::default();
    let bytes_max = if by == SaleSplit::Product { PRODUCT_BYTES_MAX } else { NAMED_BYTES_MAX };
    for pass in 0..passes {
        let names = || NameTable::new(by, (pass, passes));
        let shared = SharedLists::new(bytes_max, pool.clone());
        let scans = scans(readers, query, spans, pins, (names, &shared));
        let (mut scans, fits) = read(readers, scans, &shared, (bounds, bytes_max)).await?;
        if !fits {
            // Smaller parts of the names get as much further as there are more of them.
            let progress = scans.iter().map(|(_, scan)| scan.progress()).sum::<f64>() / scans.len() as f64;
            return Ok(Passes::TooFew((f64::from(passes) / progress.max(1e-3)).ceil() as u32 + 1));
        }
        result.rows_scanned += scans.iter().map(|(_, scan)| scan.rows()).sum::<u64>();
        if by == SaleSplit::Product {
            // With the columns that are kept for the next step.
            drop(shared);
            result.groups.extend(merged_logs(readers, scans, spans).await?);
            continue;
        }
        let join = move || NamedLists::join(scans.iter_mut().map(|(_, scan)| scan), &shared);
        let NamedLists { names, lists, customers, .. } = readers.compute(join).await?;
        let merge = ListMerge::with_customers(customers);
        result.groups.extend(merged(readers, merge, lists, spans, names).await?.done);
    }
    Ok(Passes::Done(result))
}
