//! Both bulk forms, compared with serde_json and with each row parsed separately.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::base::limits::JSON_DEPTH_MAX;
use crate::event::Code;
use crate::event::is_deeper_than;

const ROW: &str = r#"{"event_id":"evt_001","tenant_id":"tenant_1","source":"web","event_type":"click","timestamp":"2024-01-15T10:30:00Z","payload":{"page":"/p","n":[1,-2.5e3,true,null]}}"#;
/// A row whose payload contains text that resembles a row and a boundary between rows.
const LOOK_ALIKE: &str = r#"{"event_id":"evt_002","tenant_id":"t","source":"s","event_type":"e","timestamp":"2024-01-15T10:30:00Z","payload":{"a":[{"event_id":1},{"event_id":2}],"b":"},{\"event_id\":","c":{}}}"#;
const EXOTIC: &str = r#"{"event_id":"evt_003","tenant_id":"t","source":"s","event_type":"e","timestamp":"2024-01-15T10:30:00Z","payload":{"a":1e999,"\udead":"\ud83d","a":123456789012345678901234567890}}"#;

type Verdicts<'b> = Vec<(Option<usize>, RowEvent<'b>)>;

fn bulk_with<'b>(decoder: &mut Decoder, body: &'b [u8], is_ndjson: bool) -> Result<Verdicts<'b>, BulkError> {
    let mut verdicts = Vec::new();
    let result = decoder.bulk(body, is_ndjson, &mut |index, line, event| {
        assert_eq!(index, verdicts.len());
        verdicts.push((line, event));
    });
    match &result {
        Ok(count) => assert_eq!(*count, verdicts.len()),
        Err(_) => assert!(verdicts.is_empty(), "rows of a refused body were reported"),
    }
    result.map(|_| verdicts)
}

fn bulk(body: &[u8], is_ndjson: bool) -> Result<Verdicts<'_>, BulkError> {
    bulk_with(&mut Decoder::new(), body, is_ndjson)
}

fn alone(row: &[u8]) -> RowEvent<'_> {
    Decoder::new().service_event(row)
}

fn envelope_of<T: AsRef<str>>(rows: &[T], separator: &str) -> String {
    let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
    format!("{{\"events\":[{}]}}", rows.join(separator))
}

fn body_error(body: &[u8], is_ndjson: bool) -> Code {
    bulk(body, is_ndjson).expect_err("refused").code()
}

/// Returns the expected result for a body without a content type, by serde_json. Returns `None` if serde_json cannot
/// decide: keys that are not Rust strings, nesting beyond the limit.
fn expected(body: &[u8]) -> Option<Result<Verdicts<'_>, ()>> {
    if is_deeper_than(body, JSON_DEPTH_MAX) {
        return None;
    }
    if serde_json::from_slice::<&RawValue>(body).is_ok_and(|value| value.get().starts_with('{')) {
        let members: HashMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
        if let Some(events) = members.get("events") {
            let rows = serde_json::from_str::<Vec<&RawValue>>(events.get()).unwrap_or_default();
            let rows: Verdicts<'_> = rows.iter().map(|row| (None, alone(row.get().as_bytes()))).collect();
            return Some(if rows.is_empty() { Err(()) } else { Ok(rows) });
        }
    }
    let mut lines = body
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')));
    let first = lines.clone().next()?.1;
    if !serde_json::from_slice::<&RawValue>(first).is_ok_and(|value| value.get().starts_with('{')) {
        return Some(Err(()));
    }
    Some(Ok(lines.by_ref().map(|(index, line)| (Some(index + 1), alone(line))).collect()))
}

