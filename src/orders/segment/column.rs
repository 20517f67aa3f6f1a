//! One column of a segment as bytes: integers as distances from the smallest one, all equally wide.
//!
//! ```text
//! checksum u32 │ width u8 │ unit u8 │ count u32 │ base i64 │ count * width bytes
//! ```
//! A value is `base + unit * distance`, modulo 2^64. The width is 0, 1, 2, 4 or 8 bytes: 0 if all values are equal, and 8
//! if the distances need it, so every integer has a place. Times are mostly whole seconds, hence the unit. All numbers
//! are little-endian. The checksum is CRC-32C, seeded with the row id of the column, so a column in the wrong place
//! is as damaged as one with other bytes.

/// The bytes before the distances.
const HEADER_BYTES: usize = 18;
/// The units of a distance, by their code.
const UNITS: [u64; 3] = [1, 1_000, 1_000_000];

/// Why bytes are not the column that they should be. The file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ColumnError {
    #[error("it is not there")]
    Missing,
    #[error("its checksum differs")]
    Checksum,
    #[error("its header is invalid")]
    Header,
    #[error("it has another number of values")]
    Count,
}

/// Returns the bytes with their checksum in front. `id` is the row that will hold them.
pub(super) fn seal(id: i64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + content.len());
    bytes.extend_from_slice(&checksum(id, content).to_le_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// Returns the bytes behind the checksum, if it is right.
pub(super) fn unseal(id: i64, bytes: &[u8]) -> Result<&[u8], ColumnError> {
    let (stored, content) = bytes.split_first_chunk::<4>().ok_or(ColumnError::Header)?;
    if u32::from_le_bytes(*stored) == checksum(id, content) {
        Ok(content)
    } else {
        Err(ColumnError::Checksum)
    }
}

fn checksum(id: i64, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), content)
}

/// Encodes values with the smallest width. Takes about 2 ns a value.
pub(super) fn encode(id: i64, values: &[i64]) -> Vec<u8> {
    let base = values.iter().copied().min().unwrap_or_default();
    let distance = |value: &i64| value.wrapping_sub(base) as u64;
    let widest = values.iter().map(distance).max().unwrap_or_default();
    let mut unit = 0;
    for (code, size) in UNITS.iter().enumerate().skip(1) {
        let is_narrower = width_of(widest / size) < width_of(widest / UNITS[unit]);
        if is_narrower && values.iter().all(|value| distance(value).is_multiple_of(*size)) {
            unit = code;
        }
    }
    write(id, base, unit, width_of(widest / UNITS[unit]), values)
}

/// Encodes values as they are: eight bytes each, so that any of them can be replaced in place.
pub(super) fn encode_plain(id: i64, values: &[i64]) -> Vec<u8> {
    write(id, 0, 0, 8, values)
}

