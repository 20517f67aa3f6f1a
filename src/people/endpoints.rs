//! `DELETE …/customers/{customer}` and `/clicks/users/{user_id}`: erases a person from every shard and from the files
//! next to the shards.
//!
//! ```text
//! suppress ─► every shard ─► uploads, exports ─► erase ─► every shard ─► wait for all ─► 200, or 202 with a location
//! ```
//! Once the `erase` record is committed in every shard, the shards continue by themselves, even after a crash. Until
//! then, nothing is promised to the client, and a repeated request completes the erasure.

mod forget;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use self::forget::forget;
use super::answer::{self, Erasure, PeopleRefused};
use super::matcher::PersonMatcher;
use super::query;
use super::record::{ERASURE, ErasureRecord, RemovedOutside, Subject};
use super::report::KnownCustomer;
use super::uploads::{ErasedPerson, unmanaged_copy};
use crate::api;
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::base::ids::{ShardId, random_hex};
use crate::config::AckLevel;
use crate::cores::executor;
use crate::exports::export_store;
use crate::http::Answer;
use crate::ingest::KeyedRows;
use crate::lane::keyed::{Claim, PATIENCE};
use crate::lane::{Body, Call, Lane, detached, keyed};
use crate::shard::ErasureMode;

/// How long a request waits for the erasure to finish. A client can query a longer erasure later.
const WAIT: Duration = Duration::from_secs(10);
/// The pause between two checks of a condition that a request waits for.
const LOOK: Duration = Duration::from_millis(20);
/// How long a request waits for another request that is starting an erasure of the same person.
const CLAIM_WAIT: Duration = Duration::from_secs(5);
/// How long a request waits for the jobs of the tenant's exports to finish their batches.
const REST_WAIT: Duration = Duration::from_secs(30);

