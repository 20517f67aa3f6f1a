//! Erases people from uploads: removes those that contain their lines, and the order ids in the errors of others.

use std::rc::Rc;
use std::sync::Arc;

use super::place::ErasedFiles;
use super::refused::PeopleRefused;
use super::uploads::{ErasedPeople, who_is_in};
use crate::cores::executor;
use crate::lane::Lane;
use crate::uploads::{State, UploadError, UploadId, UploadRefused, claim, upload_store};

/// Removes the uploads that contain, or may contain, the people.
pub(super) fn erase_uploads<'l>(lane: &'l Rc<Lane>, people: &'l Arc<ErasedPeople>) -> ErasedFiles<'l> {
    Box::pin(forget(lane, people))
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
