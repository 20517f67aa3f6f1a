//! Erases orders, customers and their words.

use rusqlite::{TransactionBehavior, params};

use super::super::active::ActiveErasure;
use super::ROWS_PER_SLICE;
use crate::base::clock;
use crate::orders::{self, ErasureEffect, ORDERS, OrderStore, customers_of, delete_words, orders_of};
use crate::shard::partition::{Deleted, count_deleted, widened};
use crate::shard::{ErasureMode, PartitionInfo, Shard, ShardError, committing, partitions_of};

/// The number of orders in one transaction. Each order may require the sketches of an hour, a day and some categories
/// to be rebuilt.
const ORDERS_PER_SLICE: usize = 16;

/// Deletes the customers' orders with their items, or assigns them to the tokens.
pub(in super::super) fn erase_orders(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    if !find_owners(shard, erasing, until_us)? {
        return Ok(false);
    }
    let partitions = partitions_of(shard.connection(), &ORDERS)?;
    let Some(partition) = erasing.walk.partition(&partitions) else { return Ok(true) };
    let mut left = match erasing.orders.take() {
        Some((table, left)) if table == partition.name => left,
        _ => found_orders(shard, erasing, &partition)?,
    };
    while !left.is_empty() {
        let now = left.split_off(left.len().saturating_sub(ORDERS_PER_SLICE));
        let gone = change_orders(shard, erasing, &partition, &now)?;
        shard.rows_gone(&ORDERS, &partition.name, &gone);
        if clock::monotonic_us() >= until_us {
            erasing.orders = Some((partition.name, left));
            return Ok(false);
        }
    }
    Ok(erasing.walk.next_partition(&partitions))
}

