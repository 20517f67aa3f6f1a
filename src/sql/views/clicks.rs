//! The view of clicks.

use crate::clicks::CLICKS;
use crate::sql::view::{From, Kind, View, own, shard};

pub(super) static EVENTS: View = View {
    name: "events",
    about: "The collector's events (also named clicks). `timestamp` is the client's time, `created_at` the server's.",
    columns: &[
        own("id", "e.id", Kind::Integer),
        own("user_id", "e.user_id", Kind::Integer),
        own("timestamp", "e.timestamp_us", Kind::Time),
        own("metadata", "e.metadata", Kind::Text),
        own("created_at", "e.received_us", Kind::Time),
        shard(),
    ],
    key: "shard, id",
    from: From::Partitions(&CLICKS, "{p} e"),
    joins: &[],
    indexes: &[&["timestamp"], &["user_id", "timestamp"], &["shard", "id"]],
    time: Some("timestamp"),
    row: Some("id"),
    route: None,
    lookup: None,
    merged: &[],
    size: "SELECT coalesce(sum(rows), 0) FROM partition WHERE stream = 'click'",
};
