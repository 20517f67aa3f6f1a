//! Erases people from exports: finds the rows that their files may contain, while no job works on them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::place::ErasedFiles;
use super::query;
use super::refused::PeopleRefused;
use super::uploads::ErasedPeople;
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::cores::executor;
use crate::exports::{PeopleInExports, export_store};
use crate::lane::Lane;
use crate::lane::keyed::{self, Claim};
use crate::shard::ErasureMode;

/// How long a request waits for the jobs of the tenant's exports to finish their batches, and for another erasure to
/// finish with them.
const REST_WAIT: Duration = Duration::from_secs(30);
/// The pause between two checks of a condition that a request waits for.
const LOOK: Duration = Duration::from_millis(20);

/// Erases the people from the tenant's exports, which the caller holds.
pub(super) fn erase_exports<'l>(lane: &'l Rc<Lane>, people: &'l Arc<ErasedPeople>) -> ErasedFiles<'l> {
    Box::pin(erase_from_exports(lane, people))
}

async fn erase_from_exports(lane: &Rc<Lane>, people: &Arc<ErasedPeople>) -> Result<Vec<u64>, PeopleRefused> {
    let _claim = at_rest(lane, &people.tenant_id).await?;
    let readers = lane.readers.asked_by(&people.tenant_id);
    let orders = query::orders_of_customers(&readers, lane.keys, people).await?;
    let [events, kept_events] = match export_store(lane).pins_of(&people.tenant_id) {
        Some(pins) => query::events_of_customers(&readers, people, &pins).await?,
        None => [Vec::new(), Vec::new()],
    };
    let (store, people) = (export_store(lane).clone(), people.clone());
    let erase = move || {
        let found = PeopleInExports {
            orders: &orders,
            are_kept: people.mode == ErasureMode::Pseudonymise,
            events: &events,
            kept_events: &kept_events,
            who_is: &|text: &str| people.matcher.who_named(text),
            count: people.customer_ids.len(),
        };
        store.erase_people(&people.tenant_id, &found)
    };
    Ok(lane.readers.compute(erase).await??)
}

/// Removes the exports that were created during an erasure and filter by one of the people. They contain none of the
/// people's rows, because an export selects its rows after the erasure.
pub(super) async fn sweep_exports(lane: &Rc<Lane>, people: &Arc<ErasedPeople>) -> Result<(), PeopleRefused> {
    let (store, people) = (export_store(lane).clone(), people.clone());
    let remove =
        move || store.remove_identifying(&people.tenant_id, &|text: &str| people.matcher.who_named(text));
    lane.readers.compute(remove).await??;
    Ok(())
}

/// Erases a user from the exports of clicks, which the caller holds. Returns the number of affected exports.
pub(super) async fn erase_user_from_exports(lane: &Lane, user_id: i64) -> Result<u64, PeopleRefused> {
    let _claim = at_rest(lane, "").await?;
    let rows = match export_store(lane).pins_of("") {
        Some(pins) => query::clicks_of_user(&lane.readers.asked_by(""), user_id, &pins).await?,
        None => Vec::new(),
    };
    let store = export_store(lane).clone();
    Ok(lane.readers.compute(move || store.erase_user(user_id, &rows)).await??)
}

/// Removes the exports that were created during the erasure of a user's clicks and filter by the user. They contain none
/// of these clicks.
pub(super) async fn sweep_user_exports(lane: &Lane, user_id: i64) -> Result<(), PeopleRefused> {
    let store = export_store(lane).clone();
    lane.readers.compute(move || store.remove_of_user(user_id)).await??;
    Ok(())
}

/// Waits until no job works on the exports, and until no other erasure changes them: two changes of one file at once
/// would damage it.
async fn at_rest(lane: &Lane, tenant_id: &str) -> Result<Claim, PeopleRefused> {
    let until_us = clock::monotonic_us() + REST_WAIT.as_micros() as u64;
    let shard = lane.keys.hash(tenant_id, "exports").shard(lane.shard_count);
    let mut claimed = None;
    loop {
        if claimed.is_none() {
            let name = format!("exports\0{tenant_id}");
            claimed = keyed::claim(lane, shard, name).await.map_err(WriteRefused::from)?;
        }
        match claimed.take() {
            Some(claim) if export_store(lane).is_at_rest(tenant_id) => return Ok(claim),
            claim => claimed = claim,
        }
        if clock::monotonic_us() >= until_us {
            return Err(PeopleRefused::Beginning);
        }
        executor::sleep(LOOK).await;
    }
}
