//! The record of checkpoints, next to the database: how much of the WAL is being copied, or was copied.
//!
//! While a checkpoint copies, the database file is a mixture of two states, which only the WAL completes. The record
//! is durable before the first page is copied, so that a start knows which part of the WAL it requires. After a
//! complete checkpoint, the file contains everything up to the recorded frame by itself.
//!
//! Only the start of the record is synced. It names the frames that were synced before it. If a power cut loses what is
//! written later, or keeps it and loses the frames that it names, the start takes the safer way
//! ([`recover`](super::recover::recover)).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::healed::{RECORD, remove};
use super::identity::beside;
use super::wal::Salts;
use crate::base::durable;

const MAGIC: [u8; 8] = *b"FHPASS\0\x02";
/// Less than a sector, which a disk writes as a whole.
const BYTES: usize = 48;
/// The checksum's place.
const CRC: usize = BYTES - 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PassState {
    Copying,
    Copied,
}

/// One checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PassRecord {
    pub(super) state: PassState,
    /// Counts the checkpoints of the file.
    pub(super) number: u64,
    /// The run through the WAL to which the frames belong. Zeros if the WAL has no name any more.
    pub(super) salts: Salts,
    /// The frames from the start of the WAL that were synced before the record was. No power cut loses them.
    pub(super) synced: u64,
    /// The frames from the start of the WAL that the database file requires, or that it contains. SQLite syncs them
    /// before it copies the first page.
    pub(super) frames: u64,
}

impl PassRecord {
    /// Reads the record of a database. Returns `None` if there is none, or if its bytes are not a record.
    pub(super) fn read(database: &Path) -> io::Result<Option<PassRecord>> {
        match std::fs::read(beside(database, RECORD)) {
            Ok(bytes) => Ok(PassRecord::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the record of a database whose WAL is removed too.
    pub(super) fn remove(database: &Path) -> io::Result<()> {
        remove(&beside(database, RECORD))
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        let is_copied = u32::from(self.state == PassState::Copied);
        bytes[8..12].copy_from_slice(&is_copied.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.number.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.salts);
        bytes[28..36].copy_from_slice(&self.synced.to_le_bytes());
        bytes[36..CRC].copy_from_slice(&self.frames.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC]);
        bytes[CRC..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<PassRecord> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let crc = u32::from_le_bytes(bytes[CRC..].try_into().ok()?);
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..CRC]) != crc {
            return None;
        }
        Some(PassRecord {
            state: match u32::from_le_bytes(bytes[8..12].try_into().ok()?) {
                0 => PassState::Copying,
                1 => PassState::Copied,
                _ => return None,
            },
            number: u64::from_le_bytes(bytes[12..20].try_into().ok()?),
            salts: bytes[20..28].try_into().ok()?,
            synced: u64::from_le_bytes(bytes[28..36].try_into().ok()?),
            frames: u64::from_le_bytes(bytes[36..CRC].try_into().ok()?),
        })
    }
}

/// The record's file, open for writing.
#[derive(Debug)]
pub(super) struct PassFile {
    path: PathBuf,
    file: File,
    is_named: bool,
}

impl PassFile {
    /// Opens the record of a database, and creates it if there is none.
    pub(super) fn open(database: &Path) -> io::Result<PassFile> {
        let path = beside(database, RECORD);
        let file = File::options().write(true).create(true).truncate(false).open(&path)?;
        Ok(PassFile { path, file, is_named: false })
    }

    /// Writes the record before the first page is copied, and syncs it. The frames must be synced already.
    pub(super) fn begin(&mut self, number: u64, salts: Salts, synced: u64) -> io::Result<()> {
        let record = PassRecord { state: PassState::Copying, number, salts, synced, frames: synced };
        self.file.write_all_at(&record.encode(), 0)?;
        self.file.sync_data()?;
        if !self.is_named {
            // The same sync makes the name of a new WAL durable.
            durable::sync_folder(durable::holder_of(&self.path))?;
            self.is_named = true;
        }
        Ok(())
    }

    /// Writes that the copying requires these frames too, which were committed since [`PassFile::begin`]. Not synced:
    /// SQLite syncs them before it copies. If a power cut keeps this record and loses the frames, nothing was copied.
    pub(super) fn extend(&self, number: u64, salts: Salts, synced: u64, frames: u64) -> io::Result<()> {
        let record = PassRecord { state: PassState::Copying, number, salts, synced, frames };
        self.file.write_all_at(&record.encode(), 0)
    }

    /// Writes that the checkpoint is complete: the database file is synced and contains these frames.
    pub(super) fn end(&self, number: u64, salts: Salts, frames: u64) -> io::Result<()> {
        let record = PassRecord { state: PassState::Copied, number, salts, synced: frames, frames };
        self.file.write_all_at(&record.encode(), 0)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_record_is_read_as_written_and_damage_is_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("shard.db");
        assert_eq!(PassRecord::read(&database).unwrap(), None);
        let mut file = PassFile::open(&database).unwrap();
        assert_eq!(PassRecord::read(&database).unwrap(), None);
        let (number, salts, frames) = (7, *b"12345678", 4_711);
        file.begin(number, salts, frames).unwrap();
        let begun = PassRecord { state: PassState::Copying, number, salts, synced: frames, frames };
        assert_eq!(PassRecord::read(&database).unwrap(), Some(begun));
        file.extend(number, salts, frames, frames + 2).unwrap();
        let extended = PassRecord { frames: frames + 2, ..begun };
        assert_eq!(PassRecord::read(&database).unwrap(), Some(extended));
        file.end(number, salts, frames + 3).unwrap();
        let (state, whole) = (PassState::Copied, frames + 3);
        let ended = PassRecord { state, number, salts, synced: whole, frames: whole };
        assert_eq!(PassRecord::read(&database).unwrap(), Some(ended));
        let path = beside(&database, RECORD);
        let bytes = fs::read(&path).unwrap();
        for at in 0..BYTES {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert_eq!(PassRecord::read(&database).unwrap(), None, "byte {at}");
        }
        PassRecord::remove(&database).unwrap();
        PassRecord::remove(&database).unwrap();
        assert_eq!(PassRecord::read(&database).unwrap(), None);
    }
}
