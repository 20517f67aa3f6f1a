//! The rows that a shard holds for its sinks: what may leave, and how many bytes stay only because a sink lacks them.

use rusqlite::{Connection, OptionalExtension as _};

use super::super::error::ShardError;
use super::super::file::Shard;
use super::super::open::open_reader;
use super::super::partitions::{Sealed, partitions_of};
use super::super::size::bytes_of;
use super::super::sizes::Measured;
use super::super::stream::{Ledger, Stream};
use super::{HeldRows, Holds, Leave, ROW_BYTES};

impl Shard {
    /// Begins or continues a search. Returns `true` if more changes are to be read first.
    pub(in crate::shard) fn begin_holds(&mut self) -> Result<bool, ShardError> {
        let before = self.retention.holds.limits.problem.clone();
        let holds = &mut self.retention.holds;
        holds.begin(&self.connection, self.options.ship.as_ref(), &self.retention.clock)?;
        if holds.is_shipped()
            && let Some(stream) = self.families.streams().find(|stream| stream.has_statuses)
            && holds.changed.read(&self.connection, &self.streams.get(stream).firsts)?
        {
            return Ok(true);
        }
        let problem = &self.retention.holds.limits.problem;
        if let Some(problem) = problem.as_ref().filter(|problem| before.as_ref() != Some(*problem)) {
            tracing::warn!(
                path = %self.path.display(),
                problem,
                "a file of a sink cannot be read: retention holds every row of this shard"
            );
        }
        Ok(false)
    }

    /// Returns whether a partition may leave. It is noted if a sink holds it. `is_next` means that it leaves if it may.
    pub(in crate::shard) fn may_leave(
        &mut self,
        stream: &'static Stream,
        partition: &Sealed,
        is_next: bool,
    ) -> Result<Leave, ShardError> {
        let leave = self.judged(stream, partition)?;
        let holds = &mut self.retention.holds;
        let is_forced = is_next && holds.is_forced(leave, stream) && holds.take_force();
        if leave == Leave::Held && !is_forced {
            holds.partitions.insert(partition.name.clone(), stream);
        }
        Ok(if is_forced { Leave::Unshipped } else { leave })
    }

