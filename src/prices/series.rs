//! The series of prices in memory: the prices of a product in a currency.
//!
//! An accepted price is found by time in `price_sorted`, which gets the prices of a series a few at a time. The others,
//! its tail, are the newest rows of the series, each of which names the one before it. A commit therefore changes a page
//! of the index once in [`TAIL_MAX`] prices of a series. In memory, a series has its tail and its newest prices of the
//! index, so that a price that arrives in order of time is judged without a read. A series that a batch changes is
//! written once, at the end of the batch.

use std::collections::HashMap;
use std::fmt::Write as _;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::convert;
use crate::base::keys::KeyHasher;
use crate::shard::ShardError;
use crate::shard::ids::Ids;

/// The maximum number of rows of a series that are not in the index.
const TAIL_MAX: usize = if cfg!(test) { 3 } else { 16 };
/// The number of newest prices of the index that are kept in memory, for each series.
const RECENT_MAX: usize = if cfg!(test) { 4 } else { 24 };
/// The memory for series, about 4,000 of them with as many prices as possible.
const BYTES_MAX: usize = if cfg!(test) { 3_000 } else { 16 << 20 };
/// The approximate bytes of a series without prices, and of a price.
const SERIES_BYTES: usize = 256;
const ENTRY_BYTES: usize = 96;

/// An accepted price.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    at_us: i64,
    event_id: Box<str>,
    price: i64,
    /// `price_row.id`
    id: i64,
}

impl Entry {
    fn key(&self) -> (i64, &str) {
        (self.at_us, &self.event_id)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
        let event_id = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?.into();
        Ok(Entry { at_us: row.get(0)?, event_id, price: row.get(2)?, id: row.get(3)? })
    }
}

/// The accepted prices before or after a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

/// A price that is appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewPrice<'a> {
    pub(super) id: i64,
    pub(super) event_id: &'a str,
    pub(super) at_us: i64,
    pub(super) price: i64,
    pub(super) received_us: i64,
    pub(super) is_accepted: bool,
    /// The limits of a price event: those of the change and of the score, and the window.
    pub(super) rules: Option<(u32, u32, u16)>,
    /// `price_anomaly.id`
    pub(super) anomaly: Option<i64>,
}

/// One series.
#[derive(Debug)]
pub(super) struct Series {
    /// `price_series.id`
    pub(super) id: i64,
    tenant: i64,
    product_id: Box<str>,
    currency: Box<str>,
    last: i64,
    sorted: i64,
    accepted: Option<i64>,
    /// The accepted prices that are not in the index, by time.
    tail: Vec<Entry>,
    /// The number of rows that are not in the index, including those that are not accepted.
    tail_rows: usize,
    /// The newest prices of the index, by time.
    recent: Vec<Entry>,
    /// Whether the index has no others.
    is_whole: bool,
    /// Whether upkeep has yet to move prices of the product.
    pub(super) has_earlier: bool,
    is_changed: bool,
    /// When it was last asked for, in batches.
    used: u64,
}

const COLUMNS: &str = "id, tenant, product_id, currency, last, sorted, accepted";
/// The SQL that finds a series.
const FIND_SQL: &str = "SELECT id, tenant, product_id, currency, last, sorted, accepted FROM price_series \
                        WHERE tenant = ?1 AND product_id = ?2 AND currency = ?3";
/// The SQL that reads the rows of a series that are not in the index, newest first.
const TAIL_SQL: &str = "SELECT observed_at_us, event_id, price, id, accepted, previous FROM price_row \
                        WHERE id = ?1 AND series = ?2";
const BEFORE_SQL: &str = "SELECT observed_at_us, event_id, price, id FROM price_sorted WHERE series = ?1 \
                          AND (observed_at_us, event_id) < (?2, ?3) ORDER BY observed_at_us DESC, event_id DESC LIMIT ?4";
const AFTER_SQL: &str = "SELECT observed_at_us, event_id, price, id FROM price_sorted WHERE series = ?1 \
                         AND (observed_at_us, event_id) > (?2, ?3) ORDER BY observed_at_us, event_id LIMIT ?4";
const RECENT_SQL: &str = "SELECT observed_at_us, event_id, price, id FROM price_sorted WHERE series = ?1 \
                          ORDER BY observed_at_us DESC, event_id DESC LIMIT ?2";

/// The SQL that appends a price.
const INSERT_SQL: &str = "INSERT INTO price_row (id, series, previous, event_id, observed_at_us, price, received_us, \
    accepted, change_bp_max, score_milli_max, window_max, anomaly) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
const SORT_SQL: &str = "INSERT INTO price_sorted (series, observed_at_us, event_id, price, id) \
                        VALUES (?1, ?2, ?3, ?4, ?5)";

