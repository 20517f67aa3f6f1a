//! `POST /event` on a connection that the executor serves, and `GET /clicks`.

use super::{answer, query};
use crate::api::error::EventRefused;
use crate::base::clock;
use crate::config::AckLevel;
use crate::http::Answer;
use crate::lane::{Body, Call, Reply, on_disk, rows};
use crate::query::QueryError;
use crate::{api, ingest};

/// Handles an event of the collector, as the hot lane does.
pub async fn post_click(call: Call<'_>, body: Body<'_>) -> Result<Answer, EventRefused> {
    let Call { lane, request, .. } = call;
    let disk = api::request::wants_disk(call.query(), lane.vitals.config.ack)?;
    let coding = request.coding().ok_or(EventRefused::UnknownCoding)?;
    let (receipt, appended) = {
        let mut intake = lane.intake.borrow_mut();
        intake.begin(clock::monotonic_us());
        if let Some(pressure) = intake.disk_promise_pressure().filter(|_| disk) {
            return Err(ingest::Refused::Pressure(pressure).into());
        }
        let receipt = intake.stage_click(coding, &body.bytes, clock::unix_us())?;
        (receipt, intake.commit().map_err(ingest::Refused::Pressure)?)
    };
    lane.me.executor.accepted_bytes.add(body.bytes.len() as u64);
    lane.me.executor.accepted_events.add(1);
    drop(body);
    let level = match (disk, appended) {
        (true, Some(appended)) if !on_disk(lane, appended).await => return Err(EventRefused::Unsynced),
        (true, _) => AckLevel::Disk,
        (false, _) => AckLevel::Os,
    };
    lane.record_acked(request);
    Ok(answer::accepted(level, receipt))
}

/// Handles `GET /clicks`.
pub async fn get_page(call: Call<'_>, _: Body<'_>) -> Result<Reply, QueryError> {
    let plan = query::rows_plan(call.query()).map_err(QueryError::Parameters)?;
    rows(&call, plan).await
}
