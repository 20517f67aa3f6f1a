//! The 202 for `POST /event`, from either lane.

use memchr::memmem;

use crate::base::ids::{Receipt, ShardId};
use crate::config::AckLevel;
use crate::http::{Answer, Cors, REQUEST_ID_BYTES, To, write_answer_after, write_common};

/// The body of every 202. A test compares it with the documented shape.
const BODY: &[u8] = br#"{"status":"accepted","message":"Event queued for processing"}"#;
const _: () = assert!(BODY.len() == 61, "the templates below contain the length");

/// The bytes of nearly every 202: up to the request id, from there to the receipt, and after the receipt.
const PLAIN_START: &[u8] = b"HTTP/1.1 202 Accepted\r\nDate: ";
const PLAIN_ID: &[u8] = b"\r\nX-Request-Id: ";
const PLAIN_MIDDLE: &[u8] = b"\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: application/json\r\n\
    Content-Length: 61\r\nFirehose-Ack: os\r\nFirehose-Receipt: ";
const PLAIN_END: &[u8; 65] = &{
    let mut end = [0; 65];
    let (head_end, body) = end.split_at_mut(4);
    head_end.copy_from_slice(b"\r\n\r\n");
    body.copy_from_slice(BODY);
    end
};

/// Writes the hot lane's 202s. Nearly all of them differ only in the request id and the number of the receipt, so it
/// keeps the bytes of one.
#[derive(Debug, Default)]
pub struct AcceptedWriter {
    date: [u8; 29],
    /// The shard in `start`. `None` if `start` has another date.
    shard: Option<ShardId>,
    /// The response up to the number of its receipt.
    start: Vec<u8>,
}

impl AcceptedWriter {
    /// Sets the date of the next responses.
    pub fn set_date(&mut self, date: &[u8; 29]) {
        if self.date != *date {
            self.date = *date;
            self.shard = None;
        }
    }

    /// Writes one 202 with the date that was set. Takes about 20 ns, without an allocation.
    #[inline]
    pub fn write(&mut self, out: &mut Vec<u8>, to: &To<'_>, level: AckLevel, receipt: Receipt) {
        debug_assert_eq!(*to.date, self.date, "the date was not set");
        let is_plain = to.keep_alive && to.minor == 1 && matches!(to.cors, Cors::Every { has_origin: false });
        let Ok(id) = <&[u8; REQUEST_ID_BYTES]>::try_from(to.request_id) else {
            return write_accepted(out, to, level, receipt);
        };
        if !is_plain || level != AckLevel::Os {
            return write_accepted(out, to, level, receipt);
        }
        if self.shard != Some(receipt.shard) {
            self.begin(receipt.shard);
        }
        let id_at = out.len() + PLAIN_START.len() + self.date.len() + PLAIN_ID.len();
        out.extend_from_slice(&self.start);
        out[id_at..id_at + id.len()].copy_from_slice(id);
        out.extend_from_slice(itoa::Buffer::new().format(receipt.number()).as_bytes());
        out.extend_from_slice(PLAIN_END);
    }

    #[cold]
    fn begin(&mut self, shard: ShardId) {
        self.shard = Some(shard);
        self.start.clear();
        for part in [PLAIN_START, &self.date, PLAIN_ID, &[b'0'; REQUEST_ID_BYTES], PLAIN_MIDDLE] {
            self.start.extend_from_slice(part);
        }
        self.start.extend_from_slice(itoa::Buffer::new().format(shard.0).as_bytes());
        self.start.push(b'-');
    }
}

