//! Deletes orders of a tenant whose retention is over from a partition that other tenants still use, slice by slice.
//!
//! An order leaves with its items, its entries in the lists, the time of its status, and its customer if no other order
//! names the customer. As with a dropped partition, the tables of dropped sales receive what it contributed to the sums
//! (R3), here in the transaction that deletes it. The id of a deleted order is free again, because a known id counts
//! only if its row exists.

use rusqlite::Connection;

use super::dropped::{Unlisted, delete_customer, is_named, lists_of};
use super::erase::{delete_order, items, products_by_id, sale};
use super::segment::SegmentChange;
use super::store::OrderStore;
use crate::base::clock;
use crate::shard::partition::check_name;
use crate::shard::{ShardError, TenantSlice, tenant_number};

impl OrderStore {
    /// Deletes orders until the slice ends. Returns how many of the row ids were handled, and how many orders were
    /// deleted. Handles none while the customers of partitions without lists are being read.
    pub(super) fn drop_tenant_orders(
        &mut self,
        transaction: &Connection,
        slice: TenantSlice<'_>,
    ) -> Result<(usize, u64), ShardError> {
        let TenantSlice { tenant_id, partition, ids, partitions, until_us } = slice;
        check_name(&super::ORDERS, partition)?;
        let mut unlisted = match self.unlisted.take() {
            Some(unlisted) => unlisted,
            None => Unlisted::begin(transaction)?,
        };
        let mut is_read = unlisted.read(transaction)?;
        while !is_read && clock::monotonic_us() < until_us {
            is_read = unlisted.read(transaction)?;
        }
        let unlisted = self.unlisted.insert(unlisted);
        let Some(tenant) = tenant_number(transaction, tenant_id)? else { return Ok((ids.len(), 0)) };
        if !is_read {
            return Ok((0, 0));
        }
        let lists = lists_of(partitions);
        let (mut handled, mut gone, mut is_customer_gone) = (0, Vec::new(), false);
        for id in ids.iter().copied() {
            if let Some((status, customer, sale)) = sale(transaction, partition, id)?
                && sale.tenant == tenant
            {
                let lines = items(transaction, partition, id)?;
                if status.is_sale() {
                    let by_id = products_by_id(transaction, partition, id)?;
                    self.sums.add_dropped_sale(&sale, &lines, by_id);
                }
                let order = (id, customer, sale.ordered_at_us);
                delete_order(transaction, (partition, true), order, &lines)?;
                gone.push((id, SegmentChange::Gone));
                if !unlisted.contains(customer) && !is_named(transaction, &lists, customer)? {
                    delete_customer(transaction, customer)?;
                    is_customer_gone = true;
                }
            }
            handled += 1;
            // An order may have a thousand items.
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        self.segments.rows_changed(transaction, &gone)?;
        self.sums.save_dropped(transaction, self.drops_sums)?;
        // Exact figures come from the rows, so those that were computed before are old.
        let sql = "UPDATE sales_version SET version = version + 1 WHERE tenant = ?1";
        transaction.prepare_cached(sql)?.execute([tenant])?;
        if is_customer_gone {
            self.forget_names();
        }
        Ok((handled, gone.len() as u64))
    }
}
