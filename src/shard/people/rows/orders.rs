//! Orders, customers and their words.

use rusqlite::{TransactionBehavior, params};

use super::super::super::error::ShardError;
use super::super::super::file::Shard;
use super::super::super::inspect::partitions_of;
use super::super::super::orders::{Becomes, customers_of, delete_words, merge_words, orders_of};
use super::super::super::stream::Stream;
use super::super::record::{ErasureMode, Subject};
use super::super::work::Erasing;
use super::{ROWS_PER_SLICE, count_gone};
use crate::base::clock;

/// Orders of one transaction: each may have the sketches of an hour, a day and some categories made anew.
const ORDERS_PER_SLICE: usize = 16;

impl Shard {
    /// Orders of the customer, with their items: gone, or the token's.
    pub(in super::super) fn erase_orders(
        &mut self,
        erasing: &mut Erasing,
        until_us: u64,
    ) -> Result<bool, ShardError> {
        let partitions = partitions_of(&self.connection, Stream::Order)?;
        let Some(partition) = erasing.partition(partitions.clone()) else { return Ok(true) };
        let table = partition.name.clone();
        let becomes = match (&erasing.subject, erasing.mode) {
            (Some(Subject::Customer { tenant_id, token, .. }), ErasureMode::Pseudonymise) => {
                Becomes::Of { customer_key: self.keys.hash(tenant_id, token).0 as i64 }
            }
            _ => Becomes::Nothing,
        };
        let mut left = match erasing.orders.take() {
            Some(left) => left,
            None => {
                let mut found = Vec::new();
                for (tenant, customers) in self.customers_of(erasing)? {
                    found.extend(orders_of(&self.connection, &table, partition.indexed, tenant, &customers)?);
                }
                found
            }
        };
        while !left.is_empty() {
            let now = left.split_off(left.len().saturating_sub(ORDERS_PER_SLICE));
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let before = erasing.report;
            let changed = self
                .orders
                .change(&transaction, &table, partition.indexed, &now, becomes)
                .and_then(|touched| {
                    erasing.report.orders += touched.orders;
                    erasing.report.items += touched.items;
                    erasing.report.index_entries += touched.index_entries;
                    let gone = if becomes == Becomes::Nothing { touched.orders } else { 0 };
                    let left = count_gone(&transaction, Stream::Order, &table, gone, touched.times)?;
                    erasing.save(&transaction)?;
                    transaction.commit()?;
                    Ok((gone, left))
                });
            match changed {
                Ok((gone, times)) => {
                    self.orders.committed();
                    self.order_count -= gone;
                    if let Some(open) =
                        self.orders.open.as_mut().filter(|open| gone > 0 && open.name == table)
                    {
                        open.erased(gone, times);
                    }
                }
                Err(error) => {
                    self.orders.rolled_back();
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

    /// Tenant and numbers of the customer, for each id that is meant.
    fn customers_of(&self, erasing: &Erasing) -> Result<Vec<(i64, Vec<i64>)>, ShardError> {
        let Some((tenant_id, ids)) = erasing.customer() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for id in ids {
            let key = self.keys.hash(tenant_id, id).0 as i64;
            found.extend(customers_of(&self.connection, tenant_id, (id, key))?);
        }
        Ok(found)
    }

    /// Names and addresses, and their entries in the index of words. No order has them any more, or they are the
    /// token's from now on.
    pub(in super::super) fn erase_customers(
        &mut self,
        erasing: &mut Erasing,
        until_us: u64,
    ) -> Result<bool, ShardError> {
        let Some(Subject::Customer { tenant_id, token, .. }) = &erasing.subject else { return Ok(true) };
        let token_key = self.keys.hash(tenant_id, token).0 as i64;
        let customers: Vec<i64> = self.customers_of(erasing)?.into_iter().flat_map(|(_, ids)| ids).collect();
        for now in customers.chunks(ROWS_PER_SLICE as usize) {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for customer in now {
                // Before the row, which has its text.
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
        // Nothing of before is taken for what has their numbers next.
        self.orders.forget_names();
        Ok(true)
    }

    /// Deleted entries stay in the segments of the index until those are merged with others: all of them are, a few
    /// pages at a time.
    pub(in super::super) fn merge_words(&mut self, erasing: &mut Erasing) -> Result<bool, ShardError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut merging = erasing.merging;
        let is_done = merge_words(&transaction, &mut merging)?;
        transaction.commit()?;
        erasing.merging = merging;
        Ok(is_done)
    }
}