impl Series {
    fn read(row: &Row<'_>) -> rusqlite::Result<Series> {
        let text = |at: usize| -> rusqlite::Result<Box<str>> { Ok(row.get::<_, String>(at)?.into()) };
        Ok(Series {
            id: row.get(0)?,
            tenant: row.get(1)?,
            product_id: text(2)?,
            currency: text(3)?,
            last: row.get(4)?,
            sorted: row.get(5)?,
            accepted: row.get(6)?,
            tail: Vec::new(),
            tail_rows: 0,
            recent: Vec::new(),
            is_whole: false,
            has_earlier: false,
            is_changed: false,
            used: 0,
        })
    }

    fn load(
        connection: &Connection,
        (tenant, product_id, currency): (i64, &str, &str),
        is_converting: bool,
    ) -> Result<Series, ShardError> {
        let values = params![tenant, product_id, currency];
        let found = connection.prepare_cached(FIND_SQL)?.query_row(values, Series::read).optional()?;
        let mut series = match found {
            Some(series) => series,
            None => {
                // Its prices name its number.
                let sql = "INSERT INTO price_series (tenant, product_id, currency) VALUES (?1, ?2, ?3)";
                connection.prepare_cached(sql)?.execute(values)?;
                connection.prepare_cached(FIND_SQL)?.query_row(values, Series::read)?
            }
        };
        series.has_earlier = is_converting && convert::has_prices(connection, tenant, product_id)?;
        series.load_recent(connection)?;
        series.load_tail(connection)?;
        Ok(series)
    }

    fn load_recent(&mut self, connection: &Connection) -> Result<(), ShardError> {
        let mut statement = connection.prepare_cached(RECENT_SQL)?;
        let rows = statement.query_map([self.id, RECENT_MAX as i64 + 1], Entry::read)?;
        self.recent = rows.collect::<Result<_, _>>()?;
        self.is_whole = self.recent.len() <= RECENT_MAX;
        self.recent.truncate(RECENT_MAX);
        self.recent.reverse();
        Ok(())
    }

    fn load_tail(&mut self, connection: &Connection) -> Result<(), ShardError> {
        let mut at = self.last;
        let mut statement = connection.prepare_cached(TAIL_SQL)?;
        while at > self.sorted {
            let mut rows = statement.query([at, self.id])?;
            let Some(row) = rows.next()? else {
                return Err(ShardError::Corrupt(format!("price {at} of series {} is missing", self.id)));
            };
            self.tail_rows += 1;
            if row.get(4)? {
                self.tail.push(Entry::read(row)?);
            }
            let previous = row.get(5)?;
            if previous >= at {
                return Err(ShardError::Corrupt(format!("price {at} follows a later one")));
            }
            at = previous;
        }
        self.tail.sort_by(|one, other| one.key().cmp(&other.key()));
        Ok(())
    }

    fn entries(&self) -> usize {
        self.tail.len() + self.recent.len()
    }

