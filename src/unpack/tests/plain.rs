//! Plain lines: limits on a line, and resuming an interrupted upload.

use super::*;
use crate::unpack::Resume;

#[test]
fn a_line_that_is_too_long_costs_itself_only() {
    let long = vec![b'y'; 300_000];
    let text =
        [b"{1}\n", &long[..], b"\r\n\n{2}\r\n", &long[..401], b"\n", &long[..400], b"\r\n{3}"].concat();
    let (rows, fingerprint) = expected(&text, 400);
    assert_eq!(rows.iter().filter(|row| row.2).count(), 2);
    for sizes in [&[][..], &[1], &[4, 100, 300_000], &[65_536], &[300_004], &[300_005]] {
        let outcome = unpack_in(small(), &text, sizes);
        assert_eq!(outcome.fingerprint, Some(fingerprint), "{sizes:?}");
        assert_eq!(outcome.whole(), rows, "{sizes:?}");
    }
    assert_eq!(unpack(&gzip(&text)).whole(), rows);
}

#[test]
fn what_is_kept_of_a_line_is_bounded() {
    let mut unpacker = Unpacker::new(Limits { line_bytes_max: 100_000, ..Limits::default() });
    let chunk = Bytes::from(vec![b'z'; 30_000]);
    for _ in 0..1000 {
        assert!(matches!(unpacker.next(), Ok(Next::Hungry)));
        assert!(unpacker.held_bytes() <= 100_004);
        unpacker.feed(chunk.clone());
    }
    unpacker.finish();
    let Ok(Next::Line(line)) = unpacker.next() else { panic!("a line") };
    assert_eq!((line.number, line.bytes, line.is_too_long), (1, &[b'z'; 256][..], true));
    assert!(matches!(unpacker.next(), Ok(Next::End)));
    assert!(unpacker.held_bytes() <= 100_004);
}

#[test]
fn a_line_within_a_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b"{\"a\":1}\n{\"b\":2}\n{");
    let within = chunk.as_ptr_range();
    let mut unpacker = Unpacker::new(small());
    assert!(matches!(unpacker.next(), Ok(Next::Hungry)));
    // The first bytes determine the encoding, and remain in the chunk.
    unpacker.feed(chunk.clone());
    for number in 1..=2 {
        let Ok(Next::Line(line)) = unpacker.next() else { panic!("a line") };
        assert_eq!(line.number, number);
        assert!(within.contains(&line.bytes.as_ptr()), "line {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_goes_on_where_it_broke_off(text in texts(), cuts in prop::collection::vec(0_usize..1_000, 0..4), sizes in sizes()) {
        let all = unpack(&text).whole();
        let mut rows: Vec<Row> = Vec::new();
        let mut at = Resume { offset_bytes: 0, lines: 0 };
        for cut in cuts {
            // `cut` more bytes arrive, and then the connection breaks.
            let came = &text[at.offset_bytes as usize..];
            let came = &came[..cut.min(came.len())];
            let mut unpacker = Unpacker::resume(small(), at);
            unpacker.feed(Bytes::copy_from_slice(came));
            while let Next::Line(line) = unpacker.next().unwrap() {
                rows.push((line.number, line.bytes.to_vec(), line.is_too_long));
            }
            prop_assert_eq!(unpacker.fingerprint(), None);
            let next = unpacker.plain_resume().unwrap();
            prop_assert!(next.offset_bytes <= at.offset_bytes + came.len() as u64);
            let whole = came.iter().rposition(|byte| *byte == b'\n').map_or(0, |lf| lf + 1);
            prop_assert_eq!(next.offset_bytes, at.offset_bytes + whole as u64);
            at = serde_json::from_str(&serde_json::to_string(&next).unwrap()).unwrap();
        }
        let mut unpacker = Unpacker::resume(small(), at);
        let rest = drive(&mut unpacker, &text[at.offset_bytes as usize..], &sizes);
        prop_assert_eq!(unpacker.consumed_bytes(), text.len() as u64);
        prop_assert_eq!(unpacker.decoded_bytes(), text.len() as u64);
        rows.extend(rest.whole());
        prop_assert_eq!(rows, all);
    }
}

#[test]
fn only_plain_lines_can_go_on() {
    let text = b"{1}\n{2}\n";
    for (name, encoding, upload) in packings(text) {
        let mut unpacker = Unpacker::new(small());
        assert_eq!(unpacker.plain_resume(), None);
        unpacker.feed(Bytes::from(upload));
        assert!(matches!(unpacker.next(), Ok(Next::Line(_))), "{name}");
        let expected = (encoding == Encoding::Plain).then_some(Resume { offset_bytes: 4, lines: 1 });
        assert_eq!(unpacker.plain_resume(), expected, "{name}");
    }
}
