//! How uploads end: terminated, expired, damaged, or finished under an idempotency key. Also, which tenant owns them.

use serde_json::{Value, json};

use super::{
    PIECE, Packing, TUS, UPLOADS, Upload, ask, assert_problem, check_stored, offset_of, orders, serve,
};
use crate::support::{Folder, wait_until};

#[test]
fn a_terminated_upload_is_gone_and_its_rows_stay() {
    let (folder, (lines, _)) = (Folder::new(), orders(100));
    let server = serve(&folder, &[]);
    let mut client = server.client();
    let upload = Upload::create(&mut client, 1 << 20, &[]);
    assert_eq!(upload.patch(&mut client, 0, &[], &lines).expect("it answers").status, 204);
    let answer = ask(&mut client, "DELETE", &upload.path, &[TUS], b"").expect("it answers");
    assert_eq!((answer.status, answer.header("tus-resumable")), (204, Some("1.0.0")));
    assert_eq!(upload.head(&mut client).expect("it answers").status, 404);
    assert_problem(
        &ask(&mut client, "DELETE", &upload.path, &[TUS], b"").expect("it answers"),
        404,
        "no-such-upload",
    );
    let late = upload.patch(&mut client, lines.len(), &[], b"x").expect("it answers");
    assert_problem(&late, 404, "no-such-upload");
    assert!(!folder.data().join("uploads").join(upload.id()).exists());
    check_stored(&folder.data(), 100);
}

#[test]
fn an_upload_that_rests_too_long_expires() {
    let (folder, (lines, expected)) = (Folder::new(), orders(50));
    let server = serve(&folder, &["--upload-expiry", "3s", "--uploads-bytes-max", "1MiB"]);
    let mut client = server.client();
    let resting = Upload::create(&mut client, 1 << 20, &[]);
    assert_eq!(resting.patch(&mut client, 0, &[], &lines).expect("it answers").status, 204);
    let files = folder.data().join("uploads").join(resting.id());
    assert!(files.join("body").exists());
    wait_until("it to expire", || resting.head(&mut client).expect("it answers").status == 410);
    let late = resting.patch(&mut server.client(), lines.len(), &[], b"x").expect("it answers");
    assert_problem(&late, 410, "upload-gone");
    assert_problem(&server.get(&resting.path), 410, "upload-gone");
    wait_until("its bytes to go", || !files.join("body").exists());
    // The space of the expired upload is free again.
    let next = Upload::create(&mut client, lines.len(), &[]);
    assert_eq!(next.patch(&mut client, 0, &[], &lines).expect("it answers").status, 204);
    assert_eq!(next.summary(&server)["rows_duplicate"], expected.inserted + expected.duplicate);
    wait_until("it to be forgotten", || resting.head(&mut client).expect("it answers").status == 404);
    wait_until("nothing to be left", || !files.exists());
    wait_until("the finished one to expire", || next.head(&mut client).expect("it answers").status == 410);
    check_stored(&folder.data(), 50);
}

