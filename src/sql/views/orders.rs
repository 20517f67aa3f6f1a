//! The views of orders and of their items.

use crate::orders::{ORDER_IDS, ORDERS};
use crate::sql::view::{From, Kind, Test, View, joined, own, shard};

const STATUS: &str = "CASE o.status WHEN 1 THEN 'pending' WHEN 2 THEN 'paid' WHEN 3 THEN 'shipped' \
                      WHEN 4 THEN 'delivered' WHEN 5 THEN 'cancelled' WHEN 6 THEN 'refunded' END";

pub(super) static ORDERS_VIEW: View = View {
    name: "orders",
    about: "Orders, each (tenant_id, order_id) once. Money is in minor units of the currency.",
    columns: &[
        own("id", "o.id", Kind::Integer),
        joined("tenant_id", "t.tenant_id", Kind::Text, &[0], Test::Tenant("o.tenant")),
        own("order_id", "o.order_id", Kind::Text),
        joined("customer_id", "c.customer_id", Kind::Text, &[1], Test::Customer("o.customer")),
        joined("customer_name", "c.name", Kind::Text, &[1], Test::Plain),
        joined("customer_email", "c.email", Kind::Text, &[1], Test::Plain),
        own("status", STATUS, Kind::Label),
        own("currency", "o.currency", Kind::Text),
        own("ordered_at", "o.ordered_at_us", Kind::Time),
        own("total", "o.total", Kind::Integer),
        own("units", "o.units", Kind::Integer),
        own("items", "o.items", Kind::Integer),
        own("received_at", "o.received_us", Kind::Time),
        shard(),
    ],
    key: "shard, id",
    from: From::Partitions(&ORDERS, "{p} o"),
    joins: &["CROSS JOIN tenant_row t ON t.id = o.tenant", "CROSS JOIN customer_row c ON c.id = o.customer"],
    indexes: &[
        &["tenant_id", "ordered_at"],
        &["tenant_id", "order_id"],
        &["tenant_id", "customer_id"],
        &["shard", "id"],
    ],
    time: Some("ordered_at"),
    row: Some("id"),
    route: Some(["tenant_id", "order_id"]),
    lookup: Some((&ORDER_IDS, "o.id = {r}")),
    merged: &[],
    size: "SELECT coalesce(sum(rows), 0) FROM partition WHERE stream = 'sales_order'",
};

pub(super) static ORDER_ITEMS: View = View {
    name: "order_items",
    about: "The lines of the orders. (shard, order_row) equals (shard, id) of its order.",
    columns: &[
        joined("order_row", "i.id / 1024", Kind::Number, &[], Test::OrderRow("i.id")),
        own("line", "i.id % 1024 + 1", Kind::Number),
        joined("tenant_id", "t.tenant_id", Kind::Text, &[0], Test::Tenant("i.tenant")),
        joined("product_id", "p.product_id", Kind::Text, &[1], Test::Product("i.product")),
        joined("category", "g.name", Kind::Text, &[1, 2], Test::Plain),
        own("quantity", "i.quantity", Kind::Integer),
        own("unit_price", "i.unit_price", Kind::Integer),
        own("order_id", "(SELECT o.order_id FROM {p} o WHERE o.id = i.id / 1024)", Kind::Text),
        shard(),
    ],
    key: "shard, order_row, line",
    from: From::Partitions(&ORDERS, "{items} i"),
    joins: &[
        "CROSS JOIN tenant_row t ON t.id = i.tenant",
        "CROSS JOIN product_row p ON p.id = i.product",
        "CROSS JOIN category_row g ON g.id = p.category",
    ],
    indexes: &[&["shard", "order_row"], &["tenant_id", "order_id"]],
    time: None,
    row: Some("order_row"),
    route: Some(["tenant_id", "order_id"]),
    lookup: Some((&ORDER_IDS, "i.id >= {r} * 1024 AND i.id < ({r} + 1) * 1024")),
    merged: &[],
    size: "SELECT 3 * coalesce(sum(rows), 0) FROM partition WHERE stream = 'sales_order'",
};
