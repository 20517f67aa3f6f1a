//! E1 with sinks: an erasure is done once every sink has it, and answers say which one is pending. Others do not wait.

use std::fs;
use std::path::Path;

use firehose::base::ids::ShardId;
use firehose::shard::{
    Confirmed, SinkEntry, epochs, open_reader, register_sink, remove_sink, write_confirmed,
};
use serde_json::{Value, json};

use crate::people::{
    ID, TENANT, customer, erased, exported, fill, is_theirs, others, post, serve, sum, traces, walk,
};
use crate::support::commerce::{search_all, verify};
use crate::support::oracle;
use crate::support::{Answer, Client, Folder, Server, rows_of, wait_until};

fn register(folder: &Folder, name: &str) {
    let of = |text: &str| text.to_owned();
    let sink = SinkEntry { id: of(name), kind: of("test"), target: of("here"), registered_at: of("now") };
    register_sink(&folder.data(), name, &sink).expect("it is registered");
}

/// Notes that a sink has everything that the feeds of both shards have by now.
fn confirm(folder: &Folder, name: &str) {
    for shard in 0..2 {
        let reader = open_reader(&folder.database(usize::from(shard))).expect("the shard opens");
        let epoch = epochs(&reader).expect("epochs").pop().expect("an epoch").id;
        let last = reader
            .query_row("SELECT coalesce(max(seq), 0) FROM change", [], |row| row.get(0))
            .expect("a number");
        let last = [("change".to_owned(), last)].into_iter().collect();
        let note = Confirmed { sink: name.to_owned(), epoch, last, at_us: 1, rejected: 0 };
        write_confirmed(&folder.data(), name, ShardId(shard), &note).expect("it is noted");
    }
}

fn steps(folder: &Folder) -> Vec<String> {
    rows_of(&folder.data(), "SELECT step FROM erasure ORDER BY number", |row| row.get(0))
}

fn delete(server: &Server, target: &str) -> Answer {
    server.client().ask("DELETE", target, "").expect("the server answers")
}

#[track_caller]
fn pending(server: &Server, url: &str, local: &str, states: &[(&str, &str)]) -> Value {
    let answer = server.get(url);
    let told = answer.json();
    let sinks: Vec<Value> =
        states.iter().map(|(name, state)| json!({"name": name, "state": state})).collect();
    assert_eq!(
        (answer.status, &told["state"], &told["local"]),
        (202, &json!("running"), &json!(local)),
        "{told}"
    );
    assert_eq!(told["sinks"], json!(sinks), "{told}");
    assert!(told.get("certificate").is_none(), "{told}");
    told
}

#[track_caller]
fn finished(server: &Server, url: &str, sinks: &[&str]) -> Value {
    wait_until("it to be finished", || server.get(url).json()["state"] == "finished");
    let answer = server.get(url);
    let certificate = answer.json()["certificate"].clone();
    let sinks: Vec<Value> = sinks.iter().map(|name| json!({"name": name, "state": "done"})).collect();
    assert_eq!(
        (answer.status, &certificate["local"], &certificate["sinks"]),
        (200, &json!("done"), &json!(sinks))
    );
    certificate
}

/// The masked bytes of the people who are still known.
fn masked(folder: &Folder) -> Vec<Vec<u8>> {
    rows_of(&folder.data(), "SELECT substr(subject, 1, 24) FROM erasure WHERE subject IS NOT NULL", |row| {
        row.get(0)
    })
}

fn is_in_a_file(folder: &Path, bytes: &[u8]) -> bool {
    let mut files = Vec::new();
    walk(folder, &mut files);
    let has = |path: &std::path::PathBuf| {
        fs::read(path).is_ok_and(|file| memchr::memmem::find(&file, bytes).is_some())
    };
    files.iter().any(has)
}

fn ends_after_kills(mode: &str) {
    let folder = Folder::new();
    let server = serve(&folder);
    register(&folder, "lake");
    register(&folder, "pg");
    let all = fill(&server);
    let theirs = all.iter().filter(is_theirs).count() as u64;
    let answer = delete(&server, &customer(TENANT, mode));
    assert_eq!((answer.status, answer.header("retry-after")), (202, Some("5")), "{answer:?}");
    let url = answer.header("location").expect("a location").to_owned();
    assert!(answer.json()["sinks"].as_array().is_some_and(|sinks| sinks.len() == 2), "{answer:?}");
    wait_until("it to be done here", || server.get(&url).json()["local"] == "done");
    pending(&server, &url, "done", &[("lake", "pending"), ("pg", "pending")]);
    // Nothing but masked records is left, and these are in the shards alone.
    assert_eq!(traces(&folder), Vec::<String>::new());
    assert_eq!(fs::read_dir(folder.data().join("erasures")).expect("a folder").count(), 0);
    assert!(
        masked(&folder).len() == 2 && masked(&folder).iter().all(|part| is_in_a_file(&folder.data(), part))
    );
    let kept = masked(&folder);
    // The server works as usual.
    let left = others(&all);
    let count = if mode == "erase" { left.len() } else { all.len() };
    assert_eq!(exported(&server, &json!({"format": "ndjson"})).len(), count);
    let held = server.get(&format!("/api/v1/tenants/{TENANT}/customers/{ID}")).json();
    assert!(
        held["suppressed"] == mode && held["names"] == json!([]) && held["emails"] == json!([]),
        "{held}"
    );
    assert!(held["held"].as_array().is_some_and(Vec::is_empty), "{held}");
    // Another erasure is done here, although the first waits.
    let other = format!("/api/v1/tenants/{TENANT}/customers/c-4?mode={mode}");
    let answer = delete(&server, &other);
    let other = answer.header("location").expect("a location").to_owned();
    wait_until("the other to be done here", || server.get(&other).json()["local"] == "done");
    confirm(&folder, "pg");
    server.kill();
    let server = serve(&folder);
    pending(&server, &url, "done", &[("lake", "pending"), ("pg", "done")]);
    server.stop();
    let server = serve(&folder);
    assert!(steps(&folder).iter().all(|step| step == "ships"), "{:?}", steps(&folder));
    confirm(&folder, "lake");
    let certificate = finished(&server, &url, &["lake", "pg"]);
    finished(&server, &other, &["lake", "pg"]);
    assert_eq!(sum(&certificate, "orders"), theirs);
    assert!(masked(&folder).is_empty());
    for part in kept {
        assert!(!is_in_a_file(&folder.data(), &part));
    }
    // A sink that is removed later is still in the certificate.
    assert!(remove_sink(&folder.data(), "pg").expect("it is removed"));
    assert_eq!(server.get(&url).json()["certificate"], certificate);
    if mode == "erase" {
        let left: Vec<_> = left.into_iter().filter(|order| order.customer != "c-4").collect();
        assert_eq!(search_all(&server, TENANT, "limit=100"), oracle::rows(&left));
    }
    server.stop();
    verify(&folder);
}

