//! Starts the erasure of one or several customers of a tenant, up to the point from which it continues by itself.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::super::place::Erase;
use super::super::places::PLACES;
use super::super::query;
use super::super::record::{ERASURE, ErasureRecord, RemovedOutside, Subject};
use super::super::refused::PeopleRefused;
use super::super::report::KnownCustomer;
use super::super::uploads::{ErasedPeople, unmanaged_copy};
use super::pending::{self, Pending};
use super::{ErasureIds, LOOK};
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::base::ids::{ShardId, random_hex};
use crate::cores::executor;
use crate::exports::export_store;
use crate::ingest::KeyedRows;
use crate::lane::keyed::{Claim, PATIENCE};
use crate::lane::{Lane, keyed};
use crate::shard::ErasureMode;

/// How long a request waits for another request that is starting an erasure of the same person.
const CLAIM_WAIT: Duration = Duration::from_secs(5);
/// The maximum number of bytes, and of records, that are journaled at once.
const ROWS_BYTES_MAX: usize = 256 * 1024;
const ROWS_MAX: usize = 250;

/// A started erasure.
pub(super) struct Begun {
    /// The ids of the erasures, in the order of the customers.
    pub(super) ids: ErasureIds,
    /// The id of the batch, or of the only erasure.
    pub(super) name: String,
    /// A channel that is closed when all of them are done in the data folder.
    pub(super) done: async_channel::Receiver<()>,
}

pub(super) fn random() -> Result<String, PeopleRefused> {
    Ok(random_hex().map_err(std::io::Error::other)?)
}

pub(super) fn check_folder(lane: &Lane) -> Result<(), PeopleRefused> {
    match unmanaged_copy(&lane.vitals.config.data)? {
        Some(name) => Err(PeopleRefused::InTheWay(name)),
        None => Ok(()),
    }
}

/// Claims each person for one request at a time, because two concurrent requests would issue two different tokens. The
/// customers are sorted, so that two requests never wait for each other.
async fn claim(lane: &Lane, tenant_id: &str, customer_ids: &[String]) -> Result<Vec<Claim>, PeopleRefused> {
    let until_us = clock::monotonic_us() + CLAIM_WAIT.as_micros() as u64;
    let mut claims = Vec::with_capacity(customer_ids.len());
    for customer_id in customer_ids {
        let shard = lane.keys.hash(tenant_id, customer_id).shard(lane.shard_count);
        loop {
            let name = format!("person\0{tenant_id}\0{customer_id}");
            if let Some(claim) = keyed::claim(lane, shard, name).await.map_err(WriteRefused::from)? {
                claims.push(claim);
                break;
            }
            if clock::monotonic_us() >= until_us {
                return Err(PeopleRefused::Beginning);
            }
            executor::sleep(LOOK).await;
        }
    }
    Ok(claims)
}

/// Returns each customer's token: that of an earlier erasure, or a new one.
fn tokens(known: Vec<KnownCustomer>) -> Result<Vec<String>, PeopleRefused> {
    let token = |known: KnownCustomer| match known.suppression {
        Some(earlier) => Ok(earlier.token),
        None => Ok(format!("anon-{}", random()?)),
    };
    known.into_iter().map(token).collect()
}

