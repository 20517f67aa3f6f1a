//! The cost of connections on both lanes: time limits, memory budgets, many short connections, and peers that leave.

mod edges;

use std::io::{ErrorKind, Write as _};

use socket2::{Domain, Socket, Type};

use edges::{EVENT, LANES, Lane, Server, eventually, is_end, plain, post};

/// Sends `first`, then bytes of `rest` one at a time until the server ends the connection. Returns the status of its
/// last response.
fn drip(server: &Server, lane: Lane, first: &[u8], rest: u8) -> Option<u16> {
    let mut client = server.connect(lane);
    client.send(first);
    eventually("a dripping peer is cut off", || {
        if client.try_send(&[rest]).is_err() || client.has_input() {
            return Some(());
        }
        None
    });
    let reply = client.try_reply(false);
    if let Ok(reply) = &reply {
        assert!(reply.says_close());
        assert_eq!(reply.slug(), "request-timeout");
    }
    reply.ok().map(|reply| reply.status)
}

#[test]
fn slow_heads_and_bodies_get_408_however_they_drip() {
    let mut server = Server::start(&["--head-timeout", "300ms", "--body-timeout", "300ms"]);
    for lane in LANES {
        let status = drip(&server, lane, b"GET /health HTTP/1.1\r\nHost: t\r\nA: ", b'a');
        assert_eq!(status, Some(408), "{lane:?}: head");
        let status =
            drip(&server, lane, b"POST /event HTTP/1.1\r\nHost: t\r\nContent-Length: 200000\r\n\r\n", b' ');
        assert_eq!(status, Some(408), "{lane:?}: body");
        let chunked = b"POST /event HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n30000\r\n";
        assert_eq!(drip(&server, lane, chunked, b' '), Some(408), "{lane:?}: chunk");
        // The slow request follows one that was answered, and nothing arrives after its first part.
        let mut client = server.connect(lane);
        client.send(&[post("/event", &[], EVENT.as_bytes()), b"GET /health HT".to_vec()].concat());
        assert_eq!(client.reply().status, 202);
        assert_eq!(client.reply().slug(), "request-timeout");
        client.expect_end();
        let mut client = server.connect(lane);
        let mut request = post("/event", &["X-Request-Id: slow"], EVENT.as_bytes());
        request.pop();
        let reply = client.ask(&request);
        assert_eq!((reply.status, reply.header("x-request-id")), (408, Some("slow")), "{lane:?}");
        client.expect_end();
    }
    server.assert_well();
}

#[test]
fn idle_connections_are_closed_without_a_word_and_empty_lines_keep_none_open() {
    let server = Server::start(&["--idle-timeout", "300ms"]);
    for lane in LANES {
        server.connect(lane).expect_end();
        let mut client = server.connect(lane);
        assert_eq!(client.ask(&post("/event", &[], EVENT.as_bytes())).status, 202);
        client.expect_end();
        let mut client = server.connect(lane);
        eventually("a peer that sends empty lines is cut off", || {
            (client.try_send(b"\r\n").is_err() || client.has_input()).then_some(())
        });
        assert!(client.try_reply(false).is_err_and(|error| is_end(&error)), "{lane:?}");
        let mut client = server.connect(lane);
        let mut at = 0;
        eventually("a peer that sends empty lines byte by byte is cut off", || {
            firehose::base::clock::pause(std::time::Duration::from_millis(100));
            let sent = client.try_send(&b"\r\n"[at % 2..][..1]);
            at += 1;
            (sent.is_err() || client.has_input()).then_some(())
        });
        assert!(client.try_reply(false).is_err_and(|error| is_end(&error)), "{lane:?}");
    }
}

#[test]
fn a_peer_that_takes_no_answers_is_cut_off_and_costs_little() {
    let mut server = Server::start(&["--write-timeout", "500ms"]);
    for lane in LANES {
        let before = server.resident();
        let mut peers: Vec<_> = (0..20).map(|_| server.connect(lane)).collect();
        let requests = plain("GET", "/health", &[]).repeat(1000);
        for peer in &mut peers {
            peer.socket.set_nonblocking(true).unwrap();
        }
        eventually("all are cut off", || {
            for peer in &mut peers {
                while peer.try_send(&requests).is_ok() {}
            }
            // A peer that cannot be written to is either full or closed.
            peers.retain_mut(|peer| !matches!(peer.try_send(b"G"), Err(error) if is_end(&error)));
            peers.is_empty().then_some(())
        });
        let grown = server.resident().saturating_sub(before);
        assert!(grown < 100 << 20, "{lane:?}: grown by {grown} bytes");
    }
    server.assert_well();
}

#[test]
fn s1_answers_that_nobody_takes_stay_within_the_budget() {
    let mut server = Server::start(&["--buffer-bytes-max", "1MiB", "--write-timeout", "1h", "--cores", "0"]);
    let before = server.resident();
    let requests = plain("GET", "/health", &[]).repeat(1500);
    // The kernel buffers little for such a peer, so the remaining bytes stay with the server.
    let mut peers: Vec<_> = (0..100).map(|_| (connect_with_small_segments(&server), 0)).collect();
    eventually("some are cut off", || {
        for (peer, sent) in &mut peers {
            // A partially sent request continues where it stopped, because bad framing would also end the connection.
            match peer.write(&requests[*sent % requests.len()..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    assert!(is_end(&error), "{error}");
                    return Some(());
                }
            }
        }
        None
    });
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 40 << 20, "grown by {grown} bytes");
    drop(peers);
    server.assert_well();
}

