//! Makes a folder that contains some of everything, with a fixed list of requests.

use std::fs;

use serde_json::{Value, json};

use super::{fixture, pack, program, serve};
use crate::support::commerce::ingest;
use crate::support::oracle::{self, Item, Order};
use crate::support::{Answer, Client, Folder, Server, hold_lock, wait_for};

pub(super) const TENANT: &str = "acme";
const UPLOADS: &str = "/api/v1/ingest/orders/uploads";

#[track_caller]
pub(super) fn ask(client: &mut Client, method: &str, target: &str, lines: &[String], body: &[u8]) -> Answer {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{lines}Content-Length: {length}\r\n\r\n");
    client.write(&[head.as_bytes(), body].concat()).expect("the server takes it");
    let answer = if method == "HEAD" { client.answer_head() } else { client.answer() };
    answer.expect("the server answers")
}

fn orders(tenant: &str, name: &str, count: usize) -> Vec<Order> {
    let order = |number: usize| Order {
        tenant: tenant.to_owned(),
        id: format!("{name}-o-{number}"),
        customer: format!("c-{}", number % 11),
        name: format!("Ann Number{}", number % 11),
        email: format!("ann{}@example.org", number % 11),
        status: oracle::STATUSES[number % 6].to_owned(),
        currency: if number.is_multiple_of(5) { "JPY" } else { "USD" }.to_owned(),
        at_us: 1_772_366_400_000_000 + number as i64 * 9_000_000_000,
        items: (0..1 + number % 3)
            .map(|line| Item {
                product: format!("p-{}", (number + line) % 9),
                category: format!("g-{}", (number + line) % 3),
                quantity: 1 + (number % 4) as i64,
                price: 1_999 + number as i64,
            })
            .collect(),
    };
    (0..count).map(order).collect()
}

fn lines(orders: &[Order]) -> String {
    orders.iter().map(Order::line).collect()
}

pub(super) fn body(tenant: &str, count: usize) -> String {
    lines(&orders(tenant, tenant, count))
}

/// Returns known orders with other prices.
pub(super) fn conflicts() -> String {
    let mut orders = orders(TENANT, TENANT, 4);
    orders.iter_mut().for_each(|order| order.items[0].price += 1);
    lines(&orders)
}

/// Returns the orders of the unfinished upload, and how many bytes of them were sent.
pub(super) fn upload_begun() -> (String, usize) {
    let all = lines(&orders(TENANT, "late", 30));
    let half = lines(&orders(TENANT, "late", 12)).len() + 40;
    (all, half)
}

pub(super) fn event(number: u64) -> Value {
    let source = ["web", "app"][number as usize % 2];
    let event_type = ["view", "buy", "click"][number as usize % 3];
    json!({
        "event_id": format!("e-{number}"), "tenant_id": TENANT, "source": source, "event_type": event_type,
        "timestamp": format!("2026-03-01T10:{:02}:{:02}.5+00:00", number % 60, number % 7),
        "payload": {"n": number, "customer": {"id": format!("c-{}", number % 11)}, "big": 9_007_199_254_740_993_i64, "text": "ä \u{1f600} \"q\""},
    })
}

pub(super) fn bulk() -> Value {
    let mut events: Vec<_> = (100..220).map(event).collect();
    events.push(event(100));
    events.push(json!({"event_id": "bad"}));
    json!({"events": events})
}

fn click(number: u64) -> String {
    format!(
        r#"{{"user_id":{},"timestamp":"2026-03-01T00:{:02}:{:02}Z","metadata":{{"n":{number},"page":"/p/{number}"}}}}"#,
        number % 13,
        number / 60,
        number % 60
    )
}

/// Returns one price of a series. The prices are regular, except for numbers 6, 7 and 8.
pub(super) fn price(number: u64) -> Value {
    let price = match number {
        6 => "30.00",
        7 => "2.50",
        8 => "29.00",
        _ => "10.00",
    };
    json!({"event_id": format!("price-{number}"), "price": price, "currency": "USD",
           "observed_at": format!("2026-01-{:02}T00:00:00Z", number + 1)})
}