/// Starts the erasure of these customers, which are sorted and distinct.
pub(super) async fn begin(
    lane: &Rc<Lane>,
    mode: ErasureMode,
    tenant_id: String,
    customer_ids: Vec<String>,
    wants_disk: bool,
) -> Result<Begun, PeopleRefused> {
    check_folder(lane)?;
    let claims = claim(lane, &tenant_id, &customer_ids).await?;
    let began_us = clock::unix_us();
    let customer_ids = Arc::new(customer_ids);
    let known = query::known_customers(&lane.readers, lane.keys, &tenant_id, &customer_ids).await?;
    let tokens = tokens(known)?;
    let subject = |at: usize, names, emails| Subject::Customer {
        tenant_id: tenant_id.clone(),
        customer_id: customer_ids[at].clone(),
        token: tokens[at].clone(),
        names,
        emails,
    };
    // Exports that chose their rows before this point are searched below. An export that chooses its rows later
    // waits for the shards.
    let hold = export_store(lane).hold(&tenant_id);
    let suppress: Vec<ErasureRecord> = (0..customer_ids.len())
        .map(|at| ErasureRecord::Suppress { mode, subject: subject(at, Vec::new(), Vec::new()) })
        .collect();
    send(lane, &suppress, wants_disk).await?;
    // Reads the customers again. Data that arrived before the records is committed by now, and no data is stored after
    // them.
    let known = query::known_customers(&lane.readers, lane.keys, &tenant_id, &customer_ids).await?;
    let are_truncated: Vec<bool> = known.iter().map(|known| known.is_truncated).collect();
    let known = known.into_iter().enumerate();
    let subjects: Vec<_> = known.map(|(at, known)| subject(at, known.names, known.emails)).collect();
    let people = Arc::new(ErasedPeople::of(mode, &subjects).ok_or(PeopleRefused::NoSuchPerson)?);
    let removed = erase_files(lane, &people).await?;
    let batch = if customer_ids.len() > 1 { Some(random()?) } else { None };
    let (mut ids, mut records) = (Vec::with_capacity(subjects.len()), Vec::with_capacity(subjects.len()));
    for ((subject, names_truncated), removed) in subjects.into_iter().zip(are_truncated).zip(removed) {
        let id = random()?;
        ids.push(id.clone());
        records.push(ErasureRecord::Erase {
            id,
            began_us,
            mode,
            subject,
            names_truncated,
            removed,
            batch: batch.clone(),
        });
    }
    let name = batch.unwrap_or_else(|| ids.first().cloned().unwrap_or_default());
    let pending = Pending::create(lane, name, people, &records).await?;
    if let Err(error) = send(lane, &records, wants_disk).await {
        // The records may arrive nevertheless. The next start, or the task below, completes them.
        pending::complete(lane.clone(), pending, records);
        return Err(error);
    }
    drop((claims, hold));
    let name = pending.name.clone();
    let done = pending::complete(lane.clone(), pending, Vec::new());
    Ok(Begun { ids: Arc::new(ids), name, done })
}

/// Erases the people from all files. Returns the number of removed files for each.
async fn erase_files(
    lane: &Rc<Lane>,
    people: &Arc<ErasedPeople>,
) -> Result<Vec<RemovedOutside>, PeopleRefused> {
    let mut removed = vec![RemovedOutside::default(); people.customer_ids.len()];
    for place in PLACES {
        let Erase::Files(erase) = place.erase else { continue };
        let counts = erase(lane, people).await?;
        for (removed, count) in removed.iter_mut().zip(counts) {
            removed.add(place.name, count);
        }
    }
    Ok(removed)
}

/// Sends records to every shard. Returns once all shards have committed them.
pub(super) async fn send(
    lane: &Lane,
    records: &[ErasureRecord],
    wants_disk: bool,
) -> Result<(), PeopleRefused> {
    let mut portions = Vec::new();
    let mut rows = KeyedRows::of(ERASURE);
    for record in records {
        if rows.len() >= ROWS_MAX || rows.bytes() >= ROWS_BYTES_MAX {
            portions.push(Arc::new(std::mem::replace(&mut rows, KeyedRows::of(ERASURE))));
        }
        let mut encoded = Ok(());
        rows.push_record(rows.len(), |bytes| encoded = record.encode(bytes));
        encoded?;
    }
    portions.push(Arc::new(rows));
    for rows in portions {
        send_portion(lane, &rows, wants_disk).await?;
    }
    Ok(())
}

async fn send_portion(lane: &Lane, rows: &Arc<KeyedRows>, wants_disk: bool) -> Result<(), PeopleRefused> {
    let mut begun = Vec::new();
    for shard in (0..lane.shard_count).map(ShardId) {
        begun.push(
            keyed::begin_when_there_is_room(lane, shard, rows, wants_disk, PATIENCE)
                .await
                .map_err(WriteRefused::from)?,
        );
    }
    for begun in begun {
        let settled = keyed::settle(lane, begun, wants_disk).await.map_err(WriteRefused::from)?;
        if !settled.synced {
            return Err(WriteRefused::Unsynced.into());
        }
        if settled.outcomes.len() < rows.len() || settled.outcomes.iter().any(Option::is_none) {
            return Err(WriteRefused::NotCommitted.into());
        }
    }
    Ok(())
}
