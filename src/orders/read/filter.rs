//! The selected orders of one tenant, and their selected fields.

use super::cache::QueryCache;
use crate::base::keys::KeyHash;

/// The fields of an order that a response may contain. A set of fields has one bit for each, in this order.
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

/// The selected orders of one tenant, and their selected fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFilter {
    pub tenant_id: String,
    /// Selects only this order.
    pub order: Option<OneOrder>,
    /// Selects orders with at least one of these products; empty for all.
    pub product_ids: Vec<String>,
    /// The permitted statuses, by the bit of their number; 0 for all.
    pub statuses: u8,
    /// Bounds of the total in ten-thousandths of the currency's unit, inclusive.
    pub total_min: Option<i128>,
    pub total_max: Option<i128>,
    /// Words that the customer's name or e-mail address must all contain. A `*` at the end makes a prefix.
    pub words: Vec<String>,
    /// Bits of [`ORDER_FIELDS`].
    pub fields: u16,
    /// The results of earlier steps.
    pub cache: QueryCache,
}

/// An order of one tenant by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrder {
    pub order_id: String,
    /// The hash of (tenant, order id).
    pub key: KeyHash,
}
