//! The rows of a person, stream by stream: each function is one slice of its step, and says whether the step is
//! done. Counters, buckets and sums change in the same transaction (R3).

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::super::buckets::Buckets;
use super::super::error::ShardError;
use super::super::file::Shard;
use super::super::inspect::{PartitionInfo, partitions_of};
use super::super::orders::{Becomes, customers_of, orders_of};
use super::super::service_event::ServiceEventRow;
use super::super::stream::Stream;
use super::forgotten;
use super::record::{ErasureMode, Subject};
use super::work::Erasing;
use crate::base::clock;

/// Orders of one transaction: each may have the sketches of an hour, a day and some categories made anew.
const ORDERS_PER_SLICE: usize = 16;
/// Rows of customers, rejected records or answers of one transaction.
const ROWS_PER_SLICE: i64 = 64;
/// Rows that are looked through between two looks at the clock.
const LOOK_ROWS: i64 = 250;
/// Pages that one step of merging words writes: 250 KB.
const MERGE_PAGES: i64 = 64;
/// In the index of words, lines from here on name deleted entries.
const WORDS_DELETED_FROM: i64 = 1 << 53;

impl Erasing {
    /// Tenant and the ids under which the person may have orders.
    fn customer(&self) -> Option<(&str, Vec<&str>)> {
        let Subject::Customer { tenant_id, customer_id, token, .. } = &self.subject else { return None };
        let mut ids = vec![customer_id.as_str()];
        if self.mode == ErasureMode::Erase {
            ids.push(token);
        }
        Some((tenant_id, ids))
    }

    /// The next partition to work on, from where the last slice was.
    fn partition(&mut self, partitions: Vec<PartitionInfo>) -> Option<PartitionInfo> {
        if self.place.is_empty() {
            let first = partitions.into_iter().next()?;
            (self.place, self.at) = (first.name.clone(), first.first_id - 1);
            return Some(first);
        }
        let number = |name: &str| name.rsplit('_').next().and_then(|digits| digits.parse::<u64>().ok());
        let reached = number(&self.place);
        // Retention may have dropped it.
        let found = partitions.into_iter().find(|partition| number(&partition.name) >= reached)?;
        if found.name != self.place {
            self.begin(&found);
        }
        Some(found)
    }

    fn begin(&mut self, partition: &PartitionInfo) {
        (self.place, self.at, self.orders) = (partition.name.clone(), partition.first_id - 1, None);
    }

    /// On to the partition behind this one; whether there is none.
    fn next_partition(&mut self, partitions: Vec<PartitionInfo>) -> bool {
        let behind = partitions.into_iter().skip_while(|partition| partition.name != self.place).nth(1);
        match behind {
            Some(next) => {
                self.begin(&next);
                false
            }
            None => true,
        }
    }
}

impl Shard {
    /// Orders of the customer, with their items: gone, or the token's.
    pub(super) fn erase_orders(&mut self, erasing: &mut Erasing, until_us: u64) -> Result<bool, ShardError> {
        let partitions = partitions_of(&self.connection, Stream::Order)?;
        let Some(partition) = erasing.partition(partitions.clone()) else { return Ok(true) };
        let table = partition.name.clone();
        let becomes = match (&erasing.subject, erasing.mode) {
            (Subject::Customer { tenant_id, token, .. }, ErasureMode::Pseudonymise) => {
                Becomes::Of { customer_key: self.keys.hash(tenant_id, token).0 as i64 }
            }
            _ => Becomes::Nothing,
        };
        let mut left = match erasing.orders.take() {
            Some(left) => left,
            None => {
                let mut found = Vec::new();
                for (tenant, customers) in self.customers_of(erasing)? {
                    found.extend(orders_of(&self.connection, &table, partition.indexed, tenant, &customers)?);
                }
                found
            }
        };
        while !left.is_empty() {
            let now = left.split_off(left.len().saturating_sub(ORDERS_PER_SLICE));
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let before = erasing.report;
            let changed = self
                .orders
                .change(&transaction, &table, partition.indexed, &now, becomes)
                .and_then(|touched| {
                    erasing.report.orders += touched.orders;
                    erasing.report.items += touched.items;
                    erasing.report.index_entries += touched.index_entries;
                    let gone = if becomes == Becomes::Nothing { touched.orders } else { 0 };
                    let left = count_gone(&transaction, Stream::Order, &table, gone, touched.times)?;
                    erasing.save(&transaction)?;
                    transaction.commit()?;
                    Ok((gone, left))
                });
            match changed {
                Ok((gone, times)) => {
                    self.orders.committed();
                    self.order_count -= gone;
                    if let Some(open) =
                        self.orders.open.as_mut().filter(|open| gone > 0 && open.name == table)
                    {
                        open.erased(gone, times);
                    }
                }
                Err(error) => {
                    self.orders.rolled_back();
                    erasing.report = before;
                    return Err(error);
                }
            }
            if clock::monotonic_us() >= until_us {
                erasing.orders = Some(left);
                return Ok(false);
            }
        }
        Ok(erasing.next_partition(partitions))
    }

