//! The views of stock.

use crate::sql::view::{From, Kind, Test, View, joined, own, shard};

pub(super) static STOCK: View = View {
    name: "stock",
    about: "The stock of each product.",
    columns: &[
        joined("tenant_id", "t.tenant_id", Kind::Text, &[0], Test::Tenant("l.tenant")),
        own("product_id", "l.product_id", Kind::Text),
        own("quantity", "l.quantity", Kind::Integer),
        own("version", "l.version", Kind::Integer),
        own("updated_at", "l.updated_us", Kind::Time),
        shard(),
    ],
    key: "tenant_id, product_id",
    from: From::Table("stock_level l"),
    joins: &["CROSS JOIN tenant_row t ON t.id = l.tenant"],
    indexes: &[&["tenant_id", "product_id"]],
    time: None,
    row: None,
    route: Some(["tenant_id", "product_id"]),
    lookup: None,
    merged: &[],
    size: "SELECT coalesce(max(id), 0) FROM stock_level",
};

const MODE: &str =
    "CASE e.mode WHEN 1 THEN 'last_write_wins' WHEN 2 THEN 'merge' WHEN 3 THEN 'reject' ELSE 'history' END";

/// The ids of a product's events, each of which names the one before it.
const HISTORY: &str = "WITH RECURSIVE history(id) AS (\
    SELECT event FROM stock_level WHERE tenant = ? AND product_id {p} UNION ALL \
    SELECT s.previous FROM history JOIN stock_event s ON s.id = history.id WHERE s.previous IS NOT NULL) \
    SELECT id FROM history UNION ALL SELECT 0";

pub(super) static STOCK_EVENTS: View = View {
    name: "stock_events",
    about: "The stock events of each product; in order of version they are its history.",
    columns: &[
        joined("tenant_id", "t.tenant_id", Kind::Text, &[0], Test::Tenant("l.tenant")),
        joined("product_id", "l.product_id", Kind::Text, &[], Test::History("e.id", HISTORY)),
        own("event_id", "e.event_id", Kind::Text),
        own("kind", "e.kind", Kind::Text),
        own("number", "e.number", Kind::Integer),
        own("occurred_at", "e.occurred_at_us", Kind::Time),
        own("version", "e.version", Kind::Integer),
        own("mode", MODE, Kind::Label),
        own("stock", "e.stock", Kind::Integer),
        shard(),
    ],
    key: "tenant_id, product_id, event_id",
    from: From::Table("stock_event_all e CROSS JOIN stock_level l ON l.id = e.product"),
    joins: &["CROSS JOIN tenant_row t ON t.id = l.tenant"],
    indexes: &[&["tenant_id", "product_id"]],
    time: None,
    row: None,
    route: Some(["tenant_id", "product_id"]),
    lookup: None,
    merged: &[],
    size: "SELECT coalesce(max(id), 0) FROM stock_event",
};
