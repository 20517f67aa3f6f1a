//! The totals that a correct system must report. They are exact.
//!
//! In: the orders of one tenant sorted by time, tenant by tenant, generated again after the files are written; and
//! counts that are collected while they are written. Out: `truth.json`. Owns: the definitions of a sale (an order
//! neither cancelled nor refunded), a day (UTC) and a day's customer. Never: estimates, or stores a row. Memory: 8
//! bytes per customer, 24 bytes per product, and 16 bytes for each distinct order total of one tenant, regardless of
//! the numbers of orders and tenants. Generating a million orders again takes about a second.

mod counts;
mod report;

use super::catalogue::CATEGORIES;
use super::orders::Orders;
use super::row::Order;
use super::season::DAY_MS;
use super::tally::{Quantiles, Tally};
use super::world::World;
use crate::orders::OrderStatus;

pub(super) use counts::RowCounts;
pub(super) use report::write;

/// The orders, units and revenue of some sales.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sum {
    pub(super) orders: u64,
    pub(super) units: u64,
    pub(super) revenue_minor: u64,
}

/// One day's sales.
#[derive(Clone, Copy, Debug)]
pub(super) struct Day {
    /// Days since 1970.
    pub(super) day: i64,
    pub(super) sum: Sum,
    pub(super) unique_customers: u64,
    pub(super) order_value: Quantiles,
}

/// One tenant's totals.
#[derive(Debug)]
pub(super) struct TenantTruth {
    pub(super) orders_all: u64,
    /// The number of orders for each status, in the order of [`OrderStatus::ALL`].
    pub(super) by_status: [u64; OrderStatus::ALL.len()],
    pub(super) sales: Sum,
    pub(super) unique_customers: u64,
    values: Tally,
    /// The days that are complete.
    pub(super) days: Vec<Day>,
    today: Day,
    today_values: Tally,
    pub(super) categories: Vec<(Sum, u64)>,
    pub(super) products: Vec<Sum>,
    customers: Vec<Seen>,
}

/// What has been counted for a customer so far.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The last day with a sale, counted from 1 at the dataset's first day. 0 before the first sale.
    day: u32,
    /// The categories that were bought, one bit each.
    categories: u32,
}

impl Day {
    fn of(day: i64) -> Day {
        Day { day, sum: Sum::default(), unique_customers: 0, order_value: Quantiles::default() }
    }
}

impl Sum {
    fn add(&mut self, orders: u64, units: u64, revenue_minor: u64) {
        self.orders += orders;
        self.units += units;
        self.revenue_minor += revenue_minor;
    }
}

impl TenantTruth {
    /// Computes the totals of one tenant. `row_done` is called after each order.
    pub(super) fn of(world: &World, tenant: u32, row_done: &mut dyn FnMut()) -> TenantTruth {
        let (products, customers) = (world.spec.products as usize, world.spec.customers as usize);
        let mut truth = TenantTruth {
            orders_all: 0,
            by_status: Default::default(),
            sales: Sum::default(),
            unique_customers: 0,
            values: Tally::default(),
            days: Vec::new(),
            today: Day::of(i64::MIN),
            today_values: Tally::default(),
            categories: vec![Default::default(); CATEGORIES.len()],
            products: vec![Sum::default(); products],
            customers: vec![Seen::default(); customers],
        };
        let mut orders = Orders::of_tenant(world, tenant);
        while let Some(order) = orders.next() {
            truth.add(&order);
            row_done();
        }
        truth.close_day(i64::MIN);
        truth
    }

    /// Returns the quantiles over the totals of all sales.
    pub(super) fn order_value(&mut self) -> Quantiles {
        self.values.quantiles()
    }

    fn add(&mut self, order: &Order<'_>) {
        self.orders_all += 1;
        self.by_status[usize::from(order.status.code()) - 1] += 1;
        if !order.status.is_sale() {
            return;
        }
        let day = order.ordered_at_ms.div_euclid(DAY_MS);
        if day != self.today.day {
            self.close_day(day);
        }
        let customer = &mut self.customers[order.customer as usize];
        // The stamp is at least 1 and at most 3,660, the maximum number of days.
        let stamp = self.days.len() as u32 + 1;
        self.unique_customers += u64::from(customer.day == 0);
        self.today.unique_customers += u64::from(customer.day != stamp);
        customer.day = stamp;

        let (mut units, mut categories) = (0, 0_u32);
        for (index, item) in order.items.iter().enumerate() {
            let (quantity, bit) = (u64::from(item.quantity), 1 << item.category_index);
            let revenue = quantity * item.unit_price_minor;
            let is_first = |product| order.items[..index].iter().all(|before| before.product != product);
            self.products[item.product as usize].add(u64::from(is_first(item.product)), quantity, revenue);
            let (sum, unique) = &mut self.categories[usize::from(item.category_index)];
            sum.add(u64::from(categories & bit == 0), quantity, revenue);
            *unique += u64::from(customer.categories & bit == 0);
            customer.categories |= bit;
            categories |= bit;
            units += quantity;
        }
        let total = order.total_minor();
        self.sales.add(1, units, total);
        self.today.sum.add(1, units, total);
        self.values.add(total);
        self.today_values.add(total);
    }

    /// Closes the current day and starts another.
    fn close_day(&mut self, next: i64) {
        let mut day = std::mem::replace(&mut self.today, Day::of(next));
        if day.sum.orders > 0 {
            day.order_value = self.today_values.quantiles();
            self.days.push(day);
        }
        self.today_values.clear();
    }
}
