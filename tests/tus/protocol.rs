//! The protocol: the meaning of every header, whether it is missing, wrong or right.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha1::Digest as _;

use super::{
    PIECE, TUS, UPLOADS, Upload, ask, assert_problem, check_stored, offset_of, order, orders, serve, stored,
};
use crate::support::Folder;

/// Sends a file in pieces that end in the middle of lines.
fn in_pieces(flags: &[&str]) {
    let folder = Folder::new();
    let server = serve(&folder, flags);
    let (lines, expected) = orders(2_000);
    let mut client = server.client();
    let metadata = format!("Upload-Metadata: filename {},is_confidential", STANDARD.encode("orders.ndjson"));
    let upload = Upload::create(&mut client, lines.len(), &[&metadata]);
    assert!(upload.path.starts_with(&format!("{UPLOADS}/")), "{}", upload.path);
    let mut at = 0;
    for piece in lines.chunks(lines.len() / 7 + 1) {
        let answer = upload.patch(&mut client, at, &[], piece).expect("it answers");
        assert_eq!(answer.status, 204, "{answer:?}");
        at += piece.len();
        assert_eq!(offset_of(&answer), at);
        assert_eq!(answer.header("upload-expires").is_some(), at < lines.len());
        let looked = upload.head(&mut client).expect("it answers");
        assert_eq!((looked.status, offset_of(&looked)), (200, at));
        assert_eq!(looked.header("upload-length"), Some(lines.len().to_string().as_str()));
        assert_eq!(looked.header("cache-control"), Some("no-store"));
        assert_eq!(looked.header("upload-metadata"), metadata.strip_prefix("Upload-Metadata: "));
        if at < lines.len() {
            let summary = upload.summary(&server);
            assert_eq!((&summary["state"], &summary["offset"]), (&json!("receiving"), &json!(at)));
            // Every reported row is stored.
            let committed = summary["rows_committed"].as_u64().expect("a count");
            assert!(committed > 0 && committed < expected.inserted, "{summary}");
            assert_eq!(
                stored(&folder.data()).len() as u64,
                summary["rows_inserted"].as_u64().expect("a count")
            );
        }
    }
    expected.check(&upload.summary(&server), lines.len());
    assert_eq!(upload.summary(&server)["idempotency_key"], upload.id());
    // A client that lost the last response finds that there is nothing left to do.
    let again = upload.patch(&mut client, lines.len(), &[], b"").expect("it answers");
    assert_eq!((again.status, offset_of(&again)), (204, lines.len()));
    let files = folder.data().join("uploads").join(upload.id());
    assert!(files.join("info.json").exists() && !files.join("body").exists());
    server.stop();
    check_stored(&folder.data(), 2_000);
    let (code, said) = folder.run_json(&["verify", "--aggregates"]);
    assert_eq!(code, 0, "{said}");
    let server = serve(&folder, flags);
    expected.check(&upload.summary(&server), lines.len());
}

#[test]
fn an_upload_in_pieces_is_stored_and_summed_up() {
    in_pieces(&[]);
}

#[test]
fn an_upload_in_pieces_is_stored_on_the_disk() {
    in_pieces(&["--ack", "disk"]);
}

#[test]
fn an_upload_in_pieces_is_stored_without_io_uring() {
    in_pieces(&["--runtime", "epoll"]);
}

#[test]
fn an_upload_may_come_with_its_creation() {
    let (folder, (lines, expected)) = (Folder::new(), orders(100));
    let server = serve(&folder, &[]);
    let mut client = server.client();
    let length = format!("Upload-Length: {}", lines.len());
    let answer = ask(&mut client, "POST", UPLOADS, &[TUS, &length, PIECE], &lines).expect("it answers");
    assert_eq!((answer.status, offset_of(&answer)), (201, lines.len()));
    let upload = Upload { path: answer.header("location").expect("a location").to_owned() };
    expected.check(&upload.summary(&server), lines.len());
    // The same rows again, half of them with the creation. All of them are known.
    let half = lines.len() / 2;
    let answer =
        ask(&mut client, "POST", UPLOADS, &[TUS, &length, PIECE], &lines[..half]).expect("it answers");
    assert_eq!((answer.status, offset_of(&answer)), (201, half));
    let second = Upload { path: answer.header("location").expect("a location").to_owned() };
    assert_eq!(second.patch(&mut client, half, &[], &lines[half..]).expect("it answers").status, 204);
    let summary = second.summary(&server);
    assert_eq!((&summary["rows_inserted"], &summary["state"]), (&json!(0), &json!("finished")));
    assert_eq!(summary["rows_duplicate"], json!(expected.inserted + expected.duplicate));
    // An upload without bytes has ended when it is created.
    let empty = Upload::create(&mut client, 0, &[]);
    assert_eq!(empty.summary(&server)["state"], "failed");
    check_stored(&folder.data(), 100);
}

