//! The data that the shards have about customers, and the progress of erasures in each shard.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rusqlite::Connection;

use super::access::reader::{ShardFiles, Sought};
use super::matcher::PersonMatcher;
use super::report::{BatchProgress, ErasureState, KnownCustomer};
use super::rows::{FoundEvents, find_events};
use super::uploads::ErasedPeople;
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::base::keys::KeyHasher;
use crate::clicks::ClickFilter;
use crate::query::{QueryError, Readers, received};
use crate::shard::read::{RowCursor, TimeRange, select_rows};
use crate::shard::{ErasureMode, journal_positions};

/// The maximum number of bytes of one customer's names and addresses from all shards, so that they fit into one
/// journal record.
const NAMES_BYTES_MAX: usize = 512 * 1024;
/// The maximum number of bytes of names and addresses of all customers of one request. Every shard searches for them
/// with an automaton of about 20 bytes of memory for each.
const NAMES_BYTES_OF_ALL_MAX: usize = 1024 * 1024;
/// How long one step of a search may keep its snapshot.
const STEP_US: u64 = 20_000;

/// The sorted row ids of people's rows by shard, each with the position of its person.
pub(super) type RowsOf = Vec<Vec<(i64, usize)>>;

/// Returns the row ids of the customers' orders, by shard.
///
/// # Errors
/// Returns an error if a shard cannot be read now.
pub(super) async fn orders_of_customers(
    readers: &Readers,
    keys: KeyHasher,
    people: &Arc<ErasedPeople>,
) -> Result<RowsOf, QueryError> {
    let people = people.clone();
    let step = move |connection: &_| {
        super::report::orders_of_customers(connection, &keys, &people.tenant_id, &people.owners)
    };
    readers.ask_all(Vec::new(), step).await
}

/// Returns the row ids of the events up to the pins that refer to customers: those that are deleted, and those that
/// remain with a pseudonym. Reads every event of the shards, in steps.
pub(super) async fn events_of_customers(
    readers: &Readers,
    people: &Arc<ErasedPeople>,
    pins: &[i64],
) -> Result<[RowsOf; 2], QueryError> {
    let mut all = [Vec::new(), Vec::new()];
    for (shard, pin) in readers.shards().zip(pins.iter().copied()) {
        let (mut of_shard, mut next) = ([Vec::new(), Vec::new()], Some(0));
        while let Some(after) = next {
            let found;
            (found, next) = some_events(readers, shard, (after, pin), people).await?;
            of_shard.iter_mut().zip(found).for_each(|(all, found)| all.extend(found));
        }
        all.iter_mut().zip(of_shard).for_each(|(all, found)| all.push(found));
    }
    Ok(all)
}

/// Runs one step of [`events_of_customers`] in one shard, which starts after this row id. Also returns the id to
/// continue after, if there may be more.
pub(super) async fn some_events(
    readers: &Readers,
    shard: ShardId,
    (after, pin): (i64, i64),
    people: &Arc<ErasedPeople>,
) -> Result<(FoundEvents, Option<i64>), QueryError> {
    let people = people.clone();
    let step = move |connection: &Connection| {
        let until_us = clock::monotonic_us() + STEP_US;
        find_events(connection, (after, pin), &people.tenant_id, (&people.matcher, people.mode), until_us)
    };
    received(readers.ask(shard, ([Vec::new(), Vec::new()], None), step)?.recv().await)
}

/// Returns the row ids of a user's clicks up to the pins.
pub(super) async fn clicks_of_user(
    readers: &Readers,
    user_id: i64,
    pins: &[i64],
) -> Result<RowsOf, QueryError> {
    let mut shards = Vec::new();
    for (shard, pin) in readers.shards().zip(pins.iter().copied()) {
        let (mut all, mut next) = (Vec::new(), Some(RowCursor::default()));
        while let Some(cursor) = next.take() {
            let step = move |connection: &Connection| {
                let of = ClickFilter { user_id: Some(user_id) };
                let range = TimeRange { from_us: None, to_us: None, descending: false };
                select_rows(connection, (&of, &range), pin, cursor, Vec::new())
            };
            let found: Vec<i64>;
            (found, next) = received(readers.ask(shard, (Vec::new(), None), step)?.recv().await)?;
            all.extend(found.into_iter().map(|id| (id, 0)));
        }
        all.sort_unstable();
        shards.push(all);
    }
    Ok(shards)
}

