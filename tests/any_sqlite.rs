//! An independent SQLite reads a shard: the version of Debian 12 understands every table. A folder of the previous
//! schema version, whose word index only a newer SQLite could read, is migrated to such tables.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::commerce::{counts, ingested, search_all, verify};
use crate::support::oracle::{self, Order};
use crate::support::{Chance, Folder, Server, rows_of, skip};
use serde_json::{Value, json};

/// Reads every table and view, finds customers by words, and reports the version of SQLite.
const STRANGER: &str = r#"
import json, sqlite3, sys
shard = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True)
names = [name for name, in shard.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")]
for name in names:
    shard.execute('SELECT * FROM "%s" LIMIT 5' % name).fetchall()
words = "SELECT c.name FROM customer_text w JOIN customer_row c ON c.id = w.rowid WHERE customer_text MATCH ? ORDER BY 1"
check, = shard.execute("PRAGMA integrity_check").fetchone()
print(json.dumps({
    "version": sqlite3.sqlite_version, "names": names, "check": check,
    "found": [name for name, in shard.execute(words, [sys.argv[2]])],
}))
"#;

/// Returns the result of [`STRANGER`], or `None` if python3 is not installed.
fn read_by_a_stranger(shard: &Path, words: &str) -> Option<Value> {
    let output = match Command::new("python3").args(["-c", STRANGER]).arg(shard).arg(words).output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("no python3: {error}"));
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    eprintln!("read with SQLite {}", read["version"]);
    Some(read)
}

/// Checks that no table needs a feature that SQLite has only since 3.43, whichever version python3 uses.
#[track_caller]
fn check_tables(folder: &Folder) {
    let sql = "SELECT name FROM sqlite_schema WHERE sql LIKE '%contentless_delete%'";
    assert_eq!(rows_of(&folder.data(), sql, |row| row.get::<_, String>(0)), [""; 0]);
}

fn named(chance: &mut Chance, number: u64, name: &str) -> Order {
    let mut order = Order::random(chance, "acme", number);
    (order.customer, order.name) = (format!("c-{number}"), name.to_owned());
    order.email = format!("{number}@example.org");
    order
}

#[test]
fn an_older_sqlite_reads_every_table_and_finds_words() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    let mut chance = Chance::seeded(11);
    let names = ["Ann Smith", "Änne O'Neil-Smith", "Bob Jones"];
    let orders: Vec<Order> = names.iter().zip(0..).map(|(name, n)| named(&mut chance, n, name)).collect();
    assert_eq!(counts(&ingested(&server, "k", &oracle::body(&orders)))[1], 3);
    server.wait_until_stored();
    check_tables(&folder);
    // Checked while the server runs and again after it has stopped.
    let look = || {
        let Some(read) = read_by_a_stranger(&folder.database(0), "name : smith") else { return };
        assert_eq!(read["found"], json!(["Ann Smith", "Änne O'Neil-Smith"]), "{read}");
        assert_eq!(read["check"], "ok", "{read}");
        for name in ["customer_text", "orders", "order_items", "sales_day", "price_history", "events"] {
            assert!(
                read["names"].as_array().is_some_and(|names| names.contains(&json!(name))),
                "{name}: {read}"
            );
        }
    };
    look();
    server.stop();
    look();
}

/// Returns the ids of the orders that a search for these words finds.
fn found(server: &Server, words: &str) -> Vec<String> {
    let rows = search_all(server, "acme", &format!("q={words}&fields=order_id"));
    let mut ids: Vec<String> =
        rows.iter().map(|row| row["order_id"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

/// The fixture was made by the previous version: `c-1` of `acme` has two names, and `beta` has a `c-1` of its own;
/// `c-3` was erased, and `c-4` was pseudonymised.
#[test]
fn a_folder_of_schema_version_5_finds_and_forgets_as_before() {
    let folder = Folder::of_fixture("folder-v5");
    let server = folder.serve(&[]);
    let none = [""; 0];
    assert_eq!(found(&server, "ann*"), ["o-1", "o-2"]);
    assert_eq!(found(&server, "muller"), ["o-2"]);
    assert_eq!(found(&server, "o'brien"), ["o-3"]);
    assert_eq!(found(&server, "ford+example.net"), ["o-7"]);
    for gone in ["zaph*", "tricia", "heartofgold"] {
        assert_eq!(found(&server, gone), none, "{gone}");
    }
    let erased = server.client().ask("DELETE", "/api/v1/tenants/acme/customers/c-1?mode=erase", "");
    let erased = erased.expect("the server answers");
    assert_eq!(erased.status, 200, "{}", String::from_utf8_lossy(&erased.body));
    let shard = &erased.json()["shards"][0];
    assert_eq!((&shard["customers"], &shard["words"]), (&json!(2), &json!(2)), "{shard}");
    let check = |server: &Server| {
        assert_eq!(found(server, "smith"), none);
        assert_eq!(found(server, "o'brien"), ["o-3"]);
        assert_eq!(search_all(server, "beta", "q=ann").len(), 1, "another tenant's");
    };
    check(&server);
    let bytes = fs::read(folder.database(0)).expect("the file is read");
    for trace in ["Smith", "smith", "muller"] {
        assert_eq!(memchr::memmem::find(&bytes, trace.as_bytes()), None, "{trace}");
    }
    server.stop();
    verify(&folder);
    check_tables(&folder);

    // A second start has nothing to migrate, and new orders are found.
    let server = folder.serve(&[]);
    check(&server);
    let new = named(&mut Chance::seeded(1), 9, "Annabel Smith");
    assert_eq!(counts(&ingested(&server, "k2", &oracle::body([&new])))[1], 1);
    assert_eq!(found(&server, "ann*"), [new.id.as_str()]);
    server.stop();
    verify(&folder);
    if let Some(read) = read_by_a_stranger(&folder.database(0), "tenant : tenant1 AND name : a*") {
        assert_eq!(read["found"], json!(["Annabel Smith"]), "{read}");
    }
    let versions = rows_of(&folder.data(), "SELECT version FROM migration", |row| row.get::<_, i64>(0));
    assert_eq!(versions, (1..=i64::from(firehose::shard::VERSION)).collect::<Vec<_>>(), "each once");
}