/// Writes any 202 of the hot lane.
fn write_accepted(out: &mut Vec<u8>, to: &To<'_>, level: AckLevel, receipt: Receipt) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\n");
    write_common(out, to);
    out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: 61\r\nFirehose-Ack: ");
    out.extend_from_slice(level.word().as_bytes());
    out.extend_from_slice(b"\r\nFirehose-Receipt: ");
    out.extend_from_slice(number.format(receipt.shard.0).as_bytes());
    out.push(b'-');
    out.extend_from_slice(number.format(receipt.number()).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(BODY);
}

/// Replaces every 202 with `Firehose-Ack: disk` in the rendered responses by the result of `refuse` for its request
/// id. Returns the new responses. No other response has the same lines, because client text never appears together
/// with a line end.
#[must_use]
pub fn retract(rendered: &[u8], mut refuse: impl FnMut(&str) -> Answer) -> Vec<u8> {
    const FIRST: &[u8] = b"HTTP/1.1 202 Accepted\r\n";
    const OWN: &[u8] = b"Content-Type: application/json\r\nContent-Length: 61\r\nFirehose-Ack: disk\r\n";
    let mut out = Vec::with_capacity(rendered.len() * 2);
    let mut rest = rendered;
    while let Some(start) = memmem::find(rest, FIRST) {
        let lines = &rest[start + FIRST.len()..];
        let end = memmem::find(lines, b"\r\n\r\n").unwrap_or(lines.len());
        match memmem::find(&lines[..end], OWN) {
            Some(own) => {
                out.extend_from_slice(&rest[..start]);
                let id = lines[..own]
                    .split(|byte| *byte == b'\n')
                    .find_map(|line| line.strip_prefix(b"X-Request-Id: "));
                let id = String::from_utf8_lossy(id.unwrap_or_default().trim_ascii());
                write_answer_after(&mut out, &refuse(&id), &lines[..own]);
                rest = lines.get(end + 4 + BODY.len()..).unwrap_or_default();
            }
            None => {
                let (kept, later) = rest.split_at(start + FIRST.len());
                out.extend_from_slice(kept);
                rest = later;
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Creates the 202 of [`AcceptedWriter`] for the executor.
#[must_use]
pub(super) fn accepted(level: AckLevel, receipt: Receipt) -> Answer {
    Answer::new(202, "application/json", BODY)
        .with("Firehose-Ack", level.word())
        .with("Firehose-Receipt", receipt.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::shapes::ACCEPTED;
    use super::*;
    use crate::base::ids::{LaneId, Sequence};
    use crate::http::write_answer;

    #[test]
    fn both_lanes_say_the_same_and_it_is_what_the_document_says() {
        assert_eq!(BODY, serde_json::to_vec(&ACCEPTED).unwrap());
        let receipt = Receipt { shard: ShardId(2), lane: LaneId::hot(0), sequence: Sequence(9) };
        let lines = |bytes: &[u8]| {
            let mut lines: Vec<_> =
                String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let mut writer = AcceptedWriter::default();
        for case in 0..128u8 {
            let to = To {
                date: if case & 32 != 0 { &[b'x'; 29] } else { &[b'y'; 29] },
                request_id: if case & 16 != 0 { b"0123456789abcdef" } else { b"r" },
                minor: u8::from(case & 1 != 0),
                keep_alive: case & 2 != 0,
                head_only: false,
                cors: Cors::Every { has_origin: case & 4 != 0 },
            };
            let level = if case & 8 != 0 { AckLevel::Disk } else { AckLevel::Os };
            let receipt = Receipt { shard: ShardId(if case & 64 != 0 { 2 } else { 31 }), ..receipt };
            let (mut hot, mut other) = (Vec::new(), Vec::new());
            writer.set_date(to.date);
            writer.write(&mut hot, &to, level, receipt);
            write_answer(&mut other, &accepted(level, receipt), &to);
            assert_eq!(lines(&hot), lines(&other), "{case}");
            assert!(lines(&hot).contains(&format!("Firehose-Receipt: {}-576", receipt.shard.0)));
            let mut any = Vec::new();
            write_accepted(&mut any, &to, level, receipt);
            assert_eq!(String::from_utf8(hot), String::from_utf8(any), "{case}");
        }
    }

    #[test]
    fn a_promise_of_the_disk_is_taken_back_and_no_other_answer() {
        let receipt = Receipt { shard: ShardId(2), lane: LaneId::hot(0), sequence: Sequence(9) };
        let (mut rendered, mut expected) = (Vec::new(), Vec::new());
        for case in 0..32u8 {
            let id = format!("r{case}");
            let to = To {
                date: &[b'x'; 29],
                request_id: id.as_bytes(),
                minor: u8::from(case & 1 != 0),
                keep_alive: case & 2 != 0,
                head_only: false,
                cors: Cors::Every { has_origin: case & 4 != 0 },
            };
            let of_level = |out: &mut Vec<u8>, level| write_accepted(out, &to, level, receipt);
            let refused = Answer::new(503, "application/problem+json", id.clone().into_bytes());
            match case >> 3 {
                0 => of_level(&mut rendered, AckLevel::Os),
                1 => write_answer(&mut rendered, &Answer::new(204, "", &b""[..]), &to),
                2 => write_answer(
                    &mut rendered,
                    &Answer::new(200, "a/b", &b"x"[..]),
                    &To { head_only: true, ..to },
                ),
                _ => of_level(&mut rendered, AckLevel::Disk),
            }
            match case >> 3 {
                0 => of_level(&mut expected, AckLevel::Os),
                1 => write_answer(&mut expected, &Answer::new(204, "", &b""[..]), &to),
                2 => write_answer(
                    &mut expected,
                    &Answer::new(200, "a/b", &b"x"[..]),
                    &To { head_only: true, ..to },
                ),
                _ => write_answer(&mut expected, &refused, &to),
            }
        }
        let made =
            retract(&rendered, |id| Answer::new(503, "application/problem+json", id.to_owned().into_bytes()));
        assert_eq!(String::from_utf8_lossy(&made), String::from_utf8_lossy(&expected));
        assert_eq!(retract(b"", |_| Answer::default()), b"");
    }
}
