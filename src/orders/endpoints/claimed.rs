//! An ingest with its idempotency key. Only one request at a time uses the key, and its response is stored.

use std::sync::Arc;

use super::super::record::{INGEST, IngestRow};
use super::row_intake::RowIntake;
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::base::keys::KeyHash;
use crate::base::limits::INGEST_KEY_KEPT_US;
use crate::ingest::KeyedRows;
use crate::lane::keyed::{Claim, PATIENCE};
use crate::lane::{Lane, keyed};
use crate::orders::ingest::OrderIngest;
use crate::orders::{FinishedIngest, query};

/// Returns the ingest's id as stored in its rows. Every attempt with the same key has the same id, so an attempt
/// recognises orders that another attempt stored as its own.
pub fn ingest_id(key: KeyHash) -> i64 {
    // The id is positive, because 0 means no ingest. It contains all 63 remaining bits of the hash, because otherwise
    // an ingest could mistake another ingest's orders for its own.
    ((key.0 as i64) & i64::MAX).max(1)
}

/// An ingest with its idempotency key. No other request uses the key at the same time.
pub struct ClaimedIngest {
    scope: String,
    key: String,
    hash: KeyHash,
    _claim: Claim,
}

impl ClaimedIngest {
    pub async fn claim(lane: &Lane, tenant: Option<&str>, key: &str) -> Result<ClaimedIngest, WriteRefused> {
        let scope = tenant.unwrap_or("*").to_owned();
        let hash = lane.keys.hash(&scope, key);
        let name = format!("ingest\0{scope}\0{key}");
        let claim = keyed::claim(lane, hash.shard(lane.shard_count), name).await?;
        let claim = claim.ok_or(WriteRefused::Running)?;
        Ok(ClaimedIngest { scope, key: key.to_owned(), hash, _claim: claim })
    }

    fn shard(&self, lane: &Lane) -> ShardId {
        self.hash.shard(lane.shard_count)
    }

    /// Returns the earlier response, if there is one.
    pub async fn finished(&self, lane: &Lane) -> Result<Option<FinishedIngest>, WriteRefused> {
        let found = query::finished_ingest(&lane.readers, self.shard(lane), &self.scope, &self.key).await?;
        Ok(found.filter(|finished| finished.expires_us > clock::unix_us()))
    }

    pub fn begin(&self, lane: &Lane, tenant: Option<&str>, wants_disk: bool) -> RowIntake {
        let id = ingest_id(self.hash);
        let ingest = OrderIngest::new(id, tenant.map(str::to_owned), clock::unix_us(), lane.shard_count);
        RowIntake::new(ingest, wants_disk)
    }

    /// Syncs the earlier response if this request's ack level is `disk`. The rows that the response reports need no
    /// sync, because they were on disk before the response was journaled.
    pub async fn keep(&self, lane: &Lane, wants_disk: bool) -> Result<(), WriteRefused> {
        let kept = !wants_disk || keyed::sync_shard(lane, self.shard(lane)).await?;
        kept.then_some(()).ok_or(WriteRefused::Unsynced)
    }

    /// Stores the response. The rows that it reports are already on disk.
    pub async fn finish(
        &self,
        lane: &Lane,
        fingerprint: &[u8; 32],
        response: &[u8],
        wants_disk: bool,
    ) -> Result<(), WriteRefused> {
        let finished_us = clock::unix_us();
        let row = IngestRow {
            finished_us,
            expires_us: finished_us + INGEST_KEY_KEPT_US,
            scope: &self.scope,
            key: &self.key,
            fingerprint,
            response: std::str::from_utf8(response).unwrap_or_default(),
        };
        let mut rows = KeyedRows::of(INGEST);
        rows.push_record(0, |bytes| row.encode(bytes));
        let (shard, rows) = (self.shard(lane), Arc::new(rows));
        let begun = keyed::begin_when_there_is_room(lane, shard, &rows, wants_disk, PATIENCE).await?;
        let settled = keyed::settle(lane, begun, wants_disk).await?;
        if !settled.synced {
            return Err(WriteRefused::Unsynced);
        }
        // The response will be stored, but a repeated request that arrives before that would run the ingest again.
        settled.outcomes.first().copied().flatten().map(drop).ok_or(WriteRefused::NotCommitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keys::KeyHasher;

    #[test]
    fn every_key_has_an_ingest_of_its_own() {
        let keys = KeyHasher::new(&[3; 16]);
        let id = |number: u32| ingest_id(keys.hash("t", &number.to_string()));
        let mut ids: Vec<i64> = (0..10_000).map(id).collect();
        assert_eq!((id(7), ingest_id(KeyHash(0)), ingest_id(KeyHash(u128::MAX))), (ids[7], 1, i64::MAX));
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == 10_000 && ids[0] > 0);
    }
}
