//! Uploads that have lines of a person go; the others lose the order ids in their errors.

use std::rc::Rc;
use std::sync::Arc;

use super::super::Lane;
use super::claim::claim;
use crate::api::people::PeopleRefused;
use crate::api::uploads::UploadRefused;
use crate::commerce::{Sought, must_go};

/// Of the tenant's uploads, and those of keys of all tenants. How many went.
pub(in crate::server::executor_lane) async fn forget(
    lane: &Rc<Lane>,
    sought: Arc<Sought>,
) -> Result<u64, PeopleRefused> {
    let refused = |error| PeopleRefused::Upload(UploadRefused::Store(error));
    let mut removed = 0;
    for id in lane.uploads.all()? {
        let concerns =
            |tenant: &Option<String>| tenant.as_ref().is_none_or(|tenant| *tenant == sought.tenant_id);
        if !lane.uploads.load(&id).map_err(refused)?.is_some_and(|upload| concerns(&upload.tenant)) {
            continue;
        }
        let _claim = claim(lane, &id).await?;
        let Some(mut upload) = lane.uploads.load(&id).map_err(refused)? else { continue };
        let (store, sought, looked) = (lane.uploads.clone(), sought.clone(), upload.clone());
        let must_go = lane.readers.compute(move || must_go(&store, &looked, &sought)).await?;
        if must_go? {
            lane.uploads.remove(&upload)?;
            removed += 1;
            continue;
        }
        if upload.checkpoint.summary.forget_order_ids() {
            lane.uploads.write(&mut upload)?;
            lane.uploads.publish(&id)?;
        }
    }
    Ok(removed)
}
