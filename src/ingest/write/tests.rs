//! Tests of the writer's guarantees, with a real journal and a real database.

mod failures;
mod flow;
mod model;
mod passes;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::super::{CLICK, encode_header};
use super::{Stop, Turn, WriteSettings, Writer};
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::families::FAMILIES;
use crate::journal::{self, Appender, Options, Reader};
use crate::shard::{
    Recovered, Shard, ShardFolder, ShardOptions, ShardStatus, inspect, open_reader, recover, verify,
};

const SHARD: ShardId = ShardId(0);

/// A shard's folder with two lanes and their appenders.
struct Rig {
    dir: TempDir,
    appenders: Vec<Appender>,
    readers: Vec<Reader>,
    status: Arc<ShardStatus>,
    stop: Arc<Stop>,
    accepted: i64,
    recovered: Option<Recovered>,
}

fn folder(dir: &TempDir) -> ShardFolder {
    ShardFolder::new(dir.path().join("shard-00"))
}

fn settings() -> WriteSettings {
    WriteSettings {
        flush_interval: Duration::from_millis(1),
        batch_rows_max: 100,
        quarantine_look: Duration::from_millis(10),
        shard: ShardOptions { page_bytes: 4096, ..ShardOptions::default() },
        ..WriteSettings::new(&FAMILIES)
    }
}

impl Rig {
    fn new() -> Rig {
        Rig::on(tempfile::tempdir().unwrap(), 0)
    }

    /// Starts the server on a folder that an earlier run may have used.
    fn on(dir: TempDir, accepted: i64) -> Rig {
        let folder = folder(&dir);
        std::fs::create_dir_all(folder.dir()).unwrap();
        let recovered = recover(&folder, &FAMILIES).unwrap();
        let positions =
            inspect(&folder.database(), &FAMILIES).map(|found| found.positions).unwrap_or_default();
        let options = Options { segment_bytes: 16 * 1024, bytes_max: 1 << 30 };
        let (mut appenders, mut readers) = (Vec::new(), Vec::new());
        for lane in [LaneId::hot(0), LaneId::keyed(0)] {
            let floor = positions.iter().find(|(known, _)| *known == lane).map(|(_, floor)| *floor);
            let (appender, reader, _) = journal::open(&folder.lane(lane), lane, floor, &options).unwrap();
            appenders.push(appender);
            readers.push(reader);
        }
        let (status, stop) = (Arc::new(ShardStatus::new(SHARD)), Arc::new(Stop::new()));
        Rig { dir, appenders, readers, status, stop, accepted, recovered }
    }

    /// Kills the server without flushing or closing anything, then starts it again.
    fn restart(self, mut writer: Writer) -> Rig {
        if let Some(shard) = writer.take_shard() {
            shard.poison();
        }
        drop((writer.lanes, self.appenders));
        Rig::on(self.dir, self.accepted)
    }

    fn writer(&mut self) -> Writer {
        self.writer_with(settings())
    }

    fn writer_with(&mut self, settings: WriteSettings) -> Writer {
        let readers = std::mem::take(&mut self.readers);
        let (status, stop) = (Arc::clone(&self.status), Arc::clone(&self.stop));
        Writer::new(SHARD, folder(&self.dir), readers.into(), status, stop, settings)
    }

    /// Accepts events on a lane. Their user ids count up across all lanes.
    fn accept(&mut self, lane: usize, events: i64) -> Sequence {
        for _ in 0..events {
            self.accepted += 1;
            let header = encode_header(self.accepted, self.accepted * 1_000, self.accepted * 1_000 + 1);
            self.appenders[lane].stage(CLICK, &[&header, br#"{"page":"/"}"#]);
        }
        self.appenders[lane].commit().unwrap().last
    }

    fn path(&self) -> PathBuf {
        folder(&self.dir).database()
    }

    /// Asserts that every accepted event is stored as exactly one row, and that the database is intact.
    fn all_stored(&self) {
        let reader = open_reader(&self.path()).unwrap();
        let mut statement = reader.prepare("SELECT user_id FROM events ORDER BY user_id").unwrap();
        let users: Vec<i64> =
            statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(users, (1..=self.accepted).collect::<Vec<_>>());
        assert_eq!(verify(&self.path(), &FAMILIES).unwrap().problems, Vec::<String>::new());
    }
}

impl Writer {
    /// Runs turns until nothing is pending. Failures are handled, but without their pauses.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            match self.turn() {
                Ok(Turn::Idle) => return,
                Ok(_) => {}
                Err(error) => {
                    self.weather(error);
                }
            }
        }
        panic!("not settled: {:?}", self.status.last_error());
    }

    fn open_shard(&self) -> &Shard {
        self.shard.as_ref().unwrap()
    }
}

/// Waits for another thread to make progress. The deadline only ends a test that has failed.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline_us = clock::monotonic_us() + 30_000_000;
    while !is_so() {
        assert!(clock::monotonic_us() < deadline_us, "never: {what}");
        thread::yield_now();
    }
}
