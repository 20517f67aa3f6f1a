//! R3 and W2 for orders: the server returns every figure that a dataset states about itself, also after status
//! changes, kills, a backup and a reshard.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::commerce::{counts, dataset, ingested, patch, sales, search_all, truth, verify};
use crate::support::oracle::{self, Order, STATUSES};
use crate::support::{Chance, Folder, Server, command, cpus};
use jiff::tz::TimeZone;
use serde_json::Value;

const ORDERS: usize = 3_000;
const DATASET: [&str; 14] = [
    "--preset",
    "tiny",
    "--tenants",
    "2",
    "--products",
    "60",
    "--customers",
    "250",
    "--orders",
    "1500",
    "--days",
    "40",
    "--currencies",
    "USD,JPY",
];

/// Small enough that orders fill several partitions, sealed and open ones.
const PARTITION: [&str; 2] = ["--order-partition-rows-max", "400"];

type ByTenant = BTreeMap<String, Vec<Order>>;

fn orders_of(dataset: &Path) -> ByTenant {
    let mut tenants = ByTenant::new();
    for line in fs::read_to_string(dataset.join("orders.ndjson")).expect("the orders are there").lines() {
        let order = Order::parse(line);
        tenants.entry(order.tenant.clone()).or_default().push(order);
    }
    tenants
}

fn groups(answer: &Value) -> &[Value] {
    answer["groups"].as_array().expect("groups")
}

/// Checks that the server returns every figure in `truth.json`.
fn check_truth(server: &Server, truth: &Value) {
    for (tenant, told) in truth["tenants"].as_object().expect("tenants") {
        for (by, name) in [("day", "by_day"), ("category", "by_category")] {
            let wanted = told[name].as_object().expect(name);
            let answer = sales(server, tenant, &format!("group_by={by}&precision=exact"));
            assert_eq!(answer["meta"]["error_bounds"], serde_json::json!({}));
            let keys: Vec<_> =
                groups(&answer).iter().map(|group| group["key"].as_str().expect("a key")).collect();
            assert_eq!(keys, wanted.keys().map(String::as_str).collect::<Vec<_>>(), "{tenant} by {by}");
            for group in groups(&answer) {
                assert_eq!(group["currency"], told["currency"]);
                let known = wanted[group["key"].as_str().expect("a key")].as_object().expect("figures");
                for (field, value) in known {
                    assert_eq!(group[field], *value, "{tenant} by {by}: {field} of {group}");
                }
            }
        }
        let answer = sales(server, tenant, "group_by=product&precision=exact");
        for known in told["by_product_top"].as_array().expect("products") {
            let found = groups(&answer).iter().find(|group| group["key"] == known["key"]);
            for (field, value) in known.as_object().expect("figures") {
                assert_eq!(found.expect("the product")[field], *value, "{tenant}: {known}");
            }
        }
        for (status, count) in told["by_status"].as_object().expect("statuses") {
            let found = search_all(server, tenant, &format!("status={status}&limit=700&fields=order_id"));
            assert_eq!(found.len() as u64, count.as_u64().expect("a count"), "{tenant} {status}");
        }
    }
}

/// Checks the exact figures, the approximate ones within their bounds, and every row.
fn check_orders(server: &Server, tenants: &ByTenant) {
    for (tenant, orders) in tenants {
        for by in ["day", "hour", "category", "product"] {
            let wanted = oracle::sales(orders, by, &TimeZone::UTC, (None, None));
            let exact = sales(server, tenant, &format!("group_by={by}"));
            assert_eq!(exact["meta"]["precision"], "exact");
            assert_eq!(groups(&exact), wanted, "{tenant} by {by}");
            // Counts alone are answered from the sums, if there are some.
            let counted = sales(server, tenant, &format!("group_by={by}&fields=orders,units,revenue"));
            let approx = sales(server, tenant, &format!("group_by={by}&precision=approx"));
            assert_eq!(counted["meta"]["preaggregated"], by != "product", "{tenant} by {by}");
            for answer in [&counted, &approx] {
                assert_eq!(groups(answer).len(), wanted.len(), "{tenant} by {by}");
                for (group, wanted) in groups(answer).iter().zip(&wanted) {
                    for field in ["key", "currency", "orders", "units", "revenue"] {
                        assert_eq!(group[field], wanted[field], "{tenant} by {by}: {wanted}");
                    }
                }
            }
            if approx["meta"]["error_bounds"] == serde_json::json!({}) {
                assert_eq!(approx["meta"]["precision"], "exact", "{tenant} by {by}");
            } else {
                assert_eq!(approx["meta"]["precision"], "approx", "{tenant} by {by}");
                check_bounds(&approx, &wanted, orders, by);
            }
        }
        assert!(search_all(server, tenant, "limit=333") == oracle::rows(orders), "{tenant}: other rows");
    }
}