    /// Tenant and numbers of the customer, for each id that is meant.
    fn customers_of(&self, erasing: &Erasing) -> Result<Vec<(i64, Vec<i64>)>, ShardError> {
        let Some((tenant_id, ids)) = erasing.customer() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for id in ids {
            let key = self.keys.hash(tenant_id, id).0 as i64;
            found.extend(customers_of(&self.connection, tenant_id, (id, key))?);
        }
        Ok(found)
    }

    /// Names and addresses, and their entries in the index of words. No order has them any more, or they are the
    /// token's from now on.
    pub(super) fn erase_customers(
        &mut self,
        erasing: &mut Erasing,
        until_us: u64,
    ) -> Result<bool, ShardError> {
        let Subject::Customer { tenant_id, token, .. } = &erasing.subject else { return Ok(true) };
        let token_key = self.keys.hash(tenant_id, token).0 as i64;
        let customers: Vec<i64> = self.customers_of(erasing)?.into_iter().flat_map(|(_, ids)| ids).collect();
        for now in customers.chunks(ROWS_PER_SLICE as usize) {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for customer in now {
                erasing.report.words += transaction
                    .prepare_cached("DELETE FROM customer_text WHERE rowid = ?1")?
                    .execute([customer])? as u64;
                erasing.report.customers += match erasing.mode {
                    ErasureMode::Erase => transaction
                        .prepare_cached("DELETE FROM customer_row WHERE id = ?1")?
                        .execute([customer])?,
                    ErasureMode::Pseudonymise => transaction
                        .prepare_cached(
                            "UPDATE customer_row SET customer_id = ?2, name = '', email = '', key = ?3 WHERE id = ?1",
                        )?
                        .execute(params![customer, token, token_key])?,
                } as u64;
            }
            erasing.save(&transaction)?;
            transaction.commit()?;
            if now.len() < customers.len() && clock::monotonic_us() >= until_us {
                return Ok(false);
            }
        }
        // Nothing of before is taken for what has their numbers next.
        self.orders.forget_names();
        Ok(true)
    }

