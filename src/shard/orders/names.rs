//! Names that orders repeat, stored once each: tenants, customers, categories, products. What was met lately
//! is in memory.

use foldhash::HashMap;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::error::ShardError;
use super::record::{ItemRow, OrderRow};
use super::words::insert_words;
use crate::base::keys::KeyHasher;

/// Tenants that are kept; beyond it all are forgotten and read again.
const TENANTS_MAX: usize = 1 << 14;

/// Names that may have one place; the one that was met the longest ago makes way.
const WAYS: usize = 4;

/// What was met lately at each of so many places (a power of two), by a 128-bit keyed hash of which the lower bits
/// name the place and the upper 64 are kept. Allocated with the first: 64 bytes a place for one number, 96 for
/// three.
struct Recent<const NUMBERS: usize, const PLACES: usize>(Vec<[(u64, [u32; NUMBERS]); WAYS]>);

impl<const NUMBERS: usize, const PLACES: usize> Default for Recent<NUMBERS, PLACES> {
    fn default() -> Self {
        Recent(Vec::new())
    }
}

impl<const NUMBERS: usize, const PLACES: usize> Recent<NUMBERS, PLACES> {
    #[inline]
    fn get(&mut self, hash: u128) -> Option<[i64; NUMBERS]> {
        let place = self.0.get_mut(hash as usize % PLACES)?;
        let tag = (hash >> 64) as u64;
        // Numbers begin with 1.
        let at = place.iter().position(|(known, numbers)| *known == tag && numbers.first() != Some(&0))?;
        place[..=at].rotate_right(1);
        Some(place[0].1.map(i64::from))
    }

    fn set(&mut self, hash: u128, numbers: [i64; NUMBERS]) {
        // Beyond 32 bits it is read from the table each time.
        if numbers.iter().any(|number| u32::try_from(*number).is_err()) {
            return;
        }
        if self.0.is_empty() {
            self.0.resize(PLACES, [(0, [0; NUMBERS]); WAYS]);
        }
        let place = &mut self.0[hash as usize % PLACES];
        place.rotate_right(1);
        place[0] = ((hash >> 64) as u64, numbers.map(|number| number as u32));
    }
}

/// The numbers of names. Two names with one 128-bit keyed hash would be taken for one; nobody can choose
/// them, and a billion names meet it once in 10^20 folders.
#[derive(Default)]
pub(in crate::shard) struct Names {
    tenants: HashMap<Box<str>, i64>,
    customers: Recent<1, { 1 << 15 }>,
    categories: Recent<1, { 1 << 8 }>,
    products: Recent<3, { 1 << 14 }>,
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
        f.debug_struct("Names").field("tenants", &self.tenants.len()).finish_non_exhaustive()
    }
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
    pub(in crate::shard) fn tenant(
        &mut self,
        connection: &Connection,
        tenant_id: &str,
    ) -> Result<i64, ShardError> {
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
        if self.tenants.len() >= TENANTS_MAX {
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
        if let Some([customer]) = self.customers.get(hash) {
            return Ok(customer);
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
                insert_words(connection, (customer, tenant), [name, email])?;
                customer
            }
        };
        self.customers.set(hash, [customer]);
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
        if let Some([id, category, first]) = self.products.get(hash) {
            return Ok(Product { id, category, first });
        }
        let category = self.category(connection, keys, tenant, tenant_id, item.category)?;
        // One look finds it in all its categories.
        let (mut known, mut first) = (None, i64::MAX);
        let mut find = connection
            .prepare_cached("SELECT id, category FROM product_row WHERE tenant = ?1 AND product_id = ?2")?;
        let mut rows = find.query(params![tenant, item.product_id])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            first = first.min(id);
            if row.get::<_, i64>(1)? == category {
                known = Some(id);
            }
        }
        let id = match known {
            Some(id) => id,
            None => {
                self.is_dirty = true;
                let insert = "INSERT INTO product_row (tenant, product_id, category) VALUES (?1, ?2, ?3)";
                connection.prepare_cached(insert)?.insert(params![tenant, item.product_id, category])?
            }
        };
        let first = first.min(id);
        self.products.set(hash, [id, category, first]);
        Ok(Product { id, category, first })
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
        if let Some([category]) = self.categories.get(hash) {
            return Ok(category);
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
        self.categories.set(hash, [category]);
        Ok(category)
    }
}
