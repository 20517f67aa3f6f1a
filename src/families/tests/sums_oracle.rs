//! The sums of sales that a shard must have after orders have left: those of the stored orders plus those that left.

use std::collections::BTreeMap;

use super::orders::{Model, Order};
use crate::orders::OrderStatus;
use crate::shard::{Outcome, Shard};

const DAY_US: i64 = 86_400_000_000;

/// Tenant, currency is yen, day.
pub(super) type Day = (u8, bool, i64);

/// The stored orders, and the sums of those that have left.
#[derive(Default)]
pub(super) struct Oracle {
    pub(super) model: Model,
    /// The orders by row id.
    pub(super) rows: BTreeMap<i64, (u8, u8)>,
    pub(super) next_id: i64,
    /// Orders, units and revenue of the dropped sales.
    dropped: BTreeMap<Day, [i64; 3]>,
}

impl Oracle {
    pub(super) fn take(&mut self, orders: &[Order]) -> Vec<Outcome> {
        let outcomes = self.model.take(orders);
        for (order, outcome) in orders.iter().zip(&outcomes) {
            if *outcome == Outcome::Inserted {
                self.next_id += 1;
                self.rows.insert(self.next_id, (order.tenant, order.id));
            }
        }
        outcomes
    }

    /// Moves a stored order to those that have left.
    pub(super) fn leave(&mut self, key: (u8, u8)) {
        let (order, now) = self.model.stored.remove(&key).unwrap();
        if OrderStatus::from_code(now).unwrap().is_sale() {
            add(self.dropped.entry(day_of(&order)).or_default(), &order);
        }
    }

    pub(super) fn sums(&self) -> BTreeMap<Day, [i64; 3]> {
        let mut sums = self.dropped.clone();
        for (order, now) in self.model.stored.values() {
            if OrderStatus::from_code(*now).unwrap().is_sale() {
                add(sums.entry(day_of(order)).or_default(), order);
            }
        }
        sums
    }
}

pub(super) fn day_of(order: &Order) -> Day {
    let at_us = order.ordered_at_us();
    (order.tenant, order.yen, at_us - at_us.rem_euclid(DAY_US))
}

fn add(sum: &mut [i64; 3], order: &Order) {
    sum[0] += 1;
    sum[1] += order.units();
    sum[2] += order.total();
}

pub(super) fn stored_sums(shard: &mut Shard) -> BTreeMap<Day, [i64; 3]> {
    let sql = "SELECT t.tenant_id, s.currency, s.start_us, s.orders, s.units, s.revenue FROM sales_day s \
               JOIN tenant_row t ON t.id = s.tenant";
    let mut statement = shard.connection().prepare(sql).unwrap();
    let read = |row: &rusqlite::Row<'_>| {
        let (tenant, currency): (String, String) = (row.get(0)?, row.get(1)?);
        let day = (tenant.as_bytes()[7] - b'0', currency == "JPY", row.get(2)?);
        Ok((day, [row.get(3)?, row.get(4)?, row.get(5)?]))
    };
    statement.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap()
}

pub(super) fn number(shard: &mut Shard, sql: &str) -> i64 {
    shard.connection().query_row(sql, [], |row| row.get(0)).unwrap()
}
