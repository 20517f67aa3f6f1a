//! The data that the shards have about one customer, and the progress of an erasure in each shard.

use super::report::{ErasureState, KnownCustomer};
use crate::base::keys::KeyHasher;
use crate::query::{QueryError, Readers};

/// The maximum number of bytes of names and addresses from all shards, so that they fit into one journal record.
const NAMES_BYTES_MAX: usize = 512 * 1024;

/// Returns the row ids of one customer's orders, by shard.
///
/// # Errors
/// Returns an error if a shard cannot be read now.
pub(super) async fn orders_of_customer(
    readers: &Readers,
    keys: KeyHasher,
    tenant_id: &str,
    customer_id: &str,
) -> Result<Vec<Vec<i64>>, QueryError> {
    let (tenant_id, customer_id) = (tenant_id.to_owned(), customer_id.to_owned());
    let step =
        move |connection: &_| super::report::orders_of_customer(connection, &keys, &tenant_id, &customer_id);
    readers.ask_all(Vec::new(), step).await
}

/// Returns a customer as known to all shards together, with as many names and addresses as one record can hold.
pub(super) async fn known_customer(
    readers: &Readers,
    keys: KeyHasher,
    tenant_id: &str,
    customer_id: &str,
) -> Result<KnownCustomer, QueryError> {
    let (tenant_id, customer_id) = (tenant_id.to_owned(), customer_id.to_owned());
    let answers = readers
        .ask_all(KnownCustomer::default(), move |connection| {
            super::report::known_customer(connection, &keys, &tenant_id, &customer_id)
        })
        .await?;
    let mut all = KnownCustomer::default();
    let mut bytes = 0;
    for KnownCustomer { names, emails, is_truncated, token } in answers {
        all.token = all.token.or(token);
        all.is_truncated |= is_truncated;
        for (list, more) in [(&mut all.names, names), (&mut all.emails, emails)] {
            for text in more {
                if list.contains(&text) {
                    continue;
                }
                if bytes + text.len() <= NAMES_BYTES_MAX {
                    bytes += text.len();
                    list.push(text);
                } else {
                    all.is_truncated = true;
                }
            }
        }
    }
    Ok(all)
}

/// Returns an erasure's state in every shard, in shard order. An entry is `None` if the shard does not know the
/// erasure.
pub(super) async fn erasure(readers: &Readers, id: &str) -> Result<Vec<Option<ErasureState>>, QueryError> {
    let id = id.to_owned();
    readers.ask_all(None, move |connection| super::report::erasure(connection, &id)).await
}
