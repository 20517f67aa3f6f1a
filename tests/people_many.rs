//! E1: several customers are erased in one pass, each with a certificate, also across kills.

use std::fs;

use firehose::people::{ErasureRecord, ErasureReport, RemovedOutside, Subject};
use firehose::shard::ErasureMode;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::people::{
    EMAIL, ID, ORDERS, TENANT, customer, erased, exported, fill, is_theirs, post, readers, serve, sum, traces,
};
use crate::support::commerce::{problem, sales, search_all, verify};
use crate::support::oracle::{self, Order};
use crate::support::{Client, Folder, Server, rows_of, wait_until};

const ERASE: &str = "/api/v1/tenants/acme/customers/erase";

#[track_caller]
fn erased_together(server: &Server, mode: &str, customers: &[&str]) -> Vec<Value> {
    let body = json!({"mode": mode, "customers": customers}).to_string();
    let answer = server.client().ask("POST", ERASE, &body).expect("an answer");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["erasures"].as_array().expect("erasures").clone()
}

fn of<'o>(all: &'o [Order], customers: &'o [&str]) -> impl Iterator<Item = &'o Order> {
    all.iter().filter(|order| customers.contains(&order.customer.as_str()))
}

fn without(all: &[Order], customers: &[&str]) -> Vec<Order> {
    all.iter().filter(|order| !customers.contains(&order.customer.as_str())).cloned().collect()
}

#[track_caller]
fn check_left(server: &Server, left: &[Order]) {
    assert_eq!(search_all(server, TENANT, "limit=100"), oracle::rows(left));
    let zone = jiff::tz::TimeZone::UTC;
    for by in ["day", "hour", "product", "category"] {
        let groups = sales(server, TENANT, &format!("group_by={by}"))["groups"].clone();
        assert_eq!(groups, json!(oracle::sales(left, by, &zone, (None, None))), "{by}");
    }
}

#[test]
fn e1_many_are_erased_in_one_pass_and_each_has_a_certificate() {
    let folder = Folder::new();
    let server = serve(&folder);
    let all = fill(&server);
    // An export with orders of only one of them.
    let exports = format!("/api/v1/tenants/{TENANT}/reports/export");
    let wish = json!({"format": "ndjson", "filters": {"q": "Number4"}});
    let export = post(&mut server.client(), &exports, &wish.to_string())["url"].clone();
    let export = export.as_str().expect("a path");
    wait_until("the export to be done", || server.get(export).json()["state"] == "done");
    let listed = [ID, "nobody", "c-4", ID, "c-5"];
    let erasures = erased_together(&server, "erase", &listed);
    let names: Vec<&Value> = erasures.iter().map(|erasure| &erasure["customer"]).collect();
    assert_eq!(names, ["c-4", "c-5", ID, "nobody"]);
    for erasure in &erasures {
        let certificate = &erasure["certificate"];
        let name = erasure["customer"].as_str().expect("a name");
        assert_eq!(sum(certificate, "orders"), of(&all, &[name]).count() as u64, "{erasure}");
        assert_eq!((&erasure["state"], &erasure["id"]), (&json!("finished"), &certificate["id"]));
        assert_eq!(certificate["exports_removed"], u64::from(name == "c-4"), "{erasure}");
        let told = server.get(erasure["url"].as_str().expect("a path")).json();
        assert_eq!((&told["state"], &told["certificate"]), (&json!("finished"), certificate));
    }
    let events = |at: usize| sum(&erasures[at]["certificate"], "events");
    // 34 events mention the person, and c-4 and c-5 are in 7 and in none.
    assert_eq!([events(0), events(1), events(2), events(3)], [7, 0, 34, 0]);
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert_eq!(server.get(export).json()["state"], "erased");
    let left = without(&all, &listed);
    check_left(&server, &left);
    assert_eq!(exported(&server, &json!({"format": "ndjson"})).len(), left.len());
    assert_eq!(fs::read_dir(folder.data().join("erasures")).expect("a folder").count(), 0);
    // Each is suppressed.
    let again = server.get(&format!("/api/v1/tenants/{TENANT}/customers/c-5")).json();
    assert_eq!(again["suppressed"], "erase");
    server.stop();
    verify(&folder);
}

