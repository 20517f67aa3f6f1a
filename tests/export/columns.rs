//! The same bytes from the columns of segments and from rows, on a folder with two sealed partitions of 66 orders each.

use rusqlite::Connection;

use super::*;
use crate::support::commerce::patch;
use crate::support::{Folder, rows_of, wait_until};

const SEGMENTS: &str = "SELECT count(*) FROM sales_segment WHERE id % 16 = 0";

fn all(server: &Server) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for format in ["csv", "ndjson", "parquet"] {
        for rows in ["orders", "items"] {
            for (compression, filters) in [
                ("none", json!({})),
                ("gzip", json!({"status": ["paid", "refunded"]})),
                ("zstd", json!({"min_total": "10.00"})),
            ] {
                let wish =
                    json!({"format": format, "rows": rows, "compression": compression, "filters": filters});
                files.push(made(server, "acme", &wish));
            }
        }
    }
    files
}

#[test]
fn x1_an_export_has_the_same_bytes_from_columns_from_damaged_columns_and_from_rows() {
    let folder = Folder::of_fixture("folder-v8-sales");
    let server = folder.serve(&[]);
    let lacks = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sales_segment')";
    let count = |sql: &str| rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)).into_iter().sum::<i64>();
    wait_until("the segments are there", || count(lacks) == 0 && count(SEGMENTS) == 2);
    let columns = all(&server);
    // A changed status is in the list of changes.
    assert!(patch(&mut server.client(), "acme", "acme-4", "cancelled"));
    let changed = all(&server);
    assert_ne!(changed[0], columns[0]);
    server.stop();
    for sql in [
        "UPDATE sales_segment SET data = x'00' WHERE id % 16 IN (1, 9)",
        "UPDATE sales_segment SET data = x'00' WHERE id % 16 = 0",
        "DELETE FROM sales_segment",
    ] {
        let shard = Connection::open(folder.database(0)).expect("the shard opens");
        assert!(shard.execute(sql, []).expect("the statement runs") > 1, "{sql}");
        drop(shard);
        let server = folder.serve(&[]);
        // The last time, the segments are made again while the exports run.
        assert!(all(&server) == changed, "{sql}");
        server.stop();
    }
}