/// Returns customers as known to all shards together, with as many names and addresses as one record can hold.
pub(super) async fn known_customers(
    readers: &Readers,
    keys: KeyHasher,
    tenant_id: &str,
    customer_ids: &Arc<Vec<String>>,
) -> Result<Vec<KnownCustomer>, QueryError> {
    let (tenant_id, ids) = (tenant_id.to_owned(), customer_ids.clone());
    let step = move |connection: &_| {
        let known = |id| super::report::known_customer(connection, &keys, &tenant_id, id);
        ids.iter().map(|id| known(id)).collect()
    };
    let answers = readers.ask_all(Vec::new(), step).await?;
    let mut all = vec![KnownCustomer::default(); customer_ids.len()];
    let mut left = NAMES_BYTES_OF_ALL_MAX;
    for known in answers {
        for (all, known) in all.iter_mut().zip(known) {
            merge(all, known, &mut left);
        }
    }
    Ok(all)
}

/// Adds what one shard knows about a customer. `left` is the number of bytes that all customers may still have.
fn merge(all: &mut KnownCustomer, known: KnownCustomer, left: &mut usize) {
    let KnownCustomer { names, emails, is_truncated, suppression } = known;
    all.suppression = all.suppression.take().or(suppression);
    all.is_truncated |= is_truncated;
    for (at, more) in [names, emails].into_iter().enumerate() {
        for text in more {
            let bytes: usize = all.names.iter().chain(&all.emails).map(String::len).sum();
            let list = if at == 0 { &mut all.names } else { &mut all.emails };
            if list.contains(&text) {
                continue;
            }
            if bytes + text.len() <= NAMES_BYTES_MAX && text.len() <= *left {
                *left -= text.len();
                list.push(text);
            } else {
                all.is_truncated = true;
            }
        }
    }
}

/// Returns what is needed to read everything that is held of a customer. With `sees_all`, the client may also see data
/// of other tenants.
pub(super) async fn sought(
    (readers, keys): (&Readers, KeyHasher),
    data: &Path,
    (tenant_id, customer_id): (&str, &str),
    known: &KnownCustomer,
    sees_all: bool,
) -> Result<Sought, QueryError> {
    let matcher = PersonMatcher::new(
        [customer_id],
        known.emails.iter().map(String::as_str),
        known.names.iter().map(String::as_str),
    );
    let people =
        ErasedPeople::new(tenant_id.to_owned(), ErasureMode::Erase, vec![(customer_id.to_owned(), matcher)]);
    let people = Arc::new(people);
    let positions: Vec<Vec<(LaneId, Sequence)>> = readers.ask_all(Vec::new(), journal_positions).await?;
    let orders = orders_of_customers(readers, keys, &people).await?;
    let files = |(shard, positions): (ShardId, _)| {
        let folder = data.join(shard.folder());
        ShardFiles { shard, folder, positions }
    };
    let shards = readers.shards().zip(positions).map(files).collect();
    Ok(Sought { people, keys, orders, events: OnceLock::new(), shards, sees_all })
}

/// Returns an erasure's state in every shard, in shard order. An entry is `None` if the shard does not know the
/// erasure.
pub(super) async fn erasure(readers: &Readers, id: &str) -> Result<Vec<Option<ErasureState>>, QueryError> {
    let mut states = erasures(readers, &Arc::new(vec![id.to_owned()])).await?;
    Ok(states.pop().unwrap_or_default())
}

/// Returns the states of several erasures.
pub(super) async fn erasures(
    readers: &Readers,
    ids: &Arc<Vec<String>>,
) -> Result<Vec<Vec<Option<ErasureState>>>, QueryError> {
    let (asked, count) = (ids.clone(), ids.len());
    let step = move |connection: &_| asked.iter().map(|id| super::report::erasure(connection, id)).collect();
    let shards: Vec<Vec<Option<ErasureState>>> = readers.ask_all(vec![None; count], step).await?;
    Ok((0..count).map(|at| shards.iter().map(|states| states.get(at).cloned().flatten()).collect()).collect())
}

/// Returns how many erasures of a request each shard knows, and how many of them are finished.
pub(super) async fn progress(readers: &Readers, name: &str) -> Result<Vec<BatchProgress>, QueryError> {
    let name = name.to_owned();
    readers
        .ask_all(BatchProgress::default(), move |connection| super::report::progress(connection, &name))
        .await
}