    /// Deleted entries stay in the segments of the index until those are merged with others: all of them are, a few
    /// pages at a time.
    pub(super) fn merge_words(&mut self, erasing: &mut Erasing) -> Result<bool, ShardError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let has_deleted: bool = transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM customer_text_data WHERE id >= ?1)",
            [WORDS_DELETED_FROM],
            |row| row.get(0),
        )?;
        if !has_deleted {
            return Ok(true);
        }
        let merge = |pages: i64| -> Result<bool, ShardError> {
            let before = transaction.total_changes();
            transaction
                .prepare_cached("INSERT INTO customer_text (customer_text, rank) VALUES ('merge', ?1)")?
                .execute([pages])?;
            // Every such statement counts as one change.
            Ok(transaction.total_changes() - before > 1)
        };
        // A negative number takes all segments in; a positive one goes on with what was begun.
        let was_going_on = erasing.is_merging && merge(MERGE_PAGES)?;
        let goes_on = was_going_on || merge(-MERGE_PAGES)?;
        erasing.is_merging = true;
        if !goes_on {
            // Nothing is merged any more and deleted entries are left: at once, then.
            transaction.execute("INSERT INTO customer_text (customer_text) VALUES ('optimize')", [])?;
        }
        transaction.commit()?;
        Ok(!goes_on)
    }

    /// Service events of the tenant that speak of the customer.
    pub(super) fn erase_events(&mut self, erasing: &mut Erasing, until_us: u64) -> Result<bool, ShardError> {
        let partitions = partitions_of(&self.connection, Stream::ServiceEvent)?;
        let Some(partition) = erasing.partition(partitions.clone()) else { return Ok(true) };
        let Subject::Customer { tenant_id, token, .. } = &erasing.subject else { return Ok(true) };
        let (tenant_id, token) = (tenant_id.clone(), token.clone());
        let end: Option<i64> = max_id(&self.connection, &partition.name)?;
        let Some(end) = end else { return Ok(erasing.next_partition(partitions)) };
        while erasing.at < end {
            let upto = erasing.at.saturating_add(LOOK_ROWS);
            let found = speaking(
                &self.connection,
                &partition.name,
                (erasing.at, upto),
                &tenant_id,
                &erasing.needles,
            )?;
            erasing.at = upto;
            if !found.is_empty() {
                self.change_events(erasing, &partition.name, &tenant_id, &token, &found)?;
            }
            if clock::monotonic_us() >= until_us {
                return Ok(false);
            }
        }
        Ok(erasing.next_partition(partitions))
    }

    fn change_events(
        &mut self,
        erasing: &mut Erasing,
        table: &str,
        tenant_id: &str,
        token: &str,
        found: &[Speaking],
    ) -> Result<(), ShardError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut buckets = Buckets::default();
        let (mut gone, mut times) = (0, None::<(i64, i64)>);
        for event in found {
            erasing.report.events += 1;
            if erasing.mode == ErasureMode::Pseudonymise && !event.is_named {
                let payload = erasing.needles.replaced(&event.payload, token);
                let sql = format!("UPDATE {table} SET payload = ?2 WHERE id = ?1");
                transaction.prepare_cached(&sql)?.execute(params![event.id, payload])?;
                continue;
            }
            transaction.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([event.id])?;
            let key = forgotten::bytes(self.keys.hash(tenant_id, &event.event_id));
            forgotten::add_event(&transaction, key)?;
            buckets.count(&event.row(tenant_id));
            let at = event.timestamp_us;
            times = Some(times.map_or((at, at), |(low, high)| (low.min(at), high.max(at))));
            gone += 1;
            erasing.report.index_entries += 1;
        }
        if gone > 0 && !self.options.without_buckets {
            let others = partitions_of(&transaction, Stream::ServiceEvent)?;
            buckets.subtract(&transaction, &others)?;
        }
        let left = count_gone(&transaction, Stream::ServiceEvent, table, gone, times)?;
        erasing.save(&transaction)?;
        transaction.commit()?;
        self.service_events -= gone;
        if let Some(open) = self.event.as_mut().filter(|open| gone > 0 && open.name == table) {
            open.erased(gone, left);
        }
        Ok(())
    }

    /// Clicks of a user, from the index by user where the partition has one.
    pub(super) fn erase_clicks(&mut self, erasing: &mut Erasing, until_us: u64) -> Result<bool, ShardError> {
        let Subject::User { user_id } = erasing.subject else { return Ok(true) };
        // What was sorted of the rows for an index would bring them back.
        if let Some(build) = self.stop_sealing() {
            self.connection.execute_batch(&format!("DROP TABLE IF EXISTS {build}"))?;
        }
        let partitions = partitions_of(&self.connection, Stream::Click)?;
        let Some(partition) = erasing.partition(partitions.clone()) else { return Ok(true) };
        let table = partition.name.clone();
        let Some(end) = max_id(&self.connection, &table)? else {
            return Ok(erasing.next_partition(partitions));
        };
        if partition.sealed {
            // Of a build that a crash cut off.
            self.connection.execute_batch(&format!("DROP TABLE IF EXISTS {table}_user_build"))?;
        }
        let is_listed = partition.sealed && partition.indexed;
        while erasing.at < end {
            let (sql, upto) = if is_listed {
                let by_user = "WHERE user_id = ?1 AND id > ?2 AND id <= ?3 LIMIT 250";
                (format!("SELECT id, timestamp_us FROM {table} INDEXED BY {table}_user {by_user}"), end)
            } else {
                let part = "WHERE user_id = ?1 AND id > ?2 AND id <= ?3";
                (
                    format!("SELECT id, timestamp_us FROM {table} NOT INDEXED {part}"),
                    erasing.at + LOOK_ROWS * 8,
                )
            };
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let found: Vec<(i64, i64)> = self
                .connection
                .prepare_cached(&sql)?
                .query_map([user_id, erasing.at, upto], read)?
                .collect::<Result<_, _>>()?;
            // Of a list, so many at a time until none is left.
            if !is_listed || found.is_empty() {
                erasing.at = upto;
            }
            if !found.is_empty() {
                self.drop_clicks(erasing, &table, is_listed, &found)?;
            }
            if clock::monotonic_us() >= until_us {
                return Ok(false);
            }
        }
        Ok(erasing.next_partition(partitions))
    }

    fn drop_clicks(
        &mut self,
        erasing: &mut Erasing,
        table: &str,
        is_listed: bool,
        found: &[(i64, i64)],
    ) -> Result<(), ShardError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut times = None::<(i64, i64)>;
        for (id, at) in found {
            transaction.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?.execute([id])?;
            times = Some(times.map_or((*at, *at), |(low, high)| (low.min(*at), high.max(*at))));
        }
        let gone = found.len() as u64;
        erasing.report.clicks += gone;
        erasing.report.index_entries += if is_listed { 2 * gone } else { gone };
        let left = count_gone(&transaction, Stream::Click, table, gone, times)?;
        erasing.save(&transaction)?;
        transaction.commit()?;
        self.rows -= gone;
        if self.click.name == table {
            self.click.erased(gone, left);
        }
        Ok(())
    }

    /// Records that were no rows, and of which nothing is known but their bytes.
    pub(super) fn erase_rejected(
        &mut self,
        erasing: &mut Erasing,
        until_us: u64,
    ) -> Result<bool, ShardError> {
        loop {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut gone = Vec::new();
            let mut last = None;
            {
                let mut statement = transaction.prepare_cached(
                    "SELECT rowid, payload FROM rejected_record WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
                )?;
                let mut rows = statement.query([erasing.at, ROWS_PER_SLICE])?;
                while let Some(row) = rows.next()? {
                    let rowid: i64 = row.get(0)?;
                    last = Some(rowid);
                    let payload = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                    if may_be_in(erasing, payload) {
                        gone.push(rowid);
                    }
                }
            }
            let Some(last) = last else { return Ok(true) };
            for rowid in &gone {
                transaction
                    .prepare_cached("DELETE FROM rejected_record WHERE rowid = ?1")?
                    .execute([rowid])?;
            }
            transaction.execute(
                "UPDATE total SET value = value - ?1 WHERE name = 'rejected_records'",
                [gone.len() as i64],
            )?;
            erasing.at = last;
            erasing.report.rejected_records += gone.len() as u64;
            erasing.save(&transaction)?;
            transaction.commit()?;
            self.rejected -= gone.len() as u64;
            if clock::monotonic_us() >= until_us {
                return Ok(false);
            }
        }
    }

    /// Kept answers of ingests lose the order ids in their errors; the lines tell as much. Keys that name the person
    /// are forgotten.
    pub(super) fn erase_answers(&mut self, erasing: &mut Erasing, until_us: u64) -> Result<bool, ShardError> {
        let Subject::Customer { tenant_id, .. } = &erasing.subject else { return Ok(true) };
        let tenant_id = tenant_id.clone();
        loop {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answers: Vec<(String, String, String)> = transaction
                .prepare_cached(
                    "SELECT scope, key, response FROM ingest_key WHERE scope IN (?1, '*') \
                     AND instr(response, '\"order_id\"') > 0 LIMIT ?2",
                )?
                .query_map(params![tenant_id, ROWS_PER_SLICE], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?
                .collect::<Result<_, _>>()?;
            if answers.is_empty() {
                let named: Vec<(String, String)> = transaction
                    .prepare_cached("SELECT scope, key FROM ingest_key WHERE scope IN (?1, '*')")?
                    .query_map([&tenant_id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?
                    .filter(|row| row.as_ref().map_or(true, |(_, key)| erasing.needles.are_in_name(key)))
                    .collect::<Result<_, _>>()?;
                for (scope, key) in &named {
                    transaction
                        .execute("DELETE FROM ingest_key WHERE scope = ?1 AND key = ?2", [scope, key])?;
                }
                erasing.report.ingest_answers += named.len() as u64;
                erasing.save(&transaction)?;
                transaction.commit()?;
                return Ok(true);
            }
            for (scope, key, response) in &answers {
                transaction
                    .prepare_cached("UPDATE ingest_key SET response = ?3 WHERE scope = ?1 AND key = ?2")?
                    .execute(params![scope, key, without_order_ids(response)])?;
            }
            erasing.report.ingest_answers += answers.len() as u64;
            erasing.save(&transaction)?;
            transaction.commit()?;
            if clock::monotonic_us() >= until_us {
                return Ok(false);
            }
        }
    }
}

fn may_be_in(erasing: &Erasing, payload: &[u8]) -> bool {
    match erasing.subject {
        Subject::User { user_id } => memchr::memmem::find(payload, &user_id.to_le_bytes()).is_some(),
        Subject::Customer { .. } => erasing.needles.may_be_in(payload),
    }
}

/// An answer that makes no sense loses everything.
fn without_order_ids(response: &str) -> String {
    let Ok(mut answer) = serde_json::from_str::<serde_json::Value>(response) else { return "{}".to_owned() };
    if let Some(errors) = answer.get_mut("errors").and_then(serde_json::Value::as_array_mut) {
        for error in errors.iter_mut().filter_map(serde_json::Value::as_object_mut) {
            error.remove("order_id");
        }
    }
    let text = answer.to_string();
    // Elsewhere there is none.
    if text.contains("\"order_id\"") { "{}".to_owned() } else { text }
}

/// An event that speaks of the person.
struct Speaking {
    id: i64,
    event_id: String,
    source: String,
    event_type: String,
    timestamp_us: i64,
    payload: String,
    /// In what an event is known by, which nothing can take the place of.
    is_named: bool,
}

impl Speaking {
    fn row<'a>(&'a self, tenant_id: &'a str) -> ServiceEventRow<'a> {
        ServiceEventRow {
            timestamp_us: self.timestamp_us,
            received_us: 0,
            tenant_id,
            event_id: &self.event_id,
            source: &self.source,
            event_type: &self.event_type,
            payload: "",
        }
    }
}

/// The tenant's events with ids in this stretch that speak of the person.
fn speaking(
    connection: &Connection,
    table: &str,
    (after, upto): (i64, i64),
    tenant_id: &str,
    needles: &super::Needles,
) -> Result<Vec<Speaking>, ShardError> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, event_id, source, event_type, timestamp_us, payload FROM {table} NOT INDEXED \
         WHERE id > ?1 AND id <= ?2 AND tenant_id = ?3"
    ))?;
    let mut rows = statement.query(params![after, upto, tenant_id])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
        let mut is_named = false;
        for at in 1..4 {
            is_named |= needles.are_in_name(text(at)?);
        }
        if is_named || needles.are_in(text(5)?.as_bytes()) {
            found.push(Speaking {
                id: row.get(0)?,
                event_id: row.get(1)?,
                source: row.get(2)?,
                event_type: row.get(3)?,
                timestamp_us: row.get(4)?,
                payload: row.get(5)?,
                is_named,
            });
        }
    }
    Ok(found)
}

