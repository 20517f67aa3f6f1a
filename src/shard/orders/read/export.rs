//! Orders for exports: first which ones and how they stood, then what is told of each, in bounded steps.
//!
//! Everything of an order but its status never changes, so the status is taken with the choice: what is made of a
//! choice later is the same however often it is made.

use rusqlite::{Connection, Row, params};

use super::super::super::error::ShardError;
use super::super::super::inspect::{PartitionInfo, partitions_of};
use super::super::super::read::{Filter, Of};
use super::super::super::stream::Stream;
use super::super::sales::{SalesOf, sales_days};
use super::super::schema::items_of;
use super::{Found, Wanted, customers, damaged, has_product, product_numbers, tenant_number};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::base::money::Currency;
use crate::base::order_status::OrderStatus;

/// How long one step may hold its snapshot: short enough that a query behind it hardly waits.
const STEP_US: u64 = 20_000;
/// Orders between two looks at the clock.
const LOOK: usize = 256;
/// Ids that one step of choosing goes through, and orders it looks at in order of time. In a debug build few, so that
/// tests with few rows go on from step to step.
const CHOOSE_IDS: i64 = if cfg!(debug_assertions) { 150 } else { 65_536 };
const CHOOSE_ORDERS: i64 = if cfg!(debug_assertions) { 40 } else { 8_192 };
/// Wanted orders times this must reach those that are there for tables to be read from end to end.
const MOST: u64 = 3;
/// A row that is read and not wanted costs a quarter of one that is sought.
const DENSE: i64 = 4;
/// Names kept from step to step: numbers they may have (4 bytes each) and bytes of text.
const NAME_NUMBERS_MAX: usize = 1 << 20;
const NAME_BYTES_MAX: usize = 3 << 20;

/// One order that is wanted, and the status it is told with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChosenOrder {
    pub id: i64,
    pub status: OrderStatus,
}

/// Where choosing stands in one shard.
#[derive(Clone, Debug, Default)]
pub struct Choosing {
    /// The highest id of the partitions that are done, or of the rows where tables are read from end to end.
    after: i64,
    /// Time and order id of the last order of an unfinished partition that is read in order of time.
    within: Option<(i64, String)>,
    /// Whether tables are read from end to end; decided at the first step.
    whole: Option<bool>,
}

