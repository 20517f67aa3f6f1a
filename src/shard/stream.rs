//! The streams of rows a shard holds, each in partitions of its own.

use super::orders;

/// What a partition's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Events of the collector.
    Click,
    /// Idempotent events.
    ServiceEvent,
    /// Orders, with their items in a second table of each partition.
    Order,
}

impl Stream {
    pub const ALL: [Stream; 3] = [Stream::Click, Stream::ServiceEvent, Stream::Order];

    /// Its name in the catalogue, of the view over its partitions, and in front of their numbers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stream::Click => "click",
            Stream::ServiceEvent => "service_event",
            Stream::Order => "sales_order",
        }
    }

    /// Its counter in `total`.
    pub(super) const fn total(self) -> &'static str {
        match self {
            Stream::Click => "rows",
            Stream::ServiceEvent => "service_events",
            Stream::Order => "orders",
        }
    }

    /// The columns of a partition, in order.
    pub(super) const fn columns(self) -> &'static str {
        match self {
            Stream::Click => "id, user_id, timestamp_us, received_us, metadata",
            Stream::ServiceEvent => {
                "id, tenant_id, event_id, source, event_type, timestamp_us, received_us, payload"
            }
            Stream::Order => {
                "id, tenant, order_id, customer, status, first_status, currency, ordered_at_us, total, units, \
                 items, received_us, ingest, ingest_line, content, customer_key"
            }
        }
    }

    pub(super) fn insert_sql(self, partition: &str) -> String {
        let values = match self {
            Stream::Click => "?1, ?2, ?3, ?4, ?5",
            Stream::ServiceEvent => "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8",
            Stream::Order => "?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15",
        };
        format!("INSERT INTO {partition} ({}) VALUES ({values})", self.columns())
    }

    /// The table of a partition and the index that is kept while rows arrive: rows arrive about in order of
    /// time, so nearly every insert meets the page the last one met.
    pub(super) fn create_sql(self, partition: &str) -> String {
        match self {
            Stream::Click => format!(
                "CREATE TABLE {partition} (
  -- Events in order of arrival; `id` goes on counting from one partition to the next.
  id INTEGER PRIMARY KEY,
  user_id INTEGER NOT NULL,
  timestamp_us INTEGER NOT NULL,  -- the client's time, microseconds since 1970 UTC
  received_us INTEGER NOT NULL,   -- when it was accepted
  metadata TEXT NOT NULL          -- JSON, byte for byte as received
);
{}",
                self.live_index_sql(partition)
            ),
            Stream::ServiceEvent => format!(
                "CREATE TABLE {partition} (
  -- Events in order of arrival; `id` goes on counting from one partition to the next.
  -- (tenant_id, event_id) is unique over all partitions and shards; id_recent and id_run see to it.
  id INTEGER PRIMARY KEY,
  tenant_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  source TEXT NOT NULL,
  event_type TEXT NOT NULL,
  timestamp_us INTEGER NOT NULL,  -- the client's time, microseconds since 1970 UTC
  received_us INTEGER NOT NULL,   -- when it was accepted
  payload TEXT NOT NULL           -- a JSON object, byte for byte as received
);
{}",
                self.live_index_sql(partition)
            ),
            Stream::Order => orders::partition_sql(partition, &self.live_index_sql(partition)),
        }
    }

    pub(super) fn live_index_sql(self, partition: &str) -> String {
        match self {
            Stream::Click => format!("CREATE INDEX {partition}_time ON {partition} (timestamp_us, user_id)"),
            Stream::ServiceEvent => format!(
                "CREATE INDEX {partition}_order ON {partition} (tenant_id, timestamp_us, event_id, source, event_type)"
            ),
            Stream::Order => format!(
                "CREATE INDEX {partition}_time ON {partition} (tenant, ordered_at_us, order_id, currency, \
                 status, total, units, customer_key, customer)"
            ),
        }
    }

    /// The column its partitions are in order of.
    pub(super) const fn time_column(self) -> &'static str {
        match self {
            Stream::Click | Stream::ServiceEvent => "timestamp_us",
            Stream::Order => "ordered_at_us",
        }
    }

    /// Whether a sealed partition gets a further index.
    pub(super) const fn has_sealed_index(self) -> bool {
        matches!(self, Stream::Click | Stream::Order)
    }
}
