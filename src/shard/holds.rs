//! The rows of one shard that retention does not drop yet because of the sinks.
//!
//! A partition leaves as a whole, and partitions of a stream leave in order. Each search of retention looks at the notes
//! of the sinks once, and collects what would leave but is held because a sink has not confirmed it. If this takes more
//! bytes than allowed, the shard reports it and, if it is set so, drops the next of it after all.

mod held;

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

use super::change::CHANGES;
use super::error::ShardError;
use super::hold::{Limits, Look, Marks, Upto};
use super::options::ShipOptions;
use super::retain_clock::{LOOK_EVERY_US, RetainClock};
use super::stream::{Ledger, STREAMS_MAX, Stream};
use crate::base::clock;

/// The maximum number of changes that are read in one step.
const CHANGES_READ: i64 = if cfg!(test) { 3 } else { 20_000 };
/// The bytes of a ledger's row, until they are measured.
const ROW_BYTES: u64 = 256;
/// A pass over a ledger with held rows is repeated sooner, for at most one part in this many of the time.
const PASS_SHARE: u64 = 50;

/// The decision about rows that retention would drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Now,
    /// Although a sink has not confirmed them.
    Unshipped,
    /// The sinks have not had them for long enough.
    Waits,
    /// A sink has not confirmed them.
    Held,
}

/// The rows that a shard holds for its sinks, for its status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldRows {
    /// The bytes of rows that would leave, but that a sink has not confirmed.
    pub bytes: u64,
    /// Set if these are more than allowed.
    pub is_full: bool,
    /// The reason why a file of a sink could not be read. Then every row is held.
    pub problem: Option<String>,
}

/// Rows of a ledger that the last pass did not delete.
#[derive(Clone, Copy, Debug, Default)]
struct LedgerRows {
    place: usize,
    held: u64,
}

/// The state of holding in one shard.
#[derive(Debug, Default)]
pub(super) struct Holds {
    marks: BTreeMap<String, Marks>,
    changed: Changed,
    pub(super) limits: Limits,
    has_looked: bool,
    /// The partitions that this search has judged.
    judged: HashMap<String, Leave>,
    /// The partitions that would leave, but that a sink has not confirmed.
    partitions: BTreeMap<String, &'static Stream>,
    /// Rows of tenants that would leave, but that a sink has not confirmed, by partition and tenant.
    tenants: BTreeMap<(String, Box<str>), u64>,
    /// The same by ledger and tenant, as of their last passes. The name is empty for a pass over all rows.
    ledgers: BTreeMap<(&'static str, Box<str>), LedgerRows>,
    /// The measured bytes of a ledger's row.
    row_bytes: [u64; STREAMS_MAX],
    /// The next held rows leave unshipped.
    forces: bool,
    /// The streams that have held rows.
    forced: Vec<usize>,
    pub(super) rows: HeldRows,
}

impl Holds {
    /// Begins to collect again. Looks at the notes once for each search.
    fn begin(
        &mut self,
        connection: &Connection,
        options: Option<&ShipOptions>,
        clock: &RetainClock,
    ) -> Result<(), ShardError> {
        self.partitions.clear();
        let Some(options) = options else { return Ok(()) };
        if self.has_looked {
            return Ok(());
        }
        self.limits = look(options, clock).update(connection, &mut self.marks)?;
        self.has_looked = true;
        self.judged.clear();
        self.tenants.clear();
        if !self.limits.is_shipped() {
            self.ledgers.clear();
            self.changed = Changed::default();
        }
        Ok(())
    }

    /// Returns `true` if there is a sink.
    pub(super) fn is_shipped(&self) -> bool {
        self.limits.is_shipped()
    }

    /// Returns `true` if these rows leave unless others do first. Rows in front of held ones that only wait leave too.
    fn is_forced(&self, leave: Leave, stream: &'static Stream) -> bool {
        let is_in_front = leave == Leave::Waits && self.forced.contains(&stream.place);
        self.forces && (leave == Leave::Held || is_in_front)
    }

    /// Makes the next search look at the notes.
    pub(super) fn look_again(&mut self) {
        self.has_looked = false;
    }

    /// Returns `true`, once, if the next held rows are to leave.
    fn take_force(&mut self) -> bool {
        std::mem::take(&mut self.forces)
    }

    /// Looks at the notes, and returns the last change that every sink has confirmed long enough ago.
    pub(super) fn kept_changes(
        &mut self,
        connection: &Connection,
        options: &ShipOptions,
        clock: &RetainClock,
    ) -> Result<i64, ShardError> {
        Ok(look(options, clock).update(connection, &mut self.marks)?.of(CHANGES).kept)
    }