#[test]
fn what_cannot_be_unpacked_ends_the_upload() {
    let (folder, (lines, _)) = (Folder::new(), orders(3_000));
    let server = serve(&folder, &["--ingest-bytes-max", "1MiB"]);
    let mut client = server.client();
    let mut torn = Packing::Gzip.pack(&lines[..900_000]);
    let middle = torn.len() / 2;
    torn[middle..middle + 40].fill(0xff);
    let cut = Packing::Gzip.pack(&lines[..900_000]);
    let cut = &cut[..cut.len() - 9];
    let xz = b"\xfd7zXZ\0 and so on".to_vec();
    let too_large = Packing::Zstd.pack(&lines);
    assert!(lines.len() > 1 << 20);
    for (name, body, status, slug) in [
        ("torn", torn.as_slice(), 400, "damaged-upload"),
        ("cut", cut, 400, "damaged-upload"),
        ("xz", &xz, 415, "unsupported-media-type"),
        ("too large", &too_large, 413, "payload-too-large"),
    ] {
        let upload = Upload::create(&mut client, body.len(), &[]);
        let mut sender = server.client();
        let answer = upload.patch(&mut sender, 0, &[], body).expect("it answers");
        assert_problem(&answer, status, slug);
        let summary = upload.summary(&server);
        assert_eq!(summary["state"], "failed", "{name}");
        let detail = summary["detail"].as_str().expect("a reason");
        assert!(
            answer.json()["detail"].as_str().is_some_and(|said| said.contains(detail)),
            "{name}: {detail}"
        );
        let told = summary["rows_received"].as_u64().expect("a count");
        assert_eq!(told > 0, name != "xz", "{name}: what came before stays");
        assert_eq!(upload.head(&mut client).expect("it answers").status, 200);
        let offset = upload.offset(&mut client);
        let more = upload.patch(&mut server.client(), offset, &[], b"").expect("it answers");
        assert_problem(&more, status, slug);
        assert!(!folder.data().join("uploads").join(upload.id()).join("body").exists(), "{name}");
    }
}

#[test]
fn an_upload_without_an_order_fails_with_counts_and_leaves_its_key_free() {
    let (folder, (lines, expected)) = (Folder::new(), orders(20));
    let server = serve(&folder, &[]);
    let mut client = server.client();
    let cases = [
        (&b"{\n[\n[]"[..], 3, "several lines"),
        (b"order_id,tenant_id\n1,acme\n", 2, "CSV"),
        (b"\n\n", 0, "no line"),
        (b"", 0, "no line"),
    ];
    for (body, failed, advice) in cases {
        let upload = Upload::create(&mut client, body.len(), &["Idempotency-Key: night-2"]);
        if !body.is_empty() {
            // All of its bytes were accepted.
            let answer = upload.patch(&mut client, 0, &[], body).expect("it answers");
            assert_eq!((answer.status, offset_of(&answer)), (204, body.len()), "{answer:?}");
        }
        let summary = upload.summary(&server);
        assert_eq!((&summary["state"], &summary["rows_failed"]), (&json!("failed"), &json!(failed)));
        assert!(summary["detail"].as_str().is_some_and(|detail| detail.contains(advice)), "{summary}");
        assert_eq!(upload.offset(&mut client), body.len());
    }
    let mended = Upload::create(&mut client, lines.len(), &["Idempotency-Key: night-2"]);
    assert_eq!(mended.patch(&mut client, 0, &[], &lines).expect("it answers").status, 204);
    expected.check(&mended.summary(&server), lines.len());
    check_stored(&folder.data(), 20);
}

#[test]
fn an_idempotency_key_is_that_of_an_ingest() {
    let (folder, (lines, expected)) = (Folder::new(), orders(400));
    let mut server = serve(&folder, &[]);
    let half = lines.len() / 2;
    let named = Upload::create(&mut server.client(), lines.len(), &["Idempotency-Key: \"night-1\""]);
    assert_eq!(named.patch(&mut server.client(), 0, &[], &lines[..half]).expect("it answers").status, 204);
    // The server that continues after the start has not seen the first half.
    server.stop();
    server = serve(&folder, &[]);
    let mut client = server.client();
    assert_eq!(named.patch(&mut client, half, &[], &lines[half..]).expect("it answers").status, 204);
    let summary = named.summary(&server);
    expected.check(&summary, lines.len());
    assert_eq!(summary["idempotency_key"], "night-1");
    // The same rows in one request get the response of the upload.
    let ingest = |body: &[u8]| {
        let lines = ["Idempotency-Key: night-1", "Content-Type: application/x-ndjson"];
        ask(&mut server.client(), "POST", "/api/v1/ingest/orders", &lines, body).expect("it answers")
    };
    let replayed = ingest(&lines);
    assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (200, Some("true")));
    for name in
        ["rows_received", "rows_inserted", "rows_duplicate", "rows_failed", "errors", "idempotency_key"]
    {
        assert_eq!(replayed.json()[name], summary[name], "{name}");
    }
    assert_eq!(ingest(&lines[..half]).status, 422);
    // A second upload under the key, here in its metadata and packed. Its summary is that of the first.
    let packed = Packing::Zip.pack(&lines);
    let again = Upload::create(&mut client, packed.len(), &["Upload-Metadata: idempotency_key bmlnaHQtMQ=="]);
    assert_eq!(again.patch(&mut client, 0, &[], &packed).expect("it answers").status, 204);
    expected.check(&again.summary(&server), packed.len());
    server.stop();
    check_stored(&folder.data(), 400);
}