#[test]
fn e1_many_pseudonyms_keep_every_figure() {
    let folder = Folder::new();
    let server = serve(&folder);
    let all = fill(&server);
    let before = sales(&server, TENANT, "group_by=day&precision=exact")["groups"].clone();
    let erasures = erased_together(&server, "pseudonymise", &[ID, "c-4"]);
    assert_eq!(sum(&erasures[1]["certificate"], "orders"), all.iter().filter(is_theirs).count() as u64);
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert_eq!(sales(&server, TENANT, "group_by=day&precision=exact")["groups"], before);
    let rows = search_all(&server, TENANT, "limit=100");
    let token = |order: &str| {
        let row = rows.iter().find(|row| row["order_id"] == order).expect("the order");
        row["customer_id"].as_str().expect("an id").to_owned()
    };
    let first = |customer: &str| token(&of(&all, &[customer]).next().expect("an order").id);
    let (one, other) = (first(ID), first("c-4"));
    assert!(one.starts_with("anon-") && other.starts_with("anon-") && one != other, "{one} {other}");
    assert_eq!(rows.len(), ORDERS);
    // A later erasure of one removes the orders of that token alone.
    let certificate = erased(&server, &customer(TENANT, "erase"));
    assert_eq!(sum(&certificate, "orders"), all.iter().filter(is_theirs).count() as u64);
    server.stop();
    verify(&folder);
}

/// The server is killed while two people are erased and exports that filter by one of them were created in between.
#[test]
fn e1_many_and_their_exports_are_erased_after_kills() {
    let folder = Folder::new();
    let server = serve(&folder);
    let all = fill(&server);
    // An open reader prevents the truncation of the WAL, so the erasures cannot finish.
    let readers = readers(&folder);
    let listed = [ID, "c-4", "c-5"];
    let body = json!({"mode": "erase", "customers": listed}).to_string();
    let mut client = server.client();
    client.write(Client::request("POST", ERASE, &body).as_bytes()).expect("it is sent");
    let ids = || rows_of(&folder.data(), "SELECT id FROM erasure", |row| row.get::<_, String>(0));
    wait_until("both shards to know of all", || ids().len() == 6);
    let export = |server: &Server, filters: Value| {
        let exports = format!("/api/v1/tenants/{TENANT}/reports/export");
        let wish = json!({"format": "csv", "filters": filters});
        post(&mut server.client(), &exports, &wish.to_string())["url"].as_str().expect("a path").to_owned()
    };
    let named = [
        export(&server, json!({"customer_id": ID})),
        export(&server, json!({"q": EMAIL})),
        export(&server, json!({"customer_id": "c-5"})),
    ];
    let other = export(&server, json!({"customer_id": "c-6"}));
    server.kill();
    for _ in 0..2 {
        let server = serve(&folder);
        let steps = || rows_of(&folder.data(), "SELECT step FROM erasure", |row| row.get::<_, String>(0));
        wait_until("it to go on", || steps().iter().any(|step| step != "waiting"));
        server.kill();
    }
    let server = serve(&folder);
    let urls =
        ids().iter().take(3).map(|id| format!("/api/v1/tenants/{TENANT}/erasures/{id}")).collect::<Vec<_>>();
    assert!(urls.iter().all(|url| server.get(url).json()["state"] == "running"));
    drop(readers);
    for url in &urls {
        wait_until("it to be finished", || server.get(url).json()["state"] == "finished");
    }
    for url in &named {
        problem(&server.get(url), 404, "no-such-export");
    }
    wait_until("the other's export to be done", || server.get(&other).json()["state"] == "done");
    assert_eq!(fs::read_dir(folder.data().join("erasures")).expect("a folder").count(), 0);
    assert_eq!(traces(&folder), Vec::<String>::new());
    check_left(&server, &without(&all, &listed));
    server.stop();
    verify(&folder);
}

