//! A sorted run: its filter in memory, its hashes in chunks of the file.

use rusqlite::{Connection, OptionalExtension as _};
use xorf::{BinaryFuse16, Filter as _};

use super::{HASH_BYTES, Spread, corrupt};
use crate::shard::error::ShardError;

/// Chunks a run can have at most; the low bits of a chunk's id.
const CHUNK_BITS: u32 = 20;
/// A hash and a row id less the run's first.
pub(super) const ENTRY_BYTES: usize = HASH_BYTES + 4;
/// What stands before the fingerprints of a filter.
const FILTER_HEADER_BYTES: usize = 8 + 4 + 4 + 4 + 4;

pub(super) struct Run {
    pub(super) number: i64,
    pub(super) first_id: i64,
    pub(super) last_id: i64,
    pub(super) chunks: i64,
    pub(super) filter: BinaryFuse16,
}

pub(super) fn chunk_id(run: i64, chunk: i64) -> i64 {
    (run << CHUNK_BITS) + chunk
}

/// The chunk of a hash: a share of the whole range each, so that no index is needed.
#[inline]
pub(super) fn chunk_of(hash: Spread, chunks: i64) -> i64 {
    ((u128::from(hash.tag()) * chunks as u128) >> 64) as i64
}

impl Run {
    pub(super) fn load_all(connection: &Connection) -> Result<Vec<Run>, ShardError> {
        let mut statement =
            connection.prepare("SELECT run, first_id, last_id, chunks, filter FROM id_run ORDER BY run")?;
        let mut rows = statement.query([])?;
        let mut runs: Vec<Run> = Vec::new();
        while let Some(row) = rows.next()? {
            let filter = row.get_ref(4)?.as_blob().map_err(|_| corrupt("id_run"))?;
            let run = Run {
                number: row.get(0)?,
                first_id: row.get(1)?,
                last_id: row.get(2)?,
                chunks: row.get(3)?,
                filter: read_filter(filter).ok_or_else(|| corrupt("id_run"))?,
            };
            let follows = runs.last().is_none_or(|before| before.last_id < run.first_id);
            let is_sound = (1..1 << CHUNK_BITS).contains(&run.chunks)
                && (0..1 << 40).contains(&run.number)
                && run.first_id <= run.last_id
                && follows;
            if !is_sound {
                return Err(corrupt("id_run"));
            }
            runs.push(run);
        }
        Ok(runs)
    }

    #[inline]
    pub(super) fn may_have(&self, hash: Spread) -> bool {
        self.filter.contains(&hash.tag())
    }

    /// Row ids with exactly this hash: one chunk read, about 5 us.
    #[cold]
    pub(super) fn find(
        &self,
        connection: &Connection,
        hash: Spread,
        mut found: impl FnMut(i64),
    ) -> Result<(), ShardError> {
        let id = chunk_id(self.number, chunk_of(hash, self.chunks));
        let mut statement = connection.prepare_cached("SELECT entries FROM id_chunk WHERE id = ?1")?;
        let entries: Option<Vec<u8>> = statement.query_row([id], |row| row.get(0)).optional()?;
        let entries = entries.ok_or_else(|| corrupt("id_chunk"))?;
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(corrupt("id_chunk"));
        }
        let wanted = hash.0.to_be_bytes();
        let first = entries.partition_point(|entry| entry[..HASH_BYTES] < wanted[..]);
        for entry in entries[first..].iter().take_while(|entry| entry[..HASH_BYTES] == wanted) {
            let mut row = [0; 4];
            row.copy_from_slice(&entry[HASH_BYTES..]);
            found(self.first_id + i64::from(u32::from_be_bytes(row)));
        }
        Ok(())
    }

    /// The ids its chunks have in the table.
    pub(super) fn chunk_ids(&self) -> (i64, i64) {
        (chunk_id(self.number, 0), chunk_id(self.number + 1, 0))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.filter.fingerprints.len() * 2 + size_of::<Run>()
    }
}

/// Little-endian: the seed, three lengths, the number of fingerprints, the fingerprints.
pub(super) fn filter_bytes(filter: &BinaryFuse16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILTER_HEADER_BYTES + filter.fingerprints.len() * 2);
    bytes.extend_from_slice(&filter.descriptor.seed.to_le_bytes());
    for number in [
        filter.descriptor.segment_length,
        filter.descriptor.segment_length_mask,
        filter.descriptor.segment_count_length,
        filter.fingerprints.len() as u32,
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for fingerprint in &filter.fingerprints {
        bytes.extend_from_slice(&fingerprint.to_le_bytes());
    }
    bytes
}

/// `None` where the bytes are no filter, or one that would look beyond its fingerprints.
fn read_filter(bytes: &[u8]) -> Option<BinaryFuse16> {
    let (seed, rest) = bytes.split_first_chunk::<8>()?;
    let (lengths, rest) = rest.split_at_checked(16)?;
    let (fingerprints, odd) = rest.as_chunks::<2>();
    let length = |at: usize| {
        let (words, _) = lengths.as_chunks::<4>();
        u32::from_le_bytes(words[at])
    };
    let (segment_length, mask, count_length) = (length(0), length(1), length(2));
    // Positions: a hash scaled to count_length, and that plus one and two segments, within the mask.
    let highest = u64::from(count_length) + 2 * u64::from(segment_length);
    let is_sound = odd.is_empty()
        && segment_length.is_power_of_two()
        && mask == segment_length - 1
        && count_length % segment_length == 0
        && length(3) as usize == fingerprints.len()
        && highest <= fingerprints.len() as u64;
    is_sound.then(|| BinaryFuse16 {
        descriptor: xorf::Descriptor {
            seed: u64::from_le_bytes(*seed),
            segment_length,
            segment_length_mask: mask,
            segment_count_length: count_length,
        },
        fingerprints: fingerprints.iter().map(|pair| u16::from_le_bytes(*pair)).collect(),
    })
}
