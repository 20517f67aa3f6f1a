//! Compares the levels with a recount from the events.

use std::path::Path;

use rusqlite::Connection;

use super::decide::{Level, next};
use super::dropped::base;
use super::history::{Order, changes};
use crate::shard::{Problems, ShardError, Verified, with_snapshot};

/// Replays every product's events, change by change as they arrived, and compares the results. Every version must
/// occur once, every change must result in the stock that it recorded, and the level must equal the result of the
/// last change. Each event must be stored once, and name the one before it. Sorts all events in temporary files, which
/// takes a few seconds per million.
pub fn verify_stock(path: &Path) -> Result<Verified, ShardError> {
    with_snapshot(path, recount)
}

pub(crate) fn recount(snapshot: &Connection) -> Result<Verified, ShardError> {
    let mut found = Problems::default();
    let (mut events, mut level) = (0, Level::default());
    let mut product = None;
    changes::<ShardError>(snapshot, Order::Product, &mut |change| {
        if product != Some(change.product) {
            if let Some(before) = product.replace(change.product) {
                compare(snapshot, before, &level, &mut found)?;
            }
            level = base(snapshot, change.product)?.unwrap_or_default();
        }
        let of_change = change.events();
        events += of_change.len() as u64;
        let name = || format!("product {} at version {}", change.product, change.version);
        if change.version != level.version + 1 {
            found.report(|| format!("{}: the version before is {}", name(), level.version));
            level.version = change.version - 1;
        }
        match next(&level, change.mode, level.version, &of_change) {
            Ok((next, _)) => {
                if Some(next.quantity) != change.stock {
                    let (comes_to, said) = (next.quantity, change.stock);
                    found.report(|| {
                        format!("{}: adds up to {comes_to}, but the events record {said:?}", name())
                    });
                }
                level = next;
            }
            Err(code) => {
                found.report(|| format!("{}: it could not be applied: {}", name(), code.as_str()));
                level.version = change.version;
            }
        }
        Ok(())
    })?;
    if let Some(last) = product {
        compare(snapshot, last, &level, &mut found)?;
    }
    for (what, sql) in [
        (
            "products have a level and no event that it results from",
            "SELECT count(*) FROM stock_level l WHERE l.id NOT IN (SELECT product FROM stock_event_all) \
             AND NOT EXISTS (SELECT 1 FROM stock_base b \
             WHERE b.product = l.id AND (b.quantity, b.version, b.newest_us, b.newest_event_id) = \
             (l.quantity, l.version, l.newest_us, l.newest_event_id))",
        ),
        (
            "dropped stock events without a product",
            "SELECT (SELECT count(*) FROM stock_dropped d WHERE NOT EXISTS \
             (SELECT 1 FROM stock_base b WHERE b.product = d.product AND d.version <= b.version)) + \
             (SELECT count(*) FROM stock_base b WHERE NOT EXISTS (SELECT 1 FROM stock_level l \
             WHERE l.id = b.product AND b.version <= l.version))",
        ),
        (
            "stock events without a product",
            "SELECT count(*) FROM stock_event_all e WHERE NOT EXISTS (SELECT 1 FROM stock_level l \
             JOIN tenant_row t ON t.id = l.tenant WHERE l.id = e.product)",
        ),
        (
            "ids of stock events are stored more than once",
            "SELECT count(*) FROM (SELECT 1 FROM stock_event_all GROUP BY product, event_id HAVING count(*) > 1)",
        ),
        (
            "stock events do not follow the event before them",
            "SELECT count(*) FROM (SELECT previous, version, lag(id) OVER history AS before, \
             lag(version) OVER history AS version_before FROM stock_event \
             WINDOW history AS (PARTITION BY product ORDER BY id)) \
             WHERE version < version_before OR previous IS NOT before AND \
             (before IS NOT NULL OR previous IN (SELECT id FROM stock_event))",
        ),
        (
            "levels do not name the newest event of their product",
            "SELECT count(*) FROM stock_level l JOIN \
             (SELECT product, max(id) AS newest FROM stock_event GROUP BY product) e ON e.product = l.id \
             WHERE l.event IS NOT e.newest",
        ),
    ] {
        let count: i64 = snapshot.query_row(sql, [], |row| row.get(0))?;
        if count > 0 {
            found.report(|| format!("{count} {what}"));
        }
    }
    Ok(Verified { rows: events, problems: found.done(|count| format!("{count} stock problems in total")) })
}

fn compare(
    connection: &Connection,
    product: i64,
    counted: &Level,
    found: &mut Problems,
) -> Result<(), ShardError> {
    let sql = "SELECT quantity, version, newest_us, newest_event_id FROM stock_level WHERE id = ?1";
    let stored = connection.prepare_cached(sql)?.query_row([product], |row| {
        Ok(Level { quantity: row.get(0)?, version: row.get(1)?, newest: Some((row.get(2)?, row.get(3)?)) })
    })?;
    if stored != *counted {
        found.report(|| {
            format!(
                "product {product}: its level is {} at version {}, but its events add up to {} at version \
                 {}",
                stored.quantity, stored.version, counted.quantity, counted.version
            )
        });
    }
    Ok(())
}
