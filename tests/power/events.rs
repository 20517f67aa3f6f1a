//! W1: clicks and service events that were acked at `disk`.

use serde_json::json;

use super::Rig;
use super::quiet::quiet;
use crate::support::{Client, Server, cpus, event, stored, wait_for};

pub(super) fn service_event(id: &str) -> String {
    json!({
        "event_id": id, "tenant_id": "acme", "source": "web", "event_type": "view",
        "timestamp": "2026-03-01T10:00:00Z", "payload": {"n": id},
    })
    .to_string()
}

/// Returns the time that is `second` seconds after the start of 2024.
pub(super) fn time(second: u64) -> String {
    firehose::base::clock::rfc3339((1_704_067_200 + second as i64) * 1_000_000)
}

/// Returns the ids of all service events, sorted.
#[track_caller]
pub(super) fn service_events(server: &Server) -> Vec<String> {
    let answer = server.get("/events?tenant_id=acme&page_size=1000");
    assert_eq!(answer.status, 200, "{answer:?}");
    let listed = answer.json();
    let events = listed["events"].as_array().expect("a list").iter();
    let mut ids: Vec<_> = events.map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

#[track_caller]
pub(super) fn post(server: &Server, target: &str, body: &str) {
    let answer = server.client().ask("POST", target, body).expect("the server answers");
    assert!([200, 201, 202].contains(&answer.status), "{answer:?}");
}

#[test]
fn w1_a_click() {
    quiet(
        |_| {},
        |server, way, ()| post(server, &format!("/event{}", way.query), &event(1)),
        |after, ()| {
            after.server.wait_until_stored();
            assert_eq!(stored(&after.data), [1]);
        },
    );
}

/// The second click is appended to an existing file.
#[test]
fn w1_a_second_click() {
    quiet(
        |server| post(server, "/event", &event(1)),
        |server, way, ()| post(server, &format!("/event{}", way.query), &event(2)),
        |after, ()| {
            after.server.wait_until_stored();
            assert_eq!(stored(&after.data), [1, 2]);
        },
    );
}

#[test]
fn w1_an_event() {
    quiet(
        |server| post(server, "/events", &service_event("e-0")),
        |server, way, ()| post(server, &format!("/events{}", way.query), &service_event("e-1")),
        |after, ()| {
            after.server.wait_until_stored();
            assert_eq!(service_events(&after.server), ["e-0", "e-1"]);
        },
    );
}

#[test]
fn w1_events_in_bulk() {
    let events = (0..20).map(|number| service_event(&format!("e-{number:02}"))).collect::<Vec<_>>();
    let body = format!("{{\"events\":[{}]}}", events.join(","));
    quiet(
        |_| {},
        |server, way, ()| post(server, &format!("/events/bulk{}", way.query), &body),
        |after, ()| {
            after.server.wait_until_stored();
            assert_eq!(service_events(&after.server).len(), 20);
        },
    );
}

/// Starts a server with one shard that two cores feed, and connects a client to each core. The journal of the first
/// client's core is replayed first.
fn two_feeders(rig: &Rig) -> (Server, Client, Client) {
    let server = rig.folder.serve_on(&rig.data(), &["--shards", "1", "--cores", &cpus(2)]);
    let mut number = 0;
    let mut at_lane = || {
        number += 1;
        let mut client = server.client();
        let answer =
            client.ask("POST", "/events", &service_event(&format!("first-{number}"))).expect("an answer");
        assert_eq!(answer.status, 201, "{answer:?}");
        let receipt = answer.header("firehose-receipt").expect("a receipt").to_owned();
        let place: u64 = receipt.split('-').nth(1).and_then(|place| place.parse().ok()).expect("a number");
        (client, place % 64)
    };
    let (one, lane) = at_lane();
    let other = wait_for("a connection to the other core", || {
        let (client, other) = at_lane();
        (other != lane).then_some((client, other))
    });
    let (other, other_lane) = other;
    let (one, other) = if lane < other_lane { (one, other) } else { (other, one) };
    server.wait_until_stored();
    rig.settle();
    (server, one, other)
}

/// Cuts the power and checks every state with a server that has as many shards as the folder.
#[track_caller]
fn cut(rig: &Rig, server: Server, check: impl Fn(&Server)) {
    rig.disk.cut();
    server.kill();
    let images = rig.after_cut(|image| {
        let server = rig.folder.serve_on(&image.join("data"), &[]);
        server.wait_until_stored();
        check(&server);
        server.kill();
    });
    images.assert_sound();
}

/// A response at `disk` depends on a row that another core has journaled and no one has synced.
#[test]
fn w1_an_answer_that_rests_on_the_row_of_another_core() {
    let Some(rig) = Rig::new() else { return };
    let (server, mut one, mut other) = two_feeders(&rig);
    let first = service_event("e-1");
    assert_eq!(one.ask("POST", "/events", &first).expect("an answer").status, 201);
    let later = first.replace("\"n\":\"e-1\"", "\"n\":\"another\"");
    let answer = other.ask("POST", "/events?ack=disk", &later).expect("an answer");
    assert_eq!((answer.status, &answer.json()["conflict"]), (200, &json!(true)), "{answer:?}");
    cut(&rig, server, |after| {
        let found = after.get("/events?tenant_id=acme&page_size=1000").json();
        let events = found["events"].as_array().expect("a list");
        let found = events.iter().find(|event| event["event_id"] == "e-1");
        assert_eq!(found.map(|event| &event["payload"]["n"]), Some(&json!("e-1")), "the first one stays");
    });
}

#[test]
fn w1_stock_that_rests_on_an_update_of_another_core() {
    let Some(rig) = Rig::new() else { return };
    let (server, mut one, mut other) = two_feeders(&rig);
    let update = |client: &mut Client, event: &str, query: &str| {
        let body = json!({"mode": "merge", "updates": [
            {"event_id": event, "product_id": "p", "delta": 5, "occurred_at": "2026-03-01T12:00:00Z"}]});
        let target = format!("/api/v1/tenants/acme/stock/bulk_update{query}");
        let answer = client.ask("PUT", &target, &body.to_string()).expect("an answer");
        assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(1)), "{answer:?}");
    };
    update(&mut one, "a", "");
    update(&mut other, "b", "?ack=disk");
    cut(&rig, server, |after| {
        let level = after.get("/api/v1/tenants/acme/stock/p");
        assert_eq!((level.status, &level.json()["quantity"]), (200, &json!(10)), "{level:?}");
    });
}

/// The control: on a disk that reports success for a sync and does nothing, the same rows are lost.
#[test]
fn a_disk_that_forgets_syncs_is_noticed() {
    let Some(rig) = Rig::new() else { return };
    let server = rig.serve(&["--ack", "disk"]);
    post(&server, "/event", &event(1));
    server.wait_until_stored();
    rig.settle();
    rig.disk.forget_syncs();
    post(&server, "/event", &event(2));
    let images = rig.cut(server, |after| {
        after.server.wait_until_stored();
        assert_eq!(stored(&after.data), [1, 2]);
    });
    // The other images are identical to this one, because there is nothing else to lose.
    assert!(images.failed.contains(&"Strict Synced 0".to_owned()), "nothing was lost: {images}");
}
