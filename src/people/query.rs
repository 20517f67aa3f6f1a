//! The data that the shards have about customers, and the progress of erasures in each shard.

use std::path::Path;
use std::sync::Arc;

use super::access::reader::{ShardFiles, Sought};
use super::matcher::PersonMatcher;
use super::report::{BatchProgress, ErasureState, KnownCustomer};
use super::uploads::ErasedPeople;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::base::keys::KeyHasher;
use crate::query::{QueryError, Readers};
use crate::shard::{ErasureMode, journal_positions};

/// The maximum number of bytes of one customer's names and addresses from all shards, so that they fit into one
/// journal record.
const NAMES_BYTES_MAX: usize = 512 * 1024;
/// The maximum number of bytes of names and addresses of all customers of one request. Every shard searches for them
/// with an automaton of about 20 bytes of memory for each.
const NAMES_BYTES_OF_ALL_MAX: usize = 1024 * 1024;

/// The row ids of customers' orders by shard, each with the position of its customer.
type OrdersOf = Vec<Vec<(i64, usize)>>;

/// Returns the row ids of the customers' orders, by shard.
///
/// # Errors
/// Returns an error if a shard cannot be read now.
pub(super) async fn orders_of_customers(
    readers: &Readers,
    keys: KeyHasher,
    people: &Arc<ErasedPeople>,
) -> Result<OrdersOf, QueryError> {
    let people = people.clone();
    let step = move |connection: &_| {
        super::report::orders_of_customers(connection, &keys, &people.tenant_id, &people.customer_ids)
    };
    readers.ask_all(Vec::new(), step).await
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
    Ok(Sought { people, keys, orders, shards, sees_all })
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
