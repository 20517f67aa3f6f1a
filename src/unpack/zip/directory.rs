//! The directory at the end of an archive (APPNOTE 4.3.12 to 4.3.16), compared with the entries that were read.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Header;
use super::bytes::{u16_at, u32_at, u64_at};
use super::local::{from_zip64, hash, name_and_extra};
use crate::unpack::error::Fault;
use crate::unpack::input::{Input, Step};

const ENTRY: &[u8] = b"PK\x01\x02";
const SIGNED: &[u8] = b"PK\x05\x05";
const END: &[u8] = b"PK\x05\x06";
const END_ZIP64: &[u8] = b"PK\x06\x06";
const LOCATOR_ZIP64: &[u8] = b"PK\x06\x07";
const DECRYPTION: &[u8] = b"PK\x06\x08";

const SIGNATURE_BYTES: usize = 4;
const ENTRY_BYTES: usize = 46;
const SIGNED_BYTES: usize = 6;
const END_BYTES: usize = 22;
const END_ZIP64_BYTES: usize = 56;
const LOCATOR_BYTES: usize = 20;
/// The maximum size of the zip64 end record, including its extensible data sector.
const END_ZIP64_BYTES_MAX: u64 = 64 << 10;

/// The fields of an entry that its header and the directory share. Sizes and offsets are compared in 32 bits, because
/// some writers store only 32 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) name_hash: u64,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed_bytes: u64,
    pub(super) plain_bytes: u64,
    pub(super) offset_bytes: u64,
}

/// A summary of a list of entries in 16 bytes: their number, and the sum of their hashes. The order of the entries
/// does not matter. Two lists with the same tally have the same entries, unless someone searched 2^64 lists for such
/// a pair, which would deceive only that person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    entries: u64,
    sum: u64,
}

impl Tally {
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn add(&mut self, record: &Record) {
        let mut hasher = DefaultHasher::new();
        (record.name_hash, record.method, record.crc).hash(&mut hasher);
        for bytes in [record.packed_bytes, record.plain_bytes, record.offset_bytes] {
            (bytes as u32).hash(&mut hasher);
        }
        self.entries += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    tally: Tally,
    starts_at: Option<u64>,
    /// The offset where the directory's entries end, once a zip64 end record has been read.
    ends_at: Option<u64>,
    zip64: Option<Zip64>,
    /// The remaining bytes of the comment, once the end record has been read.
    comment_bytes_left: Option<u64>,
}

/// The content of the zip64 end record, and the record's offset.
#[derive(Clone, Copy, Debug)]
struct Zip64 {
    at: u64,
    entries: u64,
    bytes: u64,
    starts_at: u64,
}

impl Directory {
    /// Reads from the first signature that does not belong to an entry to the end of the upload.
    pub(super) fn step(
        &mut self,
        header: &mut Header,
        read: &Tally,
        input: &mut Input,
    ) -> Result<Step, Fault> {
        loop {
            if let Some(left) = self.comment_bytes_left {
                self.comment_bytes_left = Some(left - input.take(left).len() as u64);
                return match (self.comment_bytes_left, input.is_empty()) {
                    (Some(0), true) if input.is_ended() => Ok(Step::End),
                    (Some(0), true) => Ok(Step::Hungry),
                    (Some(0), false) => Err(Fault::Damaged("unexpected bytes follow the archive")),
                    _ => input.starved(),
                };
            }
            if !header.reaches(input, SIGNATURE_BYTES) {
                return input.starved();
            }
            let (fixed_bytes, is_whole) = match self.length(header, input)? {
                Some(length) => (length, header.reaches(input, length)),
                None => (0, false),
            };
            if !is_whole {
                return input.starved();
            }
            self.read(header, read)?;
            header.drop_first(fixed_bytes);
        }
    }

