//! R1 for searches: they find what a scan of all orders finds, byte for byte the same from one shard and from three.
//! Pages neither shift nor repeat. An aborted stream never looks complete.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use crate::support::commerce::{counts, encoded, ingested, page_of, search_all, search_path};
use crate::support::oracle::{self, Order, STATUSES, decimal};
use crate::support::{Chance, Folder, Server, cpus, wait_until};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

const WORDS: [&str; 12] = [
    "ann",
    "ann*",
    "MÜLLER",
    "mull*",
    "o'brien",
    "smith",
    "jose ansel*",
    "example.com",
    "shop",
    "bob org",
    "nobody",
    "a* s*",
];
const PRODUCTS: [&str; 8] = ["p1", "p2", "p-3", "p/4", "ü 5", "p6", "p7", "p-none"];

#[derive(Clone, Debug)]
struct Asked {
    tenant: &'static str,
    order: Option<String>,
    customer: Option<String>,
    currency: Option<&'static str>,
    category: Option<String>,
    /// In hundredths.
    prices: (Option<i64>, Option<i64>),
    products: Vec<&'static str>,
    statuses: Vec<&'static str>,
    words: Option<&'static str>,
    /// In hundredths.
    totals: (Option<i64>, Option<i64>),
    times_us: (Option<i64>, Option<i64>),
    fields: Vec<&'static str>,
    limit: usize,
}

const FIELDS: [&str; 5] = ["order_id", "total", "customer_name", "items", "status"];

/// Values that occur, and one that does not.
struct Known {
    times: Vec<i64>,
    orders: Vec<String>,
    customers: Vec<String>,
    categories: Vec<String>,
}

impl Known {
    fn of(all: &[Order]) -> Known {
        let distinct = |values: Vec<String>| -> Vec<String> {
            values.into_iter().chain(["search".to_owned()]).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let items = all.iter().flat_map(|order| &order.items);
        Known {
            times: all.iter().map(|order| order.at_us).collect::<BTreeSet<_>>().into_iter().collect(),
            orders: distinct(all.iter().map(|order| order.id.clone()).collect()),
            customers: distinct(all.iter().map(|order| order.customer.clone()).collect()),
            categories: distinct(items.map(|item| item.category.clone()).collect()),
        }
    }
}

fn asked(known: Known) -> impl Strategy<Value = Asked> {
    let Known { times, orders, customers, categories } = known;
    let price = || prop::option::weighted(0.3, 0..6_000_i64);
    let further = (
        prop::option::weighted(0.2, prop::sample::select(customers)),
        prop::option::weighted(0.2, prop::sample::select(vec!["USD", "JPY", "KWD", "EUR"])),
        prop::option::weighted(0.3, prop::sample::select(categories)),
        (price(), price()),
    );
    let time =
        prop::option::weighted(0.4, (0..times.len(), -1..2_i64).prop_map(move |(at, by)| times[at] + by));
    let total = || prop::option::weighted(0.4, 0..40_000_i64);
    (
        prop::sample::select(vec!["acme", "beta", "nobody"]),
        prop::option::weighted(0.25, prop::sample::select(orders)),
        prop::option::weighted(0.5, prop::sample::subsequence(PRODUCTS.to_vec(), 1..4)),
        prop::option::weighted(0.5, prop::sample::subsequence(STATUSES.to_vec(), 1..4)),
        prop::option::weighted(0.5, prop::sample::select(WORDS.to_vec())),
        (total(), total()),
        (time.clone(), time),
        prop::option::weighted(0.3, prop::sample::subsequence(FIELDS.to_vec(), 1..5)),
        (further, 1..300_usize),
    )
        .prop_map(|(tenant, order, products, statuses, words, totals, times_us, fields, rest)| {
            let ((customer, currency, category, prices), limit) = rest;
            let times_us = match times_us {
                (Some(from), Some(to)) => (Some(from.min(to)), Some(from.max(to) + 1)),
                open => open,
            };
            Asked {
                tenant,
                order,
                customer,
                currency,
                category,
                prices: in_order(prices),
                products: products.unwrap_or_default(),
                statuses: statuses.unwrap_or_default(),
                words,
                totals: in_order(totals),
                times_us,
                fields: fields.unwrap_or_default(),
                limit,
            }
        })
}

/// Swaps bounds that cross, which a search refuses.
fn in_order(bounds: (Option<i64>, Option<i64>)) -> (Option<i64>, Option<i64>) {
    match bounds {
        (Some(least), Some(most)) => (Some(least.min(most)), Some(least.max(most))),
        open => open,
    }
}

/// Splits text into words as the index does: letters and digits, without case and accents.
fn tokens(text: &str) -> Vec<String> {
    let plain = text.to_lowercase().replace('ü', "u").replace('é', "e");
    plain
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|token| !token.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns `true` if the words of `phrase` follow each other in the text, the last one as a prefix if it has a star.
fn has_phrase(text: &str, phrase: &str) -> bool {
    let (wanted, is_prefix) = (tokens(phrase), phrase.ends_with('*'));
    tokens(text).windows(wanted.len()).any(|found| {
        let Some((last, before)) = wanted.split_last() else { return false };
        let (found_last, found_before) = found.split_last().expect("a window");
        found_before == before && if is_prefix { found_last.starts_with(last) } else { found_last == last }
    })
}

impl Asked {
    fn query(&self) -> String {
        let mut query = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                query += &format!("{name}={}&", encoded(&value));
            }
        };
        add("order_id", self.order.clone());
        add("customer_id", self.customer.clone());
        add("currency", self.currency.map(str::to_owned));
        add("category", self.category.clone());
        add("min_price", self.prices.0.map(|price| decimal(price, "USD")));
        add("max_price", self.prices.1.map(|price| decimal(price, "USD")));
        add("product_id", Some(self.products.join(",")));
        add("status", Some(self.statuses.join(",")));
        add("q", self.words.map(str::to_owned));
        add("min_total", self.totals.0.map(|total| decimal(total, "USD")));
        add("max_total", self.totals.1.map(|total| decimal(total, "USD")));
        add("from", self.times_us.0.map(oracle::rfc3339));
        add("to", self.times_us.1.map(oracle::rfc3339));
        add("fields", Some(self.fields.join(",")));
        query
    }