/// The next orders of the filter with ids up to `pin`, partition by partition; and where to go on, if there is
/// more. Within a partition they come in order of their ids, or, where few are wanted, of time. About 0.2 us an
/// order that is there, or 1.5 us one that is wanted.
pub fn choose_orders(
    connection: &Connection,
    shard: ShardId,
    filter: &Filter,
    pin: i64,
    mut choosing: Choosing,
) -> Result<(Vec<ChosenOrder>, Option<Choosing>), ShardError> {
    let until_us = clock::monotonic_us() + STEP_US;
    let mut chosen = Vec::new();
    let Of::Orders(of) = &filter.of else { return Ok((chosen, None)) };
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok((chosen, None)) };
    let products = (!of.product_ids.is_empty())
        .then(|| product_numbers(connection, tenant, &of.product_ids))
        .transpose()?;
    let words = (!of.words.is_empty())
        .then(|| of.met.customers(shard, || customers::search(connection, tenant, &of.words)))
        .transpose()?;
    if products.as_ref().is_some_and(Vec::is_empty) || words.as_ref().is_some_and(|set| set.is_empty()) {
        return Ok((chosen, None));
    }
    let (from_us, to_us) = (filter.from_us.unwrap_or(i64::MIN), filter.to_us.unwrap_or(i64::MAX));
    let wanted = Wanted { of, tenant, products, customers: words.as_deref(), pin, from_us };
    let mut infos = partitions_of(connection, Stream::Order)?;
    infos.retain(|info| {
        info.first_id <= pin && info.timestamp_us.is_some_and(|(low, high)| low < to_us && high >= from_us)
    });
    let end = |info: &PartitionInfo| (info.end_id - 1).min(pin);
    let Some(info) = infos.iter().find(|info| end(info) > choosing.after) else { return Ok((chosen, None)) };
    let whole = match choosing.whole {
        Some(whole) => whole,
        None => {
            let of = SalesOf { tenant_id: of.tenant_id.clone(), currency: None };
            let days = sales_days(connection, &of, (filter.from_us, filter.to_us))?;
            let sales: i64 = days.iter().map(|(_, orders)| orders).sum();
            let there: u64 = infos.iter().map(|info| info.rows).sum();
            sales.unsigned_abs() * MOST >= there
        }
    };
    choosing.whole = Some(whole);
    let takes = |found: &Found| -> Result<bool, ShardError> {
        Ok(wanted.takes(found)
            && match &wanted.products {
                Some(products) => has_product(connection, &info.name, found.id, products)?,
                None => true,
            })
    };
    let mut seen = 0_usize;
    let mut is_over = || {
        seen += 1;
        seen.is_multiple_of(LOOK) && clock::monotonic_us() >= until_us
    };
    if whole {
        let first = choosing.after.max(info.first_id - 1);
        let last = end(info).min(first + CHOOSE_IDS);
        let mut statement = connection.prepare_cached(&choose_by_id_sql(&info.name))?;
        let mut rows = statement.query([first, last])?;
        choosing.after = last;
        while let Some(row) = rows.next()? {
            let at_us: i64 = row.get(0)?;
            if row.get::<_, i64>(7)? == tenant && (from_us..to_us).contains(&at_us) {
                let found = bare(row)?;
                if takes(&found)? {
                    chosen.push(ChosenOrder { id: found.id, status: found.status });
                }
            }
            if is_over() {
                choosing.after = row.get(1)?;
                break;
            }
        }
    } else {
        // No order has an empty id.
        let (after_us, after_id) = choosing.within.take().unwrap_or((from_us, String::new()));
        let mut statement = connection.prepare_cached(&choose_by_time_sql(&info.name))?;
        let mut rows = statement.query(params![tenant, after_us, after_id, to_us, pin, CHOOSE_ORDERS])?;
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            let found = bare(row)?;
            if takes(&found)? {
                chosen.push(ChosenOrder { id: found.id, status: found.status });
            }
            looked_at += 1;
            if looked_at == CHOOSE_ORDERS || is_over() {
                choosing.within = Some((found.ordered_at_us, row.get(7)?));
                break;
            }
        }
        if choosing.within.is_none() {
            choosing.after = end(info);
        }
    }
    let is_done = choosing.within.is_none() && choosing.after >= infos.last().map_or(pin, end);
    Ok((chosen, (!is_done).then_some(choosing)))
}

/// From columns ordered_at_us, id, currency, status, total, units, customer.
fn bare(row: &Row<'_>) -> Result<Found, ShardError> {
    Ok(Found {
        ordered_at_us: row.get(0)?,
        order_id: String::new(),
        id: row.get(1)?,
        currency: currency(row, 2)?,
        status: OrderStatus::from_code(row.get(3)?).ok_or_else(damaged)?,
        total: row.get(4)?,
        units: row.get(5)?,
        customer: row.get(6)?,
    })
}

fn currency(row: &Row<'_>, at: usize) -> Result<Currency, ShardError> {
    Currency::parse(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?).ok_or_else(damaged)
}

const BARE_COLUMNS: &str = "ordered_at_us, id, currency, status, total, units, customer";

fn choose_by_id_sql(partition: &str) -> String {
    format!("SELECT {BARE_COLUMNS}, tenant FROM {partition} WHERE id > ?1 AND id <= ?2 ORDER BY id")
}

fn choose_by_time_sql(partition: &str) -> String {
    format!(
        "SELECT {BARE_COLUMNS}, order_id FROM {partition} INDEXED BY {partition}_time WHERE tenant = ?1 \
         AND (ordered_at_us, order_id) > (?2, ?3) AND ordered_at_us < ?4 AND id <= ?5 \
         ORDER BY ordered_at_us, order_id LIMIT ?6"
    )
}

/// A text of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

