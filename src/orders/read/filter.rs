//! The filter that selects a tenant's orders and their fields.

use super::cache::QueryCache;
use crate::base::keys::KeyHash;
use crate::base::money::Currency;

/// The fields of an order that a response may contain. A set of fields has one bit for each field, in this order.
pub const ORDER_FIELDS: [&str; 12] = [
    "order_id",
    "tenant_id",
    "customer_id",
    "customer_name",
    "customer_email",
    "status",
    "currency",
    "ordered_at",
    "total",
    "units",
    "items",
    "received_at",
];

/// The filter that selects a tenant's orders and their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderFilter {
    pub tenant_id: String,
    /// Selects only this order.
    pub order: Option<OneOrder>,
    /// Selects this customer's orders.
    pub customer: Option<OneCustomer>,
    pub currency: Option<Currency>,
    /// Selects orders with an item whose product is in this list. An empty list permits every product. The same item
    /// must also meet `category` and the price bounds.
    pub product_ids: Vec<String>,
    pub category: Option<String>,
    /// The bounds of the item's price in ten-thousandths of the currency's unit, inclusive.
    pub price_min: Option<i128>,
    pub price_max: Option<i128>,
    /// The permitted statuses, as a set of status numbers with one bit each. If 0, all are permitted.
    pub statuses: u8,
    /// The minimum total in ten-thousandths of the currency's unit, inclusive.
    pub total_min: Option<i128>,
    pub total_max: Option<i128>,
    /// Words that the customer's name or e-mail address must all contain. A `*` at a word's end makes it a prefix.
    pub words: Vec<String>,
    /// The requested fields, as bits of [`ORDER_FIELDS`].
    pub fields: u16,
    /// The results of earlier steps.
    pub cache: QueryCache,
}

/// One of a tenant's customers, by their id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneCustomer {
    pub customer_id: String,
    /// The hash of (tenant, customer id).
    pub key: KeyHash,
}

/// One of a tenant's orders, by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrder {
    pub order_id: String,
    /// The hash of (tenant, order id).
    pub key: KeyHash,
}