fn stock(mode: &str, updates: &Value) -> Value {
    json!({"mode": mode, "updates": updates})
}

pub(super) fn stock_set() -> Value {
    let set = |product: u64, quantity: i64| {
        json!({"event_id": format!("set-{product}"), "product_id": format!("p-{product}"), "quantity": quantity,
               "occurred_at": "2026-03-01T12:00:00Z"})
    };
    stock("last_write_wins", &json!([set(0, 40), set(1, 7), set(2, 0), set(3, 12)]))
}

pub(super) fn stock_add() -> Value {
    let add = |number: u64, product: u64, delta: i64| {
        json!({"event_id": format!("add-{number}"), "product_id": format!("p-{product}"), "delta": delta,
               "occurred_at": "2026-03-01T13:00:00+01:00"})
    };
    stock("merge", &json!([add(0, 0, -3), add(1, 0, 5), add(2, 1, 2), add(3, 4, 9)]))
}

pub(super) fn stock_reject() -> Value {
    let expecting = |number: u64, product: u64, version: i64| {
        json!({"event_id": format!("exp-{number}"), "product_id": format!("p-{product}"), "quantity": 99,
               "expected_version": version, "occurred_at": "2026-03-02T12:00:00Z"})
    };
    stock("reject", &json!([expecting(0, 2, 1), expecting(1, 3, 17)]))
}

pub(super) fn status() -> Value {
    json!({"status": "refunded"})
}

/// Sends requests with the key of an administrator.
struct Sender<'s> {
    server: &'s Server,
    key: String,
}

impl Sender<'_> {
    #[track_caller]
    fn send(&self, method: &str, target: &str, lines: &[&str], body: &str) -> Answer {
        let key = format!("Authorization: Bearer {}", self.key);
        let lines: Vec<_> = [&[key.as_str()], lines].concat().into_iter().map(str::to_owned).collect();
        let answer = ask(&mut self.server.client(), method, target, &lines, body.as_bytes());
        let said = String::from_utf8_lossy(&answer.body);
        assert!(answer.status < 300, "{method} {target}: {} {said}", answer.status);
        answer
    }

    #[track_caller]
    fn post(&self, target: &str, body: &Value) -> Value {
        self.send("POST", target, &[], &body.to_string()).json()
    }

    #[track_caller]
    fn ingest(&self, key: &str, body: &str) {
        let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/x-ndjson\r\n", self.key);
        let answer = ingest(self.server.address, key, &headers, body.as_bytes()).expect("the server answers");
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Creates an upload and sends its first bytes.
    #[track_caller]
    fn upload(&self, body: &str, sent: usize) -> String {
        let (tus, length) = ("Tus-Resumable: 1.0.0", format!("Upload-Length: {}", body.len()));
        let name = "Upload-Metadata: filename b3JkZXJzLm5kanNvbg==";
        let answer = self.send("POST", UPLOADS, &[tus, &length, name], "");
        let path = answer.header("location").expect("a location").to_owned();
        let piece = [tus, "Content-Type: application/offset+octet-stream", "Upload-Offset: 0"];
        self.send("PATCH", &path, &piece, &body[..sent]);
        path
    }

    #[track_caller]
    fn export(&self, wish: &Value) -> String {
        let begun = self.post(&format!("/api/v1/tenants/{TENANT}/reports/export"), wish);
        let url = begun["url"].as_str().expect("a path").to_owned();
        wait_for("the export to be done", || {
            (self.send("GET", &url, &[], "").json()["state"] == "done").then_some(())
        });
        url
    }
}

/// Creates a key and returns its text.
#[track_caller]
fn key(folder: &Folder, words: &[&str]) -> String {
    let made = run(folder, &[&["key", "create", "--json"], words].concat());
    let made: Value = serde_json::from_slice(&made).expect("JSON");
    made["key"].as_str().expect("a key").to_owned()
}

