//! Variable-length numbers of 7 bits per byte, least significant first (LEB128).

use super::error::SketchError;

/// Appends a number as 1 to 10 bytes.
pub(super) fn write_varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// The unread rest of a sketch's bytes.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl Reader<'_> {
    pub(super) fn byte(&mut self) -> Result<u8, SketchError> {
        let (first, rest) = self.0.split_first().ok_or(SketchError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Reads a number, with one check for the end and one branch per byte for numbers up to 28 bits. With the mixed
    /// lengths in sketches this is faster than a branchless method, in which each number waits for the previous one.
    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, SketchError> {
        if let Some(bytes) = self.0.first_chunk::<4>() {
            let mut value = 0;
            for (at, byte) in bytes.iter().enumerate() {
                value |= u64::from(byte & 0x7F) << (7 * at);
                if *byte < 0x80 {
                    self.0 = &self.0[at + 1..];
                    return Ok(value);
                }
            }
        }
        self.varint_slow()
    }

    #[cold]
    fn varint_slow(&mut self) -> Result<u64, SketchError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7F);
            value |= part << shift;
            if shift == 63 && byte > 1 {
                break;
            }
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(SketchError::Damaged("a number of more than 64 bits"))
    }

    /// Checks that no bytes remain.
    pub(super) fn end(&self) -> Result<(), SketchError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(SketchError::Trailing(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_come_back_at_every_length_with_and_without_bytes_behind_them() {
        for bits in 0..64 {
            for value in [1_u64 << bits, (1 << bits) - 1, u64::MAX >> bits, 0x5555_5555_5555_5555 >> bits] {
                for behind in 0..10 {
                    let mut bytes = Vec::new();
                    write_varint(value, &mut bytes);
                    assert_eq!(bytes.len(), (64 - value.leading_zeros()).div_ceil(7).max(1) as usize);
                    bytes.resize(bytes.len() + behind, 0xFF);
                    let mut reader = Reader(&bytes);
                    assert_eq!(reader.varint(), Ok(value));
                    assert_eq!(reader.0.len(), behind);
                }
            }
        }
    }

    #[test]
    fn a_number_without_an_end_is_refused() {
        assert_eq!(Reader(&[0x80; 7]).varint(), Err(SketchError::Truncated));
        assert!(matches!(Reader(&[0x80; 20]).varint(), Err(SketchError::Damaged(_))));
        let beyond = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02];
        assert!(matches!(Reader(&beyond).varint(), Err(SketchError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn both_ways_of_reading_agree(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
            let (mut fast, mut slow) = (Reader(&bytes), Reader(&bytes));
            prop_assert_eq!(fast.varint(), slow.varint_slow());
        }
    }
}
