//! The three tables of the ids, and the checksum at the end of every blob in them.

use super::IdsOf;
use crate::shard::error::ShardError;

/// Returns the SQL that creates the tables, for a migration of the shard's schema.
pub fn schema(of: &IdsOf) -> String {
    let IdsOf { prefix, what, key, .. } = of;
    format!(
        "
CREATE TABLE {prefix}id_recent (
  -- The newest {what} ids, one row a commit. `hashes` has 8 bytes for each {what} from the one with
  -- `first_id` on: the lower half of its (tenant, {key}) hash; then a checksum. Deleted when a run
  -- has them. Do not edit: a missing hash is a duplicate that is not noticed.
  first_id INTEGER PRIMARY KEY,
  hashes BLOB NOT NULL
);
CREATE TABLE {prefix}id_run (
  -- The older {what} ids: each run has the hashes of `ids` {what}s from `first_id` on, sorted, cut into
  -- `chunks`. `filter` says which hashes may be in it.
  first_id INTEGER PRIMARY KEY,
  ids INTEGER NOT NULL,
  chunks INTEGER NOT NULL,
  filter BLOB NOT NULL
);
CREATE TABLE {prefix}id_chunk (
  -- One chunk of a run; `id` is the run's first_id plus the number of the chunk. Chunk k of n has the
  -- hashes from k/n to (k+1)/n of the range, each with the {what}'s id less first_id: 8 and 4 bytes.
  id INTEGER PRIMARY KEY,
  entries BLOB NOT NULL
);
"
    )
}

const CHECKSUM_BYTES: usize = 4;

/// Returns the checksum of the bytes and the row's key, so that a blob in the wrong row is detected as damage.
fn checksum(key: i64, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    crc32c::crc32c_append(crc32c::crc32c(&key.to_le_bytes()), bytes).to_le_bytes()
}

/// Appends the checksum to the blob of the row with this key.
pub(super) fn seal(key: i64, blob: &mut Vec<u8>) {
    let checksum = checksum(key, blob);
    blob.extend_from_slice(&checksum);
}

/// Checks a sealed blob and returns its bytes without the checksum.
pub(super) fn unseal<'b>(table: &str, key: i64, blob: &'b [u8]) -> Result<&'b [u8], ShardError> {
    match blob.split_last_chunk::<CHECKSUM_BYTES>() {
        Some((bytes, sum)) if *sum == checksum(key, bytes) => Ok(bytes),
        _ => Err(ShardError::Corrupt(format!("row {key} of {table} has a wrong checksum"))),
    }
}
