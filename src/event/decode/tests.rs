//! The decoder compared with serde_json, on valid bodies, mutated ones and arbitrary bytes.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::event::{Code, FieldError};

const SEED: &[u8] = br#"{"user_id": 12345, "timestamp": "2024-01-14T10:30:00Z", "metadata": {"page": "/products/42", "referrer": "https://example.com/?q=a\u00e9\n", "position": [1, -2.5e3, true, null], "nested": {"a": {}}}}"#;
const SEED_TIME_US: i64 = 1_705_228_200_000_000;

fn click(body: &[u8]) -> Result<Click<'_>, DecodeError> {
    Decoder::new().click(body)
}

fn codes(body: &[u8]) -> Vec<(&'static str, &'static str)> {
    match click(body) {
        Err(DecodeError::Fields(errors)) => errors.iter().map(|e| (e.pointer, e.code.as_str())).collect(),
        other => panic!("{other:?}"),
    }
}

/// Returns an event with a raw user id, timestamp and metadata.
fn body(user_id: &str, timestamp: &str, metadata: &str) -> Vec<u8> {
    format!("{{\"user_id\":{user_id},\"timestamp\":{timestamp},\"metadata\":{metadata}}}").into_bytes()
}

/// Returns `true` if serde_json accepts a body.
fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(body).is_ok()
}

/// The decoder must agree with serde_json, apart from the depth limit, which comes first. The fields must be those of a
/// map parsed by serde_json (if it can read the keys).
fn assert_agrees(decoder: &mut Decoder, body: &[u8]) {
    match decoder.click(body) {
        Ok(click) => {
            let fields: HashMap<String, &RawValue> = match serde_json::from_slice(body) {
                Ok(fields) => fields,
                Err(_) => {
                    assert!(is_json(body), "{body:?}");
                    return;
                }
            };
            assert_eq!(fields["user_id"].get().parse(), Ok(click.user_id));
            assert_eq!(fields["metadata"].get().as_bytes(), click.metadata);
            if let Ok(text) = serde_json::from_str::<String>(fields["timestamp"].get()) {
                assert_eq!(crate::event::parse_iso8601_lenient(text.as_bytes()), Ok(click.timestamp_us));
            }
        }
        Err(DecodeError::Fields(errors)) => {
            assert!(is_json(body), "{body:?}");
            assert!((1..=3).contains(&errors.len()));
        }
        Err(DecodeError::Empty) => assert!(body.is_empty()),
        Err(DecodeError::NotUtf8) => assert!(std::str::from_utf8(body).is_err()),
        Err(DecodeError::TooDeep) => assert!(json::is_deeper_than(body, JSON_DEPTH_MAX)),
        Err(DecodeError::NotJson { offset }) => {
            assert!(!is_json(body), "{body:?}");
            assert!(offset <= body.len());
        }
    }
}

#[test]
fn the_seed_event_is_read_and_its_metadata_borrowed() {
    let click = click(SEED).unwrap();
    assert_eq!((click.user_id, click.timestamp_us), (12345, SEED_TIME_US));
    assert!(click.metadata.starts_with(b"{\"page\"") && click.metadata.ends_with(b"{\"a\": {}}}"));
    assert!(SEED.as_ptr_range().contains(&click.metadata.as_ptr()));
}

#[test]
fn whatever_json_allows_is_kept_byte_for_byte() {
    for metadata in [
        "null",
        "true",
        "-0",
        "\"\"",
        "{}",
        "[]",
        "1e999",
        "1234567890123456789012345678901234567890",
        "0.00000000000000000000000000000000000000000000000000000000000001e-400",
        r#""\ud83d""#,
        r#"{"\udead":"\ude00\\"}"#,
        r#"{"a":1,"a":2,"a":{"a":3,"a":4}}"#,
        r#"{"user_id":1,"timestamp":2,"metadata":3}"#,
        "{ \"a\" :\t[ 1 ,\r\n 2 ] , \"b\" : \"} ] , \\\" { [ :\" }",
        "\"\u{feff}\u{1f600}\u{7f}\"",
    ] {
        for spaces in ["", " ", "\n\t \r"] {
            let text = format!(
                "{spaces}{{{spaces}\"metadata\"{spaces}:{spaces}{metadata}{spaces},\"user_id\":7{spaces},{spaces}\
                 \"timestamp\":\"2024-01-14T10:30:00Z\"{spaces}}}{spaces}"
            );
            let expected = Click { user_id: 7, timestamp_us: SEED_TIME_US, metadata: metadata.as_bytes() };
            assert_eq!(click(text.as_bytes()), Ok(expected), "{text}");
        }
    }
}

