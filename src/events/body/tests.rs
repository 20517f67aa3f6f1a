//! The six fields: every rule, and agreement with serde_json on their content.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::base::limits::JSON_DEPTH_MAX;
use crate::event::Decoder;
use crate::event::is_deeper_than;
use crate::event::{TimeError, parse_rfc3339};

const SEED: &str = r#"{"event_id": "evt_001", "tenant_id": "tenant_1", "source": "web", "event_type": "click", "timestamp": "2024-01-15T10:30:00Z", "payload": {"page": "/p\u00e9\n", "n": [1, -2.5e3, {}]}}"#;
const SEED_TIME_US: i64 = 1_705_314_600_000_000;
const TEXTS: [(&str, usize); 4] =
    [("event_id", 200), ("tenant_id", 200), ("source", 100), ("event_type", 100)];

fn event(body: &str) -> Result<ServiceEvent<'_>, DecodeError> {
    Decoder::new().service_event(body.as_bytes())
}

/// Returns the seed with another raw value for one field. `None` omits the field.
fn with(name: &str, value: Option<&str>) -> String {
    let fields = [
        ("event_id", "\"evt_001\""),
        ("tenant_id", "\"tenant_1\""),
        ("source", "\"web\""),
        ("event_type", "\"click\""),
        ("timestamp", "\"2024-01-15T10:30:00Z\""),
        ("payload", "{}"),
    ];
    let members: Vec<String> = fields
        .iter()
        .filter_map(|&(field, own)| if field == name { value } else { Some(own) }.map(|raw| (field, raw)))
        .map(|(field, raw)| format!("\"{field}\":{raw}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn codes(body: &str) -> Vec<(&'static str, &'static str)> {
    match event(body) {
        Err(DecodeError::Fields(errors)) => errors.iter().map(|e| (e.pointer, e.code.as_str())).collect(),
        other => panic!("{other:?}: {body}"),
    }
}

#[test]
fn the_seed_event_is_read_and_borrowed() {
    let event = event(SEED).unwrap();
    let expected = ServiceEvent {
        event_id: "evt_001".into(),
        tenant_id: "tenant_1".into(),
        source: "web".into(),
        event_type: "click".into(),
        timestamp_us: SEED_TIME_US,
        payload: r#"{"page": "/p\u00e9\n", "n": [1, -2.5e3, {}]}"#,
    };
    assert_eq!(event, expected);
    let seed = SEED.as_bytes().as_ptr_range();
    for text in [&event.event_id, &event.tenant_id, &event.source, &event.event_type] {
        assert!(matches!(text, Cow::Borrowed(text) if seed.contains(&text.as_ptr())));
    }
    assert!(seed.contains(&event.payload.as_ptr()));
}

#[test]
fn a_text_has_one_byte_at_least_and_not_too_many() {
    for (name, bytes_max) in TEXTS {
        let pointer = &*format!("/{name}");
        let long = ["a".repeat(bytes_max), "\u{e9}".repeat(bytes_max / 2), r"\u0061".repeat(bytes_max)];
        for text in ["a", " ", "\u{a0}", "\u{1f600}", r"\u00e9", r"\ud83d\ude00", r#"\\\"\/"#]
            .into_iter()
            .chain(long.iter().map(String::as_str))
        {
            let body = with(name, Some(&format!("\"{text}\"")));
            let event = event(&body).unwrap();
            let [event_id, tenant_id, source, event_type] =
                [event.event_id, event.tenant_id, event.source, event.event_type];
            let read = HashMap::from([
                ("event_id", event_id),
                ("tenant_id", tenant_id),
                ("source", source),
                ("event_type", event_type),
            ]);
            assert_eq!(serde_json::from_str::<String>(&format!("\"{text}\"")).unwrap(), *read[name]);
        }
        let too_long = [
            "a".repeat(bytes_max + 1),
            "\u{e9}".repeat(bytes_max / 2) + "a",
            r"\u0061".repeat(bytes_max + 1),
            r"\u00e9".repeat(bytes_max / 2 + 1),
            "a".repeat(100_000),
        ];
        for text in &too_long {
            let body = with(name, Some(&format!("\"{text}\"")));
            assert_eq!(codes(&body), [(pointer, "too_long")], "{body}");
        }
        for (value, code) in [
            (None, "missing_field"),
            (Some("null"), "invalid_type"),
            (Some("7"), "invalid_type"),
            (Some("[\"a\"]"), "invalid_type"),
            (Some("{}"), "invalid_type"),
            (Some("\"\""), "empty"),
            (Some(r#""\u0000""#), "control_character"),
            (Some(r#""a\n""#), "control_character"),
            (Some("\"\u{7f}\""), "control_character"),
            (Some("\"\u{80}\""), "control_character"),
            (Some("\"a\u{9f}b\""), "control_character"),
            (Some(r#""\u0085""#), "control_character"),
            (Some(r#""\ud83d""#), "invalid_unicode"),
            (Some(r#""a\ude00""#), "invalid_unicode"),
            (Some(r#""\ud83d\u0061""#), "invalid_unicode"),
        ] {
            assert_eq!(codes(&with(name, value)), [(pointer, code)], "{value:?}");
        }
    }
}

#[test]
fn a_timestamp_needs_an_offset() {
    for text in ["2024-01-15T10:30:00Z", "2024-01-15t11:30:00+01:00", r"2024\u002d01-15 10:30:00.0\u005a"] {
        let body = with("timestamp", Some(&format!("\"{text}\"")));
        assert_eq!(event(&body).unwrap().timestamp_us, SEED_TIME_US, "{text}");
    }
    let pointer = "/timestamp";
    for (value, code, has_offset) in [
        (None, "missing_field", true),
        (Some("1705228200"), "invalid_type", true),
        (Some("null"), "invalid_type", true),
        (Some("\"\""), "invalid_timestamp", true),
        (Some("\"yesterday\""), "invalid_timestamp", true),
        (Some("\"2024-01-15T10:30:00\""), "invalid_timestamp", false),
        (Some("\"2024-01-15T10:30:00.123\""), "invalid_timestamp", false),
        (Some("\"2024-01-15 10:30\""), "invalid_timestamp", false),
        (Some(r#""2024\u002d01-15T10:30:00""#), "invalid_timestamp", false),
        (Some("\"2024-01-15T10:30Z\""), "invalid_timestamp", true),
        (Some("\"2024-01-15T10:30:00+0100\""), "invalid_timestamp", true),
        (Some("\"2024-01-15T10:30:00-01\""), "invalid_timestamp", true),
        (Some("\"2024-02-30T10:30:00Z\""), "invalid_timestamp", true),
        (Some("\"2024-01-15\""), "invalid_timestamp", true),
        (Some("\"9999-12-31T23:59:59Z\""), "out_of_range", true),
    ] {
        let body = with("timestamp", value);
        assert_eq!(codes(&body), [(pointer, code)], "{value:?}");
        let says_so = event(&body).unwrap_err().to_string().contains("must have an offset from UTC");
        assert_eq!(says_so, !has_offset, "{value:?}");
    }
}

#[test]
fn a_payload_is_an_object_kept_byte_for_byte() {
    for payload in [
        "{}",
        "{ }",
        "{\"a\":1e999}",
        "{\"a\":1234567890123456789012345678901234567890}",
        r#"{"\udead":"\ude00\\"}"#,
        r#"{"a":1,"a":2,"payload":{"a":3,"a":4},"event_id":[]}"#,
        "{ \"a\" :\t[ 1 ,\r\n 2 ] , \"b\" : \"} ] , \\\" { [ :\" }",
        "{\"\u{feff}\u{1f600}\u{7f}\":null}",
    ] {
        for spaces in ["", " ", "\n\t \r"] {
            let body = with("payload", Some(&format!("{spaces}{payload}{spaces}")));
            assert_eq!(event(&body).unwrap().payload, payload, "{body}");
        }
    }
    for value in ["[]", "null", "\"{}\"", "7", "1e999", "[{}]"] {
        assert_eq!(codes(&with("payload", Some(value))), [("/payload", "invalid_type")], "{value}");
    }
    assert_eq!(codes(&with("payload", None)), [("/payload", "missing_field")]);
}

#[test]
fn a_payload_has_at_most_64_kib_as_sent() {
    for value in ["a", "\u{e9}", "\\n", r"\ud83d"] {
        let mut payload = format!("{{\"a\":\"{}\"}}", value.repeat((PAYLOAD_BYTES_MAX - 8) / value.len()));
        payload.insert_str(1, &" ".repeat(PAYLOAD_BYTES_MAX - payload.len()));
        let body = with("payload", Some(&format!(" {payload} ")));
        assert_eq!(event(&body).unwrap().payload, payload);
        payload.insert(1, ' ');
        assert_eq!(codes(&with("payload", Some(&payload))), [("/payload", "too_large")]);
    }
}

#[test]
fn every_broken_field_is_reported_at_once() {
    let missing = ["/event_id", "/tenant_id", "/source", "/event_type", "/timestamp", "/payload"];
    assert_eq!(codes("{}"), missing.map(|pointer| (pointer, "missing_field")));
    assert_eq!(codes(r#"{"a":{"event_id":"x"}}"#).len(), 6);
    for body in ["[]", "7", "\"{}\"", "null", " 1e999 ", r#""\ud83d""#, "[1e999]"] {
        assert_eq!(codes(body), [("", "not_an_object")], "{body}");
    }
    for (body, code) in
        [("", "empty"), ("{", "not_json"), ("{}{}", "not_json"), (&*"[".repeat(200), "too_deep")]
    {
        let error = event(body).unwrap_err();
        assert_eq!((error.pointer(), error.code().as_str()), ("", code));
    }
    let error = event(r#"{"event_id":"","payload":[]}"#).unwrap_err();
    assert_eq!((error.pointer(), error.code()), ("/event_id", Code::Empty));
}

#[test]
fn the_last_of_two_fields_with_one_name_counts_however_it_is_spelled() {
    let body = SEED.replace("{\"event_id\"", "{\"source\":1,\"event_id\":{},\"event_id\"").replace(
        "\"payload\"",
        r#""event\u005ftype":"\u0065nd","\u0070\u0061\u0079\u006c\u006f\u0061\u0064":5,"event_type ":1,"payload""#,
    );
    let event = event(&body).unwrap();
    assert_eq!((&*event.event_id, &*event.source, &*event.event_type), ("evt_001", "web", "end"));
    assert!(event.payload.starts_with("{\"page\""));
}

#[test]
fn a_body_beyond_what_simd_json_is_given_is_read_as_well() {
    let ignored = format!("{{\"ignored\":[{}{{}}],", "{},".repeat(200_000));
    let body = SEED.replacen('{', &ignored, 1);
    assert_eq!(event(&body), event(SEED));
    let mut decoder = Decoder::new();
    let kept = decoder.bytes_kept();
    assert!(decoder.service_event(body.as_bytes()).is_ok());
    assert_eq!(decoder.bytes_kept(), kept);
}

#[test]
fn no_text_of_a_body_is_in_an_error() {
    for (name, _) in TEXTS {
        for value in
            [r#""secret\n""#, r#""secret\ud83d""#, "[\"secret\"]", &format!("\"{}\"", "secret".repeat(99))]
        {
            let body = with(name, Some(value)).replace("{}", "[\"secret\"]");
            let error = event(&body).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{body}");
        }
    }
}

/// Returns the expected result for a body, by serde_json and the rules in the contract: pointers and codes, or the
/// event. Returns `None` if serde_json cannot decide: not JSON, keys that are not strings, too deep.
fn expected(body: &[u8]) -> Option<Result<ServiceEvent<'_>, Vec<(String, &'static str)>>> {
    if is_deeper_than(body, JSON_DEPTH_MAX) {
        return None;
    }
    let value: &RawValue = serde_json::from_slice(body).ok()?;
    if !value.get().starts_with('{') {
        return Some(Err(vec![(String::new(), "not_an_object")]));
    }
    let fields: HashMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
    let mut errors = Vec::new();
    let mut fault = |name: &str, code| errors.push((format!("/{name}"), code));
    let mut texts = Vec::new();
    for (name, bytes_max) in TEXTS {
        match fields.get(name).map(|raw| raw.get()) {
            None => fault(name, "missing_field"),
            Some(raw) if !raw.starts_with('"') => fault(name, "invalid_type"),
            Some(raw) => match serde_json::from_str::<String>(raw) {
                Err(_) => fault(name, "invalid_unicode"),
                Ok(text) if text.is_empty() => fault(name, "empty"),
                Ok(text) if text.len() > bytes_max => fault(name, "too_long"),
                Ok(text) if text.chars().any(char::is_control) => fault(name, "control_character"),
                Ok(text) => texts.push(Cow::Owned(text)),
            },
        }
    }
    let mut timestamp_us = 0;
    match fields.get("timestamp").map(|raw| raw.get()) {
        None => fault("timestamp", "missing_field"),
        Some(raw) if !raw.starts_with('"') => fault("timestamp", "invalid_type"),
        Some(raw) => match serde_json::from_str::<String>(raw).map(|text| parse_rfc3339(text.as_bytes())) {
            Ok(Ok(time)) => timestamp_us = time,
            Ok(Err(TimeError::OutOfRange)) => fault("timestamp", "out_of_range"),
            _ => fault("timestamp", "invalid_timestamp"),
        },
    }
    match fields.get("payload").map(|raw| raw.get()) {
        None => fault("payload", "missing_field"),
        Some(raw) if !raw.starts_with('{') => fault("payload", "invalid_type"),
        Some(raw) if raw.len() > PAYLOAD_BYTES_MAX => fault("payload", "too_large"),
        Some(_) => {}
    }
    if !errors.is_empty() {
        return Some(Err(errors));
    }
    let [event_id, tenant_id, source, event_type] = texts.try_into().ok()?;
    let payload = fields["payload"].get();
    Some(Ok(ServiceEvent { event_id, tenant_id, source, event_type, timestamp_us, payload }))
}

fn assert_agrees(decoder: &mut Decoder, body: &[u8]) {
    let verdict = decoder.service_event(body);
    match expected(body) {
        Some(Ok(event)) => assert_eq!(verdict, Ok(event)),
        Some(Err(errors)) => {
            let Err(DecodeError::Fields(found)) = verdict else { panic!("{verdict:?}, {errors:?}") };
            let found: Vec<_> = found.iter().map(|e| (e.pointer.to_owned(), e.code.as_str())).collect();
            assert_eq!(found, errors);
        }
        None => {
            let is_json = serde_json::from_slice::<&RawValue>(body).is_ok();
            let is_refused = matches!(
                verdict,
                Err(DecodeError::NotJson { .. } | DecodeError::NotUtf8 | DecodeError::Empty)
            );
            let is_too_deep = verdict == Err(DecodeError::TooDeep);
            assert!(is_too_deep || is_refused != is_json, "{body:?}");
        }
    }
}

#[test]
fn a_body_cut_anywhere_or_with_a_flipped_bit_gets_serde_jsons_verdict() {
    let mut decoder = Decoder::new();
    for at in 0..SEED.len() {
        assert_agrees(&mut decoder, &SEED.as_bytes()[..at]);
        for bit in 0..8 {
            let mut body = SEED.as_bytes().to_vec();
            body[at] ^= 1 << bit;
            assert_agrees(&mut decoder, &body);
        }
    }
}

proptest! {
    #[test]
    fn any_texts_get_the_verdict_of_the_rules(
        texts in prop::collection::vec(prop_oneof![
            any::<String>(),
            "[a-z\u{e9}]{0,120}",
            "[ -~]{90,210}",
            "[a\u{7f}\u{80}\u{9f}\u{a0}\n]{0,4}",
        ], 4),
        is_escaped in any::<bool>(),
    ) {
        let quoted: Vec<String> = texts.iter().map(|text| {
            if is_escaped {
                format!("\"{}\"", text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>())
            } else {
                serde_json::to_string(text).expect("a string")
            }
        }).collect();
        let body = format!(
            "{{\"event_id\":{},\"tenant_id\":{},\"source\":{},\"event_type\":{},\
             \"timestamp\":\"2024-01-15T10:30:00Z\",\"payload\":{{}}}}",
            quoted[0], quoted[1], quoted[2], quoted[3],
        );
        assert_agrees(&mut Decoder::new(), body.as_bytes());
    }

    #[test]
    fn mutated_bodies_get_serde_jsons_verdict(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), prop::sample::select(b"{}[]\":,\\u0-.eE tn\n".to_vec())
        ]), 1..5),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut body = SEED.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        assert_agrees(&mut Decoder::new(), &body);
    }
}
