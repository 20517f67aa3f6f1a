//! The keys of price events. An `Idempotency-Key` or `webhook-id` that arrived with an `event_id` identifies that
//! event from then on, for as long as an ingest's key is stored. A request with the key and another `event_id` is a
//! conflict.
//!
//! The key and the id are stored like an ingest: under a hash of the key, with only a fingerprint of the id.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::answer::PriceRefused;
use super::super::query::{self, EventName};
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::base::keys::KeyHash;
use crate::base::limits::INGEST_KEY_KEPT_US;
use crate::cores::executor;
use crate::ingest::KeyedRows;
use crate::lane::{Begun, Lane, Refused, keyed};
use crate::orders::endpoints::ClaimedIngest;
use crate::orders::{INGEST, IngestRow, finished_ingest};
use crate::query::QueryError;

/// The pause between two attempts to claim a key that another request is using.
const PAUSE: Duration = Duration::from_millis(10);

/// The event that a request sends.
#[derive(Clone, Copy)]
pub(super) struct PriceEventId<'a> {
    pub(super) tenant_id: &'a str,
    pub(super) product_id: &'a str,
    pub(super) event_id: &'a str,
    /// The hash of tenant and product.
    pub(super) product: KeyHash,
}

/// The maximum pause between two checks for a key whose shard is behind. The pause doubles from [`PAUSE`] up to this
/// maximum.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a core that does not reply may take to store a key.
const PATIENCE_US: u64 = 30_000_000;

/// A key that is used for the first time. No other request can use the key until this value is dropped.
pub(super) struct NewKey {
    _named: ClaimedIngest,
    scope: String,
    key: String,
    fingerprint: [u8; 32],
    shard: ShardId,
}

/// Compares `key` with the event that it arrived with. Returns `None` if there is nothing to store, because there is
/// no key, the key is the event's id, or the key already identifies the event.
pub(super) async fn check(
    lane: &Lane,
    name: PriceEventId<'_>,
    key: Option<&str>,
) -> Result<Option<NewKey>, PriceRefused> {
    let Some(key) = key else { return Ok(None) };
    // A tenant's id has no control characters, so it never equals this scope.
    let scope = format!("\u{1}price {:032x}", name.product.0);
    let hashed = format!("{:032x}", lane.keys.hash(&scope, key).0);
    let shard = lane.keys.hash(&scope, &hashed).shard(lane.shard_count);
    let fingerprint = *blake3::hash(name.event_id.as_bytes()).as_bytes();
    if key == name.event_id {
        return match known(lane, shard, &scope, &hashed).await? {
            Some(other) if other != fingerprint => Err(PriceRefused::KeyReused),
            _ => Ok(None),
        };
    }
    let named = claim(lane, &scope, &hashed).await?;
    match known(lane, shard, &scope, &hashed).await? {
        Some(same) if same == fingerprint => return Ok(None),
        Some(_) => return Err(PriceRefused::KeyReused),
        None => {}
    }
    // The key may itself have been the id of an event.
    let place = name.product.shard(lane.shard_count);
    let of = EventName::new(&lane.keys, name.tenant_id, name.product_id, key);
    match read(lane, || query::has_event(&lane.readers, place, of.clone())).await? {
        true => Err(PriceRefused::KeyReused),
        false => Ok(Some(NewKey { _named: named, scope, key: hashed, fingerprint, shard })),
    }
}

/// Retries a read until the shard is readable, for at most the commit wait. Right after the server starts, this takes
/// a moment.
async fn read<T, F: Future<Output = Result<T, QueryError>>>(
    lane: &Lane,
    mut ask: impl FnMut() -> F,
) -> Result<T, PriceRefused> {
    let until_us = clock::monotonic_us() + lane.keyed.commit_wait.as_micros() as u64;
    loop {
        match ask().await {
            Err(_) if clock::monotonic_us() < until_us => executor::sleep(PAUSE).await,
            read => return read.map_err(PriceRefused::Query),
        }
    }
}

async fn known(
    lane: &Lane,
    shard: ShardId,
    scope: &str,
    key: &str,
) -> Result<Option<[u8; 32]>, PriceRefused> {
    let found = read(lane, || finished_ingest(&lane.readers, shard, scope, key)).await?;
    Ok(found.filter(|found| found.expires_us > clock::unix_us()).map(|found| found.fingerprint))
}

async fn claim(lane: &Lane, scope: &str, key: &str) -> Result<ClaimedIngest, PriceRefused> {
    let until_us = clock::monotonic_us() + lane.keyed.commit_wait.as_micros() as u64;
    loop {
        match ClaimedIngest::claim(lane, Some(scope), key).await {
            Err(WriteRefused::Running) if clock::monotonic_us() < until_us => executor::sleep(PAUSE).await,
            claimed => return claimed.map_err(PriceRefused::Key),
        }
    }
}

impl NewKey {
    /// Journals the key before its event. The key remains claimed until it is stored, because no other request would
    /// find it before then. The key may be in another shard than its event, and that shard may be behind even if the
    /// event's shard is not. The receiver gets a message once the key is journaled and stored. If storing it takes
    /// longer than the time for a commit, the message arrives at the end of that time.
    pub(super) fn remember(
        self,
        lane: &Rc<Lane>,
        wants_disk: bool,
    ) -> Result<async_channel::Receiver<()>, Refused> {
        let begun = self.begin(lane, wants_disk)?;
        let (tell, told) = async_channel::bounded(1);
        let lane = lane.clone();
        executor::spawn(async move {
            // Moves all of `self` into the task, including the claim.
            let held = self;
            let settled = keyed::settle(&lane, begun, wants_disk).await;
            // The requester may have disconnected.
            let _ = tell.try_send(());
            let until_us = match settled {
                Ok(settled) if settled.outcomes.first().is_some_and(Option::is_some) => return,
                Ok(_) => u64::MAX,
                Err(Refused::NoAnswer) => clock::monotonic_us() + PATIENCE_US,
                // The key is not in any journal.
                Err(Refused::Pressure(_) | Refused::MailboxFull) => return,
            };
            let mut pause = PAUSE;
            while clock::monotonic_us() < until_us {
                executor::sleep(pause).await;
                pause = PAUSE_MAX.min(pause * 2);
                if let Ok(Some(_)) = known(&lane, held.shard, &held.scope, &held.key).await {
                    return;
                }
            }
        });
        Ok(told)
    }

    fn begin(&self, lane: &Lane, wants_disk: bool) -> Result<Begun, Refused> {
        let finished_us = clock::unix_us();
        let row = IngestRow {
            finished_us,
            expires_us: finished_us + INGEST_KEY_KEPT_US,
            scope: &self.scope,
            key: &self.key,
            fingerprint: &self.fingerprint,
            response: "{}",
        };
        let mut rows = KeyedRows::of(INGEST);
        rows.push_record(0, |bytes| row.encode(bytes));
        keyed::begin_now(lane, self.shard, &Arc::new(rows), wants_disk, lane.keyed.commit_wait)
    }
}