#[test]
fn creation_wants_its_headers() {
    let folder = Folder::new();
    let server = serve(&folder, &["--uploads-bytes-max", "1MiB"]);
    let length = "Upload-Length: 10";
    for (lines, body, status, slug) in [
        (&[length][..], "", 412, "tus-version"),
        (&[length, "Tus-Resumable: 0.2.2"], "", 412, "tus-version"),
        (&[TUS], "", 400, "bad-upload-header"),
        (&[TUS, "Upload-Length: -1"], "", 400, "bad-upload-header"),
        (&[TUS, "Upload-Length: ten"], "", 400, "bad-upload-header"),
        (&[TUS, length, length], "", 400, "bad-upload-header"),
        (&[TUS, "Upload-Defer-Length: 2"], "", 400, "bad-upload-header"),
        (&[TUS, length, "Upload-Defer-Length: 1"], "", 400, "bad-upload-header"),
        (&[TUS, length, "Upload-Concat: partial"], "", 400, "bad-upload-header"),
        (&[TUS, length, "Upload-Metadata: a !"], "", 400, "bad-upload-header"),
        (&[TUS, length, "Idempotency-Key: "], "", 400, "idempotency-key-missing"),
        (&[TUS, "Upload-Length: 1048577"], "", 413, "payload-too-large"),
        (&[TUS, length, "Content-Type: text/plain"], "0123456789", 415, "unsupported-media-type"),
        (&[TUS, length, PIECE, "Upload-Checksum: md5 AAAA"], "0123456789", 400, "bad-upload-header"),
    ] {
        let answer = ask(&mut server.client(), "POST", UPLOADS, lines, body.as_bytes()).expect("it answers");
        assert_problem(&answer, status, slug);
        assert_eq!(answer.header("tus-version"), (status == 412).then_some("1.0.0"), "{lines:?}");
        // A request whose body was not read ends the connection. A request without a body does not.
        assert_eq!(answer.header("connection") == Some("close"), !body.is_empty(), "{lines:?}");
    }
    let left = std::fs::read_dir(folder.data().join("uploads")).expect("the folder").count();
    assert_eq!(left, 0, "nothing was created");
    // The creation has more bytes than the declared length. The upload exists and contains none of them.
    let answer = ask(&mut server.client(), "POST", UPLOADS, &[TUS, length, PIECE], b"0123456789!");
    let answer = answer.expect("it answers");
    assert_problem(&answer, 413, "payload-too-large");
    let upload = Upload { path: answer.header("location").expect("a location").to_owned() };
    assert_eq!(upload.offset(&mut server.client()), 0);
}

