//! The levels that one batch reads and changes. Each is read once and written once, however many changes it has.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::convert;
use super::decide::Level;
use crate::shard::ShardError;

/// A product's level in a batch.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// `stock_level.id`, or `None` before the product's first event.
    pub(super) id: Option<i64>,
    pub(super) level: Level,
    /// The row id of the product's newest event in `stock_event`.
    pub(super) event: Option<i64>,
    /// When the level's last change was accepted, in microseconds since 1970.
    pub(super) updated_us: i64,
    /// Whether upkeep has yet to move events of the product. Its new events follow these.
    pub(super) is_earlier: bool,
    is_changed: bool,
}

/// The levels of a batch by tenant and product.
#[derive(Debug, Default)]
pub(super) struct Levels<'t> {
    places: HashMap<(i64, &'t str), usize>,
    known: Vec<Known>,
}

const FIND_SQL: &str = "SELECT id, quantity, version, newest_us, newest_event_id, event, updated_us FROM stock_level \
                        WHERE tenant = ?1 AND product_id = ?2";
const INSERT_SQL: &str = "INSERT INTO stock_level (tenant, product_id, quantity, version, newest_us, newest_event_id, \
                          updated_us, event) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const UPDATE_SQL: &str = "UPDATE stock_level SET quantity = ?2, version = ?3, newest_us = ?4, newest_event_id = ?5, \
                          updated_us = ?6, event = ?7 WHERE id = ?1";

impl<'t> Levels<'t> {
    /// Returns the place of a product's level, which it reads if the batch does not have it yet.
    pub(super) fn find(
        &mut self,
        connection: &Connection,
        tenant: i64,
        product_id: &'t str,
        is_converting: bool,
    ) -> Result<usize, ShardError> {
        if let Some(place) = self.places.get(&(tenant, product_id)) {
            return Ok(*place);
        }
        let read = |row: &rusqlite::Row<'_>| {
            let newest = Some((row.get(3)?, row.get(4)?));
            Ok(Known {
                id: Some(row.get(0)?),
                level: Level { quantity: row.get(1)?, version: row.get(2)?, newest },
                event: row.get(5)?,
                updated_us: row.get(6)?,
                ..Known::default()
            })
        };
        let mut statement = connection.prepare_cached(FIND_SQL)?;
        let mut known =
            statement.query_row(params![tenant, product_id], read).optional()?.unwrap_or_default();
        if let Some(product) = known.id.filter(|_| is_converting) {
            known.is_earlier = convert::has_events(connection, product)?;
        }
        let place = self.known.len();
        self.known.push(known);
        self.places.insert((tenant, product_id), place);
        Ok(place)
    }

    pub(super) fn at(&self, place: usize) -> &Known {
        &self.known[place]
    }

    /// Changes a level. The first level of a product is stored at once, because its events name its number. The others
    /// are stored by [`Levels::save`].
    pub(super) fn change(
        &mut self,
        connection: &Connection,
        (tenant, product_id): (i64, &str),
        place: usize,
        changed: (Level, i64, Option<i64>),
    ) -> Result<i64, ShardError> {
        let known = &mut self.known[place];
        (known.level, known.updated_us, known.event) = changed;
        if let Some(product) = known.id {
            known.is_changed = true;
            return Ok(product);
        }
        let (newest_us, newest_event_id) = newest(&known.level)?;
        let Level { quantity, version, .. } = known.level;
        let product = connection.prepare_cached(INSERT_SQL)?.insert(params![
            tenant,
            product_id,
            quantity,
            version,
            newest_us,
            newest_event_id,
            known.updated_us,
            known.event
        ])?;
        known.id = Some(product);
        Ok(product)
    }

    /// Stores the level of a product now, and reads it again when it is asked for.
    pub(super) fn release(
        &mut self,
        connection: &Connection,
        tenant: i64,
        product_id: &'t str,
    ) -> Result<(), ShardError> {
        let place = self.places.remove(&(tenant, product_id));
        place.map_or(Ok(()), |place| std::mem::take(&mut self.known[place]).save(connection))
    }

    /// Stores every changed level, in the order of their rows.
    pub(super) fn save(mut self, connection: &Connection) -> Result<(), ShardError> {
        self.known.retain(|known| known.is_changed);
        self.known.sort_unstable_by_key(|known| known.id);
        self.known.into_iter().try_for_each(|known| known.save(connection))
    }
}

impl Known {
    fn save(self, connection: &Connection) -> Result<(), ShardError> {
        if !self.is_changed {
            return Ok(());
        }
        let (newest_us, newest_event_id) = newest(&self.level)?;
        let Level { quantity, version, .. } = self.level;
        let values =
            params![self.id, quantity, version, newest_us, newest_event_id, self.updated_us, self.event];
        connection.prepare_cached(UPDATE_SQL)?.execute(values)?;
        Ok(())
    }
}

fn newest(level: &Level) -> Result<(i64, &str), ShardError> {
    let newest = level.newest.as_ref().map(|(occurred_us, event_id)| (*occurred_us, event_id.as_str()));
    newest.ok_or_else(|| ShardError::Other("a change without an event".to_owned()))
}
