//! Names that orders repeat, stored once each: tenants, customers, categories, products. What was met lately
//! is in memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::error::ShardError;
use super::record::{ItemRow, OrderRow};
use crate::base::keys::KeyHasher;

/// Of each kind; beyond it what is known is forgotten and read again. 50 to 100 bytes each.
const NAMES_MAX: usize = 1 << 15;

/// 128 bits of a keyed hash are evenly spread already: any 64 of them will do.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        let (words, _) = bytes.as_chunks::<8>();
        self.0 = words.first().map_or(0, |word| u64::from_le_bytes(*word));
    }
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

type ByHash<T> = HashMap<u128, T, BuildHasherDefault<Spread>>;

/// The numbers of names. Two names with one 128-bit keyed hash would be taken for one; nobody can choose
/// them, and a billion names meet it once in 10^20 folders.
#[derive(Default)]
pub(in crate::shard) struct Names {
    tenants: HashMap<Box<str>, i64>,
    customers: ByHash<i64>,
    categories: ByHash<i64>,
    products: ByHash<Product>,
    /// Some of it is not committed.
    is_dirty: bool,
}

/// A product's number and its category's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Product {
    pub(in crate::shard) id: i64,
    pub(in crate::shard) category: i64,
    /// The lowest number of the product's id: one that comes in several categories has several.
    pub(in crate::shard) first: i64,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("customers", &self.customers.len()).finish_non_exhaustive()
    }
}

/// A tenant's word in `customer_text`.
pub(in crate::shard) fn tenant_word(tenant: i64) -> String {
    format!("tenant{tenant}")
}

impl Names {
    pub(in crate::shard) fn committed(&mut self) {
        self.is_dirty = false;
    }

    pub(in crate::shard) fn rolled_back(&mut self) {
        if self.is_dirty {
            *self = Names::default();
        }
    }

    /// The tenant's number, given out if it is new.
    pub(super) fn tenant(&mut self, connection: &Connection, tenant_id: &str) -> Result<i64, ShardError> {
        if let Some(tenant) = self.tenants.get(tenant_id) {
            return Ok(*tenant);
        }
        let find = "SELECT id FROM tenant_row WHERE tenant_id = ?1";
        let found = connection.prepare_cached(find)?.query_row([tenant_id], |row| row.get(0)).optional()?;
        let tenant = match found {
            Some(tenant) => tenant,
            None => {
                let insert = "INSERT INTO tenant_row (tenant_id) VALUES (?1)";
                self.is_dirty = true;
                connection.prepare_cached(insert)?.insert([tenant_id])?
            }
        };
        if self.tenants.len() >= NAMES_MAX {
            self.tenants.clear();
        }
        self.tenants.insert(tenant_id.into(), tenant);
        Ok(tenant)
    }

    /// The number of the customer as this order names it.
    pub(super) fn customer(
        &mut self,
        connection: &Connection,
        keys: &KeyHasher,
        tenant: i64,
        key: i64,
        order: &OrderRow<'_>,
    ) -> Result<i64, ShardError> {
        let names = [order.tenant_id, order.customer_id, order.customer_name, order.customer_email];
        let hash = keys.hash_all(names).0;
        if let Some(customer) = self.customers.get(&hash) {
            return Ok(*customer);
        }
        let find = "SELECT id FROM customer_row WHERE key = ?1 AND tenant = ?2 AND customer_id = ?3 \
                    AND name = ?4 AND email = ?5";
        let (id, name, email) = (order.customer_id, order.customer_name, order.customer_email);
        let found = connection
            .prepare_cached(find)?
            .query_row(params![key, tenant, id, name, email], |row| row.get(0))
            .optional()?;
        let customer = match found {
            Some(customer) => customer,
            None => {
                self.is_dirty = true;
                let insert = "INSERT INTO customer_row (tenant, customer_id, name, email, key) \
                              VALUES (?1, ?2, ?3, ?4, ?5)";
                let customer =
                    connection.prepare_cached(insert)?.insert(params![tenant, id, name, email, key])?;
                connection
                    .prepare_cached(
                        "INSERT INTO customer_text (rowid, name, email, tenant) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![customer, name, email, tenant_word(tenant)])?;
                customer
            }
        };
        if self.customers.len() >= NAMES_MAX {
            self.customers.clear();
        }
        self.customers.insert(hash, customer);
        Ok(customer)
    }

    /// The number of an item's product, with its category's.
    pub(super) fn product(
        &mut self,
        connection: &Connection,
        keys: &KeyHasher,
        tenant: i64,
        tenant_id: &str,
        item: &ItemRow<'_>,
    ) -> Result<Product, ShardError> {
        let hash = keys.hash_all([tenant_id, item.product_id, item.category]).0;
        if let Some(product) = self.products.get(&hash) {
            return Ok(*product);
        }
        let category = self.category(connection, keys, tenant, tenant_id, item.category)?;
        let find = "SELECT id FROM product_row WHERE tenant = ?1 AND product_id = ?2 AND category = ?3";
        let values = params![tenant, item.product_id, category];
        let found = connection.prepare_cached(find)?.query_row(values, |row| row.get(0)).optional()?;
        let id = match found {
            Some(id) => id,
            None => {
                self.is_dirty = true;
                let insert = "INSERT INTO product_row (tenant, product_id, category) VALUES (?1, ?2, ?3)";
                connection.prepare_cached(insert)?.insert(values)?
            }
        };
        if self.products.len() >= NAMES_MAX {
            self.products.clear();
        }
        let first = "SELECT min(id) FROM product_row WHERE tenant = ?1 AND product_id = ?2";
        let first = connection
            .prepare_cached(first)?
            .query_row(params![tenant, item.product_id], |row| row.get(0))?;
        let product = Product { id, category, first };
        self.products.insert(hash, product);
        Ok(product)
    }

    fn category(
        &mut self,
        connection: &Connection,
        keys: &KeyHasher,
        tenant: i64,
        tenant_id: &str,
        name: &str,
    ) -> Result<i64, ShardError> {
        let hash = keys.hash_all([tenant_id, name]).0;
        if let Some(category) = self.categories.get(&hash) {
            return Ok(*category);
        }
        let find = "SELECT id FROM category_row WHERE tenant = ?1 AND name = ?2";
        let found = connection.prepare_cached(find)?.query_row(params![tenant, name], |row| row.get(0));
        let category = match found.optional()? {
            Some(category) => category,
            None => {
                self.is_dirty = true;
                let insert = "INSERT INTO category_row (tenant, name) VALUES (?1, ?2)";
                connection.prepare_cached(insert)?.insert(params![tenant, name])?
            }
        };
        if self.categories.len() >= NAMES_MAX {
            self.categories.clear();
        }
        self.categories.insert(hash, category);
        Ok(category)
    }
}