#[test]
fn a_piece_wants_its_headers() {
    let folder = Folder::new();
    let server = serve(&folder, &[]);
    let upload = Upload::create(&mut server.client(), 1_000, &[]);
    assert_eq!(upload.patch(&mut server.client(), 0, &[], b"\n\n\n").expect("it answers").status, 204);
    let (at, piece) = ("Upload-Offset: 3", "\n\n");
    for (lines, body, status, slug) in [
        (&[PIECE, at][..], piece, 412, "tus-version"),
        (&[TUS, PIECE], piece, 400, "bad-upload-header"),
        (&[TUS, PIECE, "Upload-Offset: x"], piece, 400, "bad-upload-header"),
        (&[TUS, PIECE, "Upload-Offset: -3"], piece, 400, "bad-upload-header"),
        (&[TUS, PIECE, "Upload-Offset: 2"], piece, 409, "wrong-upload-offset"),
        (&[TUS, PIECE, "Upload-Offset: 4"], piece, 409, "wrong-upload-offset"),
        (&[TUS, at], piece, 415, "unsupported-media-type"),
        (&[TUS, at, "Content-Type: application/octet-stream"], piece, 415, "unsupported-media-type"),
        (&[TUS, PIECE, at, "Upload-Checksum: crc32 AAAA"], piece, 400, "bad-upload-header"),
        (&[TUS, PIECE, at, "Upload-Checksum: sha1 AAAA"], piece, 400, "bad-upload-header"),
    ] {
        let answer = ask(&mut server.client(), "PATCH", &upload.path, lines, body.as_bytes());
        let answer = answer.expect("it answers");
        assert_problem(&answer, status, slug);
        assert_eq!(answer.header("upload-offset"), (status == 409).then_some("3"), "{lines:?}");
        assert_eq!(answer.header("accept-patch").is_some(), status == 415, "{lines:?}");
    }
    let mut client = server.client();
    let beyond = vec![b'\n'; 998];
    assert_problem(
        &upload.patch(&mut client, 3, &[], &beyond).expect("it answers"),
        413,
        "payload-too-large",
    );
    let mut client = server.client();
    assert_eq!(upload.offset(&mut client), 3, "nothing of all that was taken");
    // The same without a length. Bytes are accepted up to the upload's own length, which ends the upload.
    let lines = format!(
        "PATCH {} HTTP/1.1\r\nHost: t\r\n{TUS}\r\n{PIECE}\r\nUpload-Offset: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        upload.path
    );
    let mut chunked = lines.into_bytes();
    chunked.extend(b"3e6\r\n");
    chunked.extend(&beyond);
    chunked.extend(b"\r\n0\r\n\r\n");
    client.write(&chunked).expect("it is sent");
    assert_problem(&client.answer().expect("it answers"), 413, "payload-too-large");
    assert_eq!(upload.offset(&mut server.client()), 1_000);
    assert_eq!(upload.summary(&server)["state"], "failed", "there was no line in it");
}

#[test]
fn the_length_of_an_upload_may_be_told_later() {
    let (folder, (lines, expected)) = (Folder::new(), orders(60));
    let mut server = serve(&folder, &["--uploads-bytes-max", "1MiB"]);
    let mut client = server.client();
    let half = lines.len() / 2;
    let begun = ask(&mut client, "POST", UPLOADS, &[TUS, "Upload-Defer-Length: 1", PIECE], &lines[..half]);
    let begun = begun.expect("it answers");
    assert_eq!((begun.status, offset_of(&begun)), (201, half), "{begun:?}");
    let upload = Upload { path: begun.header("location").expect("a location").to_owned() };
    server.kill();
    server = serve(&folder, &["--uploads-bytes-max", "1MiB"]);
    let mut client = server.client();
    let looked = upload.head(&mut client).expect("it answers");
    assert_eq!((looked.header("upload-defer-length"), looked.header("upload-length")), (Some("1"), None));
    assert_eq!(
        (&upload.summary(&server)["length"], &upload.summary(&server)["state"]),
        (&json!(null), &json!("receiving"))
    );
    let length = format!("Upload-Length: {}", lines.len());
    for (wrong, status, slug) in [
        (format!("Upload-Length: {}", half - 1), 400, "bad-upload-header"),
        ("Upload-Length: 1048577".to_owned(), 413, "payload-too-large"),
    ] {
        assert_problem(&upload.patch(&mut client, half, &[&wrong], b"").expect("it answers"), status, slug);
    }
    // The length may come with a piece or without one.
    let quarter = half + half / 2;
    assert_eq!(
        upload.patch(&mut client, half, &[&length], &lines[half..quarter]).expect("it answers").status,
        204
    );
    let looked = upload.head(&mut client).expect("it answers");
    assert_eq!(looked.header("upload-length"), Some(lines.len().to_string().as_str()));
    let other = upload.patch(&mut client, quarter, &["Upload-Length: 9999"], b"").expect("it answers");
    assert_problem(&other, 400, "bad-upload-header");
    assert_eq!(
        upload.patch(&mut client, quarter, &[&length], &lines[quarter..]).expect("it answers").status,
        204
    );
    expected.check(&upload.summary(&server), lines.len());
    // All bytes arrive before the length is known.
    let again = ask(&mut client, "POST", UPLOADS, &[TUS, "Upload-Defer-Length: 1", PIECE], &lines);
    let again =
        Upload { path: again.expect("it answers").header("location").expect("a location").to_owned() };
    assert_eq!(again.summary(&server)["state"], "receiving");
    assert_eq!(again.patch(&mut client, lines.len(), &[&length], b"").expect("it answers").status, 204);
    assert_eq!(again.summary(&server)["state"], "finished");
    check_stored(&folder.data(), 60);
}

