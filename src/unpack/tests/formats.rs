//! gzip and zstd as their tools write them: consecutive members and frames, windows, skippable frames.

use super::*;

#[test]
fn members_and_frames_are_one_text() {
    // A line continues in the next member or frame.
    let parts: [&[u8]; 4] = [b"{\"a\":1}\n{\"b\"", b"", b":2}", b"\n\n{\"c\":3}"];
    let rows = rows_of(&parts.concat());
    assert_eq!(rows.len(), 3);
    for packed in [parts.map(gzip).concat(), parts.map(zstd).concat()] {
        for sizes in [&[][..], &[1], &[7]] {
            assert_eq!(unpack_in(small(), &packed, sizes).whole(), rows);
        }
    }
}

#[test]
fn a_gzip_header_may_have_every_field() {
    let text = b"{\"a\":1}\n{\"b\":2}\n";
    let builder =
        flate2::GzBuilder::new().filename("orders.ndjson").comment("all of them").extra(vec![7; 60_000]);
    let mut encoder = builder.write(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    let upload = encoder.finish().unwrap();
    assert_eq!(unpack_in(small(), &upload, &[13]).whole(), rows_of(text));
}

#[test]
fn skippable_frames_are_skipped() {
    let text = b"{\"a\":1}\n{\"b\":2}\n";
    let skippable = [&b"\x53\x2a\x4d\x18\x05\0\0\0abcde"[..], b"\x50\x2a\x4d\x18\0\0\0\0"].concat();
    let upload = [&skippable[..], &zstd(&text[..4]), &skippable, &zstd(&text[4..]), &skippable].concat();
    for sizes in [&[][..], &[1], &[11]] {
        assert_eq!(unpack_in(small(), &upload, sizes).whole(), rows_of(text));
    }
    // A skippable frame announces 4 GiB, but only 1,000 bytes follow, so the upload is truncated.
    let upload = [&zstd(text)[..], b"\x53\x2a\x4d\x18\xff\xff\xff\xff", &[0; 1000]].concat();
    let outcome = unpack(&upload);
    assert!(matches!(outcome.end, Err(UnpackError::Truncated { .. })), "{:?}", outcome.end);
    assert_eq!(outcome.rows, rows_of(text));
}

#[test]
fn a_window_may_be_as_long_as_levels_make_it_and_no_longer() {
    let text = b"{\"a\":1}\n".repeat(40_000);
    for (window_log, is_read) in [(19, true), (23, true), (24, false), (27, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&text).unwrap();
        let outcome = unpack(&encoder.finish().unwrap());
        match is_read {
            true => assert_eq!(outcome.whole().len(), 40_000),
            false => {
                assert!(matches!(outcome.end, Err(UnpackError::Unsupported { .. })), "{:?}", outcome.end)
            }
        }
    }
}

#[test]
fn what_follows_a_member_or_frame_must_be_another() {
    let text = b"{\"a\":1}\n";
    for packed in [gzip(text), zstd(text)] {
        for rubbish in [&b"\0"[..], b"rubbish!", b"{\"b\":2}\n"] {
            let outcome = unpack(&[&packed, rubbish].concat());
            let end = outcome.end.unwrap_err();
            assert!(matches!(end, UnpackError::Damaged { .. } | UnpackError::Truncated { .. }), "{end:?}");
            assert_eq!(outcome.rows, rows_of(text));
        }
    }
}

#[test]
fn other_kinds_of_archives_are_named_as_such() {
    for other in
        [&b"\xfd7zXZ\0"[..], b"7z\xbc\xaf\x27\x1c", b"\xff\xfe{\0\"\0", b"\0\0\0\0", b"\x04\x22\x4d\x18"]
    {
        for sizes in [&[][..], &[1]] {
            let outcome = unpack_in(small(), other, sizes);
            assert!(matches!(outcome.end, Err(UnpackError::Unsupported { .. })), "{other:?}");
        }
    }
}

#[test]
fn what_is_packed_twice_is_unpacked_and_what_is_packed_more_often_is_refused() {
    let text = b"{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":3}";
    let archive = |entries: &[Packed<'_>]| zip(entries);
    let (gzipped, zstded) = (gzip(text), zstd(text));
    let twice = [
        gzip(&gzipped),
        gzip(&zstded),
        zstd(&gzipped),
        gzip(&archive(&[entry("a.ndjson", text)])),
        archive(&[entry("a.ndjson.gz", &gzipped)]),
        archive(&[entry("a.txt", b"no"), entry("A.JSON.ZST", &zstded), entry("b.jsonl", b"")]),
        archive(&[Packed { is_deflated: false, ..entry("a.ndjson", &gzipped) }]),
        // The inner data has many gzip members, which begin anywhere in a line.
        gzip(&text.chunks(7).flat_map(gzip).collect::<Vec<u8>>()),
    ];
    for (index, upload) in twice.iter().enumerate() {
        for size in [1, 2, 3, 5, 50, usize::MAX] {
            let outcome = unpack_in(small(), upload, &[size]);
            assert_eq!(outcome.fingerprint, Some(expected(text, 400).1), "{index} in {size}");
            assert_eq!(outcome.whole(), rows_of(text), "{index} in {size}");
        }
        for cut in 1..upload.len() {
            assert!(unpack(&upload[..cut]).end.is_err(), "{index} cut at {cut}");
        }
    }
    // The encoding is detected separately for each entry: compressed, plain, and shorter than a magic.
    let mixed =
        archive(&[entry("1.json.gz", &gzip(b"1\n2")), entry("2.json", b"3"), entry("3.json", b"4\n5\n")]);
    let lines: Vec<Vec<u8>> = unpack(&mixed).whole().into_iter().map(|(_, line, _)| line).collect();
    assert_eq!(lines, [b"1", b"2", b"3", b"4", b"5"]);
    for often in [gzip(&gzip(&gzipped)), gzip(&archive(&[entry("a.json.gz", &gzipped)]))] {
        assert!(matches!(unpack(&often).end, Err(UnpackError::Unsupported { .. })));
    }
    // The limits apply to the total output of both levels of decompression.
    let bomb = gzip(&gzip(&vec![b' '; 8 << 20]));
    assert!(unpack(&bomb).end.is_err_and(|error| error.is_limit()));
}
