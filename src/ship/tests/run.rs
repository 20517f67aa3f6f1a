//! A run registers its sink, notes what the target has, and ends as its mode says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::rig::{Rig, click, event};
use super::target::{MemorySink, Target};
use crate::base::ids::ShardId;
use crate::shard::{confirmed, remove_sink, sink};
use crate::ship::rows::ShipStream;
use crate::ship::sink::SinkError;
use crate::ship::{Mode, RunError, RunSettings, run};

fn settings(rig: &Rig, mode: Mode) -> RunSettings {
    RunSettings {
        data: rig.data().to_owned(),
        name: "pg".to_owned(),
        kind: "memory".to_owned(),
        target: "memory://here".to_owned(),
        mode,
        rate_max: None,
        metrics: None,
        with_bar: false,
    }
}

fn ship(settings: &RunSettings, target: &Target, stop: &Arc<AtomicBool>) -> Result<(), RunError> {
    let target = target.clone();
    run(settings, stop, move |_| Ok(MemorySink::new(&target)))
}

fn place(rig: &Rig, stream: ShipStream) -> i64 {
    let noted = confirmed(rig.data(), "pg", ShardId(0)).unwrap();
    noted.and_then(|noted| noted.last.get(stream.as_str()).copied()).unwrap_or_default()
}

#[test]
fn once_ends_with_a_note_of_everything_that_was_there() {
    let mut rig = Rig::new();
    rig.store(&(1..=20).map(click).collect::<Vec<_>>());
    rig.apply(&[click(21)]);
    let stop = Arc::default();
    ship(&settings(&rig, Mode::Once), &rig.target, &stop).unwrap();
    assert_eq!((rig.target.count(ShipStream::Clicks), place(&rig, ShipStream::Clicks)), (20, 20));
    let entry = sink(rig.data(), "pg").unwrap().unwrap();
    assert_eq!((entry.kind.as_str(), entry.target.as_str()), ("memory", "memory://here"));
    // The registration and the places remain.
    rig.checkpoint();
    ship(&settings(&rig, Mode::Once), &rig.target, &stop).unwrap();
    assert_eq!(sink(rig.data(), "pg").unwrap().unwrap(), entry);
    assert_eq!((rig.target.count(ShipStream::Clicks), place(&rig, ShipStream::Clicks)), (21, 21));
}

#[test]
fn drain_refuses_to_end_while_rows_need_the_server() {
    let mut rig = Rig::new();
    rig.store(&[click(1)]);
    let stop = Arc::default();
    ship(&settings(&rig, Mode::Drain), &rig.target, &stop).unwrap();
    rig.apply(&[click(2)]);
    let error = ship(&settings(&rig, Mode::Drain), &rig.target, &Arc::default()).unwrap_err();
    assert!(matches!(&error, RunError::Failed(why) if why.contains("start the server once")), "{error}");
}

#[test]
fn a_run_that_follows_ends_when_it_is_asked_to() {
    let mut rig = Rig::new();
    rig.store(&[click(1), event(1, "{}")]);
    let stop: Arc<AtomicBool> = Arc::default();
    let (settings, target, flag) = (settings(&rig, Mode::Follow), rig.target.clone(), Arc::clone(&stop));
    let thread = std::thread::spawn(move || ship(&settings, &target, &flag));
    while rig.target.count(ShipStream::Clicks) + rig.target.count(ShipStream::Events) < 2 {
        std::thread::yield_now();
    }
    rig.store(&[click(2)]);
    while rig.target.count(ShipStream::Clicks) < 2 {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap().unwrap();
    assert_eq!(place(&rig, ShipStream::Clicks), 2);
}

#[test]
fn a_sink_that_is_removed_or_registered_again_ends_the_run() {
    let mut rig = Rig::new();
    rig.store(&[click(1)]);
    for registers in [false, true] {
        let target = Target::default();
        let (settings, shared) = (settings(&rig, Mode::Follow), target.clone());
        let thread = std::thread::spawn(move || ship(&settings, &shared, &Arc::default()));
        while place(&rig, ShipStream::Clicks) < 1 {
            std::thread::yield_now();
        }
        let mut entry = sink(rig.data(), "pg").unwrap().unwrap();
        remove_sink(rig.data(), "pg").unwrap();
        if registers {
            (entry.id, entry.target) = ("0".repeat(32), "elsewhere".to_owned());
            crate::shard::register_sink(rig.data(), "pg", &entry).unwrap();
        }
        let error = thread.join().unwrap().unwrap_err();
        match registers {
            false => assert!(matches!(&error, RunError::Failed(why) if why.contains("removed")), "{error}"),
            true => {
                assert!(matches!(&error, RunError::Settings(why) if why.contains("elsewhere")), "{error}")
            }
        }
    }
    // The name belongs to the other target now.
    let error = ship(&settings(&rig, Mode::Once), &Target::default(), &Arc::default()).unwrap_err();
    assert!(matches!(&error, RunError::Settings(why) if why.contains("elsewhere")), "{error}");
}

#[test]
fn a_target_that_cannot_be_used_ends_the_run() {
    let rig = Rig::new();
    rig.target.fail(SinkError::Lasting("the schema is newer".to_owned()));
    let error = ship(&settings(&rig, Mode::Follow), &rig.target, &Arc::default()).unwrap_err();
    assert!(matches!(&error, RunError::Failed(why) if why == "the schema is newer"), "{error}");
    assert_eq!(sink(rig.data(), "pg").unwrap(), None);
}

#[test]
fn a_stream_that_is_refused_makes_once_fail_and_the_others_are_sent() {
    let mut rig = Rig::new();
    rig.store(&[click(1), event(1, "{}")]);
    rig.target.with(|content| _ = content.refused.insert(ShipStream::Events));
    let error = ship(&settings(&rig, Mode::Once), &rig.target, &Arc::default()).unwrap_err();
    assert!(matches!(&error, RunError::Failed(why) if why.contains("service_event")), "{error}");
    assert_eq!((place(&rig, ShipStream::Clicks), place(&rig, ShipStream::Events)), (1, 0));
}

#[test]
fn a_folder_that_no_server_has_used_is_an_error() {
    let rig = Rig::new();
    let missing = RunSettings { data: rig.data().join("none"), ..settings(&rig, Mode::Follow) };
    let error = ship(&missing, &rig.target, &Arc::default()).unwrap_err();
    assert!(matches!(&error, RunError::Failed(why) if why.contains("no server has used")), "{error}");
    let named = RunSettings { name: "../x".to_owned(), ..settings(&rig, Mode::Follow) };
    assert!(matches!(ship(&named, &rig.target, &Arc::default()), Err(RunError::Settings(_))));
}

#[test]
fn the_figures_are_a_page_of_metrics() {
    let mut rig = Rig::new();
    rig.store(&[click(1), click(2)]);
    let figures = Arc::new(crate::ship::metrics::ShardFigures::new(ShardId(3)));
    let seen = rig.source().seen(&[(ShipStream::Clicks, 1)].into()).unwrap();
    figures.set_seen(&seen);
    let page = crate::ship::metrics::page(&[figures], crate::ops::Format::Text);
    assert!(page.contains("firehose_ship_behind_rows{shard=\"3\",stream=\"click\"} 1\n"), "{page}");
    assert!(page.contains("firehose_ship_rows_total{shard=\"3\",stream=\"change\"} 0\n"), "{page}");
    assert!(page.contains("firehose_ship_connected{shard=\"3\"} 0\n"), "{page}");
}
