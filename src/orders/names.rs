//! Names that orders repeat (customers, categories, products), each stored once. The most recently used ones are in
//! memory.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::record::{ItemRow, OrderRow};
use super::words::insert_words;
use crate::base::keys::KeyHasher;
use crate::shard::{RecentNumbers, ShardError};

/// The numbers of recently used names.
#[derive(Default)]
pub(super) struct Names {
    customers: RecentNumbers<1, { 1 << 15 }>,
    categories: RecentNumbers<1, { 1 << 8 }>,
    products: RecentNumbers<3, { 1 << 14 }>,
    /// Set while some of the numbers are not committed.
    is_dirty: bool,
}

/// A product's number and its category's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) category: i64,
    /// The lowest product number with the same product id. A product in several categories has several numbers.
    pub(crate) first: i64,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Names {
    pub(crate) fn committed(&mut self) {
        self.is_dirty = false;
    }

    pub(crate) fn rolled_back(&mut self) {
        if self.is_dirty {
            *self = Names::default();
        }
    }

    /// Returns the number of the customer with this order's name and e-mail address.
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

    /// Returns the number of an item's product, and its category's number.
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
        // One query finds the product in all its categories.
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

    pub(super) fn category(
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