fn max_id(connection: &Connection, table: &str) -> Result<Option<i64>, ShardError> {
    Ok(connection.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0))?)
}

/// Takes rows that went out of the counters of their partition and stream. Earliest and latest time of those that
/// are left are looked for where one of them went: in an index of clicks, otherwise in the whole partition (10 ms a
/// hundred thousand rows). They are returned.
fn count_gone(
    transaction: &Transaction<'_>,
    stream: Stream,
    table: &str,
    gone: u64,
    times: Option<(i64, i64)>,
) -> Result<Option<(i64, i64)>, ShardError> {
    let sql = "SELECT timestamp_us_min, timestamp_us_max FROM partition WHERE name = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?));
    let known = transaction.query_row(sql, [table], read).optional()?;
    let known = known.and_then(|(low, high)| low.zip(high));
    let Some((low, high)) = times.filter(|_| gone > 0) else { return Ok(known) };
    let mut left = known;
    if known.is_none_or(|(first, last)| low <= first || high >= last) {
        let time = stream.time_column();
        let sql = format!("SELECT (SELECT min({time}) FROM {table}), (SELECT max({time}) FROM {table})");
        left = transaction.query_row(&sql, [], read).map(|(low, high)| low.zip(high))?;
    }
    let (min, max) = left.unzip();
    transaction
        .prepare_cached(
            "UPDATE partition SET rows = rows - ?2, erased = erased + ?2, timestamp_us_min = ?3, \
             timestamp_us_max = ?4 WHERE name = ?1",
        )?
        .execute(params![table, gone as i64, min, max])?;
    transaction
        .prepare_cached("UPDATE total SET value = value - ?2 WHERE name = ?1")?
        .execute(params![stream.total(), gone as i64])?;
    Ok(left)
}