/// Looks up the customers' numbers. Returns `true` once all are known. No number is added later, because the people are
/// suppressed.
fn find_owners(shard: &mut Shard, erasing: &mut ActiveErasure, until_us: u64) -> Result<bool, ShardError> {
    while erasing.owners.looked_up < erasing.people.len() {
        let person = erasing.owners.looked_up;
        for (tenant, customers) in customers(shard, erasing, person)? {
            erasing.owners.tenant = Some(tenant);
            erasing.owners.people.extend(customers.into_iter().map(|customer| (customer, person)));
        }
        erasing.owners.looked_up += 1;
        if erasing.owners.looked_up < erasing.people.len() && clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns the people's orders in a partition, each with its person, in the order in which they arrived. Orders of one
/// time are then changed together, and their sketches are rebuilt together.
fn found_orders(
    shard: &mut Shard,
    erasing: &ActiveErasure,
    partition: &PartitionInfo,
) -> Result<Vec<(i64, usize)>, ShardError> {
    let owners = &erasing.owners.people;
    let Some(tenant) = erasing.owners.tenant.filter(|_| !owners.is_empty()) else { return Ok(Vec::new()) };
    let wanted: Vec<i64> = owners.keys().copied().collect();
    let found = orders_of(shard.connection(), &partition.name, partition.indexed, tenant, &wanted)?;
    let owner = |(order, customer)| Some((order, *owners.get(&customer)?));
    let mut found: Vec<(i64, usize)> = found.into_iter().filter_map(owner).collect();
    found.sort_unstable();
    Ok(found)
}

/// Changes these orders in one transaction.
fn change_orders(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    partition: &PartitionInfo,
    orders: &[(i64, usize)],
) -> Result<Deleted, ShardError> {
    let table = &partition.name;
    let tenant_id = erasing.tenant_id().unwrap_or_default().to_owned();
    let keys = *shard.keys();
    let becomes = |person: usize| match (erasing.mode, erasing.customer(person)) {
        (ErasureMode::Pseudonymise, Some((_, token))) => {
            ErasureEffect::Reassign { customer_key: keys.hash(&tenant_id, token).0 as i64 }
        }
        _ => ErasureEffect::Delete,
    };
    let changes: Vec<(i64, ErasureEffect)> =
        orders.iter().map(|(order, person)| (*order, becomes(*person))).collect();
    let Some((store, connection, streams)) = shard.store_mut::<OrderStore>() else {
        return Err(ShardError::Other("the shard has no orders".to_owned()));
    };
    let tables = streams.get(&ORDERS).tables();
    committing(store, |store| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let touched = store.change(&transaction, table, partition.indexed, &changes, &tables)?;
        let (mut gone, mut times) = (0, None::<(i64, i64)>);
        for ((_, person), touched) in orders.iter().zip(&touched) {
            erasing.count(*person, |report| {
                report.orders += touched.orders;
                report.items += touched.items;
                report.index_entries += touched.index_entries;
            });
            if let Some(at) = touched.deleted_us {
                gone += 1;
                times = Some(widened(times, at));
            }
        }
        let gone = count_deleted(&transaction, &ORDERS, table, gone, times)?;
        erasing.save(&transaction)?;
        transaction.commit()?;
        Ok(gone)
    })
}

/// Returns the tenant and the customer's numbers, for each of a person's ids.
fn customers(
    shard: &mut Shard,
    erasing: &ActiveErasure,
    person: usize,
) -> Result<Vec<(i64, Vec<i64>)>, ShardError> {
    let (Some(tenant_id), Some((ids, _))) = (erasing.tenant_id(), erasing.customer(person)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for id in ids {
        let key = shard.keys().hash(tenant_id, id).0 as i64;
        found.extend(customers_of(shard.connection(), tenant_id, (id, key))?);
    }
    Ok(found)
}

/// Deletes names and addresses with their entries in the word index, or replaces them with the token. By this step,
/// no order refers to the deleted names and addresses.
pub(in super::super) fn erase_customers(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    // The walk is at the first person whose rows may be left.
    while let Ok(person) = usize::try_from(erasing.walk.at)
        && person < erasing.people.len()
    {
        if !erase_customer(shard, erasing, person, until_us)? {
            return Ok(false);
        }
        erasing.walk.at += 1;
        if person + 1 < erasing.people.len() && clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
    // Clears the numbers of names in memory, because the freed numbers may be assigned to other names.
    if let Some((orders, ..)) = shard.store_mut::<OrderStore>() {
        orders.forget_names();
    }
    Ok(true)
}

/// Erases one person's names and addresses. Returns `false` if some are left.
fn erase_customer(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    person: usize,
    until_us: u64,
) -> Result<bool, ShardError> {
    let (Some(tenant_id), Some((_, token))) = (erasing.tenant_id(), erasing.customer(person)) else {
        return Ok(true);
    };
    let (token, token_key) = (token.to_owned(), shard.keys().hash(tenant_id, token).0 as i64);
    let customers: Vec<i64> =
        customers(shard, erasing, person)?.into_iter().flat_map(|(_, ids)| ids).collect();
    for now in customers.chunks(ROWS_PER_SLICE as usize) {
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        for customer in now {
            // The words are deleted before the row is changed, because their deletion requires the row's text.
            let words = u64::from(delete_words(&transaction, *customer)?);
            let rows = match erasing.mode {
                ErasureMode::Erase => transaction
                    .prepare_cached("DELETE FROM customer_row WHERE id = ?1")?
                    .execute([customer])?,
                ErasureMode::Pseudonymise => transaction
                    .prepare_cached(
                        "UPDATE customer_row SET customer_id = ?2, name = '', email = '', key = ?3 WHERE id = ?1",
                    )?
                    .execute(params![customer, token, token_key])?,
            };
            erasing.count(person, |report| {
                report.words += words;
                report.customers += rows as u64;
            });
        }
        erasing.save(&transaction)?;
        transaction.commit()?;
        if now.len() < customers.len() && clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Merges the segments of the word index, a few pages at a time. A deleted entry remains in its segment until the
/// segment is merged with all others.
pub(in super::super) fn merge_words(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    _until_us: u64,
) -> Result<bool, ShardError> {
    let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut merging = erasing.merging;
    let is_done = orders::merge_words(&transaction, &mut merging)?;
    transaction.commit()?;
    erasing.merging = merging;
    Ok(is_done)
}
