//! Runs one export from its start, or from its last checkpoint, to its end.
//!
//! ```text
//! choose   each shard's rows, in steps ──► chosen
//! verify   the bytes that an earlier run wrote
//! read     chosen rows ──► batch      (one batch ahead)
//! encode   batch ──► bytes ──► file ──► checkpoint
//! ```
//!
//! Long work runs on readers' threads in steps of some 20 ms. The code here only waits and opens files.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_lite::future::zip;

use super::file::{ChosenFile, ExportFile, Remaining};
use super::query::{self, Cursor, Filling, Limits};
use super::record::{Export, ExportState, Progress};
use super::source::{Batch, ExportSource, id_of};
use super::store::{ExportError, ExportStore};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::base::keys::KeyHasher;
use crate::cores::executor;
use crate::orders::{BatchBounds, StepCache};
use crate::query::{QueryError, Readers};
use crate::shard::read::BatchLimits;

/// The maximum number of orders, events or clicks in one batch. Each batch is compressed separately, and has some 1.5
/// MB of text, which take 10 ms. The maximum is small in a debug build, so that tests with few rows have several
/// batches.
const BATCH_ROWS: usize = if cfg!(debug_assertions) { 300 } else { 4_096 };
/// The number of items at which a batch ends.
const BATCH_ITEMS: usize = if cfg!(debug_assertions) { 600 } else { 8_192 };
/// The number of bytes of strings at which a batch of events or clicks ends. The row that reaches it is still
/// included.
const BATCH_BYTES: usize = if cfg!(debug_assertions) { 32 << 10 } else { 2 << 20 };
/// The maximum number of chosen rows in memory: 8 bytes each.
const CHOSEN_HELD: usize = 16_384;
/// The maximum number of attempts at a failing step.
const TRIES: u32 = 20;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a job may delay an erasure while it chooses its orders, or until it has written more orders than before
/// the last splice. An export therefore advances regardless of how fast erasures follow each other. An erasure waits
/// for a job for longer than this.
const YIELD_AFTER_US: u64 = 10_000_000;

/// Why an export did not finish.
#[derive(Debug, thiserror::Error)]
pub enum ExportFailure {
    #[error("it was deleted")]
    Removed,
    /// An erasure is in progress. Retry a little later.
    #[error("rows of the tenant are being erased")]
    Erasing,
    /// The tenant's exports are held. Retry once the hold is released.
    #[error("an erasure is checking the tenant's exports")]
    Held,
    #[error("the data disk has less than disk_reserve free")]
    DiskLow,
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("the shards changed since the export began")]
    OtherShards,
    /// Without these rows, the file would be incomplete.
    #[error(
        "retention dropped rows of the export before they were in the file; create a new export, or keep the \
         rows for longer"
    )]
    Dropped,
}

impl From<std::io::Error> for ExportFailure {
    fn from(error: std::io::Error) -> ExportFailure {
        ExportFailure::Export(error.into())
    }
}

/// Runs an export to its end. If the future is dropped, a later run continues at the export's last checkpoint. Calls
/// `is_disk_low` before every batch.
///
/// # Errors
/// Returns why the export cannot finish. The export's state does not contain the reason yet.
pub async fn run_export(
    store: &Arc<ExportStore>,
    (readers, keys): (&Readers, &KeyHasher),
    export: &Arc<Export>,
    is_disk_low: impl Fn() -> bool,
) -> Result<(), ExportFailure> {
    let shards: Vec<ShardId> = readers.shards().collect();
    if shards.len() != export.pins.len() {
        return Err(ExportFailure::OtherShards);
    }
    let is_held = || store.is_held(&export.tenant);
    if is_held() {
        return Err(ExportFailure::Held);
    }
    let is_early = if export.progress().chosen.is_none() {
        query::is_erasing(readers, &export.tenant).await?
    } else {
        // An erasure without a pseudonym has already removed the person's orders from the selection.
        export.progress().awaits_pseudonym && query::is_pseudonymising(readers, &export.tenant).await?
    };
    if is_early {
        return Err(ExportFailure::Erasing);
    }
    if export.progress().state == ExportState::Queued || export.progress().awaits_pseudonym {
        let (state, awaits_pseudonym) = (ExportState::Running, false);
        let progress = Progress { state, awaits_pseudonym, ..Progress::clone(&export.progress()) };
        store.publish(export, progress, false)?;
    }
    let may_stay = || match (export.is_removed(), is_disk_low()) {
        (true, _) => Err(ExportFailure::Removed),
        (_, true) => Err(ExportFailure::DiskLow),
        _ => Ok(()),
    };
    let may_go_on = || may_stay().and_then(|()| if is_held() { Err(ExportFailure::Held) } else { Ok(()) });
    if export.progress().chosen.is_none() {
        let until_us = clock::monotonic_us() + YIELD_AFTER_US;
        let may_choose = || if clock::monotonic_us() < until_us { may_stay() } else { may_go_on() };
        choose(store, (readers, keys), export, &shards, &may_choose).await?;
    }
    let (source, _) = export.spec.filter(&export.tenant, keys).map_err(|_| ExportFailure::OtherShards)?;
    let source = Arc::new(source);
    let counts = export.progress().chosen.clone().unwrap_or_default();
    let spliced = export.progress().spliced;
    let chosen = ChosenFile::open(store, export)?;
    if chosen.count()? != spliced + counts.iter().sum::<u64>() {
        // An erasure was interrupted while it removed orders from the selection.
        store.begin_again(export)?;
        return Err(ExportFailure::Erasing);
    }
    let mut file = verified(store, readers, export, &may_go_on).await?;
    if file.orders() < spliced {
        // The file restarts from its beginning, and the shards of the spliced orders are no longer known.
        store.begin_again(export)?;
        return Err(ExportFailure::Erasing);
    }
    let orders = BatchBounds { orders: BATCH_ROWS, items: BATCH_ITEMS, with_items: export.spec.with_items() };
    let limits = Limits { orders, rows: BatchLimits { rows: BATCH_ROWS, bytes: BATCH_BYTES } };
    let mut batches =
        Batches::new(readers, source, &shards, (spliced, &counts), chosen, limits, file.orders());
    let until_us = clock::monotonic_us() + YIELD_AFTER_US;
    let reached = export.reached.load(Ordering::Relaxed);
    let mut batch = batches.next().await?;
    while let Some(taken) = batch {
        let has_advanced = file.has_advanced_behind(reached);
        if has_advanced || clock::monotonic_us() >= until_us { may_go_on() } else { may_stay() }?;
        // Reads the next batch while this one is encoded.
        let (next, written) = zip(batches.next(), encoded(readers, file, taken)).await;
        let spare;
        (file, spare) = written?;
        batch = next?;
        batches.spare = Some(spare);
    }
    if file.is_holding() {
        file = gone_on(readers, file).await?;
    }
    compute(readers, move || file.finish().map_err(ExportFailure::from)).await
}

