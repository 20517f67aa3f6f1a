//! The tables of the target, each with the columns that the shipper writes.

/// A column, and its type as PostgreSQL writes it.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) sql_type: &'static str,
    pub(super) is_null: bool,
}

const fn col(name: &'static str, sql_type: &'static str) -> Column {
    Column { name, sql_type, is_null: false }
}

const fn maybe(name: &'static str, sql_type: &'static str) -> Column {
    Column { name, sql_type, is_null: true }
}

/// Where Citus keeps a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// By tenant, all such tables together.
    Tenant,
    /// By user.
    User,
    /// On the coordinator: small tables of the shipper.
    Local,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) columns: &'static [Column],
    /// The columns of the primary key, or none.
    pub(super) key: &'static [&'static str],
    /// Further indexes, as SQL.
    pub(super) indexes: &'static [&'static str],
    pub(super) spread: Spread,
}

const TIME: &str = "timestamp with time zone";

/// The columns that name the row where it came from.
const NODE: Column = col("node", "smallint");
const SHARD: Column = col("shard", "smallint");
const EPOCH: Column = col("epoch", "integer");
const ID: Column = col("id", "bigint");

pub(super) const CLICKS: Table = Table {
    name: "clicks",
    about: "Events of the collector, a partition a day. metadata is NULL where jsonb cannot hold it; metadata_raw has \
            it then.",
    columns: &[
        col("user_id", "bigint"),
        col("occurred_at", TIME),
        col("received_at", TIME),
        maybe("metadata", "jsonb"),
        maybe("metadata_raw", "text"),
        NODE,
        SHARD,
        EPOCH,
        ID,
    ],
    key: &[],
    indexes: &["(user_id, occurred_at)"],
    spread: Spread::User,
};

pub(super) const EVENTS: Table = Table {
    name: "events",
    about: "Events of services. payload is NULL where jsonb cannot hold it; payload_raw has it then.",
    columns: &[
        col("tenant_id", "text"),
        col("event_id", "text"),
        col("source", "text"),
        col("event_type", "text"),
        col("occurred_at", TIME),
        col("received_at", TIME),
        maybe("payload", "jsonb"),
        maybe("payload_raw", "text"),
        NODE,
        SHARD,
        EPOCH,
        ID,
    ],
    key: &["tenant_id", "event_id"],
    indexes: &["(tenant_id, occurred_at)", "USING brin (id)"],
    spread: Spread::Tenant,
};

pub(super) const ORDERS: Table = Table {
    name: "orders",
    about: "Orders, with the status now. Amounts are minor units of the currency.",
    columns: &[
        col("tenant_id", "text"),
        col("order_id", "text"),
        col("customer_id", "text"),
        col("customer_name", "text"),
        col("customer_email", "text"),
        col("status", "text"),
        col("first_status", "text"),
        // The change from which the status is known: the larger (epoch, number) is newer.
        col("status_epoch", "integer"),
        col("status_seq", "bigint"),
        col("currency", "character(3)"),
        col("ordered_at", TIME),
        col("total", "bigint"),
        col("received_at", TIME),
        NODE,
        SHARD,
        EPOCH,
        ID,
    ],
    key: &["tenant_id", "order_id"],
    indexes: &["(tenant_id, ordered_at)", "(tenant_id, customer_id)"],
    spread: Spread::Tenant,
};

pub(super) const ORDER_ITEMS: Table = Table {
    name: "order_items",
    about: "Lines of orders, from 1. id is that of the order's row.",
    columns: &[
        col("tenant_id", "text"),
        col("order_id", "text"),
        col("line", "integer"),
        col("product_id", "text"),
        col("category", "text"),
        col("quantity", "bigint"),
        col("unit_price", "bigint"),
        NODE,
        SHARD,
        EPOCH,
        ID,
    ],
    key: &["tenant_id", "order_id", "line"],
    indexes: &[],
    spread: Spread::Tenant,
};

pub(super) const ORDER_STATUS: Table = Table {
    name: "order_status",
    about: "Every change of an order's status, after the one with which it came.",
    columns: &[
        col("tenant_id", "text"),
        col("order_id", "text"),
        col("status", "text"),
        col("changed_at", TIME),
        NODE,
        SHARD,
        EPOCH,
        ID,
    ],
    key: &[],
    indexes: &["(tenant_id, order_id)"],
    spread: Spread::Tenant,
};

