//! zip archives as tools write them, and malicious ones.

use super::*;

const A: &[u8] = b"{\"a\":1}\n{\"b\":2}";
const B: &[u8] = b"{\"c\":3}\r\n";

/// Returns archives of these entries from both writers, with 32-bit and 64-bit sizes. The entries are deflated. Where
/// a reader from the front supports it, there is also an archive with stored entries.
fn archives(entries: &[Packed<'_>]) -> Vec<Vec<u8>> {
    let with = |is_deflated, is_zip64| -> Vec<Packed<'_>> {
        entries.iter().map(|entry| Packed { is_deflated, is_zip64, ..entry.clone() }).collect()
    };
    vec![
        zip(&with(true, false)),
        zip(&with(false, false)),
        zip(&with(true, true)),
        zip(&with(false, true)),
        zip_streamed(&with(true, false)),
        zip_streamed(&with(true, true)),
    ]
}

#[test]
fn entries_are_read_by_their_names() {
    let entries = [
        entry("orders/", b""),
        entry("orders/a.ndjson", A),
        entry("readme.txt", b"not a row\n"),
        entry("empty.jsonl", b""),
        entry("__MACOSX/orders/._a.ndjson", b"\0\x05\x16\x07"),
        entry("orders/Bestellungen-für-März-日本.JSONL", B),
        entry("ndjson", b"not a row either"),
        entry("all.Json", b"\xef\xbb\xbf\n{\"d\":4}"),
        entry("nothing/", b""),
    ];
    for (index, upload) in archives(&entries).iter().enumerate() {
        for sizes in [&[][..], &[1], &[29]] {
            let mut unpacker = Unpacker::new(small());
            let outcome = drive(&mut unpacker, upload, sizes);
            let rows: Vec<(u64, &[u8])> = outcome.rows.iter().map(|row| (row.0, &row.1[..])).collect();
            assert_eq!(outcome.end, Ok(()), "archive {index}");
            // The end of an entry ends its last line. The blank line counts.
            assert_eq!(
                rows,
                [(1, &b"{\"a\":1}"[..]), (2, b"{\"b\":2}"), (3, b"{\"c\":3}"), (5, b"{\"d\":4}")]
            );
            assert_eq!(unpacker.skipped().count, 3, "archive {index}");
        }
    }
}

#[test]
fn many_entries_are_many_until_they_are_too_many() {
    let names: Vec<String> = (0..20).map(|index| format!("{index}.ndjson")).collect();
    let entries: Vec<Packed<'_>> = names.iter().map(|name| entry(name, B)).collect();
    for upload in archives(&entries) {
        assert_eq!(unpack(&upload).whole().len(), 20);
        let less = Limits { entries_max: 19, ..small() };
        let end = unpack_in(less, &upload, &[]).end.unwrap_err();
        assert!(
            matches!(end, UnpackError::TooManyEntries { entries_max: 19, .. }) && end.is_limit(),
            "{end}"
        );
    }
    // 70,000 entries require zip64 for their number alone.
    let names: Vec<String> = (0..70_000).map(|index| format!("{index}.ndjson")).collect();
    let entries: Vec<Packed<'_>> = names.iter().map(|name| entry(name, b"1")).collect();
    let many = Limits { entries_max: 70_000, ..small() };
    assert_eq!(unpack_in(many, &zip(&entries), &[]).whole().len(), 70_000);
}

#[test]
fn a_comment_is_read_past() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    write_entries(&mut writer, &[entry("a.ndjson", A)]);
    writer.set_comment("PK\u{5}\u{6} is how an end begins").unwrap();
    let upload = writer.finish().unwrap().into_inner();
    assert_eq!(unpack_in(small(), &upload, &[3]).whole(), rows_of(A));
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let stored = Packed { is_deflated: false, ..entry("a.ndjson", A) };
    let unsupported = |upload: &[u8]| match unpack(upload).end {
        Err(UnpackError::Unsupported { what, place }) => {
            assert_eq!(place.entry.as_deref(), Some("a.ndjson"));
            what
        }
        other => panic!("{other:?}"),
    };
    assert!(
        unsupported(&zip_streamed(std::slice::from_ref(&stored)))
            .contains("stored and its header has no size")
    );
    let upload = zip(&[stored]);
    // First, bit 0 of the flags is set. Then the method is unknown.
    let flagged = with(&upload, 6, &[1]);
    assert!(unsupported(&flagged).contains("encrypted"));
    assert!(unsupported(&with(&upload, 8, &[93])).contains("method is not deflate"));
    // A skipped entry's method does not matter.
    let skipped = zip(&[Packed { is_deflated: false, ..entry("a.txt", A) }, entry("b.ndjson", B)]);
    let directory = find(&skipped, b"PK\x01\x02");
    let skipped = with(&with(&skipped, 8, &[93]), directory + 10, &[93]);
    assert_eq!(unpack(&skipped).whole(), rows_of(B));
}

