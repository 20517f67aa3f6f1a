//! The view of idempotent events.

use crate::events::{EVENT_IDS, EVENTS};
use crate::sql::view::{From, Kind, View, own, shard};

pub(super) static SERVICE_EVENTS: View = View {
    name: "service_events",
    about: "The idempotent events, each (tenant_id, event_id) once.",
    columns: &[
        own("id", "e.id", Kind::Integer),
        own("event_id", "e.event_id", Kind::Text),
        own("tenant_id", "e.tenant_id", Kind::Text),
        own("source", "e.source", Kind::Text),
        own("event_type", "e.event_type", Kind::Text),
        own("timestamp", "e.timestamp_us", Kind::Time),
        own("payload", "e.payload", Kind::Text),
        own("created_at", "e.received_us", Kind::Time),
        shard(),
    ],
    key: "shard, id",
    from: From::Partitions(&EVENTS, "{p} e"),
    joins: &[],
    indexes: &[&["tenant_id", "timestamp"], &["tenant_id", "event_id"], &["shard", "id"]],
    time: Some("timestamp"),
    row: Some("id"),
    route: Some(["tenant_id", "event_id"]),
    lookup: Some((&EVENT_IDS, "e.id = {r}")),
    merged: &[],
    size: "SELECT coalesce(sum(rows), 0) FROM partition WHERE stream = 'service_event'",
};
