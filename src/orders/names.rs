//! Names that orders repeat (customers, categories, products), each stored once. The most recently used ones are in
//! memory.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::record::{ItemRow, OrderRow};
use super::words::{WORDS_SQL, tenant_word};
use crate::base::keys::{KeyHasher, TenantKeyHasher};
use crate::shard::{RecentNumbers, ShardError};

/// The numbers of recently used names.
#[derive(Default)]
pub(super) struct Names {
    /// A customer that is not here costs 3 us, for a search in two trees.
    customers: RecentNumbers<1, { 1 << 16 }>,
    categories: RecentNumbers<1, { 1 << 8 }>,
    products: RecentNumbers<2, { 1 << 15 }>,
    /// Set while some of the numbers are not committed.
    is_dirty: bool,
    /// Set if the last product that memory did not have was new. The next one is then inserted before it is searched.
    is_last_product_new: bool,
}

/// The statements that find and store names, for one batch. Each is prepared when it is first used.
pub(super) struct NameStatements<'t> {
    connection: &'t Connection,
    find_customer: Option<CachedStatement<'t>>,
    insert_customer: Option<CachedStatement<'t>>,
    insert_words: Option<CachedStatement<'t>>,
    find_product: Option<CachedStatement<'t>>,
    insert_product: Option<CachedStatement<'t>>,
}

impl<'t> NameStatements<'t> {
    pub(super) fn new(connection: &'t Connection) -> NameStatements<'t> {
        NameStatements {
            connection,
            find_customer: None,
            insert_customer: None,
            insert_words: None,
            find_product: None,
            insert_product: None,
        }
    }
}

/// Returns a statement, prepared if this is its first use.
fn prepared<'s, 't>(
    statement: &'s mut Option<CachedStatement<'t>>,
    connection: &'t Connection,
    sql: &str,
) -> Result<&'s mut CachedStatement<'t>, ShardError> {
    match statement {
        Some(statement) => Ok(statement),
        none => Ok(none.insert(connection.prepare_cached(sql)?)),
    }
}

/// Returns the number that a bound statement finds.
fn number(statement: &mut CachedStatement<'_>) -> Result<Option<i64>, ShardError> {
    let mut rows = statement.raw_query();
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
}

/// A product's number and its category's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) category: i64,
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

    /// Reads the places of an order's names into the CPU's cache, all at once.
    #[inline]
    pub(super) fn touch(&self, customer: u128, products: &[u128]) {
        self.customers.touch(&[customer]);
        self.products.touch(products);
    }

    /// Returns the hash of a customer with a name and an e-mail address, for [`Names::customer`].
    #[inline]
    pub(super) fn customer_hash(keys: &TenantKeyHasher, order: &OrderRow<'_>) -> u128 {
        keys.hash_all([order.customer_id, order.customer_name, order.customer_email]).0
    }

    /// Returns the hash of a product in a category, for [`Names::product`].
    #[inline]
    pub(super) fn product_hash(keys: &TenantKeyHasher, item: &ItemRow<'_>) -> u128 {
        keys.hash_all([item.product_id, item.category]).0
    }

    /// Returns the number of the customer with this order's name and e-mail address.
    pub(super) fn customer(
        &mut self,
        statements: &mut NameStatements<'_>,
        (tenant, key): (i64, i64),
        order: &OrderRow<'_>,
        hash: u128,
    ) -> Result<i64, ShardError> {
        if let Some([customer]) = self.customers.get(hash) {
            return Ok(customer);
        }
        let NameStatements { connection, find_customer, insert_customer, insert_words, .. } = statements;
        let (id, name, email) = (order.customer_id, order.customer_name, order.customer_email);
        let find = "SELECT id FROM customer_row WHERE key = ?1 AND tenant = ?2 AND customer_id = ?3 \
                    AND name = ?4 AND email = ?5";
        let find = prepared(find_customer, connection, find)?;
        find.raw_bind_parameter(1, key)?;
        find.raw_bind_parameter(2, tenant)?;
        find.raw_bind_parameter(3, id)?;
        find.raw_bind_parameter(4, name)?;
        find.raw_bind_parameter(5, email)?;
        let customer = match number(find)? {
            Some(customer) => customer,
            None => {
                self.is_dirty = true;
                let insert = "INSERT INTO customer_row (tenant, customer_id, name, email, key) \
                              VALUES (?1, ?2, ?3, ?4, ?5)";
                let insert = prepared(insert_customer, connection, insert)?;
                insert.raw_bind_parameter(1, tenant)?;
                insert.raw_bind_parameter(2, id)?;
                insert.raw_bind_parameter(3, name)?;
                insert.raw_bind_parameter(4, email)?;
                insert.raw_bind_parameter(5, key)?;
                insert.raw_execute()?;
                let customer = connection.last_insert_rowid();
                if !name.is_empty() || !email.is_empty() {
                    let insert = prepared(insert_words, connection, WORDS_SQL)?;
                    insert.raw_bind_parameter(1, customer)?;
                    insert.raw_bind_parameter(2, name)?;
                    insert.raw_bind_parameter(3, email)?;
                    insert.raw_bind_parameter(4, tenant_word(tenant))?;
                    insert.raw_execute()?;
                }
                customer
            }
        };
        self.customers.set(hash, [customer]);
        Ok(customer)
    }

    /// Returns the number of an item's product, and its category's number.
    pub(super) fn product(
        &mut self,
        statements: &mut NameStatements<'_>,
        keys: &KeyHasher,
        (tenant, tenant_id): (i64, &str),
        item: &ItemRow<'_>,
        hash: u128,
    ) -> Result<Product, ShardError> {
        if let Some([id, category]) = self.products.get(hash) {
            return Ok(Product { id, category });
        }
        let category = self.category(statements.connection, keys, tenant, tenant_id, item.category)?;
        let NameStatements { connection, find_product, insert_product, .. } = statements;
        let find = "SELECT id FROM product_row WHERE tenant = ?1 AND product_id = ?2 AND category = ?3";
        let insert = "INSERT OR IGNORE INTO product_row (tenant, product_id, category) VALUES (?1, ?2, ?3)";
        // New products come together, in the first orders of a catalogue, and a search before each would double the
        // work. Known ones are searched, because an insert that is ignored costs more.
        let mut is_inserting = self.is_last_product_new;
        let id = loop {
            let (place, sql) =
                if is_inserting { (&mut *insert_product, insert) } else { (&mut *find_product, find) };
            let statement = prepared(place, connection, sql)?;
            statement.raw_bind_parameter(1, tenant)?;
            statement.raw_bind_parameter(2, item.product_id)?;
            statement.raw_bind_parameter(3, category)?;
            if is_inserting {
                self.is_last_product_new = statement.raw_execute()? > 0;
                if self.is_last_product_new {
                    self.is_dirty = true;
                    break connection.last_insert_rowid();
                }
            } else if let Some(id) = number(statement)? {
                break id;
            }
            is_inserting = !is_inserting;
        };
        self.products.set(hash, [id, category]);
        Ok(Product { id, category })
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
