//! Orders in memory, and the responses that a server with these rows must return, computed in the simplest way.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::Chance;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub product: String,
    pub category: String,
    pub quantity: i64,
    /// Price of one unit, in minor units of the currency.
    pub price: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub tenant: String,
    pub id: String,
    pub customer: String,
    pub name: String,
    pub email: String,
    pub status: String,
    pub currency: String,
    pub at_us: i64,
    pub items: Vec<Item>,
}

pub const STATUSES: [&str; 6] = ["pending", "paid", "shipped", "delivered", "cancelled", "refunded"];

fn digits(currency: &str) -> usize {
    match currency {
        "JPY" => 0,
        "KWD" => 3,
        _ => 2,
    }
}

pub fn decimal(minor: i64, currency: &str) -> String {
    let digits = digits(currency);
    let text = format!("{minor:0>width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    if digits == 0 { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

fn minor(text: &str, currency: &str) -> i64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<width$}", width = digits(currency)).parse().expect("a decimal")
}

pub fn rfc3339(us: i64) -> String {
    firehose::base::clock::rfc3339(us)
}

impl Order {
    /// Parses a line of a dataset.
    #[track_caller]
    pub fn parse(line: &str) -> Order {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let text = |of: &Value, name: &str| of[name].as_str().expect(name).to_owned();
        let currency = text(&value, "currency");
        let item = |item: &Value| Item {
            product: text(item, "product_id"),
            category: text(item, "category"),
            quantity: item["quantity"].as_i64().expect("a quantity"),
            price: minor(&text(item, "unit_price"), &currency),
        };
        let at: jiff::Timestamp = text(&value, "ordered_at").parse().expect("a time");
        Order {
            tenant: text(&value, "tenant_id"),
            id: text(&value, "order_id"),
            customer: text(&value, "customer_id"),
            name: text(&value, "customer_name"),
            email: text(&value, "customer_email"),
            status: text(&value, "status"),
            at_us: at.as_microsecond(),
            items: value["items"].as_array().expect("items").iter().map(item).collect(),
            currency,
        }
    }

    fn items(&self) -> Vec<Value> {
        let item = |item: &Item| {
            let price = decimal(item.price, &self.currency);
            json!({"product_id": item.product, "category": item.category, "quantity": item.quantity, "unit_price": price})
        };
        self.items.iter().map(item).collect()
    }

    /// Returns the order as it is sent.
    pub fn line(&self) -> String {
        let line = json!({
            "order_id": self.id, "tenant_id": self.tenant, "customer_id": self.customer,
            "customer_name": self.name, "customer_email": self.email, "status": self.status,
            "currency": self.currency, "ordered_at": rfc3339(self.at_us), "items": self.items(),
        });
        format!("{line}\n")
    }

    /// Returns the order as a search shows it.
    pub fn row(&self) -> Value {
        let mut row: Value = serde_json::from_str(&self.line()).expect("JSON");
        row["total"] = decimal(self.total(), &self.currency).into();
        row["units"] = self.items.iter().map(|item| item.quantity).sum::<i64>().into();
        row
    }

    pub fn total(&self) -> i64 {
        self.items.iter().map(|item| item.quantity * item.price).sum()
    }

    pub fn is_sale(&self) -> bool {
        self.status != "cancelled" && self.status != "refunded"
    }
}

pub fn body<'o>(orders: impl IntoIterator<Item = &'o Order>) -> Vec<u8> {
    orders.into_iter().map(Order::line).collect::<String>().into_bytes()
}

/// Returns the rows of a search for everything of a tenant, newest first.
pub fn rows<'o>(orders: impl IntoIterator<Item = &'o Order>) -> Vec<Value> {
    let mut found: Vec<_> = orders.into_iter().collect();
    found.sort_by(|one, other| (other.at_us, &other.id).cmp(&(one.at_us, &one.id)));
    found.into_iter().map(Order::row).collect()
}

/// The figures of one group: orders, units, revenue, customers, totals.
type Group<'o> = (i64, i64, i64, BTreeSet<&'o str>, Vec<i64>);

