//! The stream of orders: sorted by time, with the tenants mixed, and only one order in memory.

use super::catalogue::CATEGORIES;
use super::people::Person;
use super::random::{Random, Use, key};
use super::row::{Id, Item, Order};
use super::season::Timeline;
use super::world::{World, customer_id, product_id};
use crate::orders::OrderStatus;

pub(super) const ITEMS_MEAN_MAX: f64 = 20.0;
/// The maximum number of items in an order. Longer orders are truncated: one order in 170 at the largest mean, and a
/// negligible number at usual means.
const ITEMS_MAX: usize = 100;

/// Iterates over orders. Each order borrows the stream's buffers. Generating an order of 2.5 items, writing it as
/// NDJSON and adding it to the expected totals takes about 1.2 µs of CPU.
#[derive(Debug)]
pub struct Orders<'w> {
    world: &'w World,
    timeline: Timeline<'w>,
    tenants: Vec<Source>,
    /// The probability of one more item, in units of 2⁻⁶⁴.
    go_on: u64,
    items: Vec<Item>,
    person: Person,
}

#[derive(Debug)]
struct Source {
    random: Random,
    orders: u64,
}

impl<'w> Orders<'w> {
    /// The orders of all tenants.
    #[must_use]
    pub fn new(world: &'w World) -> Orders<'w> {
        Orders::with(world, |_| true)
    }

    /// The orders of one tenant, which are the same as among those of all.
    pub(super) fn of_tenant(world: &'w World, tenant: u32) -> Orders<'w> {
        Orders::with(world, |other| other == tenant)
    }

    fn with(world: &'w World, is_wanted: impl Fn(u32) -> bool) -> Orders<'w> {
        let spec = &world.spec;
        let counts = (0..spec.tenants).map(|tenant| if is_wanted(tenant) { spec.orders } else { 0 });
        let source = |tenant| Source { random: Random::new(key(spec.seed, Use::Orders, tenant)), orders: 0 };
        Orders {
            world,
            timeline: Timeline::new(&world.season, spec.seed, Use::OrderTimes, counts),
            tenants: (0..spec.tenants).map(source).collect(),
            // The number of items has a geometric distribution that starts at 1 and has the mean `items_mean`.
            go_on: ((1.0 - 1.0 / spec.items_mean) * 18_446_744_073_709_551_616.0) as u64,
            items: Vec::with_capacity(ITEMS_MAX),
            person: Person::default(),
        }
    }

    /// Returns the next order, or `None` after the last.
    #[expect(clippy::should_implement_trait, reason = "what it gives borrows from it: no Iterator can")]
    pub fn next(&mut self) -> Option<Order<'_>> {
        let (ordered_at_ms, index) = self.timeline.next()?;
        let tenant = &self.world.tenants[index as usize];
        let source = &mut self.tenants[index as usize];
        source.orders += 1;
        let random = &mut source.random;
        let customer = self.world.some_customer(tenant, random);
        let status = status(random);
        self.items.clear();
        loop {
            let number = self.world.some_product(tenant, random);
            let product = tenant.product(number);
            // One line in ten is discounted by 10, 20 or 30 %.
            let unit_price_minor = match random.below(30) {
                off @ 1..=3 => (product.price_minor * (10 - off) / 10).max(1),
                _ => product.price_minor,
            };
            self.items.push(Item {
                product_id: product_id(number),
                product: number,
                category: CATEGORIES[usize::from(product.category)].name,
                category_index: product.category,
                quantity: quantity(random),
                unit_price_minor,
            });
            if random.bits() >= self.go_on || self.items.len() == ITEMS_MAX {
                break;
            }
        }
        self.person.become_number(tenant.people_key, customer);
        Some(Order {
            tenant: index,
            tenant_id: &tenant.id,
            order_id: Id::new(&tenant.order_prefix, source.orders, 8),
            customer,
            customer_id: customer_id(customer),
            customer_name: &self.person.name,
            customer_email: &self.person.email,
            status,
            currency: tenant.currency,
            ordered_at_ms,
            items: &self.items,
        })
    }
}

fn status(random: &mut Random) -> OrderStatus {
    match random.below(100) {
        0..=3 => OrderStatus::Cancelled,
        4..=5 => OrderStatus::Refunded,
        6..=10 => OrderStatus::Pending,
        11..=25 => OrderStatus::Paid,
        26..=39 => OrderStatus::Shipped,
        _ => OrderStatus::Delivered,
    }
}

/// Returns a quantity from 1 to 5, mostly 1.
fn quantity(random: &mut Random) -> u32 {
    match random.below(100) {
        0..=61 => 1,
        62..=82 => 2,
        83..=91 => 3,
        92..=96 => 4,
        _ => 5,
    }
}
