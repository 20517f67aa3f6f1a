//! The columns of a segment, decoded.

use super::layout::Field;
use crate::base::money::Currency;

/// A segment's columns. Those of orders have one value for each id, those of items one for each item.
#[derive(Debug, Default)]
pub struct SegmentColumns {
    pub times_us: Vec<i64>,
    /// The current status, or 0 if the order was deleted.
    pub statuses: Vec<i64>,
    pub tenants: Vec<i64>,
    /// Places in [`SegmentColumns::used`].
    pub currencies: Vec<i64>,
    pub totals: Vec<i64>,
    pub units: Vec<i64>,
    /// The hash of the customer.
    pub customers: Vec<i64>,
    /// The number of items. Their sum is the number of items of the segment. Undefined if the items were not requested.
    pub items: Vec<i64>,
    /// Numbers of `product_row`. Empty if the items were not requested.
    pub products: Vec<i64>,
    pub quantities: Vec<i64>,
    pub unit_prices: Vec<i64>,
    /// The currencies of the segment.
    pub used: Vec<Currency>,
}

impl SegmentColumns {
    pub(super) fn column(&mut self, field: Field) -> Option<&mut Vec<i64>> {
        Some(match field {
            Field::Head => return None,
            Field::Time => &mut self.times_us,
            Field::Status => &mut self.statuses,
            Field::Tenant => &mut self.tenants,
            Field::Currency => &mut self.currencies,
            Field::Total => &mut self.totals,
            Field::Units => &mut self.units,
            Field::Customer => &mut self.customers,
            Field::Items => &mut self.items,
            Field::Product => &mut self.products,
            Field::Quantity => &mut self.quantities,
            Field::UnitPrice => &mut self.unit_prices,
        })
    }
}
