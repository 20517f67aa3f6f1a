//! A target that is away, hangs or crashes: nothing is lost, nothing arrives twice, and a stop ends every call.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use firehose::base::clock;
use firehose::ship::rows::*;
use firehose::ship::sink::{Sink as _, SinkError};

use super::rows::*;
use crate::postgres::Postgres;

#[test]
fn sink_a_stop_ends_a_call_to_a_target_that_hangs() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    postgres.signal("STOP");
    let stop = shipper.stop.clone();
    let stopped = thread::scope(|threads| {
        threads.spawn(move || {
            clock::pause(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
        });
        // Without the stop, the call would take minutes.
        shipper.try_write(Rows::Clicks((1..=1_000).map(click).collect()))
    });
    assert!(matches!(stopped, Err(SinkError::Stopped)), "{stopped:?}");
    // The same while connecting.
    let again = Shipper::of(&postgres, FOLDER, 1);
    again.stop.store(true, Ordering::Relaxed);
    let mut sink = again.sink;
    assert!(matches!(sink.known(&[]), Err(SinkError::Stopped)));
    postgres.signal("CONT");
}

#[test]
fn sink_a_target_that_is_killed_anywhere_has_every_row_once_in_the_end() {
    const ROWS: i64 = 6_000;
    let Some(mut postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    let mut errors = 0;
    for round in 0..4_u64 {
        // The server is killed while a thread writes.
        let end = thread::scope(|threads| {
            let (shipper, errors) = (&mut shipper, &mut errors);
            let writer = threads.spawn(move || {
                loop {
                    let next = shipper.places.get(&ShipStream::Events).copied().unwrap_or_default();
                    if next >= ROWS {
                        return true;
                    }
                    let rows = (next + 1..=(next + 50).min(ROWS)).map(event).collect();
                    match shipper.try_write(Rows::Events(rows)) {
                        Ok(_) => {}
                        Err(SinkError::Passing(_)) => {
                            *errors += 1;
                            return false;
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            });
            let wanted = (round as i64 + 1) * 300;
            while !writer.is_finished() {
                let count: i64 = postgres.ask("SELECT count(*) FROM fh.events").parse().expect("a number");
                if count >= wanted {
                    postgres.kill();
                    break;
                }
            }
            writer.join().expect("the writer ends")
        });
        if !end {
            postgres.restart();
            shipper.begin();
        }
    }
    while shipper.places.get(&ShipStream::Events).copied().unwrap_or_default() < ROWS {
        let next = shipper.places.get(&ShipStream::Events).copied().unwrap_or_default();
        shipper.write(Rows::Events((next + 1..=(next + 500).min(ROWS)).map(event).collect()));
    }
    let sums = "SELECT count(*), count(DISTINCT id), sum(id) FROM fh.events";
    assert_eq!(postgres.ask(sums), format!("{ROWS}|{ROWS}|{}", ROWS * (ROWS + 1) / 2));
    assert!(errors > 0, "the server was never killed during a call");
}

#[test]
fn sink_a_server_that_is_away_or_busy_or_ends_the_connection_is_a_passing_error() {
    let Some(mut postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    postgres.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'firehose ship'",
    );
    let lost = shipper.try_write(Rows::Clicks(vec![click(1)]));
    assert!(matches!(lost, Err(SinkError::Passing(_))), "{lost:?}");
    // Without asking for the places, nothing is written.
    let lost = shipper.try_write(Rows::Clicks(vec![click(1)]));
    assert!(matches!(lost, Err(SinkError::Passing(_))), "{lost:?}");
    shipper.begin();
    shipper.write(Rows::Clicks(vec![click(1)]));
    postgres.kill();
    let lost = shipper.try_write(Rows::Clicks(vec![click(2)]));
    assert!(matches!(lost, Err(SinkError::Passing(_))), "{lost:?}");
    let away = shipper.sink.known(&[]);
    assert!(matches!(away, Err(SinkError::Passing(_))), "{away:?}");
    postgres.restart();
    shipper.begin();
    shipper.write(Rows::Clicks(vec![click(2)]));
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.clicks"), "2");
    shipper.sink.idle().expect("upkeep");
}
