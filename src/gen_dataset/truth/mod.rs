//! The totals that a correct system must report. They are exact, and are collected while the orders are generated.
//!
//! In: orders sorted by time. Out: `truth.json`. Owns: the definitions of a sale (an order neither cancelled nor
//! refunded), a day (UTC) and a day's customer. Never: estimates, or stores a row. Memory: 8 bytes per customer, 24
//! bytes per product, and 16 bytes for each distinct order total of a tenant, regardless of the number of orders.

mod report;

use super::catalogue::CATEGORIES;
use super::row::Order;
use super::season::DAY_MS;
use super::tally::{Quantiles, Tally};
use super::world::World;
use crate::orders::OrderStatus;

pub(super) use report::{Rows, write};

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

/// Every tenant's totals so far.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) tenants: Vec<TenantTruth>,
    pub(super) items: u64,
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

impl Truth {
    pub(super) fn new(world: &World) -> Truth {
        let products = world.spec.products as usize;
        let tenant = |customers: u32| TenantTruth {
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
            customers: vec![Seen::default(); customers as usize],
        };
        Truth { tenants: world.tenants.iter().map(|each| tenant(each.customers)).collect(), items: 0 }
    }

    /// Counts an order. Orders of one tenant arrive sorted by time.
    pub(super) fn add(&mut self, order: &Order<'_>) {
        self.items += order.items.len() as u64;
        self.tenants[order.tenant as usize].add(order);
    }

    /// Ends the stream of orders.
    pub(super) fn finish(&mut self) {
        for tenant in &mut self.tenants {
            tenant.close_day(i64::MIN);
        }
    }
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