    fn takes(&self, order: &Order) -> bool {
        // In thousandths, which all three currencies fit into.
        let scale = match order.currency.as_str() {
            "JPY" => 1_000,
            "KWD" => 1,
            _ => 10,
        };
        let total = order.total() * scale;
        let mut words = self.words.unwrap_or_default().split_whitespace();
        order.tenant == self.tenant
            && self.order.as_ref().is_none_or(|id| *id == order.id)
            && self.customer.as_ref().is_none_or(|customer| *customer == order.customer)
            && self.currency.is_none_or(|currency| currency == order.currency)
            && order.items.iter().any(|item| {
                (self.products.is_empty() || self.products.contains(&item.product.as_str()))
                    && self.category.as_ref().is_none_or(|category| *category == item.category)
                    && self.prices.0.is_none_or(|min| item.price * scale >= min * 10)
                    && self.prices.1.is_none_or(|max| item.price * scale <= max * 10)
            })
            && (self.statuses.is_empty() || self.statuses.contains(&order.status.as_str()))
            && self.totals.0.is_none_or(|min| total >= min * 10)
            && self.totals.1.is_none_or(|max| total <= max * 10)
            && self.times_us.0.is_none_or(|from| order.at_us >= from)
            && self.times_us.1.is_none_or(|to| order.at_us < to)
            && words.all(|word| has_phrase(&order.name, word) || has_phrase(&order.email, word))
    }

    fn rows(&self, orders: &[Order]) -> Vec<Value> {
        let mut rows = oracle::rows(orders.iter().filter(|order| self.takes(order)));
        if !self.fields.is_empty() {
            for row in &mut rows {
                row.as_object_mut().expect("a row").retain(|name, _| self.fields.contains(&name.as_str()));
            }
        }
        rows
    }
}

