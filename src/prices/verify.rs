//! Compares prices, their order by time, anomalies and changes with each other.

use rusqlite::Connection;

use super::convert::EARLIER;
use crate::shard::ShardError;

/// The problems that may exist, each with the SQL that counts the affected rows.
const CHECKS: &[(&str, &str)] = &[
    (
        "prices of a series or a tenant that does not exist",
        "SELECT count(*) FROM price_row r WHERE NOT EXISTS (SELECT 1 FROM price_series s \
         JOIN tenant_row t ON t.id = s.tenant WHERE s.id = r.series)",
    ),
    (
        "ids of price events are stored more than once",
        "SELECT count(*) FROM (SELECT 1 FROM price_row r JOIN price_series s ON s.id = r.series \
         WHERE r.window_max IS NOT NULL GROUP BY s.tenant, s.product_id, r.event_id HAVING count(*) > 1)",
    ),
    (
        "prices of one time and id are stored more than once",
        "SELECT count(*) FROM (SELECT 1 FROM price_row_all \
         GROUP BY tenant, product_id, observed_at_us, event_id HAVING count(*) > 1)",
    ),
    (
        "prices are not among the accepted ones by time, or differ from those",
        "SELECT count(*) FROM price_row r JOIN price_series s ON s.id = r.series LEFT JOIN price_sorted i \
         ON i.series = r.series AND i.observed_at_us = r.observed_at_us AND i.event_id = r.event_id \
         WHERE (r.accepted AND r.id <= s.sorted) IS NOT (i.id IS r.id AND i.price IS r.price)",
    ),
    (
        "accepted prices by time that are not stored",
        "SELECT count(*) FROM price_sorted i WHERE NOT EXISTS (SELECT 1 FROM price_row r WHERE r.id = i.id \
         AND r.series = i.series AND r.accepted)",
    ),
    (
        "series do not name their last price, or their newest accepted one",
        "SELECT count(*) FROM price_series s WHERE s.sorted > s.last \
         OR s.last < (SELECT max(r.id) FROM price_row r WHERE r.series = s.id)",
    ),
    (
        "prices do not follow the one before them in their series",
        "SELECT count(*) FROM (SELECT r.id, r.previous, s.sorted, lag(r.id) OVER history AS before \
         FROM price_row r JOIN price_series s ON s.id = r.series \
         WINDOW history AS (PARTITION BY r.series ORDER BY r.id)) \
         WHERE id > sorted AND max(previous, sorted) <> max(coalesce(before, 0), sorted)",
    ),
    (
        "anomalies without their price",
        "SELECT count(*) FROM price_anomaly a WHERE a.price_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM price_row r \
         JOIN price_series s ON s.id = r.series WHERE r.id = a.price_id AND r.anomaly = a.id AND s.tenant = a.tenant \
         AND s.product_id = a.product_id AND r.event_id = a.event_id AND r.price = a.price AND s.currency = a.currency \
         AND r.observed_at_us = a.observed_at_us AND r.window_max IS NOT NULL)",
    ),
    (
        "prices that are accepted although their anomaly was not approved, or not accepted without an anomaly",
        "SELECT count(*) FROM price_row r LEFT JOIN price_anomaly a ON a.id = r.anomaly \
         WHERE r.accepted <> coalesce(a.status = 'approved', 1) OR (r.anomaly IS NOT NULL AND a.id IS NULL)",
    ),
    (
        "anomalies without exactly one change, or reviewed anomalies without exactly one more",
        "SELECT count(*) FROM (SELECT a.id FROM price_anomaly a LEFT JOIN change c ON c.ref = a.id \
         AND c.kind IN ('anomaly', 'review') GROUP BY a.id HAVING coalesce(sum(c.kind = 'anomaly'), 0) <> 1 \
         OR coalesce(sum(c.kind = 'review'), 0) <> (a.status <> 'open') OR coalesce(sum(c.tenant IS NOT a.tenant), 1))",
    ),
    (
        "changes of an anomaly that does not exist",
        "SELECT count(*) FROM change c WHERE c.kind IN ('anomaly', 'review') \
         AND NOT EXISTS (SELECT 1 FROM price_anomaly a WHERE a.id = c.ref)",
    ),
];

/// The newest accepted price of each series by time and event id, next to the one that the series names.
const NEWEST: (&str, &str) = (
    "series do not name their newest accepted price",
    "SELECT count(*) FROM price_series s LEFT JOIN (SELECT series, id FROM (SELECT series, id, row_number() OVER \
     (PARTITION BY series ORDER BY observed_at_us DESC, event_id DESC) AS nth FROM price_row WHERE accepted) \
     WHERE nth = 1) r ON r.series = s.id WHERE s.accepted IS NOT r.id",
);

/// The problems of prices that upkeep has yet to move.
const EARLIER_CHECKS: &[(&str, &str)] = &[
    (
        "price events of an earlier version without their price",
        "SELECT count(*) FROM price_event_v14 e WHERE NOT EXISTS (SELECT 1 FROM price_row_v14 p \
         WHERE p.tenant = e.tenant AND p.product_id = e.product_id AND p.observed_at_us = e.observed_at_us \
         AND p.event_id = e.event_id AND p.price = e.price AND p.currency = e.currency)",
    ),
    (
        "anomalies of an earlier version without an event",
        "SELECT count(*) FROM price_anomaly a WHERE a.price_id IS NULL AND NOT EXISTS (SELECT 1 FROM price_event_v14 e \
         WHERE e.tenant = a.tenant AND e.product_id = a.product_id AND e.event_id = a.event_id AND e.anomaly = a.id)",
    ),
    (
        "prices of an earlier version that are accepted although their anomaly was not approved, or not accepted \
         without an anomaly",
        "SELECT count(*) FROM price_row_v14 p LEFT JOIN price_event_v14 e ON e.tenant = p.tenant \
         AND e.product_id = p.product_id AND e.event_id = p.event_id AND e.observed_at_us = p.observed_at_us \
         LEFT JOIN price_anomaly a ON a.id = e.anomaly WHERE p.accepted <> coalesce(a.status = 'approved', 1)",
    ),
    (
        "price events are stored in two versions",
        "SELECT count(*) FROM price_event_v14 e WHERE EXISTS (SELECT 1 FROM price_series s JOIN price_row r \
         ON r.series = s.id WHERE s.tenant = e.tenant AND s.product_id = e.product_id AND r.event_id = e.event_id \
         AND r.window_max IS NOT NULL)",
    ),
];

/// What only holds once every price is moved.
const MOVED_CHECKS: &[(&str, &str)] =
    &[("anomalies that name no price", "SELECT count(*) FROM price_anomaly a WHERE a.price_id IS NULL")];

/// Scans the rows and looks up their related rows. This takes some seconds per million prices.
pub(super) fn verify(connection: &Connection, problems: &mut Vec<String>) -> Result<(), ShardError> {
    let others = if EARLIER.is_pending(connection)? { EARLIER_CHECKS } else { MOVED_CHECKS };
    for (what, sql) in CHECKS.iter().chain([&NEWEST]).chain(others) {
        let found: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        if found > 0 {
            problems.push(format!("{found} {what}"));
        }
    }
    Ok(())
}
