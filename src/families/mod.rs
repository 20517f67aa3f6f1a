//! The closed list of families: everything that a shard of a data folder stores.

#[cfg(test)]
mod tests;

use crate::clicks::Clicks;
use crate::events::Events;
use crate::orders::Orders;
use crate::people::People;
use crate::prices::Prices;
use crate::shard::Families;
use crate::stock::Stock;

/// A new family goes to the end, because migrations and reshards follow this order.
pub static FAMILIES: Families = Families {
    list: &[&Clicks, &Events, &Orders, &Prices, &Stock, &People],
    rejected_behind: 2,
    versions: &[
        "partitions of clicks, journal positions, totals",
        "idempotent events, their ids and buckets; clicks in order of time",
        "orders, customers, products and sales",
        "price events, stock, people who were forgotten",
        "when orders got their statuses",
        "words of customers for any SQLite",
        "retention of every kind of row",
        "retention by tenant",
        "customers of sums as words",
        "orders by columns",
        "how far the file is complete without its WAL",
        "no sums by product",
        "stock events in order of arrival",
        "events in no order of time",
        "what every commit changes, on one page",
        "prices in order of arrival",
        "one feed of changes, and the lives of row ids",
    ],
};