/// A file of an earlier schema in which an erasure had begun.
#[test]
fn e1_an_erasure_that_an_earlier_version_started_is_finished() {
    let folder = Folder::of_fixture("folder-v5");
    let id = "0".repeat(32);
    let record = ErasureRecord::Erase {
        id: id.clone(),
        began_us: 1,
        mode: ErasureMode::Erase,
        subject: Subject::Customer {
            tenant_id: "acme".to_owned(),
            customer_id: "c-2".to_owned(),
            token: "anon-1".to_owned(),
            names: vec!["Bob O'Brien".to_owned()],
            emails: vec!["bob@example.org".to_owned()],
        },
        names_truncated: false,
        removed: RemovedOutside { uploads: 0, exports: 2 },
        batch: None,
    };
    let mut subject = Vec::new();
    record.encode(&mut subject).expect("a record");
    let report =
        serde_json::to_string(&ErasureReport { orders: 5, ..ErasureReport::default() }).expect("JSON");
    let connection = Connection::open(folder.database(0)).expect("the shard opens");
    let sql = "INSERT INTO erasure (id, tenant_id, mode, began_us, step, place, at, uploads, exports, names_truncated, \
               subject, report) VALUES (?1, 'acme', 'erase', 1, 'orders', '', 0, 0, 2, 0, ?2, ?3)";
    connection.execute(sql, (&id, &subject, &report)).expect("a row");
    drop(connection);
    let server = folder.serve(&[]);
    let url = format!("/api/v1/tenants/acme/erasures/{id}");
    wait_until("it to be finished", || server.get(&url).json()["state"] == "finished");
    let certificate = server.get(&url).json()["certificate"].clone();
    assert_eq!((sum(&certificate, "orders"), sum(&certificate, "customers")), (6, 1), "{certificate}");
    assert_eq!(certificate["exports_removed"], 2);
    server.stop();
    let names = rows_of(&folder.data(), "SELECT name FROM customers", |row| row.get::<_, String>(0));
    assert!(names.iter().any(|name| name == "Ann Smith") && !names.iter().any(|name| name.contains("Brien")));
}

#[test]
fn an_invalid_request_erases_nobody() {
    let folder = Folder::new();
    let server = serve(&folder);
    let all = fill(&server);
    let ask = |body: &Value| server.client().ask("POST", ERASE, &body.to_string()).expect("an answer");
    let refused = problem(&ask(&json!({"mode": "erase", "customers": [ID, ""]})), 422, "invalid-erasure");
    assert_eq!(refused["errors"][0]["pointer"], "/customers/1", "{refused}");
    problem(&ask(&json!({"mode": "erase", "customers": vec!["c"; 1_001]})), 413, "payload-too-large");
    for mode in [json!({"mode": ""}), json!({"mode": null}), json!({"mod": "pseudonymise"})] {
        let mut body = json!({"customers": [ID]});
        body.as_object_mut().expect("an object").extend(mode.as_object().expect("an object").clone());
        problem(&ask(&body), 422, "invalid-erasure");
    }
    assert_eq!(search_all(&server, TENANT, "limit=100"), oracle::rows(&all));
    server.stop();
}

#[test]
fn only_an_admin_of_the_tenant_reads_and_erases_customers() {
    let folder = Folder::new();
    for tenant in [TENANT, "beta"] {
        assert!(folder.run(&["tenant", "add", tenant]).status.success());
    }
    let key = |words: &[&str]| {
        let (code, made) = folder.run_json(&[&["key", "create"], words].concat());
        assert_eq!(code, 0, "{made}");
        format!("Authorization: Bearer {}\r\n", made["key"].as_str().expect("a key"))
    };
    let keys = [
        String::new(),
        key(&["--tenant", TENANT, "--scope", "write,read"]),
        key(&["--tenant", "beta", "--scope", "admin"]),
        key(&["--tenant", TENANT, "--scope", "admin"]),
    ];
    let server = serve(&folder);
    let body = json!({"mode": "erase", "customers": ["c-1"]}).to_string();
    let one = format!("/api/v1/tenants/{TENANT}/customers/c-1");
    for (method, target, body, expected) in [
        ("GET", one.clone(), "", 404),
        ("GET", format!("{one}/export"), "", 200),
        ("POST", ERASE.to_owned(), body.as_str(), 200),
    ] {
        let statuses = keys.each_ref().map(|key| {
            let mut client = server.client();
            let length = body.len();
            let head =
                format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{key}Content-Length: {length}\r\n\r\n");
            client.write(format!("{head}{body}").as_bytes()).expect("it is sent");
            client.answer().expect("an answer").status
        });
        assert_eq!(statuses, [401, 403, 403, expected], "{method} {target}");
    }
    server.stop();
}
