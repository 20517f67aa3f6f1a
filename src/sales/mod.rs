//! A tenant's sales by day, hour, product or category: from sums that are updated together with the orders, or from
//! every sale. Sums by product are computed when they are asked for (`product_sums.rs`).
//!
//! In: parameters of `GET …/metrics/sales`. Out: figures, and how they were computed. Owns: the definition of the
//! figures, and the figures that a core caches between requests. Never: writes; the orders' transaction writes the
//! sums (`orders/sums.rs`).

mod columns;
pub mod endpoints;
pub mod openapi;
mod plan;
mod product_sums;
mod query;
mod ranks;
mod read;
pub mod shapes;
mod spans;
mod totals;

pub use columns::name_statement;
pub use endpoints::KeptSales;
pub use plan::{Materialized, SalesPlan};
pub use query::{GroupBy, SalesQuery, sales, sales_versions};
#[cfg(test)]
pub(crate) use query::{SalesResult, SalesSource, sales_from};
pub use read::{SaleParts, SalePartsCursor, SaleSplit, sale_parts, sales_statements, sum_statements};
