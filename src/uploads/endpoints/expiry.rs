//! The periodic check for uploads that no client continues. It deletes an upload's body first, and its info later.

use std::rc::Rc;
use std::time::Duration;

use super::super::answer::UploadRefused;
use super::super::record::{State, UploadId};
use super::claim::try_claim;
use super::{finish, upload_store};
use crate::base::clock;
use crate::cores::executor;
use crate::lane::Lane;

/// The minimum pause between two checks. The pause is a quarter of the expiry time, within these bounds.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// The maximum pause between two checks.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Runs the checks until the process ends, on one core only.
pub(super) async fn run(lane: Rc<Lane>) {
    let expiry = lane.vitals.config.upload_expiry;
    loop {
        executor::sleep((expiry / 4).clamp(LOOK_MIN, LOOK_MAX)).await;
        let before_us = clock::unix_us().saturating_sub(expiry.as_micros() as i64);
        let resting = match upload_store(&lane).resting(before_us) {
            Ok(resting) => resting,
            Err(error) => {
                tracing::warn!(%error, "the uploads folder cannot be read");
                continue;
            }
        };
        let store = upload_store(&lane).clone();
        if let Err(error) = executor::blocking(move || store.remove_aside(before_us)).await {
            tracing::warn!(%error, "uploads that were set aside cannot be removed");
        }
        for id in resting {
            if let Err(error) = look_at(&lane, &id).await {
                tracing::warn!(upload = id.as_str(), %error, "an expired upload cannot be removed");
            }
        }
    }
}

async fn look_at(lane: &Lane, id: &UploadId) -> Result<(), UploadRefused> {
    // An upload is alive while a request works on it.
    let Some(_claim) = try_claim(lane, id).await? else { return Ok(()) };
    let Some(mut upload) = upload_store(lane).load(id)? else { return Ok(()) };
    if !upload.is_expired(clock::unix_us()) {
        return Ok(());
    }
    if upload.state == State::Expired {
        let store = upload_store(lane).clone();
        return Ok(executor::blocking(move || store.remove(&upload)).await?);
    }
    let was_receiving = upload.state == State::Receiving;
    upload.state = State::Expired;
    finish::keep_end(lane, &mut upload).await?;
    if was_receiving || upload_store(lane).has_body(id) {
        finish::drop_body(lane, &upload).await?;
    }
    tracing::info!(upload = id.as_str(), "an upload expired");
    Ok(())
}