#[test]
fn an_upload_is_its_tenants_alone() {
    let folder = Folder::new();
    let key = |words: &[&str]| -> String {
        let (code, made) = folder.run_json(&[&["key", "create"], words].concat());
        assert_eq!(code, 0, "{made}");
        format!("X-API-Key: {}", made["key"].as_str().expect("a text"))
    };
    for tenant in ["acme", "other"] {
        assert!(folder.run(&["tenant", "add", tenant]).status.success());
    }
    let acme = key(&["--tenant", "acme", "--scope", "manage"]);
    let other = key(&["--tenant", "other", "--scope", "manage"]);
    let reader = key(&["--tenant", "acme", "--scope", "read"]);
    let every = key(&["--scope", "manage"]);
    let public = key(&["--tenant", "acme", "--scope", "write"]);
    let server = serve(&folder, &[]);
    let mut client = server.client();
    let (lines, _) = orders(20);
    let length = format!("Upload-Length: {}", lines.len());
    let create = |key: &[&str]| {
        ask(&mut server.client(), "POST", UPLOADS, &[&[TUS, length.as_str()], key].concat(), b"")
            .expect("it answers")
    };
    assert_eq!(create(&[]).status, 401);
    assert_eq!(create(&[&reader]).status, 403);
    assert_eq!(create(&[&public]).status, 403);
    let created = create(&[&acme]);
    let path = created.header("location").expect("a location");
    let mut as_one = |method: &str, key: &str, body: &[u8]| {
        ask(&mut client, method, path, &[TUS, PIECE, "Upload-Offset: 0", key], body).expect("it answers")
    };
    for method in ["GET", "HEAD", "PATCH", "DELETE"] {
        assert_eq!(as_one(method, &other, b"").status, 404, "{method}");
        let looks = matches!(method, "GET" | "HEAD");
        assert_eq!(as_one(method, &reader, b"").status, if looks { 200 } else { 403 }, "{method}");
        assert_eq!(as_one(method, &public, b"").status, 403, "{method}");
        assert_eq!(as_one(method, "X-Other: x", b"").status, 401, "{method}");
    }
    assert_eq!(as_one("HEAD", &every, b"").status, 200);
    assert_eq!(offset_of(&as_one("PATCH", &acme, &lines)), lines.len());
    let summary: Value = as_one("GET", &acme, b"").json();
    assert_eq!((&summary["state"], &summary["rows_inserted"]), (&json!("finished"), &json!(20)));
    // Rows of a tenant other than the key's are refused line by line, regardless of the sender.
    let theirs = create(&[&other]);
    let theirs = theirs.header("location").expect("a location");
    let lines_of = [TUS, PIECE, "Upload-Offset: 0", every.as_str()];
    let sent = ask(&mut server.client(), "PATCH", theirs, &lines_of, &lines).expect("it answers");
    assert_eq!(sent.status, 204);
    let told = ask(&mut server.client(), "GET", theirs, &[&other], b"").expect("it answers").json();
    assert_eq!((&told["rows_inserted"], &told["errors"][0]["code"]), (&json!(0), &json!("wrong_tenant")));
    assert_eq!(told["state"], "failed");
}
