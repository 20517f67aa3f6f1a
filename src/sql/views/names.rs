//! The views of names, which several shards may have.

use crate::events::EVENTS;
use crate::sql::view::{From, Kind, Test, View, joined, own};

pub(super) static PRODUCTS: View = View {
    name: "products",
    about: "Products as orders name them: one in two categories has two rows.",
    columns: &[
        own("tenant_id", "t.tenant_id", Kind::Text),
        own("product_id", "p.product_id", Kind::Text),
        own("category", "g.name", Kind::Text),
    ],
    key: "tenant_id, product_id, category",
    from: From::Table(
        "tenant_row t CROSS JOIN product_row p ON p.tenant = t.id CROSS JOIN category_row g ON g.id = p.category",
    ),
    joins: &[],
    indexes: &[&["tenant_id", "product_id"]],
    time: None,
    row: None,
    route: None,
    lookup: None,
    merged: &["t.tenant_id", "p.product_id"],
    size: "SELECT coalesce(max(id), 0) FROM product_row",
};

pub(super) static CUSTOMERS: View = View {
    name: "customers",
    about: "Customers as orders name them: one with two names or e-mail addresses has two rows.",
    columns: &[
        joined("tenant_id", "t.tenant_id", Kind::Text, &[0], Test::Tenant("c.tenant")),
        joined("customer_id", "c.customer_id", Kind::Text, &[], Test::Customer("c.id")),
        own("name", "c.name", Kind::Text),
        own("email", "c.email", Kind::Text),
    ],
    key: "tenant_id, customer_id, name, email",
    from: From::Table("customer_row c"),
    joins: &["CROSS JOIN tenant_row t ON t.id = c.tenant"],
    indexes: &[&["tenant_id", "customer_id"]],
    time: None,
    row: None,
    route: None,
    lookup: None,
    // The hash is the same in every shard, and indexed.
    merged: &["c.key"],
    size: "SELECT coalesce(max(id), 0) FROM customer_row",
};

/// Retention may delete the last rows of a tenant, but not its number.
const NUMBERED: &str = "(SELECT t.tenant_id FROM tenant_row t WHERE \
     EXISTS (SELECT 1 FROM sales_order o WHERE o.tenant = t.id) \
     OR EXISTS (SELECT 1 FROM price_series p WHERE p.tenant = t.id) \
     OR EXISTS (SELECT 1 FROM price_anomaly a WHERE a.tenant = t.id) \
     OR EXISTS (SELECT 1 FROM stock_level l WHERE l.tenant = t.id)) x";

/// The index of a partition begins with the tenant, so each step is one search.
const OF_EVENTS: &str = "(WITH RECURSIVE next(tenant_id) AS (SELECT min(tenant_id) FROM {p} UNION ALL \
     SELECT (SELECT min(e.tenant_id) FROM {p} e WHERE e.tenant_id > next.tenant_id) FROM next \
     WHERE next.tenant_id IS NOT NULL) SELECT tenant_id FROM next WHERE tenant_id IS NOT NULL) x";

pub(super) static TENANTS: View = View {
    name: "tenants",
    about: "Tenants that have a row in service_events, orders, price_history, price_anomalies or stock.",
    columns: &[own("tenant_id", "x.tenant_id", Kind::Text)],
    key: "tenant_id",
    from: From::Both(NUMBERED, &EVENTS, OF_EVENTS),
    joins: &[],
    indexes: &[],
    time: None,
    row: None,
    route: None,
    lookup: None,
    merged: &["x.tenant_id"],
    size: "SELECT count(*) FROM tenant_row",
};
