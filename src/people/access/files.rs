//! Reads a person's lines in uploads, and the exports that contain the person.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::uploads::{Finding, UploadSearch};
use super::page::Page;
use super::reader::{FileReader, Files, Sought, WITHHELD};
use crate::base::clock;
use crate::exports::{Export, ExportHolds, PeopleInExports};
use crate::uploads::{State, Upload, UploadError, UploadId};

/// Reads the uploads that an erasure would remove, with the person's lines.
#[derive(Default)]
pub(in super::super) struct UploadReader {
    left: Option<VecDeque<UploadId>>,
    search: Option<UploadSearch>,
    /// Set if the current upload has a line of its own already.
    is_listed: bool,
}

impl FileReader for UploadReader {
    fn step(&mut self, files: &Files, sought: &Sought, page: &mut Page) -> io::Result<bool> {
        let left = match &mut self.left {
            Some(left) => left,
            none => {
                for id in files.uploads.aside()? {
                    unreadable(&id, page);
                }
                none.insert(files.uploads.all()?.into())
            }
        };
        loop {
            let Some(search) = &mut self.search else {
                let Some(id) = left.pop_front() else { return Ok(true) };
                self.is_listed = false;
                match files.uploads.load(&id) {
                    Ok(Some(upload)) if sought.people.may_be_in(&upload) => {
                        self.search = Some(UploadSearch::new(upload));
                    }
                    Ok(_) => {}
                    Err(UploadError::Unreadable(id)) => unreadable(&id, page),
                    Err(error) => return Err(io::Error::other(error.to_string())),
                }
                continue;
            };
            let mut found = Vec::new();
            let is_done = match search.step(&files.uploads, &sought.people, &mut found) {
                // The upload has ended, and its lines are in the journals or rows, which are read later.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => true,
                is_done => is_done?,
            };
            for finding in found {
                self.is_listed |= list(sought, search.upload(), &finding, self.is_listed, page);
            }
            if is_done {
                self.search = None;
            }
            if page.is_full() {
                return Ok(false);
            }
        }
    }
}

/// Writes the upload at its first finding, and each line. Returns `true` once the upload has been written.
fn list(sought: &Sought, upload: &Upload, finding: &Finding, is_listed: bool, page: &mut Page) -> bool {
    let is_shown = sought.may_show(upload.tenant.as_deref());
    if !is_listed {
        page.value("uploads", None, &upload_json(upload, finding, is_shown));
    }
    if let Finding::Line(_, number, bytes) = finding {
        let mut line = line_json(bytes);
        // A key for all tenants may have sent orders of any.
        if !is_shown && !sought.may_show(line["row"]["tenant_id"].as_str()) {
            line = json!({"withheld": WITHHELD});
        }
        line["upload"] = json!(upload.id.as_str());
        line["line"] = json!(number);
        page.value("upload_lines", None, &line);
    }
    true
}

fn upload_json(upload: &Upload, finding: &Finding, is_shown: bool) -> Value {
    let state = match upload.state {
        State::Receiving => "receiving",
        State::Finished => "finished",
        State::Failed { .. } => "failed",
        State::Expired => "expired",
    };
    let mut line = json!({
        "match": "certain",
        "upload": upload.id.as_str(),
        "state": state,
        "created_at": clock::rfc3339(upload.created_us),
    });
    match is_shown {
        true => {
            line["metadata"] = json!(upload.metadata);
            line["idempotency_key"] = json!(upload.key);
        }
        false => line["withheld"] = json!(WITHHELD),
    }
    if let Finding::Unsearchable(_, reason) = finding {
        line["match"] = json!("possible");
        line["reason"] = json!(reason);
    }
    line
}

/// Returns the line as JSON, or its text or bytes with a reason.
fn line_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Err(_) => json!({"base64": STANDARD.encode(bytes), "reason": "the line is not UTF-8"}),
        Ok(text) => match serde_json::from_str::<Value>(text) {
            Ok(row) => json!({"row": row}),
            Err(_) => json!({"text": text, "reason": "the line is not JSON"}),
        },
    }
}

fn unreadable(id: &str, page: &mut Page) {
    let reason = "the info of the upload cannot be read; it may be of any tenant";
    page.value("uploads", None, &json!({"match": "possible", "upload": id, "reason": reason}));
}

/// Reads the exports that an erasure would remove or change.
#[derive(Default)]
pub(in super::super) struct ExportReader {
    left: Option<VecDeque<Arc<Export>>>,
}

impl FileReader for ExportReader {
    fn step(&mut self, files: &Files, sought: &Sought, page: &mut Page) -> io::Result<bool> {
        let left = self.left.get_or_insert_with(|| files.exports.all().iter().cloned().collect());
        let who_is = |text: &str| sought.people.matcher.who_named(text);
        let none_kept = vec![Vec::new(); sought.shards.len()];
        let people = PeopleInExports {
            orders: &sought.orders,
            are_kept: false,
            events: sought.events.get().map_or(&[], Vec::as_slice),
            kept_events: &none_kept,
            who_is: &who_is,
            count: 1,
        };
        while let Some(export) = left.pop_front() {
            if export.tenant == sought.tenant_id() {
                list_export(&export, &files.exports.holds(&export, &people)?, page);
            }
            if page.is_full() {
                return Ok(left.is_empty());
            }
        }
        Ok(true)
    }
}

fn list_export(export: &Export, holds: &ExportHolds, page: &mut Page) {
    let (certainty, rest) = match holds {
        ExportHolds::Nothing => return,
        ExportHolds::Named(_) => {
            ("certain", json!({"reason": "its filters or its key refer to the customer"}))
        }
        ExportHolds::Rows(rows) if export.spec.rows.are_of_orders() => {
            ("certain", json!({"orders": rows.len()}))
        }
        ExportHolds::Rows(rows) => ("certain", json!({"events": rows.len()})),
        ExportHolds::MayBeAnyone => ("possible", json!({"reason": "its rows can no longer be determined"})),
    };
    let mut line = rest;
    line["match"] = json!(certainty);
    line["export"] = json!(export.id.as_str());
    line["state"] = json!(export.progress().state.name());
    line["created_at"] = json!(clock::rfc3339(export.created_us));
    line["idempotency_key"] = json!(export.key);
    line["filters"] = serde_json::to_value(&export.spec.filters).unwrap_or_default();
    page.value("exports", None, &line);
}