    /// Returns the product's accepted prices on one side of a time, nearest first.
    pub(super) fn accepted(
        &self,
        connection: &Connection,
        key: (i64, &str),
        side: Side,
        limit: usize,
    ) -> Result<Vec<i64>, ShardError> {
        let read = |sql: &str| -> Result<Vec<Entry>, ShardError> {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(params![self.id, key.0, key.1, limit as i64], Entry::read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        let split = |entries: &[Entry], is_before: bool| {
            entries.partition_point(|entry| if is_before { entry.key() < key } else { entry.key() <= key })
        };
        let (mut stored, mut earlier) = (Vec::new(), Vec::new());
        let (tail, indexed): (&[Entry], &[Entry]) = match side {
            Side::Before => {
                let recent = &self.recent[..split(&self.recent, true)];
                let is_known = self.is_whole || recent.len() >= limit;
                if !is_known {
                    stored = read(BEFORE_SQL)?;
                    stored.reverse();
                }
                (&self.tail[..split(&self.tail, true)], if is_known { recent } else { &stored })
            }
            Side::After => {
                let is_known = self.is_whole || self.recent.first().is_some_and(|first| first.key() <= key);
                if !is_known {
                    stored = read(AFTER_SQL)?;
                }
                let recent = &self.recent[split(&self.recent, false)..];
                (&self.tail[split(&self.tail, false)..], if is_known { recent } else { &stored })
            }
        };
        if self.has_earlier {
            let of = (self.tenant, &*self.product_id, &*self.currency);
            for (at_us, event_id, price) in convert::accepted(connection, of, key, side, limit)? {
                earlier.push(Entry { at_us, event_id: event_id.into(), price, id: 0 });
            }
            if side == Side::Before {
                earlier.reverse();
            }
        }
        Ok(nearest([tail, indexed, &earlier], side, limit))
    }

    /// Appends a price.
    pub(super) fn append(&mut self, connection: &Connection, price: &NewPrice<'_>) -> Result<(), ShardError> {
        let rules = price.rules;
        connection.prepare_cached(INSERT_SQL)?.execute(params![
            price.id,
            self.id,
            self.last,
            price.event_id,
            price.at_us,
            price.price,
            price.received_us,
            price.is_accepted,
            rules.map(|rules| rules.0),
            rules.map(|rules| rules.1),
            rules.map(|rules| rules.2),
            price.anomaly
        ])?;
        self.last = price.id;
        self.tail_rows += 1;
        self.is_changed = true;
        if price.is_accepted {
            let event_id = price.event_id.into();
            self.accept(Entry { at_us: price.at_us, event_id, price: price.price, id: price.id });
        }
        if self.tail_rows >= TAIL_MAX {
            self.sort(connection)?;
        }
        Ok(())
    }

    /// Counts a stored price as accepted, which was approved.
    pub(super) fn approve(
        &mut self,
        connection: &Connection,
        (at_us, event_id): (i64, &str),
        price: i64,
        id: i64,
    ) -> Result<(), ShardError> {
        connection.prepare_cached("UPDATE price_row SET accepted = 1 WHERE id = ?1")?.execute([id])?;
        self.is_changed = true;
        // A row that is at or below `sorted` is not read as one of the tail, so it is added to the index now.
        self.accept(Entry { at_us, event_id: event_id.into(), price, id });
        if id <= self.sorted { self.sort(connection) } else { Ok(()) }
    }

    fn accept(&mut self, entry: Entry) {
        let newest = self.tail.last().into_iter().chain(self.recent.last()).map(Entry::key).max();
        if newest.is_none_or(|newest| newest < entry.key()) {
            self.accepted = Some(entry.id);
        }
        let at = self.tail.partition_point(|other| other.key() < entry.key());
        self.tail.insert(at, entry);
    }

    /// Adds the tail to the index.
    pub(super) fn sort(&mut self, connection: &Connection) -> Result<(), ShardError> {
        if self.tail_rows == 0 && self.tail.is_empty() {
            return Ok(());
        }
        let mut insert = connection.prepare_cached(SORT_SQL)?;
        for entry in &self.tail {
            insert.execute(params![self.id, entry.at_us, entry.event_id, entry.price, entry.id])?;
        }
        let first = self.recent.first().map(|first| (first.at_us, first.event_id.clone()));
        let is_whole = self.is_whole;
        // Between the oldest price in memory and the others of the index, there are no prices in memory.
        let is_recent =
            |entry: &Entry| is_whole || first.as_ref().is_some_and(|(at_us, id)| entry.key() >= (*at_us, id));
        self.recent.extend(self.tail.drain(..).filter(is_recent));
        self.recent.sort_by(|one, other| one.key().cmp(&other.key()));
        if self.recent.len() > RECENT_MAX {
            self.recent.drain(..self.recent.len() - RECENT_MAX);
            self.is_whole = false;
        }
        (self.tail_rows, self.sorted, self.is_changed) = (0, self.last, true);
        Ok(())
    }

    /// Deletes a price, after all prices of the series were added to the index.
    pub(super) fn delete(
        &mut self,
        connection: &Connection,
        (at_us, event_id): (i64, &str),
        id: i64,
    ) -> Result<(), ShardError> {
        self.sort(connection)?;
        let sql = "DELETE FROM price_sorted WHERE series = ?1 AND observed_at_us = ?2 AND event_id = ?3";
        let count = connection.prepare_cached(sql)?.execute(params![self.id, at_us, event_id])?;
        connection.prepare_cached("DELETE FROM price_row WHERE id = ?1")?.execute([id])?;
        if count > 0 && self.recent.iter().any(|recent| recent.id == id) {
            self.load_recent(connection)?;
        }
        if self.accepted == Some(id) {
            (self.accepted, self.is_changed) = (self.recent.last().map(|newest| newest.id), true);
        }
        Ok(())
    }

    /// Returns the newest accepted price as `price_row.id`.
    pub(super) fn newest(&self) -> Option<i64> {
        self.accepted
    }

    fn save(&mut self, connection: &Connection) -> Result<(), ShardError> {
        if std::mem::take(&mut self.is_changed) {
            let sql = "UPDATE price_series SET last = ?2, sorted = ?3, accepted = ?4 WHERE id = ?1";
            let values = params![self.id, self.last, self.sorted, self.accepted];
            connection.prepare_cached(sql)?.execute(values)?;
        }
        Ok(())
    }
}

/// Returns the nearest prices of three lists that are sorted by time.
fn nearest(mut lists: [&[Entry]; 3], side: Side, limit: usize) -> Vec<i64> {
    let mut prices = Vec::with_capacity(limit.min(lists.iter().map(|list| list.len()).sum()));
    while prices.len() < limit {
        let next = match side {
            Side::Before => lists.iter_mut().max_by_key(|list| list.last().map(Entry::key)),
            // A list without prices comes last.
            Side::After => {
                lists.iter_mut().min_by_key(|list| (list.is_empty(), list.first().map(Entry::key)))
            }
        };
        let taken = next.and_then(|list| match side {
            Side::Before => list.split_off_last(),
            Side::After => list.split_off_first(),
        });
        let Some(entry) = taken else { break };
        prices.push(entry.price);
    }
    prices
}

/// The ids and the series that change with the rows of prices, for upkeep and retention.
pub(super) struct Rows<'s> {
    pub(super) keys: &'s KeyHasher,
    pub(super) ids: &'s mut Ids,
    pub(super) series: &'s mut SeriesCache,
}

/// The series in memory.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    places: HashMap<Box<str>, usize>,
    series: Vec<Series>,
    /// The approximate number of prices.
    entries: usize,
    /// The series that may have changed since they were saved.
    touched: Vec<usize>,
    name: String,
    batches: u64,
}

