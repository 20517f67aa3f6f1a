//! The disk itself. Each policy loses what it describes, names become durable as each order describes, and programs
//! run on it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::{Rig, run_json};
use crate::disk::{Order, Policy};
use crate::support::{PATIENCE, command, wait_until};

const BOTH: [Order; 2] = [Order::Strict, Order::Ext4];

/// Writes one state of the disk. The image is removed with the rig's folder.
fn image(rig: &Rig, order: Order, policy: Policy, seed: u64) -> PathBuf {
    let to = rig.folder.beside(&format!("{order:?}-{policy:?}-{seed}"));
    let _ = fs::remove_dir_all(&to);
    rig.disk.image(order, policy, seed, &to);
    to
}

/// Returns the bytes of a file on an image, or `None` if the name does not exist.
fn read(image: &Path, name: &str) -> Option<Vec<u8>> {
    fs::read(image.join(name)).ok()
}

#[track_caller]
fn sync(path: &Path) {
    File::open(path).and_then(|file| file.sync_all()).expect("it is synced");
}

#[test]
fn bytes_are_durable_by_a_sync_and_names_by_their_folders_or_in_order() {
    let Some(rig) = Rig::new() else { return };
    let path = |name: &str| rig.disk.path().join(name);
    fs::write(path("first"), b"never synced").expect("a file");
    fs::write(path("second"), b"synced").expect("a file");
    sync(&path("second"));
    fs::write(path("third"), b"never synced").expect("a file");

    let strict = image(&rig, Order::Strict, Policy::Synced, 0);
    assert_eq!(fs::read_dir(&strict).expect("a folder").count(), 0, "no folder was synced");
    // The journal of ext4 carries the changes before the sync: only names, no bytes.
    let ext4 = image(&rig, Order::Ext4, Policy::Synced, 0);
    assert_eq!(read(&ext4, "first"), Some(Vec::new()));
    assert_eq!(read(&ext4, "second"), Some(b"synced".to_vec()));
    assert_eq!(read(&ext4, "third"), None);

    sync(rig.disk.path());
    let strict = image(&rig, Order::Strict, Policy::Synced, 0);
    assert_eq!(read(&strict, "second"), Some(b"synced".to_vec()));
    assert_eq!(read(&strict, "third"), Some(Vec::new()));
    let everything = image(&rig, Order::Strict, Policy::Everything, 0);
    assert_eq!(read(&everything, "third"), Some(b"never synced".to_vec()));

    // Removed and renamed names return until their folder is synced.
    fs::remove_file(path("first")).expect("it is removed");
    fs::create_dir(path("folder")).expect("a folder");
    fs::rename(path("second"), path("folder/moved")).expect("it is moved");
    let before = image(&rig, Order::Strict, Policy::Synced, 0);
    assert!(read(&before, "first").is_some() && read(&before, "second").is_some());
    sync(&path("folder"));
    // A rename is one step. The folder contains the file now, but the disk has no name for the folder until its
    // parent is synced.
    let after = image(&rig, Order::Strict, Policy::Synced, 0);
    assert!(read(&after, "second").is_none() && read(&after, "folder/moved").is_none());
    assert!(read(&after, "first").is_some());
    let ext4 = image(&rig, Order::Ext4, Policy::Synced, 0);
    assert_eq!((read(&ext4, "folder/moved"), read(&ext4, "first")), (Some(b"synced".to_vec()), None));
    sync(rig.disk.path());
    let after = image(&rig, Order::Strict, Policy::Synced, 0);
    assert_eq!((read(&after, "folder/moved"), read(&after, "first")), (Some(b"synced".to_vec()), None));
}