fn orders(count: u64) -> Vec<Order> {
    let mut chance = Chance::new();
    (0..count).map(|id| Order::random(&mut chance, ["acme", "beta"][id as usize % 2], id)).collect()
}

#[test]
fn r1_a_search_finds_what_a_look_at_every_order_finds() {
    let all = orders(1_600);
    let folders = [(1, Folder::new()), (3, Folder::new())];
    let servers: Vec<Server> = folders
        .iter()
        .map(|(shards, folder)| {
            let cpus = cpus(2);
            let server = folder.serve(&[
                "--shards",
                &shards.to_string(),
                "--cores",
                &cpus,
                "--order-partition-rows-max",
                "120",
            ]);
            for (number, part) in all.chunks(400).enumerate() {
                let summary = ingested(&server, &format!("part-{number}"), &oracle::body(part));
                assert_eq!(counts(&summary)[1], 400, "{summary}");
            }
            server
        })
        .collect();
    let clients: Vec<_> = servers.iter().map(|server| RefCell::new(server.client())).collect();
    let config = Config { cases: 250, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&asked(Known::of(&all)), |asked| {
            let (query, wanted) = (asked.query(), asked.rows(&all));
            let target = search_path(asked.tenant, &format!("{query}limit=100000"));
            let mut bodies = Vec::new();
            for client in &clients {
                let mut client = client.borrow_mut();
                let answer = client.get(&target).expect("the server answers");
                let (rows, cursor) = page_of(&answer);
                prop_assert!(rows == wanted, "{target}: {} rows instead of {}", rows.len(), wanted.len());
                prop_assert_eq!(cursor, None);
                bodies.push(answer.body);
                // The same rows as a JSON object.
                let object = client.get_as(&target, "application/json").expect("the server answers").json();
                prop_assert!(object["orders"].as_array() == Some(&wanted), "{} as an object", &target);
                prop_assert_eq!(&object["rows"], &Value::from(wanted.len()));
            }
            prop_assert!(bodies[0] == bodies[1], "{target}: other bytes from other shards");
            // Page by page; rows of equal time occur on both sides of a page's end.
            for server in &servers {
                let paged = search_all(server, asked.tenant, &format!("{query}limit={}", asked.limit));
                prop_assert!(paged == wanted, "{target} by {}", asked.limit);
            }
            Ok(())
        })
        .unwrap_or_else(|failed| panic!("{failed}"));
    for server in servers {
        server.stop();
    }
}

#[test]
fn one_order_is_what_a_search_finds_of_it() {
    let folder = Folder::new();
    let cpus = cpus(2);
    let serve = || folder.serve(&["--shards", "3", "--cores", &cpus, "--order-partition-rows-max", "120"]);
    let server = serve();
    let mut all = orders(600);
    // The path of this order equals that of the search.
    all[0].id = "search".to_owned();
    all[1].id = "a/b c?".to_owned();
    ingested(&server, "all", &oracle::body(&all));
    let path = |tenant: &str, id: &str| format!("/api/v1/tenants/{tenant}/orders/{}", encoded(id));
    let check = |server: &Server| {
        let mut client = server.client();
        for order in all.iter().skip(1) {
            let answer = client.get(&path(&order.tenant, &order.id)).expect("the server answers");
            let mut told = answer.json();
            let times = told.as_object_mut().expect("an order").remove("received_at");
            assert!(answer.status == 200 && times.is_some_and(|time| time.is_string()), "{answer:?}");
            assert_eq!(answer.header("Content-Type"), Some("application/json"));
            assert_eq!(vec![told], oracle::rows([order]), "{}", order.id);
        }
        let found = search_all(server, &all[0].tenant, "order_id=search&limit=10");
        assert_eq!(found, oracle::rows([&all[0]]));
        for (tenant, id) in
            [("acme", "none"), ("beta", all[2].id.as_str()), ("nobody", "o"), ("acme", "a\u{1}")]
        {
            let answer = client.get(&path(tenant, id)).expect("the server answers");
            assert_eq!(
                (answer.status, &answer.json()["type"]),
                (404, &"/docs/problems/no-such-order".into())
            );
        }
    };
    check(&server);
    // A status is visible as soon as it is acked.
    let body = r#"{"status":"refunded"}"#;
    let mut client = server.client();
    assert_eq!(client.ask("PATCH", &path("acme", "search"), body).expect("an answer").status, 200);
    let found = search_all(&server, "acme", "order_id=search&status=refunded&limit=10");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        client
            .ask("PATCH", &path("acme", "search"), &format!("{{\"status\":\"{}\"}}", all[0].status))
            .expect("an answer")
            .status,
        200
    );
    server.stop();
    let server = serve();
    check(&server);
    server.stop();
}

