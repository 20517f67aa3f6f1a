//! `DELETE …/customers/{customer}`, `POST …/customers/erase` and `/clicks/users/{user_id}`: erases people from every
//! shard and from the files next to the shards. `GET …/customers/{customer}` and its export: what is held of a person.
//!
//! ```text
//! suppress ─► every shard ─► uploads, exports ─► pending file ─► erase ─► every shard ─► exports again ─► sinks ─► finished
//! ```
//! Once the pending file is written, the erasure finishes, even after a crash ([`pending`]). Until then, nothing is
//! promised to the client, and a repeated request completes the erasure.

mod access;
mod begin;
mod pending;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use self::access::{customer, export};
use self::begin::{Begun, check_folder, random, send};
pub use self::pending::PendingErasures;
use self::pending::pending_folder;
use super::answer::{self, Erasure};
use super::body::EraseRequest;
use super::exported::{erase_user_from_exports, sweep_user_exports};
use super::notes::SinkNotes;
use super::query;
use super::record::{ErasureRecord, RemovedOutside, Subject};
use super::refused::PeopleRefused;
use super::report::ErasureState;
use crate::api;
use crate::base::clock;
use crate::config::AckLevel;
use crate::cores::executor;
use crate::exports::export_store;
use crate::http::Answer;
use crate::lane::{Body, Call, Lane, detached};
use crate::shard::ErasureMode;

/// How long a request waits for the erasure to finish. A client can query a longer erasure later.
const WAIT: Duration = Duration::from_secs(10);
/// The pause between two checks of a condition that a request waits for.
const LOOK: Duration = Duration::from_millis(20);
/// The longest pause between two checks of what takes longer.
const LOOK_MAX: Duration = Duration::from_millis(250);

/// Returns the customer in the path.
fn customer_in_path(call: &Call<'_>) -> Result<String, PeopleRefused> {
    let customer_id = call.request.parameter("customer");
    match api::request::is_identifier(&customer_id) {
        true => Ok(customer_id),
        false => Err(PeopleRefused::NoSuchPerson),
    }
}

/// Handles `DELETE …/customers/{customer}`.
pub async fn erase_customer(call: Call<'_>, _: Body<'_>) -> Result<Answer, PeopleRefused> {
    let mode = answer::mode(call.query(), true)?;
    let customer_id = customer_in_path(&call)?;
    let wants_disk = call.wants_disk()?;
    let (lane, tenant_id) = (call.lane.clone(), call.tenant().to_owned());
    // The client may disconnect. A started erasure still reaches the point from which it continues by itself.
    let begun =
        detached(async move { begin::begin(&lane, mode, tenant_id, vec![customer_id], wants_disk).await });
    let mut begun = begun.await.unwrap_or(Err(PeopleRefused::Lost))?;
    let id = begun.ids.first().cloned().unwrap_or_default();
    let is_local_done = waited(call.lane, &mut begun).await?;
    let shards = query::erasure(&call.lane.readers, &id).await?;
    let sinks = SinkNotes::read(&call.lane.readers, &call.lane.vitals.config.data).await?;
    let erasure = Erasure { id: &id, shards: &shards, is_pending: !is_local_done, sinks: &sinks };
    let location = answer::location(call.tenant(), &id);
    Ok(answer::one(&erasure, location, AckLevel::of(wants_disk)))
}

/// Handles `POST …/customers/erase`.
pub async fn erase_customers(call: Call<'_>, body: Body<'_>) -> Result<Answer, PeopleRefused> {
    let EraseRequest { mode, customers } = {
        let mut inflated = Vec::new();
        EraseRequest::read(call.json(&body, &mut inflated)?)?
    };
    drop(body);
    let wants_disk = call.wants_disk()?;
    let (lane, tenant_id, ids) = (call.lane.clone(), call.tenant().to_owned(), customers.clone());
    let begun = detached(async move { begin::begin(&lane, mode, tenant_id, ids, wants_disk).await });
    let mut begun = begun.await.unwrap_or(Err(PeopleRefused::Lost))?;
    let is_local_done = waited(call.lane, &mut begun).await?;
    let states = query::erasures(&call.lane.readers, &begun.ids).await?;
    let sinks = SinkNotes::read(&call.lane.readers, &call.lane.vitals.config.data).await?;
    let erasures = begun.ids.iter().zip(&states);
    let erasures: Vec<Erasure<'_>> = erasures
        .map(|(id, shards)| Erasure { id, shards, is_pending: !is_local_done, sinks: &sinks })
        .collect();
    Ok(answer::several(call.tenant(), &customers, &erasures, AckLevel::of(wants_disk)))
}

