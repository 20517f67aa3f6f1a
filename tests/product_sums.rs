//! Sums by product on a folder of schema version 11, which has a table of them. The fixture has two sealed partitions
//! of 66 orders with segments, an open one of 12 orders without, two orders that were cancelled later, and the answers
//! of the program that made it.

use serde_json::Value;

use crate::support::commerce::verify;
use crate::support::{Folder, Server, rows_of, wait_until};

fn answers() -> serde_json::Map<String, Value> {
    serde_json::from_str(include_str!("fixtures/folder-v11-products/answers.json")).expect("JSON")
}

/// Compares sums by product, and the last sales of products, with the recorded ones.
#[track_caller]
fn check(server: &Server) {
    for (asked, recorded) in answers() {
        let (tenant, path) = asked.split_once(' ').expect("a tenant and a path");
        let answer = server.get(&format!("/api/v1/tenants/{tenant}/{path}")).json();
        let found = if recorded.is_array() { &answer["groups"] } else { &answer["last_sale"] };
        assert_eq!(*found, recorded, "{asked}: {answer}");
    }
}

fn number(folder: &Folder, sql: &str) -> i64 {
    rows_of(&folder.data(), sql, |row| row.get::<_, i64>(0)).into_iter().sum()
}

const TABLE: &str = "SELECT count(*) FROM sqlite_schema WHERE name = 'sales_by_product'";

#[test]
fn sums_by_product_stay_the_same_while_their_table_leaves_a_served_folder() {
    let folder = Folder::of_fixture("folder-v11-products");
    assert_eq!(number(&folder, "SELECT user_version FROM pragma_user_version"), 11);
    assert_eq!(number(&folder, "SELECT count(*) FROM sales_by_product"), 156);
    let mut server = folder.serve(&[]);
    check(&server);
    wait_until("the table is gone", || number(&folder, TABLE) == 0);
    check(&server);
    server.replace(|| folder.serve(&[]));
    check(&server);
    server.stop();
    verify(&folder);
    assert!(number(&folder, "SELECT user_version FROM pragma_user_version") >= 12);
}

#[test]
fn sums_by_product_are_the_same_in_any_number_of_shards() {
    let folder = Folder::of_fixture("folder-v11-products");
    folder.serve(&[]).stop();
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(&[]);
    server.wait_until_stored();
    check(&server);
    assert_eq!(number(&folder, TABLE), 0);
    server.stop();
    verify(&folder);
}