#[test]
fn each_policy_keeps_what_it_says() {
    let Some(rig) = Rig::new() else { return };
    let path = rig.disk.path().join("file");
    let file =
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).expect("a file");
    file.write_all_at(&[b'a'; 4 * 4096], 0).expect("written");
    rig.disk.settle();
    // Three generations of the same four pages, and two further pages.
    file.write_all_at(&[b'b'; 4 * 4096], 0).expect("written");
    file.write_all_at(&[b'c'; 4 * 4096], 0).expect("written");
    file.write_all_at(&[b'd'; 2 * 4096], 4 * 4096).expect("written");
    fs::write(rig.disk.path().join("new"), b"new").expect("a file");
    let [old, new] = [[b'a'; 4 * 4096].to_vec(), [[b'c'; 4 * 4096].to_vec(), vec![b'd'; 2 * 4096]].concat()];

    for order in BOTH {
        let bytes = |policy, seed| read(&image(&rig, order, policy, seed), "file").expect("it was settled");
        let is_named = |policy| read(&image(&rig, order, policy, 0), "new");
        assert_eq!((bytes(Policy::Synced, 0), is_named(Policy::Synced)), (old.clone(), None));
        assert_eq!(
            (bytes(Policy::EmptyFiles, 0), is_named(Policy::EmptyFiles)),
            (old.clone(), Some(Vec::new()))
        );
        let zeroed = [old.clone(), vec![0; 2 * 4096]].concat();
        assert_eq!(
            (bytes(Policy::ZeroedFiles, 0), is_named(Policy::ZeroedFiles)),
            (zeroed, Some(vec![0; 3]))
        );
        assert_eq!((bytes(Policy::Nameless, 0), is_named(Policy::Nameless)), (new.clone(), None));
        let everything = (bytes(Policy::Everything, 0), is_named(Policy::Everything));
        assert_eq!(everything, (new.clone(), Some(b"new".to_vec())));

        let several = |policy| (0..40).map(|seed| bytes(policy, seed)).collect::<Vec<_>>();
        let files = several(Policy::Files);
        assert!(
            files.contains(&old) && files.contains(&new) && files.iter().all(|it| *it == old || *it == new)
        );
        let uniform = |block: &[u8]| block.iter().all(|byte| *byte == block[0] && b"abcd\0".contains(byte));
        for pages in several(Policy::Pages) {
            assert!(pages.chunks(4096).all(uniform));
        }
        assert!(several(Policy::Pages).iter().any(|it| it[0] != it[4096]), "pages are independent");
        for sectors in several(Policy::Sectors) {
            assert!(sectors.chunks(512).all(uniform));
        }
        assert!(several(Policy::Sectors).iter().any(|it| it[0] != it[512]), "pages are torn");
        for prefix in several(Policy::Prefix) {
            assert!(uniform(&prefix[..4 * 4096]), "a write is whole");
            assert!(prefix.len() == 4 * 4096 || prefix == new);
        }
        assert_eq!(bytes(Policy::Sectors, 7), bytes(Policy::Sectors, 7), "a seed repeats");
    }
}

/// A file system changes the length and the blocks of a file in one step. A WAL that lost only its end would be a
/// prefix of commits that the database has already passed, and no database survives that.
#[test]
fn a_truncation_is_kept_or_lost_as_a_whole() {
    let Some(rig) = Rig::new() else { return };
    let path = rig.disk.path().join("file");
    let file =
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path).expect("a file");
    let old = [b'a'; 8 * 4096].to_vec();
    file.write_all_at(&old, 0).expect("written");
    rig.disk.settle();
    file.set_len(4096).expect("truncated");
    file.write_all_at(&[b'b'; 3 * 4096], 4096).expect("written");
    let may_be = |bytes: &[u8]| {
        let (first, rest) = bytes.split_at(4096);
        let is_truncated = rest.chunks(512).all(|sector| sector == [b'b'; 512] || sector == [0; 512]);
        first == &old[..4096] && (rest == &old[4096..] || (rest.len() <= 3 * 4096 && is_truncated))
    };
    for order in BOTH {
        for policy in Policy::LOSING {
            let mut seen = std::collections::BTreeSet::new();
            for seed in 0..if policy.is_by_chance() { 40 } else { 1 } {
                let bytes = read(&image(&rig, order, policy, seed), "file").expect("it was settled");
                assert!(may_be(&bytes), "{policy:?} {seed}");
                seen.insert(bytes.len());
            }
            if matches!(policy, Policy::Pages | Policy::Sectors) {
                assert_eq!(seen, [4096, 4 * 4096, 8 * 4096].into(), "{policy:?}");
            }
        }
    }
    let everything = read(&image(&rig, Order::Ext4, Policy::Everything, 0), "file");
    assert_eq!(everything, Some([&old[..4096], &[b'b'; 3 * 4096]].concat()));
}

#[test]
fn a_rename_before_its_bytes_are_synced_can_leave_an_empty_file() {
    let Some(rig) = Rig::new() else { return };
    let path = |name: &str| rig.disk.path().join(name);
    fs::write(path("state"), b"old").expect("a file");
    rig.disk.settle();
    fs::write(path("state.new"), b"new").expect("a file");
    fs::rename(path("state.new"), path("state")).expect("it is renamed");
    sync(rig.disk.path());
    for order in BOTH {
        assert_eq!(read(&image(&rig, order, Policy::Synced, 0), "state"), Some(Vec::new()), "{order:?}");
    }
    // The correct sequence: bytes, name, folder.
    fs::write(path("state.new"), b"newer").expect("a file");
    sync(&path("state.new"));
    fs::rename(path("state.new"), path("state")).expect("it is renamed");
    sync(rig.disk.path());
    for order in BOTH {
        for policy in Policy::LOSING {
            assert_eq!(read(&image(&rig, order, policy, 0), "state"), Some(b"newer".to_vec()), "{policy:?}");
        }
    }
}

