//! Removes uploads that contain a person's lines, and removes the order ids in the errors of other uploads.

use std::rc::Rc;
use std::sync::Arc;

use super::super::answer::PeopleRefused;

use super::super::uploads::{ErasedPerson, must_be_deleted};
use crate::cores::executor;
use crate::lane::Lane;
use crate::uploads::{State, UploadError, UploadId, UploadRefused, claim, upload_store};

/// Processes the tenant's uploads, and uploads that were created with a key for all tenants. Returns the number of
/// removed uploads. If an upload cannot be searched, the other uploads are still processed, but the function returns
/// an error, because the erasure must not be reported as done.
pub(super) async fn forget(lane: &Rc<Lane>, person: Arc<ErasedPerson>) -> Result<u64, PeopleRefused> {
    let store = upload_store(lane).clone();
    let mut failed = lane.readers.compute(move || store.remove_remains()).await?.err().map(PeopleRefused::Io);
    let mut removed = 0;
    for id in upload_store(lane).all()? {
        match forget_one(lane, &person, &id).await {
            Ok(went) => removed += u64::from(went),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    // The owner of unreadable uploads is unknown, so they are removed.
    let store = upload_store(lane).clone();
    match executor::blocking(move || store.remove_aside(i64::MAX)).await {
        Ok(count) => removed += count,
        Err(error) => failed = failed.or(Some(error.into())),
    }
    failed.map_or(Ok(removed), Err)
}

/// Processes one upload. Returns `true` if it was removed.
async fn forget_one(
    lane: &Rc<Lane>,
    person: &Arc<ErasedPerson>,
    id: &UploadId,
) -> Result<bool, PeopleRefused> {
    let refused = |error: UploadError| PeopleRefused::Upload(UploadRefused::Store(error));
    let concerns = |tenant: &Option<String>| tenant.as_ref().is_none_or(|tenant| *tenant == person.tenant_id);
    match upload_store(lane).load(id) {
        Ok(Some(upload)) if concerns(&upload.tenant) => {}
        Ok(_) => return Ok(false),
        Err(UploadError::Unreadable(_)) => {}
        Err(error) => return Err(refused(error)),
    }
    let _claim = claim(lane, id).await?;
    let store = upload_store(lane).clone();
    let mut upload = match store.load(id) {
        Ok(Some(upload)) => upload,
        Ok(None) => return Ok(false),
        Err(UploadError::Unreadable(_)) => {
            let id = id.clone();
            executor::blocking(move || store.set_aside(&id)).await?;
            return Ok(false);
        }
        Err(error) => return Err(refused(error)),
    };
    let (store, person, looked) = (upload_store(lane).clone(), person.clone(), upload.clone());
    let must_be_deleted = lane.readers.compute(move || must_be_deleted(&store, &looked, &person)).await?;
    let (store, must_be_deleted) = (upload_store(lane).clone(), must_be_deleted?);
    executor::blocking(move || {
        if must_be_deleted {
            store.remove(&upload)?;
            return Ok(true);
        }
        if upload.state != State::Receiving {
            store.forget_body(&upload)?;
        }
        if upload.checkpoint.summary.forget_order_ids() {
            store.save(&mut upload, true)?;
        }
        Ok(false)
    })
    .await
    .map_err(PeopleRefused::Io)
}
