//! The group fdatasync that `ack=disk` waits for: one serves every request of the ticks it covers.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::Lane;
use crate::cores::executor::Files;
use crate::cores::wake::Wake;
use crate::ingest::Appended;
use crate::journal::Syncer;

/// One fdatasync after the other, each for everything appended before it began.
pub(super) async fn run(
    lane: Rc<Lane>,
    wanted: async_channel::Receiver<()>,
    mut syncers: Vec<Syncer>,
    listener: Arc<Wake>,
) {
    let files = Files::default();
    while wanted.recv().await.is_ok() {
        for syncer in &mut syncers {
            let Some(plan) = syncer.plan() else { continue };
            let mut outcome = Ok(());
            for file in &plan.files {
                let synced = files.sync_data(file).await;
                // Gone: the database holds everything in it, durably.
                let is_released = matches!(&synced, Err(error) if error.kind() == io::ErrorKind::NotFound);
                outcome = if is_released { outcome } else { outcome.and(synced) };
            }
            if let Some(folder) = &plan.directory {
                outcome = outcome.and(files.sync_folder(folder).await);
            }
            match outcome {
                Ok(()) => syncer.done(plan),
                Err(error) => {
                    tracing::error!(%error, "fdatasync of the journal failed; its events are not acked as `disk`");
                    syncer.failed(plan);
                }
            }
        }
        listener.wake();
        for waker in lane.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

/// Waits until the lane's bytes up to `upto` are on disk; whether they are.
pub(super) async fn on_disk(lane: &Lane, appended: Appended) -> bool {
    let _ = lane.sync_wanted.try_send(());
    poll_fn(|context| {
        let intake = lane.intake.borrow();
        if intake.synced(appended.lane) >= appended.upto {
            return Poll::Ready(true);
        }
        if intake.sync_failed(appended.lane) {
            return Poll::Ready(false);
        }
        lane.waiting.borrow_mut().push(context.waker().clone());
        Poll::Pending
    })
    .await
}
