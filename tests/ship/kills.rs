//! S1: every row arrives once, however often the shipper and the target are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use firehose::base::clock;
use firehose::shard::DataFolder;
use firehose::ship::postgres::{PostgresOptions, PostgresSink};
use firehose::ship::rows::ShipStream;
use firehose::ship::sink::{EpochId, Known, Places, ShipBatch, Sink, SinkError, Written};
use firehose::ship::{Mode, RunSettings};

use crate::equal::{assert_equal, count, differs};
use crate::fill::fill;
use crate::postgres::Postgres;
use crate::shipper::{Shipper, drain, verified};
use crate::support::{Chance, Folder, Server, cpus, wait_until};

/// Returns the number of repetitions that a variable asks for.
fn times(name: &str, usual: u64) -> u64 {
    let given = std::env::vars_os().find(|(known, _)| known == name);
    given.and_then(|(_, value)| value.to_str()?.parse().ok()).unwrap_or(usual)
}

/// Posts rows of every kind until it is stopped.
fn keep_posting(server: &Server, stop: &AtomicBool, posted: &AtomicU64) {
    let mut round = 0;
    while !stop.load(Ordering::Acquire) {
        fill(server, &format!("t{}", round % 7), 1 + round * 100, 40);
        round += 1;
        posted.store(round, Ordering::Release);
    }
}

#[test]
fn s1_every_row_arrives_once_through_kills_of_the_shipper_and_of_the_target() {
    let Some(mut postgres) = Postgres::start_with(&["fsync=on"]) else { return };
    let (kills, postgres_kills) = (times("SHIP_KILLS", 6), times("SHIP_POSTGRES_KILLS", 2));
    let (folder, mut chance) = (Folder::new(), Chance::new());
    let flags = ["--shards", "2", "--cores", &cpus(2), "--checkpoint-interval", "100ms"];
    let server = folder.serve(&flags);
    let (stop, posted) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let load = scope.spawn(|| keep_posting(&server, &stop, &posted));
        let mut shipper = Shipper::start(&folder, &postgres, &[]);
        let every = (kills / postgres_kills.max(1)).max(1);
        for kill in 0..kills {
            let before = count(&postgres, "clicks");
            wait_until("rows to arrive", || load.is_finished() || count(&postgres, "clicks") > before);
            // Somewhere within the next batches.
            clock::pause(Duration::from_millis(chance.below(150)));
            if kill % every == 0 && kill / every < postgres_kills {
                postgres.kill();
                clock::pause(Duration::from_millis(chance.below(50)));
                postgres.restart();
            }
            shipper.kill();
            shipper = Shipper::start(&folder, &postgres, &[]);
        }
        stop.store(true, Ordering::Release);
        load.join().expect("the load succeeds");
        assert!(posted.load(Ordering::Acquire) > 0);
        shipper.stop();
    });
    server.wait_until_stored();
    server.stop();
    drain(&folder, &postgres);
    assert_equal(&[&folder], &postgres);
    verified(&folder, &postgres);
}

/// The number of times that the sloppy sink dies.
const DEATHS: u64 = 1;

/// A sink that stores rows in one transaction and their place in another, and dies between the two now and then.
struct SloppySink {
    inner: PostgresSink,
    postgres: Arc<Postgres>,
    batches: Arc<AtomicU64>,
}

impl Sink for SloppySink {
    fn known(&mut self, epochs: &[EpochId]) -> Result<Known, SinkError> {
        self.inner.known(epochs)
    }

    fn begin_epoch(&mut self, epoch: &EpochId, starts: &Places) -> Result<Places, SinkError> {
        self.inner.begin_epoch(epoch, starts)
    }

    fn write(&mut self, batch: &ShipBatch) -> Result<Written, SinkError> {
        let written = self.inner.write(batch)?;
        // The rows are committed, and the place is as before until the second transaction.
        if batch.stream == ShipStream::Clicks && self.batches.fetch_add(1, Ordering::AcqRel) < DEATHS {
            let (stream, last, after) = (batch.stream.as_str(), batch.last, batch.after);
            self.postgres.ask(&format!(
                "UPDATE fh.position SET last = {after} WHERE stream = '{stream}' AND last = {last}"
            ));
            return Err(SinkError::Passing("killed between the two transactions".to_owned()));
        }
        Ok(written)
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        self.inner.idle()
    }
}

#[test]
fn s1_control_a_place_in_a_second_transaction_ships_rows_twice_and_the_comparison_sees_it() {
    let Some(postgres) = Postgres::start() else { return };
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    fill(&server, "acme", 1, 50);
    server.wait_until_stored();
    server.stop();
    let options = PostgresOptions::parse(&postgres.url()).expect("a URL");
    let id = DataFolder::read_only(&folder.data()).expect("a folder").manifest().id.clone();
    let settings = RunSettings {
        data: folder.data(),
        name: "sloppy".to_owned(),
        kind: "test".to_owned(),
        target: "here".to_owned(),
        mode: Mode::Once,
        rate_max: None,
        metrics: None,
        with_bar: false,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (postgres, batches) = (Arc::new(postgres), Arc::new(AtomicU64::new(0)));
    let (of_sinks, stopped, counted) = (Arc::clone(&postgres), Arc::clone(&stop), Arc::clone(&batches));
    let shipped = firehose::ship::run(&settings, &stop, move |shard| {
        let inner = PostgresSink::new(options.clone(), id.clone(), shard, Arc::clone(&stopped))?;
        Ok(SloppySink { inner, postgres: Arc::clone(&of_sinks), batches: Arc::clone(&counted) })
    });
    assert!(shipped.is_ok(), "{shipped:?}");
    assert!(batches.load(Ordering::Acquire) > DEATHS, "it continued after its deaths");
    assert!(differs(&[&folder], &postgres), "the comparison finds the rows that were shipped twice");
    assert_eq!(count(&postgres, "clicks"), 100, "each click is there twice");
}
