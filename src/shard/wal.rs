//! The format of SQLite's WAL, as far as a check of its checksums requires it
//! (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
//!
//! SQLite itself reads a WAL up to the first wrong checksum and takes the rest for a commit that was never completed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The magic number without its last bit, which is set if the words of the checksums are big-endian.
const MAGIC: u32 = 0x377f_0682;
const PAGE_BYTES_MAX: u32 = 65_536;

/// The eight bytes that distinguish one run through a WAL file from the one before. Each frame repeats them.
pub(super) type Salts = [u8; 8];

/// A WAL file as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wal {
    /// No file, or an empty one.
    Missing,
    /// Its header is not valid, so SQLite ignores the file.
    Headless,
    /// The number of valid frames at its start, at most the number asked for.
    Sound { salts: Salts, frames: u64 },
}

impl Wal {
    /// Reads a WAL up to `frames_max` frames, at about 1 GB/s.
    pub(super) fn read(path: &Path, frames_max: u64) -> io::Result<Wal> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Wal::Missing),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() == 0 {
            return Ok(Wal::Missing);
        }
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut header = [0; HEADER_BYTES];
        if !fill(&mut file, &mut header)? {
            return Ok(Wal::Headless);
        }
        let (magic, page_bytes) = (word(&header, 0), word(&header, 8));
        let is_page = page_bytes.is_power_of_two() && (512..=PAGE_BYTES_MAX).contains(&page_bytes);
        let mut sum = Checksum { is_big: magic & 1 == 1, first: 0, second: 0 };
        sum.add(&header[..24]);
        if magic & !1 != MAGIC || !is_page || !sum.is(&header[24..]) {
            return Ok(Wal::Headless);
        }
        let salts: Salts = std::array::from_fn(|at| header[16 + at]);
        let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes as usize];
        let mut frames = 0;
        while frames < frames_max && fill(&mut file, &mut frame)? {
            sum.add(&frame[..8]);
            sum.add(&frame[FRAME_HEADER_BYTES..]);
            if word(&frame, 0) == 0 || frame[8..16] != salts || !sum.is(&frame[16..24]) {
                break;
            }
            frames += 1;
        }
        Ok(Wal::Sound { salts, frames })
    }

    /// Returns the salts of a WAL, or `None` if it has no valid header.
    pub(super) fn salts(path: &Path) -> io::Result<Option<Salts>> {
        Ok(match Wal::read(path, 0)? {
            Wal::Sound { salts, .. } => Some(salts),
            Wal::Missing | Wal::Headless => None,
        })
    }
}

/// Fills the buffer, or returns `false` if the file ends before.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|index| bytes[at + index]))
}

/// SQLite's checksum of a WAL: two sums over pairs of words, from the header on.
struct Checksum {
    is_big: bool,
    first: u32,
    second: u32,
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let value = |word: &[u8]| {
            let word = std::array::from_fn(|at| word[at]);
            if self.is_big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
        };
        let (mut first, mut second) = (self.first, self.second);
        for pair in bytes.chunks_exact(8) {
            first = first.wrapping_add(value(&pair[..4])).wrapping_add(second);
            second = second.wrapping_add(value(&pair[4..])).wrapping_add(first);
        }
        (self.first, self.second) = (first, second);
    }

    /// Returns `true` if the stored sums, which are always big-endian, are these.
    fn is(&self, stored: &[u8]) -> bool {
        (self.first, self.second) == (word(stored, 0), word(stored, 4))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::*;

    #[test]
    fn the_frames_of_sqlite_are_valid_up_to_the_first_changed_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        let wal = dir.path().join("a.db-wal");
        assert_eq!(Wal::read(&wal, 9).unwrap(), Wal::Missing);
        let setup = "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(20000))";
        connection.execute_batch(setup).unwrap();
        let bytes = fs::read(&wal).unwrap();
        let whole = (bytes.len() - HEADER_BYTES) / (FRAME_HEADER_BYTES + 4096);
        assert!(whole > 5);
        let Wal::Sound { salts, frames } = Wal::read(&wal, u64::MAX).unwrap() else { panic!() };
        assert_eq!((frames, Some(salts)), (whole as u64, Wal::salts(&wal).unwrap()));
        assert_eq!(Wal::read(&wal, 3).unwrap(), Wal::Sound { salts, frames: 3 });
        let copy = dir.path().join("copy-wal");
        for at in (HEADER_BYTES..bytes.len()).step_by(977) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            fs::write(&copy, &bytes).unwrap();
            let sound = (at - HEADER_BYTES) / (FRAME_HEADER_BYTES + 4096);
            assert_eq!(Wal::read(&copy, u64::MAX).unwrap(), Wal::Sound { salts, frames: sound as u64 });
        }
        for at in 0..HEADER_BYTES {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            fs::write(&copy, &bytes).unwrap();
            assert_eq!(Wal::read(&copy, u64::MAX).unwrap(), Wal::Headless, "byte {at}");
        }
        fs::write(&copy, &bytes[..HEADER_BYTES + 50]).unwrap();
        assert_eq!(Wal::read(&copy, u64::MAX).unwrap(), Wal::Sound { salts, frames: 0 });
        fs::write(&copy, vec![0; 9_000]).unwrap();
        assert_eq!(Wal::read(&copy, u64::MAX).unwrap(), Wal::Headless);
    }
}