/// Returns the upload with the bytes at `at` replaced.
fn with(upload: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut upload = upload.to_vec();
    upload[at..at + bytes.len()].copy_from_slice(bytes);
    upload
}

fn find(upload: &[u8], what: &[u8]) -> usize {
    memchr::memmem::find(upload, what).unwrap()
}

fn rfind(upload: &[u8], what: &[u8]) -> usize {
    memchr::memmem::rfind(upload, what).unwrap()
}

fn damage(upload: &[u8]) -> &'static str {
    for sizes in [&[][..], &[1]] {
        match unpack_in(small(), upload, sizes).end {
            Err(UnpackError::Damaged { what, .. }) if sizes.len() == 1 => return what,
            Err(UnpackError::Damaged { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    unreachable!("there is a size")
}

#[test]
fn sizes_that_lie_are_found_out() {
    for is_deflated in [true, false] {
        let upload = zip(&[Packed { is_deflated, ..entry("a.ndjson", &A.repeat(9)) }, entry("b.ndjson", B)]);
        for (at, size) in [(18, 3_u32), (18, 40), (18, 0), (22, 3), (22, 0), (22, 1 << 30)] {
            let lying = with(&upload, at, &size.to_le_bytes());
            let end = unpack(&lying).end.unwrap_err();
            assert!(!end.is_limit(), "{is_deflated} {at} {size}: {end}");
        }
        // These compressed sizes reach beyond the end of the upload.
        for size in [1_u32 << 30, u32::MAX] {
            let lying = with(&upload, 18, &size.to_le_bytes());
            let end = unpack(&lying).end.unwrap_err();
            assert!(matches!(end, UnpackError::Truncated { .. } | UnpackError::Damaged { .. }), "{end}");
        }
        // The header and the directory have the same false value.
        let directory = find(&upload, b"PK\x01\x02");
        let lying = with(&with(&upload, 22, &[3, 0, 0, 0]), directory + 24, &[3, 0, 0, 0]);
        assert_eq!(damage(&lying), "the size of the entry does not match its header");
        let lying = with(&with(&upload, 14, &[3, 0, 0, 0]), directory + 16, &[3, 0, 0, 0]);
        assert!(matches!(unpack(&lying).end, Err(UnpackError::Checksum { .. })));
    }
}

#[test]
fn names_of_any_length_take_no_memory_ahead() {
    let upload = zip(&[entry("a.ndjson", A)]);
    // A name and an extra field of 64 KiB each. None of their bytes arrive.
    let lying = with(&upload, 26, &[0xff; 4]);
    let mut unpacker = Unpacker::new(small());
    let outcome = drive(&mut unpacker, &lying, &[]);
    assert!(matches!(outcome.end, Err(UnpackError::Truncated { .. })));
    assert!(unpacker.held_bytes() < 4 * lying.len(), "{}", unpacker.held_bytes());
    // Now all of their bytes arrive.
    let mut header = lying[..30].to_vec();
    header.resize(300_000, b'a');
    let mut unpacker = Unpacker::new(small());
    let outcome = drive(&mut unpacker, &header, &[1_000]);
    assert!(outcome.end.is_err());
    assert!(unpacker.held_bytes() <= 256 << 10, "{}", unpacker.held_bytes());
    assert!(outcome.end.unwrap_err().to_string().len() < 300, "a name is shortened");
}

#[test]
fn a_name_is_shown_without_what_a_terminal_would_obey() {
    let upload = zip(&[entry("\u{1b}[2Jb\0.ndjson", &A.repeat(99))]);
    let end = unpack(&upload[..60]).end.unwrap_err();
    assert!(end.place().entry.is_some());
    assert!(!end.to_string().contains('\u{1b}') && end.to_string().contains("[2Jb"), "{end}");
}

#[test]
fn the_directory_must_be_that_of_the_entries() {
    let entries = [entry("a.ndjson", A), entry("b.ndjson", B), entry("c.txt", b"c")];
    for upload in [zip(&entries), zip_streamed(&entries)] {
        let directory = find(&upload, b"PK\x01\x02");
        let second = directory + 4 + find(&upload[directory + 4..], b"PK\x01\x02");
        let end = rfind(&upload, b"PK\x05\x06");
        // The first two entries of the directory refer to the same entry of the archive.
        let overlapping = with(&upload, second + 42, &upload[directory + 42..directory + 46]);
        assert_eq!(damage(&overlapping), "the archive's directory does not match its entries");
        let renamed = with(&upload, second + 46, b"z");
        assert_eq!(damage(&renamed), "the archive's directory does not match its entries");
        let hidden = with(&upload, 30, b"z");
        assert_eq!(damage(&hidden), "the archive's directory does not match its entries");
        // The directory omits an entry, and the end record matches the directory.
        let mut shorter = [&upload[..directory], &upload[second..]].concat();
        let at = end - (second - directory);
        let bytes = (at - directory) as u32;
        shorter[at + 8..at + 12].copy_from_slice(&[2, 0, 2, 0]);
        shorter[at + 12..at + 16].copy_from_slice(&bytes.to_le_bytes());
        assert_eq!(damage(&shorter), "the archive's directory does not match its entries");
        // The directory lists one entry too many.
        let longer = [&upload[..second], &upload[directory..]].concat();
        assert_eq!(damage(&longer), "the archive's directory lists more entries than the archive has");
        for at in [end + 10, end + 12, end + 16] {
            let lying = with(&upload, at, &[upload[at] ^ 1]);
            assert_eq!(damage(&lying), "the archive's end record does not match its directory");
        }
        // These archives lack the directory and the end record, lack only the end record, lack only the directory, or
        // have entries within the directory.
        assert!(matches!(unpack(&upload[..directory]).end, Err(UnpackError::Truncated { .. })));
        assert!(matches!(unpack(&upload[..end]).end, Err(UnpackError::Truncated { .. })));
        assert_eq!(
            damage(&[&upload[..directory], &upload[end..]].concat()),
            "the archive's end record does not match its directory"
        );
        assert_eq!(
            damage(&[&upload[..second], &upload[..directory], &upload[second..]].concat()),
            "the archive has bytes that belong to no entry"
        );
        assert_eq!(damage(&[&upload[..], b"\n"].concat()), "unexpected bytes follow the archive");
        assert_eq!(damage(&[&upload[..], &upload].concat()), "unexpected bytes follow the archive");
    }
}

#[test]
fn an_entry_may_end_in_a_descriptor_of_any_kind() {
    let upload = zip_streamed(&[entry("a.ndjson", A)]);
    let (at, directory) = (find(&upload, b"PK\x07\x08"), find(&upload, b"PK\x01\x02"));
    let told: Vec<u8> = upload[at + 4..directory].to_vec();
    let wide: Vec<u8> = [&told[..8], &[0; 4], &told[8..12], &[0; 4]].concat();
    assert_eq!(told.len(), 12);
    for descriptor in [told.clone(), wide.clone(), [b"PK\x07\x08", &wide[..]].concat()] {
        let mut other = [&upload[..at], &descriptor, &upload[directory..]].concat();
        let end = rfind(&other, b"PK\x05\x06");
        let starts_at = (at + descriptor.len()) as u32;
        other[end + 16..end + 20].copy_from_slice(&starts_at.to_le_bytes());
        for sizes in [&[][..], &[1], &[17]] {
            assert_eq!(unpack_in(small(), &other, sizes).whole(), rows_of(A), "{descriptor:?}");
        }
        // This checksum does not match the data.
        other[at + if descriptor.starts_with(b"PK") { 4 } else { 0 }] ^= 1;
        let end = unpack(&other).end.unwrap_err();
        assert!(matches!(end, UnpackError::Checksum { .. } | UnpackError::Damaged { .. }), "{end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_the_zip_crate_writes_is_read(
        parts in prop::collection::vec(("[a-zé/ ]{0,12}", 0..5_usize, texts(), prop::bool::ANY, prop::bool::ANY), 0..8),
        sizes in sizes(),
        is_streamed in prop::bool::ANY,
    ) {
        let names: Vec<String> = parts.iter().enumerate().map(|(index, part)| {
            let end = [".ndjson", ".JSONL", ".json", ".txt", "/"][part.1];
            format!("{index}{}{end}", part.0.trim_end_matches('/'))
        }).collect();
        let entries: Vec<Packed<'_>> = parts.iter().zip(&names).map(|(part, name)| Packed {
            name,
            text: &part.2,
            is_deflated: part.3 || is_streamed,
            is_zip64: part.4,
        }).collect();
        let upload = if is_streamed { zip_streamed(&entries) } else { zip(&entries) };
        let mut rows = Vec::new();
        let mut hashed = Vec::new();
        for part in parts.iter().filter(|part| part.1 < 3) {
            let text = part.2.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&part.2);
            rows.extend(expected(text, 400).0.into_iter().map(|row| (row.1, row.2)));
            hashed.extend_from_slice(text);
            hashed.push(b'\n');
        }
        let mut unpacker = Unpacker::new(small());
        let outcome = drive(&mut unpacker, &upload, &sizes);
        prop_assert_eq!(outcome.end, Ok(()));
        let read: Vec<(Vec<u8>, bool)> = outcome.rows.into_iter().map(|row| (row.1, row.2)).collect();
        prop_assert_eq!(read, rows);
        prop_assert_eq!(outcome.fingerprint, Some(expected(&hashed, 400).1));
        let skipped = parts.iter().filter(|part| part.1 == 3).count();
        prop_assert_eq!(unpacker.skipped().count as usize, skipped);
    }
}
