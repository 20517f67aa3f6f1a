//! Reads a person's rows: orders with their items, customers, events, rejected records, responses of ingests.

use rusqlite::Connection;
use serde_json::json;

use super::super::rows::{Walk, matching_answers, matching_events, matching_rejected, max_id};
use super::page::Page;
use super::reader::{RowReader, Sought, WITHHELD};
use super::record::{event_json, json_or_text, record_json};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::events::EVENTS;
use crate::orders::{customers_of, held_customer, held_order};
use crate::shard::{ShardError, partitions_of};

/// The number of events searched between two checks of the page. Each may have 64 KiB, in every shard at once.
const EVENTS_MAX: i64 = 16;
/// The number of rejected records searched between two checks of the page. Each may have megabytes.
const REJECTED_MAX: i64 = 2;

/// Reads the orders, with their items and the time of their last status change.
#[derive(Default)]
pub(in super::super) struct OrderReader {
    at: usize,
}

impl RowReader for OrderReader {
    fn step(
        &mut self,
        connection: &Connection,
        shard: ShardId,
        sought: &Sought,
        page: &mut Page,
    ) -> Result<bool, ShardError> {
        let orders = sought.orders.get(usize::from(shard.0)).map_or(&[][..], Vec::as_slice);
        while let Some((order, _)) = orders.get(self.at) {
            // An order that retention or an erasure has removed in the meantime is held no longer.
            if let Some(held) = held_order(connection, shard, sought.tenant_id(), *order)? {
                page.line("orders", Some(shard), &held.line);
                page.count("items", held.items);
            }
            self.at += 1;
            if page.is_full() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads the combinations of name and address. There are few.
pub(in super::super) struct CustomerReader;

impl RowReader for CustomerReader {
    fn step(
        &mut self,
        connection: &Connection,
        shard: ShardId,
        sought: &Sought,
        page: &mut Page,
    ) -> Result<bool, ShardError> {
        let key = sought.keys.hash(sought.tenant_id(), sought.customer_id()).0 as i64;
        let found = customers_of(connection, sought.tenant_id(), (sought.customer_id(), key))?;
        for customer in found.map(|(_, customers)| customers).unwrap_or_default() {
            let Some([customer_id, name, email]) = held_customer(connection, customer)? else { continue };
            let line = json!({"customer_id": customer_id, "customer_name": name, "customer_email": email});
            page.value("customers", Some(shard), &line);
        }
        Ok(true)
    }
}

/// Reads the service events that refer to the person. Searches all events of the tenant.
#[derive(Default)]
pub(in super::super) struct EventReader {
    walk: Walk,
}

impl RowReader for EventReader {
    fn step(
        &mut self,
        connection: &Connection,
        shard: ShardId,
        sought: &Sought,
        page: &mut Page,
    ) -> Result<bool, ShardError> {
        let partitions = partitions_of(connection, &EVENTS)?;
        while let Some(partition) = self.walk.partition(&partitions) {
            let end = max_id(connection, &partition.name)?.unwrap_or(self.walk.at);
            while self.walk.at < end {
                let bounds = (self.walk.at, self.walk.at.saturating_add(EVENTS_MAX));
                let matcher = &sought.people.matcher;
                for event in
                    matching_events(connection, &partition.name, bounds, sought.tenant_id(), matcher)?
                {
                    page.line("events", Some(shard), &event_json(&event.row(sought.tenant_id())));
                }
                self.walk.at = bounds.1;
                if page.is_full() {
                    return Ok(false);
                }
            }
            if self.walk.next_partition(&partitions) {
                break;
            }
        }
        Ok(true)
    }
}

/// Reads the rejected records that may contain the person.
#[derive(Default)]
pub(in super::super) struct RejectedReader {
    at: i64,
}

impl RowReader for RejectedReader {
    fn step(
        &mut self,
        connection: &Connection,
        shard: ShardId,
        sought: &Sought,
        page: &mut Page,
    ) -> Result<bool, ShardError> {
        loop {
            let who_may = |bytes: &[u8]| sought.people.matcher.who_may(bytes);
            let (found, last) = matching_rejected(connection, (self.at, REJECTED_MAX), &who_may)?;
            let Some(last) = last else { return Ok(true) };
            self.at = last;
            for record in found {
                let mut line = record_json(sought, record.kind as u8, &record.payload, &record.reason);
                line["match"] = json!("possible");
                line["lane"] = json!(record.lane);
                line["sequence"] = json!(record.sequence);
                page.value("rejected_records", Some(shard), &line);
            }
            if page.is_full() {
                return Ok(false);
            }
        }
    }
}

/// Reads the stored responses of ingests whose errors contain order ids, or whose keys refer to the person.
#[derive(Default)]
pub(in super::super) struct AnswerReader {
    after: Option<(String, String)>,
}

impl RowReader for AnswerReader {
    fn step(
        &mut self,
        connection: &Connection,
        shard: ShardId,
        sought: &Sought,
        page: &mut Page,
    ) -> Result<bool, ShardError> {
        loop {
            let (found, last) = matching_answers(
                connection,
                sought.tenant_id(),
                self.after.as_ref(),
                &sought.people.matcher,
            )?;
            let Some(last) = last else { return Ok(true) };
            self.after = Some(last);
            for answer in found {
                let certainty = if answer.named.is_empty() { "possible" } else { "certain" };
                let mut line = json!({"match": certainty, "finished_at": clock::rfc3339(answer.finished_us)});
                // A key for all tenants may have sent orders of any.
                if sought.may_show(Some(answer.scope.as_str()).filter(|scope| *scope != "*")) {
                    line["idempotency_key"] = json!(answer.key);
                    line["response"] = json_or_text(&answer.response);
                } else {
                    line["withheld"] = json!(WITHHELD);
                }
                page.value("ingest_answers", Some(shard), &line);
            }
            if page.is_full() {
                return Ok(false);
            }
        }
    }
}