#[test]
fn both_ways_find_the_same_fields() {
    let mut decoder = Decoder::new();
    for body in [SEED, b"{}", b"[1]", b"7", b" { } ", br#"{"user_id":{},"a":[{}],"metadata":"x"}"#] {
        assert!(decoder.simd_json_accepts(body));
        let first: Option<RawFields<'_>> = fields_by_index(body, decoder.buffers.structural_indexes());
        assert_eq!(fields_by_second_look(body), Ok(first), "{body:?}");
    }
}

#[test]
fn a_user_id_is_an_integer_of_64_bits_and_nothing_else() {
    for (text, id) in [
        ("0", 0),
        ("-0", 0),
        ("-1", -1),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(click(&body(text, "\"2024-01-14T10:30:00Z\"", "1")).unwrap().user_id, id);
    }
    for (text, code) in [
        ("1.0", "invalid_type"),
        ("1e3", "invalid_type"),
        ("-0.0", "invalid_type"),
        ("1e999", "invalid_type"),
        ("\"1\"", "invalid_type"),
        ("true", "invalid_type"),
        ("null", "invalid_type"),
        ("[1]", "invalid_type"),
        ("9223372036854775808", "out_of_range"),
        ("-9223372036854775809", "out_of_range"),
        ("18446744073709551616", "out_of_range"),
        ("1234567890123456789012345678901234567890", "out_of_range"),
    ] {
        assert_eq!(codes(&body(text, "\"2024-01-14T10:30:00Z\"", "1")), [("/user_id", code)], "{text}");
    }
    for text in ["01", "+1", "-", "0x1", "1.", "NaN"] {
        let body = body(text, "\"2024-01-14T10:30:00Z\"", "1");
        assert!(matches!(click(&body), Err(DecodeError::NotJson { .. })), "{text}");
    }
}

