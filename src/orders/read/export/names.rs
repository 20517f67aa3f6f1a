//! Customer and product names, looked up once for many orders.

use rusqlite::Connection;

use super::super::render::{CUSTOMER_SQL, PRODUCT_SQL};
use super::batch::OrderBatch;
use crate::base::ids::ShardId;
use crate::shard::read::Span;
use crate::shard::{Identity, ShardError};

/// Name numbers at or above this are not cached. Each smaller number takes 4 bytes.
const NAME_NUMBERS_MAX: usize = 1 << 20;
/// Once the cached names reach this many bytes, the cache is cleared.
const NAME_BYTES_MAX: usize = 3 << 20;

/// One shard's names that earlier steps have read.
#[derive(Debug, Default)]
pub struct NameCache {
    /// The shard and its database file. If another file replaces it, the numbers change.
    of: Option<(ShardId, Identity)>,
    customers: Kept<3>,
    products: Kept<2>,
}

impl NameCache {
    /// Prepares the cache for a shard. Clears it if it holds another shard's names.
    pub(super) fn begin(&mut self, connection: &Connection, shard: ShardId) -> Result<(), ShardError> {
        let path = connection.path().unwrap_or_default();
        let of = Identity::of(path.as_ref())?.map(|identity| (shard, identity));
        if of.is_none() || of != self.of {
            self.of = of;
            self.customers.clear();
            self.products.clear();
        }
        Ok(())
    }

    /// Adds the customers with these numbers to the batch.
    pub(super) fn add_customers(
        &mut self,
        connection: &Connection,
        numbers: &[i64],
        batch: &mut OrderBatch,
    ) -> Result<Places, ShardError> {
        look_up(connection, CUSTOMER_SQL, numbers, &mut self.customers, batch, |batch| &mut batch.customers)
    }

    /// Adds the products with these numbers to the batch.
    pub(super) fn add_products(
        &mut self,
        connection: &Connection,
        numbers: &[i64],
        batch: &mut OrderBatch,
    ) -> Result<Places, ShardError> {
        look_up(connection, PRODUCT_SQL, numbers, &mut self.products, batch, |batch| &mut batch.products)
    }
}

/// Names by number.
#[derive(Debug, Default)]
struct Kept<const N: usize> {
    /// For each number, the index of its entry plus one, or 0. Numbers are assigned without gaps.
    places: Vec<u32>,
    entries: Vec<[Span; N]>,
    text: String,
}

impl<const N: usize> Kept<N> {
    fn get(&self, number: i64) -> Option<[&str; N]> {
        let place = *self.places.get(usize::try_from(number).ok()?)?;
        let spans = self.entries.get((place as usize).checked_sub(1)?)?;
        Some(spans.map(|span| &self.text[span.range()]))
    }

    fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
        self.text.clear();
    }

    fn put(&mut self, number: i64, texts: [&str; N]) {
        let Ok(at) = usize::try_from(number) else { return };
        if at >= NAME_NUMBERS_MAX {
            return;
        }
        if self.text.len() >= NAME_BYTES_MAX {
            // Most of the cached names will not be needed again, so start over.
            self.clear();
        }
        if self.places.capacity() == 0 {
            // Reserve the maximum at once. Untouched pages cost nothing, but the process keeps the buffers that a
            // growing list frees.
            self.places.reserve_exact(NAME_NUMBERS_MAX);
            self.text.reserve_exact(NAME_BYTES_MAX + NAME_BYTES_MAX / 8);
        }
        if at >= self.places.len() {
            self.places.resize(at + 1, 0);
        }
        let spans = texts.map(|text| Span::pushed(&mut self.text, text));
        self.entries.push(spans);
        self.places[at] = self.entries.len() as u32;
    }
}

/// The batch indexes of a step's names, by name number.
pub(super) struct Places {
    numbers: Vec<i64>,
    first: u32,
}

impl Places {
    pub(super) fn place(&self, number: i64) -> u32 {
        self.first + self.numbers.partition_point(|known| *known < number) as u32
    }
}

/// Adds the names with these numbers to the batch. Reads names that are not cached in ascending order of their
/// numbers, because neighbours share a page.
fn look_up<const N: usize>(
    connection: &Connection,
    sql: &str,
    numbers: &[i64],
    kept: &mut Kept<N>,
    batch: &mut OrderBatch,
    list: impl Fn(&mut OrderBatch) -> &mut Vec<[Span; N]>,
) -> Result<Places, ShardError> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    let first = list(batch).len() as u32;
    let mut statement = connection.prepare_cached(sql)?;
    for number in &numbers {
        let spans = match kept.get(*number) {
            Some(texts) => texts.map(|text| batch.keep(text)),
            None => {
                let mut rows = statement.query([number])?;
                let row = rows
                    .next()?
                    .ok_or_else(|| ShardError::Corrupt("an order has an unknown name".to_owned()))?;
                let mut texts = [""; N];
                for (at, text) in texts.iter_mut().enumerate() {
                    *text = row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?;
                }
                kept.put(*number, texts);
                texts.map(|text| batch.keep(text))
            }
        };
        list(batch).push(spans);
    }
    Ok(Places { numbers, first })
}