#[test]
fn a_sync_carries_what_was_there_when_it_began_and_is_done_at_its_end() {
    let Some(rig) = Rig::new() else { return };
    let path = rig.disk.path().join("file");
    let mut file = File::create(&path).expect("a file");
    rig.disk.settle();
    // Each write goes through to the disk before the next one.
    let mut direct =
        OpenOptions::new().append(true).custom_flags(libc::O_DSYNC).open(&path).expect("it opens");
    direct.write_all(b"one").expect("written");
    direct.write_all(b"two").expect("written");
    assert_eq!(rig.disk.syncs_of(&path), 2);
    assert_eq!(read(&image(&rig, Order::Strict, Policy::Synced, 0), "file"), Some(b"onetwo".to_vec()));

    rig.disk.syncs_take(PATIENCE);
    let other = file.try_clone().expect("a handle");
    file.write_all(b"new").expect("written");
    let syncing = std::thread::spawn(move || other.sync_data());
    wait_until("the sync to begin", || rig.disk.syncs_of(&path) == 3);
    let durable = || read(&image(&rig, Order::Strict, Policy::Synced, 0), "file");
    assert_eq!(durable(), Some(b"onetwo".to_vec()), "it has begun and not ended");
    rig.disk.syncs_take(Duration::ZERO);
    syncing.join().expect("it ends").expect("it is synced");
    file.write_all(b"late").expect("written");
    assert_eq!(durable(), Some(b"newtwo".to_vec()));
    assert_eq!(read(&image(&rig, Order::Strict, Policy::Everything, 0), "file"), Some(b"newlate".to_vec()));

    // The control: a sync reports success and does nothing.
    rig.disk.forget_syncs();
    file.sync_all().expect("it says so");
    assert_eq!(durable(), Some(b"newtwo".to_vec()));
}

#[test]
fn after_the_cut_nothing_works_and_nothing_changes() {
    let Some(rig) = Rig::new() else { return };
    let path = rig.disk.path().join("file");
    let mut file = File::create(&path).expect("a file");
    rig.disk.cut_after(rig.disk.operations() + 2);
    file.write_all(b"last").and_then(|()| file.sync_all()).expect("the two that are allowed");
    assert!(!rig.disk.is_cut());
    let error = file.write_all(b"late").expect_err("the power is gone");
    assert_eq!((error.raw_os_error(), rig.disk.is_cut()), (Some(libc::EIO), true));
    assert!(file.sync_all().is_err() && File::create(rig.disk.path().join("more")).is_err());
    assert_eq!(read(&image(&rig, Order::Ext4, Policy::Synced, 0), "file"), Some(b"last".to_vec()));
}

/// The server's own use of the disk: SQLite's mapped memory and locks between two processes, and its syncs. Both are
/// separate processes, because this one must not map a file of its own disk.
#[test]
fn the_server_and_another_process_share_a_database_on_it() {
    let Some(rig) = Rig::new() else { return };
    let server = rig.folder.serve_on(&rig.data(), &["--shards", "1", "--ack", "disk"]);
    let mut client = server.client();
    assert_eq!(client.post(1).expect("the server answers").status, 202);
    server.wait_until_stored();
    assert!(rig.data().join("shard-00/shard.db-shm").exists(), "it is in WAL mode");
    let rows = || run_json(&rig.data(), &["shards"])[0]["rows"].clone();
    assert_eq!(rows(), 1, "another process reads what the server has in its WAL");
    // The ring's fdatasync reaches the disk.
    let journals = fs::read_dir(rig.data().join("shard-00/hot")).expect("the lane's folder");
    let synced: u64 = journals.map(|entry| rig.disk.syncs_of(&entry.expect("an entry").path())).sum();
    assert!(synced > 0, "no segment was synced");

    let mut lock = command();
    lock.args(["drill", "lock", "--seconds", "3600", "--data"]).arg(rig.data()).stdout(Stdio::piped());
    let mut lock = lock.spawn().expect("the program runs");
    let mut said = String::new();
    let mut output = BufReader::new(lock.stdout.take().expect("its output"));
    output.read_line(&mut said).expect("it says something");
    assert!(said.contains("1 shards locked"), "{said}");
    assert_eq!(client.post(2).expect("the server answers").status, 202);
    server.wait_until_status("degraded");
    assert_eq!(rows(), 1);
    // A process that ends releases its locks.
    lock.kill().and_then(|()| lock.wait()).expect("it ends");
    server.wait_until_stored();
    assert_eq!(rows(), 2);
    server.stop();
    let verified = run_json(&rig.data(), &["verify"]);
    assert!(verified.as_array().is_some_and(|checked| !checked.is_empty()), "{verified}");
}
