//! The counts that are collected while the rows are written: items, newest prices and stocks.

use super::super::row::{PriceSample, StockChange, StockEvent};

/// The counts of all tenants. They take 64 bytes per tenant, because the rows of a product follow each other.
#[derive(Debug)]
pub(in super::super) struct RowCounts {
    pub(in super::super) order_items: u64,
    pub(super) tenants: Vec<TenantCounts>,
    last_price: Option<(u32, u32, u64)>,
    last_stock: Option<(u32, u32, u64)>,
}

/// The price history and the stock of one tenant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TenantCounts {
    pub(super) prices: ProductCounts,
    pub(super) stock: ProductCounts,
}

/// The rows of a table, the products that have one, and the sum of the products' last numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProductCounts {
    pub(super) rows: u64,
    pub(super) products: u64,
    pub(super) last_sum: u64,
}

impl ProductCounts {
    /// Counts a row of the product `of`, whose last number is now `number`.
    fn add(&mut self, last: &mut Option<(u32, u32, u64)>, of: (u32, u32), number: u64) {
        self.rows += 1;
        match *last {
            Some((tenant, product, before)) if (tenant, product) == of => self.last_sum -= before,
            _ => self.products += 1,
        }
        self.last_sum += number;
        *last = Some((of.0, of.1, number));
    }
}

impl RowCounts {
    pub(in super::super) fn new(tenants: u32) -> RowCounts {
        let tenants = vec![TenantCounts::default(); tenants as usize];
        RowCounts { order_items: 0, tenants, last_price: None, last_stock: None }
    }

    pub(in super::super) fn price_sample(&mut self, row: &PriceSample<'_>) {
        let counts = &mut self.tenants[row.tenant as usize].prices;
        counts.add(&mut self.last_price, (row.tenant, row.product), row.price_minor);
    }

    pub(in super::super) fn stock_event(&mut self, row: &StockEvent<'_>) {
        let of = (row.tenant, row.product);
        let before = self.last_stock.filter(|(tenant, product, _)| (*tenant, *product) == of);
        let before = before.map_or(0, |(_, _, stock)| stock);
        let stock = match row.change {
            StockChange::Quantity(counted) => u64::from(counted),
            StockChange::Delta(delta) => before.saturating_add_signed(delta.into()),
        };
        self.tenants[row.tenant as usize].stock.add(&mut self.last_stock, of, stock);
    }
}
