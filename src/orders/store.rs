//! Stores the orders, status changes and finished ingests of one batch as rows, and returns the outcome of each
//! record.

use std::any::Any;
use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, TransactionBehavior, params};

use super::dropped::Unlisted;
use super::erase::items;
use super::free_rows::{are_product_sums_left, free_product_sums};
use super::names::{NameStatements, Names, Product};
use super::record::{
    DroppedSumRow, INGEST, ITEM_IDS, IngestRow, ItemRow, ORDER, ORDER_STATUS, OrderRow, SALES_DROPPED,
    StatusRow, decode_dropped_sum, decode_ingest, decode_order, decode_status,
};
use super::redact::without_order_ids;
use super::schema::{ITEM_COLUMNS, ORDER_IDS, ORDERS, items_of};
use super::seal::{Building, is_due};
use super::segment::Segments;
use super::status::OrderStatus;
use super::sums::{Sale, Sums, add_dropped};
use super::sums_by::SumsBy;
use crate::base::clock;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::limits::INGEST_KEY_KEPT_US;
use crate::base::money::Currency;
use crate::shard::ids::{BatchIds, Ids};
use crate::shard::suppressed::{self, ErasureMode, Suppression};
use crate::shard::{
    Batch, BatchWriter, BuiltIndex, ChangeKind, Opening, Outcome, PartitionInfo, Record, Shard, ShardError,
    Stage, Store, Stream, TenantSlice, append_change, load_ids,
};

/// The in-memory state of a shard's orders.
#[derive(Debug)]
pub struct OrderStore {
    pub(super) ids: Ids,
    pub(super) names: Names,
    pub(super) sums: Sums,
    pub(super) building: Option<Building>,
    /// Set if a sealed partition may lack its tables by product and customer.
    pub(super) seal_due: bool,
    /// Whether a day's sums are deleted with its last row.
    pub(super) drops_sums: bool,
    /// The customers of partitions without lists, while retention looks for customers without orders.
    pub(super) unlisted: Option<Unlisted>,
    pub(super) segments: Segments,
    /// Set while the file has sums by product of an earlier version.
    has_product_sums: bool,
    /// The row id after the last order of the current batch.
    staged_end_id: i64,
}

impl OrderStore {
    pub(super) fn open(opening: Opening<'_>) -> Result<OrderStore, ShardError> {
        let Opening { connection, keys, options, .. } = opening;
        Ok(OrderStore {
            ids: load_ids(connection, keys, &ORDER_IDS)?,
            names: Names::default(),
            sums: Sums::default(),
            building: None,
            seal_due: is_due(connection)?,
            drops_sums: options.drops_sums,
            unlisted: None,
            segments: Segments::open(connection)?,
            has_product_sums: are_product_sums_left(connection)?,
            staged_end_id: 0,
        })
    }

    /// Returns `true` if the customers of partitions without lists are known, for tests.
    #[cfg(test)]
    pub(crate) fn knows_unlisted(&self) -> bool {
        self.unlisted.is_some()
    }

    /// Makes the lists of the next partition without waiting for other upkeep, for tests.
    #[cfg(test)]
    pub(crate) fn seal_next(&mut self, connection: &mut Connection, path: &std::path::Path) {
        while self.seal(connection, path, Duration::from_secs(1)).unwrap().is_none() {
            // A sort for a shard of another test.
            crate::base::clock::pause(Duration::from_micros(100));
        }
    }

    /// Shortens the runs of ids, for tests.
    #[cfg(test)]
    pub(crate) fn shorten_runs(&mut self, run_ids_min: usize) {
        self.ids.shorten_runs(run_ids_min);
    }
}

impl Store for OrderStore {
    fn begin<'t>(
        &'t mut self,
        batch: &mut Batch<'t>,
        runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError> {
        let mut sought = DecodedBatch::default();
        for record in runs.iter().copied().flatten() {
            sought.push(batch.keys, record);
        }
        Ok(Box::new(Writer::begin(self, batch, sought)?))
    }

