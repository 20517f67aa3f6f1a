//! The status of an order is the one of the latest change by its own time, in whatever order the changes arrive. A
//! folder of the previous version keeps its statuses.

use crate::support::commerce::{counts, encoded, ingested, problem, search_all, verify};
use crate::support::oracle::{self, Order};
use crate::support::{Chance, Client, Folder};
use firehose::base::clock;
use serde_json::{Value, json};

fn change(client: &mut Client, order: &str, status: &str, at: Option<&str>) -> Value {
    let target = format!("/api/v1/tenants/acme/orders/{}", encoded(order));
    let body = match at {
        Some(at) => json!({"status": status, "occurred_at": at}),
        None => json!({"status": status}),
    };
    let answer = client.ask("PATCH", &target, &body.to_string()).expect("the server answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let said = answer.json();
    assert_eq!((&said["order_id"], &said["status"]), (&json!(order), &json!(status)));
    said
}

/// Returns whether the status changed, and whether the change was superseded.
fn changed(said: &Value) -> (bool, bool) {
    (said["changed"] == true, said["superseded"] == true)
}

fn status_of(client: &mut Client, order: &str) -> Value {
    let target = format!("/api/v1/tenants/acme/orders/{}", encoded(order));
    client.get(&target).expect("the server answers").json()["status"].clone()
}

#[test]
fn an_older_status_changes_nothing_whatever_order_they_come_in() {
    let folder = Folder::new();
    let mut chance = Chance::seeded(4);
    let mut orders: Vec<Order> = (0..4).map(|id| Order::random(&mut chance, "acme", id)).collect();
    orders.iter_mut().for_each(|order| order.status = "pending".to_owned());
    let server = folder.serve(&["--shards", "2"]);
    assert_eq!(counts(&ingested(&server, "k", &oracle::body(&orders)))[1], 4);
    let mut client = server.client();
    let [noon, one, two] = ["2020-03-01T12:00:00Z", "2020-03-01T13:00:00Z", "2020-03-01T14:00:00Z"];
    // The first change may have any time, even long before the order.
    assert_eq!(changed(&change(&mut client, "order-0", "shipped", Some(one))), (true, false));
    assert_eq!(changed(&change(&mut client, "order-0", "paid", Some(noon))), (false, true));
    assert_eq!(status_of(&mut client, "order-0"), "shipped");
    // Of two changes at the same time, the one that arrives later applies.
    assert_eq!(changed(&change(&mut client, "order-0", "cancelled", Some(one))), (true, false));
    // The same status at a later time: changes before that time are superseded.
    assert_eq!(changed(&change(&mut client, "order-0", "cancelled", Some(two))), (false, false));
    assert_eq!(
        changed(&change(&mut client, "order-0", "paid", Some("2020-03-01T14:30:00+01:00"))),
        (false, true)
    );
    assert_eq!(changed(&change(&mut client, "order-0", "refunded", None)), (true, false), "now");
    assert_eq!(changed(&change(&mut client, "order-0", "paid", Some(two))), (false, true));
    // Each order has its own time.
    assert_eq!(changed(&change(&mut client, "order-1", "paid", Some(noon))), (true, false));

    // An order returns to the status that it was ingested with.
    assert_eq!(changed(&change(&mut client, "order-2", "paid", Some(noon))), (true, false));
    assert_eq!(changed(&change(&mut client, "order-2", "pending", Some(one))), (true, false));

    let day_us = 86_400_000_000;
    let ahead = |us: i64| clock::rfc3339(clock::unix_us() + us);
    for at in [ahead(day_us + 60_000_000), "2020-03-01T12:00:00".to_owned(), "yesterday".to_owned()] {
        let body = json!({"status": "paid", "occurred_at": at}).to_string();
        let answer = client.ask("PATCH", "/api/v1/tenants/acme/orders/order-1", &body);
        problem(&answer.expect("the server answers"), 422, "invalid-status");
    }
    assert_eq!(
        changed(&change(&mut client, "order-1", "shipped", Some(&ahead(day_us - 60_000_000)))),
        (true, false)
    );
    assert_eq!(changed(&change(&mut client, "order-1", "paid", None)), (false, true));

    // The times survive a kill and a reshard.
    server.kill();
    let server = folder.serve(&[]);
    assert_eq!(changed(&change(&mut server.client(), "order-0", "paid", Some(two))), (false, true));
    server.stop();
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(&[]);
    let mut client = server.client();
    assert_eq!(status_of(&mut client, "order-0"), "refunded");
    assert_eq!(changed(&change(&mut client, "order-0", "paid", Some(two))), (false, true));
    assert_eq!(changed(&change(&mut client, "order-1", "paid", None)), (false, true));
    assert_eq!(changed(&change(&mut client, "order-2", "paid", Some(noon))), (false, true));
    assert_eq!(changed(&change(&mut client, "order-3", "paid", Some("1970-01-01T00:00:00Z"))), (true, false));
    server.stop();
    verify(&folder);
}

#[test]
fn a_folder_of_schema_version_4_opens_and_knows_of_no_times() {
    let folder = Folder::of_fixture("folder-v4");
    let server = folder.serve(&[]);
    let rows = search_all(&server, "acme", "fields=order_id,status");
    let statuses: Vec<_> =
        rows.iter().map(|row| (row["order_id"].as_str(), row["status"].as_str())).collect();
    let mut client = server.client();
    assert_eq!(statuses.len(), 3);
    assert_eq!(status_of(&mut client, "o-1"), "cancelled");
    // The status was changed at an unknown time: any time is later, but only once.
    assert_eq!(changed(&change(&mut client, "o-1", "paid", Some("1970-01-01T00:00:01Z"))), (true, false));
    assert_eq!(changed(&change(&mut client, "o-1", "shipped", Some("1970-01-01T00:00:00Z"))), (false, true));
    server.stop();
    verify(&folder);
}