/// Handles `DELETE …/customers/{customer}`.
pub async fn erase_customer(call: Call<'_>, _: Body<'_>) -> Result<Answer, PeopleRefused> {
    let mode = answer::mode(call.query(), true)?;
    let customer_id = call.request.parameter("customer");
    if !api::request::is_identifier(&customer_id) {
        return Err(PeopleRefused::NoSuchPerson);
    }
    let wants_disk = call.wants_disk()?;
    let (lane, tenant_id) = (call.lane.clone(), call.tenant().to_owned());
    // The client may disconnect. A started erasure still reaches the point from which the shards continue by
    // themselves.
    let erased = detached(async move { erase(&lane, mode, tenant_id, customer_id, wants_disk).await });
    erased.await.unwrap_or(Err(PeopleRefused::Lost))
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

/// Returns the state of an erasure, either of a tenant's customer or of a user's clicks.
pub async fn erasure(call: Call<'_>, _: Body<'_>) -> Result<Answer, PeopleRefused> {
    let tenant_id = Some(call.tenant()).filter(|tenant| !tenant.is_empty());
    let id = call.request.parameter("erasure");
    let shards = query::erasure(&call.lane.readers, &id).await?;
    let is_theirs = shards.iter().flatten().any(|shard| shard.tenant_id.as_deref() == tenant_id);
    if !is_theirs {
        return Err(PeopleRefused::NoSuchErasure);
    }
    Ok(answer::status(&Erasure { id: &id, shards: &shards }))
}

fn random() -> Result<String, PeopleRefused> {
    Ok(random_hex().map_err(std::io::Error::other)?)
}

fn check_folder(lane: &Lane) -> Result<(), PeopleRefused> {
    match unmanaged_copy(&lane.vitals.config.data)? {
        Some(name) => Err(PeopleRefused::InTheWay(name)),
        None => Ok(()),
    }
}

/// Claims a person for one request at a time, because two concurrent requests would issue two different tokens.
async fn claim(lane: &Lane, tenant_id: &str, customer_id: &str) -> Result<Claim, PeopleRefused> {
    let until_us = clock::monotonic_us() + CLAIM_WAIT.as_micros() as u64;
    let shard = lane.keys.hash(tenant_id, customer_id).shard(lane.shard_count);
    loop {
        let name = format!("person\0{tenant_id}\0{customer_id}");
        if let Some(claim) = keyed::claim(lane, shard, name).await.map_err(WriteRefused::from)? {
            return Ok(claim);
        }
        if clock::monotonic_us() >= until_us {
            return Err(PeopleRefused::Beginning);
        }
        executor::sleep(LOOK).await;
    }
}

async fn erase(
    lane: &Rc<Lane>,
    mode: ErasureMode,
    tenant_id: String,
    customer_id: String,
    wants_disk: bool,
) -> Result<Answer, PeopleRefused> {
    check_folder(lane)?;
    let claim = claim(lane, &tenant_id, &customer_id).await?;
    let began_us = clock::unix_us();
    let known = query::known_customer(&lane.readers, lane.keys, &tenant_id, &customer_id).await?;
    let token = match known.token {
        Some(token) => token,
        None => format!("anon-{}", random()?),
    };
    let subject = |names, emails| Subject::Customer {
        tenant_id: tenant_id.clone(),
        customer_id: customer_id.clone(),
        token: token.clone(),
        names,
        emails,
    };
    // Exports that chose their orders before this point are searched below. An export that chooses its orders later
    // waits for the shards.
    let hold = export_store(lane).hold(&tenant_id);
    send(lane, &ErasureRecord::Suppress { mode, subject: subject(Vec::new(), Vec::new()) }, wants_disk)
        .await?;
    // Reads the customer again. Data that arrived before the record is committed by now, and no data is stored after
    // it.
    let known = query::known_customer(&lane.readers, lane.keys, &tenant_id, &customer_id).await?;
    let KnownCustomer { names, emails, is_truncated, .. } = known;
    let matcher = PersonMatcher::new(
        [customer_id.as_str()],
        emails.iter().map(String::as_str),
        names.iter().map(String::as_str),
    );
    let person =
        Arc::new(ErasedPerson { tenant_id: tenant_id.clone(), customer_id: customer_id.clone(), matcher });
    let uploads = forget(lane, person.clone()).await?;
    let exports = erase_from_exports(lane, mode, &person).await?;
    let id = random()?;
    let removed = RemovedOutside { uploads, exports };
    let record = ErasureRecord::Erase {
        id: id.clone(),
        began_us,
        mode,
        subject: subject(names, emails),
        names_truncated: is_truncated,
        removed,
    };
    send(lane, &record, wants_disk).await?;
    drop((claim, hold));
    let location = format!("/api/v1/tenants/{}/erasures/{id}", api::request::encoded(&tenant_id));
    let answer = wait(lane, &id, location, wants_disk).await?;
    // An export that was created during the erasure has none of the person's orders, but may filter by the person.
    let store = export_store(lane).clone();
    let remove =
        move || store.remove_identifying(&person.tenant_id, &|bytes: &[u8]| person.matcher.matches(bytes));
    lane.readers.compute(remove).await??;
    Ok(answer)
}

/// Erases the person from the tenant's exports, which the caller holds. Returns the number of affected exports.
async fn erase_from_exports(
    lane: &Lane,
    mode: ErasureMode,
    person: &Arc<ErasedPerson>,
) -> Result<u64, PeopleRefused> {
    let until_us = clock::monotonic_us() + REST_WAIT.as_micros() as u64;
    while !export_store(lane).is_at_rest(&person.tenant_id) {
        if clock::monotonic_us() >= until_us {
            return Err(PeopleRefused::Beginning);
        }
        executor::sleep(LOOK).await;
    }
    let (tenant_id, customer_id) = (&person.tenant_id, &person.customer_id);
    let rows = query::orders_of_customer(&lane.readers, lane.keys, tenant_id, customer_id).await?;
    let (store, person, are_kept) =
        (export_store(lane).clone(), person.clone(), mode == ErasureMode::Pseudonymise);
    let erase = move || {
        let is_of_person = |bytes: &[u8]| person.matcher.matches(bytes);
        store.erase_person(&person.tenant_id, (&rows, are_kept), &is_of_person)
    };
    Ok(lane.readers.compute(erase).await??)
}

async fn erase_clicks(lane: &Rc<Lane>, user_id: i64, wants_disk: bool) -> Result<Answer, PeopleRefused> {
    check_folder(lane)?;
    let (id, began_us) = (random()?, clock::unix_us());
    let (mode, removed) = (ErasureMode::Erase, RemovedOutside::default());
    let (id_of, subject) = (id.clone(), Subject::User { user_id });
    let record = ErasureRecord::Erase { id: id_of, began_us, mode, subject, names_truncated: false, removed };
    send(lane, &record, wants_disk).await?;
    wait(lane, &id, format!("/clicks/erasures/{id}"), wants_disk).await
}

/// Sends a record to every shard. Returns once all shards have committed it.
async fn send(lane: &Lane, record: &ErasureRecord, wants_disk: bool) -> Result<(), PeopleRefused> {
    let mut begun = Vec::new();
    for shard in (0..lane.shard_count).map(ShardId) {
        let mut rows = KeyedRows::of(ERASURE);
        let mut encoded = Ok(());
        rows.push_record(0, |bytes| encoded = record.encode(bytes));
        encoded?;
        let rows = Arc::new(rows);
        begun.push(
            keyed::begin_when_there_is_room(lane, shard, &rows, wants_disk)
                .await
                .map_err(WriteRefused::from)?,
        );
    }
    for begun in begun {
        let settled = keyed::settle(lane, begun, wants_disk, PATIENCE).await.map_err(WriteRefused::from)?;
        if !settled.synced {
            return Err(WriteRefused::Unsynced.into());
        }
        settled.outcomes.first().copied().flatten().ok_or(WriteRefused::NotCommitted)?;
    }
    Ok(())
}

/// Waits for the erasure to finish, for at most [`WAIT`].
async fn wait(lane: &Lane, id: &str, location: String, wants_disk: bool) -> Result<Answer, PeopleRefused> {
    let until_us = clock::monotonic_us() + WAIT.as_micros() as u64;
    loop {
        let shards = query::erasure(&lane.readers, id).await?;
        let erasure = Erasure { id, shards: &shards };
        if erasure.is_finished() {
            return Ok(answer::erased(&erasure, AckLevel::of(wants_disk)));
        }
        if clock::monotonic_us() >= until_us {
            return Ok(answer::accepted(&erasure, location, AckLevel::of(wants_disk)));
        }
        executor::sleep(LOOK).await;
    }
}