fn write_name(name: &mut String, (tenant, product_id, currency): (i64, &str, &str)) {
    name.clear();
    let _ = write!(name, "{currency} {tenant} {product_id}");
}

impl SeriesCache {
    /// Returns a series, which is created if it does not exist.
    pub(super) fn find(
        &mut self,
        connection: &Connection,
        of: (i64, &str, &str),
        is_converting: bool,
    ) -> Result<&mut Series, ShardError> {
        write_name(&mut self.name, of);
        let place = match self.places.get(self.name.as_str()) {
            Some(place) => *place,
            None => {
                let series = Series::load(connection, of, is_converting)?;
                self.entries += series.entries();
                self.series.push(series);
                self.places.insert(self.name.as_str().into(), self.series.len() - 1);
                self.series.len() - 1
            }
        };
        let batches = self.batches;
        let series = &mut self.series[place];
        if series.used != batches || !series.is_changed {
            self.touched.push(place);
            // Each time it is asked for, at most one price is added, and few of them stay.
            self.entries += 1;
        }
        series.used = batches;
        Ok(series)
    }

    /// Returns the series with a number.
    pub(super) fn find_by_id(
        &mut self,
        connection: &Connection,
        id: i64,
        is_converting: bool,
    ) -> Result<&mut Series, ShardError> {
        let sql = format!("SELECT {COLUMNS} FROM price_series WHERE id = ?1");
        let found = connection.prepare_cached(&sql)?.query_row([id], Series::read).optional()?;
        let Some(found) = found else {
            return Err(ShardError::Corrupt(format!("price series {id} does not exist")));
        };
        self.find(connection, (found.tenant, &found.product_id, &found.currency), is_converting)
    }

    /// Stores every changed series, in the order of their rows, and releases those that were not used for the longest
    /// time if they need too much memory.
    pub(super) fn save(&mut self, connection: &Connection) -> Result<(), ShardError> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable_by_key(|place| self.series[*place].id);
        for place in touched.drain(..) {
            self.series[place].save(connection)?;
        }
        self.touched = touched;
        self.batches += 1;
        if self.memory_bytes() > BYTES_MAX {
            self.entries = self.series.iter().map(Series::entries).sum();
            if self.memory_bytes() > BYTES_MAX {
                self.release_half();
            }
        }
        Ok(())
    }

    fn release_half(&mut self) {
        let mut used: Vec<u64> = self.series.iter().map(|series| series.used).collect();
        let (_, median, _) = used.select_nth_unstable(self.series.len() / 2);
        let from = *median;
        let before = std::mem::take(self);
        // If all were used at the same time, half of them go.
        let mut count = before.series.len() / 2;
        for series in before.series.into_iter().filter(|series| series.used >= from) {
            if count == 0 {
                break;
            }
            count -= 1;
            write_name(&mut self.name, (series.tenant, &series.product_id, &series.currency));
            self.entries += series.entries();
            self.places.insert(self.name.as_str().into(), self.series.len());
            self.series.push(series);
        }
        self.batches = before.batches;
    }

    /// Forgets every series. Those that have changed must have been saved, unless their changes are undone.
    pub(super) fn clear(&mut self) {
        *self = SeriesCache { batches: self.batches, ..SeriesCache::default() };
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.series.len() * SERIES_BYTES + self.entries * ENTRY_BYTES
    }
}

/// Returns the statements that prices and retention of prices run, for checking query plans.
pub(super) fn statements() -> Vec<(String, String)> {
    [
        ("a series of prices", FIND_SQL),
        ("prices of a series that are not in the index", TAIL_SQL),
        ("accepted prices before a time", BEFORE_SQL),
        ("accepted prices after a time", AFTER_SQL),
        ("the newest accepted prices", RECENT_SQL),
    ]
    .map(|(name, sql)| (name.to_owned(), sql.to_owned()))
    .into()
}
