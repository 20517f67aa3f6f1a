//! Lines of JSON about one person, one step at a time.

use serde_json::Value;

use crate::base::clock;
use crate::base::ids::ShardId;

/// The bytes after which a step ends.
const BYTES_MAX: usize = 256 * 1024;
/// The time after which a step ends, so that no reader delays a checkpoint for long.
const STEP_US: u64 = 50_000;

/// The lines of one step, and the number of rows by place.
#[derive(Debug)]
pub(in super::super) struct Page {
    pub(in super::super) bytes: Vec<u8>,
    pub(in super::super) rows: Vec<(&'static str, u64)>,
    until_us: u64,
}

impl Default for Page {
    fn default() -> Page {
        Page { bytes: Vec::new(), rows: Vec::new(), until_us: clock::monotonic_us() + STEP_US }
    }
}

impl Page {
    /// Returns `true` if the step must end.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BYTES_MAX || clock::monotonic_us() >= self.until_us
    }

    /// Appends one row. `object` is the text of a JSON object without line ends.
    pub(super) fn line(&mut self, place: &'static str, shard: Option<ShardId>, object: &[u8]) {
        self.bytes.extend_from_slice(b"{\"place\":\"");
        self.bytes.extend_from_slice(place.as_bytes());
        self.bytes.push(b'"');
        if let Some(shard) = shard {
            self.bytes.extend_from_slice(format!(",\"shard\":{}", shard.0).as_bytes());
        }
        let members = object.strip_prefix(b"{").unwrap_or_default();
        if members != b"}" {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(members);
        self.bytes.push(b'\n');
        self.count(place, 1);
    }

    pub(super) fn value(&mut self, place: &'static str, shard: Option<ShardId>, object: &Value) {
        self.line(place, shard, object.to_string().as_bytes());
    }

    /// Counts rows that are part of other lines.
    pub(super) fn count(&mut self, place: &'static str, rows: u64) {
        count(&mut self.rows, place, rows);
    }

    /// Appends the lines of another step.
    pub(super) fn append(&mut self, other: &Page) {
        self.bytes.extend_from_slice(&other.bytes);
        for (place, rows) in &other.rows {
            self.count(place, *rows);
        }
    }
}

/// Adds to the rows of a place.
pub(super) fn count(counts: &mut Vec<(&'static str, u64)>, place: &'static str, rows: u64) {
    match counts.iter_mut().find(|(known, _)| *known == place) {
        Some((_, count)) => *count += rows,
        None => counts.push((place, rows)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_begins_with_its_place() {
        let mut page = Page::default();
        page.value("orders", Some(ShardId(3)), &json!({"order_id": "o"}));
        page.line("wal", None, b"{}");
        page.count("items", 2);
        page.count("items", 1);
        let mut all = Page::default();
        all.append(&page);
        assert_eq!(
            String::from_utf8(all.bytes).unwrap(),
            "{\"place\":\"orders\",\"shard\":3,\"order_id\":\"o\"}\n{\"place\":\"wal\"}\n"
        );
        assert_eq!(all.rows, [("orders", 1), ("wal", 1), ("items", 3)]);
    }
}