#[test]
fn a_timestamp_is_a_string_with_a_time_in_it() {
    for (text, code) in [
        ("1705228200", "invalid_type"),
        ("null", "invalid_type"),
        ("{}", "invalid_type"),
        ("\"\"", "invalid_timestamp"),
        ("\"2024-02-30T00:00:00Z\"", "invalid_timestamp"),
        (r#""2024-01-14T10:30:00\ud83d""#, "invalid_timestamp"),
        ("\"9999-12-31T23:59:59Z\"", "out_of_range"),
    ] {
        assert_eq!(codes(&body("1", text, "1")), [("/timestamp", code)], "{text}");
    }
    let escaped = body("1", r#""\u00324-01-14T10:30:00Z""#, "1");
    assert_eq!(codes(&escaped), [("/timestamp", "invalid_timestamp")]);
    let escaped = body("1", r#""2024\u002d01-14T10:30:00\u005a""#, "1");
    assert_eq!(click(&escaped).unwrap().timestamp_us, SEED_TIME_US);
}

#[test]
fn every_broken_field_is_reported_at_once() {
    assert_eq!(
        codes(b"{}"),
        [("/user_id", "missing_field"), ("/timestamp", "missing_field"), ("/metadata", "missing_field")]
    );
    assert_eq!(
        codes(br#"{"user_id":"x","timestamp":5}"#),
        [("/user_id", "invalid_type"), ("/timestamp", "invalid_type"), ("/metadata", "missing_field")]
    );
    for body in [&b"[]"[..], b"7", b"\"{}\"", b"null", b" 1e999 ", br#""\ud83d""#, b"[1e999]"] {
        assert_eq!(codes(body), [("", "not_an_object")], "{body:?}");
    }
}

#[test]
fn an_error_reads_as_one_sentence() {
    assert_eq!(
        click(br#"{"user_id":1.0,"metadata":0}"#).unwrap_err().to_string(),
        "the JSON is not a valid event: user_id must be an integer, without quotes, fraction or exponent; \
         timestamp is required"
    );
    assert_eq!(
        click(b"[]").unwrap_err().to_string(),
        "the JSON is not a valid event: an event must be a JSON object"
    );
}

#[test]
fn the_last_of_two_fields_with_one_name_counts_however_it_is_spelled() {
    let text =
        br#"{"metadata":1,"user_id":1,"timestamp":"x","user\u005fid":2,"\u0074imestamp":"2024-01-14T10:30Z",
        "m\u0065tadata":[3],"unknown\n":{"user_id":9},"user_id ":4}"#;
    let expected = Click { user_id: 2, timestamp_us: SEED_TIME_US, metadata: b"[3]" };
    assert_eq!(click(text), Ok(expected));
}

#[test]
fn what_is_no_json_is_told_with_the_place() {
    for (body, offset) in [
        (&br#"{"user_id":x}"#[..], 11),
        (b"{\n\"a\":1,\n\"b\":x}", 13),
        (b"{} {}", 3),
        (b"{\"a\":1", 6),
        (b"\xef\xbb\xbf{}", 0),
        (b"   ", 3),
        (b"{'a':1}", 1),
    ] {
        assert_eq!(click(body), Err(DecodeError::NotJson { offset }), "{:?}", String::from_utf8_lossy(body));
    }
    assert_eq!(click(b""), Err(DecodeError::Empty));
    assert_eq!(click(b"{\"a\":\"\xff\"}"), Err(DecodeError::NotUtf8));
    assert_eq!(click(b"{\"a\":\"\xed\xa0\x80\"}"), Err(DecodeError::NotUtf8));
}

#[test]
fn nesting_beyond_the_limit_is_told_before_anything_that_follows() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let time = "\"2024-01-14T10:30:00Z\"";
    let deepest = nested(JSON_DEPTH_MAX - 1);
    assert_eq!(click(&body("1", time, &deepest)).unwrap().metadata, deepest.as_bytes());
    assert_eq!(click(&body("1", time, &nested(JSON_DEPTH_MAX))), Err(DecodeError::TooDeep));
    // The same limits apply to the second look.
    let deepest = format!("[1e999,{}]", nested(JSON_DEPTH_MAX - 2));
    assert_eq!(click(&body("1", time, &deepest)).unwrap().metadata, deepest.as_bytes());
    let too_deep = format!("[1e999,{}]", nested(JSON_DEPTH_MAX - 1));
    assert_eq!(click(&body("1", time, &too_deep)), Err(DecodeError::TooDeep));
    // Very many brackets that are never closed, some followed by garbage.
    for end in ["", "\u{0}", "x", "\"", "}"] {
        assert_eq!(click(("[".repeat(100_000) + end).as_bytes()), Err(DecodeError::TooDeep));
        assert_eq!(click(("{\"a\":".repeat(100_000) + end).as_bytes()), Err(DecodeError::TooDeep));
    }
    let mut not_utf8 = "[".repeat(200).into_bytes();
    not_utf8.push(0xff);
    assert_eq!(click(&not_utf8), Err(DecodeError::TooDeep));
}

#[test]
fn a_body_cut_anywhere_is_no_json_and_the_decoder_goes_on() {
    let mut decoder = Decoder::new();
    for cut in 1..SEED.len() {
        assert!(matches!(decoder.click(&SEED[..cut]), Err(DecodeError::NotJson { .. })), "{cut}");
        assert!(decoder.click(SEED).is_ok());
    }
}

#[test]
fn a_flipped_bit_anywhere_gives_serde_jsons_verdict() {
    let mut decoder = Decoder::new();
    for at in 0..SEED.len() {
        for bit in 0..8 {
            let mut body = SEED.to_vec();
            body[at] ^= 1 << bit;
            assert_agrees(&mut decoder, &body);
        }
    }
}

#[test]
fn a_large_body_leaves_no_large_buffers_behind() {
    let mut decoder = Decoder::new();
    let large = body("1", "\"2024-01-14T10:30:00Z\"", &format!("[{}0]", "0,".repeat(100_000)));
    assert_eq!(decoder.click(&large).unwrap().user_id, 1);
    assert!(decoder.copy.capacity() <= BODY_BYTES_KEPT);
    assert!(decoder.tape.0.capacity() <= BODY_BYTES_KEPT);
    assert!(decoder.click(SEED).is_ok());
}

#[test]
fn what_simd_json_is_given_bounds_what_it_takes() {
    let mut decoder = Decoder::new();
    let mut body = "[]".repeat(SIMD_BYTES_MAX / 2 + 1);
    assert!(!decoder.simd_json_accepts(body.as_bytes()));
    assert_eq!(decoder.bytes_kept(), 0);
    // The highest density: every byte is a bracket.
    body = format!("[{}[]]", "[],".repeat(SIMD_BYTES_MAX / 3 - 1));
    assert!(decoder.simd_json_accepts(body.as_bytes()));
    assert!((1 << 20..16 << 20).contains(&decoder.bytes_kept()), "{}", decoder.bytes_kept());
    body = "[],".repeat(SIMD_BYTES_MAX / 3);
    assert!(!decoder.simd_json_accepts(body.as_bytes()));
    assert!(decoder.bytes_kept() < 16 << 20);
}

#[test]
fn the_buffers_of_one_event_serve_the_next() {
    let mut decoder = Decoder::new();
    decoder.click(SEED).unwrap();
    let (copy, tape) = (decoder.copy.as_ptr(), decoder.tape.0.as_ptr());
    for _ in 0..100 {
        decoder.click(SEED).unwrap();
    }
    assert_eq!((copy, tape), (decoder.copy.as_ptr(), decoder.tape.0.as_ptr()));
}

#[test]
fn no_text_of_the_payload_is_in_an_error() {
    for body in [
        &br#"{"user_id":"secret","timestamp":"secret"}"#[..],
        br#"{"secret":secret}"#,
        br#"["secret"]"#,
        b"\"secret",
    ] {
        let error = click(body).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    let field = FieldError { pointer: "", code: Code::NotAnObject, detail: "an event must be a JSON object" };
    assert_eq!(click(b"[]"), Err(DecodeError::Fields(crate::event::FieldErrors::new(vec![field]))));
}

/// Generates any JSON value, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\\\\\"{}\\[\\]:, \u{1f600}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_metadata_comes_back_byte_for_byte(
        value in any_json(), user_id in any::<i64>(), pretty in any::<bool>(),
        spaces in prop::collection::vec("[ \t\r\n]{0,3}", 8), metadata_first in any::<bool>(),
    ) {
        let metadata =
            if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let mut members = [
            format!("\"user_id\"{}:{}{user_id}", spaces[0], spaces[1]),
            format!("\"timestamp\"{}:{}\"2024-01-14T10:30:00Z\"", spaces[2], spaces[3]),
            format!("\"metadata\"{}:{}{metadata}", spaces[4], spaces[5]),
        ];
        if metadata_first {
            members.rotate_right(1);
        }
        let text = format!("{}{{{}}}{}", spaces[6], members.join(&format!("{},{}", spaces[7], spaces[0])), spaces[1]);
        let expected = Click { user_id, timestamp_us: SEED_TIME_US, metadata: metadata.as_bytes() };
        prop_assert_eq!(click(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn mutated_bodies_get_serde_jsons_verdict(
        value in any_json(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), prop::sample::select(b"{}[]\":,\\u0-.eE tn\n".to_vec())
        ]), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = body("-12", "\"2024-01-14T10:30:00Z\"", &value.to_string());
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        assert_agrees(&mut Decoder::new(), &body);
    }

    #[test]
    fn arbitrary_bytes_get_serde_jsons_verdict(body in prop::collection::vec(prop_oneof![
        1 => any::<u8>(), 4 => prop::sample::select(b"{}[]\":,\\u0-1.eE \ntrue".to_vec())
    ], 0..200)) {
        assert_agrees(&mut Decoder::new(), &body);
    }
}
