//! Work that outlives the request that started it.

use std::future::Future;

use crate::cores::executor;

/// Runs the work to its end, even if the request that started it ends earlier. Returns `None` if the work panicked.
pub async fn detached<T: 'static>(work: impl Future<Output = T> + 'static) -> Option<T> {
    let (tell, told) = async_channel::bounded(1);
    executor::spawn(async move {
        let _ = tell.try_send(work.await);
    });
    told.recv().await.ok()
}
