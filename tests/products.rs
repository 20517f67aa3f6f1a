//! R1 for products: random orders, status changes, erasures, prices, reviews and stock updates on 1 and 5 shards give the
//! products, the levels and the last sales of a simple model. Also pages, streams, conditions and refusals of lists.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::commerce::{encoded, ingested, page_of, patch, problem};
use crate::support::oracle::{self, Order, STATUSES, decimal};
use crate::support::{Chance, Client, Folder, Server, cpus};
use firehose::base::clock;
use serde_json::{Value, json};

const TENANT: &str = "acme";
/// Ids that only prices and stock name, next to those of orders. Their order by bytes is not that of their letters, and
/// one begins with another.
const OTHERS: [&str; 6] = ["P", "p", "p1", "p10", "ü 5", "\u{ffff}\u{10000}"];
const CURRENCIES: [&str; 2] = ["USD", "JPY"];

struct Side {
    folder: Folder,
    server: Server,
}

/// A price: its time, event id, minor units, and whether it is accepted.
type Price = (i64, String, i64, bool);

/// An anomaly: its id on each server, and the price that it is about.
struct Anomaly {
    ids: Vec<String>,
    price: (String, &'static str, usize),
    is_open: bool,
}

#[derive(Default)]
struct Model {
    orders: BTreeMap<String, Order>,
    /// Categories by product. They remain if orders are erased.
    categories: BTreeMap<String, BTreeSet<String>>,
    prices: BTreeMap<String, BTreeMap<&'static str, Vec<Price>>>,
    /// In the order of arrival.
    anomalies: Vec<Anomaly>,
    stock: BTreeMap<String, (i64, i64)>,
    /// Customers whose later orders are refused.
    erased: BTreeSet<String>,
    /// Customers who were erased or have a pseudonym, under which their later orders are stored.
    renamed: BTreeSet<String>,
    events: u64,
}

fn of_tenant(rest: &str) -> String {
    format!("/api/v1/tenants/{TENANT}/{rest}")
}

#[track_caller]
fn told(client: &mut Client, method: &str, target: &str, body: &str, status: u16) -> Value {
    let answer = client.ask(method, target, body).expect("the server answers");
    assert_eq!(answer.status, status, "{method} {target}: {}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// Removes the times of acceptance, which the clock decides.
fn without_arrival(mut row: Value) -> Value {
    let level = if row.get("stock").is_some_and(Value::is_object) { &mut row["stock"] } else { &mut row };
    if let Some(at) = level.as_object_mut().and_then(|level| level.remove("updated_at")) {
        assert!(at.as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{at}");
    }
    row
}

impl Model {
    fn ingest(&mut self, sides: &[Side], chance: &mut Chance, round: u64) {
        let orders: Vec<Order> = (0..25).map(|n| Order::random(chance, TENANT, round * 100 + n)).collect();
        for side in sides {
            ingested(&side.server, &format!("round-{round}"), &oracle::body(&orders));
        }
        for order in orders.into_iter().filter(|order| !self.erased.contains(&order.customer)) {
            for item in &order.items {
                self.categories.entry(item.product.clone()).or_default().insert(item.category.clone());
            }
            self.orders.insert(order.id.clone(), order);
        }
    }

    fn change_status(&mut self, sides: &[Side], chance: &mut Chance) {
        let at = chance.below(self.orders.len() as u64) as usize;
        let Some(order) = self.orders.values_mut().nth(at) else { return };
        order.status = STATUSES[chance.below(6) as usize].to_owned();
        for side in sides {
            patch(&mut side.server.client(), TENANT, &order.id, &order.status);
        }
    }

    fn erase(&mut self, sides: &[Side], chance: &mut Chance) {
        let customer = format!("c{}", chance.below(12));
        let mode = ["erase", "pseudonymise"][chance.below(2) as usize];
        if self.erased.contains(&customer) || !self.renamed.insert(customer.clone()) {
            return;
        }
        for side in sides {
            let target = of_tenant(&format!("customers/{customer}?mode={mode}"));
            told(&mut side.server.client(), "DELETE", &target, "", 200);
        }
        if mode == "erase" {
            self.orders.retain(|_, order| order.customer != customer);
            self.erased.insert(customer);
        }
    }

    fn price(&mut self, sides: &[Side], chance: &mut Chance) {
        self.events += 1;
        let (product, event_id) = (OTHERS[chance.below(6) as usize], format!("e{}", self.events));
        let currency = CURRENCIES[chance.below(2) as usize];
        // Few distinct times, so that the id decides between some. Now and then, a price is far off.
        let at_us = 1_767_225_600_000_000 + chance.below(20) as i64 * 3_600_000_000;
        let minor = 1_000 + chance.below(20) as i64 + if chance.below(4) == 0 { 900 } else { 0 };
        let body = json!({"event_id": event_id, "price": decimal(minor, currency), "currency": currency,
                          "observed_at": clock::rfc3339(at_us)});
        let target = of_tenant(&format!("products/{}/price-event", encoded(product)));
        let verdict = |side: &Side| {
            told(&mut side.server.client(), "POST", &target, &body.to_string(), 201)["anomaly"].clone()
        };
        let verdicts: Vec<Value> = sides.iter().map(verdict).collect();
        let is_accepted = verdicts[0].is_null();
        assert!(verdicts.iter().all(|verdict| verdict.is_null() == is_accepted), "{verdicts:?}");
        let prices = self.prices.entry(product.to_owned()).or_default().entry(currency).or_default();
        prices.push((at_us, event_id, minor, is_accepted));
        if !is_accepted {
            let id = |verdict: &Value| verdict["id"].as_str().expect("an id").to_owned();
            let price = (product.to_owned(), currency, prices.len() - 1);
            self.anomalies.push(Anomaly { ids: verdicts.iter().map(id).collect(), price, is_open: true });
        }
    }

    fn review(&mut self, sides: &[Side], chance: &mut Chance) {
        let open: Vec<usize> = (0..self.anomalies.len()).filter(|at| self.anomalies[*at].is_open).collect();
        if open.is_empty() {
            return;
        }
        let anomaly = &mut self.anomalies[open[chance.below(open.len() as u64) as usize]];
        let decision = ["approve", "reject"][chance.below(2) as usize];
        for (side, id) in sides.iter().zip(&anomaly.ids) {
            let target = of_tenant(&format!("price-anomalies/{id}/review"));
            told(
                &mut side.server.client(),
                "POST",
                &target,
                &format!("{{\"decision\":\"{decision}\"}}"),
                200,
            );
        }
        anomaly.is_open = false;
        let (product, currency, at) = &anomaly.price;
        if let Some(price) = self.prices.get_mut(product).and_then(|of| of.get_mut(currency)) {
            price[*at].3 = decision == "approve";
        }
    }

    fn update_stock(&mut self, sides: &[Side], chance: &mut Chance) {
        self.events += 1;
        let product = OTHERS[chance.below(6) as usize];
        let quantity = chance.below(30) as i64;
        let body = json!({"mode": "last_write_wins", "updates": [{
            "event_id": format!("s{}", self.events), "product_id": product, "quantity": quantity,
            "occurred_at": clock::rfc3339(1_767_225_600_000_000 + self.events as i64)}]});
        for side in sides {
            let target = of_tenant("stock/bulk_update");
            told(&mut side.server.client(), "PUT", &target, &body.to_string(), 200);
        }
        let version = self.stock.get(product).map_or(0, |(_, version)| *version) + 1;
        self.stock.insert(product.to_owned(), (quantity, version));
    }

    fn products(&self) -> BTreeSet<&String> {
        self.categories.keys().chain(self.prices.keys()).chain(self.stock.keys()).collect()
    }

    /// Returns a product as a list shows it.
    fn summary(&self, product: &str) -> Value {
        let newest = |(currency, prices): (&&'static str, &Vec<Price>)| {
            let accepted = prices.iter().filter(|price| price.3);
            accepted.max_by_key(|price| (price.0, price.1.clone())).map(|price| (price.0, *currency, price.2))
        };
        let mut prices: Vec<_> = self.prices.get(product).into_iter().flatten().filter_map(newest).collect();
        prices.sort_by_key(|(at_us, currency, _)| (std::cmp::Reverse(*at_us), *currency));
        let price = |(at_us, currency, minor): &(i64, &str, i64)| json!({"price": decimal(*minor, currency), "currency": currency, "observed_at": clock::rfc3339(*at_us)});
        let stock = self.stock.get(product);
        json!({
            "product_id": product,
            "category": self.categories.get(product).and_then(BTreeSet::first),
            "prices": prices.iter().map(price).collect::<Vec<_>>(),
            "stock": stock.map(|(quantity, version)| json!({"quantity": quantity, "version": version})),
        })
    }

    /// Returns everything about a product, as this server shows it.
    fn whole(&self, product: &str, side: usize) -> Value {
        let is_in =
            |order: &&Order| order.is_sale() && order.items.iter().any(|item| item.product == product);
        let last = self.orders.values().filter(is_in).max_by_key(|order| (order.at_us, order.id.clone()));
        let sale = last.map(|order| {
            let of = || order.items.iter().filter(|item| item.product == product);
            let first = of().next().expect("an item");
            json!({
                "ordered_at": clock::rfc3339(order.at_us), "order_id": order.id, "currency": order.currency,
                "quantity": of().map(|item| item.quantity).sum::<i64>(),
                "unit_price": decimal(first.price, &order.currency), "category": first.category,
            })
        });
        let open = self.anomalies.iter().rev().filter(|of| of.is_open && of.price.0 == product);
        let ids: Vec<&String> = open.map(|anomaly| &anomaly.ids[side]).collect();
        let mut whole = self.summary(product);
        whole["last_sale"] = sale.unwrap_or_default();
        whole["open_anomalies"] =
            json!({"count": ids.len(), "ids": ids[..ids.len().min(20)], "truncated": false});
        whole
    }

    fn check(&self, sides: &[Side], chance: &mut Chance) {
        let known = self.products();
        for (at, side) in sides.iter().enumerate() {
            let mut client = side.server.client();
            for product in &known {
                let target = of_tenant(&format!("products/{}", encoded(product)));
                let found = without_arrival(told(&mut client, "GET", &target, "", 200));
                assert_eq!(found, self.whole(product, at), "{product} on server {at}");
            }
            for prefix in ["", "p", "p1", "ü", "\u{ffff}", "none"] {
                let mut wanted = known.iter().filter(|product| product.starts_with(prefix));
                let wanted: Vec<Value> = wanted.by_ref().map(|product| self.summary(product)).collect();
                let query =
                    if prefix.is_empty() { String::new() } else { format!("prefix={}", encoded(prefix)) };
                check_list(&side.server, "products", &query, &wanted, chance);
            }
            for _ in 0..3 {
                let (above, below) = (chance.below(20) as i64 - 5, chance.below(35) as i64);
                let prefix = ["", "p"][chance.below(2) as usize];
                let (with_above, with_below) = (chance.below(2) == 0, chance.below(2) == 0 || below <= above);
                let with_below = with_below && below > above;
                let takes = |(product, (quantity, _)): &(&String, &(i64, i64))| {
                    product.starts_with(prefix)
                        && (!with_above || *quantity > above)
                        && (!with_below || *quantity < below)
                };
                let wanted: Vec<Value> = self
                    .stock
                    .iter()
                    .filter(takes)
                    .map(|(product, (quantity, version))| {
                        json!({"product_id": product, "quantity": quantity, "version": version})
                    })
                    .collect();
                let mut query = if prefix.is_empty() { String::new() } else { format!("prefix={prefix}") };
                query += &if with_above { format!("&above={above}") } else { String::new() };
                query += &if with_below { format!("&below={below}") } else { String::new() };
                check_list(&side.server, "stock", &query, &wanted, chance);
            }
        }
    }
}

/// Reads a list page by page and as a stream, and compares both with the expected rows.
#[track_caller]
fn check_list(server: &Server, list: &str, query: &str, wanted: &[Value], chance: &mut Chance) {
    let mut client = server.client();
    let limit = chance.below(4) as usize + 1;
    let (mut found, mut more) = (Vec::new(), String::new());
    loop {
        let target = of_tenant(&format!("{list}?{query}&limit={limit}{more}"));
        let page = told(&mut client, "GET", &target, "", 200);
        let rows = page[list].as_array().expect("rows");
        assert_eq!(page["rows"], rows.len(), "{target}");
        found.extend(rows.iter().cloned().map(without_arrival));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        assert_eq!(rows.len(), limit, "{target}");
        more = format!("&cursor={cursor}");
    }
    assert_eq!(found, wanted, "{list}?{query} by {limit}");
    let target = of_tenant(&format!("{list}?{query}"));
    let streamed = client.get_as(&target, "application/x-ndjson").expect("the server answers");
    let (rows, cursor) = page_of(&streamed);
    let rows: Vec<Value> = rows.into_iter().map(without_arrival).collect();
    assert_eq!((rows.as_slice(), cursor), (wanted, None), "{target}");
}

#[test]
fn r1_products_and_stock_equal_what_was_sent_on_any_number_of_shards() {
    let side = |shards: u16| {
        let folder = Folder::new();
        let flags =
            ["--shards", &shards.to_string(), "--cores", &cpus(2), "--order-partition-rows-max", "20"];
        let server = folder.serve(&flags);
        Side { folder, server }
    };
    let sides = [side(1), side(5)];
    let (mut chance, mut model) = (Chance::new(), Model::default());
    let mut was_open = false;
    for round in 1..=9 {
        model.ingest(&sides, &mut chance, round);
        (0..8).for_each(|_| model.change_status(&sides, &mut chance));
        (0..14).for_each(|_| model.price(&sides, &mut chance));
        was_open |= model.anomalies.iter().any(|anomaly| anomaly.is_open);
        (0..3).for_each(|_| model.review(&sides, &mut chance));
        (0..5).for_each(|_| model.update_stock(&sides, &mut chance));
        if round % 3 == 0 {
            model.erase(&sides, &mut chance);
            model.check(&sides, &mut chance);
        }
    }
    assert!(was_open, "there were open anomalies");
    for Side { folder, server } in sides {
        server.stop();
        let (code, said) = folder.run_json(&["verify", "--aggregates", "--stock"]);
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn a_product_whose_orders_all_ended_has_no_last_sale_and_an_unknown_one_is_a_404() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let mut chance = Chance::new();
    let order =
        |id, chance: &mut Chance| Order { status: "paid".to_owned(), ..Order::random(chance, TENANT, id) };
    let orders: Vec<Order> = (0..20).map(|id| order(id, &mut chance)).collect();
    ingested(&server, "k", &oracle::body(&orders));
    let product = orders[0].items[0].product.clone();
    let target = of_tenant(&format!("products/{}", encoded(&product)));
    let mut client = server.client();
    let mut with: Vec<&Order> =
        orders.iter().filter(|order| order.items.iter().any(|item| item.product == product)).collect();
    with.sort_by_key(|order| (order.at_us, order.id.clone()));
    // The last sale is cancelled again and again, until there is none.
    while let Some(last) = with.pop() {
        assert_eq!(told(&mut client, "GET", &target, "", 200)["last_sale"]["order_id"], last.id);
        assert!(patch(&mut client, TENANT, &last.id, ["cancelled", "refunded"][with.len() % 2]));
    }
    let said = told(&mut client, "GET", &target, "", 200);
    assert_eq!(
        (&said["last_sale"], &said["stock"], &said["prices"]),
        (&Value::Null, &Value::Null, &json!([]))
    );
    assert!(said["category"].is_string(), "{said}");

    for unknown in ["products/none", "products/p", "products/p1%00"] {
        let answer = client.get(&of_tenant(unknown)).expect("an answer");
        let slug = if unknown.ends_with("%00") { "not-found" } else { "no-such-product" };
        problem(&answer, 404, slug);
    }
    assert_eq!(
        server.get("/api/v1/tenants/none/products").json(),
        json!({"products":[],"rows":0,"next_cursor":null})
    );
    assert_eq!(
        server.get("/api/v1/tenants/none/stock").json(),
        json!({"stock":[],"rows":0,"next_cursor":null})
    );
    server.stop();
}

#[test]
fn a_product_is_not_sent_again_to_a_client_that_has_it() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let mut client = server.client();
    let stock = |client: &mut Client, id: &str| {
        let body = json!({"mode": "merge", "updates": [{"event_id": id, "product_id": "p/1 ü", "delta": 2,
                          "occurred_at": "2026-03-01T10:00:00Z"}]});
        told(client, "PUT", &of_tenant("stock/bulk_update"), &body.to_string(), 200);
    };
    stock(&mut client, "a");
    let target = of_tenant("products/p%2F1%20%C3%BC");
    let first = client.get(&target).expect("an answer");
    let tag = first.header("ETag").expect("a tag").to_owned();
    assert_eq!(first.header("Cache-Control"), Some("no-cache"));
    let mut status_for = |tag: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: t\r\nIf-None-Match: {tag}\r\n\r\n");
        client.write(head.as_bytes()).expect("the server takes it");
        client.answer().expect("an answer").status
    };
    assert_eq!([status_for(&tag), status_for(&format!("W/{tag}")), status_for("\"x\"")], [304, 304, 200]);
    stock(&mut server.client(), "b");
    assert_eq!(status_for(&tag), 200);
    server.stop();
}

#[test]
fn a_list_names_what_is_wrong_with_its_conditions() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let mut client = server.client();
    let updates: Vec<Value> = (0..9)
        .map(|n| {
            json!({"event_id": "e", "product_id": format!("p{n}"), "delta": n,
                        "occurred_at": "2026-03-01T10:00:00Z"})
        })
        .collect();
    let body = json!({"mode": "merge", "updates": updates});
    told(&mut client, "PUT", &of_tenant("stock/bulk_update"), &body.to_string(), 200);
    for (target, parameter, code) in [
        ("products?limit=0", "limit", "out_of_range"),
        ("products?limit=100001", "limit", "out_of_range"),
        ("products?cursor=x", "cursor", "invalid_cursor"),
        ("products?prefix=%00", "prefix", "invalid_text"),
        ("stock?below=ten", "below", "not_a_whole_number"),
        ("stock?below=1.5", "below", "not_a_whole_number"),
        ("stock?above=", "above", "empty_value"),
        ("stock?above=5&below=5", "below", "out_of_range"),
        ("stock?above=-7&below=99999999999999999999999999999999999999999999", "", ""),
        ("stock?below=5&below=6", "below", "repeated"),
    ] {
        let answer = client.get(&of_tenant(target)).expect("an answer");
        if code.is_empty() {
            assert_eq!(answer.status, 200, "{target}");
            continue;
        }
        let said = problem(&answer, 400, "bad-parameter");
        assert_eq!(
            (&said["errors"][0]["parameter"], &said["errors"][0]["code"]),
            (&json!(parameter), &json!(code))
        );
    }
    // A cursor belongs to its list and its conditions; another limit is permitted.
    let cursor =
        |target: &str| server.get(&of_tenant(target)).json()["next_cursor"].as_str().map(str::to_owned);
    let of_stock = cursor("stock?limit=2&below=8").expect("there is more");
    let status =
        |target: &str, cursor: &str| server.get(&of_tenant(&format!("{target}&cursor={cursor}"))).status;
    assert_eq!(status("stock?limit=3&below=8", &of_stock), 200);
    for other in [
        "stock?limit=2",
        "stock?below=9",
        "stock?below=8&above=0",
        "stock?below=8&prefix=p",
        "products?limit=2",
    ] {
        assert_eq!(status(other, &of_stock), 400, "{other}");
    }
    // The last page has no cursor, even if it is full.
    assert_eq!(cursor("stock?limit=9"), None);
    assert!(cursor("stock?limit=8").is_some());
    // Lines may be limited, too. The answer to HEAD has no body.
    let lines = client.get_as(&of_tenant("products?limit=4"), "application/x-ndjson").expect("an answer");
    let (rows, more) = page_of(&lines);
    assert!(rows.len() == 4 && more.is_some());
    for list in ["products", "stock"] {
        client
            .write(format!("HEAD {} HTTP/1.1\r\nHost: t\r\n\r\n", of_tenant(list)).as_bytes())
            .expect("sent");
        assert_eq!(client.answer_head().expect("an answer").status, 200);
    }
    server.stop();
}

#[test]
fn open_anomalies_are_counted_among_the_newest_ten_thousand() {
    let folder = Folder::new();
    let serve = || folder.serve(&["--shards", "1"]);
    let server = serve();
    let price = r#"{"event_id":"e","price":"1","currency":"USD","observed_at":"2026-01-01T00:00:00Z"}"#;
    told(&mut server.client(), "POST", &of_tenant("products/p/price-event"), price, 201);
    server.stop();
    // The oldest is open, and so are the newest 30 of as many as are read.
    let insert = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10001) \
                  INSERT INTO price_anomaly (anomaly_id, tenant, product_id, event_id, observed_at_us, price, currency, \
                  created_us, baseline, change_bp_max, score_milli_max, status) \
                  SELECT printf('%032x', n), t.id, 'p', 'e' || n, n, 900, 'USD', n, 100, 2000, 3500, \
                  CASE WHEN n = 1 OR n > 9971 THEN 'open' ELSE 'rejected' END FROM n, tenant_row t";
    let connection = rusqlite::Connection::open(folder.database(0)).expect("the shard opens");
    assert_eq!(connection.execute(insert, []).expect("it inserts"), 10_001);
    let open = |server: &Server| server.get(&of_tenant("products/p")).json()["open_anomalies"].clone();
    let server = serve();
    let ids: Vec<String> = (9_982..=10_001).rev().map(|n| format!("{n:032x}")).collect();
    assert_eq!(open(&server), json!({"count": 30, "ids": ids, "truncated": true}));
    connection.execute("DELETE FROM price_anomaly WHERE created_us = 5000", []).expect("it deletes");
    assert_eq!(open(&server), json!({"count": 31, "ids": ids, "truncated": false}));
    server.stop();
}