/// Checks that the estimates are within the bounds that the response states.
fn check_bounds(approx: &Value, wanted: &[Value], orders: &[Order], by: &str) {
    let bounds = &approx["meta"]["error_bounds"];
    let bound = |pointer: &str| bounds.pointer(pointer).and_then(Value::as_f64).expect("a bound");
    let customers = bound("/unique_customers/relative_standard_error");
    assert!((0.001..0.02).contains(&customers), "{bounds}");
    let mut totals: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for order in orders.iter().filter(|order| order.is_sale()) {
        let at = oracle::rfc3339(order.at_us);
        let keys: BTreeSet<String> = match by {
            "category" => order.items.iter().map(|item| item.category.clone()).collect(),
            "day" => [at[..10].to_owned()].into(),
            _ => [format!("{}:00:00Z", &at[..13])].into(),
        };
        for key in keys {
            totals.entry(key).or_default().push(order.total());
        }
    }
    for (group, wanted) in groups(approx).iter().zip(wanted) {
        let [found, known] = [group, wanted].map(|it| it["unique_customers"].as_f64().expect("a count"));
        // Four standard errors; the estimate is rounded to a whole number.
        assert!((found - known).abs() <= 4.0 * customers * known + 0.5, "{group} instead of {wanted}");
        let key = wanted["key"].as_str().expect("a key");
        let totals = &totals[key];
        assert_eq!(totals.len() as i64, wanted["orders"].as_i64().expect("a count"), "{key}");
        let digits = if wanted["currency"] == "JPY" { 1.0 } else { 100.0 };
        for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
            let value: f64 =
                group["order_value"][name].as_str().and_then(|text| text.parse().ok()).expect("money");
            let rank = |is_it: &dyn Fn(f64) -> bool| {
                totals.iter().filter(|total| is_it(**total as f64)).count() as f64 / totals.len() as f64
            };
            // No value lies between two neighbours, so one rank is allowed on both sides. Half a unit allows for
            // rounding.
            let slack = bound(&format!("/order_value/rank_error/{name}")) + 1.0 / totals.len() as f64;
            let (below, upto) =
                (rank(&|total| total < value * digits - 0.5), rank(&|total| total <= value * digits + 0.5));
            assert!(
                below <= share + slack && upto >= share - slack,
                "{key} {name} {value}: {below} {upto} of {}",
                totals.len()
            );
        }
    }
}

fn change_statuses(server: &Server, tenants: &mut ByTenant, chance: &mut Chance, count: usize) {
    let mut client = server.client();
    for _ in 0..count {
        for (tenant, orders) in tenants.iter_mut() {
            let at = chance.below(orders.len() as u64) as usize;
            let order = &mut orders[at];
            let status = STATUSES[chance.below(6) as usize];
            assert_eq!(patch(&mut client, tenant, &order.id, status), order.status != status);
            order.status = status.to_owned();
        }
    }
    let target = "/api/v1/tenants/tenant_1/orders/none";
    assert_eq!(client.ask("PATCH", target, r#"{"status":"paid"}"#).expect("an answer").status, 404);
    let target = "/api/v1/tenants/nobody/orders/ord-1-00000001";
    assert_eq!(client.ask("PATCH", target, r#"{"status":"paid"}"#).expect("an answer").status, 404);
}

fn posted(server: &Server) {
    let url = format!("http://{}", server.address);
    let words = ["gen-dataset", "--chunk", "900", "--gzip", "--post", &url];
    let orders = ["--start", "2026-01-01", "--price-samples", "0", "--stock-events", "0"];
    let output = command().args(words).args(orders).args(DATASET).output().expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("3000 orders sent, 3000 inserted, 0 duplicates, 0 failed"), "{said}");
}

#[test]
fn r3_a_dataset_comes_back_as_it_was_made_from_one_shard() {
    let folder = Folder::new();
    let dataset = dataset(&folder, &DATASET);
    let server = folder.serve(&[&["--shards", "1"], &PARTITION[..]].concat());
    let file = fs::read(dataset.join("orders.ndjson")).expect("the orders are there");
    let summary = ingested(&server, "the-file", &file);
    assert_eq!(counts(&summary), [ORDERS as u64, ORDERS as u64, 0, 0], "{summary}");
    let mut tenants = orders_of(&dataset);
    check_truth(&server, &truth(&dataset));
    check_orders(&server, &tenants);
    change_statuses(&server, &mut tenants, &mut Chance::new(), 25);
    check_orders(&server, &tenants);
    server.stop();
    verify(&folder);
}

#[test]
fn r3_a_dataset_stays_what_it_is_through_kills_a_backup_and_other_shards() {
    let folder = Folder::new();
    let dataset = dataset(&folder, &DATASET);
    let (mut tenants, mut chance) = (orders_of(&dataset), Chance::new());
    let cpus = cpus(2);
    let flags = [&["--shards", "3", "--cores", &cpus], &PARTITION[..]].concat();
    let server = folder.serve(&flags);
    posted(&server);
    check_truth(&server, &truth(&dataset));
    change_statuses(&server, &mut tenants, &mut chance, 20);
    server.kill();
    verify(&folder);

    let server = folder.serve(&flags);
    server.wait_until_stored();
    check_orders(&server, &tenants);
    let copy = folder.beside("copy");
    let output = folder.run(&["backup", copy.to_str().expect("a path of UTF-8")]);
    assert!(output.status.success(), "{output:?}");
    let copied = tenants.clone();
    change_statuses(&server, &mut tenants, &mut chance, 10);
    server.stop();

    for to in ["2", "5"] {
        let output = folder.run(&["reshard", "--to", to]);
        assert!(output.status.success(), "{output:?}");
        fs::remove_dir_all(folder.data().join("before-reshard")).expect("the old shards are kept");
        verify(&folder);
        let server = folder.serve(&flags[2..]);
        server.wait_until_stored();
        check_orders(&server, &tenants);
        // Orders that were sent before are recognised with the current number of shards.
        let file = fs::read(dataset.join("orders.ndjson")).expect("the orders are there");
        let summary = ingested(&server, &format!("again-{to}"), &file);
        assert_eq!(counts(&summary), [ORDERS as u64, 0, ORDERS as u64, 0], "{summary}");
        change_statuses(&server, &mut tenants, &mut chance, 10);
        server.stop();
    }
    let server = folder.serve_on(&copy, &flags);
    check_orders(&server, &copied);
    server.stop();
}
