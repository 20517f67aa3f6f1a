//! Both bulk forms, the single event and serde_json against each other.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

type Told = Vec<(usize, Option<usize>, Result<ServiceEvent<'static>, DecodeError>)>;

fn owned(event: ServiceEvent<'_>) -> ServiceEvent<'static> {
    ServiceEvent {
        event_id: event.event_id.into_owned().into(),
        tenant_id: event.tenant_id.into_owned().into(),
        source: event.source.into_owned().into(),
        event_type: event.event_type.into_owned().into(),
        timestamp_us: event.timestamp_us,
        payload: Box::leak(event.payload.to_owned().into_boxed_str()),
    }
}

fn bulk(body: &[u8], is_ndjson: bool) -> Result<Told, BulkError> {
    let mut told = Told::new();
    let count = Decoder::new().bulk(body, is_ndjson, &mut |index, line, event| {
        told.push((index, line, event.map(owned)));
    });
    assert_eq!(count.as_ref().copied().unwrap_or(0), told.len());
    count.map(|_| told)
}

fn one(row: &[u8]) -> Result<ServiceEvent<'static>, DecodeError> {
    Decoder::new().service_event(row).map(owned)
}

fn row(id: &str) -> Value {
    json!({"event_id": id, "tenant_id": "t", "source": "web", "event_type": "click",
           "timestamp": "2024-01-15T10:30:00+01:00", "payload": {"a": [1, {"b": "}"}]}})
}

fn envelope(rows: &[String]) -> String {
    format!("{{\"x\":{{\"events\":[1]}},\"events\" : [ {} ],\"y\":[]}}", rows.join(" ,\n"))
}

fn codes(result: Result<ServiceEvent<'static>, DecodeError>) -> Vec<(&'static str, &'static str)> {
    match result {
        Err(DecodeError::Fields(errors)) => errors.iter().map(|e| (e.pointer, e.code.as_str())).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_is_read_with_its_payload_as_received() {
    let body =
        br#" {"payload" : {"n": 1e999, "s":"\ud83d"} , "event_id":"e\u0041\ud83d\ude00","tenant_id":"t",
        "source":"w","event_type":"c","timestamp":"2024-01-15T10:30:00.5+01:00","payload ":1} "#;
    let event = one(body).unwrap();
    assert_eq!((&*event.event_id, event.payload), ("eA\u{1f600}", r#"{"n": 1e999, "s":"\ud83d"}"#));
    assert_eq!(event.timestamp_us, 1_705_311_000_500_000);
}

#[test]
fn every_broken_field_is_named() {
    assert_eq!(
        codes(one(b"{}")),
        ["/event_id", "/tenant_id", "/source", "/event_type", "/timestamp", "/payload"]
            .map(|field| (field, "missing_field"))
    );
    let with = |field: &str, value: Value| {
        let mut row = row("e");
        row[field] = value;
        one(row.to_string().as_bytes())
    };
    for (field, value, code) in [
        ("event_id", json!(1), "invalid_type"),
        ("event_id", json!(""), "empty"),
        ("event_id", json!("x".repeat(201)), "too_long"),
        ("tenant_id", json!("a\u{0}"), "control_character"),
        ("tenant_id", json!("a\u{85}"), "control_character"),
        ("source", json!("ü".repeat(51)), "too_long"),
        ("event_type", json!(null), "invalid_type"),
        ("timestamp", json!("2024-01-15T10:30:00"), "invalid_timestamp"),
        ("timestamp", json!("2024-02-30T10:30:00Z"), "invalid_timestamp"),
        ("timestamp", json!(5), "invalid_type"),
        ("payload", json!([]), "invalid_type"),
        ("payload", json!({"x": "y".repeat(65_536)}), "too_large"),
    ] {
        assert_eq!(codes(with(field, value.clone())), [(&*format!("/{field}"), code)], "{field} {value}");
    }
    assert!(with("source", json!("ü".repeat(50))).is_ok());
    assert!(with("event_id", json!("x".repeat(200))).is_ok());
    let lone = row("e").to_string().replace("\"e\"", r#""\ud800""#);
    assert_eq!(codes(one(lone.as_bytes())), [("/event_id", "lone_surrogate")]);
    assert_eq!(codes(one(b"[1]")), [("", "not_an_object")]);
    assert!(matches!(one(b"{"), Err(DecodeError::NotJson { .. })));
    assert_eq!(one(b""), Err(DecodeError::Empty));
}

#[test]
fn bad_rows_never_sink_good_ones() {
    let rows: Vec<String> = [
        row("a").to_string(),
        "7".to_owned(),
        "{}".to_owned(),
        "[[],{}]".to_owned(),
        row("b").to_string().replace("}}]", "}, 1e999]"),
        "\"{\"".to_owned(),
        row("c").to_string(),
    ]
    .map(|row| row.replace("}]}}", "},1e999]}}"))
    .into();
    for rows in [rows.clone(), rows.iter().map(|row| row.replace("1e999", "1")).collect()] {
        let wanted: Vec<_> = rows.iter().map(|row| one(row.as_bytes())).collect();
        assert_eq!(wanted.iter().filter(|row| row.is_ok()).count(), 3);
        let told = bulk(envelope(&rows).as_bytes(), false).unwrap();
        let told: Vec<_> = told.into_iter().map(|(_, line, event)| (line, event)).collect();
        let wanted_here: Vec<_> = wanted.iter().cloned().map(|event| (None, event)).collect();
        assert_eq!(told, wanted_here);
        let lines = format!("\n{}\r\n \n", rows.join("\r\n"));
        for is_ndjson in [true, false] {
            let told = bulk(lines.as_bytes(), is_ndjson).unwrap();
            let told: Vec<_> =
                told.into_iter().map(|(index, line, event)| (index + 2, line, event)).collect();
            let wanted: Vec<_> =
                wanted.iter().cloned().enumerate().map(|(at, event)| (at + 2, Some(at + 2), event)).collect();
            assert_eq!(told, wanted);
        }
    }
}

#[test]
fn a_broken_line_is_its_own_fault() {
    let lines = format!("{}\n{{\"event_id\":\n\u{1}\n{}", row("a"), row("b"));
    let told = bulk(lines.as_bytes(), true).unwrap();
    assert!(told[0].2.is_ok() && told[3].2.is_ok());
    assert!(matches!(told[1].2, Err(DecodeError::NotJson { .. })));
    assert_eq!(told[3].1, Some(4));
    assert_eq!(bulk(lines.as_bytes(), false).unwrap(), told);
}

#[test]
fn a_body_without_rows_is_refused_as_a_whole() {
    for (body, error) in [
        (&b"{\"events\":[]}"[..], BulkError::NoRows),
        (b"{\"events\": [ ] }", BulkError::NoRows),
        (b"{\"events\":{}}", BulkError::NoEnvelope),
        (b"{\"Events\":[1]}", BulkError::NoEnvelope),
        (b"[{}]", BulkError::NoEnvelope),
        (b"{\"n\":1e999}", BulkError::NoEnvelope),
        (b"", BulkError::Body(DecodeError::Empty)),
        (b"{\"events\":[{}", BulkError::Body(DecodeError::NotJson { offset: 13 })),
        (b"\xff", BulkError::Body(DecodeError::NotUtf8)),
    ] {
        assert_eq!(bulk(body, false), Err(error), "{}", String::from_utf8_lossy(body));
    }
    assert_eq!(bulk(b" \n\r\n", true), Err(BulkError::NoRows));
}

#[test]
fn five_thousand_rows_and_not_one_more() {
    let rows = vec!["{}".to_owned(); BULK_EVENTS_MAX];
    assert_eq!(bulk(envelope(&rows).as_bytes(), false).unwrap().len(), BULK_EVENTS_MAX);
    assert_eq!(bulk(rows.join("\n").as_bytes(), true).unwrap().len(), BULK_EVENTS_MAX);
    let rows = vec!["{}".to_owned(); BULK_EVENTS_MAX + 1];
    assert_eq!(bulk(envelope(&rows).as_bytes(), false), Err(BulkError::TooMany));
    assert_eq!(bulk(rows.join("\n").as_bytes(), true), Err(BulkError::TooMany));
    let exotic = envelope(&rows).replacen("{}", "1e999", 1);
    assert_eq!(bulk(exotic.as_bytes(), false), Err(BulkError::TooMany));
}

#[test]
fn a_row_may_nest_as_deep_in_an_envelope_as_alone() {
    let nested = |depth: usize| {
        let payload = format!("{{\"a\":{}{}}}", "[".repeat(depth - 2), "]".repeat(depth - 2));
        row("e").to_string().replace("{\"a\":[1,{\"b\":\"}\"}]}", &payload)
    };
    for (depth, is_fine) in [(JSON_DEPTH_MAX, true), (JSON_DEPTH_MAX + 1, false), (JSON_DEPTH_MAX + 2, false)]
    {
        let row = nested(depth);
        assert_eq!(one(row.as_bytes()).is_ok(), is_fine, "{depth}");
        for exotic in ["", "1e999,"] {
            let body = format!("{{\"events\":[{exotic}{row}]}}");
            match bulk(body.as_bytes(), false) {
                Ok(told) => assert_eq!(told.last().unwrap().2.is_ok(), is_fine, "{depth} {exotic}"),
                Err(error) => {
                    assert!(!is_fine && error == BulkError::Body(DecodeError::TooDeep), "{error:?}")
                }
            }
        }
        assert_eq!(bulk(row.as_bytes(), true).unwrap()[0].2.is_ok(), is_fine);
    }
    let hostile = "{\"events\":[".repeat(50_000);
    assert_eq!(bulk(hostile.as_bytes(), false), Err(BulkError::Body(DecodeError::TooDeep)));
}

#[test]
fn twenty_mebibytes_of_brackets_cost_little_memory() {
    let body = format!("{{\"events\":[{}[]]}}", "[],".repeat(7 << 20));
    let mut decoder = Decoder::new();
    assert_eq!(decoder.bulk(body.as_bytes(), false, &mut |_, _, _| {}), Err(BulkError::TooMany));
    // The tape would have taken 16 bytes a bracket; simd-json was not asked.
    assert_eq!(decoder.many.structural_indexes().len(), 0);
}

#[test]
fn a_body_cut_anywhere_tells_no_wrong_row() {
    let rows = [row("a").to_string(), row("b").to_string()];
    let body = envelope(&rows);
    for cut in 0..body.len() {
        assert!(matches!(bulk(&body.as_bytes()[..cut], false), Err(BulkError::Body(_))), "{cut}");
    }
    let lines = rows.join("\n");
    for cut in 1..lines.len() {
        let told = bulk(&lines.as_bytes()[..cut], true).unwrap();
        let whole = told.iter().filter(|(_, _, event)| event.is_ok()).count();
        assert_eq!(whole, usize::from(cut >= rows[0].len()), "{cut}");
    }
}

proptest! {
    #[test]
    fn all_ways_of_sending_a_row_agree(
        mut text in prop::sample::select(vec![row("a").to_string(), "{\"event_id\":\"e\\u0000\"}".to_owned()])
            .prop_map(String::into_bytes),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), prop::sample::select(b"{}[]\":,\\u0-.eE tn".to_vec())
        ]), 0..4),
    ) {
        for (at, byte) in edits {
            let at = at.index(text.len());
            if byte != b'\n' {
                text[at] = byte;
            }
        }
        let alone = one(&text);
        if !text.trim_ascii().is_empty() {
            let told = bulk(&text, true).unwrap();
            prop_assert_eq!(told[0].2.is_ok(), alone.is_ok());
            if let Ok(event) = &alone {
                prop_assert_eq!(told[0].2.as_ref(), Ok(event));
            }
        }
        let body = [b"{\"events\":[", &text[..], b",7]}"].concat();
        match (serde_json::from_slice::<&serde_json::value::RawValue>(&text), bulk(&body, false)) {
            (Ok(_), Ok(told)) => {
                prop_assert_eq!(told.len(), 2);
                prop_assert_eq!(&told[0].2, &alone);
            }
            (Ok(_), Err(error)) => prop_assert_eq!(error, BulkError::Body(DecodeError::TooDeep)),
            // Not a value by itself; with what stands around it, it may be several.
            (Err(_), _) => {}
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(prop_oneof![
        1 => any::<u8>(), 6 => prop::sample::select(b"{}[]\":,\\ \nevents01".to_vec())
    ], 0..120), is_ndjson in any::<bool>()) {
        let whole = [b"{\"events\":[", &body[..]].concat();
        let _ = bulk(&body, is_ndjson);
        let _ = bulk(&whole, is_ndjson);
    }
}
