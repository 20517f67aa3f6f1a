//! The measured sizes of partitions and ledgers.

use std::thread::JoinHandle;

use rusqlite::Connection;

use super::error::ShardError;
use super::partitions::PartitionInfo;
use super::stream::Ledger;

/// What is known about sizes.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    pub(super) measuring: Option<JoinHandle<Result<Measured, ShardError>>>,
    /// The bytes of sealed partitions, as in the table `partition_bytes`.
    pub(super) partitions: Vec<(String, u64)>,
    /// The rows and bytes of open partitions when they were measured.
    open: Vec<(String, u64, u64)>,
    /// The monotonic time of the next measurement of each ledger.
    pub(super) next: Vec<(&'static Ledger, u64)>,
}

#[derive(Debug)]
pub(super) enum Measured {
    Sealed { name: String, bytes: u64 },
    Open { name: String, rows: u64, bytes: u64 },
    Row { ledger: &'static Ledger, bytes: u64 },
    Ledger { ledger: &'static Ledger, bytes: u64, arrivals: Vec<i64>, took_us: u64 },
}

impl Sizes {
    pub(super) fn load(connection: &Connection) -> Result<Sizes, ShardError> {
        let mut statement = connection.prepare("SELECT name, bytes FROM partition_bytes")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        Ok(Sizes { partitions: rows.collect::<Result<_, _>>()?, ..Sizes::default() })
    }

    pub(super) fn of(&self, partition: &str) -> Option<u64> {
        self.partitions.iter().find(|(name, _)| name == partition).map(|(_, bytes)| *bytes)
    }

    /// Returns the rows and bytes of a partition when it was measured as an open one.
    pub(super) fn open_of(&self, partition: &str) -> Option<(u64, u64)> {
        self.open.iter().find(|(name, ..)| name == partition).map(|(_, rows, bytes)| (*rows, *bytes))
    }

    /// Stores the size of an open partition, in place of that of an earlier one of its stream.
    pub(super) fn set_open(&mut self, partition: String, rows: u64, bytes: u64) {
        let stream = |name: &str| name.rsplit_once('_').map(|(stream, _)| stream.to_owned());
        self.open.retain(|(name, ..)| stream(name) != stream(&partition));
        self.open.push((partition, rows, bytes));
    }

    /// Estimates the bytes of a partition that was not measured.
    pub(super) fn estimate(&self, infos: &[PartitionInfo], rows: u64) -> u64 {
        let with_rows = infos.iter().rev().filter(|info| info.rows > 0);
        let sealed = with_rows.clone().find_map(|info| Some((info.rows, self.of(&info.name)?)));
        let open = || with_rows.clone().find_map(|info| self.open_of(&info.name));
        let (of_rows, bytes) = sealed.or_else(open).unwrap_or((1, 0));
        (u128::from(bytes) * u128::from(rows) / u128::from(of_rows.max(1))) as u64
    }

    pub(super) fn forget(&mut self, partition: &str) {
        self.partitions.retain(|(name, _)| name != partition);
    }

    pub(super) fn postpone(&mut self, ledger: &'static Ledger, at_us: u64) {
        self.next.retain(|(known, _)| *known != ledger);
        self.next.push((ledger, at_us));
    }

    /// Makes every ledger due, for tests.
    #[cfg(test)]
    pub(super) fn measure_now(&mut self) {
        self.next.clear();
    }
}
