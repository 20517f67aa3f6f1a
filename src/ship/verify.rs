//! Compares the rows of a shard with those of a target: first counts and sums of hashes by tenant and day, then the rows
//! of the days that differ.
//!
//! Server and shipper may run meanwhile: only rows up to the places that the target had at the start are compared.

use std::collections::BTreeMap;

use super::postgres::{
    IdRange, TargetPlace, VerifyTable, hash_of_click, hash_of_event, hash_of_item, hash_of_order,
    hash_of_price, hash_of_stock_event,
};
use super::rows::{Rows, ShipStream};
use super::sink::EpochId;
use crate::base::ids::ShardId;

const DAY_US: i64 = 86_400_000_000;

/// Rows of one tenant that were received on one day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// Empty for clicks.
    pub tenant_id: String,
    /// Days since 1970 UTC.
    pub day: i32,
}

/// A count of rows, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub rows: u64,
    pub sum: i128,
}

/// The counts of one table.
pub type Recounted = BTreeMap<Bucket, Tally>;

/// One row as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct CountedRow<'r> {
    pub id: i64,
    pub tenant_id: &'r str,
    pub day: i32,
    pub hash: i64,
}

/// Calls `each` with the rows of a table that some rows of its stream become. With `is_settled`, the hashes include what
/// later changes replace.
pub fn each_row(rows: &Rows, table: VerifyTable, is_settled: bool, mut each: impl FnMut(CountedRow<'_>)) {
    let mut row = |id, tenant_id: &str, received_us: i64, hash| {
        each(CountedRow { id, tenant_id, day: received_us.div_euclid(DAY_US) as i32, hash });
    };
    match (rows, table) {
        (Rows::Clicks(rows), VerifyTable::Clicks) => {
            rows.iter().for_each(|of| row(of.id, "", of.received_us, hash_of_click(of)));
        }
        (Rows::Events(rows), VerifyTable::Events) => {
            rows.iter().for_each(|of| row(of.id, &of.tenant_id, of.received_us, hash_of_event(of)));
        }
        (Rows::Orders(rows), VerifyTable::Orders) => {
            let hash = |of| hash_of_order(of, is_settled);
            rows.iter().for_each(|of| row(of.id, &of.tenant_id, of.received_us, hash(of)));
        }
        (Rows::Orders(rows), VerifyTable::OrderItems) => {
            for (of, item) in rows.iter().flat_map(|of| of.items.iter().map(move |item| (of, item))) {
                row(of.id, &of.tenant_id, of.received_us, hash_of_item(of, item));
            }
        }
        (Rows::StockEvents(rows), VerifyTable::StockEvents) => {
            rows.iter().for_each(|of| row(of.id, &of.tenant_id, of.received_us, hash_of_stock_event(of)));
        }
        (Rows::Prices(rows), VerifyTable::Prices) => {
            let hash = |of| hash_of_price(of, is_settled);
            rows.iter().for_each(|of| row(of.id, &of.tenant_id, of.received_us, hash(of)));
        }
        _ => {}
    }
}

/// Adds rows to the counts of a table.
pub fn count(rows: &Rows, table: VerifyTable, is_settled: bool, into: &mut Recounted) {
    each_row(rows, table, is_settled, |row| add(into, row.tenant_id, row.day, (1, row.hash.into())));
}

/// Adds a count to those of a table.
pub fn add(into: &mut Recounted, tenant_id: &str, day: i32, (rows, sum): (u64, i128)) {
    let tally = into.entry(Bucket { tenant_id: tenant_id.to_owned(), day }).or_default();
    tally.rows += rows;
    tally.sum += sum;
}

/// Returns the ids of a stream that the target has from the lives of one shard's file (oldest first). Rows before the
/// first range came from the files before a reshard.
#[must_use]
pub fn ranges(
    places: &[TargetPlace],
    shard: ShardId,
    epochs: &[EpochId],
    stream: ShipStream,
) -> Vec<IdRange> {
    let mut ranges = Vec::new();
    let mut end = i64::MAX;
    for epoch in epochs.iter().rev() {
        let is_it =
            |place: &&TargetPlace| place.shard == shard && place.stream == stream && place.epoch == *epoch;
        let Some(place) = places.iter().find(is_it) else { continue };
        let last = place.last.min(end);
        if last > place.began {
            ranges.push(IdRange { shard, epoch: epoch.clone(), after: place.began, last });
        }
        end = end.min(place.began);
    }
    ranges.reverse();
    ranges
}

/// Returns the buckets of the source that differ in the target.
#[must_use]
pub fn differing(source: &Recounted, target: &Recounted) -> Vec<Bucket> {
    let differs = |(bucket, tally): &(&Bucket, &Tally)| target.get(bucket) != Some(tally);
    source.iter().filter(differs).map(|(bucket, _)| bucket.clone()).collect()
}

/// The rows of one bucket that the source has and the target does not have, or has with another content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub missing: Vec<i64>,
    pub different: Vec<i64>,
}

