//! The names that items count for, by the number of their product.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::read::{CATEGORY_NAME_SQL, SaleSplit};
use crate::base::clock;
use crate::shard::ShardError;

/// The number of products that are read between two checks of the clock.
const PRODUCTS_PER_READ: i64 = if cfg!(test) { 3 } else { 4_096 };

/// A product that was not read.
const UNKNOWN: u32 = u32::MAX;
/// A product whose name is not in this part of the names.
const LEFT_OUT: u32 = u32::MAX - 1;

/// The names of one tenant's products or categories in one shard.
#[derive(Debug)]
pub(in super::super) struct NameTable {
    by: SaleSplit,
    /// The part of the names that is read: its index, and the number of parts.
    share: (u32, u32),
    /// For each product number, the place of its name.
    places: Vec<u32>,
    /// The places of categories, by their numbers.
    categories: HashMap<i64, u32>,
    pub(in super::super) names: Vec<String>,
    /// A hash of each name. Any works if it is the same in every shard.
    pub(super) hashes: Vec<u32>,
    /// The last product that was read, with its category.
    after: (String, i64),
    is_complete: bool,
}

const PRODUCTS_SQL: &str = "SELECT product_id, category, id FROM product_row WHERE tenant = ?1 \
                                       AND (product_id, category) > (?2, ?3) ORDER BY product_id, category LIMIT ?4";

/// Returns the statement that reads products, with its name, for checking query plans.
#[must_use]
pub fn name_statement() -> (String, String) {
    ("products of a tenant".to_owned(), PRODUCTS_SQL.to_owned())
}

impl NameTable {
    pub(in super::super) fn new(by: SaleSplit, share: (u32, u32)) -> NameTable {
        NameTable {
            by,
            share,
            places: Vec::new(),
            categories: HashMap::new(),
            names: Vec::new(),
            hashes: Vec::new(),
            after: (String::new(), i64::MIN),
            is_complete: false,
        }
    }

    /// Returns a table of these names by the numbers of products.
    #[cfg(test)]
    pub(in super::super) fn known(by: SaleSplit, places: &[u32], names: Vec<String>) -> NameTable {
        let (places, hashes) = (places.to_vec(), names.iter().map(|name| hash(name)).collect());
        NameTable { places, names, hashes, is_complete: true, ..NameTable::new(by, (0, 1)) }
    }

    /// Returns a number that is greater than those of all products.
    pub(super) fn products(&self) -> usize {
        self.places.len()
    }

    /// Returns how orders are divided.
    pub(super) fn by(&self) -> SaleSplit {
        self.by
    }

    /// Reads products until about `until_us`. Returns `true` once all are known. Takes about 0.3 us a product.
    pub(super) fn read(
        &mut self,
        connection: &Connection,
        tenant: i64,
        until_us: u64,
    ) -> Result<bool, ShardError> {
        while !self.is_complete {
            let mut statement = connection.prepare_cached(PRODUCTS_SQL)?;
            let mut rows = statement.query(params![tenant, self.after.0, self.after.1, PRODUCTS_PER_READ])?;
            let mut count = 0;
            // The two numbers of a product in two categories follow each other, and have one name.
            let mut last = (std::mem::take(&mut self.after.0), self.after.1, None);
            while let Some(row) = rows.next()? {
                let product_id = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
                let category: i64 = row.get(1)?;
                let number = row.get::<_, u32>(2)? as usize;
                let place = match self.by {
                    SaleSplit::Category => self.category(connection, category)?,
                    SaleSplit::Product if last.0 == product_id => match last.2 {
                        Some(place) => place,
                        // The last read ended between them.
                        None => self.place_of_last(product_id),
                    },
                    SaleSplit::Product => self.add(product_id),
                };
                if last.0 != product_id {
                    last.0.clear();
                    last.0.push_str(product_id);
                }
                (last.1, last.2) = (category, Some(place));
                if number >= self.places.len() {
                    self.places.resize(number + 1, UNKNOWN);
                }
                self.places[number] = place;
                count += 1;
            }
            self.after = (last.0, last.1);
            self.is_complete = count < PRODUCTS_PER_READ;
            if clock::monotonic_us() >= until_us {
                break;
            }
        }
        Ok(self.is_complete)
    }

    /// Returns the place of the name that was read last, or that the product was left out.
    fn place_of_last(&self, product_id: &str) -> u32 {
        match self.names.last() {
            Some(name) if name == product_id => self.names.len() as u32 - 1,
            _ => LEFT_OUT,
        }
    }

    /// Returns the place of a new name.
    fn add(&mut self, name: &str) -> u32 {
        let (share, of) = self.share;
        let hash = hash(name);
        if hash % of.max(1) != share {
            return LEFT_OUT;
        }
        self.names.push(name.to_owned());
        self.hashes.push(hash);
        self.names.len() as u32 - 1
    }

    fn category(&mut self, connection: &Connection, category: i64) -> Result<u32, ShardError> {
        if let Some(place) = self.categories.get(&category) {
            return Ok(*place);
        }
        let mut statement = connection.prepare_cached(CATEGORY_NAME_SQL)?;
        let name: Option<String> = statement.query_row([category], |row| row.get(0)).optional()?;
        let name = name.ok_or_else(|| ShardError::Corrupt("a product has an unknown category".to_owned()))?;
        let place = self.add(&name);
        self.categories.insert(category, place);
        Ok(place)
    }

    /// Returns the place of the name that an item counts for, or `None` if the name is in another part.
    #[inline]
    pub(super) fn place(&self, product: i64) -> Result<Option<u32>, ShardError> {
        // A negative number is behind the end too.
        let place = self.places.get(product as usize).copied().unwrap_or(UNKNOWN);
        if place < LEFT_OUT {
            return Ok(Some(place));
        }
        if place == LEFT_OUT { Ok(None) } else { Err(unknown_product()) }
    }
}

fn hash(name: &str) -> u32 {
    crc32c::crc32c(name.as_bytes())
}

#[cold]
fn unknown_product() -> ShardError {
    ShardError::Corrupt("an item has an unknown product".to_owned())
}
