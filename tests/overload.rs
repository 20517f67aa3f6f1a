//! Many clients at once, valid, hostile and vanishing: each gets only its own responses, no accepted event is lost,
//! and the process is as healthy afterwards as before.

mod edges;

use std::sync::atomic::{AtomicU64, Ordering};

use edges::{After, Client, EVENT, LANES, Lane, Server, cases, plain, post, post_chunked};

const CLIENTS: usize = 24;
const ROUNDS: usize = 120;

/// A small generator for each client (splitmix64), so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % sides as u64) as usize
    }
}

/// Returns one request of a random kind with its expected status. Its id distinguishes its response from all others.
fn request(dice: &mut Dice, id: &str) -> (Vec<u8>, u16) {
    let line = format!("X-Request-Id: {id}");
    let lines = [line.as_str()];
    match dice.roll(8) {
        0 => (post("/event?ack=disk", &lines, EVENT.as_bytes()), 202),
        1 => (post_chunked("/event", &lines, EVENT.as_bytes(), 1 + dice.roll(90)), 202),
        2 => (post("/event", &lines, b"{\"user_id\":1}"), 422),
        3 => (plain("GET", "/health", &lines), 200),
        4 => (plain("GET", "/receipts/7-7", &lines), 404),
        5 => (plain("DELETE", "/event", &lines), 405),
        _ => (post("/event", &lines, EVENT.as_bytes()), 202),
    }
}

/// Sends several requests in pieces of any size on one connection, and returns the number of accepted events.
fn talk(client: &mut Client, dice: &mut Dice, name: &str) -> u64 {
    let requests: Vec<_> = (0..1 + dice.roll(20))
        .map(|at| {
            let id = format!("{name}-{at}");
            let (bytes, status) = request(dice, &id);
            (bytes, status, id)
        })
        .collect();
    let bytes: Vec<u8> = requests.iter().flat_map(|(bytes, ..)| bytes.clone()).collect();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(1 + dice.roll(rest.len()));
        client.send(piece);
        rest = later;
    }
    let mut accepted = 0;
    for (_, status, id) in requests {
        let reply = client.reply();
        assert_eq!((reply.header("x-request-id"), reply.status), (Some(id.as_str()), status));
        accepted += u64::from(status == 202);
    }
    accepted
}

#[test]
fn valid_clients_among_hostile_ones_get_their_own_answers_and_nothing_is_lost() {
    let mut server = Server::start(&[]);
    let table = cases();
    let accepted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (server, table, accepted) = (&server, &table, &accepted);
            scope.spawn(move || {
                let mut dice = Dice(number as u64);
                let lane = LANES[number % 2];
                let mut client = server.connect(lane);
                for round in 0..ROUNDS {
                    // A third of the clients sends the invalid cases of the table, and the others must not notice.
                    if number % 3 != 0 {
                        let events = talk(&mut client, &mut dice, &format!("c{number}-{round}"));
                        accepted.fetch_add(events, Ordering::Relaxed);
                        continue;
                    }
                    let case = &table[dice.roll(table.len())];
                    let mut hostile = server.connect(lane);
                    let end = 1 + dice.roll(case.bytes.len());
                    // Sends a part of the request, or all of it and then sometimes does not wait for the response.
                    let whole = dice.roll(2) == 0;
                    let sent = hostile.try_send(if whole { &case.bytes } else { &case.bytes[..end] });
                    if whole && dice.roll(2) == 0 && (sent.is_ok() || case.after == After::Closes) {
                        let reply = hostile.try_reply(case.bytes.starts_with(b"HEAD ")).unwrap();
                        assert_eq!(reply.status, case.status, "{}", case.name);
                    }
                }
            });
        }
    });
    let health = server.health();
    let accepted = accepted.into_inner();
    assert!(accepted > 1000);
    assert!(health["total_received"].as_u64().unwrap() >= accepted, "{accepted} accepted: {health}");
    server.assert_well();
}

#[test]
fn rubbish_of_every_kind_harms_nobody() {
    let mut server = Server::start(&["--head-timeout", "2s", "--body-timeout", "2s"]);
    let table = cases();
    let mut dice = Dice(7);
    for round in 0..1500 {
        let case = &table[dice.roll(table.len())];
        let mut bytes = case.bytes[..case.bytes.len().min(4096)].to_vec();
        for _ in 0..1 + dice.roll(4) {
            let at = dice.roll(bytes.len());
            match dice.roll(4) {
                0 => bytes[at] = dice.roll(256) as u8,
                1 => bytes.insert(at, b"\r\n :;,\0\xff"[dice.roll(8)]),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
            if bytes.is_empty() {
                bytes.push(b'\n');
            }
        }
        let mut client = server.connect(LANES[round % 2]);
        // Such bytes are answered or not, and the connection ends.
        let _ = client.try_send(&bytes);
        let _ = client.socket.shutdown(std::net::Shutdown::Write);
        let to_head = bytes.starts_with(b"HEAD");
        while let Ok(reply) = client.try_reply(to_head) {
            assert!(reply.status < 500 || [501, 505].contains(&reply.status), "{reply:?}");
            if to_head {
                break;
            }
        }
    }
    server.assert_well();
    assert_eq!(server.connect(Lane::Hot).ask(&plain("GET", "/ready", &[])).status, 200);
}