#[test]
fn a_post_that_names_another_method_is_that_method() {
    let (folder, (lines, expected)) = (Folder::new(), orders(30));
    let server = serve(&folder, &[]);
    let mut client = server.client();
    let upload = Upload::create(&mut client, lines.len(), &[]);
    let mut post = |method: &str, more: &[&str], body: &[u8]| {
        let named = format!("X-HTTP-Method-Override: {method}");
        let lines = [&[TUS, named.as_str()], more].concat();
        ask(&mut client, "POST", &upload.path, &lines, body).expect("it answers")
    };
    let taken = post("PATCH", &[PIECE, "Upload-Offset: 0"], &lines);
    assert_eq!((taken.status, offset_of(&taken)), (204, lines.len()), "{taken:?}");
    let looked = post("head", &[], b"");
    assert_eq!((looked.status, offset_of(&looked), looked.body.len()), (200, lines.len(), 0));
    expected.check(&upload.summary(&server), lines.len());
    assert_eq!(post("PUT", &[], b"").status, 405, "no method of tus");
    assert_eq!(post("DELETE", &[], b"").status, 204);
    assert_eq!(upload.head(&mut server.client()).expect("it answers").status, 404);
    // At other endpoints, a POST is a POST.
    let event = r#"{"user_id":1,"timestamp":"2026-01-01T00:00:00Z","metadata":{}}"#;
    let lines = ["X-HTTP-Method-Override: DELETE"];
    let answer = ask(&mut server.client(), "POST", "/event", &lines, event.as_bytes()).expect("it answers");
    assert_eq!(answer.status, 202);
    check_stored(&folder.data(), 30);
}

#[test]
fn an_upload_that_is_not_there_is_not_found() {
    let folder = Folder::new();
    let server = serve(&folder, &[]);
    let unknown = format!("{UPLOADS}/{}", "0".repeat(32));
    for path in [unknown.as_str(), &format!("{UPLOADS}/x"), &format!("{UPLOADS}/..%2F..%2Fmanifest.json")] {
        for method in ["GET", "HEAD", "PATCH", "DELETE"] {
            let lines = [TUS, PIECE, "Upload-Offset: 0"];
            let answer = ask(&mut server.client(), method, path, &lines, b"").expect("it answers");
            assert_eq!(answer.status, 404, "{method} {path}");
            assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
        }
    }
    for (method, path) in
        [("PUT", unknown.as_str()), ("POST", &unknown), ("GET", UPLOADS), ("PATCH", UPLOADS)]
    {
        let answer = ask(&mut server.client(), method, path, &[TUS], b"").expect("it answers");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("OPTIONS")));
    }
    for (method, status) in [("HEAD", 412), ("DELETE", 412), ("GET", 404)] {
        let answer = ask(&mut server.client(), method, &unknown, &[], b"").expect("it answers");
        assert_eq!(answer.status, status, "{method} without a version");
    }
}

