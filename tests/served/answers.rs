//! Recorded responses: one file for each, with the status and the headers before the body, and without values that
//! the clock or a translator may change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::requests::Request;
use crate::support::{Answer, Server};

/// Headers that are part of a recorded response. The others belong to the connection or the clock, or are random.
const HEADERS: [&str; 15] = [
    "accept-ranges",
    "allow",
    "content-disposition",
    "content-range",
    "content-type",
    "etag",
    "firehose-ack",
    "idempotent-replayed",
    "link",
    "location",
    "repr-digest",
    "tus-resumable",
    "upload-length",
    "upload-metadata",
    "upload-offset",
];

/// Members whose values are left out: texts for people, the request's id, the moment and the duration of the
/// response, and cursors, which are sealed with a number that is used once.
const LEFT_OUT: [&str; 6] = ["title", "detail", "instance", "as_of", "elapsed_ms", "next_cursor"];

/// The recorded text of each response, by name.
#[derive(Default)]
pub(super) struct Answers {
    texts: BTreeMap<String, String>,
    /// The cursors as received, for the requests that follow them.
    cursors: BTreeMap<String, String>,
}

/// Returns the text of a JSON body without the values of these members. Every other byte is unchanged.
fn without_values(body: &str, names: &[&str]) -> String {
    let mut kept = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('"') {
        let (before, from) = rest.split_at(at);
        let end = string_length(from);
        let is_left_out = from[end..].starts_with(':') && names.contains(&&from[1..end - 1]);
        kept.push_str(before);
        kept.push_str(&from[..end]);
        rest = &from[end..];
        if is_left_out {
            kept.push_str(":*");
            let value = &rest[1..];
            let length = match value.as_bytes().first() {
                Some(b'"') => string_length(value),
                _ => value.find([',', '}', ']', '\n']).unwrap_or(value.len()),
            };
            rest = &value[length..];
        }
    }
    kept + rest
}

/// Returns the length of the string with which a text begins.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, next) in text.char_indices().skip(1) {
        match next {
            '"' if !escaped => return at + 1,
            _ => escaped = next == '\\' && !escaped,
        }
    }
    text.len()
}

/// Returns the value of `next_cursor`, wherever it occurs.
fn cursor_of(body: &str) -> Option<String> {
    let (_, rest) = body.split_once("\"next_cursor\":\"")?;
    rest.split('"').next().map(str::to_owned)
}

fn text_of(answer: &Answer, left_out: &[&str]) -> String {
    let mut text = format!("{}\n", answer.status);
    for name in HEADERS {
        if let Some(value) = answer.header(name) {
            let _ = writeln!(text, "{name}: {value}");
        }
    }
    text.push('\n');
    match std::str::from_utf8(&answer.body) {
        Ok(body) => text.push_str(&without_values(body, &[&LEFT_OUT, left_out].concat())),
        Err(_) => {
            let digest = Sha256::digest(&answer.body);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(text, "{} bytes, sha-256 {digest}", answer.body.len());
        }
    }
    text
}

impl Answers {
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn note(&mut self, name: &str, text: &str) {
        assert!(self.texts.insert(name.to_owned(), text.to_owned()).is_none(), "{name} is taken");
    }

    /// Sends the requests one after the other. The request for a next page uses the known cursor, if there is one. An
    /// earlier program issued it.
    pub(super) fn ask_all(&mut self, server: &Server, requests: &[Request], known: Option<&Answers>) {
        for request in requests {
            let answer = request.send(server);
            self.note(&request.name, &text_of(&answer, &request.left_out));
            if !request.is_paged {
                continue;
            }
            let body = String::from_utf8_lossy(&answer.body);
            let cursor = cursor_of(&body).unwrap_or_else(|| panic!("{} has no cursor: {body}", request.name));
            let known = known.map(|known| known.cursors[&request.name].clone());
            let next = request.after(&known.unwrap_or_else(|| cursor.clone()));
            self.cursors.insert(request.name.clone(), cursor);
            self.note(&next.name, &text_of(&next.send(server), &next.left_out));
        }
    }

    /// Returns the differences between these answers and `now`, by name.
    pub(super) fn differences(&self, now: &Answers) -> Vec<String> {
        let names = self.texts.keys().chain(now.texts.keys().filter(|name| !self.texts.contains_key(*name)));
        names
            .filter_map(|name| match (self.texts.get(name), now.texts.get(name)) {
                (Some(then), Some(now)) if then == now => None,
                (Some(then), Some(now)) => Some(format!("── {name}, then:\n{then}\n── now:\n{now}")),
                _ => Some(format!("── {name} was asked then or now, not both times")),
            })
            .collect()
    }

    pub(super) fn write(&self, folder: &Path) {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).expect("the folder is made");
        for (name, text) in &self.texts {
            fs::write(folder.join(format!("{name}.txt")), text).expect("it is written");
        }
        let cursors = serde_json::to_string_pretty(&self.cursors).expect("JSON");
        fs::write(folder.join("cursors.json"), cursors + "\n").expect("it is written");
    }

    pub(super) fn read(folder: &Path) -> Answers {
        let mut answers = Answers::default();
        for entry in fs::read_dir(folder).expect("the fixture is there") {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).expect("text");
            if path.ends_with("cursors.json") {
                answers.cursors = serde_json::from_str(&text).expect("JSON");
            } else {
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                answers.note(&name, &text);
            }
        }
        answers
    }
}

#[test]
fn what_may_differ_is_left_out_and_nothing_else() {
    let body = r#"{"title":"a \" b","n":{"detail":null,"xdetail":"x","as_of":"y"},"l":["title","detail"],"elapsed_ms":1.5}"#;
    let kept =
        r#"{"title":*,"n":{"detail":*,"xdetail":"x","as_of":*},"l":["title","detail"],"elapsed_ms":*}"#;
    assert_eq!(without_values(body, &LEFT_OUT), kept);
    let line = "{\"_end\":true,\"next_cursor\":\"abc\"}\n{\"x\":1}";
    assert_eq!(without_values(line, &LEFT_OUT), "{\"_end\":true,\"next_cursor\":*}\n{\"x\":1}");
    assert_eq!(cursor_of(line).as_deref(), Some("abc"));
    assert_eq!(cursor_of("{\"next_cursor\":null}"), None);
}
