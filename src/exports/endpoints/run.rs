//! Runs the export jobs: several at once, the oldest first, with the tenants taking turns. Also checks for expired
//! exports.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::job::{ExportFailure, run_export};
use super::super::record::{Export, ExportId};
use super::super::store::ExportError;
use super::export_store;
use crate::base::clock;
use crate::base::durable::is_full;
use crate::cores::executor;
use crate::lane::{Lane, detached};

/// The maximum number of jobs that the process runs at once: one reads while another encodes, and each holds about 20
/// MB.
const RUNNING_MAX: usize = 2;
/// The maximum number of attempts at a job whose shards cannot be read. Each attempt continues from the checkpoint.
const TRIES: u32 = 30;
/// The pause before another attempt at a job.
const PAUSE: Duration = Duration::from_secs(1);
/// The minimum pause between two checks for expired exports. The pause is a quarter of the expiry time, within these
/// bounds.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// The maximum pause between two checks for expired exports.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Runs jobs until the process ends, on one core only. After the next start, an unfinished job continues from its
/// last checkpoint.
pub(super) async fn run(lane: Rc<Lane>) {
    let running: Rc<RefCell<Vec<Arc<Export>>>> = Rc::default();
    let put_off: Rc<RefCell<Vec<ExportId>>> = Rc::default();
    loop {
        while running.borrow().len() < RUNNING_MAX {
            let Some(export) = next(&lane, &running.borrow(), &put_off.borrow()) else { break };
            running.borrow_mut().push(export.clone());
            let (lane, running, put_off) = (lane.clone(), running.clone(), put_off.clone());
            executor::spawn(async move {
                let job = (lane.clone(), export.clone());
                export.set_running(true);
                let ended = detached(async move { finish(&job.0, &job.1).await }).await;
                if ended.is_none() {
                    fail(&lane, &export, "internal server error; the log has the details").await;
                }
                if export.is_removed() {
                    // Releases the bytes charged for a batch that was written after the removal.
                    export_store(&lane).release(&export);
                }
                export.set_running(false);
                let is_later = ended == Some(Ended::Later);
                if is_later {
                    put_off.borrow_mut().push(export.id.clone());
                }
                running.borrow_mut().retain(|known| known.id != export.id);
                export_store(&lane).wake();
                if is_later {
                    executor::sleep(PAUSE).await;
                    put_off.borrow_mut().retain(|known| *known != export.id);
                    export_store(&lane).wake();
                }
            });
        }
        export_store(&lane).wanted().await;
    }
}

/// The outcome of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// No work remains.
    Over,
    /// Other jobs run first.
    Later,
    /// The job continues as soon as its tenant is no longer held, and before the next hold.
    Held,
}

/// Returns the oldest unfinished export that is not running, held or postponed. Prefers a tenant that has no running
/// export.
fn next(lane: &Lane, running: &[Arc<Export>], put_off: &[ExportId]) -> Option<Arc<Export>> {
    let all = export_store(lane).all();
    let waits = |export: &&Arc<Export>| {
        export.progress().state.is_open()
            && !put_off.contains(&export.id)
            && !export_store(lane).is_held(&export.tenant)
            && running.iter().all(|known| known.id != export.id)
    };
    let has_turn = |export: &&Arc<Export>| running.iter().all(|known| known.tenant != export.tenant);
    all.iter().filter(waits).find(has_turn).or_else(|| all.iter().find(waits)).cloned()
}

async fn finish(lane: &Rc<Lane>, export: &Arc<Export>) -> Ended {
    let started_us = clock::monotonic_us();
    let mut tries = 1;
    // An export reads in its tenant's turns.
    let readers = lane.readers.asked_by(&export.tenant);
    loop {
        let is_low = || lane.vitals.board.disk_low();
        let id = export.id.as_str();
        match run_export(export_store(lane), (&readers, &lane.keys), export, is_low).await {
            Ok(()) => {
                let checkpoint = &export.progress().checkpoint;
                let duration_us = clock::monotonic_us() - started_us;
                tracing::info!(
                    export = id,
                    rows = checkpoint.rows,
                    bytes = checkpoint.bytes,
                    duration_us,
                    "an export is done"
                );
                return Ended::Over;
            }
            Err(_) if export.is_removed() => return Ended::Over,
            Err(ExportFailure::Erasing) => return Ended::Later,
            Err(ExportFailure::Held) => return Ended::Held,
            Err(ExportFailure::Query(error)) if tries < TRIES => {
                tracing::warn!(export = id, %error, "an export waits for a shard that cannot be read");
                tries += 1;
                executor::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::warn!(export = id, %error, "an export failed");
                fail(lane, export, &reason(&error)).await;
                return Ended::Over;
            }
        }
    }
}

/// Marks an export as failed. Its file may be large, so a reader's thread deletes it if the thread's queue has room.
async fn fail(lane: &Lane, export: &Arc<Export>, reason: &str) {
    let (store, failed, why) = (export_store(lane).clone(), export.clone(), reason.to_owned());
    if lane.readers.compute(move || store.fail(&failed, &why)).await.is_err() {
        export_store(lane).fail(export, reason);
    }
}

/// Returns the reason for the client. System errors about files are only for the log.
fn reason(error: &ExportFailure) -> String {
    match error {
        ExportFailure::Export(ExportError::Io(error)) if is_full(error) => "the disk is full".to_owned(),
        ExportFailure::Export(ExportError::Io(_)) => "an export file cannot be used".to_owned(),
        error => error.to_string(),
    }
}

/// Checks for expired exports until the process ends, on one core only.
pub(super) async fn run_expiry(lane: Rc<Lane>) {
    let pause = (lane.vitals.config.export_expiry / 4).clamp(LOOK_MIN, LOOK_MAX);
    loop {
        executor::sleep(pause).await;
        let store = export_store(&lane).clone();
        // If the readers are busy, the next check expires the exports.
        let _ = lane.readers.compute(move || store.expire(clock::unix_us())).await;
    }
}
