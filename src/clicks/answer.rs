//! The 202 for `POST /event`, from either lane.

use memchr::memmem;

use crate::base::ids::Receipt;
use crate::config::AckLevel;
use crate::http::{Answer, Cors, To, write_answer_after, write_common};

/// The body of every 202. A test compares it with the documented shape.
const BODY: &[u8] = br#"{"status":"accepted","message":"Event queued for processing"}"#;
const _: () = assert!(BODY.len() == 61, "the template below contains the length");

/// The bytes between the request id and the receipt's number in nearly every 202.
const PLAIN_MIDDLE: &[u8] = b"\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: application/json\r\n\
    Content-Length: 61\r\nFirehose-Ack: os\r\nFirehose-Receipt: ";

/// Writes the hot lane's 202. Takes about 40 ns, without an allocation.
#[inline]
pub fn write_accepted(out: &mut Vec<u8>, to: &To<'_>, level: AckLevel, receipt: Receipt) {
    let mut number = itoa::Buffer::new();
    let is_plain = to.keep_alive && to.minor == 1 && matches!(to.cors, Cors::Every { has_origin: false });
    if is_plain && level == AckLevel::Os {
        // Nearly every response takes this branch, which writes the same bytes in fewer pieces.
        out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\nDate: ");
        out.extend_from_slice(to.date);
        out.extend_from_slice(b"\r\nX-Request-Id: ");
        out.extend_from_slice(to.request_id);
        out.extend_from_slice(PLAIN_MIDDLE);
    } else {
        out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\n");
        write_common(out, to);
        out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: 61\r\nFirehose-Ack: ");
        out.extend_from_slice(level.word().as_bytes());
        out.extend_from_slice(b"\r\nFirehose-Receipt: ");
    }
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

/// Creates the 202 of [`write_accepted`] for the executor.
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
    use crate::base::ids::{LaneId, Sequence, ShardId};
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
        for case in 0..16u8 {
            let to = To {
                date: &[b'x'; 29],
                request_id: b"r",
                minor: u8::from(case & 1 != 0),
                keep_alive: case & 2 != 0,
                head_only: false,
                cors: Cors::Every { has_origin: case & 4 != 0 },
            };
            let level = if case & 8 != 0 { AckLevel::Disk } else { AckLevel::Os };
            let (mut hot, mut other) = (Vec::new(), Vec::new());
            write_accepted(&mut hot, &to, level, receipt);
            write_answer(&mut other, &accepted(level, receipt), &to);
            assert_eq!(lines(&hot), lines(&other), "{case}");
            assert!(lines(&hot).contains(&"Firehose-Receipt: 2-576".to_owned()));
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