#[track_caller]
fn run(folder: &Folder, words: &[&str]) -> Vec<u8> {
    let output = program().args(words).arg("--data").arg(folder.data()).output().expect("it runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
    output.stdout
}

/// Stores everything except what is only in the journals. Returns what later requests must know of it.
fn fill(sender: &Sender<'_>) -> Value {
    let root = format!("/api/v1/tenants/{TENANT}");
    let clicks: Vec<_> = (0..100).map(|number| sender.send("POST", "/event", &[], &click(number))).collect();
    let receipt = clicks[70].header("firehose-receipt").expect("a receipt").to_owned();
    for number in 0..60 {
        sender.post("/events", &event(number));
    }
    sender.post("/events/bulk", &bulk());
    sender.ingest("first", &body(TENANT, 150));
    sender.ingest("conflicts", &conflicts());
    sender.ingest("gamma", &body("gamma", 130));
    let packed = lines(&orders(TENANT, "up", 40));
    let upload = sender.upload(&packed, packed.len());
    for (order, body) in [("acme-o-5", status()), ("acme-o-6", json!({"status": "shipped"}))] {
        sender.send("PATCH", &format!("{root}/orders/{order}"), &[], &body.to_string());
    }
    for update in [stock_set(), stock_add(), stock_reject()] {
        sender.send("PUT", &format!("{root}/stock/bulk_update"), &[], &update.to_string());
    }
    let anomalies: Vec<_> = (0..10)
        .map(|number| {
            sender.post(&format!("{root}/products/p-1/price-event"), &price(number))["anomaly"]["id"].clone()
        })
        .filter(|id| !id.is_null())
        .collect();
    assert!(anomalies.len() > 2, "{anomalies:?}");
    for (id, decision) in [(&anomalies[0], "approve"), (&anomalies[1], "reject")] {
        let id = id.as_str().expect("an id");
        sender.post(&format!("{root}/price-anomalies/{id}/review"), &json!({"decision": decision}));
    }
    let erased = |target: &str| sender.send("DELETE", target, &[], "").json();
    let erasures = json!({
        "erased": erased(&format!("{root}/customers/c-9?mode=erase"))["id"],
        "pseudonymised": erased(&format!("{root}/customers/c-10?mode=pseudonymise"))["id"],
    });
    let click_erasure = erased("/clicks/users/7")["id"].clone();
    let exports = json!({
        "csv": sender.export(&json!({"format": "csv"})),
        "parquet": sender.export(&json!({"format": "parquet", "filters": {"status": ["paid", "shipped"]}})),
        "ndjson": sender.export(&json!({"format": "ndjson", "compression": "zstd"})),
    });
    json!({
        "receipt": receipt, "upload": upload, "approved": anomalies[0], "erasures": erasures, "exports": exports,
        "click_erasure": format!("/clicks/erasures/{}", click_erasure.as_str().expect("an id")),
    })
}

/// Makes the fixture with this name.
pub(super) fn make(name: &str) {
    let folder = Folder::new();
    run(&folder, &["tenant", "add", TENANT]);
    let admin = key(&folder, &["--scope", "admin"]);
    let reader = key(&folder, &["--scope", "read", "--tenant", TENANT]);
    let server = serve(&folder);
    let mut made = fill(&Sender { server: &server, key: admin.clone() });
    server.wait_until_stored();
    server.stop();

    // This server is killed while its journals contain clicks and events that cannot be stored.
    let server = serve(&folder);
    let sender = Sender { server: &server, key: admin.clone() };
    let (begun, half) = upload_begun();
    made["upload_begun"] = sender.upload(&begun, half).into();
    server.wait_until_stored();
    let locks = [0, 1].map(|shard| hold_lock(&folder.database(shard)));
    for number in 200..230 {
        sender.send("POST", "/event", &[], &click(number));
    }
    for number in 900..903 {
        assert_eq!(sender.send("POST", "/events", &[], &event(number).to_string()).status, 202);
    }
    server.kill();
    (made["admin"], made["reader"]) = (admin.into(), reader.into());
    let fixture = fixture(name);
    fs::create_dir_all(&fixture).expect("the folder is made");
    pack(&folder.data(), &fixture.join("data.zip")).expect("it is packed");
    drop(locks);
    let made = serde_json::to_string_pretty(&made).expect("JSON");
    fs::write(fixture.join("made.json"), made + "\n").expect("it is written");
}
