//! Work that outlives the request that asked for it.

use std::future::Future;

use crate::cores::executor;

/// Does the work to its end, whether or not its request stays to hear of it. `None`: it panicked.
pub async fn detached<T: 'static>(work: impl Future<Output = T> + 'static) -> Option<T> {
    let (tell, told) = async_channel::bounded(1);
    executor::spawn(async move {
        let _ = tell.try_send(work.await);
    });
    told.recv().await.ok()
}
