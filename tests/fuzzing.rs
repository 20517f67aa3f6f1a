//! The fuzz targets without nightly and instrumentation: valid inputs, each mutated for FUZZ_SECONDS (one by default).
//!
//! `fuzz/` runs the same checks guided by coverage.

#[path = "fuzz/decode.rs"]
mod decode;
#[path = "fuzz/http.rs"]
mod http;

use firehose::base::clock;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// One mutation of an input.
#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Cut(usize, usize),
    /// Copies bytes of the input to another place.
    Copy(usize, usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let place = 0..4096_usize;
    let token = prop::sample::select(vec![
        &b"\""[..],
        b"{",
        b"}",
        b"[",
        b"\\u",
        b"\\ud800",
        b"e9",
        b"-",
        b"\0",
        b"\xff",
        b"\r\n",
        b"\r",
        b":",
        b"0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\n",
        b"Expect: 100-continue\r\n",
        b"ffffffff",
        b" ",
    ]);
    prop_oneof![
        (place.clone(), any::<u8>()).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (place.clone(), token).prop_map(|(at, token)| Change::Insert(at, token.to_vec())),
        (place.clone(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (place.clone(), 1..64_usize).prop_map(|(at, bytes)| Change::Cut(at, bytes)),
        (place.clone(), 1..256_usize, place).prop_map(|(from, bytes, to)| Change::Copy(from, bytes, to)),
    ]
}

fn apply(input: &mut Vec<u8>, change: &Change) {
    let end = input.len();
    let within = |at: usize| at % (end + 1);
    match change {
        Change::Flip(at, bits) if end > 0 => input[at % end] ^= bits,
        Change::Flip(..) => {}
        Change::Insert(at, bytes) => {
            let at = within(*at);
            input.splice(at..at, bytes.iter().copied());
        }
        Change::Cut(at, bytes) => {
            let at = within(*at);
            input.drain(at..end.min(at + bytes));
        }
        Change::Copy(from, bytes, to) => {
            let from = within(*from);
            let copied = input[from..end.min(from + bytes)].to_vec();
            let to = within(*to);
            input.splice(to..to, copied);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

/// Calls `check` with inputs mutated from `seeds` until the time is over, and at least a thousand times.
fn fuzz(seeds: &[Vec<u8>], check: impl Fn(&[u8])) {
    let seconds = number("FUZZ_SECONDS").unwrap_or(1);
    let seed = number("TEST_SEED").unwrap_or_else(|| clock::unix_us().unsigned_abs());
    println!("TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let inputs = (prop::sample::select(seeds.to_vec()), vec(change(), 0..8));
    let until_us = clock::monotonic_us() + seconds * 1_000_000;
    let mut runs = 0_u64;
    while runs < 1_000 || clock::monotonic_us() < until_us {
        let (mut input, changes) = inputs.new_tree(&mut runner).expect("an input").current();
        changes.iter().for_each(|change| apply(&mut input, change));
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&input)));
        if let Err(cause) = checked {
            eprintln!("the input, as a byte string: b\"{}\"", input.escape_ascii());
            std::panic::resume_unwind(cause);
        }
        runs += 1;
    }
    println!("{runs} inputs");
}

#[test]
fn the_decoder_and_serde_json_agree_on_mutated_events() {
    let event = br#"{"user_id": 12345, "timestamp": "2024-01-14T10:30:00Z", "metadata": {"a": [1, 2.5e3, "\u00fc"], "b": {"c": null}}}"#;
    let seeds = [
        event.to_vec(),
        br#"{"user_id":-9223372036854775808,"timestamp":"1969-12-31 23:59:59.999999+02:00","metadata":{}}"#
            .to_vec(),
        br#"{"metadata":"x","user_id":"1","timestamp":1}"#.to_vec(),
        [
            b"{\"metadata\":".as_slice(),
            &[b'['; 127],
            &[b']'; 127],
            b",\"user_id\":1,\"timestamp\":\"2024-01-14\"}",
        ]
        .concat(),
        Vec::new(),
    ];
    fuzz(&seeds, decode::check);
}

#[test]
fn requests_are_the_same_however_their_bytes_are_cut() {
    let requests: [&[u8]; 5] = [
        b"POST /event HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /event HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n",
        b"GET http://b/ready?x=%20 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /event HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 2\n\n{}",
        b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\nX-Request-Id: r-1\r\n\r\nabc",
    ];
    let mut seeds = Vec::new();
    for request in requests {
        for cuts in [&[][..], &[1, 0, 9, 0, 40, 0], &[0, 0, 255, 255, 17, 0, 18, 0, 60, 0]] {
            seeds.push([&[(cuts.len() / 2) as u8], cuts, request].concat());
        }
    }
    fuzz(&seeds, http::check);
}