    fn committed(&mut self) {
        self.ids.committed();
        self.names.committed();
        self.sums.clear();
        self.segments.grown(self.staged_end_id, false);
    }

    fn rolled_back(&mut self) {
        self.ids.rolled_back();
        self.names.rolled_back();
        self.sums.clear();
    }

    fn sealed(&mut self) {
        self.seal_due = true;
        self.segments.grown(0, true);
    }

    fn memory_bytes(&self) -> usize {
        self.ids.memory_bytes()
    }

    fn upkeep_due(&self, stage: Stage, _shard: &Shard) -> bool {
        match stage {
            Stage::Ids => self.ids.work_due(),
            Stage::Seal => self.segments.is_slice_due() || self.is_seal_due() || self.has_product_sums,
            Stage::Erase | Stage::Retain => false,
        }
    }

    fn upkeep_waits(&self) -> bool {
        self.seal_due || self.segments.is_due() || self.ids.is_freezing()
    }

    fn upkeep(
        &mut self,
        stage: Stage,
        shard: &mut Shard,
        budget: Duration,
    ) -> Result<Option<BuiltIndex>, ShardError> {
        if stage == Stage::Ids {
            self.ids.work(shard.connection(), budget)?;
            return Ok(None);
        }
        let path = shard.path().to_owned();
        if self.segments.is_slice_due() {
            let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
            self.segments.slice(shard.connection(), &path, until_us)?;
            return Ok(None);
        }
        if self.has_product_sums && !self.is_seal_due() {
            let until_us = clock::monotonic_us() + budget.as_micros() as u64 / 2;
            let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
            let are_gone = free_product_sums(&transaction, until_us)?;
            transaction.commit()?;
            self.has_product_sums = !are_gone;
            return Ok(None);
        }
        self.seal(shard.connection(), &path, budget)
    }

    fn leave(
        &mut self,
        transaction: &Connection,
        _stream: &'static Stream,
        _counted: Option<Box<dyn Any + Send>>,
        others: &[PartitionInfo],
    ) -> Result<(), ShardError> {
        // Exact figures come from the rows, so those that were computed before are old.
        transaction.execute("UPDATE sales_version SET version = version + 1", [])?;
        let first_id = others.first().map_or(i64::MAX, |partition| partition.first_id);
        self.ids.forget_below(transaction, first_id)
    }

    fn free(
        &mut self,
        transaction: &Connection,
        partition: &str,
        until_us: u64,
    ) -> Result<Option<bool>, ShardError> {
        self.free_orders(transaction, partition, until_us).map(Some)
    }

    fn drop_tenant(
        &mut self,
        transaction: &Connection,
        slice: TenantSlice<'_>,
    ) -> Result<(usize, u64), ShardError> {
        self.drop_tenant_orders(transaction, slice)
    }

    fn tenants_dropped(&mut self) {
        self.unlisted = None;
    }

    /// Stops the build, because the entries that it has already read would restore erased rows. The customers of
    /// partitions without lists are read again.
    fn stop_building(&mut self) {
        self.unlisted = None;
        if self.building.take().is_some() {
            self.seal_due = true;
        }
        self.segments.stop();
    }
}