pub(super) const STOCK_EVENTS: Table = Table {
    name: "stock_events",
    about: "Changes of stock, in order of version.",
    columns: &[
        col("tenant_id", "text"),
        col("product_id", "text"),
        col("event_id", "text"),
        col("version", "bigint"),
        col("mode", "text"),
        col("kind", "text"),
        col("number", "bigint"),
        col("stock", "bigint"),
        col("occurred_at", TIME),
        col("received_at", TIME),
        NODE,
        SHARD,
        EPOCH,
        ID,
    ],
    key: &["tenant_id", "product_id", "event_id"],
    indexes: &[],
    spread: Spread::Tenant,
};

pub(super) const STOCK: Table = Table {
    name: "stock",
    about: "The level of each product: what its newest change left.",
    columns: &[
        col("tenant_id", "text"),
        col("product_id", "text"),
        col("quantity", "bigint"),
        col("version", "bigint"),
        col("updated_at", TIME),
        NODE,
        EPOCH,
    ],
    key: &["tenant_id", "product_id"],
    indexes: &[],
    spread: Spread::Tenant,
};

pub(super) const PRICE_HISTORY: Table = Table {
    name: "price_history",
    about: "Observed prices. is_accepted is false for a price that is out of line and that no one has approved.",
    columns: &[
        col("tenant_id", "text"),
        col("product_id", "text"),
        col("event_id", "text"),
        col("price", "bigint"),
        col("currency", "character(3)"),
        col("observed_at", TIME),
        col("received_at", TIME),
        col("is_accepted", "boolean"),
        NODE,
        SHARD,
        EPOCH,
        ID,
    ],
    key: &["tenant_id", "product_id", "currency", "observed_at", "event_id"],
    indexes: &[],
    spread: Spread::Tenant,
};

pub(super) const PRICES: Table = Table {
    name: "prices",
    about: "The newest accepted price of each product and currency.",
    columns: &[
        col("tenant_id", "text"),
        col("product_id", "text"),
        col("currency", "character(3)"),
        col("price", "bigint"),
        col("observed_at", TIME),
        col("event_id", "text"),
    ],
    key: &["tenant_id", "product_id", "currency"],
    indexes: &[],
    spread: Spread::Tenant,
};

pub(super) const PRICE_ANOMALIES: Table = Table {
    name: "price_anomalies",
    about: "Prices out of line, with the decision. change_bp is hundredths of a percent, score_milli thousandths.",
    columns: &[
        col("tenant_id", "text"),
        col("anomaly_id", "text"),
        col("product_id", "text"),
        col("event_id", "text"),
        col("price", "bigint"),
        col("currency", "character(3)"),
        col("observed_at", TIME),
        col("created_at", TIME),
        col("baseline", "bigint"),
        maybe("change_bp", "bigint"),
        maybe("median", "bigint"),
        maybe("score_milli", "bigint"),
        maybe("compared", "bigint"),
        col("status", "text"),
        maybe("reviewed_at", TIME),
        NODE,
        SHARD,
        EPOCH,
        ID,
    ],
    key: &["tenant_id", "anomaly_id"],
    indexes: &[],
    spread: Spread::Tenant,
};

pub(super) const TWICE: Table = Table {
    name: "twice",
    about: "Rows that were not stored because the table had one with the same key.",
    columns: &[
        NODE,
        SHARD,
        EPOCH,
        col("stream", "text"),
        ID,
        col("table_name", "text"),
        col("tenant_id", "text"),
        col("key", "text"),
        col("differs", "boolean"),
        col("at", TIME),
    ],
    key: &[],
    indexes: &["(tenant_id, key)"],
    spread: Spread::Local,
};

pub(super) const REJECTED: Table = Table {
    name: "rejected",
    about: "Rows that the database did not accept, as JSON, with the reason.",
    columns: &[
        NODE,
        SHARD,
        EPOCH,
        col("stream", "text"),
        ID,
        col("reason", "text"),
        col("content", "bytea"),
        col("at", TIME),
    ],
    key: &[],
    indexes: &["(node, shard, id)"],
    spread: Spread::Local,
};

