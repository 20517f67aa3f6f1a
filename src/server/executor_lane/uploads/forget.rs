//! Uploads that have lines of a person go; the others lose the order ids in their errors.

use std::rc::Rc;
use std::sync::Arc;

use super::super::Lane;
use super::claim::claim;
use crate::api::people::PeopleRefused;
use crate::api::uploads::UploadRefused;
use crate::commerce::{Sought, State, UploadError, UploadId, must_go};

/// Of the tenant's uploads, and those of keys of all tenants. How many went. One that cannot be looked through keeps
/// none of the others, but is an error: nobody may be told that the person is erased.
pub(in crate::server::executor_lane) async fn forget(
    lane: &Rc<Lane>,
    sought: Arc<Sought>,
) -> Result<u64, PeopleRefused> {
    let store = lane.uploads.clone();
    let mut failed =
        lane.readers.compute(move || store.remove_left_over()).await?.err().map(PeopleRefused::Io);
    let mut removed = 0;
    for id in lane.uploads.all()? {
        match forget_one(lane, &sought, &id).await {
            Ok(went) => removed += u64::from(went),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(removed), Err)
}

/// Whether it went.
async fn forget_one(lane: &Rc<Lane>, sought: &Arc<Sought>, id: &UploadId) -> Result<bool, PeopleRefused> {
    let refused = |error: UploadError| PeopleRefused::Upload(UploadRefused::Store(error));
    let concerns = |tenant: &Option<String>| tenant.as_ref().is_none_or(|tenant| *tenant == sought.tenant_id);
    if !lane.uploads.load(id).map_err(refused)?.is_some_and(|upload| concerns(&upload.tenant)) {
        return Ok(false);
    }
    let _claim = claim(lane, id).await?;
    let Some(mut upload) = lane.uploads.load(id).map_err(refused)? else { return Ok(false) };
    let (store, sought, looked) = (lane.uploads.clone(), sought.clone(), upload.clone());
    let must_go = lane.readers.compute(move || must_go(&store, &looked, &sought)).await?;
    if must_go? {
        lane.uploads.remove(&upload)?;
        return Ok(true);
    }
    if upload.state != State::Receiving {
        lane.uploads.remove_body(id)?;
    }
    if upload.checkpoint.summary.forget_order_ids() {
        lane.uploads.write(&mut upload)?;
        lane.uploads.publish(id)?;
    }
    Ok(false)
}