/// Compares the rows of one bucket. Rows that only the target has were dropped or erased here.
#[must_use]
pub fn difference(source: &BTreeMap<i64, i128>, target: &BTreeMap<i64, i128>) -> Difference {
    let mut found = Difference::default();
    for (id, hash) in source {
        match target.get(id) {
            None => found.missing.push(*id),
            Some(known) if known != hash => found.different.push(*id),
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::rows::ClickRow;

    fn click(id: i64, user_id: i64, day: i64) -> ClickRow {
        let received_us = day * DAY_US + 5;
        ClickRow { id, user_id, timestamp_us: 1, received_us, metadata: String::new() }
    }

    fn counted(rows: Vec<ClickRow>) -> Recounted {
        let mut found = Recounted::new();
        count(&Rows::Clicks(rows), VerifyTable::Clicks, true, &mut found);
        found
    }

    #[test]
    fn a_changed_row_makes_its_day_differ() {
        let source = counted(vec![click(1, 1, 10), click(2, 2, 10), click(3, 3, -1)]);
        assert_eq!(source.values().map(|tally| tally.rows).collect::<Vec<_>>(), [1, 2]);
        let same = counted(vec![click(3, 3, -1), click(2, 2, 10), click(1, 1, 10)]);
        assert_eq!(differing(&source, &same), []);
        let other = counted(vec![click(3, 3, -1), click(2, 2, 10), click(1, 7, 10)]);
        assert_eq!(differing(&source, &other), [Bucket { tenant_id: String::new(), day: 10 }]);
        let fewer = counted(vec![click(1, 1, 10), click(2, 2, 10)]);
        assert_eq!(differing(&source, &fewer), [Bucket { tenant_id: String::new(), day: -1 }]);
    }

    #[test]
    fn rows_that_only_the_target_has_are_not_a_difference() {
        let source = BTreeMap::from([(1, 10), (2, 20), (4, 40)]);
        let target = BTreeMap::from([(1, 10), (2, 21), (3, 30)]);
        let expected = Difference { missing: vec![4], different: vec![2] };
        assert_eq!(difference(&source, &target), expected);
    }

    #[test]
    fn the_ids_of_a_copied_file_are_divided_between_its_lives() {
        let place = |epoch: &str, began, last| TargetPlace {
            shard: ShardId(0),
            epoch: EpochId(epoch.to_owned()),
            epoch_number: 0,
            stream: ShipStream::Clicks,
            last,
            began,
            at_us: 0,
        };
        let places = [place("a", 0, 80), place("b", 50, 70), place("other", 0, 9)];
        let epochs = ["a", "b"].map(|epoch| EpochId(epoch.to_owned()));
        let found: Vec<_> = ranges(&places, ShardId(0), &epochs, ShipStream::Clicks)
            .into_iter()
            .map(|range| (range.epoch.0, range.after, range.last))
            .collect();
        assert_eq!(found, [("a".to_owned(), 0, 50), ("b".to_owned(), 50, 70)]);
        assert!(ranges(&places, ShardId(1), &epochs, ShipStream::Clicks).is_empty());
        assert!(ranges(&places, ShardId(0), &epochs, ShipStream::Events).is_empty());
    }
}
