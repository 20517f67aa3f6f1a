//! Uploads that are truncated, have flipped or exchanged bytes, or are noise. Each returns an error or the same
//! lines, and none panics.

use super::*;

/// Returns a short sample and a long one.
fn samples() -> [Vec<u8>; 2] {
    let short = b"{\"order_id\":\"o_1\"}\n{\"order_id\":\"o_2\"}\n{\"order_id\":\"o_3\"}".to_vec();
    let long = (0..120_u32).flat_map(|index| {
        format!("{{\"order_id\":\"o_{index}\",\"hash\":{}}}\n", index.wrapping_mul(2_654_435_761))
            .into_bytes()
    });
    [short, long.collect()]
}

fn packed(text: &[u8]) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let several = [entry("a.ndjson", text), entry("b.txt", b"skipped"), entry("dir/", b"")];
    let more = [("zip of several", zip(&several)), ("streamed zip of several", zip_streamed(&several))];
    let one = packings(text).into_iter().filter(|packed| packed.1 != Encoding::Plain);
    one.map(|(name, _, upload)| (name, upload)).chain(more)
}

#[test]
fn u1_every_cut_is_an_error() {
    let [text, _] = samples();
    for (name, upload) in packed(&text) {
        for length in 1..upload.len() {
            for sizes in [&[][..], &[1]] {
                let outcome = unpack_in(small(), &upload[..length], sizes);
                assert!(
                    matches!(outcome.end, Err(UnpackError::Truncated { .. })),
                    "{name} {length}: {outcome:?}"
                );
                let rows = rows_of(&text);
                assert!(rows.starts_with(&outcome.rows), "{name} {length}: {:?}", outcome.rows);
            }
        }
    }
}

#[test]
fn a_cut_is_told_with_its_place() {
    let [_, text] = samples();
    let upload = zip(&[entry("shop/a.ndjson", &text)]);
    let outcome = unpack(&upload[..upload.len() / 2]);
    let error = outcome.end.unwrap_err();
    let place = error.place();
    assert_eq!(place.offset_bytes, upload.len() as u64 / 2);
    assert_eq!((place.lines, place.entry.as_deref()), (outcome.rows.len() as u64, Some("shop/a.ndjson")));
    assert!(place.lines > 10, "{place}");
    let told = format!(
        "the upload is truncated (byte {}, after line {}, entry \"shop/a.ndjson\")",
        place.offset_bytes, place.lines
    );
    assert_eq!(error.to_string(), told);
}

#[test]
fn u1_every_flipped_bit_is_an_error_or_changes_nothing() {
    for text in samples() {
        let rows = rows_of(&text);
        for (name, upload) in packed(&text) {
            let mut found = 0;
            for at in 0..upload.len() {
                // Every bit of a short upload is flipped, but only one bit of each byte of a long upload.
                let bits = if upload.len() < 1000 { 0..8 } else { at % 8..at % 8 + 1 };
                for bit in bits {
                    let mut flipped = upload.clone();
                    flipped[at] ^= 1 << bit;
                    let outcome = unpack(&flipped);
                    match outcome.end {
                        Ok(()) => assert_eq!(outcome.rows, rows, "{name}: bit {bit} of byte {at}"),
                        Err(_) => found += 1,
                    }
                }
            }
            assert!(found > upload.len() / 4, "{name}: {found} of {} were found", upload.len());
        }
    }
}

#[test]
fn wrong_checksums_are_named() {
    let [text, _] = samples();
    let mut gzip = gzip(&text);
    let length = gzip.len();
    gzip[length - 5] ^= 0x10;
    let mut short_gzip = super::gzip(&text);
    short_gzip[length - 1] ^= 0x10;
    let mut zstd = zstd(&text);
    let length = zstd.len();
    zstd[length - 1] ^= 1;
    for upload in [gzip, short_gzip, zstd] {
        let outcome = unpack(&upload);
        assert!(matches!(outcome.end, Err(UnpackError::Checksum { .. })), "{:?}", outcome.end);
        // gzip's checksum is in the last 8 bytes. zstd does not report the position of its checksum.
        let offset_bytes = outcome.end.unwrap_err().place().offset_bytes;
        let is_close = (upload.len() as u64 - 7..=upload.len() as u64).contains(&offset_bytes);
        assert!(is_close || upload.starts_with(b"\x28\xb5"), "{offset_bytes}");
    }
}

fn magics() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![
        b"\x1f\x8b\x08\x00\0\0\0\0\0\x03".to_vec(),
        b"\x1f\x8b".to_vec(),
        b"\x28\xb5\x2f\xfd".to_vec(),
        b"\x28\xb5\x2f\xfd\x04\x58".to_vec(),
        b"\x55\x2a\x4d\x18".to_vec(),
        b"PK\x03\x04".to_vec(),
        b"PK\x03\x04\x14\0\x08\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0a.ndjson".to_vec(),
        b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\x09\0\0\0\x08\0\0\0a.ndjson".to_vec(),
        b"PK\x05\x06".to_vec(),
        b"PK\x06\x06".to_vec(),
        b"PK\x06\x06\x2c\0\0\0\0\0\0\0".to_vec(),
        Vec::new(),
    ])
}

/// Generates parts of headers that can mislead a reader of an archive.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..60),
        2 => prop::collection::vec(prop::sample::select(vec![0_u8, 1, 8, 0xff]), 0..60),
        2 => magics(),
        1 => Just(b"PK\x01\x02".to_vec()),
        1 => Just(b"PK\x06\x07".to_vec()),
        1 => Just(b"PK\x07\x08".to_vec()),
        1 => Just(b"PK\x05\x05".to_vec()),
    ]
}

fn agree(upload: &[u8], sizes: &[usize]) -> Result<(), TestCaseError> {
    let whole = unpack(upload);
    let chunked = unpack_in(small(), upload, sizes);
    prop_assert_eq!(whole.end.is_ok(), chunked.end.is_ok(), "{:?} {:?}", &whole.end, &chunked.end);
    if whole.end.is_ok() {
        prop_assert_eq!(whole, chunked);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn noise_behind_a_magic_is_no_panic(
        magic in magics(),
        noise in prop::collection::vec(pieces(), 0..12),
        sizes in sizes(),
    ) {
        agree(&[magic, noise.concat()].concat(), &sizes)?;
    }

    #[test]
    fn an_upload_cut_and_pasted_is_no_panic(
        kind in 0_usize..9,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), pieces(), 0..3_u8), 1..4),
        sizes in sizes(),
    ) {
        let [text, _] = samples();
        let (_, mut upload) = packed(&text).nth(kind).unwrap();
        for (at, other, piece, how) in edits {
            let (at, other) = (at.index(upload.len() + 1), other.index(upload.len() + 1));
            let (begin, end) = (at.min(other), at.max(other));
            match how {
                0 => drop(upload.splice(begin..begin, piece)),
                1 => drop(upload.drain(begin..end)),
                _ => {
                    let copy = upload[begin..end].to_vec();
                    drop(upload.splice(begin..begin, copy));
                }
            }
        }
        agree(&upload, &sizes)?;
    }
}
