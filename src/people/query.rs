//! The data that the shards have of one customer, and the progress of an erasure in each.

use super::report::{ErasureState, KnownCustomer};
use crate::base::keys::KeyHasher;
use crate::query::{QueryError, Readers};

/// Maximum bytes of names and addresses. Those of all shards fit into one journal record.
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
        move |connection: &_| crate::people::orders_of_customer(connection, &keys, &tenant_id, &customer_id);
    readers.ask_all(Vec::new(), step).await
}

/// Returns a customer as all shards together know it, with as many names and addresses as one record holds.
pub(super) async fn known_customer(
    readers: &Readers,
    keys: KeyHasher,
    tenant_id: &str,
    customer_id: &str,
) -> Result<KnownCustomer, QueryError> {
    let (tenant_id, customer_id) = (tenant_id.to_owned(), customer_id.to_owned());
    let answers = readers
        .ask_all(KnownCustomer::default(), move |connection| {
            crate::people::known_customer(connection, &keys, &tenant_id, &customer_id)
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

/// Returns the state of an erasure in every shard, in their order; `None` for a shard that does not know it.
pub(super) async fn erasure(readers: &Readers, id: &str) -> Result<Vec<Option<ErasureState>>, QueryError> {
    let id = id.to_owned();
    readers.ask_all(None, move |connection| crate::people::erasure(connection, &id)).await
}