pub(super) const ERASURES: Table = Table {
    name: "erasures",
    about: "Erasures that were applied here: number, time and counts. was_known is false if the person was unknown \
            already; then only rows that were named are deleted.",
    columns: &[
        NODE,
        SHARD,
        EPOCH,
        col("number", "bigint"),
        col("at", TIME),
        col("was_known", "boolean"),
        col("orders", "bigint"),
        col("events", "bigint"),
        col("clicks", "bigint"),
        col("others", "bigint"),
    ],
    key: &["node", "shard", "epoch", "number"],
    indexes: &[],
    spread: Spread::Local,
};

const META: Table = Table {
    name: "meta",
    about: "The version of this schema.",
    columns: &[col("version", "integer")],
    key: &[],
    indexes: &[],
    spread: Spread::Local,
};

const NODES: Table = Table {
    name: "node",
    about: "Data folders, each with the number under which rows name it.",
    columns: &[NODE, col("folder_id", "text"), col("name", "text"), col("first_seen", TIME)],
    key: &["node"],
    indexes: &[],
    spread: Spread::Local,
};

const EPOCHS: Table = Table {
    name: "epoch",
    about: "Lives of a shard's row ids, numbered in the order in which they came here.",
    columns: &[EPOCH, col("epoch_id", "text"), NODE, SHARD, col("first_seen", TIME)],
    key: &["epoch"],
    indexes: &[],
    spread: Spread::Local,
};

const POSITIONS: Table = Table {
    name: "position",
    about: "The last row of each stream that is here. began is where the epoch began.",
    columns: &[
        NODE,
        SHARD,
        EPOCH,
        col("stream", "text"),
        col("last", "bigint"),
        col("at", TIME),
        col("began", "bigint"),
    ],
    key: &["node", "shard", "epoch", "stream"],
    indexes: &[],
    spread: Spread::Local,
};

const VACUUM_DUE: Table = Table {
    name: "vacuum_due",
    about: "Tables from which an erasure has deleted rows that are still in their files.",
    columns: &[col("table_name", "text"), col("since", TIME)],
    key: &["table_name"],
    indexes: &[],
    spread: Spread::Local,
};

/// Every table, in the order in which they are created.
pub(super) const TABLES: [&Table; 18] = [
    &META,
    &NODES,
    &EPOCHS,
    &POSITIONS,
    &EVENTS,
    &ORDERS,
    &ORDER_ITEMS,
    &ORDER_STATUS,
    &STOCK_EVENTS,
    &STOCK,
    &PRICE_HISTORY,
    &PRICES,
    &PRICE_ANOMALIES,
    &CLICKS,
    &TWICE,
    &REJECTED,
    &ERASURES,
    &VACUUM_DUE,
];

impl Table {
    /// Returns the names of the columns, separated by commas.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        names.join(", ")
    }

    /// Returns the names of the columns of a table or alias, separated by commas.
    pub(super) fn names_of(&self, alias: &str) -> String {
        let names: Vec<String> =
            self.columns.iter().map(|column| format!("{alias}.{}", column.name)).collect();
        names.join(", ")
    }

    /// Returns the condition that two aliases have the same key.
    pub(super) fn same_key(&self, left: &str, right: &str) -> String {
        let parts: Vec<String> =
            self.key.iter().map(|name| format!("{left}.{name} = {right}.{name}")).collect();
        parts.join(" AND ")
    }

    /// Returns the columns of the key for `ORDER BY`, in the order of bytes.
    pub(super) fn key_order(&self) -> String {
        let is_text = |name: &str| {
            let column = self.columns.iter().find(|column| column.name == name);
            column.is_some_and(|column| column.sql_type.starts_with(['t', 'c']) && column.sql_type != TIME)
        };
        let collate =
            |name: &&str| if is_text(name) { format!("{name} COLLATE \"C\"") } else { (*name).to_owned() };
        let parts: Vec<String> = self.key.iter().map(collate).collect();
        parts.join(", ")
    }
}