fn width_of(distance: u64) -> usize {
    match distance {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

fn write(id: i64, base: i64, unit: usize, width: usize, values: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + width * values.len());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[width as u8, unit as u8]);
    bytes.extend_from_slice(&(values.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&base.to_le_bytes());
    let distances = values.iter().map(|value| value.wrapping_sub(base) as u64 / UNITS[unit]);
    match width {
        0 => {}
        1 => bytes.extend(distances.map(|distance| distance as u8)),
        2 => bytes.extend(distances.flat_map(|distance| (distance as u16).to_le_bytes())),
        4 => bytes.extend(distances.flat_map(|distance| (distance as u32).to_le_bytes())),
        _ => bytes.extend(distances.flat_map(u64::to_le_bytes)),
    }
    let checksum = checksum(id, &bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The header of a column whose checksum and length are right.
struct Header<'b> {
    base: i64,
    unit: u64,
    width: usize,
    distances: &'b [u8],
}

fn header(id: i64, bytes: &[u8], count: usize) -> Result<Header<'_>, ColumnError> {
    let content = unseal(id, bytes)?;
    let ([width, unit, rest @ ..], distances) =
        content.split_first_chunk::<{ HEADER_BYTES - 4 }>().ok_or(ColumnError::Header)?;
    let (width, unit) = (usize::from(*width), usize::from(*unit));
    let (Some(unit), true, Some((stored, base))) =
        (UNITS.get(unit), [0, 1, 2, 4, 8].contains(&width), rest.split_first_chunk::<4>())
    else {
        return Err(ColumnError::Header);
    };
    let base = i64::from_le_bytes(base.try_into().map_err(|_| ColumnError::Header)?);
    let stored = u32::from_le_bytes(*stored) as usize;
    if stored != count || count.checked_mul(width) != Some(distances.len()) {
        return Err(ColumnError::Count);
    }
    Ok(Header { base, unit: *unit, width, distances })
}

/// Decodes a column of `count` values into `values`, whose content is replaced. Takes about 0.5 ns a value.
pub(super) fn decode(id: i64, bytes: &[u8], count: usize, values: &mut Vec<i64>) -> Result<(), ColumnError> {
    let Header { base, unit, width, distances } = header(id, bytes, count)?;
    values.clear();
    let value = |distance: u64| base.wrapping_add(distance.wrapping_mul(unit) as i64);
    match width {
        0 => values.resize(count, base),
        1 => values.extend(distances.iter().map(|distance| value(u64::from(*distance)))),
        2 => {
            let chunks = distances.as_chunks::<2>().0.iter();
            values.extend(chunks.map(|distance| value(u64::from(u16::from_le_bytes(*distance)))));
        }
        4 => {
            let chunks = distances.as_chunks::<4>().0.iter();
            values.extend(chunks.map(|distance| value(u64::from(u32::from_le_bytes(*distance)))));
        }
        _ => {
            let chunks = distances.as_chunks::<8>().0.iter();
            values.extend(chunks.map(|distance| value(u64::from_le_bytes(*distance))));
        }
    }
    Ok(())
}

/// Replaces values of a column from [`encode_plain`] in place. Values are given with their places; those behind the end
/// are ignored.
pub(super) fn replace(id: i64, bytes: &mut [u8], values: &[(usize, i64)]) -> Result<(), ColumnError> {
    let count = bytes.len().saturating_sub(HEADER_BYTES) / 8;
    let Header { base, unit, width, .. } = header(id, bytes, count)?;
    if (base, unit, width) != (0, 1, 8) {
        return Err(ColumnError::Header);
    }
    for (place, value) in values {
        let distances = bytes[HEADER_BYTES..].as_chunks_mut::<8>().0;
        if let Some(stored) = distances.get_mut(*place) {
            *stored = value.to_le_bytes();
        }
    }
    let checksum = checksum(id, &bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(values: &[i64]) -> Vec<u8> {
        let bytes = encode(7, values);
        let mut found = vec![1, 2, 3];
        decode(7, &bytes, values.len(), &mut found).unwrap();
        assert_eq!(found, values);
        bytes
    }

    #[test]
    fn a_column_is_as_narrow_as_its_values_permit() {
        let bytes_a_value =
            |values: &[i64]| (round(values).len() - HEADER_BYTES) as f64 / values.len() as f64;
        assert_eq!(round(&[]).len(), HEADER_BYTES);
        assert_eq!(bytes_a_value(&[5]), 0.0);
        assert_eq!(bytes_a_value(&[i64::MIN; 9]), 0.0);
        for (distance, width) in [
            (1, 1.0),
            (255, 1.0),
            (256, 2.0),
            (65_535, 2.0),
            (65_536, 4.0),
            (u64::from(u32::MAX), 4.0),
            (1 << 32, 8.0),
            (u64::MAX, 8.0),
        ] {
            for base in [0, -9, 1_772_323_200_000_000, i64::MIN, i64::MAX] {
                let other = base.wrapping_add(distance as i64);
                assert_eq!(bytes_a_value(&[base.min(other), base.max(other)]), {
                    // A distance that passes the end of the range is the one from the other side.
                    let wide = base.min(other).abs_diff(base.max(other));
                    if wide == distance { width } else { width_of(wide) as f64 }
                });
            }
        }
    }

    #[test]
    fn times_of_a_day_in_whole_seconds_need_four_bytes_and_milliseconds_too() {
        let first_us = 1_772_323_200_000_000;
        let of = |step_us: i64| (0..86_400).map(|at| first_us + at * step_us).collect::<Vec<_>>();
        for (step_us, width) in [(1_000_000, 4), (1_000, 4), (1_000_001, 8), (500_000, 4), (1, 4)] {
            let values = of(step_us);
            assert_eq!(round(&values).len(), HEADER_BYTES + width * values.len(), "{step_us}");
        }
        let one_late = [of(1_000_000), vec![first_us + 86_400_000_001]].concat();
        assert_eq!(round(&one_late).len(), HEADER_BYTES + 8 * one_late.len());
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let bytes = encode(3, &[4, 900, -70_000, 5_000_000_000]);
        let mut values = Vec::new();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(3, &damaged, 4, &mut values), Err(ColumnError::Checksum), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(decode(3, &bytes[..end], 4, &mut values).is_err(), "{end} bytes");
        }
        assert_eq!(decode(3, &[&bytes[..], &[0]].concat(), 4, &mut values), Err(ColumnError::Checksum));
        assert_eq!(decode(4, &bytes, 4, &mut values), Err(ColumnError::Checksum));
        assert_eq!(decode(3, &bytes, 5, &mut values), Err(ColumnError::Count));
        assert_eq!(decode(3, &bytes, 4, &mut values), Ok(()));
    }

    /// A program that writes right checksums may still write invalid headers.
    #[test]
    fn a_header_with_a_right_checksum_is_still_checked() {
        let with = |at: usize, byte: u8| {
            let mut content = encode(3, &[1, 2])[4..].to_vec();
            content[at] = byte;
            decode(3, &seal(3, &content), 2, &mut Vec::new())
        };
        assert_eq!(with(0, 3), Err(ColumnError::Header));
        assert_eq!(with(0, 9), Err(ColumnError::Header));
        assert_eq!(with(0, 2), Err(ColumnError::Count));
        assert_eq!(with(1, 3), Err(ColumnError::Header));
        assert_eq!(with(2, 3), Err(ColumnError::Count));
        assert_eq!(with(5, 0xff), Err(ColumnError::Count));
        assert_eq!(decode(3, &seal(3, &[1, 0, 9]), 0, &mut Vec::new()), Err(ColumnError::Header));
    }

    #[test]
    fn plain_values_are_replaced_where_they_are() {
        let keys = [0x1122_3344_5566_7788, -2, 77];
        let mut bytes = encode_plain(9, &keys);
        assert_eq!(bytes.len(), HEADER_BYTES + 24);
        replace(9, &mut bytes, &[(0, 0), (2, -5), (3, 9)]).unwrap();
        let mut values = Vec::new();
        decode(9, &bytes, 3, &mut values).unwrap();
        assert_eq!(values, [0, -2, -5]);
        assert!(memchr::memmem::find(&bytes, &keys[0].to_le_bytes()).is_none());
        assert_eq!(replace(8, &mut bytes, &[(1, 0)]), Err(ColumnError::Checksum));
        // Other widths have no place for a value.
        assert!(replace(9, &mut encode(9, &[1, 1 << 40]), &[(0, 0)]).is_err());
        assert!(replace(9, &mut encode(9, &[1, 2, 3]), &[(0, 0)]).is_err());
        assert!(replace(9, &mut [], &[(0, 0)]).is_err());
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            values in prop_oneof![
                prop::collection::vec(any::<i64>(), 0..200),
                prop::collection::vec(0..300_i64, 0..200),
                prop::collection::vec((0..90_000_i64).prop_map(|second| second * 1_000_000 - 7), 0..200),
            ],
        ) {
            round(&values);
            let mut found = Vec::new();
            decode(1, &encode_plain(1, &values), values.len(), &mut found).unwrap();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80), count in 0..9_usize) {
            prop_assert!(decode(5, &bytes, count, &mut Vec::new()).is_err());
            // The same with a right checksum: never a panic.
            let _ = decode(5, &seal(5, &bytes), count, &mut Vec::new());
        }
    }
}
