//! The views of prices and anomalies.

use crate::sql::view::{From, Kind, Test, View, joined, own, shard};

/// The ids of a product's prices: those in the index, those of anomalies, and the newest ones, each of which names the one
/// before it.
const HISTORY: &str = "WITH RECURSIVE tail(id, sorted) AS (\
    SELECT last, sorted FROM price_series WHERE tenant = ? AND product_id {p} UNION ALL \
    SELECT r.previous, tail.sorted FROM tail CROSS JOIN price_row r ON r.id = tail.id WHERE tail.id > tail.sorted) \
    SELECT id FROM tail UNION ALL \
    SELECT i.id FROM price_series s CROSS JOIN price_sorted i ON i.series = s.id \
    WHERE s.tenant = ? AND s.product_id {p} UNION ALL \
    SELECT price_id FROM price_anomaly WHERE tenant = ? AND product_id {p} UNION ALL SELECT 0";

pub(super) static PRICE_HISTORY: View = View {
    name: "price_history",
    about: "Observed prices, in minor units.",
    columns: &[
        joined("tenant_id", "t.tenant_id", Kind::Text, &[0], Test::Tenant("p.tenant")),
        joined("product_id", "p.product_id", Kind::Text, &[], Test::History("p.id", HISTORY)),
        own("event_id", "p.event_id", Kind::Text),
        own("price", "p.price", Kind::Integer),
        own("currency", "p.currency", Kind::Text),
        own("observed_at", "p.observed_at_us", Kind::Time),
        shard(),
    ],
    key: "tenant_id, product_id, observed_at, event_id",
    from: From::Table("price_row_all p"),
    joins: &["CROSS JOIN tenant_row t ON t.id = p.tenant"],
    indexes: &[&["tenant_id", "product_id"]],
    time: None,
    row: None,
    route: Some(["tenant_id", "product_id"]),
    lookup: None,
    merged: &[],
    size: "SELECT coalesce(max(id), 0) FROM price_row",
};

pub(super) static PRICE_ANOMALIES: View = View {
    name: "price_anomalies",
    about: "Prices that differ too much from the accepted ones. `status` is open, approved or rejected.",
    columns: &[
        own("anomaly_id", "a.anomaly_id", Kind::Text),
        joined("tenant_id", "t.tenant_id", Kind::Text, &[0], Test::Tenant("a.tenant")),
        own("product_id", "a.product_id", Kind::Text),
        own("event_id", "a.event_id", Kind::Text),
        own("price", "a.price", Kind::Integer),
        own("currency", "a.currency", Kind::Text),
        own("observed_at", "a.observed_at_us", Kind::Time),
        own("created_at", "a.created_us", Kind::Time),
        own("baseline", "a.baseline", Kind::Integer),
        own("change_percent", "a.change_bp / 100.0", Kind::Number),
        own("median", "a.median", Kind::Integer),
        own("mad", "a.mad", Kind::Integer),
        own("score", "a.score_milli / 1000.0", Kind::Number),
        own("compared", "a.compared", Kind::Integer),
        own("status", "a.status", Kind::Text),
        own("reviewed_at", "a.reviewed_us", Kind::Time),
        shard(),
    ],
    key: "anomaly_id, tenant_id, product_id, event_id, created_at",
    from: From::Table("price_anomaly a"),
    joins: &["CROSS JOIN tenant_row t ON t.id = a.tenant"],
    indexes: &[
        &["anomaly_id"],
        &["tenant_id", "created_at"],
        &["tenant_id", "status", "created_at"],
        &["tenant_id", "product_id", "created_at"],
    ],
    time: None,
    row: None,
    route: Some(["tenant_id", "product_id"]),
    lookup: None,
    merged: &[],
    size: "SELECT coalesce(max(id), 0) FROM price_anomaly",
};
