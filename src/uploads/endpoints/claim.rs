//! Ensures that only one request at a time works on an upload. A newer request waits briefly for an older one to end.

use std::time::Duration;

use super::super::answer::UploadRefused;
use super::super::record::UploadId;
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::cores::executor;
use crate::lane::keyed::Claim;
use crate::lane::{Lane, keyed};
use crate::orders::endpoints as orders;

/// The maximum time that a request waits for the previous one. A request whose connection is dead, or whose
/// client pauses, yields within [`super::piece::REST`]. A request that is still receiving bytes does not yield.
const PATIENCE: Duration = Duration::from_secs(3);
/// The minimum pause between two attempts. The pause doubles from this value up to the maximum.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The maximum pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Claims the upload's name for this request alone.
pub async fn claim(lane: &Lane, id: &UploadId) -> Result<Claim, UploadRefused> {
    let until_us = clock::monotonic_us() + PATIENCE.as_micros() as u64;
    let mut pause = PAUSE_MIN;
    loop {
        if let Some(claim) = try_claim(lane, id).await? {
            return Ok(claim);
        }
        if clock::monotonic_us() >= until_us {
            return Err(UploadRefused::Locked);
        }
        executor::sleep(pause).await;
        pause = PAUSE_MAX.min(pause * 2);
    }
}

/// Claims the upload's name, or notifies the request that works on the upload and returns `None`.
pub(super) async fn try_claim(lane: &Lane, id: &UploadId) -> Result<Option<Claim>, UploadRefused> {
    let shard = lane.keys.hash("upload", id.as_str()).shard(lane.shard_count);
    let claim = keyed::claim(lane, shard, format!("upload\0{}", id.as_str())).await;
    claim.map_err(|refused| WriteRefused::from(refused).into())
}

/// Claims the ingest's idempotency key, at the end of an upload that has a key. If another request holds the key,
/// waits for it like [`claim`].
pub(super) async fn name(
    lane: &Lane,
    tenant: Option<&str>,
    key: &str,
) -> Result<orders::ClaimedIngest, WriteRefused> {
    let until_us = clock::monotonic_us() + PATIENCE.as_micros() as u64;
    loop {
        match orders::ClaimedIngest::claim(lane, tenant, key).await {
            Err(WriteRefused::Running) if clock::monotonic_us() < until_us => {
                executor::sleep(PAUSE_MAX).await;
            }
            claimed => return claimed,
        }
    }
}
