//! Checkpoints in a running server, on a folder of the schema before them. The fixture has six clicks, six
//! service events, six orders, three prices and a stock event.

use std::collections::BTreeMap;
use std::fs;

use crate::support::commerce::verify;
use crate::support::{Folder, rows_of, wait_until};

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
