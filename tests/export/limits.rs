//! How much space an export may take, how long it is kept, and which tenant owns it.

use super::*;
use crate::support::commerce::problem;
use crate::support::{Folder, SmallDisk, wait_until};

#[test]
fn one_that_has_no_room_fails_and_says_so() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--exports-bytes-max", "400KiB"]);
    ingest(&server, &orders("t", 4_000, &mut Chance::seeded(5)));
    let export = begin(&server, "t", &json!({"format": "ndjson"}));
    let mut reading = Reading::begin(&server, &export, "");
    // A reader that arrives after the failure is refused instead.
    if reading.status != 409 {
        assert_eq!((reading.status, reading.is_chunked), (200, true));
        assert!(reading.rest().is_err(), "a file that is not whole has no clean end");
    }
    let said = ended(&server, &export);
    assert_eq!(said["state"], "failed");
    assert!(said["error"].as_str().is_some_and(|error| error.contains("409600 bytes")), "{said}");
    problem(&server.get(said["download_url"].as_str().expect("a path")), 409, "export-failed");
    // The space of the failed export is free again.
    let small = json!({"format": "csv", "fields": ["order_id"]});
    let mut kept = Vec::new();
    // A tenant may have 200 exports, including failed ones. How long they take depends on the machine.
    let refused = (0..250).find_map(|_| {
        let answer = server.client().ask("POST", &path("t"), &small.to_string()).expect("an answer");
        if answer.status == 201 {
            kept.push(ended(&server, &answer.json()));
            return None;
        }
        Some(answer)
    });
    let refused = refused.expect("the room is taken");
    problem(&refused, 507, "no-room-for-export");
    assert!(refused.header("retry-after").is_some());
    let one = kept.iter().find(|said| said["state"] == "done").expect("some were done");
    assert_eq!(
        server.client().ask("DELETE", one["url"].as_str().expect("a path"), "").expect("an answer").status,
        204
    );
    done(
        &server,
        &begin(&server, "t", &json!({"format": "csv", "fields": ["status"], "filters": {"q": "nobody"}})),
    );
    server.stop();
}

#[test]
fn one_that_nobody_needs_any_more_goes() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--export-expiry", "400ms"]);
    ingest(&server, &orders("t", 20, &mut Chance::seeded(7)));
    let export = begin(&server, "t", &json!({"format": "csv"}));
    let url = export["url"].as_str().expect("a path");
    let gone = wait_for("it to expire", || {
        // A download that is under way when the export expires is cut.
        let answer = server.client().get(export["download_url"].as_str().expect("a path")).ok()?;
        (answer.status == 410 || answer.status == 404).then_some(answer)
    });
    if gone.status == 410 {
        problem(&gone, 410, "export-gone");
    }
    wait_until("its name to go", || server.get(url).status == 404);
    let files = || std::fs::read_dir(folder.data().join("exports")).expect("the folder").count();
    wait_until("its folder to go", || files() == 0);
    server.stop();
}

#[test]
fn a_disk_without_reserve_takes_no_new_one() {
    let folder = Folder::new();
    let Some(disk) = SmallDisk::mount(folder.beside("disk"), 64 << 20) else { return };
    let server = folder.serve_on(&disk.path().join("data"), &["--shards", "1", "--disk-reserve", "32MiB"]);
    ingest(&server, &orders("t", 20, &mut Chance::seeded(7)));
    done(&server, &begin(&server, "t", &json!({"format": "csv"})));
    std::fs::write(disk.path().join("ballast"), vec![1; 40 << 20]).expect("there is room");
    let refused = wait_for("the disk to be low", || {
        let answer = server.client().ask("POST", &path("t"), "{\"format\":\"csv\"}").expect("an answer");
        (answer.status != 201).then_some(answer)
    });
    problem(&refused, 507, "no-room-for-export");
    server.stop();
}

#[test]
fn an_id_is_good_for_its_tenant_only_and_a_key_for_one_wish() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    ingest(&server, &orders("t", 20, &mut Chance::seeded(7)));
    let export = done(&server, &begin(&server, "t", &json!({"format": "csv"})));
    let id = export["id"].as_str().expect("an id");
    for rest in ["", "/download"] {
        problem(&server.get(&format!("{}/{id}{rest}", path("u"))), 404, "no-such-export");
        problem(&server.get(&format!("{}/{}{rest}", path("t"), "0".repeat(32))), 404, "no-such-export");
    }
    let other = server.client().ask("DELETE", &format!("{}/{id}", path("u")), "").expect("an answer");
    problem(&other, 404, "no-such-export");
    assert_eq!(server.get(&path("u")).json()["exports"], json!([]));
    let listed = server.get(&path("t")).json();
    assert_eq!(listed["exports"], json!([look(&server, &export)]));

    let ask = |body: &str| {
        let mut client = server.client();
        let head = format!("POST {} HTTP/1.1\r\nHost: t\r\nIdempotency-Key: \"k\"\r\n", path("t"));
        client.write(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).expect("sent");
        client.answer().expect("an answer")
    };
    let first = ask("{\"format\":\"csv\"}");
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None));
    let again = ask("{\"compression\":\"none\",\"format\":\"csv\",\"filters\":{}}");
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(first.header("location"), again.header("location"));
    problem(&ask("{\"format\":\"ndjson\"}"), 422, "idempotency-key-reused");
    let said = problem(&ask("{\"format\":\"ods\",\"fields\":[\"x\"]}"), 422, "invalid-export");
    assert_eq!(said["errors"].as_array().map(Vec::len), Some(2), "{said}");
    server.stop();
}
