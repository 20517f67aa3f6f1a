//! Checkpoints in a running server, on a folder of the schema before them. The fixture has six clicks, six
//! service events, six orders, three prices and a stock event.

use std::collections::BTreeMap;
use std::fs;

use crate::support::commerce::verify;
use crate::support::{Folder, command, rows_of, wait_until};

/// Returns how far the database file says that it is complete without its WAL.
fn checkpointed(folder: &Folder) -> BTreeMap<String, i64> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
    rows_of(&folder.data(), "SELECT stream, last FROM checkpointed", row).into_iter().collect()
}

#[test]
fn a_folder_of_the_version_before_learns_how_far_its_file_is_complete_while_it_serves() {
    let folder = Folder::of_fixture("folder-v8-clicks");
    let mut server = folder.serve(&["--checkpoint-interval", "50ms"]);
    server.wait_until_stored();
    let mut client = server.client();
    for n in 101..=104 {
        assert_eq!(client.post(n).expect("an answer").status, 202);
    }
    wait_until("a checkpoint of everything", || checkpointed(&folder).get("click") == Some(&10));
    let found = checkpointed(&folder);
    assert_eq!((found.get("service_event"), found.get("sales_order")), (Some(&6), Some(&6)));
    // A file that is complete needs no WAL.
    let wal = folder.database(0).with_extension("db-wal");
    server.kill();
    let record = fs::read(folder.database(0).with_extension("db-pass")).expect("a record of checkpoints");
    assert_eq!(record[8], 1, "it is complete");
    fs::remove_file(wal).expect("the WAL is removed");
    server = folder.serve(&[]);
    server.wait_until_stored();
    assert_eq!(server.get("/clicks").json()["total"], 10);
    // The row may have been in the WAL.
    assert!(checkpointed(&folder).get("click").is_none_or(|last| *last <= 10));
    server.stop();
    assert_eq!(checkpointed(&folder).get("click"), Some(&10));
    verify(&folder);
}

#[test]
fn commands_say_that_a_database_with_a_damaged_wal_is_not_to_be_relied_on() {
    let folder = Folder::of_fixture("folder-v8-clicks");
    let server = folder.serve(&["--checkpoint-interval", "50ms"]);
    server.wait_until_stored();
    let (wal, record) =
        (folder.database(0).with_extension("db-wal"), folder.database(0).with_extension("db-pass"));
    wait_until("the last commit to be copied", || {
        let (Ok(wal), Ok(record)) = (fs::read(&wal), fs::read(&record)) else { return false };
        wal.len() > 5_000 && record.len() == 48 && record[8] == 1 && wal[16..24] == record[20..28]
    });
    server.kill();
    let copy = folder.beside("copy");
    let run =
        |args: &[&str]| command().args(args).arg("--data").arg(folder.data()).output().expect("it runs");
    let warned = |line: &[&str]| {
        let output = run(line);
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        (output.status.success(), said.contains("its WAL is damaged or was removed"))
    };
    let to = copy.to_str().expect("a path");
    assert_eq!(warned(&["verify"]), (true, false));
    let mut bytes = fs::read(&wal).expect("the WAL");
    bytes[100] ^= 1;
    fs::write(&wal, bytes).expect("it is damaged");
    assert_eq!(warned(&["verify"]), (false, true));
    assert_eq!(warned(&["backup", to]), (false, true));
    assert_eq!(warned(&["reshard", "--to", "3"]), (false, true));
    // What can be read is shown.
    assert_eq!(warned(&["sql", "-c", "SELECT count(*) FROM clicks"]), (true, true));
    let server = folder.serve(&[]);
    server.wait_until_stored();
    server.stop();
    fs::remove_dir_all(&copy).expect("the backup that was begun");
    for line in [&["verify"][..], &["backup", to], &["sql", "-c", "SELECT count(*) FROM clicks"]] {
        assert_eq!(warned(line), (true, false), "{line:?}");
    }
}
