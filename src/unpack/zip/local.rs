//! The header before an entry (APPNOTE 4.3.7): its fields, and whether the entry can be read.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::bytes::{u16_at, u32_at, u64_at};
use super::directory::Record;
use crate::unpack::error::Fault;

/// The length of the fixed fields. The name and the extra field follow them.
pub(super) const FIXED_BYTES: usize = 30;

/// Flags (APPNOTE 4.4.4).
const ENCRYPTED: u16 = 1;
const DESCRIPTOR: u16 = 1 << 3;
const STRONGLY_ENCRYPTED: u16 = 1 << 6;
const MASKED: u16 = 1 << 13;

/// Names of entries that contain rows, compressed or not, in upper or lower case.
const WANTED_ENDS: [&[u8]; 3] = [b".ndjson", b".jsonl", b".json"];
/// The additional suffix of a compressed entry.
const PACKED_ENDS: [&[u8]; 3] = [b".gz", b".zst", b".zstd"];
/// macOS stores metadata of a file in another entry with the file's name.
const MAC_FOLDER: &[u8] = b"__MACOSX/";

/// The value of a size or offset whose actual value is in the zip64 field.
const IN_ZIP64: u64 = 0xffff_ffff;
const ZIP64_ID: u16 = 1;

const SHOWN_CHARACTERS_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
    Other,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) shown_name: Box<str>,
    name_hash: u64,
    pub(super) is_wanted: bool,
    pub(super) is_directory: bool,
    flags: u16,
    method: u16,
    /// Set if the CRC-32 and the sizes follow the data and are not known before.
    pub(super) has_descriptor: bool,
    pub(super) crc: u32,
    pub(super) packed_bytes: u64,
    pub(super) plain_bytes: u64,
    offset_bytes: u64,
}

/// Returns the length of the header, at most 131,100 bytes, from its first [`FIXED_BYTES`].
pub(super) fn length(fixed: &[u8]) -> usize {
    FIXED_BYTES + usize::from(u16_at(fixed, 26)) + usize::from(u16_at(fixed, 28))
}

impl Entry {
    /// Parses a complete header that begins at this offset of the upload.
    pub(super) fn read(header: &[u8], offset_bytes: u64) -> Entry {
        let (name, extra) = name_and_extra(header, FIXED_BYTES, u16_at(header, 26));
        let flags = u16_at(header, 6);
        let (mut packed_bytes, mut plain_bytes) =
            (u64::from(u32_at(header, 18)), u64::from(u32_at(header, 22)));
        from_zip64(extra, &mut [&mut plain_bytes, &mut packed_bytes]);
        let plain = PACKED_ENDS.iter().find_map(|end| without_end(name, end)).unwrap_or(name);
        Entry {
            shown_name: shown(name),
            name_hash: hash(name),
            is_wanted: WANTED_ENDS.iter().any(|end| without_end(plain, end).is_some())
                && !name.starts_with(MAC_FOLDER),
            is_directory: name.ends_with(b"/"),
            flags,
            method: u16_at(header, 8),
            has_descriptor: flags & DESCRIPTOR != 0,
            crc: u32_at(header, 14),
            packed_bytes,
            plain_bytes,
            offset_bytes,
        }
    }

    /// Returns the compression method, if the entry can be read or skipped.
    pub(super) fn check(&self) -> Result<Method, Fault> {
        if self.flags & (ENCRYPTED | STRONGLY_ENCRYPTED | MASKED) != 0 {
            return Err(Fault::Unsupported("the entry is encrypted"));
        }
        let method = match self.method {
            0 => Method::Stored,
            8 => Method::Deflated,
            _ if self.is_wanted || self.has_descriptor => {
                return Err(Fault::Unsupported("the entry's compression method is not deflate"));
            }
            _ => Method::Other,
        };
        // The data may look like a descriptor, so the end of the data cannot be found.
        if method == Method::Stored && self.has_descriptor && !self.is_directory {
            return Err(Fault::Unsupported(
                "the entry is stored and its header has no size: compress it with deflate, or write its \
                 size",
            ));
        }
        Ok(method)
    }

    /// Returns `true` if the entry has no data, according to its header.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_descriptor && self.packed_bytes == 0 && self.plain_bytes == 0
    }

    /// Returns the fields that the directory must contain too.
    pub(super) fn record(&self) -> Record {
        Record {
            name_hash: self.name_hash,
            method: self.method,
            crc: self.crc,
            packed_bytes: self.packed_bytes,
            plain_bytes: self.plain_bytes,
            offset_bytes: self.offset_bytes,
        }
    }
}

/// Returns the name, and the extra field up to the end of the header.
pub(super) fn name_and_extra(header: &[u8], fixed_bytes: usize, name_bytes: u16) -> (&[u8], &[u8]) {
    header
        .get(fixed_bytes..)
        .and_then(|varying| varying.split_at_checked(usize::from(name_bytes)))
        .unwrap_or_default()
}

/// Replaces every value that equals [`IN_ZIP64`] with its actual value in the zip64 field (APPNOTE 4.5.3). The field
/// stores the actual values in the order of `values`.
pub(super) fn from_zip64(mut extra: &[u8], values: &mut [&mut u64]) {
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some((mut field, rest)) = extra[4..].split_at_checked(length) else { return };
        if id == ZIP64_ID {
            for value in values.iter_mut().filter(|value| ***value == IN_ZIP64) {
                if field.len() < 8 {
                    return;
                }
                **value = u64_at(field, 0);
                field = &field[8..];
            }
            return;
        }
        extra = rest;
    }
}

/// Removes a suffix, in upper or lower case. Returns `None` if the name does not have it.
fn without_end<'n>(name: &'n [u8], end: &[u8]) -> Option<&'n [u8]> {
    let (stem, last) = name.split_at_checked(name.len().checked_sub(end.len())?)?;
    last.eq_ignore_ascii_case(end).then_some(stem)
}

/// Hashes a name. The hash is constant only within one build, which is enough for one archive.
pub(super) fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn shown(name: &[u8]) -> Box<str> {
    let name = &name[..name.len().min(SHOWN_CHARACTERS_MAX * 4)];
    let shown = String::from_utf8_lossy(name);
    let plain = |next: char| if next.is_control() { char::REPLACEMENT_CHARACTER } else { next };
    shown.chars().take(SHOWN_CHARACTERS_MAX).map(plain).collect()
}
