//! JSON that `jsonb` cannot hold arrives as text, and questions over the table work.

use firehose::ship::rows::*;

use super::rows::*;
use crate::postgres::Postgres;

#[test]
fn sink_json_that_jsonb_refuses_arrives_as_text_and_questions_work() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(127), "]".repeat(127));
    let deeper = format!(r#"{{"x":{}{}}}"#, "[".repeat(600), "]".repeat(600));
    let long = format!(r#"{{"x":{}}}"#, "9".repeat(131_072));
    let longer = format!(r#"{{"x":{}}}"#, "9".repeat(131_073));
    let fine = format!(r#"{{"x":0.{}}}"#, "9".repeat(16_383));
    let finer = format!(r#"{{"x":0.{}}}"#, "9".repeat(16_384));
    let (held, raw): (&[&str], &[&str]) = (
        &[
            r#"{"x":1e400}"#,
            r#"{"x":1e-400}"#,
            r#"{"x":1e131071}"#,
            r#"{"x":1e-16383}"#,
            r#"{"x":"\\u0000"}"#,
            r#"{"x":"\ud83d\ude00"}"#,
            r#"{"x":1,"y":2,"x":3}"#,
            r#"{"x":-0.0,"é":"\u00e9\n"}"#,
            &deep,
            &long,
            &fine,
        ],
        &[
            r#"{"x":"\u0000"}"#,
            r#"{"\u0000":1}"#,
            r#"{"x":"\ud800"}"#,
            r#"{"x":"\udc00\ud800"}"#,
            r#"{"x":1e200000}"#,
            r#"{"x":-1e200000}"#,
            r#"{"x":1e-200000}"#,
            r#"{"x":1e131073}"#,
            &deeper,
            &longer,
            &finer,
            // No JSON at all: the server refuses it, and the text arrives nevertheless.
            "{x",
        ],
    );
    let texts: Vec<&str> = held.iter().chain(raw).copied().collect();
    let events = texts.iter().zip(1..).map(|(text, id)| event_of("acme", id, &format!("e-{id}"), text));
    let clicks =
        texts.iter().zip(1..).map(|(text, id)| ClickRow { metadata: (*text).to_owned(), ..click(id) });
    let all = texts.len() as u64;
    assert_eq!(shipper.write(Rows::Events(events.collect())), written(all, 0, 0));
    assert_eq!(shipper.write(Rows::Clicks(clicks.collect())), written(all, 0, 0));
    let (first, rest) = (held.len(), raw.len());
    for (table, json) in [("events", "payload"), ("clicks", "metadata")] {
        assert_eq!(
            postgres.ask(&format!(
                "SELECT count({json}), count({json}_raw), min(id) FILTER (WHERE {json} IS NULL), \
                   count(*) FILTER (WHERE {json}->>'x' IS NOT NULL) FROM fh.{table}"
            )),
            format!("{first}|{rest}|{}|{first}", first + 1)
        );
        let text = raw[0];
        assert_eq!(
            postgres.ask(&format!("SELECT count(*) FROM fh.{table} WHERE {json}_raw = '{text}'")),
            "1"
        );
    }
    assert_eq!(postgres.ask("SELECT payload->>'x' FROM fh.events WHERE id = 7"), "3");
    assert_eq!(postgres.ask("SELECT length(payload->>'x') FROM fh.events WHERE id = 1"), "401");
}