    /// Judges a partition by its last row id, and by the changes that refer to its rows.
    pub(super) fn judge(
        &self,
        connection: &Connection,
        limits: &Limits,
        stream: &'static Stream,
        (first_id, last_id, rows): (i64, i64, i64),
    ) -> Result<Leave, ShardError> {
        let upto = limits.of(stream.name);
        if rows == 0 || upto == Upto::FREE {
            return Ok(Leave::Now);
        }
        if last_id > upto.confirmed {
            return Ok(Leave::Held);
        }
        let (mut changed, mut changes) = (0, Upto::FREE);
        if stream.has_statuses {
            changes = limits.of(CHANGES);
            let since: Option<i64> = connection
                .prepare_cached(CHANGED_SQL)?
                .query_row([self.changed.upto, first_id, last_id], |row| row.get(0))?;
            changed = since.or(self.changed.newest.get(&first_id).copied()).unwrap_or(0);
        }
        Ok(match changed {
            changed if changed > changes.confirmed => Leave::Held,
            changed if changed > changes.kept || last_id > upto.kept => Leave::Waits,
            _ => Leave::Now,
        })
    }

    /// Returns the limits of this moment, in the transaction that drops rows. A sink may be new since the last look.
    pub(super) fn limits_now(
        &self,
        transaction: &Connection,
        options: Option<&ShipOptions>,
        clock: &RetainClock,
    ) -> Result<Limits, ShardError> {
        match options {
            None => Ok(Limits::default()),
            Some(options) => look(options, clock).again(transaction, &self.marks),
        }
    }

    /// Notes the rows that a pass over a ledger has not deleted, and returns the time after which the next pass begins at
    /// the latest, in microseconds.
    pub(super) fn pass_ended(
        &mut self,
        ledger: &'static Ledger,
        tenant_id: &str,
        (held, waiting): (u64, u64),
        took_us: u64,
    ) -> Option<u64> {
        let key = (ledger.name, Box::from(tenant_id));
        match held {
            0 => _ = self.ledgers.remove(&key),
            held => _ = self.ledgers.insert(key, LedgerRows { place: ledger.place, held }),
        }
        (held > 0 || waiting > 0).then(|| LOOK_EVERY_US.max(took_us.saturating_mul(PASS_SHARE)))
    }
}

fn look<'l>(options: &'l ShipOptions, clock: &RetainClock) -> Look<'l> {
    Look { options, now_us: clock::unix_us(), is_clock_trusted: !clock.is_held() }
}

/// The newest change of a status by partition. Each look reads the changes since the one before.
#[derive(Debug, Default)]
struct Changed {
    /// The last change that was read.
    upto: i64,
    /// The newest change that refers to a row of the partition, by the partition's first row id.
    newest: BTreeMap<i64, i64>,
}

impl Changed {
    /// Reads some changes. Returns `true` if there may be more.
    fn read(&mut self, connection: &Connection, firsts: &[(i64, String)]) -> Result<bool, ShardError> {
        let mut statement = connection.prepare_cached(CHANGES_SQL)?;
        let mut rows = statement.query([self.upto, CHANGES_READ])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let (seq, is_status, id) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let place = firsts.partition_point(|(first, _)| *first <= id).checked_sub(1);
            if let Some((first_id, _)) = place.and_then(|place| firsts.get(place))
                && is_status
            {
                self.newest.insert(*first_id, seq);
            }
            (self.upto, count) = (seq, count + 1);
        }
        Ok(count == CHANGES_READ)
    }
}

/// The SQL that reads the next changes.
const CHANGES_SQL: &str = "SELECT seq, kind = 'status', ref FROM change WHERE seq > ?1 ORDER BY seq LIMIT ?2";
/// The SQL that finds a change of a status of a partition's rows among the newest changes.
const CHANGED_SQL: &str =
    "SELECT max(seq) FROM change WHERE seq > ?1 AND kind = 'status' AND ref BETWEEN ?2 AND ?3";

/// Returns the statements, for checking query plans.
#[must_use]
pub fn hold_statements() -> Vec<(String, String)> {
    [("the next changes, for retention", CHANGES_SQL), ("changes of a partition's rows", CHANGED_SQL)]
        .map(|(name, sql)| (name.to_owned(), sql.to_owned()))
        .into()
}

/// Counts the rows of a partition that leave although a sink has not confirmed them or a change of theirs.
pub(super) fn unshipped_rows(
    transaction: &Connection,
    limits: &Limits,
    stream: &'static Stream,
    (partition, first_id, last_id): (&str, i64, i64),
) -> Result<u64, ShardError> {
    let confirmed = limits.of(stream.name).confirmed;
    let sql = format!("SELECT count(*) FROM {partition} WHERE id > ?1");
    let mut rows: i64 = transaction.query_row(&sql, [confirmed], |row| row.get(0))?;
    if stream.has_statuses {
        let sql = "SELECT count(DISTINCT ref) FROM change WHERE seq > ?1 AND kind = 'status' \
                   AND ref BETWEEN ?2 AND ?3";
        let above = limits.of(CHANGES).confirmed;
        let changed: i64 =
            transaction.query_row(sql, [above, first_id, last_id.min(confirmed)], |row| row.get(0))?;
        rows += changed;
    }
    Ok(rows.unsigned_abs())
}
