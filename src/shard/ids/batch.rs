//! One batch's ids. All ids are looked up together. The results are then read one at a time, in the order in which
//! the ids were pushed.

use rusqlite::Connection;

use super::Ids;
use crate::base::keys::KeyHash;
use crate::shard::error::ShardError;

/// The newest ids of so many hashes are read into the CPU's cache together. If it were the whole batch, storing the
/// first rows would evict those of the last ones.
const TOUCHED: usize = 64;

/// The hashes of a batch's ids, with the rows of the sorted runs that may have them.
#[derive(Debug, Default)]
pub struct BatchIds {
    hashes: Vec<KeyHash>,
    /// Pairs of a hash's index and a row id, in ascending order.
    candidates: Vec<(u32, i64)>,
    /// The index of the next hash, and that of its first candidate.
    next: (usize, usize),
}

impl BatchIds {
    pub fn push(&mut self, hash: KeyHash) {
        self.hashes.push(hash);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Looks up all ids in the sorted runs. Called once, after the last [`BatchIds::push`].
    pub fn look_up(&mut self, ids: &mut Ids, connection: &Connection) -> Result<(), ShardError> {
        ids.look_up(connection, &self.hashes, &mut self.candidates)?;
        // The lookup returns candidates by run. [`BatchIds::find`] needs them in the order of the ids.
        self.candidates.sort_unstable();
        Ok(())
    }

    /// Returns the hash of the next id, and the first candidate that `known` recognises. Candidates of the sorted
    /// runs are tried before the newest ids.
    ///
    /// # Panics
    /// Panics if there are no more ids.
    pub fn find<T>(
        &mut self,
        ids: &Ids,
        mut known: impl FnMut(i64) -> Result<Option<T>, ShardError>,
    ) -> Result<(KeyHash, Option<T>), ShardError> {
        let (index, mut at) = self.next;
        let hash = self.hashes[index];
        if index.is_multiple_of(TOUCHED) {
            ids.touch_newest(&self.hashes[index..self.hashes.len().min(index + TOUCHED)]);
        }
        let mut found = None;
        while let Some((of, row_id)) = self.candidates.get(at).copied()
            && of as usize == index
        {
            at += 1;
            if found.is_none() {
                found = known(row_id)?;
            }
        }
        self.next = (index + 1, at);
        if found.is_none() {
            for row_id in ids.newest(hash) {
                found = known(row_id)?;
                if found.is_some() {
                    break;
                }
            }
        }
        Ok((hash, found))
    }
}