/// Runs a computation on a reader's thread. Waits while the queues of all readers are full.
async fn compute<T: Send + 'static>(
    readers: &Readers,
    work: impl FnOnce() -> Result<T, ExportFailure> + Send + 'static,
) -> Result<T, ExportFailure> {
    readers.compute(work).await.map_err(ExportFailure::from)?
}

/// Retries work that may fail temporarily, because a queue is full or a shard is being replaced.
async fn retry<T, F: Future<Output = Result<T, QueryError>>>(
    mut work: impl FnMut() -> F,
) -> Result<T, QueryError> {
    let mut tries = 1;
    loop {
        match work().await {
            Err(_) if tries < TRIES => {
                tries += 1;
                executor::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Selects the rows and records them, orders with their statuses.
async fn choose(
    store: &Arc<ExportStore>,
    (readers, keys): (&Readers, &KeyHasher),
    export: &Arc<Export>,
    shards: &[ShardId],
    may_go_on: &impl Fn() -> Result<(), ExportFailure>,
) -> Result<(), ExportFailure> {
    let (source, range) = export.spec.filter(&export.tenant, keys).map_err(|_| ExportFailure::OtherShards)?;
    let source = Arc::new(source);
    let mut file = ChosenFile::open(store, export)?;
    file.clear()?;
    store.recharge(export, 0);
    let mut counts = Vec::with_capacity(shards.len());
    // The list is passed back and forth, because memory that another thread frees remains with the process for a
    // while.
    let mut spare = None;
    for (at, (shard, pin)) in shards.iter().zip(&export.pins).enumerate() {
        let (mut count, mut choosing) = (0, Some(Cursor::default()));
        while let Some(from) = choosing.take() {
            may_go_on()?;
            let step = || query::choose(readers, *shard, (&source, range), *pin, from.clone(), spare.take());
            let (mut chosen, next) = retry(step).await?;
            choosing = next;
            count += chosen.len() as u64;
            let (store, export) = (store.clone(), export.clone());
            (file, spare) = compute(readers, move || {
                file.append(&store, &export, &chosen)?;
                chosen.clear();
                Ok((file, Some(chosen)))
            })
            .await?;
        }
        // Rows that were there at the creation and are not any more are not in the selection either.
        let floor = export.floors.get(at).copied().unwrap_or(i64::MAX);
        let has_dropped = || query::has_dropped(readers, *shard, &source, floor);
        if floor <= *pin && retry(has_dropped).await? {
            return Err(ExportFailure::Dropped);
        }
        retry(|| query::sync(readers, *shard)).await?;
        counts.push(count);
        query::forget(readers, *shard).await;
    }
    let (store, export) = (store.clone(), export.clone());
    compute(readers, move || {
        file.sync()?;
        let progress = Progress { chosen: Some(counts), ..Progress::clone(&export.progress()) };
        Ok(store.publish(&export, progress, true)?)
    })
    .await
}

async fn verified(
    store: &Arc<ExportStore>,
    readers: &Readers,
    export: &Arc<Export>,
    may_go_on: &impl Fn() -> Result<(), ExportFailure>,
) -> Result<ExportFile, ExportFailure> {
    let mut file = ExportFile::open(store.clone(), export.clone())?;
    let mut from = Some(file.seen());
    while let Some(at) = from {
        may_go_on()?;
        (file, from) = compute(readers, move || {
            let next = file.verify(at)?;
            Ok((file, next))
        })
        .await?;
    }
    Ok(file)
}

async fn encoded(
    readers: &Readers,
    mut file: ExportFile,
    (shard, mut batch): (u32, Batch),
) -> Result<(ExportFile, Batch), ExportFailure> {
    let (file, batch, left) = compute(readers, move || {
        let left = file.encode(&mut batch, shard)?;
        batch.clear();
        Ok((file, batch, left))
    })
    .await?;
    let file = if left == Remaining::More { gone_on(readers, file).await? } else { file };
    Ok((file, batch))
}

async fn gone_on(readers: &Readers, mut file: ExportFile) -> Result<ExportFile, ExportFailure> {
    loop {
        let left;
        (file, left) = compute(readers, move || {
            let left = file.encode_more()?;
            Ok((file, left))
        })
        .await?;
        if left == Remaining::Nothing {
            return Ok(file);
        }
    }
}

/// A reader of the chosen rows in batches. The batch boundaries depend only on the rows.
struct Batches<'r> {
    readers: &'r Readers,
    source: Arc<ExportSource>,
    shards: &'r [ShardId],
    /// For each shard, the end of its rows in the selection.
    ends: Vec<u64>,
    chosen: ChosenFile,
    limits: Limits,
    /// The index in the selection of the next row to read.
    at: u64,
    /// The words of the following rows, which are already in memory.
    held: Vec<u64>,
    cache: StepCache,
    /// An encoded batch, whose memory the next one reuses.
    spare: Option<Batch>,
}

impl<'r> Batches<'r> {
    fn new(
        readers: &'r Readers,
        source: Arc<ExportSource>,
        shards: &'r [ShardId],
        (spliced, counts): (u64, &[u64]),
        chosen: ChosenFile,
        limits: Limits,
        at: u64,
    ) -> Batches<'r> {
        let sums = counts.iter().scan(spliced, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let ends = sums.collect();
        Batches {
            readers,
            source,
            shards,
            ends,
            chosen,
            limits,
            at,
            held: Vec::new(),
            cache: StepCache::default(),
            spare: None,
        }
    }

    /// Returns the next batch with its shard's index, or `None` at the end.
    async fn next(&mut self) -> Result<Option<(u32, Batch)>, ExportFailure> {
        let of = self.ends.partition_point(|end| *end <= self.at);
        let (Some(shard), Some(end)) = (self.shards.get(of), self.ends.get(of)) else { return Ok(None) };
        let mut batch = self.spare.take().unwrap_or_else(|| self.source.batch());
        while self.at < *end && !self.limits.are_reached(&batch) {
            if self.held.is_empty() {
                let count = (CHOSEN_HELD as u64).min(end - self.at) as usize;
                // These bytes are usually in the page cache: they were either just written, or read in blocks of 128
                // KiB after a restart.
                self.held = self.chosen.read(self.at, count)?;
            }
            let step: Vec<_> = self.held.iter().take(BATCH_ROWS).copied().collect();
            let filling: Filling = (batch, std::mem::take(&mut self.cache));
            let taken;
            ((batch, self.cache), taken) = self.fill(*shard, step, filling).await?;
            self.at += taken as u64;
            self.held.drain(..taken);
        }
        if self.at == *end {
            query::forget(self.readers, *shard).await;
        }
        Ok(Some((of as u32, batch)))
    }

    /// Runs one step. A step that fails is retried from the same position, unless retention has dropped its rows.
    async fn fill(
        &self,
        shard: ShardId,
        words: Vec<u64>,
        filling: Filling,
    ) -> Result<(Filling, usize), ExportFailure> {
        let spare = filling.0.clone();
        let oldest = words.iter().map(|word| id_of(*word)).min().unwrap_or(i64::MAX);
        let mut filling = Some(filling);
        let mut tries = 1;
        loop {
            let this = filling.take().unwrap_or_else(|| (spare.clone(), StepCache::default()));
            let begun = query::fill(self.readers, (shard, &self.source), words.clone(), self.limits, this);
            let outcome = match begun {
                Ok(begun) => begun.wait().await,
                Err(error) => Err(error),
            };
            let error = match outcome {
                Ok(filled) => return Ok(filled),
                Err(error) => error,
            };
            if let Ok(true) = query::has_dropped(self.readers, shard, &self.source, oldest).await {
                return Err(ExportFailure::Dropped);
            }
            if tries >= TRIES {
                return Err(error.into());
            }
            tries += 1;
            executor::sleep(PAUSE).await;
        }
    }
}