    /// Returns the length of the current header, once enough of it is present.
    fn length(&self, header: &mut Header, input: &mut Input) -> Result<Option<usize>, Fault> {
        let varying = |bytes: &[u8], ats: &[usize]| -> usize {
            ats.iter().map(|at| usize::from(u16_at(bytes, *at))).sum()
        };
        let is_over = self.ends_at.is_some();
        let length = match &header.bytes[..SIGNATURE_BYTES] {
            ENTRY if !is_over => header
                .reaches(input, ENTRY_BYTES)
                .then(|| ENTRY_BYTES + varying(&header.bytes, &[28, 30, 32])),
            SIGNED if !is_over => {
                header.reaches(input, SIGNED_BYTES).then(|| SIGNED_BYTES + varying(&header.bytes, &[4]))
            }
            END_ZIP64 if !is_over => {
                if !header.reaches(input, END_ZIP64_BYTES) {
                    return Ok(None);
                }
                // The stored length excludes the length field itself and the signature before it.
                let length = u64_at(&header.bytes, 4).saturating_add(12);
                if length < END_ZIP64_BYTES as u64 || length > END_ZIP64_BYTES_MAX {
                    return Err(Fault::Damaged(
                        "the zip64 end record of the archive has an impossible length",
                    ));
                }
                Some(length as usize)
            }
            LOCATOR_ZIP64 if self.zip64.is_some() => Some(LOCATOR_BYTES),
            END => Some(END_BYTES),
            DECRYPTION => return Err(Fault::Unsupported("the archive's directory is encrypted")),
            _ => return Err(Fault::Damaged("the archive has bytes that belong to no entry")),
        };
        Ok(length)
    }

    /// Reads a complete header.
    fn read(&mut self, header: &Header, read: &Tally) -> Result<(), Fault> {
        let Header { bytes, offset_bytes: at } = header;
        let starts_at = *self.starts_at.get_or_insert(*at);
        match &bytes[..SIGNATURE_BYTES] {
            ENTRY => {
                if self.tally.entries == read.entries {
                    return Err(Fault::Damaged(
                        "the archive's directory lists more entries than the archive \
                                               has",
                    ));
                }
                self.tally.add(&record(bytes));
            }
            END_ZIP64 => {
                self.ends_at = Some(*at);
                self.zip64 = Some(Zip64 {
                    at: *at,
                    entries: u64_at(bytes, 32),
                    bytes: u64_at(bytes, 40),
                    starts_at: u64_at(bytes, 48),
                });
            }
            LOCATOR_ZIP64 if self.zip64.is_none_or(|end| end.at != u64_at(bytes, 8)) => {
                return Err(Fault::Damaged("the archive's zip64 end record is not where its locator says"));
            }
            END => {
                let directory_bytes = self.ends_at.unwrap_or(*at) - starts_at;
                self.close(bytes, read, starts_at, directory_bytes)?;
                self.comment_bytes_left = Some(u64::from(u16_at(bytes, 20)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares the end record with the directory, and the directory with the entries.
    fn close(&self, end: &[u8], read: &Tally, starts_at: u64, bytes: u64) -> Result<(), Fault> {
        let entries = self.tally.entries;
        let is_told = match self.zip64 {
            Some(zip64) => (zip64.entries, zip64.bytes, zip64.starts_at) == (entries, bytes, starts_at),
            None => true,
        };
        // The stored value is the number itself, its lower bits if the writer does not support zip64, or a reference
        // to the zip64 record.
        let fits = |told: u32, is: u64, mask: u32| {
            told == is as u32 & mask || (self.zip64.is_some() && told == mask)
        };
        let is_told = is_told
            && fits(u32::from(u16_at(end, 10)), entries, 0xffff)
            && fits(u32_at(end, 12), bytes, u32::MAX)
            && fits(u32_at(end, 16), starts_at, u32::MAX);
        if !is_told {
            return Err(Fault::Damaged("the archive's end record does not match its directory"));
        }
        match self.tally == *read {
            true => Ok(()),
            false => Err(Fault::Damaged("the archive's directory does not match its entries")),
        }
    }
}

/// Returns a directory entry's fields.
fn record(header: &[u8]) -> Record {
    let (name, varying) = name_and_extra(header, ENTRY_BYTES, u16_at(header, 28));
    let extra = varying.get(..usize::from(u16_at(header, 30))).unwrap_or_default();
    let [mut packed_bytes, mut plain_bytes, mut offset_bytes] =
        [20, 24, 42].map(|at| u64::from(u32_at(header, at)));
    from_zip64(extra, &mut [&mut plain_bytes, &mut packed_bytes, &mut offset_bytes]);
    Record {
        name_hash: hash(name),
        method: u16_at(header, 10),
        crc: u32_at(header, 16),
        packed_bytes,
        plain_bytes,
        offset_bytes,
    }
}
