//! Reads what one shard knows of products: the sources by product id, merged.

use std::collections::VecDeque;

use rusqlite::Connection;

use crate::orders::known_products;
use crate::prices::{NewestPrice, priced_products};
use crate::query::successor;
use crate::shard::ShardError;
use crate::stock::{StockLevel, stock_levels};

/// What one shard, or all shards together, know of a product.
#[derive(Clone, Debug, Default)]
pub(super) struct ProductPart {
    /// The first category in the order of bytes, if orders name the product.
    pub category: Option<String>,
    /// The newest accepted price in each currency, newest first.
    pub prices: Vec<NewestPrice>,
    pub stock: Option<StockLevel>,
}

impl ProductPart {
    /// Adds what another shard knows. Prices and stock are in one shard only.
    pub(super) fn join(&mut self, other: ProductPart) {
        self.category = match (self.category.take(), other.category) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.prices.extend(other.prices);
        self.stock = self.stock.or(other.stock);
    }

    /// Returns about the size of this in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<ProductPart>()
            + self.category.as_ref().map_or(0, String::len)
            + size_of_val(&self.prices[..])
    }
}

/// Returns entries of a tenant by product id: at most as many as requested, from an id on.
type Read<T> = fn(&Connection, i64, &str, usize) -> Result<Vec<(String, T)>, ShardError>;

/// One source's entries, read ahead.
struct Source<T> {
    read: Read<T>,
    ready: VecDeque<(String, T)>,
    /// Where the source is read next; `None` at its end.
    from: Option<String>,
}

impl<T> Source<T> {
    fn new(read: Read<T>, from: &str) -> Source<T> {
        Source { read, ready: VecDeque::new(), from: Some(from.to_owned()) }
    }

    fn fill(&mut self, connection: &Connection, tenant: i64, count: usize) -> Result<(), ShardError> {
        if self.ready.is_empty()
            && let Some(from) = self.from.take()
        {
            let found = (self.read)(connection, tenant, &from, count)?;
            let last = found.last().filter(|_| found.len() == count);
            self.from = last.map(|(product_id, _)| successor(product_id));
            self.ready = found.into();
        }
        Ok(())
    }

    fn head(&self) -> Option<&str> {
        self.ready.front().map(|(product_id, _)| product_id.as_str())
    }

    /// Takes the next entry if it is this product's.
    fn take(&mut self, product_id: &str) -> Option<T> {
        if self.head() != Some(product_id) {
            return None;
        }
        self.ready.pop_front().map(|(_, entry)| entry)
    }
}

/// A tenant's products in one shard, in the order of the ids' bytes.
pub(super) struct Products {
    tenant: i64,
    /// The number of entries that are read at once from each source.
    count: usize,
    ordered: Source<String>,
    priced: Source<Vec<NewestPrice>>,
    stocked: Source<StockLevel>,
}

impl Products {
    pub(super) fn new(tenant: i64, from: &str, count: usize) -> Products {
        Products {
            tenant,
            count,
            ordered: Source::new(known_products, from),
            priced: Source::new(priced_products, from),
            stocked: Source::new(stock_levels, from),
        }
    }

    /// Returns the next product that any source has.
    pub(super) fn next(
        &mut self,
        connection: &Connection,
    ) -> Result<Option<(String, ProductPart)>, ShardError> {
        let (tenant, count) = (self.tenant, self.count);
        self.ordered.fill(connection, tenant, count)?;
        self.priced.fill(connection, tenant, count)?;
        self.stocked.fill(connection, tenant, count)?;
        let heads = [self.ordered.head(), self.priced.head(), self.stocked.head()];
        let Some(product_id) = heads.into_iter().flatten().min().map(str::to_owned) else { return Ok(None) };
        let part = ProductPart {
            category: self.ordered.take(&product_id),
            prices: self.priced.take(&product_id).unwrap_or_default(),
            stock: self.stocked.take(&product_id),
        };
        Ok(Some((product_id, part)))
    }
}