/// One order of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchOrder {
    pub order_id: Span,
    /// Index into the batch's customers.
    pub customer: u32,
    pub status: OrderStatus,
    pub currency: Currency,
    pub ordered_at_us: i64,
    pub received_us: i64,
    /// Minor units of the currency.
    pub total: i64,
    pub units: i64,
    pub item_count: i64,
    /// Where its items end in those of the batch; they begin where the order before ends.
    pub items_end: u32,
}

/// One line of an order.
#[derive(Clone, Copy, Debug)]
pub struct BatchItem {
    /// Counted from 1 within its order.
    pub line: u32,
    /// Index into the batch's products.
    pub product: u32,
    pub quantity: i64,
    /// Minor units of the order's currency.
    pub unit_price: i64,
}

/// Orders with all that is told of them; some hundred bytes each.
#[derive(Clone, Debug, Default)]
pub struct OrderBatch {
    pub orders: Vec<BatchOrder>,
    pub items: Vec<BatchItem>,
    /// Id, name and e-mail address.
    pub customers: Vec<[Span; 3]>,
    /// Id and category.
    pub products: Vec<[Span; 2]>,
    text: String,
}

impl Span {
    /// Where it stands in the batch's text.
    #[must_use]
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl OrderBatch {
    /// All texts, for who refers to them by [`Span::range`] from now on.
    #[must_use]
    pub fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Memory for texts to come.
    pub fn give_text(&mut self, mut text: Vec<u8>) {
        text.clear();
        self.text = String::from_utf8(text).unwrap_or_default();
    }

    /// Empty again, its memory kept for the next one.
    pub fn clear(&mut self) {
        self.orders.clear();
        self.items.clear();
        self.customers.clear();
        self.products.clear();
        self.text.clear();
    }

    /// Bytes of the order's texts: its id and its customer.
    #[must_use]
    pub fn order_bytes(&self, order: &BatchOrder) -> usize {
        let customer = self.customers[order.customer as usize];
        order.order_id.range().len() + customer.iter().map(|span| span.range().len()).sum::<usize>()
    }

    /// All texts, one behind the other.
    #[must_use]
    pub fn all_text(&self) -> &[u8] {
        self.text.as_bytes()
    }

    #[must_use]
    pub fn text(&self, span: Span) -> &str {
        &self.text[span.range()]
    }

    fn keep(&mut self, text: &str) -> Span {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Span { start, end: self.text.len() as u32 }
    }
}

/// Names of one shard met so far: what a step has read the next ones know.
#[derive(Debug, Default)]
pub struct NameCache {
    shard: Option<ShardId>,
    customers: Kept<3>,
    products: Kept<2>,
}

/// Names by number.
#[derive(Debug)]
struct Kept<const N: usize> {
    /// Place among the entries, from 1, by number; numbers are given out without gaps.
    places: Vec<u32>,
    entries: Vec<[Span; N]>,
    text: String,
}

impl<const N: usize> Default for Kept<N> {
    fn default() -> Kept<N> {
        Kept { places: Vec::new(), entries: Vec::new(), text: String::new() }
    }
}

impl<const N: usize> Kept<N> {
    fn get(&self, number: i64) -> Option<[&str; N]> {
        let place = *self.places.get(usize::try_from(number).ok()?)?;
        let spans = self.entries.get((place as usize).checked_sub(1)?)?;
        Some(spans.map(|span| &self.text[span.range()]))
    }