/// One decoded record.
#[derive(Clone, Copy)]
enum Row<'a> {
    Order(OrderRow<'a>),
    Status(StatusRow<'a>),
    Ingest(IngestRow<'a>),
    DroppedSum(DroppedSumRow<'a>),
}

/// A batch's decoded records, and the ids of its orders.
#[derive(Default)]
struct DecodedBatch<'a> {
    rows: Vec<(&'a [u8], Row<'a>)>,
    ids: BatchIds,
    /// The number of rows already returned.
    next: usize,
}

impl<'a> DecodedBatch<'a> {
    /// Adds a record if it belongs to this family and is valid.
    fn push(&mut self, keys: &KeyHasher, record: &Record<'a>) {
        let payload = record.payload;
        let row = match record.kind {
            ORDER => decode_order(payload).map(Row::Order),
            ORDER_STATUS => decode_status(payload).map(Row::Status),
            INGEST => decode_ingest(payload).map(Row::Ingest),
            SALES_DROPPED => decode_dropped_sum(payload).map(Row::DroppedSum),
            _ => None,
        };
        let Some(row) = row else { return };
        match row {
            Row::Order(order) => self.ids.push(keys.hash(order.tenant_id, order.order_id)),
            Row::Status(status) => self.ids.push(keys.hash(status.tenant_id, status.order_id)),
            Row::Ingest(_) | Row::DroppedSum(_) => {}
        }
        self.rows.push((payload, row));
    }

    /// Returns the record's row, if it has one. The caller requests the records in the order of the `push` calls.
    fn next(&mut self, payload: &[u8]) -> Option<Row<'a>> {
        let (bytes, row) = self.rows.get(self.next).copied()?;
        if !std::ptr::eq(bytes.as_ptr(), payload.as_ptr()) {
            return None;
        }
        self.next += 1;
        Some(row)
    }
}

/// The statements and the state of one batch.
struct Writer<'t> {
    connection: &'t Connection,
    keys: &'t KeyHasher,
    orders: &'t mut OrderStore,
    sought: DecodedBatch<'t>,
    insert_order: Option<CachedStatement<'t>>,
    insert_item: Option<CachedStatement<'t>>,
    name_statements: NameStatements<'t>,
    /// The current order's products, and the hashes of their names.
    products: Vec<Product>,
    product_hashes: Vec<u128>,
}

impl<'t> BatchWriter<'t> for Writer<'t> {
    fn write(
        &mut self,
        batch: &mut Batch<'t>,
        run: &[Record<'t>],
        outcomes: &mut Vec<Option<Outcome>>,
    ) -> Result<(), ShardError> {
        for record in run {
            let Some(row) = self.sought.next(record.payload) else {
                outcomes.push(None);
                continue;
            };
            let (outcome, received_us) = match row {
                Row::Order(order) => (self.order(batch, &order)?, Some(order.received_us)),
                Row::Status(status) => (self.status(batch, &status)?, Some(status.received_us)),
                Row::Ingest(ingest) => (self.ingest(batch, &ingest)?, Some(ingest.finished_us)),
                Row::DroppedSum(sum) => (self.dropped_sum(batch, &sum)?, None),
            };
            batch.received(received_us);
            batch.count_known(outcome);
            outcomes.push(Some(outcome));
        }
        Ok(())
    }

    /// Saves the ids and the sums.
    fn finish(self: Box<Self>, batch: &mut Batch<'t>) -> Result<(), ShardError> {
        let Writer { connection, orders, .. } = *self;
        if batch.applied.stored(&ORDERS) > 0 {
            orders.ids.save(connection)?;
        }
        orders.sums.save(connection, &batch.stream(&ORDERS).tables())
    }
}

/// The parts of a stored order that a repeated order or a status change requires.
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
    /// Returns the outcome of an order that the tenant already has. If the same line of the same ingest stored the
    /// row, the outcome is `Repeated`: the record was read again after a crash, or the client repeated the ingest.
    ///
    /// If the row is older than the lifetime of its ingest's key, the record belongs to another ingest, which reused
    /// the expired key. The order is then a duplicate, and the row remains unchanged.
    fn again(&self, order: &OrderRow<'_>) -> Outcome {
        let is_line = order.ingest != 0 && (self.ingest, self.line) == (order.ingest, order.line);
        let is_kept = order.received_us.saturating_sub(self.received_us) < INGEST_KEY_KEPT_US;
        if is_line && is_kept { Outcome::Repeated } else { Outcome::Duplicate }
    }
}

