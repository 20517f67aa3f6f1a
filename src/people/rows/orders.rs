//! Erases orders, customers and their words.

use rusqlite::{TransactionBehavior, params};

use super::super::active::ActiveErasure;
use super::super::record::Subject;
use super::ROWS_PER_SLICE;
use crate::base::clock;
use crate::orders::{self, ErasureEffect, ORDERS, OrderStore, customers_of, delete_words, orders_of};
use crate::shard::partition::{Deleted, count_deleted};
use crate::shard::{ErasureMode, PartitionInfo, Shard, ShardError, Store as _, partitions_of};

/// The number of orders in one transaction. Each order may require the sketches of an hour, a day and some categories
/// to be rebuilt.
const ORDERS_PER_SLICE: usize = 16;

/// Deletes the customer's orders with their items, or assigns them to the token.
pub(in super::super) fn erase_orders(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    let partitions = partitions_of(shard.connection(), &ORDERS)?;
    let Some(partition) = erasing.partition(partitions.clone()) else { return Ok(true) };
    let table = partition.name.clone();
    let becomes = match (&erasing.subject, erasing.mode) {
        (Some(Subject::Customer { tenant_id, token, .. }), ErasureMode::Pseudonymise) => {
            ErasureEffect::Reassign { customer_key: shard.keys().hash(tenant_id, token).0 as i64 }
        }
        _ => ErasureEffect::Delete,
    };
    let mut left = match erasing.orders.take() {
        Some(left) => left,
        None => {
            let mut found = Vec::new();
            for (tenant, customers) in customers(shard, erasing)? {
                found.extend(orders_of(shard.connection(), &table, partition.indexed, tenant, &customers)?);
            }
            found
        }
    };
    while !left.is_empty() {
        let now = left.split_off(left.len().saturating_sub(ORDERS_PER_SLICE));
        let before = erasing.report;
        match change_orders(shard, erasing, &partition, &now, becomes) {
            Ok(gone) => shard.rows_gone(&ORDERS, &table, &gone),
            Err(error) => {
                erasing.report = before;
                return Err(error);
            }
        }
        if clock::monotonic_us() >= until_us {
            erasing.orders = Some(left);
            return Ok(false);
        }
    }
    Ok(erasing.next_partition(partitions))
}

/// Changes these orders in one transaction.
fn change_orders(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    partition: &PartitionInfo,
    ids: &[i64],
    becomes: ErasureEffect,
) -> Result<Deleted, ShardError> {
    let table = &partition.name;
    let Some((store, connection, streams)) = shard.store_mut::<OrderStore>() else {
        return Err(ShardError::Other("the shard has no orders".to_owned()));
    };
    let tables = streams.get(&ORDERS).tables();
    let mut change = || {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let touched = store.change(&transaction, table, partition.indexed, ids, becomes, &tables)?;
        erasing.report.orders += touched.orders;
        erasing.report.items += touched.items;
        erasing.report.index_entries += touched.index_entries;
        let gone = if becomes == ErasureEffect::Delete { touched.orders } else { 0 };
        let gone = count_deleted(&transaction, &ORDERS, table, gone, touched.times)?;
        erasing.save(&transaction)?;
        transaction.commit()?;
        Ok(gone)
    };
    let changed = change();
    if changed.is_ok() {
        store.committed()
    } else {
        store.rolled_back()
    }
    changed
}

/// Returns the tenant and the customer's numbers, for each of the person's ids.
fn customers(shard: &mut Shard, erasing: &ActiveErasure) -> Result<Vec<(i64, Vec<i64>)>, ShardError> {
    let Some((tenant_id, ids)) = erasing.customer() else { return Ok(Vec::new()) };
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
    let Some(Subject::Customer { tenant_id, token, .. }) = &erasing.subject else { return Ok(true) };
    let token_key = shard.keys().hash(tenant_id, token).0 as i64;
    let customers: Vec<i64> = customers(shard, erasing)?.into_iter().flat_map(|(_, ids)| ids).collect();
    for now in customers.chunks(ROWS_PER_SLICE as usize) {
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        for customer in now {
            // The words are deleted before the row is changed, because their deletion requires the row's text.
            erasing.report.words += u64::from(delete_words(&transaction, *customer)?);
            erasing.report.customers += match erasing.mode {
                ErasureMode::Erase => transaction
                    .prepare_cached("DELETE FROM customer_row WHERE id = ?1")?
                    .execute([customer])?,
                ErasureMode::Pseudonymise => transaction
                    .prepare_cached(
                        "UPDATE customer_row SET customer_id = ?2, name = '', email = '', key = ?3 WHERE id = ?1",
                    )?
                    .execute(params![customer, token, token_key])?,
            } as u64;
        }
        erasing.save(&transaction)?;
        transaction.commit()?;
        if now.len() < customers.len() && clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
    // Clears the numbers of names in memory, because the freed numbers may be assigned to other names.
    if let Some((orders, ..)) = shard.store_mut::<OrderStore>() {
        orders.forget_names();
    }
    Ok(true)
}

/// Merges the segments of the word index, a few pages at a time. A deleted entry remains in its segment until the
/// segment is merged with all others.
pub(in super::super) fn merge_words(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
) -> Result<bool, ShardError> {
    let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut merging = erasing.merging;
    let is_done = orders::merge_words(&transaction, &mut merging)?;
    transaction.commit()?;
    erasing.merging = merging;
    Ok(is_done)
}
