//! Commands that report completed work (keys, a backup, another number of shards), and the first start.

use std::fs;
use std::path::Path;

use super::orders::{ids, ingest, orders};
use super::quiet::quiet_command;
use super::{After, Rig, run, run_json};
use crate::disk::Policy;
use crate::support::{Folder, Server, event, stored};

#[track_caller]
fn create_key(rig: &Rig) -> String {
    let made = run_json(&rig.data(), &["key", "create", "--scope", "write"]);
    made["id"].as_str().expect("an id").to_owned()
}

/// Returns the state of a key, as `key list` reports it.
#[track_caller]
fn state_of(data: &Path, id: &str) -> String {
    let keys = run_json(data, &["key", "list"]);
    let found = keys.as_array().expect("a list").iter().find(|key| key["id"] == id);
    found.unwrap_or_else(|| panic!("the key is gone: {keys}"))["state"].as_str().expect("a state").to_owned()
}

/// Runs a server on the folder once and stops it.
fn served(rig: &Rig) {
    rig.serve(&[]).stop();
}

#[test]
fn k1_a_key_that_was_shown_is_one() {
    quiet_command(
        served,
        |rig, ()| create_key(rig),
        |_, image, id| {
            assert_eq!(state_of(&image.join("data"), id), "active");
        },
    );
}

#[test]
fn k1_a_second_key_is_one() {
    let prepare = |rig: &Rig| {
        served(rig);
        create_key(rig);
    };
    quiet_command(
        prepare,
        |rig, ()| create_key(rig),
        |_, image, id| {
            assert_eq!(state_of(&image.join("data"), id), "active");
        },
    );
}

/// The key is created before the first start, in a data folder whose parent is new as well.
#[test]
fn k1_a_key_made_before_the_first_start_is_one() {
    let data = |root: &Path| root.join("srv/firehose/data");
    let create = |rig: &Rig, (): &()| {
        let made = run_json(&data(rig.disk.path()), &["key", "create", "--scope", "write"]);
        made["id"].as_str().expect("an id").to_owned()
    };
    quiet_command(|_| {}, create, |_, image, id| assert_eq!(state_of(&data(image), id), "active"));
}

#[test]
fn k1_a_key_that_was_revoked_stays_so() {
    let prepare = |rig: &Rig| {
        served(rig);
        create_key(rig)
    };
    let revoke = |rig: &Rig, id: &String| {
        run_json(&rig.data(), &["key", "revoke", id]);
        id.clone()
    };
    quiet_command(prepare, revoke, |_, image, id| {
        assert_eq!(state_of(&image.join("data"), id), "revoked");
    });
}

#[test]
fn a_backup_that_was_made_is_one() {
    let prepare = |rig: &Rig| {
        let server = rig.serve(&[]);
        ingest(&server, "k", "", &orders(0..50));
        server.wait_until_stored();
        server.stop();
        create_key(rig)
    };
    let backup = |rig: &Rig, id: &String| {
        let copy = rig.disk.path().join("backups/today");
        let output = run(&rig.data(), &["backup", copy.to_str().expect("a path")]);
        assert!(output.status.success(), "{output:?}");
        id.clone()
    };
    quiet_command(prepare, backup, |rig, image, id| {
        let data = image.join("backups/today");
        assert_eq!(state_of(&data, id), "active");
        let after = After { server: rig.serve_on(&data, &["--insecure"]), data };
        after.server.wait_until_stored();
        assert_eq!(super::orders::stored_orders(&after), ids(&orders(0..50)));
        after.server.kill();
    });
}

/// The disk is empty before the start. Even the parent folders are missing.
#[test]
fn w1_the_first_start() {
    let Some(rig) = Rig::new() else { return };
    let data = |root: &Path| root.join("srv/firehose/data");
    rig.disk.syncs_take(super::SYNC_TIME);
    let server = rig.serve_on(&data(rig.disk.path()), &["--ack", "disk"]);
    let answer = server.client().ask("POST", "/event", &event(1)).expect("the server answers");
    assert_eq!(answer.status, 202, "{answer:?}");
    rig.disk.cut();
    server.kill();
    let images = rig.after_cut(|image| {
        let server = rig.serve_on(&data(image), &[]);
        server.wait_until_stored();
        server.kill();
        assert_eq!(stored(&data(image)), [1]);
    });
    images.assert_sound();
}

/// Stores clicks and orders in the folder and stops the server.
fn filled(folder: &Folder) {
    let server = folder.serve(&["--shards", "2"]);
    ingest(&server, "k", "", &orders(0..50));
    let mut client = server.client();
    for number in 0..50 {
        assert_eq!(client.ask("POST", "/event", &event(number)).expect("an answer").status, 202);
    }
    server.wait_until_stored();
    server.stop();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

#[track_caller]
fn check_resharded(rig: &Rig, data: &Path) {
    // If the reshard was already complete, the command reports it and does nothing.
    let again = run(data, &["reshard", "--to", "3"]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success() || said.contains("has 3 shards already"), "{again:?}");
    let server: Server = rig.folder.serve_on(data, &[]);
    server.wait_until_stored();
    let after = After { data: data.to_owned(), server };
    assert_eq!(after.server.health()["shards"].as_array().map(Vec::len), Some(3));
    assert_eq!(super::orders::stored_orders(&after), ids(&orders(0..50)));
    assert_eq!(stored(data), (0..50).collect::<Vec<_>>());
    assert_eq!(super::orders::statuses(&after.server).len(), 50);
    after.server.kill();
}

/// The power is cut at many instants, most of them near the end, where the new shards replace the old ones.
#[test]
fn a_reshard_that_was_cut_goes_on_and_loses_nothing() {
    let source = Folder::new();
    filled(&source);
    let begin = || {
        let rig = Rig::new()?;
        copy(&source.data(), &rig.data());
        rig.disk.settle();
        Some((rig.disk.operations(), rig))
    };
    let reshard = |rig: &Rig| run(&rig.data(), &["reshard", "--to", "3"]);
    let Some((before, rig)) = begin() else { return };
    let output = reshard(&rig);
    assert!(output.status.success(), "{output:?}");
    let count = rig.disk.operations() - before;
    rig.disk.cut();
    let policies = [Policy::Synced, Policy::Prefix, Policy::Files, Policy::EmptyFiles];
    let mut failed = Vec::new();
    let images = rig.after_cut_by(&policies, 2, |image| check_resharded(&rig, &image.join("data")));
    failed.extend((!images.failed.is_empty()).then(|| format!("at its end: {images}")));
    drop(rig);

    let near_the_end = [1, 2, 4, 6, 9, 12, 16, 22, 30].map(|left| count.saturating_sub(left));
    for operations in near_the_end.into_iter().chain([count / 3, count / 2]) {
        let (before, rig) = begin().expect("it was possible before");
        rig.disk.cut_after(before + operations);
        let _ = reshard(&rig);
        rig.disk.cut();
        let images = rig.after_cut_by(&policies, 2, |image| check_resharded(&rig, &image.join("data")));
        failed
            .extend((!images.failed.is_empty()).then(|| format!("after {operations} of {count}: {images}")));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
