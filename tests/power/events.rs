//! W1: clicks and service events that were acked as on disk.

use serde_json::json;

use super::quiet::quiet;
use crate::support::{Server, event, stored};

pub(super) fn service_event(id: &str) -> String {
    json!({
        "event_id": id, "tenant_id": "acme", "source": "web", "event_type": "view",
        "timestamp": "2026-03-01T10:00:00Z", "payload": {"n": id},
    })
    .to_string()
}

/// So many seconds after 2024 began.
pub(super) fn time(second: u64) -> String {
    firehose::base::clock::rfc3339((1_704_067_200 + second as i64) * 1_000_000)
}

/// The ids of all service events, sorted.
#[track_caller]
fn service_events(server: &Server) -> Vec<String> {
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

/// The second goes to a file that is there.
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

/// The control: on a disk that says yes to a sync and does nothing, the same is lost.
#[test]
fn a_disk_that_forgets_syncs_is_noticed() {
    let Some(rig) = super::Rig::new() else { return };
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
    // The other images are the same ones: there is nothing else to lose.
    assert!(images.failed.contains(&"Strict Synced 0".to_owned()), "nothing was lost: {images}");
}
