//! The group fdatasync that `ack=disk` waits for. One fdatasync serves every request of the ticks that it covers.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use futures_lite::FutureExt as _;

use super::state::Lane;
use crate::cores::executor::Files;
use crate::cores::wake::Wake;
use crate::ingest::Appended;
use crate::journal::Syncer;

/// Runs one fdatasync at a time, each for everything appended before it started. Only journals that requests wait for
/// are synced: a response that depends on a few rows does not wait for everything that the listener accepts.
pub(super) async fn run(
    lane: Rc<Lane>,
    listener_wants: async_channel::Receiver<()>,
    syncers: Vec<Syncer>,
    listener: Arc<Wake>,
) {
    let files = Files::default();
    let (mut hot, mut keyed): (Vec<_>, Vec<_>) =
        syncers.into_iter().partition(|syncer| syncer.lane().is_hot());
    let wanted_here = &lane.sync_wanted.1;
    loop {
        let by_listener = async {
            message(&listener_wants).await;
            true
        };
        let by_executor = async {
            message(wanted_here).await;
            false
        };
        let by_listener = by_listener.or(by_executor).await;
        if !by_listener || wanted_here.try_recv().is_ok() {
            sync(&files, &mut keyed).await;
            for waker in lane.waiting.borrow_mut().drain(..) {
                waker.wake();
            }
        }
        if by_listener || listener_wants.try_recv().is_ok() {
            sync(&files, &mut hot).await;
            listener.wake();
        }
    }
}

/// Waits for a message. It never returns once there is no sender left.
async fn message(wanted: &async_channel::Receiver<()>) {
    if wanted.recv().await.is_err() {
        std::future::pending().await
    }
}

async fn sync(files: &Files, syncers: &mut [Syncer]) {
    for syncer in syncers {
        let plan = match syncer.plan() {
            Ok(Some(plan)) => plan,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(%error, "the journal cannot be synced; its events are not acknowledged as \
                                         `disk`");
                continue;
            }
        };
        let mut outcome = Ok(());
        for file in &plan.files {
            let synced = files.sync_data(file).await;
            // A deleted file needs no sync, because the database durably contains everything in it.
            let is_released = matches!(&synced, Err(error) if error.kind() == io::ErrorKind::NotFound);
            outcome = if is_released { outcome } else { outcome.and(synced) };
        }
        if let Some(folder) = &plan.directory {
            outcome = outcome.and(files.sync_folder(folder).await);
        }
        match outcome {
            Ok(()) => syncer.done(plan),
            Err(error) => {
                tracing::error!(%error, "fdatasync of the journal failed; its events are not acknowledged \
                                         as `disk`");
                syncer.failed(plan);
            }
        }
    }
}

/// Waits until the lane's bytes up to `upto` are on disk. Returns `true` if they are.
pub async fn on_disk(lane: &Lane, appended: Appended) -> bool {
    poll_fn(|context| {
        let intake = lane.intake.borrow();
        if intake.synced(appended.lane) >= appended.upto {
            return Poll::Ready(true);
        }
        if intake.sync_failed(appended.lane) {
            return Poll::Ready(false);
        }
        lane.waiting.borrow_mut().push(context.waker().clone());
        // This is sent at every poll, because the sync that woke us may have covered less. A full channel means that
        // a sync follows anyway.
        let _ = lane.sync_wanted.0.try_send(());
        Poll::Pending
    })
    .await
}
