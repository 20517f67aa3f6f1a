//! Orders, statuses and finished ingests of one batch become rows, each with its outcome.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::super::apply::Entry;
use super::super::error::ShardError;
use super::super::partition::{Partition, table_of};
use super::super::people::{self, ErasureMode, Forgotten, forgotten};
use super::super::prices;
use super::super::service_event::Outcome;
use super::super::stock;
use super::super::stream::Stream;
use super::Beside;
use super::erase::items;
use super::names::Product;
use super::observed::{PriceRow, StockRow, decode_price, decode_stock, store_price};
use super::record::{ITEM_IDS, IngestRow, OrderRow, StatusRow, decode_ingest, decode_order, decode_status};
use super::sums::Sale;
use super::{Orders, items_of};
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Family, Kind};
use crate::base::limits::INGEST_KEY_KEPT_US;
use crate::base::money::Currency;
use crate::base::order_status::OrderStatus;

/// One record, taken apart.
#[derive(Clone, Copy)]
enum Row<'a> {
    Order(OrderRow<'a>),
    Status(StatusRow<'a>),
    Ingest(IngestRow<'a>),
    Price(PriceRow<'a>),
    Stock(StockRow<'a>),
    /// A record that another family decodes and stores.
    Beside(Kind),
}

/// The records of a batch that are the commerce backend's, with what may be the same ids in the sorted runs.
#[derive(Default)]
pub(in crate::shard) struct Batch<'a> {
    rows: Vec<(&'a [u8], Row<'a>)>,
    hashes: Vec<KeyHash>,
    candidates: Vec<(u32, i64)>,
    /// How many of each were used.
    next: (usize, usize, usize),
}

impl<'a> Batch<'a> {
    /// Whether a record of this kind belongs in here.
    #[inline]
    pub(in crate::shard) const fn takes(kind: Kind) -> bool {
        match kind.family() {
            Family::Clicks | Family::Events => false,
            Family::Orders | Family::Prices | Family::Stock | Family::People => true,
        }
    }

    /// Takes a record in, if it is one of these.
    pub(in crate::shard) fn push(&mut self, keys: &KeyHasher, kind: Kind, payload: &'a [u8]) {
        let row = match kind {
            Kind::Order => decode_order(payload).map(Row::Order),
            Kind::OrderStatus => decode_status(payload).map(Row::Status),
            Kind::Ingest => decode_ingest(payload).map(Row::Ingest),
            Kind::Price => decode_price(payload).map(Row::Price),
            Kind::Stock => decode_stock(payload).map(Row::Stock),
            _ => Batch::takes(kind).then_some(Row::Beside(kind)),
        };
        let Some(row) = row else { return };
        match row {
            Row::Order(order) => self.hashes.push(keys.hash(order.tenant_id, order.order_id)),
            Row::Status(status) => self.hashes.push(keys.hash(status.tenant_id, status.order_id)),
            Row::Ingest(_) | Row::Price(_) | Row::Stock(_) | Row::Beside(_) => {}
        }
        self.rows.push((payload, row));
    }

    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether the next row is this record: they come in the order in which they were pushed.
    fn is_next(&self, payload: &[u8]) -> bool {
        self.rows.get(self.next.0).is_some_and(|(bytes, _)| std::ptr::eq(bytes.as_ptr(), payload.as_ptr()))
    }
}

/// What the partition's change and the counters are, beside the file.
pub(in crate::shard) struct Taken {
    pub(in crate::shard) open: Option<Partition>,
    pub(in crate::shard) firsts: Vec<(i64, String)>,
    pub(in crate::shard) orders: u64,
    pub(in crate::shard) duplicates: u64,
    pub(in crate::shard) conflicts: u64,
    pub(in crate::shard) received_us_max: Option<i64>,
    pub(in crate::shard) sealed: bool,
    pub(in crate::shard) price_changes: u64,
    /// Something came of a person who is kept out.
    pub(in crate::shard) kept_out: bool,
}

impl Taken {
    pub(in crate::shard) fn begin(orders: &Orders) -> Taken {
        Taken {
            open: orders.open.clone(),
            firsts: Vec::new(),
            orders: 0,
            duplicates: 0,
            conflicts: 0,
            received_us_max: None,
            sealed: false,
            price_changes: 0,
            kept_out: false,
        }
    }
}

/// The statements and the state one batch works with.
pub(in crate::shard) struct Taker<'t> {
    connection: &'t Connection,
    keys: &'t KeyHasher,
    orders: &'t mut Orders,
    insert_order: Option<CachedStatement<'t>>,
    insert_item: Option<CachedStatement<'t>>,
    /// Of the order at hand.
    products: Vec<Product>,
    /// Somebody is kept out.
    forgets: bool,
}

/// A stored order, as far as a second one or a new status has to know it.
struct Stored {
    id: i64,
    table: String,
    status: OrderStatus,
    ingest: i64,
    line: i64,
    received_us: i64,
    content: i64,
    sale: Sale,
}

impl Stored {
    /// What becomes of the same order once more: one that this line of this ingest stored is read again after a
    /// crash.
    ///
    /// One that its key has outlived is another ingest's: under a key that has expired the rows are as they are.
    fn again(&self, order: &OrderRow<'_>) -> Outcome {
        let is_line = order.ingest != 0 && (self.ingest, self.line) == (order.ingest, order.line);
        let is_kept = order.received_us.saturating_sub(self.received_us) < INGEST_KEY_KEPT_US;
        if is_line && is_kept { Outcome::Repeated } else { Outcome::Duplicate }
    }
}

impl<'t> Taker<'t> {
    /// Looks for the ids of the whole batch, and opens the next partition where the open one is full.
    pub(in crate::shard) fn begin(
        connection: &'t Connection,
        keys: &'t KeyHasher,
        orders: &'t mut Orders,
        batch: &mut Batch<'_>,
        taken: &mut Taken,
        rows_max: u64,
    ) -> Result<Taker<'t>, ShardError> {
        let (mut insert_order, mut insert_item) = (None, None);
        if !batch.hashes.is_empty() {
            orders.ids.look_up(connection, &batch.hashes, &mut batch.candidates)?;
            // Run by run as they were found; by row as they are used.
            batch.candidates.sort_unstable();
            let open = match taken.open.take() {
                Some(open) if open.rows < rows_max => open,
                full => {
                    taken.sealed |= full.is_some();
                    let next = Partition::create(connection, Stream::Order, full.as_ref())?;
                    taken.firsts.push((next.next_id, next.name.clone()));
                    next
                }
            };
            insert_order = Some(connection.prepare_cached(&open.insert_sql)?);
            let items = items_of(&open.name);
            let sql = format!("INSERT INTO {items} ({}) VALUES (?1, ?2, ?3, ?4, ?5)", super::ITEM_COLUMNS);
            insert_item = Some(connection.prepare_cached(&sql)?);
            taken.open = Some(open);
        }
        let forgets = forgotten::is_anybody(connection)?;
        Ok(Taker { connection, keys, orders, insert_order, insert_item, products: Vec::new(), forgets })
    }

    /// The outcome of a record that is a row of the batch; `None` for one that is not.
    pub(in crate::shard) fn take(
        &mut self,
        batch: &mut Batch<'_>,
        entry: &Entry<'_>,
        taken: &mut Taken,
    ) -> Result<Option<Outcome>, ShardError> {
        if !batch.is_next(entry.payload) {
            return Ok(None);
        }
        let Some((_, row)) = batch.rows.get(batch.next.0).copied() else { return Ok(None) };
        batch.next.0 += 1;
        let (outcome, received_us) = match row {
            Row::Order(order) => (self.order(batch, &order, taken)?, order.received_us),
            Row::Status(status) => (self.status(batch, &status, taken)?, status.received_us),
            Row::Ingest(ingest) => (self.ingest(&ingest)?, ingest.finished_us),
            Row::Price(price) => {
                let tenant = self.orders.names.tenant(self.connection, price.observed.tenant_id)?;
                (store_price(self.connection, tenant, &price)?, price.observed.received_us)
            }
            Row::Stock(stock) => {
                let tenant = self.orders.names.tenant(self.connection, stock.observed.tenant_id)?;
                (stock::store_history(self.connection, tenant, &stock)?, stock.observed.received_us)
            }
            Row::Beside(kind) => {
                let names = &mut self.orders.names;
                let price_changes = &mut taken.price_changes;
                let mut beside =
                    Beside { connection: self.connection, keys: self.keys, names, price_changes };
                let stored = match kind.family() {
                    Family::Prices => prices::take(&mut beside, kind, entry.payload)?,
                    Family::Stock => stock::take(&mut beside, kind, entry.payload)?,
                    Family::People => {
                        // From this record on.
                        self.forgets = true;
                        people::take(&mut beside, kind, entry.payload)?
                    }
                    Family::Clicks | Family::Events | Family::Orders => None,
                };
                return Ok(stored);
            }
        };
        taken.received_us_max = taken.received_us_max.max(Some(received_us));
        match outcome {
            Outcome::Duplicate | Outcome::Repeated => taken.duplicates += 1,
            Outcome::Conflict => {
                taken.duplicates += 1;
                taken.conflicts += 1;
            }
            _ => {}
        }
        Ok(Some(outcome))
    }

    /// The stored order with this id, if the tenant has one.
    fn find(
        &self,
        batch: &mut Batch<'_>,
        taken: &Taken,
        tenant: i64,
        order_id: &str,
    ) -> Result<(KeyHash, Option<Stored>), ShardError> {
        let (_, index, mut at) = batch.next;
        let hash = batch.hashes[index];
        let mut known = None;
        while let Some((of, row_id)) = batch.candidates.get(at).copied()
            && of as usize == index
        {
            at += 1;
            if known.is_none() {
                known = self.stored(taken, row_id, tenant, order_id)?;
            }
        }
        (batch.next.1, batch.next.2) = (index + 1, at);
        if known.is_none() {
            let newest: Vec<i64> = self.orders.ids.newest(hash).collect();
            for row_id in newest {
                if known.is_none() {
                    known = self.stored(taken, row_id, tenant, order_id)?;
                }
            }
        }
        Ok((hash, known))
    }

    /// The row with this number, if it is that order.
    fn stored(
        &self,
        taken: &Taken,
        row_id: i64,
        tenant: i64,
        order_id: &str,
    ) -> Result<Option<Stored>, ShardError> {
        let newer = taken.firsts.first().is_some_and(|(first, _)| *first <= row_id);
        let firsts = if newer { &taken.firsts } else { &self.orders.firsts };
        let Some(table) = table_of(firsts, row_id) else { return Ok(None) };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT tenant, order_id, status, ingest, ingest_line, content, currency, ordered_at_us, total, \
             units, customer_key, received_us FROM {table} WHERE id = ?1"
        ))?;
        let read = |row: &rusqlite::Row<'_>| {
            let is_it = row.get::<_, i64>(0)? == tenant
                && row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)? == order_id;
            if !is_it {
                return Ok(None);
            }
            let status: u8 = row.get(2)?;
            let currency = row.get_ref(6)?.as_str().map_err(rusqlite::Error::from)?;
            let (Some(status), Some(currency)) = (OrderStatus::from_code(status), Currency::parse(currency))
            else {
                return Ok(None);
            };
            Ok(Some(Stored {
                id: row_id,
                table: table.to_owned(),
                status,
                ingest: row.get(3)?,
                line: row.get(4)?,
                received_us: row.get(11)?,
                content: row.get(5)?,
                sale: Sale {
                    tenant,
                    currency,
                    ordered_at_us: row.get(7)?,
                    total: row.get(8)?,
                    units: row.get(9)?,
                    customer_key: row.get(10)?,
                },
            }))
        };
        Ok(statement.query_row([row_id], read).optional()?.flatten())
    }

    fn order(
        &mut self,
        batch: &mut Batch<'_>,
        order: &OrderRow<'_>,
        taken: &mut Taken,
    ) -> Result<Outcome, ShardError> {
        let tenant = self.orders.names.tenant(self.connection, order.tenant_id)?;
        let content = self.keys.digest(order.content) as i64;
        let (hash, known) = self.find(batch, taken, tenant, order.order_id)?;
        let mut key = self.keys.hash(order.tenant_id, order.customer_id);
        let forgotten = if self.forgets { forgotten::find(self.connection, key)? } else { None };
        taken.kept_out |= forgotten.is_some();
        let (mut order, mut pseudonym) = (*order, None);
        match forgotten {
            Some(Forgotten { mode: ErasureMode::Erase, .. }) => return Ok(Outcome::Suppressed),
            Some(Forgotten { token, .. }) => {
                // What is told of it may name the person otherwise than what is stored.
                if let Some(known) = &known {
                    return Ok(known.again(&order));
                }
                key = self.keys.hash(order.tenant_id, &token);
                pseudonym = Some(token);
            }
            None => {}
        }
        if let Some(token) = &pseudonym {
            (order.customer_id, order.customer_name, order.customer_email) = (token, "", "");
        }
        let order = &order;
        if let Some(known) = known {
            return Ok(if known.content == content { known.again(order) } else { Outcome::Conflict });
        }
        let customer_key = key.0 as i64;
        let sale = Sale {
            tenant,
            currency: order.currency,
            ordered_at_us: order.ordered_at_us,
            total: order.total,
            units: order.units,
            customer_key,
        };
        if order.status.is_sale() && !self.orders.sums.has_room(self.connection, &sale)? {
            return Ok(Outcome::SumTooLarge);
        }
        let names = &mut self.orders.names;
        let customer = names.customer(self.connection, self.keys, tenant, customer_key, order)?;
        self.products.clear();
        for item in order.items() {
            self.products.push(names.product(self.connection, self.keys, tenant, order.tenant_id, &item)?);
        }
        let (Some(open), Some(insert), Some(insert_item)) =
            (&mut taken.open, &mut self.insert_order, &mut self.insert_item)
        else {
            return Err(ShardError::Other("an order came before its partition".to_owned()));
        };
        let id = open.next_id;
        insert.raw_bind_parameter(1, open.id_to_bind())?;
        insert.raw_bind_parameter(2, tenant)?;
        insert.raw_bind_parameter(3, order.order_id)?;
        insert.raw_bind_parameter(4, customer)?;
        insert.raw_bind_parameter(5, order.status as u8)?;
        insert.raw_bind_parameter(6, order.currency.as_str())?;
        insert.raw_bind_parameter(7, order.ordered_at_us)?;
        insert.raw_bind_parameter(8, order.total)?;
        insert.raw_bind_parameter(9, order.units)?;
        insert.raw_bind_parameter(10, order.item_count() as i64)?;
        insert.raw_bind_parameter(11, order.received_us)?;
        insert.raw_bind_parameter(12, order.ingest)?;
        insert.raw_bind_parameter(13, order.line)?;
        insert.raw_bind_parameter(14, content)?;
        insert.raw_bind_parameter(15, customer_key)?;
        insert.raw_execute()?;
        open.check_id(self.connection)?;
        let item_ids = id.checked_mul(ITEM_IDS).and_then(|first| first.checked_add(ITEM_IDS));
        if item_ids.is_none() {
            return Err(ShardError::Other("there are no more item ids".to_owned()));
        }
        insert_item.raw_bind_parameter(2, tenant)?;
        for ((place, item), product) in order.items().enumerate().zip(&self.products) {
            insert_item.raw_bind_parameter(1, id * ITEM_IDS + place as i64)?;
            insert_item.raw_bind_parameter(3, product.id)?;
            insert_item.raw_bind_parameter(4, item.quantity)?;
            insert_item.raw_bind_parameter(5, item.unit_price)?;
            insert_item.raw_execute()?;
        }
        self.orders.ids.stage(hash, id);
        open.count(order.ordered_at_us);
        taken.orders += 1;
        let sums = &mut self.orders.sums;
        sums.touch(tenant);
        if order.status.is_sale() {
            sums.add(
                &sale,
                self.products.iter().copied().zip(order.items().map(|item| (item.quantity, item.unit_price))),
            );
        }
        Ok(Outcome::Inserted)
    }

    fn status(
        &mut self,
        batch: &mut Batch<'_>,
        status: &StatusRow<'_>,
        taken: &Taken,
    ) -> Result<Outcome, ShardError> {
        let tenant = self.orders.names.tenant(self.connection, status.tenant_id)?;
        let (_, known) = self.find(batch, taken, tenant, status.order_id)?;
        let Some(known) = known else { return Ok(Outcome::Missing) };
        // Of two at the same time the later one to come is the last.
        if self.last_status_us(known.id)?.is_some_and(|last_us| last_us > status.occurred_us) {
            return Ok(Outcome::Superseded);
        }
        let becomes_sale = status.status.is_sale() && !known.status.is_sale();
        if becomes_sale && !self.orders.sums.has_room(self.connection, &known.sale)? {
            return Ok(Outcome::SumTooLarge);
        }
        self.set_last_status_us(known.id, status.occurred_us)?;
        if known.status == status.status {
            return Ok(Outcome::Duplicate);
        }
        self.connection
            .prepare_cached(&format!("UPDATE {} SET status = ?2 WHERE id = ?1", known.table))?
            .execute(params![known.id, status.status as u8])?;
        self.orders.sums.touch(tenant);
        if known.status.is_sale() != status.status.is_sale() {
            let items = items(self.connection, &known.table, known.id)?;
            let items = items.iter().copied();
            let sums = &mut self.orders.sums;
            if status.status.is_sale() {
                sums.add(&known.sale, items);
            } else {
                sums.take_out(self.connection, &known.sale, items)?;
            }
        }
        Ok(Outcome::Inserted)
    }

    /// When the last change of the order's status that was applied occurred.
    fn last_status_us(&self, order: i64) -> Result<Option<i64>, ShardError> {
        let sql = "SELECT occurred_us FROM order_status_time WHERE id = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([order], |row| row.get(0)).optional()?)
    }

    fn set_last_status_us(&self, order: i64, occurred_us: i64) -> Result<(), ShardError> {
        let sql = "INSERT OR REPLACE INTO order_status_time (id, occurred_us) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute([order, occurred_us])?;
        Ok(())
    }

    fn ingest(&self, ingest: &IngestRow<'_>) -> Result<Outcome, ShardError> {
        let IngestRow { finished_us, expires_us, scope, key, fingerprint, response } = *ingest;
        // It may tell of lines that were read before the person was kept out.
        let is_erasing = self.forgets && people::is_erasing(self.connection, scope)?;
        let response = if is_erasing { &people::without_order_ids(response) } else { response };
        self.connection
            .prepare_cached(
                "INSERT INTO ingest_key (scope, key, fingerprint, response, finished_us, expires_us) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (scope, key) DO UPDATE SET \
                 fingerprint = excluded.fingerprint, response = excluded.response, \
                 finished_us = excluded.finished_us, expires_us = excluded.expires_us",
            )?
            .execute(params![scope, key, fingerprint, response, finished_us, expires_us])?;
        // Expired ones go bit by bit, as new ones come.
        self.connection
            .prepare_cached(
                "DELETE FROM ingest_key WHERE (scope, key) IN \
                 (SELECT scope, key FROM ingest_key WHERE expires_us < ?1 ORDER BY expires_us LIMIT 2)",
            )?
            .execute([finished_us])?;
        Ok(Outcome::Inserted)
    }

    /// After the last record: the partition's counters, the ids, the sums.
    pub(in crate::shard) fn finish(self, taken: &Taken) -> Result<(), ShardError> {
        let Taker { connection, orders, insert_order, insert_item, .. } = self;
        drop((insert_order, insert_item));
        if let (Some(open), true) = (&taken.open, taken.orders > 0) {
            open.save(connection)?;
            orders.ids.save(connection)?;
        }
        let mut tables: Vec<&str> = orders.firsts.iter().map(|(_, name)| name.as_str()).collect();
        tables.extend(taken.firsts.iter().map(|(_, name)| name.as_str()));
        orders.sums.save(connection, &tables)
    }
}
