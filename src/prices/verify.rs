//! Compares price events, prices, anomalies and changes with each other.

use rusqlite::Connection;

use crate::shard::ShardError;

/// The problems that may exist, each with the SQL that counts the affected rows.
const CHECKS: &[(&str, &str)] = &[
    (
        "price events without their price",
        "SELECT count(*) FROM price_event e WHERE NOT EXISTS (SELECT 1 FROM price_row p WHERE p.tenant = e.tenant \
         AND p.product_id = e.product_id AND p.observed_at_us = e.observed_at_us AND p.event_id = e.event_id \
         AND p.price = e.price AND p.currency = e.currency)",
    ),
    (
        "anomalies without an event",
        "SELECT count(*) FROM price_anomaly a WHERE NOT EXISTS (SELECT 1 FROM price_event e WHERE \
         e.tenant = a.tenant AND e.product_id = a.product_id AND e.event_id = a.event_id AND e.anomaly = a.id)",
    ),
    (
        "prices that are accepted although their anomaly was not approved, or not accepted without an \
         anomaly",
        "SELECT count(*) FROM price_row p LEFT JOIN price_event e ON e.tenant = p.tenant \
         AND e.product_id = p.product_id AND e.event_id = p.event_id AND e.observed_at_us = p.observed_at_us \
         LEFT JOIN price_anomaly a ON a.id = e.anomaly WHERE p.accepted <> coalesce(a.status = 'approved', 1)",
    ),
    (
        "anomalies without exactly one change, or reviewed anomalies without exactly one more",
        "SELECT count(*) FROM (SELECT a.id FROM price_anomaly a LEFT JOIN price_change c ON c.anomaly = a.id \
         GROUP BY a.id HAVING coalesce(sum(c.kind = 'anomaly'), 0) <> 1 \
         OR coalesce(sum(c.kind = 'review'), 0) <> (a.status <> 'open') OR coalesce(sum(c.tenant <> a.tenant), 1))",
    ),
    (
        "changes of an anomaly that does not exist",
        "SELECT count(*) FROM price_change c WHERE NOT EXISTS (SELECT 1 FROM price_anomaly a WHERE a.id = c.anomaly)",
    ),
];

/// Scans the rows and looks up their related rows. This takes some seconds per million price events.
pub(super) fn verify(connection: &Connection, problems: &mut Vec<String>) -> Result<(), ShardError> {
    for (what, sql) in CHECKS {
        let found: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        if found > 0 {
            problems.push(format!("{found} {what}"));
        }
    }
    Ok(())
}