    /// Returns whether rows of a tenant may leave a partition. Otherwise, their number is noted if a sink holds them.
    pub(in crate::shard) fn may_leave_of_tenant(
        &mut self,
        (stream, tenant_id): (&'static Stream, &str),
        partition: &Sealed,
        is_next: bool,
        count: impl FnOnce(&Connection) -> Result<u64, ShardError>,
    ) -> Result<Leave, ShardError> {
        let leave = self.judged(stream, partition)?;
        let is_forced = is_next && self.retention.holds.is_forced(leave, stream);
        if leave == Leave::Now || leave == Leave::Waits && !is_forced {
            return Ok(leave);
        }
        let key = (partition.name.clone(), Box::from(tenant_id));
        let rows = match self.retention.holds.tenants.get(&key) {
            Some(rows) => *rows,
            None => count(&self.connection)?,
        };
        let holds = &mut self.retention.holds;
        if rows > 0 && is_forced && holds.take_force() {
            return Ok(Leave::Unshipped);
        }
        if leave == Leave::Held {
            holds.tenants.insert(key, rows);
        }
        Ok(leave)
    }

    fn judged(&mut self, stream: &'static Stream, partition: &Sealed) -> Result<Leave, ShardError> {
        let holds = &mut self.retention.holds;
        if !holds.is_shipped() {
            return Ok(Leave::Now);
        }
        if let Some(known) = holds.judged.get(&partition.name) {
            return Ok(*known);
        }
        let ids = (partition.first_id, partition.last_id, partition.rows);
        let leave = holds.judge(&self.connection, &holds.limits, stream, ids)?;
        holds.judged.insert(partition.name.clone(), leave);
        Ok(leave)
    }

    /// Returns `true` if the next pass over a ledger also deletes rows that a sink has not confirmed.
    pub(in crate::shard) fn is_pass_forced(
        &mut self,
        ledger: &'static Ledger,
        tenant_id: Option<&str>,
    ) -> bool {
        let holds = &mut self.retention.holds;
        let key = (ledger.name, Box::from(tenant_id.unwrap_or_default()));
        holds.ledgers.contains_key(&key) && holds.take_force()
    }

    /// Runs at the end of a search: sums the held bytes and publishes them. Returns `true` if held rows are to leave now,
    /// or if a measurement has begun.
    pub(in crate::shard) fn settle_holds(&mut self) -> Result<bool, ShardError> {
        let Some(options) = &self.options.ship else { return Ok(false) };
        let (bytes_max, drops) = (options.hold_bytes_max, options.drops_when_full);
        // If nothing could leave, the next search tries again.
        let was_forced = self.retention.holds.take_force();
        if self.measure_held()? {
            return Ok(true);
        }
        let bytes = self.held_bytes()?;
        let holds = &mut self.retention.holds;
        let was_full = holds.rows.is_full;
        let problem = holds.limits.problem.clone();
        holds.rows = HeldRows { bytes, is_full: bytes > bytes_max, problem };
        match (was_full, holds.rows.is_full) {
            (false, true) => tracing::error!(
                path = %self.path.display(),
                held_bytes = bytes,
                ship_hold_max = bytes_max,
                drops,
                "a sink has not confirmed rows for so long that more is held for it than ship_hold_max"
            ),
            (true, false) => tracing::info!(
                path = %self.path.display(),
                held_bytes = bytes,
                "less than ship_hold_max is held for the sinks again"
            ),
            _ => {}
        }
        holds.forces = holds.rows.is_full && drops && !was_forced;
        if !holds.forces {
            holds.has_looked = false;
            return Ok(false);
        }
        let Holds { partitions, tenants, .. } = &*holds;
        let names = partitions.keys().chain(tenants.keys().map(|(name, _)| name));
        let streams = names.filter_map(|name| self.families.streams().find(|of| of.has_partition(name)));
        holds.forced = streams.map(|stream| stream.place).collect();
        Ok(true)
    }

    /// Measures one held partition, or the rows of one ledger with held rows. Returns `true` if that has begun.
    fn measure_held(&mut self) -> Result<bool, ShardError> {
        if self.retention.sizes.measuring.is_some() {
            return Ok(false);
        }
        let Holds { partitions, tenants, ledgers, row_bytes, .. } = &self.retention.holds;
        let of_tenants = tenants.iter().filter(|(_, rows)| **rows > 0).map(|((name, _), _)| name);
        let mut names = partitions.keys().chain(of_tenants);
        let unmeasured = names.find(|name| self.retention.sizes.of(name).is_none());
        if let Some(name) = unmeasured.cloned() {
            let mut infos = Vec::new();
            for stream in self.families.streams().filter(|stream| stream.has_partition(&name)) {
                infos.extend(
                    partitions_of(&self.connection, stream)?.into_iter().filter(|of| of.name == name),
                );
            }
            let Some(info) = infos.pop() else { return Ok(false) };
            self.measure_sealed(info)?;
            return Ok(true);
        }
        let place = ledgers.values().map(|rows| rows.place).find(|place| row_bytes[*place] == 0);
        let ledger = place.and_then(|place| self.families.ledgers().find(|ledger| ledger.place == place));
        let Some(ledger) = ledger else { return Ok(false) };
        self.measure(move |path| {
            let reader = open_reader(path)?;
            let tables: Vec<String> = ledger.tables.iter().map(|table| (*table).to_owned()).collect();
            let bytes = bytes_of(&reader, &tables)?;
            let sql = format!("SELECT count(*) FROM {}", ledger.name);
            let rows: i64 = reader.query_row(&sql, [], |row| row.get(0))?;
            Ok(Measured::Row { ledger, bytes: bytes / rows.unsigned_abs().max(1) })
        })?;
        Ok(true)
    }

    /// Takes over the measured bytes of a ledger's row.
    pub(in crate::shard) fn row_measured(&mut self, ledger: &'static Ledger, bytes: u64) {
        self.retention.holds.row_bytes[ledger.place] = bytes.max(1);
    }

    fn held_bytes(&self) -> Result<u64, ShardError> {
        let Holds { partitions, tenants, ledgers, row_bytes, .. } = &self.retention.holds;
        let bytes_of = |name: &str| self.retention.sizes.of(name).unwrap_or(0);
        let mut bytes: u64 = partitions.keys().map(|name| bytes_of(name)).sum();
        let mut count = self.connection.prepare_cached("SELECT rows FROM partition WHERE name = ?1")?;
        for ((name, _), rows) in tenants.iter().filter(|((name, _), _)| !partitions.contains_key(name)) {
            let all: i64 = count.query_row([name], |row| row.get(0)).optional()?.unwrap_or(0);
            let share =
                u128::from(bytes_of(name)) * u128::from(*rows) / u128::from(all.unsigned_abs().max(1));
            bytes += share as u64;
        }
        for rows in ledgers.values() {
            let row_bytes = match row_bytes[rows.place] {
                0 => ROW_BYTES,
                measured => measured,
            };
            bytes += rows.held.saturating_mul(row_bytes);
        }
        Ok(bytes)
    }

    /// Returns what is held for the sinks, as of the last search of retention.
    #[must_use]
    pub fn held(&self) -> &HeldRows {
        &self.retention.holds.rows
    }
}