    fn put(&mut self, number: i64, texts: [&str; N]) {
        let Ok(at) = usize::try_from(number) else { return };
        if at >= NAME_NUMBERS_MAX {
            return;
        }
        if self.text.len() >= NAME_BYTES_MAX {
            // Whatever is kept has been used; what comes next is mostly new.
            self.places.clear();
            self.entries.clear();
            self.text.clear();
        }
        if at >= self.places.len() {
            self.places.resize(at + 1, 0);
        }
        let spans = texts.map(|text| {
            let start = self.text.len() as u32;
            self.text.push_str(text);
            Span { start, end: self.text.len() as u32 }
        });
        self.entries.push(spans);
        self.places[at] = self.entries.len() as u32;
    }
}

/// How much a batch takes.
#[derive(Clone, Copy, Debug)]
pub struct BatchBounds {
    pub orders: usize,
    /// The order that reaches it is the last one: up to 1,023 more.
    pub items: usize,
    pub with_items: bool,
}

impl BatchBounds {
    /// Whether the batch has what it may have: decided by its rows alone, never by time.
    #[must_use]
    pub fn is_full(&self, batch: &OrderBatch) -> bool {
        batch.orders.len() >= self.orders || batch.items.len() >= self.items
    }
}

/// Adds the first of the chosen orders, all of one shard, to the batch, as far as bounds and time allow; how many.
/// About 1 us an order and 0.3 us an item where most of what is there is chosen.
pub fn read_orders(
    connection: &Connection,
    shard: ShardId,
    chosen: &[ChosenOrder],
    bounds: BatchBounds,
    batch: &mut OrderBatch,
    names: &mut NameCache,
) -> Result<usize, ShardError> {
    if names.shard != Some(shard) {
        *names = NameCache { shard: Some(shard), ..NameCache::default() };
    }
    let until_us = clock::monotonic_us() + STEP_US;
    let infos = partitions_of(connection, Stream::Order)?;
    let before = (batch.orders.len(), batch.items.len());
    // Numbers of the names, until they are looked up.
    let (mut customers, mut products) = (Vec::new(), Vec::new());
    let mut taken = 0;
    while taken < chosen.len() && !bounds.is_full(batch) {
        let rest = &chosen[taken..];
        let info = infos
            .iter()
            .rev()
            .find(|info| info.first_id <= rest[0].id)
            .ok_or_else(|| ShardError::Corrupt("a chosen order is in no partition".to_owned()))?;
        let of_partition =
            rest.iter().take_while(|one| (info.first_id..info.end_id).contains(&one.id)).count();
        let room = bounds.orders.saturating_sub(batch.orders.len());
        let run = &rest[..of_partition.min(LOOK).min(room)];
        if run.is_empty() {
            return Err(gone());
        }
        let mut reading = Reading {
            connection,
            partition: &info.name,
            bounds,
            batch,
            customers: &mut customers,
            products: &mut products,
        };
        let is_dense = run.is_sorted_by(|one, other| one.id < other.id)
            && run[run.len() - 1].id - run[0].id < DENSE * run.len() as i64;
        taken += if is_dense { reading.dense(run)? } else { reading.single(run)? };
        if clock::monotonic_us() >= until_us {
            break;
        }
    }
    let found = look_up(connection, CUSTOMER_SQL, &customers, &mut names.customers, batch, |batch| {
        &mut batch.customers
    })?;
    for (order, number) in batch.orders[before.0..].iter_mut().zip(&customers) {
        order.customer = found.place(*number);
    }
    let found =
        look_up(connection, PRODUCT_SQL, &products, &mut names.products, batch, |batch| &mut batch.products)?;
    for (item, number) in batch.items[before.1..].iter_mut().zip(&products) {
        item.product = found.place(*number);
    }
    Ok(taken)
}

fn gone() -> ShardError {
    ShardError::Other("orders of the export are not there any more".to_owned())
}

/// A run of orders of one partition on its way into a batch.
struct Reading<'r, 'c> {
    connection: &'c Connection,
    partition: &'r str,
    bounds: BatchBounds,
    batch: &'r mut OrderBatch,
    customers: &'r mut Vec<i64>,
    products: &'r mut Vec<i64>,
}

impl Reading<'_, '_> {
    /// Orders and items side by side, from end to end.
    fn dense(&mut self, run: &[ChosenOrder]) -> Result<usize, ShardError> {
        let (first, last) = (run[0].id, run[run.len() - 1].id);
        let mut orders = self.connection.prepare_cached(&orders_sql(self.partition))?;
        let mut items = self.connection.prepare_cached(&items_sql(self.partition))?;
        let mut rows = orders.query([first, last])?;
        let mut lines = items.query([first * 1024, (last + 1) * 1024])?;
        let mut line = if self.bounds.with_items { lines.next()? } else { None };
        for (at, one) in run.iter().enumerate() {
            loop {
                let row = rows.next()?.ok_or_else(gone)?;
                let id: i64 = row.get(0)?;
                if id == one.id {
                    self.order(row, one.status)?;
                    break;
                }
                if id > one.id {
                    return Err(gone());
                }
            }
            while let Some(current) = line {
                let id: i64 = current.get(0)?;
                if id / 1024 > one.id {
                    line = Some(current);
                    break;
                }
                if id / 1024 == one.id {
                    self.item(current, id)?;
                }
                line = lines.next()?;
            }
            self.ended();
            if self.bounds.is_full(self.batch) {
                return Ok(at + 1);
            }
        }
        Ok(run.len())
    }

