//! The script for the stock sqlite3 shell: an independent SQLite runs it and gets the same rows.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{asked, filled};
use crate::support::{Chance, Folder, skip};

/// Runs a script and prints the number of rows of each view.
const STRANGER: &str = r#"
import json, sqlite3, sys
all = sqlite3.connect(":memory:", uri=True)
all.executescript(open(sys.argv[1], encoding="utf-8").read())
views = [name for name, in all.execute("SELECT name FROM sqlite_temp_schema WHERE type = 'view'")]
print(json.dumps({name: all.execute("SELECT count(*) FROM %s" % name).fetchone()[0] for name in views}))
"#;

fn script(folder: &Folder, group: &str) -> String {
    let output = folder.run(&["sql", "--attach", "--group", group]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Returns the number of rows of each view, as an independent SQLite counts them.
fn counted(folder: &Folder, script: &str) -> Option<Value> {
    let path = folder.beside("attach.sql");
    fs::write(&path, script).expect("a file");
    let output = match Command::new("python3").args(["-c", STRANGER]).arg(&path).output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("no python3: {error}"));
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

const VIEWS: [&str; 12] = [
    "events",
    "clicks",
    "service_events",
    "orders",
    "order_items",
    "products",
    "customers",
    "price_history",
    "price_anomalies",
    "stock",
    "stock_events",
    "tenants",
];

fn counts_of(folder: &Folder) -> Value {
    let queries = VIEWS.map(|view| format!("SELECT count(*) AS n FROM {view}"));
    let counts = asked(&folder.data(), &queries).into_iter().map(|rows| rows[0]["n"].clone());
    Value::Object(VIEWS.map(str::to_owned).into_iter().zip(counts).collect())
}

#[test]
fn an_older_sqlite_attaches_the_shards_and_counts_the_same_rows() {
    let (folder, mut chance) = (Folder::new(), Chance::new());
    let server = filled(&folder, &mut chance, 3);
    let text = script(&folder, "1");
    assert!(!text.contains("group") && text.starts_with("-- 3 of 3 shards of "), "{text}");
    let Some(counted) = counted(&folder, &text) else { return };
    assert_eq!(counted, counts_of(&folder), "while the server runs");
    server.stop();
    let too_many = folder.run(&["sql", "--attach", "--group", "2"]);
    assert_eq!(too_many.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&too_many.stderr)
            .contains("there is no group 2: 3 shards in 1 group of up to ten"),
        "{too_many:?}"
    );
}

#[test]
fn more_than_ten_shards_are_attached_in_groups() {
    let (folder, mut chance) = (Folder::new(), Chance::new());
    filled(&folder, &mut chance, 12).stop();
    let (first, second) = (script(&folder, "1"), script(&folder, "2"));
    assert!(first.contains("group 1 of 2, shards 0 to 9") && second.contains("2 of 12 shards"), "{second}");
    assert!(second.contains("12 shards are 2 groups: this is group 2 of 2, shards 10 to 11"), "{second}");
    // The script often goes to a file, so the terminal shows the groups, too.
    let output = folder.run(&["sql", "--attach"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("2 groups") && said.contains("--group 1 to --group 2"), "{said}");
    let (Some(first), Some(second)) = (counted(&folder, &first), counted(&folder, &second)) else { return };
    let all = counts_of(&folder);
    for view in ["events", "orders", "order_items", "service_events", "price_history", "stock_events"] {
        let sum = first[view].as_u64().zip(second[view].as_u64()).map(|(one, other)| one + other);
        assert_eq!(json!(sum), all[view], "{view}");
    }
}

#[test]
fn the_sqlite3_shell_runs_the_script() {
    if Command::new("sqlite3").arg("--version").output().is_err() {
        return skip("no sqlite3");
    }
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    let path = folder.beside("it's a #script?.sql");
    fs::write(&path, script(&folder, "1")).expect("a file");
    let query = "SELECT count(*) FROM orders WHERE tenant_id = 'nobody'";
    let output = Command::new("sqlite3").arg("-init").arg(&path).args(["-batch", ":memory:", query]).output();
    let output = output.expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{output:?}");
    let write = "CREATE TABLE s0.t (a)";
    let output = Command::new("sqlite3").arg("-init").arg(&path).args(["-batch", ":memory:", write]).output();
    assert!(String::from_utf8_lossy(&output.expect("it runs").stderr).contains("readonly"));
}
