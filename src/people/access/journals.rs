//! Reads a person's records in the journals, and the quarantined segments that may contain the person.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use serde_json::json;

use super::super::rows::{EventRefers, answer_refers};
use super::page::Page;
use super::reader::{FileReader, Files, ShardFiles, Sought, failed};
use super::record::{PersonalRecord, record_json};
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::journal::{Scan, has_section, quarantined};
use crate::shard::ShardFolder;

/// One lane that is still to be read.
struct LaneFolder {
    shard: ShardId,
    lane: LaneId,
    dir: PathBuf,
    /// The last record that the shard has stored.
    stored: Sequence,
}

/// Returns the lanes of all shards.
fn lanes(sought: &Sought) -> io::Result<VecDeque<LaneFolder>> {
    let mut found = VecDeque::new();
    for ShardFiles { shard, folder, positions } in &sought.shards {
        let folder = ShardFolder::new(folder.clone());
        for lane in folder.lanes()? {
            let stored = positions.iter().find(|(known, _)| *known == lane).map(|(_, position)| *position);
            let dir = folder.lane(lane);
            found.push_back(LaneFolder {
                shard: *shard,
                lane,
                dir,
                stored: stored.unwrap_or(Sequence::NONE),
            });
        }
    }
    Ok(found)
}

/// Reads the records of the person in all journals, also those that are stored as rows already: their copies remain
/// until the segment is released.
#[derive(Default)]
pub(in super::super) struct JournalReader {
    lanes: Option<VecDeque<LaneFolder>>,
    scan: Option<(LaneFolder, Scan)>,
}

impl FileReader for JournalReader {
    fn step(&mut self, _files: &Files, sought: &Sought, page: &mut Page) -> io::Result<bool> {
        let lanes = match &mut self.lanes {
            Some(lanes) => lanes,
            none => none.insert(lanes(sought)?),
        };
        loop {
            let Some((folder, scan)) = &mut self.scan else {
                let Some(folder) = lanes.pop_front() else { return Ok(true) };
                // Hot lanes contain clicks, which belong to no customer.
                if !folder.lane.is_hot() {
                    let scan = Scan::open(&folder.dir).map_err(failed)?;
                    self.scan = Some((folder, scan));
                }
                continue;
            };
            let Some(batch) = scan.read().map_err(failed)? else {
                self.scan = None;
                continue;
            };
            for record in batch.records() {
                let Some(certainty) = refers(sought, record.kind, record.payload) else { continue };
                let mut line = record_json(sought, record.kind, record.payload, "");
                line["match"] = json!(certainty);
                line["lane"] = json!(folder.lane.folder());
                line["sequence"] = json!(record.sequence.0);
                line["stored"] = json!(record.sequence <= folder.stored);
                page.value("journals", Some(folder.shard), &line);
            }
            if page.is_full() {
                return Ok(false);
            }
        }
    }
}

/// Returns whether a record refers to the person for certain or possibly, as the erasure of its row decides it.
fn refers(sought: &Sought, kind: u8, payload: &[u8]) -> Option<&'static str> {
    let matcher = &sought.people.matcher;
    let (is_it, certainty) = match PersonalRecord::decode(kind, payload)? {
        PersonalRecord::Order(order) => {
            let is_theirs =
                order.tenant_id == sought.tenant_id() && order.customer_id == sought.customer_id();
            (is_theirs, "certain")
        }
        PersonalRecord::Event(event) => {
            let names = [event.event_id, event.source, event.event_type];
            let is_in = || !EventRefers::find(names, event.payload.as_bytes(), matcher).who.is_empty();
            (event.tenant_id == sought.tenant_id() && is_in(), "certain")
        }
        PersonalRecord::Ingest(ingest) => {
            let is_in = || answer_refers(ingest.key, ingest.response, matcher).is_some();
            ([sought.tenant_id(), "*"].contains(&ingest.scope) && is_in(), "possible")
        }
        PersonalRecord::Undecodable => (!matcher.who_may(payload).is_empty(), "possible"),
    };
    is_it.then_some(certainty)
}

/// Reads the names of the quarantined segments that may contain the person. Their bytes are damaged and contain others
/// too, so they are not returned.
#[derive(Default)]
pub(in super::super) struct QuarantineReader {
    files: Option<VecDeque<(ShardId, LaneId, PathBuf)>>,
}

impl FileReader for QuarantineReader {
    fn step(&mut self, _files: &Files, sought: &Sought, page: &mut Page) -> io::Result<bool> {
        let left = match &mut self.files {
            Some(files) => files,
            none => {
                let mut found = VecDeque::new();
                for folder in lanes(sought)? {
                    let paths = quarantined(&folder.dir).map_err(failed)?;
                    found.extend(paths.into_iter().map(|path| (folder.shard, folder.lane, path)));
                }
                none.insert(found)
            }
        };
        while let Some((shard, lane, path)) = left.pop_front() {
            let may_be_in = &mut |section: &[u8]| !sought.people.matcher.who_may(section).is_empty();
            if has_section(&path, may_be_in).map_err(failed)? {
                let line = json!({
                    "match": "possible",
                    "lane": lane.folder(),
                    "segment": path.file_name().map(|name| name.to_string_lossy()),
                    "bytes": std::fs::metadata(&path)?.len(),
                    "reason": "the segment is damaged, and its bytes contain the id or an address of the customer",
                });
                page.value("quarantined_segments", Some(shard), &line);
            }
            if page.is_full() {
                return Ok(left.is_empty());
            }
        }
        Ok(true)
    }
}