#[test]
fn rows_that_arrive_between_pages_neither_appear_nor_repeat() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2), "--order-partition-rows-max", "80"]);
    let mut all = orders(500);
    ingested(&server, "first", &oracle::body(&all));
    let mut chance = Chance::new();
    for query in ["", "product_id=p1,p2&", "q=ann*&", "status=paid,shipped&"] {
        let base = |more: &str| search_path("acme", &format!("{query}limit=23{more}"));
        let mut client = server.client();
        let before = search_all(&server, "acme", &format!("{query}limit=100000"));
        let (mut seen, mut more) = (Vec::new(), String::new());
        loop {
            let (rows, cursor) = page_of(&client.get(&base(&more)).expect("the server answers"));
            seen.extend(rows);
            let Some(cursor) = cursor else { break };
            more = format!("&cursor={cursor}");
            let first = all.len() as u64;
            let late: Vec<_> = (first..first + 20).map(|id| Order::random(&mut chance, "acme", id)).collect();
            ingested(&server, &format!("late-{first}"), &oracle::body(&late));
            all.extend(late);
        }
        assert!(seen == before, "{query}: {} rows instead of {}", seen.len(), before.len());
    }
    let mine: Vec<_> = all.iter().filter(|order| order.tenant == "acme").collect();
    assert!(search_all(&server, "acme", "limit=100000") == oracle::rows(mine));
    server.stop();
}

#[test]
fn a_cursor_is_for_its_question_only_and_cannot_be_made() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    ingested(&server, "all", &oracle::body(&orders(200)));
    let mut client = server.client();
    let mut ask = |target: &str| client.get(target).expect("the server answers");
    let (_, cursor) = page_of(&ask(&search_path("acme", "limit=5")));
    let cursor = cursor.expect("there is more");
    let with = |tenant: &str, query: &str, cursor: &str| {
        search_path(tenant, &format!("{query}limit=5&cursor={cursor}"))
    };
    assert_eq!(ask(&with("acme", "", &cursor)).status, 200);
    // Fields and limits may change between pages.
    assert_eq!(ask(&with("acme", "fields=order_id&", &cursor)).status, 200);
    for (tenant, query) in [
        ("beta", ""),
        ("acme", "status=paid&"),
        ("acme", "product_id=p1&"),
        ("acme", "q=ann&"),
        ("acme", "min_total=1&"),
        ("acme", "from=2020-01-01T00:00:00Z&"),
        ("acme", "order_id=1&"),
    ] {
        let answer = ask(&with(tenant, query, &cursor));
        assert_eq!(answer.status, 400, "{tenant} {query}: {answer:?}");
        assert_eq!(answer.json()["errors"][0]["code"], "cursor_mismatch", "{answer:?}");
    }
    // A cursor of another list.
    let events = format!("/events?tenant_id=acme&cursor={cursor}");
    assert_eq!(ask(&events).status, 400);
    let mut chance = Chance::new();
    for _ in 0..100 {
        let mut forged = cursor.clone().into_bytes();
        let at = chance.below(forged.len() as u64) as usize;
        forged[at] = if forged[at] == b'x' { b'y' } else { b'x' };
        let forged = String::from_utf8(forged).expect("ASCII");
        let answer = ask(&with("acme", "", &forged));
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["code"]),
            (400, &"invalid_cursor".into()),
            "{at}"
        );
        assert_eq!(ask(&with("acme", "", &cursor[..at])).status, 400, "{at}");
    }
    for limit in ["0", "100001", "-1", "x", "1e3"] {
        assert_eq!(ask(&search_path("acme", &format!("limit={limit}"))).status, 400, "{limit}");
    }
    server.stop();
}

