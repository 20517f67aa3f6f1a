//! Customer and product names, looked up once for many orders.

use foldhash::HashMap;
use rusqlite::Connection;

use super::super::render::{CUSTOMER_SQL, PRODUCT_SQL};
use super::batch::OrderBatch;
use crate::shard::ShardError;
use crate::shard::read::Span;

/// Name numbers at or above this are not cached. Each smaller number takes 4 bytes.
const NAME_NUMBERS_MAX: usize = 1 << 20;
/// Once the cached names reach this many bytes, the cache is cleared before the next step.
const NAME_BYTES_MAX: usize = 3 << 20;
/// The number of bytes by which one step may exceed it.
const STEP_BYTES_MAX: usize = NAME_BYTES_MAX / 8;

/// One shard's names that earlier steps have read.
#[derive(Debug, Default)]
pub(super) struct NameCache {
    customers: Kept<3>,
    products: Kept<2>,
}

impl NameCache {
    pub(super) fn clear(&mut self) {
        self.customers.clear();
        self.products.clear();
    }

    /// Adds the customers with these numbers to the batch, each once. Calls `set` with the index of each number, and
    /// the customer's place in the batch.
    pub(super) fn add_customers(
        &mut self,
        connection: &Connection,
        numbers: &[i64],
        batch: &mut OrderBatch,
        set: impl FnMut(&mut OrderBatch, usize, u32),
    ) -> Result<(), ShardError> {
        look_up(
            connection,
            CUSTOMER_SQL,
            numbers,
            &mut self.customers,
            batch,
            |batch| &mut batch.customers,
            set,
        )
    }

    /// Adds the products with these numbers to the batch, as [`NameCache::add_customers`] does.
    pub(super) fn add_products(
        &mut self,
        connection: &Connection,
        numbers: &[i64],
        batch: &mut OrderBatch,
        set: impl FnMut(&mut OrderBatch, usize, u32),
    ) -> Result<(), ShardError> {
        look_up(connection, PRODUCT_SQL, numbers, &mut self.products, batch, |batch| &mut batch.products, set)
    }
}

/// Names by number.
#[derive(Debug, Default)]
struct Kept<const N: usize> {
    /// For each number, the index of its entry plus one, or 0. Numbers are assigned without gaps.
    places: Vec<u32>,
    entries: Vec<Entry<N>>,
    text: String,
    /// The number of the current step.
    step: u32,
}

/// One cached name.
#[derive(Debug)]
struct Entry<const N: usize> {
    spans: [Span; N],
    /// The last step that added the name to its batch, and the name's place there.
    step: u32,
    place: u32,
}

impl<const N: usize> Kept<N> {
    /// Begins a step.
    fn begin(&mut self) {
        if self.text.len() >= NAME_BYTES_MAX || self.step == u32::MAX {
            // Most of the cached names will not be needed again, so start over.
            self.clear();
        }
        self.step += 1;
    }

    fn index(&self, number: i64) -> Option<usize> {
        let place = *self.places.get(usize::try_from(number).ok()?)?;
        (place as usize).checked_sub(1)
    }

    fn clear(&mut self) {
        self.places.clear();
        self.entries.clear();
        self.text.clear();
        self.step = 0;
    }

    /// Caches a name that the current step has added to its batch. Returns `false` if there is no room for it.
    fn put(&mut self, number: i64, texts: [&str; N], place: u32) -> bool {
        let Ok(at) = usize::try_from(number) else { return false };
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        if at >= NAME_NUMBERS_MAX || self.text.len() + bytes > NAME_BYTES_MAX + STEP_BYTES_MAX {
            return false;
        }
        if self.places.capacity() == 0 {
            // Reserve the maximum at once. Untouched pages cost nothing, but the process keeps the buffers that a
            // growing list frees.
            self.places.reserve_exact(NAME_NUMBERS_MAX);
            self.text.reserve_exact(NAME_BYTES_MAX + STEP_BYTES_MAX);
        }
        if at >= self.places.len() {
            self.places.resize(at + 1, 0);
        }
        let spans = texts.map(|text| Span::pushed(&mut self.text, text));
        self.entries.push(Entry { spans, step: self.step, place });
        self.places[at] = self.entries.len() as u32;
        true
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
    mut set: impl FnMut(&mut OrderBatch, usize, u32),
) -> Result<(), ShardError> {
    kept.begin();
    let mut missing: Vec<i64> =
        numbers.iter().copied().filter(|number| kept.index(*number).is_none()).collect();
    missing.sort_unstable();
    missing.dedup();
    let mut uncached = HashMap::default();
    let mut statement = connection.prepare_cached(sql)?;
    for number in missing {
        let mut rows = statement.query([number])?;
        let row =
            rows.next()?.ok_or_else(|| ShardError::Corrupt("an order has an unknown name".to_owned()))?;
        let mut texts = [""; N];
        for (at, text) in texts.iter_mut().enumerate() {
            *text = row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?;
        }
        let spans = texts.map(|text| batch.keep(text));
        let place = list(batch).len() as u32;
        list(batch).push(spans);
        if !kept.put(number, texts, place) {
            uncached.insert(number, place);
        }
    }
    for (at, number) in numbers.iter().enumerate() {
        let place = match kept.index(*number) {
            Some(index) => {
                let entry = &mut kept.entries[index];
                if entry.step != kept.step {
                    let spans = entry.spans.map(|span| batch.keep(&kept.text[span.range()]));
                    (entry.step, entry.place) = (kept.step, list(batch).len() as u32);
                    list(batch).push(spans);
                }
                entry.place
            }
            None => uncached.get(number).copied().unwrap_or_default(),
        };
        set(batch, at, place);
    }
    Ok(())
}
