//! The names that rows refer to by number.
//!
//! They are cached for one snapshot only: numbers can be given out again, and an erasure changes names. A read is
//! bounded, and so is the cache.

use std::rc::Rc;

use foldhash::{HashMap, HashMapExt as _};
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::portion::text;
use crate::shard::ShardError;

pub(super) const TENANT_SQL: &str = "SELECT tenant_id FROM tenant_row WHERE id = ?1";
pub(super) const CUSTOMER_SQL: &str = "SELECT customer_id, name, email FROM customer_row WHERE id = ?1";
pub(super) const LEVEL_SQL: &str = "SELECT tenant, product_id FROM stock_level WHERE id = ?1";
pub(super) const SERIES_SQL: &str = "SELECT tenant, product_id, currency FROM price_series WHERE id = ?1";
pub(super) const PRODUCT_SQL: &str = "SELECT p.product_id, g.name FROM product_row p \
                                      CROSS JOIN category_row g ON g.id = p.category WHERE p.id = ?1";

/// A product of an order: its id and its category.
pub(super) type Product = Rc<(String, String)>;
/// A product with a stock level: its tenant and its id.
pub(super) type Level = Rc<(Rc<str>, String)>;
/// A product with prices: its tenant, its id and the currency.
pub(super) type Series = Rc<(Rc<str>, String, String)>;

/// A customer of an order.
#[derive(Clone, Debug)]
pub(super) struct Customer {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) email: String,
}

/// The names of one snapshot.
pub(super) struct Names<'s> {
    snapshot: &'s Connection,
    tenants: HashMap<i64, Rc<str>>,
    products: HashMap<i64, Product>,
    levels: HashMap<i64, Level>,
    series: HashMap<i64, Series>,
}

impl<'s> Names<'s> {
    pub(super) fn new(snapshot: &'s Connection) -> Names<'s> {
        Names {
            snapshot,
            tenants: HashMap::new(),
            products: HashMap::new(),
            levels: HashMap::new(),
            series: HashMap::new(),
        }
    }

    fn find<T>(
        &self,
        sql: &str,
        number: i64,
        read: impl FnOnce(&Row<'_>) -> Result<T, ShardError>,
    ) -> Result<T, ShardError> {
        let mut statement = self.snapshot.prepare_cached(sql)?;
        let mut rows = statement.query([number])?;
        match rows.next()? {
            Some(row) => read(row),
            None => Err(ShardError::Corrupt(format!("a row refers to the name {number}, which is missing"))),
        }
    }

    pub(super) fn tenant(&mut self, number: i64) -> Result<Rc<str>, ShardError> {
        if let Some(known) = self.tenants.get(&number) {
            return Ok(Rc::clone(known));
        }
        let name: Rc<str> = self.find(TENANT_SQL, number, |row| Ok(text(row, 0)?.into()))?;
        self.tenants.insert(number, Rc::clone(&name));
        Ok(name)
    }

    pub(super) fn product(&mut self, number: i64) -> Result<Product, ShardError> {
        if let Some(known) = self.products.get(&number) {
            return Ok(Rc::clone(known));
        }
        let product = Rc::new(self.find(PRODUCT_SQL, number, |row| Ok((text(row, 0)?, text(row, 1)?)))?);
        self.products.insert(number, Rc::clone(&product));
        Ok(product)
    }

    /// Returns a customer. Most orders of a read are of different customers, so they are not cached.
    pub(super) fn customer(&self, number: i64) -> Result<Customer, ShardError> {
        self.find(CUSTOMER_SQL, number, |row| {
            Ok(Customer { id: text(row, 0)?, name: text(row, 1)?, email: text(row, 2)? })
        })
    }

    pub(super) fn level(&mut self, number: i64) -> Result<Level, ShardError> {
        if let Some(known) = self.levels.get(&number) {
            return Ok(Rc::clone(known));
        }
        let (tenant, product_id) = self.find(LEVEL_SQL, number, |row| Ok((row.get(0)?, text(row, 1)?)))?;
        let level = Rc::new((self.tenant(tenant)?, product_id));
        self.levels.insert(number, Rc::clone(&level));
        Ok(level)
    }

    pub(super) fn series(&mut self, number: i64) -> Result<Series, ShardError> {
        if let Some(known) = self.series.get(&number) {
            return Ok(Rc::clone(known));
        }
        let (tenant, product_id, currency) =
            self.find(SERIES_SQL, number, |row| Ok((row.get(0)?, text(row, 1)?, text(row, 2)?)))?;
        let series = Rc::new((self.tenant(tenant)?, product_id, currency));
        self.series.insert(number, Rc::clone(&series));
        Ok(series)
    }

    /// Returns the tenant and the id of the order with this row id, if a partition has it.
    pub(super) fn order(&mut self, table: &str, id: i64) -> Result<Option<(Rc<str>, String)>, ShardError> {
        let sql = format!("SELECT tenant, order_id FROM {table} WHERE id = ?1");
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
        let found = self.snapshot.prepare_cached(&sql)?.query_row([id], read).optional()?;
        found.map(|(tenant, order_id)| Ok((self.tenant(tenant)?, order_id))).transpose()
    }
}