impl<'t> Writer<'t> {
    /// Looks up the ids of the whole batch, and opens the next partition if the open one is full.
    fn begin(
        orders: &'t mut OrderStore,
        batch: &mut Batch<'t>,
        mut sought: DecodedBatch<'t>,
    ) -> Result<Writer<'t>, ShardError> {
        let connection = batch.connection;
        let (mut insert_order, mut insert_item) = (None, None);
        if !sought.ids.is_empty() {
            sought.ids.look_up(&mut orders.ids, connection)?;
            let open = batch.stream(&ORDERS).partition(connection)?;
            insert_order = Some(connection.prepare_cached(&open.insert_sql)?);
            let items = items_of(&open.name);
            let sql = format!("INSERT INTO {items} ({ITEM_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)");
            insert_item = Some(connection.prepare_cached(&sql)?);
        }
        Ok(Writer {
            connection,
            keys: batch.keys,
            orders,
            sought,
            insert_order,
            insert_item,
            name_statements: NameStatements::new(connection),
            products: Vec::new(),
            product_hashes: Vec::new(),
        })
    }

    /// Returns the stored order with this id, if the tenant has one.
    fn find(
        &mut self,
        batch: &mut Batch<'t>,
        tenant: i64,
        order_id: &str,
    ) -> Result<(KeyHash, Option<Stored>), ShardError> {
        self.sought.ids.find(&self.orders.ids, |row_id| stored(batch, row_id, tenant, order_id))
    }

    fn order(&mut self, batch: &mut Batch<'t>, order: &OrderRow<'_>) -> Result<Outcome, ShardError> {
        let tenant = batch.tenants.number(self.connection, order.tenant_id)?;
        let content = self.keys.digest(order.content) as i64;
        let (hash, known) = self.find(batch, tenant, order.order_id)?;
        let keys = self.keys.of_tenant(order.tenant_id);
        let mut key = keys.hash_all([order.customer_id]);
        let forgotten = match batch.suppresses_anyone()? {
            true => suppressed::find(self.connection, key)?,
            false => None,
        };
        batch.applied.suppressed |= forgotten.is_some();
        let (mut order, mut pseudonym) = (*order, None);
        match forgotten {
            Some(Suppression { mode: ErasureMode::Erase, .. }) => return Ok(Outcome::Suppressed),
            Some(Suppression { token, .. }) => {
                // The contents are not compared, because the record and the stored order may name the person
                // differently.
                if let Some(known) = &known {
                    return Ok(known.again(&order));
                }
                key = keys.hash_all([&token]);
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
        let (names, statements) = (&mut self.orders.names, &mut self.name_statements);
        let customer_hash = Names::customer_hash(&keys, order);
        self.product_hashes.clear();
        let hashes = order.items().map(|item| Names::product_hash(&keys, &item));
        self.product_hashes.extend(hashes);
        names.touch(customer_hash, &self.product_hashes);
        let customer = names.customer(statements, (tenant, customer_key), order, customer_hash)?;
        if let Some(unlisted) = &mut self.orders.unlisted {
            unlisted.add(customer);
        }
        self.products.clear();
        for (item, hash) in order.items().zip(&self.product_hashes) {
            let of = (tenant, order.tenant_id);
            self.products.push(names.product(statements, self.keys, of, &item, *hash)?);
        }
        let (Some(open), Some(insert), Some(insert_item)) =
            (batch.stream(&ORDERS).open(), &mut self.insert_order, &mut self.insert_item)
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
        self.orders.staged_end_id = id + 1;
        open.count(order.ordered_at_us);
        batch.count(&ORDERS, 1);
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

    fn status(&mut self, batch: &mut Batch<'t>, status: &StatusRow<'_>) -> Result<Outcome, ShardError> {
        let tenant = batch.tenants.number(self.connection, status.tenant_id)?;
        let (_, known) = self.find(batch, tenant, status.order_id)?;
        let Some(known) = known else { return Ok(Outcome::Missing) };
        // If two changes have the same time, the change that arrives last wins.
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
        let code = status.status.code();
        self.orders.segments.status_changed(self.connection, known.id, code)?;
        append_change(
            self.connection,
            ChangeKind::Status,
            None,
            known.id,
            Some(i64::from(code)),
            status.received_us,
        )?;
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

    /// Adds a carried sum of dropped orders.
    fn dropped_sum(&mut self, batch: &mut Batch<'t>, sum: &DroppedSumRow<'_>) -> Result<Outcome, ShardError> {
        let DroppedSumRow { tenant_id, product_id, category, start_us, currency, .. } = *sum;
        let tenant = batch.tenants.number(self.connection, tenant_id)?;
        let names = &mut self.orders.names;
        let number = match sum.by {
            None => {
                let sql = "INSERT OR IGNORE INTO sales_gone (tenant, start_us) VALUES (?1, ?2)";
                self.connection.prepare_cached(sql)?.execute(params![tenant, start_us])?;
                return Ok(Outcome::Inserted);
            }
            Some(SumsBy::Hour | SumsBy::Day) => 0,
            Some(SumsBy::Category) => {
                names.category(self.connection, self.keys, tenant, tenant_id, category)?
            }
            Some(SumsBy::Product) => {
                let item = ItemRow { product_id, category, quantity: 0, unit_price: 0 };
                let hash = Names::product_hash(&self.keys.of_tenant(tenant_id), &item);
                names.product(&mut self.name_statements, self.keys, (tenant, tenant_id), &item, hash)?.id
            }
        };
        let by = sum.by.unwrap_or(SumsBy::Day);
        add_dropped(self.connection, sum, by, &(tenant, currency, start_us, number))?;
        self.orders.sums.touch(tenant);
        Ok(Outcome::Inserted)
    }

    /// Returns the time of the last status change applied to the order.
    fn last_status_us(&self, order: i64) -> Result<Option<i64>, ShardError> {
        let sql = "SELECT occurred_us FROM order_status_time WHERE id = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([order], |row| row.get(0)).optional()?)
    }

    fn set_last_status_us(&self, order: i64, occurred_us: i64) -> Result<(), ShardError> {
        let sql = "INSERT OR REPLACE INTO order_status_time (id, occurred_us) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute([order, occurred_us])?;
        Ok(())
    }

    fn ingest(&self, batch: &mut Batch<'t>, ingest: &IngestRow<'_>) -> Result<Outcome, ShardError> {
        let IngestRow { finished_us, expires_us, scope, key, fingerprint, response } = *ingest;
        // The response may list orders that were read before their customer was suppressed.
        let is_erasing = batch.suppresses_anyone()? && suppressed::is_erasing(self.connection, scope)?;
        let response = if is_erasing { &without_order_ids(response) } else { response };
        self.connection
            .prepare_cached(
                "INSERT INTO ingest_key (scope, key, fingerprint, response, finished_us, expires_us) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (scope, key) DO UPDATE SET \
                 fingerprint = excluded.fingerprint, response = excluded.response, \
                 finished_us = excluded.finished_us, expires_us = excluded.expires_us",
            )?
            .execute(params![scope, key, fingerprint, response, finished_us, expires_us])?;
        // Expired keys are deleted gradually, as new keys arrive.
        self.connection
            .prepare_cached(
                "DELETE FROM ingest_key WHERE (scope, key) IN \
                 (SELECT scope, key FROM ingest_key WHERE expires_us < ?1 ORDER BY expires_us LIMIT 2)",
            )?
            .execute([finished_us])?;
        Ok(Outcome::Inserted)
    }
}

/// Returns the row with this number if it holds the requested order.
fn stored(
    batch: &mut Batch<'_>,
    row_id: i64,
    tenant: i64,
    order_id: &str,
) -> Result<Option<Stored>, ShardError> {
    let connection = batch.connection;
    let Some(table) = batch.stream(&ORDERS).table_of(row_id) else { return Ok(None) };
    let mut statement = connection.prepare_cached(&format!(
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