/// Returns the groups of exact sales of one tenant's orders.
pub fn sales<'o>(
    orders: impl IntoIterator<Item = &'o Order>,
    by: &str,
    zone: &TimeZone,
    dates: (Option<Date>, Option<Date>),
) -> Vec<Value> {
    let mut groups: BTreeMap<(i64, &str, &str), Group<'_>> = BTreeMap::new();
    for order in orders.into_iter().filter(|order| order.is_sale()) {
        let time = jiff::Timestamp::from_microsecond(order.at_us).expect("a time").to_zoned(zone.clone());
        let date = time.date();
        if dates.0.is_some_and(|first| date < first) || dates.1.is_some_and(|last| date > last) {
            continue;
        }
        let full_hour = jiff::ZonedRound::new().smallest(jiff::Unit::Hour).mode(jiff::RoundMode::Trunc);
        let start_us = match by {
            "day" => time.start_of_day().expect("a day").timestamp().as_microsecond(),
            "hour" => time.round(full_hour).expect("an hour").timestamp().as_microsecond(),
            _ => 0,
        };
        let name = |item: &'o Item| match by {
            "product" => item.product.as_str(),
            "category" => item.category.as_str(),
            _ => "",
        };
        let names: BTreeSet<&str> = order.items.iter().map(name).collect();
        for of in names {
            let group = groups.entry((start_us, of, &order.currency)).or_default();
            let items = order.items.iter().filter(|item| name(item) == of);
            let (units, revenue) =
                items.fold((0, 0), |sum, item| (sum.0 + item.quantity, sum.1 + item.quantity * item.price));
            (group.0, group.1, group.2) = (group.0 + 1, group.1 + units, group.2 + revenue);
            group.3.insert(&order.customer);
            group.4.push(order.total());
        }
    }
    let told = |((start_us, name, currency), mut group): ((i64, &str, &str), Group<'_>)| {
        let start = jiff::Timestamp::from_microsecond(start_us).expect("a time").to_zoned(zone.clone());
        let key = match by {
            "day" => start.date().to_string(),
            "hour" => start.timestamp().to_string(),
            _ => name.to_owned(),
        };
        group.4.sort_unstable();
        let rank = |percent: usize| decimal(group.4[(group.4.len() * percent).div_ceil(100) - 1], currency);
        json!({
            "key": key, "currency": currency, "orders": group.0, "units": group.1,
            "revenue": decimal(group.2, currency), "unique_customers": group.3.len(),
            "order_value": {"p50": rank(50), "p95": rank(95), "p99": rank(99)},
        })
    };
    groups.into_iter().map(told).collect()
}

const NAMES: [&str; 5] = ["Ann Müller", "Anna Smith", "Bob O'Brien", "José Ansel-Smith", ""];
const EMAILS: [&str; 4] = ["ann.mueller@example.com", "smith+shop@mail.test", "bob@example.org", ""];
const PRODUCTS: [&str; 7] = ["p1", "p2", "p-3", "p/4", "ü 5", "p6", "p7"];
const CATEGORIES: [&str; 3] = ["Books", "Toys & Games", "Möbel"];
/// Moments around clock changes in Berlin, Lord Howe and New York, and at the turn of a year.
const MOMENTS: [&str; 7] = [
    "2026-03-29T01:00:00Z",
    "2026-10-25T01:00:00Z",
    "2026-04-04T15:00:00Z",
    "2026-10-03T15:30:00Z",
    "2026-03-08T07:00:00Z",
    "2026-11-01T06:00:00Z",
    "2025-12-31T23:59:59.999999Z",
];

impl Order {
    /// Returns a random order. All values are from small sets, so that names, times and filters often coincide. Now
    /// and then, a product has another category.
    pub fn random(chance: &mut Chance, tenant: &str, id: u64) -> Order {
        let mut pick = |count: usize| chance.below(count as u64) as usize;
        let moment: jiff::Timestamp = MOMENTS[pick(MOMENTS.len())].parse().expect("a time");
        // Up to six hours before or after, in steps that include full and half hours.
        let at_us = moment.as_microsecond() + (pick(73) as i64 - 36) * 600_000_000 - pick(2) as i64;
        let customer = pick(12);
        let items = (0..pick(4) + 1).map(|_| {
            let product = pick(PRODUCTS.len());
            Item {
                product: PRODUCTS[product].to_owned(),
                category: CATEGORIES[(product + pick(9) / 8) % CATEGORIES.len()].to_owned(),
                quantity: pick(5) as i64 + 1,
                price: pick(6) as i64 * 511,
            }
        });
        let items = items.collect();
        Order {
            tenant: tenant.to_owned(),
            id: format!("order-{id}"),
            customer: format!("c{customer}"),
            name: NAMES[customer % NAMES.len()].to_owned(),
            email: EMAILS[customer % EMAILS.len()].to_owned(),
            status: STATUSES[pick(6)].to_owned(),
            currency: ["USD", "JPY", "KWD"][pick(3)].to_owned(),
            at_us,
            items,
        }
    }
}
