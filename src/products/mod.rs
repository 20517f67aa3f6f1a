//! What is known of a product: its category and last sale from orders, its prices and anomalies, its stock.
//!
//! In: list parameters, a product id. Out: a product, or products in order of id. Owns: no rows. Never: writes, or decides
//! what a price, a level or a sale is. It reads all of them through their features.
//!
//! A product's prices and stock are in the shard that hash(tenant, product) selects. Its orders, and therefore its
//! category, are in every shard.

mod answer;
pub mod endpoints;
pub mod openapi;
mod query;
mod read;
pub mod shapes;
