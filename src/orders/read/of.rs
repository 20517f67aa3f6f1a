//! Which orders of one tenant, and what of them.

use super::met::Met;
use crate::base::keys::KeyHash;

/// A part of an order that an answer may have, by its bit in a set of fields.
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

/// Which orders of one tenant, and what of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdersOf {
    pub tenant_id: String,
    /// This one only.
    pub order: Option<OneOrder>,
    /// Orders with one of these products; all where it is empty.
    pub product_ids: Vec<String>,
    /// The allowed statuses, by the bit of their number; 0 for all.
    pub statuses: u8,
    /// Bounds of the total in ten-thousandths of the currency's unit, inclusive.
    pub total_min: Option<i128>,
    pub total_max: Option<i128>,
    /// Words of the customer's name or e-mail address, all of them; a `*` at the end makes a prefix.
    pub words: Vec<String>,
    /// Bits of [`ORDER_FIELDS`].
    pub fields: u16,
    /// Names that were met so far.
    pub met: Met,
}

/// An order of one tenant by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrder {
    pub order_id: String,
    /// The hash of (tenant, order id).
    pub key: KeyHash,
}