/// Connects with small segments, which also keep the kernel's buffers small on both sides. The sender's buffer grows
/// with its window, which begins at ten segments.
fn connect_with_small_segments(server: &Server) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

#[test]
fn s1_half_sent_requests_beyond_the_budget_get_503() {
    let mut server = Server::start(&["--buffer-bytes-max", "2MiB", "--cores", "0"]);
    let large = EVENT.replace("/a", &"a".repeat(200_000));
    for lane in LANES {
        let mut request = post("/event", &[], large.as_bytes());
        request.pop();
        let mut peers = Vec::new();
        let refused = eventually("one is refused", || {
            let mut peer = server.connect(lane);
            let _ = peer.try_send(&request);
            peers.push(peer);
            assert!(peers.len() < 100, "twenty megabytes are held");
            peers.iter_mut().position(|peer| peer.has_input())
        });
        let reply = peers[refused].reply();
        assert_eq!((reply.status, reply.slug().as_str()), (503, "overloaded"), "{lane:?}");
        assert!(reply.header("retry-after").is_some() && reply.says_close());
        peers[refused].expect_end();
        drop(peers);
        // Memory is available again.
        eventually("large events are taken again", || {
            let reply = server.connect(lane).try_reply_to(&post("/event", &[], large.as_bytes()));
            reply.is_ok_and(|reply| reply.status == 202).then_some(())
        });
    }
    server.assert_well();
}

#[test]
fn a_connection_too_many_gets_503_and_the_others_go_on() {
    let mut server = Server::start(&["--connections-max", "20"]);
    let mut held: Vec<_> = (0..20).map(|at| server.connect(LANES[at % 2])).collect();
    for client in &mut held {
        assert_eq!(client.ask(&plain("GET", "/health", &[])).status, 200);
    }
    for _ in 0..5 {
        let mut extra = server.connect(Lane::Hot);
        let reply = extra.reply();
        assert_eq!((reply.status, reply.slug().as_str()), (503, "overloaded"));
        assert!(reply.header("retry-after").is_some() && reply.says_close());
        extra.expect_end();
        assert_eq!(held[3].ask(&post("/event", &[], EVENT.as_bytes())).status, 202);
    }
    drop(held);
    eventually("there is room again", || {
        let reply = server.connect(Lane::Hot).try_reply_to(&plain("GET", "/health", &[]));
        reply.is_ok_and(|reply| reply.status == 200).then_some(())
    });
    server.assert_well();
}

#[test]
fn thousands_of_idle_connections_and_slow_heads_hold_up_nobody() {
    let mut server = Server::start(&[]);
    let before = server.resident();
    let idle: Vec<_> = (0..2000).map(|_| server.connect(Lane::Hot)).collect();
    let mut slow: Vec<_> = (0..200).map(|at| server.connect(LANES[at % 2])).collect();
    for client in &mut slow {
        client.send(b"POST /event HTTP/1.1\r\nHost: t\r\nContent-");
    }
    for lane in LANES {
        let mut client = server.connect(lane);
        for _ in 0..200 {
            assert_eq!(client.ask(&post("/event", &[], EVENT.as_bytes())).status, 202);
        }
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "grown by {grown} bytes");
    // The slow clients are still served as soon as their requests are complete.
    for client in &mut slow {
        let rest = format!("Length: {}\r\n\r\n{EVENT}", EVENT.len());
        assert_eq!(client.ask(rest.as_bytes()).status, 202);
    }
    drop((idle, slow));
    server.assert_well();
}

#[test]
fn five_thousand_short_connections_leave_nothing_behind() {
    let mut server = Server::start(&[]);
    let storm = |count: usize| {
        for at in 0..count {
            // Some clients finish, some disappear in the middle of a head or a body, some reset the connection.
            let mut client = server.connect(LANES[at % 5 / 4]);
            let event = post("/event", &[], EVENT.as_bytes());
            match at % 6 {
                0 => assert_eq!(client.ask(&event).status, 202),
                1 => client.send(&event[..20]),
                2 => client.send(&event[..event.len() - 1]),
                3 => client.send(&event),
                4 => client.send(&[event.repeat(50), event[..9].to_vec()].concat()),
                _ => assert_eq!(client.ask(b"rubbish\r\n\r\n").status, 400),
            }
        }
    };
    storm(200);
    let settled = |server: &Server| {
        eventually("every connection is counted out", || {
            let open = server.metrics();
            let open: f64 = open
                .lines()
                .filter(|line| line.starts_with("firehose_connections{"))
                .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
                .sum();
            // The connection of this request itself.
            (open <= 1.0).then_some(())
        });
        server.descriptors()
    };
    let (descriptors, resident) = (settled(&server), server.resident());
    storm(5000);
    let after = settled(&server);
    assert!(after <= descriptors + 20, "{descriptors} descriptors before, {after} after");
    let grown = server.resident().saturating_sub(resident);
    assert!(grown < 48 << 20, "grown by {grown} bytes");
    server.assert_well();
}