/// Waits for the erasure to finish, for at most [`WAIT`]. Returns `true` if it is done in the data folder, whether a sink
/// is still pending or not.
async fn waited(lane: &Lane, begun: &mut Begun) -> Result<bool, PeopleRefused> {
    let until_us = clock::monotonic_us() + WAIT.as_micros() as u64;
    while !begun.done.is_closed() {
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
        executor::sleep(LOOK).await;
    }
    let count = begun.ids.len() as u64;
    let mut pause = LOOK;
    while query::progress(&lane.readers, &begun.name).await?.iter().any(|shard| shard.finished < count)
        && clock::monotonic_us() < until_us
    {
        executor::sleep(pause).await;
        pause = LOOK_MAX.min(pause * 2);
    }
    Ok(true)
}

/// Handles `DELETE /clicks/users/{user_id}`.
pub async fn erase_user(call: Call<'_>, _: Body<'_>) -> Result<Answer, PeopleRefused> {
    answer::mode(call.query(), false)?;
    let user_id = call.request.parameter("user_id").parse().map_err(|_| PeopleRefused::NoSuchPerson)?;
    let wants_disk = call.wants_disk()?;
    let lane = call.lane.clone();
    let erased = detached(async move { erase_clicks(&lane, user_id, wants_disk).await });
    erased.await.unwrap_or(Err(PeopleRefused::Lost))
}

async fn erase_clicks(lane: &Rc<Lane>, user_id: i64, wants_disk: bool) -> Result<Answer, PeopleRefused> {
    check_folder(lane)?;
    let (id, began_us) = (random()?, clock::unix_us());
    // Exports that chose their clicks before this point are searched. An export that chooses its clicks later waits for
    // the shards.
    let hold = export_store(lane).hold("");
    let removed = RemovedOutside { uploads: 0, exports: erase_user_from_exports(lane, user_id).await? };
    let record = ErasureRecord::Erase {
        id: id.clone(),
        began_us,
        mode: ErasureMode::Erase,
        subject: Subject::User { user_id },
        names_truncated: false,
        removed,
        batch: None,
    };
    send(lane, &[record], wants_disk).await?;
    drop(hold);
    let until_us = clock::monotonic_us() + WAIT.as_micros() as u64;
    let mut pause = LOOK;
    loop {
        let shards = query::erasure(&lane.readers, &id).await?;
        let is_finished = |shard: &ErasureState| shard.finished_us.is_some();
        let are_finished = shards.iter().all(|shard| shard.as_ref().is_some_and(is_finished));
        if are_finished || clock::monotonic_us() >= until_us {
            sweep_user_exports(lane, user_id).await?;
            let sinks = SinkNotes::read(&lane.readers, &lane.vitals.config.data).await?;
            let erasure = Erasure { id: &id, shards: &shards, is_pending: false, sinks: &sinks };
            return Ok(answer::one(&erasure, format!("/clicks/erasures/{id}"), AckLevel::of(wants_disk)));
        }
        executor::sleep(pause).await;
        pause = LOOK_MAX.min(pause * 2);
    }
}

/// Returns the state of an erasure, either of a tenant's customer or of a user's clicks.
pub async fn erasure(call: Call<'_>, _: Body<'_>) -> Result<Answer, PeopleRefused> {
    let tenant_id = Some(call.tenant()).filter(|tenant| !tenant.is_empty());
    let id = call.request.parameter("erasure");
    let shards = query::erasure(call.readers(), &id).await?;
    let first = shards.iter().flatten().find(|shard| shard.tenant_id.as_deref() == tenant_id);
    let Some(first) = first else { return Err(PeopleRefused::NoSuchErasure) };
    let name = first.batch.as_deref().unwrap_or(&id);
    let is_pending = pending_folder(call.lane).join(name).exists();
    let sinks = SinkNotes::read(call.readers(), &call.lane.vitals.config.data).await?;
    Ok(answer::status(&Erasure { id: &id, shards: &shards, is_pending, sinks: &sinks }))
}

/// The erasures of one request.
type ErasureIds = Arc<Vec<String>>;