#[test]
fn options_tells_what_is_offered_to_browsers_too() {
    let folder = Folder::new();
    let shop = ["--cors-origins", "https://shop.example"];
    let server = serve(&folder, &[&["--uploads-bytes-max", "5GiB"], &shop[..]].concat());
    let mut client = server.client();
    let upload = Upload::create(&mut client, 5, &[]);
    for path in [UPLOADS, &upload.path] {
        let wanted = "tus-resumable,upload-length,upload-offset,upload-metadata,upload-checksum";
        let wanted = format!("Access-Control-Request-Headers: {wanted}");
        let lines = ["Origin: https://shop.example", "Access-Control-Request-Method: PATCH", &wanted];
        let answer = ask(&mut client, "OPTIONS", path, &lines, b"").expect("it answers");
        assert_eq!(answer.status, 204);
        for (name, value) in [
            ("tus-resumable", "1.0.0"),
            ("tus-version", "1.0.0"),
            ("tus-max-size", "5368709120"),
            (
                "tus-extension",
                "creation,creation-with-upload,creation-defer-length,expiration,termination,checksum",
            ),
            ("tus-checksum-algorithm", "sha1,sha256"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let methods = answer.header("access-control-allow-methods").expect("methods");
        assert!(methods.contains(if path == UPLOADS { "POST" } else { "PATCH" }), "{methods}");
        let allowed = answer.header("access-control-allow-headers").expect("headers").to_ascii_lowercase();
        for name in ["tus-resumable", "upload-length", "upload-offset", "upload-metadata", "upload-checksum"]
        {
            assert!(allowed.contains(name), "{name} in {allowed}");
        }
    }
    let lines = [TUS, "Origin: https://shop.example"];
    let answer = ask(&mut client, "HEAD", &upload.path, &lines, b"").expect("it answers");
    let exposed = answer.header("access-control-expose-headers").expect("headers");
    for name in ["Upload-Offset", "Upload-Length", "Location", "Tus-Resumable", "Upload-Expires"] {
        assert!(exposed.contains(name), "{name} in {exposed}");
    }
}

#[test]
fn a_piece_counts_only_with_its_checksum() {
    let (folder, (lines, expected)) = (Folder::new(), orders(600));
    let mut server = serve(&folder, &[]);
    let sha1 = |bytes: &[u8]| format!("Upload-Checksum: sha1 {}", STANDARD.encode(sha1::Sha1::digest(bytes)));
    let sha256 =
        |bytes: &[u8]| format!("Upload-Checksum: sha256 {}", STANDARD.encode(sha2::Sha256::digest(bytes)));
    let mut client = server.client();
    let upload = Upload::create(&mut client, lines.len(), &[]);
    let (third, half) = (lines.len() / 3, lines.len() / 2);
    let first = upload.patch(&mut client, 0, &[&sha1(&lines[..third])], &lines[..third]);
    assert_eq!(offset_of(&first.expect("it answers")), third);
    // Rows other than the intended ones. None of them is stored.
    let mut wrong = lines[third..half].to_vec();
    wrong.extend_from_slice(order(999_999).as_bytes());
    for checksum in [sha1(&lines[third..half]), sha256(&lines[third..half])] {
        let answer = upload.patch(&mut client, third, &[&checksum], &wrong).expect("it answers");
        assert_problem(&answer, 460, "checksum-mismatch");
        assert_eq!(answer.header("connection"), None, "the connection goes on");
        assert_eq!(upload.offset(&mut client), third);
    }
    // A piece with a checksum that is cut does not count either, nor does one during which the server is killed.
    let checksum = sha256(&lines[third..]);
    let cut = |client: &mut crate::support::Client| {
        let at = format!("Upload-Offset: {third}");
        let head = super::head("PATCH", &upload.path, &[TUS, PIECE, &at, &checksum], lines.len() - third);
        client.write(&head).and_then(|()| client.write(&lines[third..half])).expect("it is sent");
    };
    let mut cut_off = server.client();
    cut(&mut cut_off);
    upload.wait_for_bytes(&folder, half);
    drop(cut_off);
    assert_eq!(upload.offset(&mut client), third);
    let mut killed = server.client();
    cut(&mut killed);
    upload.wait_for_bytes(&folder, half);
    server.kill();
    server = serve(&folder, &[]);
    let mut client = server.client();
    assert_eq!(upload.offset(&mut client), third);
    assert_eq!(
        upload.patch(&mut client, third, &[&checksum], &lines[third..]).expect("it answers").status,
        204
    );
    expected.check(&upload.summary(&server), lines.len());
    server.stop();
    check_stored(&folder.data(), 600);
}