    /// Each by itself.
    fn single(&mut self, run: &[ChosenOrder]) -> Result<usize, ShardError> {
        let mut orders = self.connection.prepare_cached(&orders_sql(self.partition))?;
        let mut items = self.connection.prepare_cached(&items_sql(self.partition))?;
        for (at, one) in run.iter().enumerate() {
            let mut rows = orders.query([one.id, one.id])?;
            self.order(rows.next()?.ok_or_else(gone)?, one.status)?;
            if self.bounds.with_items {
                let mut lines = items.query([one.id * 1024, (one.id + 1) * 1024])?;
                while let Some(line) = lines.next()? {
                    self.item(line, line.get(0)?)?;
                }
            }
            self.ended();
            if self.bounds.is_full(self.batch) {
                return Ok(at + 1);
            }
        }
        Ok(run.len())
    }

    fn order(&mut self, row: &Row<'_>, status: OrderStatus) -> Result<(), ShardError> {
        let order_id = self.batch.keep(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
        self.customers.push(row.get(2)?);
        self.batch.orders.push(BatchOrder {
            order_id,
            customer: 0,
            status,
            currency: currency(row, 3)?,
            ordered_at_us: row.get(4)?,
            total: row.get(5)?,
            units: row.get(6)?,
            item_count: row.get(7)?,
            received_us: row.get(8)?,
            items_end: 0,
        });
        Ok(())
    }

    fn item(&mut self, row: &Row<'_>, id: i64) -> Result<(), ShardError> {
        self.products.push(row.get(1)?);
        let line = (id % 1024) as u32 + 1;
        self.batch.items.push(BatchItem { line, product: 0, quantity: row.get(2)?, unit_price: row.get(3)? });
        Ok(())
    }

    fn ended(&mut self) {
        let items_end = self.batch.items.len() as u32;
        if let Some(order) = self.batch.orders.last_mut() {
            order.items_end = items_end;
        }
    }
}

/// Where the names of a step stand in its batch, by number.
struct Places {
    numbers: Vec<i64>,
    first: u32,
}

impl Places {
    fn place(&self, number: i64) -> u32 {
        self.first + self.numbers.partition_point(|known| *known < number) as u32
    }
}

/// Looks up what is not known, in order of the numbers: neighbours share a page.
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

const CUSTOMER_SQL: &str = "SELECT customer_id, name, email FROM customer_row WHERE id = ?1";
const PRODUCT_SQL: &str =
    "SELECT p.product_id, g.name FROM product_row p JOIN category_row g ON g.id = p.category WHERE p.id = ?1";

fn orders_sql(partition: &str) -> String {
    format!(
        "SELECT id, order_id, customer, currency, ordered_at_us, total, units, items, received_us \
         FROM {partition} WHERE id >= ?1 AND id <= ?2 ORDER BY id"
    )
}

fn items_sql(partition: &str) -> String {
    format!(
        "SELECT id, product, quantity, unit_price FROM {} WHERE id >= ?1 AND id < ?2 ORDER BY id",
        items_of(partition)
    )
}

/// Gives back the pages that a reading of a whole shard leaves in a connection's cache.
pub fn forget_pages(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.execute_batch("PRAGMA shrink_memory")?)
}

/// Every SQL text of exports that reads a partition, by name; for looking at plans.
pub(super) fn statements(partition: &str) -> Vec<(String, String)> {
    vec![
        ("orders to choose from, from end to end".to_owned(), choose_by_id_sql(partition)),
        ("orders to choose from, in order of time".to_owned(), choose_by_time_sql(partition)),
        ("chosen orders".to_owned(), orders_sql(partition)),
        ("items of chosen orders".to_owned(), items_sql(partition)),
    ]
}
