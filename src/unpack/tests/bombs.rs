//! Decompression bombs. An upload that decodes to 10 GB from a few bytes stops at a limit, and memory does not grow.

use super::*;

/// An endless upload: its beginning, and the part that is repeated.
struct Bomb {
    name: &'static str,
    begin: Vec<u8>,
    again: Vec<u8>,
}

/// Returns deflated data that decodes to 1 MiB of one byte. The data can be repeated, because it ends at a byte
/// boundary and refers to nothing before it (RFC 1951).
fn deflated(byte: u8) -> Vec<u8> {
    let mut compress = flate2::Compress::new(flate2::Compression::best(), false);
    let mut out = Vec::with_capacity(1 << 20);
    compress.compress_vec(&[byte; 1 << 20], &mut out, flate2::FlushCompress::Full).unwrap();
    assert!(out.len() < 2_000);
    out
}

fn local(name: &str) -> Vec<u8> {
    let mut header = b"PK\x03\x04\x14\0\x08\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend_from_slice(&(name.len() as u16).to_le_bytes());
    header.extend_from_slice(&[0, 0]);
    header.extend_from_slice(name.as_bytes());
    header
}

fn bombs(byte: u8) -> Vec<Bomb> {
    // A block of 4 bytes that decodes to 128 KiB of one byte (RFC 8878 §3.1.1.2: type 1, not the last block).
    let run = ((128_u32 << 10) << 3 | 1 << 1).to_le_bytes();
    let run = [run[0], run[1], run[2], byte];
    vec![
        Bomb { name: "gzip", begin: b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), again: deflated(byte) },
        // The frame header has a window of 8 MiB and no content size.
        Bomb { name: "zstd", begin: b"\x28\xb5\x2f\xfd\0\x68".to_vec(), again: run.repeat(100) },
        Bomb { name: "zip", begin: local("a.ndjson"), again: deflated(byte) },
        Bomb { name: "zip, skipped", begin: local("a.txt"), again: deflated(byte) },
    ]
}

/// Feeds a bomb that would decode to more than 10 GB. Returns the error, the numbers of bytes read and decoded, and
/// the number of lines.
fn set_off(bomb: &Bomb, limits: Limits) -> (UnpackError, u64, u64, u64) {
    let mut unpacker = Unpacker::new(limits);
    let mut chunk = Bytes::from(bomb.begin.clone());
    let again = Bytes::from(bomb.again.clone());
    let mut rows = 0;
    for _ in 0..20_000 {
        unpacker.feed(std::mem::replace(&mut chunk, again.clone()));
        loop {
            match unpacker.next() {
                Ok(Next::Line(line)) => {
                    rows += 1;
                    assert!(line.bytes.len() <= limits.line_bytes_max);
                }
                Ok(Next::Hungry) => break,
                Ok(Next::End) => panic!("{} has no end", bomb.name),
                Err(error) => return (error, unpacker.consumed_bytes(), unpacker.decoded_bytes(), rows),
            }
        }
        assert!(unpacker.held_bytes() <= limits.line_bytes_max + 256, "{}", bomb.name);
    }
    panic!("{} was let through", bomb.name);
}

#[test]
fn u1_a_bomb_stops_at_the_ratio() {
    let limits = Limits { ratio_max: 100, ratio_grace_bytes: 8 << 20, ..Limits::default() };
    for byte in [0, b'{', b'\n', b' '] {
        for bomb in bombs(byte) {
            let (error, consumed_bytes, decoded_bytes, rows) = set_off(&bomb, limits);
            assert!(matches!(error, UnpackError::Ratio { ratio_max: 100, .. }), "{}: {error}", bomb.name);
            assert!(error.is_limit() && consumed_bytes < 84_000, "{}: {consumed_bytes}", bomb.name);
            // At most one block is decoded beyond the limit.
            assert!(decoded_bytes <= (8 << 20) + (64 << 10), "{}: {decoded_bytes}", bomb.name);
            assert_eq!(rows, 0, "{}", bomb.name);
        }
    }
}

#[test]
fn u1_a_bomb_stops_at_the_size() {
    let limits = Limits { decoded_bytes_max: 20 << 20, ratio_max: u32::MAX, ..Limits::default() };
    for bomb in bombs(b'[') {
        let (error, _, decoded_bytes, _) = set_off(&bomb, limits);
        assert!(matches!(error, UnpackError::TooLarge { .. }) && error.is_limit(), "{}: {error}", bomb.name);
        assert!(decoded_bytes <= (20 << 20) + (64 << 10), "{}: {decoded_bytes}", bomb.name);
    }
    let outcome = unpack_in(Limits { decoded_bytes_max: 6, ..small() }, b"{1}\n{2}\n", &[4]);
    assert!(matches!(outcome.end, Err(UnpackError::TooLarge { decoded_bytes_max: 6, .. })));
    assert_eq!(outcome.rows, [(1, b"{1}".to_vec(), false)]);
}

#[test]
fn what_packs_well_is_no_bomb_while_it_is_small() {
    let text = b"{\"order_id\":1,\"tenant_id\":2}\n".repeat(50_000);
    for (name, _, upload) in packings(&text) {
        assert!(name == "plain" || name == "zip stored" || text.len() / upload.len() > 100, "{name}");
        assert_eq!(unpack(&upload).whole().len(), 50_000, "{name}");
    }
}

#[test]
fn stored_data_is_not_multiplied() {
    let text = b"{}\n".repeat(1_000_000);
    let upload = zip(&[Packed { is_deflated: false, ..entry("a.ndjson", &text) }]);
    let limits = Limits { ratio_max: 1, ratio_grace_bytes: 0, ..small() };
    assert_eq!(unpack_in(limits, &upload, &[100]).whole().len(), 1_000_000);
}
