//! Tests of unpacking, with uploads fed in every possible way. This file has the harness and an encoder for each
//! encoding.

mod bombs;
mod damage;
mod formats;
mod plain;
mod speed;
mod zips;

use std::io::{Cursor, Write as _};

use bytes::Bytes;
use proptest::prelude::*;

use super::{Encoding, Limits, Next, UnpackError, Unpacker};

/// A returned line: number, bytes, whether it was too long.
type Row = (u64, Vec<u8>, bool);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    rows: Vec<Row>,
    end: Result<(), UnpackError>,
    fingerprint: Option<[u8; 32]>,
    lines: u64,
    decoded_bytes: u64,
}

impl Outcome {
    /// Returns the rows of an upload that ended without an error.
    fn whole(self) -> Vec<Row> {
        assert_eq!(self.end, Ok(()));
        self.rows
    }
}

/// Drives an unpacker to its end with chunks of these sizes; the last size is repeated.
fn drive(unpacker: &mut Unpacker, upload: &[u8], sizes: &[usize]) -> Outcome {
    let mut rows = Vec::new();
    let mut left = Bytes::copy_from_slice(upload);
    let mut sizes = sizes.iter().copied();
    let mut size = sizes.next().unwrap_or(usize::MAX);
    let end = loop {
        match unpacker.next() {
            Ok(Next::Line(line)) => {
                rows.push((line.number, line.bytes.to_vec(), line.is_too_long));
            }
            Ok(Next::Hungry) if left.is_empty() => unpacker.finish(),
            Ok(Next::Hungry) => {
                unpacker.feed(left.split_to(size.min(left.len())));
                size = sizes.next().unwrap_or(size.max(1));
            }
            Ok(Next::End) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    // The result of further calls does not change.
    match (unpacker.next(), &end) {
        (Ok(Next::End), Ok(())) => {}
        (Err(again), Err(error)) => assert_eq!(again, *error),
        (other, _) => panic!("{other:?} after {end:?}"),
    }
    if end.is_ok() {
        assert!(unpacker.consumed_bytes() >= upload.len() as u64, "all of it was read");
    }
    Outcome {
        rows,
        end,
        fingerprint: unpacker.fingerprint(),
        lines: unpacker.lines(),
        decoded_bytes: unpacker.decoded_bytes(),
    }
}

fn unpack_in(limits: Limits, upload: &[u8], sizes: &[usize]) -> Outcome {
    drive(&mut Unpacker::new(limits), upload, sizes)
}

fn unpack(upload: &[u8]) -> Outcome {
    unpack_in(small(), upload, &[])
}

/// Limits that a test can reach.
fn small() -> Limits {
    Limits {
        line_bytes_max: 400,
        decoded_bytes_max: 4 << 20,
        ratio_max: 100,
        ratio_grace_bytes: 2 << 20,
        entries_max: 20,
    }
}

/// Returns the rows and the fingerprint that the rules require, computed slowly.
fn expected(text: &[u8], line_bytes_max: usize) -> (Vec<Row>, [u8; 32]) {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let (mut rows, mut hashed) = (Vec::new(), Vec::new());
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_too_long = line.len() > line_bytes_max;
        if is_too_long || line.iter().any(|byte| !b" \t\r".contains(byte)) {
            let shown = if is_too_long { &line[..256.min(line_bytes_max)] } else { line };
            rows.push((index as u64 + 1, shown.to_vec(), is_too_long));
            hashed.extend_from_slice(line);
            hashed.push(b'\n');
        }
    }
    (rows, *blake3::hash(&hashed).as_bytes())
}

fn rows_of(text: &[u8]) -> Vec<Row> {
    expected(text, small().line_bytes_max).0
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// An entry of an archive, and the form in which it is written.
#[derive(Clone, Debug)]
struct Packed<'t> {
    name: &'t str,
    text: &'t [u8],
    is_deflated: bool,
    is_zip64: bool,
}

fn entry<'t>(name: &'t str, text: &'t [u8]) -> Packed<'t> {
    Packed { name, text, is_deflated: true, is_zip64: false }
}

fn write_entries<W: std::io::Write + std::io::Seek>(writer: &mut zip::ZipWriter<W>, entries: &[Packed<'_>]) {
    for entry in entries {
        let method = match entry.is_deflated {
            true => zip::CompressionMethod::Deflated,
            false => zip::CompressionMethod::Stored,
        };
        let options =
            zip::write::SimpleFileOptions::default().compression_method(method).large_file(entry.is_zip64);
        if entry.name.ends_with('/') {
            writer.add_directory(entry.name, options).unwrap();
        } else {
            writer.start_file(entry.name, options).unwrap();
            writer.write_all(entry.text).unwrap();
        }
    }
}

/// Returns an archive whose headers contain the sizes.
fn zip(entries: &[Packed<'_>]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    write_entries(&mut writer, entries);
    writer.finish().unwrap().into_inner()
}

/// Returns an archive written as a stream, in which sizes follow the data.
fn zip_streamed(entries: &[Packed<'_>]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new_stream(Vec::new());
    write_entries(&mut writer, entries);
    writer.finish().unwrap().into_inner()
}

/// Returns the same lines in every encoding.
fn packings(text: &[u8]) -> Vec<(&'static str, Encoding, Vec<u8>)> {
    let stored = Packed { is_deflated: false, ..entry("orders.ndjson", text) };
    let large = Packed { is_zip64: true, ..entry("orders.ndjson", text) };
    vec![
        ("plain", Encoding::Plain, text.to_vec()),
        ("gzip", Encoding::Gzip, gzip(text)),
        ("zstd", Encoding::Zstd, zstd(text)),
        ("zip", Encoding::Zip, zip(&[entry("orders.ndjson", text)])),
        ("zip stored", Encoding::Zip, zip(&[stored])),
        ("zip64", Encoding::Zip, zip(std::slice::from_ref(&large))),
        ("zip streamed", Encoding::Zip, zip_streamed(&[entry("orders.ndjson", text)])),
        ("zip64 streamed", Encoding::Zip, zip_streamed(&[large])),
    ]
}

/// Generates uploads with every kind of line end, and lines around the limit.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "[{}\":a-zé0-9\r \t]{0,30}".prop_map(String::into_bytes),
        1 => Just(Vec::new()),
        1 => (380_usize..420, prop::bool::ANY).prop_map(|(length, has_cr)| {
            let mut line = vec![b'x'; length];
            line.extend(has_cr.then_some(b'\r'));
            line
        }),
        1 => "[ \t\r]{0,3}".prop_map(String::into_bytes),
    ];
    let end = prop_oneof![Just(&b"\n"[..]), Just(&b"\r\n"[..]), Just(&b"\n"[..])];
    (prop::bool::weighted(0.2), prop::collection::vec((line, end), 0..30), prop::bool::ANY).prop_map(
        |(has_mark, lines, is_ended)| {
            let mut text = if has_mark { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
            // The first bytes determine the encoding, so they look like a row.
            text.extend_from_slice(b"{\"");
            for (line, end) in &lines {
                text.extend_from_slice(line);
                text.extend_from_slice(end);
            }
            if !is_ended {
                text.extend_from_slice(b"last");
            }
            text
        },
    )
}

/// Generates chunk sizes, including single bytes and empty chunks.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        prop::collection::vec(0_usize..40, 1..20),
        prop::collection::vec(0_usize..2_000, 1..5),
        Just(vec![]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn however_it_is_packed_and_fed_the_lines_are_those_of_the_text(text in texts(), sizes in sizes()) {
        let (rows, fingerprint) = expected(&text, small().line_bytes_max);
        for (name, encoding, upload) in packings(&text) {
            let mut unpacker = Unpacker::new(small());
            let outcome = drive(&mut unpacker, &upload, &sizes);
            prop_assert_eq!(&outcome.end, &Ok(()), "{}", name);
            prop_assert_eq!(&outcome.rows, &rows, "{}", name);
            prop_assert_eq!(outcome.fingerprint, Some(fingerprint), "{}", name);
            prop_assert_eq!(outcome.decoded_bytes, text.len() as u64, "{}", name);
            prop_assert_eq!(unpacker.encoding(), Some(encoding), "{}", name);
            prop_assert_eq!(unpacker.consumed_bytes(), upload.len() as u64, "{}", name);
        }
    }
}

#[test]
fn it_may_change_threads() {
    fn is_send<T: Send>() {}
    is_send::<Unpacker>();
    is_send::<UnpackError>();
}

#[test]
fn nothing_is_no_lines() {
    for sizes in [&[][..], &[0]] {
        let outcome = unpack_in(small(), b"", sizes);
        assert_eq!((outcome.lines, outcome.decoded_bytes), (0, 0));
        assert_eq!(outcome.whole(), []);
    }
    for (name, _, upload) in packings(b"") {
        assert_eq!(unpack(&upload).whole(), [], "{name}");
    }
}
