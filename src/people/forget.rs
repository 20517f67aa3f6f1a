//! Erases people from files next to the shards. Removes uploads that contain their lines, and the order ids in the
//! errors of other uploads; removes them from exports.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::query;
use super::refused::PeopleRefused;
use super::uploads::{ErasedPeople, who_is_in};
use crate::base::clock;
use crate::cores::executor;
use crate::exports::{PeopleInExports, export_store};
use crate::lane::Lane;
use crate::shard::ErasureMode;
use crate::uploads::{State, UploadError, UploadId, UploadRefused, claim, upload_store};

/// How long a request waits for the jobs of the tenant's exports to finish their batches.
const REST_WAIT: Duration = Duration::from_secs(30);
/// The pause between two checks of the jobs.
const LOOK: Duration = Duration::from_millis(20);

type Erased<'l> = Pin<Box<dyn Future<Output = Result<Vec<u64>, PeopleRefused>> + 'l>>;

/// Removes the uploads that contain, or may contain, the people.
pub(super) fn erase_uploads<'l>(lane: &'l Rc<Lane>, people: &'l Arc<ErasedPeople>) -> Erased<'l> {
    Box::pin(forget(lane, people))
}

/// Erases the people from the tenant's exports, which the caller holds.
pub(super) fn erase_exports<'l>(lane: &'l Rc<Lane>, people: &'l Arc<ErasedPeople>) -> Erased<'l> {
    Box::pin(erase_from_exports(lane, people))
}

async fn erase_from_exports(lane: &Rc<Lane>, people: &Arc<ErasedPeople>) -> Result<Vec<u64>, PeopleRefused> {
    let until_us = clock::monotonic_us() + REST_WAIT.as_micros() as u64;
    while !export_store(lane).is_at_rest(&people.tenant_id) {
        if clock::monotonic_us() >= until_us {
            return Err(PeopleRefused::Beginning);
        }
        executor::sleep(LOOK).await;
    }
    let rows = query::orders_of_customers(&lane.readers, lane.keys, people).await?;
    let (store, people) = (export_store(lane).clone(), people.clone());
    let erase = move || {
        let who_is = |text: &str| people.matcher.who_named(text);
        let count = people.customer_ids.len();
        let found = PeopleInExports { rows: &rows, who_is: &who_is, count };
        store.erase_people(&people.tenant_id, &found, people.mode == ErasureMode::Pseudonymise)
    };
    Ok(lane.readers.compute(erase).await??)
}

/// Removes the exports that were created during an erasure and filter by one of the people. They contain none of the
/// people's orders, because an export selects its orders after the erasure.
pub(super) async fn sweep_exports(lane: &Rc<Lane>, people: &Arc<ErasedPeople>) -> Result<(), PeopleRefused> {
    let (store, people) = (export_store(lane).clone(), people.clone());
    let remove =
        move || store.remove_identifying(&people.tenant_id, &|text: &str| people.matcher.who_named(text));
    lane.readers.compute(remove).await??;
    Ok(())
}

/// Processes the tenant's uploads, and uploads that were created with a key for all tenants. Returns the number of
/// removed uploads for each person. If an upload cannot be searched, the other uploads are still processed, but the
/// function returns an error, because the erasure must not be reported as done.
async fn forget(lane: &Rc<Lane>, people: &Arc<ErasedPeople>) -> Result<Vec<u64>, PeopleRefused> {
    let store = upload_store(lane).clone();
    let mut failed = lane.readers.compute(move || store.remove_remains()).await?.err().map(PeopleRefused::Io);
    let mut removed = vec![0; people.customer_ids.len()];
    for id in upload_store(lane).all()? {
        match forget_one(lane, people, &id).await {
            Ok(who) => who.into_iter().for_each(|person| removed[person] += 1),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    // The owner of unreadable uploads is unknown, so they are removed.
    let store = upload_store(lane).clone();
    match executor::blocking(move || store.remove_aside(i64::MAX)).await {
        Ok(count) => removed.iter_mut().for_each(|removed| *removed += count),
        Err(error) => failed = failed.or(Some(error.into())),
    }
    failed.map_or(Ok(removed), Err)
}

/// Processes one upload. Returns the people because of whom it was removed.
async fn forget_one(
    lane: &Rc<Lane>,
    people: &Arc<ErasedPeople>,
    id: &UploadId,
) -> Result<Vec<usize>, PeopleRefused> {
    let refused = |error: UploadError| PeopleRefused::Upload(UploadRefused::Store(error));
    match upload_store(lane).load(id) {
        Ok(Some(upload)) if people.may_be_in(&upload) => {}
        Ok(_) => return Ok(Vec::new()),
        Err(UploadError::Unreadable(_)) => {}
        Err(error) => return Err(refused(error)),
    }
    let _claim = claim(lane, id).await?;
    let store = upload_store(lane).clone();
    let mut upload = match store.load(id) {
        Ok(Some(upload)) => upload,
        Ok(None) => return Ok(Vec::new()),
        Err(UploadError::Unreadable(_)) => {
            let id = id.clone();
            executor::blocking(move || store.set_aside(&id)).await?;
            return Ok(Vec::new());
        }
        Err(error) => return Err(refused(error)),
    };
    let (store, people, looked) = (upload_store(lane).clone(), people.clone(), upload.clone());
    let who = lane.readers.compute(move || who_is_in(&store, looked, &people)).await??;
    let store = upload_store(lane).clone();
    executor::blocking(move || {
        if !who.is_empty() {
            store.remove(&upload)?;
            return Ok(who);
        }
        if upload.state != State::Receiving {
            store.forget_body(&upload)?;
        }
        if upload.checkpoint.summary.forget_order_ids() {
            store.save(&mut upload, true)?;
        }
        Ok(Vec::new())
    })
    .await
    .map_err(PeopleRefused::Io)
}
