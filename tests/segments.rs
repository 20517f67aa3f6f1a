//! Segments in a running server, on a folder of the schema before them. The fixture has two sealed partitions of 66
//! orders each, some refunded later, and the answers of the program that made it.

use std::time::Duration;

use firehose::base::clock;
use serde_json::Value;

use crate::support::commerce::{patch, sales, verify};
use crate::support::{Folder, Server, rows_of, wait_until};

fn answers() -> Vec<(String, String, Value)> {
    let text = include_str!("fixtures/folder-v8-sales/answers.json");
    let answers: serde_json::Map<String, Value> = serde_json::from_str(text).expect("JSON");
    let split = |(asked, groups): (String, Value)| {
        let (tenant, query) = asked.split_once(' ').expect("a tenant and a query");
        (tenant.to_owned(), query.to_owned(), groups)
    };
    answers.into_iter().map(split).collect()
}

#[track_caller]
fn check(server: &Server) {
    for (tenant, query, groups) in answers() {
        let answer = sales(server, &tenant, &query);
        assert_eq!(answer["groups"], groups, "{tenant}: {query}");
        assert_eq!(answer["meta"]["precision"], "exact");
    }
}

fn number(folder: &Folder, sql: &str) -> i64 {
    rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)).into_iter().sum()
}

fn write(folder: &Folder, sql: &str) {
    let shard = rusqlite::Connection::open(folder.database(0)).expect("the shard opens");
    shard.execute_batch(sql).expect("the statement runs");
}

/// Returns the number of segments of all shards. A shard has none before its writer has opened it.
fn segments(folder: &Folder) -> i64 {
    let lacks = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sales_segment')";
    if number(folder, lacks) > 0 {
        return 0;
    }
    number(folder, SEGMENTS)
}

const SEGMENTS: &str = "SELECT count(*) FROM sales_segment WHERE id % 16 = 0";

const CHANGED: [&str; 6] = ["acme-2", "acme-3", "acme-4", "acme-5", "acme-12", "acme-16"];

#[test]
fn an_earlier_folder_gets_segments_while_it_is_served_and_keeps_its_answers() {
    let folder = Folder::of_fixture("folder-v8-sales");
    assert_eq!(number(&folder, "SELECT user_version FROM pragma_user_version"), 8);
    let mut server = folder.serve(&[]);
    check(&server);
    wait_until("the segments are there", || segments(&folder) == 2);
    server.replace(|| folder.serve(&[]));
    check(&server);
    // A status that changes and changes back, of more orders than a sixteenth. The segment may be made again in between, and
    // those that change afterwards may be too few.
    wait_until("the segment is made again", || {
        for status in ["cancelled", "paid"] {
            for order in CHANGED {
                assert!(patch(&mut server.client(), "acme", order, status), "{order}");
            }
        }
        for order in CHANGED {
            let answer = server.get(&format!("/api/v1/tenants/acme/orders/{order}")).json();
            assert_eq!(answer["status"], "paid", "{answer}");
        }
        clock::pause(Duration::from_millis(50));
        number(&folder, "SELECT count(*) FROM sales_segment_stale") == 0
    });
    server.stop();
    verify(&folder);
    let copy = folder.beside("copy");
    let output = folder.run(&["backup", copy.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    let shard = rusqlite::Connection::open(copy.join("shard-00/shard.db")).expect("the copy opens");
    assert_eq!(shard.query_row(SEGMENTS, [], |row| row.get::<_, i64>(0)).expect("a number"), 2);
}

#[test]
fn a_reshard_leaves_segments_behind_and_keeps_the_answers() {
    let folder = Folder::of_fixture("folder-v8-sales");
    let server = folder.serve(&[]);
    wait_until("the segments are there", || segments(&folder) == 2);
    let before: Vec<Value> =
        answers().iter().map(|(tenant, query, _)| sales(&server, tenant, query)["groups"].clone()).collect();
    server.stop();
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(&[]);
    server.wait_until_stored();
    // The orders are in open partitions now, which are smaller than a segment.
    assert_eq!(segments(&folder), 0);
    for ((tenant, query, _), groups) in answers().iter().zip(before) {
        assert_eq!(sales(&server, tenant, query)["groups"], groups, "{tenant}: {query}");
    }
    server.stop();
    verify(&folder);
}

#[test]
fn a_damaged_segment_is_reported_and_is_made_again() {
    let folder = Folder::of_fixture("folder-v8-sales");
    let server = folder.serve(&[]);
    wait_until("the segments are there", || segments(&folder) == 2);
    server.stop();
    write(
        &folder,
        "UPDATE sales_segment SET data = CAST(substr(data, 1, 30) || x'07' || substr(data, 32) AS BLOB) WHERE id = 21",
    );
    let output = folder.run(&["verify", "--aggregates"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("sales_segment 21: column total of the orders from 1 on: its checksum differs"),
        "{said}"
    );
    let server = folder.serve(&[]);
    check(&server);
    assert!(server.log().contains("a segment is damaged: its orders are read from their rows"));
    wait_until("the segment is whole", || folder.run(&["verify", "--aggregates"]).status.success());
    check(&server);
    server.stop();
    // All of them can be deleted, too.
    write(&folder, "DELETE FROM sales_segment");
    let server = folder.serve(&[]);
    check(&server);
    wait_until("the segments are there", || segments(&folder) == 2);
    check(&server);
    server.stop();
    verify(&folder);
}