#[test]
fn e1_an_erasure_is_pending_until_every_sink_has_it_also_after_kills() {
    ends_after_kills("erase");
}

#[test]
fn e1_a_pseudonym_is_pending_until_every_sink_has_it_also_after_kills() {
    ends_after_kills("pseudonymise");
}

#[test]
fn e1_a_removed_sink_ends_the_wait() {
    let folder = Folder::new();
    let server = serve(&folder);
    register(&folder, "pg");
    fill(&server);
    let answer = delete(&server, &customer(TENANT, "erase"));
    assert_eq!(answer.status, 202);
    let url = answer.header("location").expect("a location").to_owned();
    let several = json!({"customers": ["c-4", "c-5"]}).to_string();
    let mut client = server.client();
    let erase = format!("/api/v1/tenants/{TENANT}/customers/erase");
    client.write(Client::request("POST", &erase, &several).as_bytes()).expect("it is sent");
    wait_until("all to wait", || steps(&folder).iter().filter(|step| *step == "ships").count() == 6);
    assert!(remove_sink(&folder.data(), "pg").expect("it is removed"));
    finished(&server, &url, &[]);
    wait_until("all to be finished", || steps(&folder).iter().all(|step| step == "finished"));
    server.stop();
    verify(&folder);
}

/// A sink that keeps up is waited for in the request itself.
#[test]
fn e1_a_sink_that_keeps_up_is_in_the_certificate_of_the_response() {
    let folder = Folder::new();
    let server = serve(&folder);
    register(&folder, "pg");
    fill(&server);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("both shards to wait", || {
                let steps = steps(&folder);
                steps.len() == 2 && steps.iter().all(|step| step == "ships")
            });
            confirm(&folder, "pg");
        });
        let certificate = erased(&server, &customer(TENANT, "erase"));
        assert_eq!(certificate["sinks"], json!([{"name": "pg", "state": "done"}]), "{certificate}");
    });
    assert_eq!(traces(&folder), Vec::<String>::new());
    server.stop();
}

#[test]
fn e1_the_clicks_of_a_user_are_pending_until_every_sink_has_the_erasure() {
    let folder = Folder::new();
    let server = serve(&folder);
    register(&folder, "pg");
    let mut client = server.client();
    for number in 0..60 {
        let user = if number % 3 == 0 { 77 } else { number };
        let click = json!({"user_id": user, "timestamp": "2026-03-01T10:00:00Z", "metadata": {"n": number}});
        post(&mut client, "/event", &click.to_string());
    }
    server.wait_until_stored();
    let answer = delete(&server, "/clicks/users/77");
    assert_eq!(answer.status, 202);
    let url = answer.header("location").expect("a location").to_owned();
    wait_until("it to be done here", || server.get(&url).json()["local"] == "done");
    pending(&server, &url, "done", &[("pg", "pending")]);
    assert_eq!(server.get("/clicks?user_id=77").json()["total"], 0);
    confirm(&folder, "pg");
    assert_eq!(sum(&finished(&server, &url, &["pg"]), "clicks"), 20);
    server.stop();
}

/// Each of many requests would wait for the sink by itself.
#[test]
fn e1_many_requests_wait_together_for_a_sink_that_is_away() {
    let folder = Folder::new();
    let server = serve(&folder);
    register(&folder, "pg");
    fill(&server);
    let clients: Vec<Client> = (0..40)
        .map(|number| {
            let mut client = server.client();
            let target = format!("/api/v1/tenants/{TENANT}/customers/nobody-{number}");
            client.write(Client::request("DELETE", &target, "").as_bytes()).expect("it is sent");
            client
        })
        .collect();
    wait_until("all to wait", || steps(&folder).iter().filter(|step| *step == "ships").count() == 80);
    confirm(&folder, "pg");
    wait_until("all to be finished", || steps(&folder).iter().all(|step| step == "finished"));
    drop(clients);
    let ends = "SELECT count(DISTINCT finished_us) FROM erasure";
    let ends: Vec<i64> = rows_of(&folder.data(), ends, |row| row.get(0));
    assert!(ends.iter().all(|passes| *passes <= 3), "{ends:?} passes over the files");
    server.stop();
}