/// Reads until the connection ends. Returns the bytes, and `true` if the end was clean.
fn read_to_end(address: SocketAddr, version: &str, target: &str, meanwhile: impl FnOnce()) -> (String, bool) {
    // A small receive buffer, so that most of the response is still in the server when it dies.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
    socket.connect(&address.into()).expect("the server takes connections");
    let mut stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(crate::support::PATIENCE)).expect("a time limit");
    let request = format!("GET {target} {version}\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the server takes it");
    let (mut all, mut piece) = (Vec::new(), vec![0; 8 * 1024]);
    let count = stream.read(&mut piece).expect("the answer begins");
    all.extend_from_slice(&piece[..count]);
    meanwhile();
    let is_clean = loop {
        match stream.read(&mut piece) {
            Ok(count @ 1..) => all.extend_from_slice(&piece[..count]),
            outcome => break outcome.is_ok(),
        }
    };
    (String::from_utf8_lossy(&all).into_owned(), is_clean)
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    // Rows larger than the buffers between server and client.
    let mut all = orders(1_200);
    for order in &mut all {
        order.tenant = "acme".to_owned();
        order.items = (0..60)
            .map(|number| oracle::Item {
                product: format!("{}-{}", "x".repeat(150), number % 40),
                category: "Books".to_owned(),
                quantity: 1,
                price: number,
            })
            .collect();
    }
    ingested(&server, "all", &oracle::body(&all));
    for shape in ["", "&fields=order_id,items"] {
        let target = search_path("acme", &format!("limit=100000{shape}"));
        for (version, end) in [(NEW, "\r\n0\r\n\r\n"), (OLD, "}\n")] {
            let (whole, is_clean) = read_to_end(server.address, version, &target, || {});
            assert!(whole.contains("\"_end\":true,\"rows\":1200,") && whole.ends_with(end) && is_clean);
            assert!(whole.len() > 12 << 20, "{} bytes", whole.len());
        }
    }
    let target = search_path("acme", "limit=100000");
    let mut server = Some(server);
    for version in [NEW, OLD] {
        let killed = server.take().expect("a server");
        let broken = read_to_end(killed.address, version, &target, || {
            killed.kill();
        });
        check_broken(version, &broken);

        // A shard becomes unreadable in the middle of a response: the server continues, the response does not.
        let next = folder.serve(&["--cores", &cpus(2)]);
        next.wait_until_stored();
        let (damaged, aside) = (folder.database(1), folder.beside("aside"));
        let broken = read_to_end(next.address, version, &target, || {
            // A reader does not read cached pages again, so the file is replaced instead of its bytes.
            std::fs::rename(&damaged, &aside).expect("it is there");
            std::fs::write(&damaged, vec![7; 1 << 16]).expect("a file in its place");
        });
        check_broken(version, &broken);
        wait_until("health to go on", || next.get("/health").status == 200);
        next.kill();
        std::fs::rename(&aside, &damaged).expect("it is back");
        let again = folder.serve(&["--cores", &cpus(2)]);
        again.wait_until_stored();
        server = Some(again);
    }
}

const NEW: &str = "HTTP/1.1";
const OLD: &str = "HTTP/1.0";

/// Checks that no client takes a broken response for a whole one.
#[track_caller]
fn check_broken(version: &str, (text, is_clean): &(String, bool)) {
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") || text.starts_with("HTTP/1.0 200 OK\r\n"),
        "it had begun"
    );
    let has_end = text.contains("\"_end\"") || text.ends_with("0\r\n\r\n");
    assert!(!has_end, "{version}: a clean end of {} bytes", text.len());
    // Only the connection can show the end of a response of HTTP/1.0.
    assert!(version == NEW || !is_clean, "{version}: a clean end of {} bytes", text.len());
}