fn assert_agrees(decoder: &mut Decoder, body: &[u8]) {
    let verdicts = bulk_with(decoder, body, false);
    if let Some(expected) = expected(body) {
        assert_eq!(verdicts.map_err(|_| ()), expected, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn both_forms_give_the_verdicts_of_each_row_by_itself() {
    let not_an_event = r#"{"event_id":1,"a":"b"}"#;
    let rows = [ROW, EXOTIC, "7", LOOK_ALIKE, "[{}]", ROW, not_an_event, "null", LOOK_ALIKE, ROW, EXOTIC];
    let rows: Vec<&str> = rows.iter().cycle().take(300).copied().collect();
    let verdicts: Vec<_> = rows.iter().map(|row| alone(row.as_bytes())).collect();
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_ok()).count(), 191);
    for separator in [",", ", ", "\n ,\r\n\t"] {
        let body = envelope_of(&rows, separator);
        let from_envelope = bulk(body.as_bytes(), false).unwrap();
        assert!(from_envelope.iter().all(|(line, _)| line.is_none()));
        assert!(from_envelope.iter().map(|(_, event)| event).eq(&verdicts), "{separator:?}");
    }
    for separator in ["\n", "\r\n", "\n\n", " \n \t\r\n"] {
        let body = rows.join(separator);
        let from_lines = bulk(body.as_bytes(), true).unwrap();
        assert!(from_lines.iter().map(|(_, event)| event).eq(&verdicts), "{separator:?}");
        assert_eq!(from_lines, bulk(body.as_bytes(), false).unwrap());
        let step = separator.matches('\n').count();
        assert!(from_lines.iter().map(|(line, _)| *line).eq((0..300).map(|row| Some(row * step + 1))));
    }
}

#[test]
fn one_bad_line_is_the_error_of_its_row_only() {
    let deep = "[".repeat(JSON_DEPTH_MAX + 1);
    let mut body = format!("\n{ROW}\n{{\"event_id\":x}}\r\n  \n{deep}\n{ROW}{ROW}\n").into_bytes();
    body.extend_from_slice(b"\"\xff\"\n");
    body.extend_from_slice(ROW.as_bytes());
    for is_ndjson in [true, false] {
        let rows = bulk(&body, is_ndjson).unwrap();
        let codes: Vec<_> = rows
            .iter()
            .map(|(line, event)| (line.unwrap(), event.as_ref().err().map(|error| error.code().as_str())))
            .collect();
        assert_eq!(
            codes,
            [
                (2, None),
                (3, Some("not_json")),
                (5, Some("too_deep")),
                (6, Some("not_json")),
                (7, Some("not_utf8")),
                (8, None)
            ]
        );
        assert_eq!(rows[1].1, Err(DecodeError::NotJson { offset: 12 }));
    }
}

#[test]
fn a_row_that_goes_over_two_lines_is_two_bad_rows() {
    for split in ["{\"a\":\n1}", "{\"a\":\"x\ny\"}", "{\"a\":1\n\"b\":2}", "[1\n2]", "{}\n,{}", "1,\n2"] {
        let body = format!("{ROW}\n{split}\n{ROW}");
        let rows = bulk(body.as_bytes(), true).unwrap();
        assert_eq!(rows.len(), 4, "{split}");
        assert!(rows[0].1.is_ok() && rows[3].1.is_ok());
        assert!(rows[1].1.is_err() && rows[2].1.is_err());
    }
}

#[test]
fn a_row_of_the_envelope_that_is_no_json_makes_the_body_none() {
    for row in
        ["x", "{", "}", "{]", "[}", "\"", "1 2", "{} {}", "tru", "{\"a\"}", "", ",", "{\"a\":1e}", "01"]
    {
        for rows in [[row, ROW, ROW], [ROW, row, ROW], [ROW, ROW, row]] {
            let body = envelope_of(&rows, ",");
            assert_eq!(body_error(body.as_bytes(), false), Code::NotJson, "{body}");
        }
    }
    let mut body = envelope_of(&[ROW; 3], ",").into_bytes();
    let at = memchr::memmem::rfind(&body, b"/p").unwrap();
    body[at] = 0xff;
    assert_eq!(body_error(&body, false), Code::NotUtf8);
}

#[test]
fn around_the_rows_only_json_is_taken() {
    for body in [
        "{\"events\":[ROW]",
        "{\"events\":[ROW}",
        "{\"events\":[ROW]]}",
        "{\"events\":[ROW]}}",
        "{\"events\":[ROW]} x",
        "{\"events\":[ROW],}",
        "{,\"events\":[ROW]}",
        "{\"events\" [ROW]}",
        "{\"events\":[ROW]\"a\":1}",
        "{\"a\":01,\"events\":[ROW]}",
        "{\"\u{1}\":1,\"events\":[ROW]}",
        "{\"a\\x\":1,\"events\":[ROW]}",
        "{\"events\":[ROW],\"a\":{]}",
        "{\"events\":[ROW],\"events\":[ROW,]}",
        "{\"events\":[ROW],\"events\":x}",
        "\u{feff}{\"events\":[ROW]}",
        "{'events':[ROW]}",
        "   ",
    ] {
        let body = body.replace("ROW", ROW);
        assert_eq!(body_error(body.as_bytes(), false), Code::NotJson, "{body}");
    }
}

#[test]
fn the_last_member_events_of_the_outermost_object_counts() {
    let rows = |body: &str| {
        let body = body.replace("ROW", ROW).replace("EXOTIC", EXOTIC);
        bulk(body.as_bytes(), false).map(|rows| rows.len()).map_err(|error| error.code().as_str())
    };
    assert_eq!(rows(r#"{"events":[ROW]}"#), Ok(1));
    assert_eq!(rows(r#" { "events" : [ ROW , EXOTIC ] } "#), Ok(2));
    assert_eq!(rows(r#"{"events":[ROW],"events":[ROW,ROW]}"#), Ok(2));
    assert_eq!(rows(r#"{"events":7,"e\u0076ents":[ROW,ROW,7],"x":1e999,"\ud800":"\ud800"}"#), Ok(3));
    assert_eq!(rows(r#"{"a":{"events":[ROW,ROW]},"b":["events"],"events":[{"events":[ROW,ROW]}]}"#), Ok(1));
    assert_eq!(rows(r#"{"events":[ROW],"events":[]}"#), Err("empty"));
    assert_eq!(rows(r#"{"events":[ROW],"events":null}"#), Err("invalid_type"));
    assert_eq!(rows(r#"{"events":[ ]}"#), Err("empty"));
    assert_eq!(rows(r#"{"events":{"0":ROW}}"#), Err("invalid_type"));
    assert_eq!(rows("{\n\"a\":{\"events\":[ROW]}\n}"), Err("missing_field"));
    assert_eq!(rows("{\n}"), Err("missing_field"));
    assert_eq!(rows("[ROW]"), Err("not_an_object"));
    assert_eq!(rows("null"), Err("not_an_object"));
    assert_eq!(rows(""), Err("empty"));
    // An object on one line without the `events` member is NDJSON.
    assert_eq!(rows("ROW"), Ok(1));
    assert_eq!(rows(r#"{"a":{"events":[ROW]}}"#), Ok(1));
    assert_eq!(rows("{\"events\":[ROW,ROW]}\n{\"events\":[]}"), Ok(2));
    for blank in ["\n", " \r\n\t\n"] {
        assert_eq!(bulk(blank.as_bytes(), true).unwrap_err().code(), Code::Empty);
    }
}

#[test]
fn five_thousand_rows_are_taken_and_one_more_is_not() {
    for row in [ROW, "7", "{}"] {
        let mut rows = vec![row; BULK_EVENTS_MAX];
        assert_eq!(bulk(envelope_of(&rows, ",").as_bytes(), false).unwrap().len(), BULK_EVENTS_MAX);
        assert_eq!(bulk((rows.join("\n") + "\n\n").as_bytes(), true).unwrap().len(), BULK_EVENTS_MAX);
        rows.push(row);
        assert_eq!(bulk(envelope_of(&rows, ",").as_bytes(), false), Err(BulkError::TooManyRows));
        assert_eq!(bulk(rows.join("\n").as_bytes(), true), Err(BulkError::TooManyRows));
    }
    // Rows of an `events` member that a later one replaces are still parsed, so they count towards the limit.
    let body = format!("{{{}\"events\":[{ROW}]}}", "\"events\":[{},{}],".repeat(BULK_EVENTS_MAX / 2));
    assert_eq!(bulk(body.as_bytes(), false), Err(BulkError::TooManyRows));
    assert_eq!(bulk(body.replacen("{},", "", 1).as_bytes(), false).unwrap().len(), 1);
}

#[test]
fn depth_is_counted_from_the_row() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let row = |depth: usize| ROW.replace("\"/p\"", &nested(depth));
    let rows =
        [ROW.to_owned(), row(JSON_DEPTH_MAX - 2), row(JSON_DEPTH_MAX - 1), nested(200), ROW.to_owned()];
    for (body, is_ndjson) in [(envelope_of(&rows, ","), false), (rows.join("\n"), true)] {
        let verdicts = bulk(body.as_bytes(), is_ndjson).unwrap();
        let codes: Vec<_> =
            verdicts.iter().map(|(_, event)| event.as_ref().err().map(DecodeError::code)).collect();
        assert_eq!(codes, [None, None, Some(Code::TooDeep), Some(Code::TooDeep), None]);
    }
    // The end of a row that is too deep and not JSON cannot be found.
    let broken = nested(200).replace("[]", "[x]");
    assert_eq!(body_error(envelope_of(&[ROW, &broken], ",").as_bytes(), false), Code::NotJson);
    let around = format!("{{\"a\":\n{},\"events\":[{ROW}]}}", nested(JSON_DEPTH_MAX));
    assert_eq!(bulk(around.as_bytes(), false), Err(BulkError::Body(DecodeError::TooDeep)));
    let around = format!("{{\"a\":{},\"events\":[{ROW}]}}", nested(JSON_DEPTH_MAX - 1));
    assert_eq!(bulk(around.as_bytes(), false).unwrap().len(), 1);
}

#[test]
fn twenty_mebibytes_of_brackets_are_refused_without_the_memory_for_them() {
    const LEN: usize = 20 * 1024 * 1024;
    let mut decoder = Decoder::new();
    for (start, unit) in [
        ("", "["),
        ("", "{"),
        ("{\"events\":[", "["),
        ("{\"events\":[", "[],"),
        ("{\"events\":[{\"payload\":", "{\"a\":"),
        ("{\"events\":[{\"payload\":[", "[],"),
        ("{\"a\":[", "{},"),
    ] {
        let body = start.to_owned() + &unit.repeat(LEN / unit.len());
        let error = bulk_with(&mut decoder, body.as_bytes(), false).unwrap_err();
        assert!(matches!(error.code(), Code::NotJson | Code::TooManyRows | Code::TooDeep), "{start}{unit}");
        // One row is invalid, or there are too many rows.
        match bulk_with(&mut decoder, body.as_bytes(), true) {
            Ok(rows) => assert!(matches!(rows[..], [(Some(1), Err(_))]), "{start}{unit}"),
            Err(error) => panic!("{error}"),
        }
        assert!(decoder.bytes_kept() < 1024, "{start}{unit}");
    }
}

#[test]
fn an_envelope_cut_anywhere_is_no_json_and_the_decoder_goes_on() {
    let body = envelope_of(&[ROW, LOOK_ALIKE, EXOTIC, ROW], ", ");
    let mut decoder = Decoder::new();
    for cut in 1..body.len() {
        let error = bulk_with(&mut decoder, &body.as_bytes()[..cut], false).unwrap_err();
        assert_eq!(error.code(), Code::NotJson, "{cut}");
        assert_eq!(bulk_with(&mut decoder, body.as_bytes(), false).unwrap().len(), 4);
    }
}

#[test]
fn lines_cut_anywhere_lose_the_last_row_only() {
    let body = [ROW, LOOK_ALIKE, EXOTIC].join("\n");
    for cut in ROW.len() + 1..body.len() {
        let rows = bulk(&body.as_bytes()[..cut], true).unwrap();
        let whole = body[..cut].matches('\n').count() + usize::from(cut == ROW.len() + 1 + LOOK_ALIKE.len());
        assert_eq!(rows.iter().filter(|(_, event)| event.is_ok()).count(), whole, "{cut}");
    }
}

#[test]
fn a_flipped_bit_anywhere_gives_serde_jsons_verdict() {
    let mut decoder = Decoder::new();
    for body in [envelope_of(&[ROW, LOOK_ALIKE, ROW], ","), [ROW, EXOTIC].join("\n")] {
        for at in 0..body.len() {
            for bit in 0..8 {
                let mut body = body.clone().into_bytes();
                body[at] ^= 1 << bit;
                assert_agrees(&mut decoder, &body);
            }
        }
    }
}

#[test]
fn no_text_of_a_body_is_in_an_error() {
    for body in [
        r#"{"events":["secret"],"secret":secret}"#,
        r#"{"events":"secret"}"#,
        r#"{"secret":["secret"]}"#,
        r#"["secret"]"#,
        "secret\nsecret",
    ] {
        match bulk(body.as_bytes(), false) {
            Err(error) => assert!(!format!("{error} {error:?}").contains("secret"), "{body}"),
            Ok(rows) => assert!(!format!("{rows:?}").contains("secret"), "{body}"),
        }
    }
}

/// Generates the text of a row: events, similar ones, unusual ones, other JSON.
fn any_row() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "[a-z0-9_]{0,12}",
        "[\\\\\"{}\\[\\]:,a\u{1f600}\u{85}]{0,8}",
        Just("a".repeat(101)),
        Just("b".repeat(201)),
    ];
    let payload = prop::sample::select(vec![
        "{}",
        "{\"a\":[{\"event_id\":1},{\"event_id\":2}]}",
        "{\"a\":1e999}",
        "{\"a\":\"},{\\\"event_id\\\":\"}",
        "{\"a\":\"\\ud83d\"}",
        "[]",
        "null",
    ]);
    let time = prop::sample::select(vec![
        "2024-01-15T10:30:00Z",
        "2024-01-15T10:30:00",
        "x",
        "2024-02-30T00:00:00Z",
    ]);
    let event = (prop::collection::vec(text, 4), payload, time, 0..12usize).prop_map(
        |(texts, payload, time, order)| {
            let mut members: Vec<String> = ["event_id", "tenant_id", "source", "event_type"]
                .iter()
                .zip(&texts)
                .map(|(name, text)| format!("\"{name}\":{}", serde_json::to_string(text).expect("a string")))
                .collect();
            members.push(format!("\"timestamp\":\"{time}\""));
            members.push(format!("\"payload\":{payload}"));
            // Half of the rows begin in the same way.
            members.rotate_left(order.saturating_sub(6));
            format!("{{{}}}", members.join(","))
        },
    );
    prop_oneof![
        8 => event,
        2 => prop::sample::select(vec![ROW, LOOK_ALIKE, EXOTIC, "{}", "[]", "7", "\"},{\"", "[{},{\"event_id\":1}]"])
            .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn a_row_gets_one_verdict_however_it_comes(
        rows in prop::collection::vec(any_row(), 1..40),
        separator in prop::sample::select(vec![",", ", ", " ,\n", ",\r\n\t"]),
        line_end in prop::sample::select(vec!["\n", "\r\n", "\n\n"]),
    ) {
        let verdicts: Vec<_> = rows.iter().map(|row| alone(row.as_bytes())).collect();
        let envelope = envelope_of(&rows, separator);
        let from_envelope = bulk(envelope.as_bytes(), false).unwrap();
        prop_assert!(from_envelope.iter().map(|(_, event)| event).eq(&verdicts));
        let lines = rows.join(line_end);
        let from_lines = bulk(lines.as_bytes(), true).unwrap();
        prop_assert!(from_lines.iter().map(|(_, event)| event).eq(&verdicts));
    }

    #[test]
    fn mutated_bodies_get_serde_jsons_verdict(
        rows in prop::collection::vec(any_row(), 0..6),
        is_envelope in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), prop::sample::select(b"{}[]\":,\\u0-.eE tn\n".to_vec())
        ]), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut body = if is_envelope { envelope_of(&rows, ",") } else { rows.join("\n") + "\n" }.into_bytes();
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
    fn arbitrary_bytes_get_serde_jsons_verdict(
        start in prop::sample::select(vec!["", "{\"events\":[", "{\"events\":[{}", "{}\n"]),
        rest in prop::collection::vec(prop_oneof![
            1 => any::<u8>(), 4 => prop::sample::select(b"{}[]\":,\\u0-1.eE \ntrue".to_vec())
        ], 0..60),
        end in prop::sample::select(vec!["", "]}", "}]}"]),
    ) {
        let body = [start.as_bytes(), &rest, end.as_bytes()].concat();
        assert_agrees(&mut Decoder::new(), &body);
        // If read as NDJSON, every body except a blank one has rows.
        let is_blank = body.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        prop_assert_eq!(bulk(&body, true).is_err(), is_blank);
    }
}
