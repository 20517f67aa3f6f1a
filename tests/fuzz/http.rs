//! The HTTP state machine compared with itself and with the gate.
//!
//! The first byte is the number of cuts, and the next two bytes of each cut are its position. The rest is what a peer
//! sends. However this input is cut, the same requests result. The gate passes exactly the bytes that the connection
//! consumes. Both refuse the same input for the same reason, whichever head the connection knows.

use firehose::http::{Connection, Gate, KnownHead, Next, Passed, Refusal, Wanted};

/// So large that only the gate's own rules decide, because the gate has no limit for a body.
const BODY_BYTES_MAX: usize = usize::MAX >> 1;

/// The requests that a connection reads from its bytes, and its state afterwards.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// For each request, a text of everything that decides the response, and the body.
    requests: Vec<(String, Vec<u8>)>,
    refusal: Option<Refusal>,
    in_body: bool,
}

/// Feeds `input` to a connection in pieces that end at `cuts`.
fn through_connection(known: &mut KnownHead, input: &[u8], cuts: &[usize]) -> Seen {
    let (mut connection, mut seen) = (Connection::default(), Seen::default());
    let (mut buffer, mut filled, mut start) = (vec![0; input.len()], 0, 0);
    for &end in cuts {
        buffer[filled..filled + end - start].copy_from_slice(&input[start..end]);
        filled += end - start;
        start = end;
        while filled > 0 {
            let here = Wanted::Here { body_bytes_max: BODY_BYTES_MAX };
            let drop = match connection.next(known, &mut buffer, &mut filled, |_| here) {
                Next::More { .. } => break,
                Next::Skip(bytes) => bytes,
                Next::Request { head, body, consumed } => {
                    let words =
                        format!("{:?} {} {:?} {:?}", head.method, head.path, head.query, head.request_id);
                    seen.requests.push((words, body.to_vec()));
                    consumed
                }
                Next::HandOver => unreachable!("everything is wanted here"),
                Next::Refused(refusal) => {
                    seen.refusal = Some(refusal);
                    return seen;
                }
            };
            assert!(drop > 0 && drop <= filled);
            buffer.copy_within(drop..filled, 0);
            filled -= drop;
        }
    }
    seen.in_body = connection.in_body();
    seen
}

/// Feeds the same pieces to the gate. Returns the number of bytes that passed, the refusal, and whether the gate is
/// in a body.
fn through_gate(input: &[u8], cuts: &[usize]) -> (usize, Option<Refusal>, bool) {
    let (mut gate, mut passed) = (Gate::default(), 0);
    for &end in cuts {
        loop {
            match gate.pass(&input[passed..end]) {
                Passed::Bytes(count) => {
                    assert!(count > 0 && passed + count <= end);
                    passed += count;
                }
                Passed::Nothing => break,
                Passed::Refused(refusal) => return (passed, Some(refusal), gate.in_body()),
            }
        }
    }
    (passed, None, gate.in_body())
}

pub(crate) fn check(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let count = usize::from(count % 32);
    if rest.len() < count * 2 {
        return;
    }
    let (places, input) = rest.split_at(count * 2);
    let mut cuts: Vec<usize> = places
        .chunks(2)
        .map(|place| usize::from(u16::from_le_bytes([place[0], place[1]])) % (input.len() + 1))
        .collect();
    cuts.push(input.len());
    cuts.sort_unstable();

    // The heads that one reading knows are those of the readings before.
    let mut known = KnownHead::default();
    let whole = through_connection(&mut KnownHead::default(), input, &[input.len()]);
    assert_eq!(whole, through_connection(&mut known, input, &cuts));
    assert_eq!(whole, through_connection(&mut known, input, &cuts));
    let (passed, refusal, in_body) = through_gate(input, &[input.len()]);
    let (passed_cut, refusal_cut, _) = through_gate(input, &cuts);
    assert_eq!((refusal, whole.refusal), (refusal_cut, refusal));
    if refusal.is_none() {
        assert_eq!((passed, in_body), (passed_cut, whole.in_body));
    }
    // The connection reads the bytes that passed as the same requests, with nothing of a further one.
    let again = through_connection(&mut known, &input[..passed], &[passed]);
    assert_eq!(again.requests, whole.requests);
    assert_eq!(again.refusal, None);
}
