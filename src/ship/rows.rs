//! Rows on their way to a sink, as plain values that know no target.
//!
//! A row's name, unique among all nodes, is (node, shard, epoch, stream, id).

/// The streams that are shipped, each with a place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShipStream {
    Clicks,
    Events,
    Orders,
    StockEvents,
    Prices,
    /// The feed of everything that is no append of a row.
    Changes,
}

impl ShipStream {
    pub const ALL: [ShipStream; 6] = [
        ShipStream::Clicks,
        ShipStream::Events,
        ShipStream::Orders,
        ShipStream::StockEvents,
        ShipStream::Prices,
        ShipStream::Changes,
    ];

    /// Returns the name in `checkpointed` and `epoch_start` of a shard, and in the target's places.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ShipStream::Clicks => "click",
            ShipStream::Events => "service_event",
            ShipStream::Orders => "sales_order",
            ShipStream::StockEvents => "stock_event",
            ShipStream::Prices => "price_row",
            ShipStream::Changes => "change",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<ShipStream> {
        ShipStream::ALL.into_iter().find(|stream| stream.as_str() == name)
    }
}

/// Rows of one stream of one shard, read in one snapshot. Times are microseconds since 1970, amounts are minor units.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    Clicks(Vec<ClickRow>),
    Events(Vec<EventRow>),
    Orders(Vec<OrderRow>),
    StockEvents(Vec<StockRow>),
    Prices(Vec<PriceRow>),
    Changes(Vec<ChangeRow>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickRow {
    pub id: i64,
    pub user_id: i64,
    pub timestamp_us: i64,
    pub received_us: i64,
    /// JSON, byte for byte as received.
    pub metadata: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    pub id: i64,
    pub tenant_id: String,
    pub event_id: String,
    pub source: String,
    pub event_type: String,
    pub timestamp_us: i64,
    pub received_us: i64,
    /// A JSON object, byte for byte as received.
    pub payload: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRow {
    pub id: i64,
    pub tenant_id: String,
    pub order_id: String,
    pub customer_id: String,
    pub customer_name: String,
    pub customer_email: String,
    /// The status now, as text, and the one with which the order came.
    pub status: &'static str,
    pub first_status: &'static str,
    /// The number of the newest change of the shard, in the same snapshot.
    pub status_seq: i64,
    pub currency: String,
    pub ordered_at_us: i64,
    pub total: i64,
    pub received_us: i64,
    pub items: Vec<ItemRow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemRow {
    /// From 1.
    pub line: i32,
    pub product_id: String,
    pub category: String,
    pub quantity: i64,
    pub unit_price: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockRow {
    pub id: i64,
    pub tenant_id: String,
    pub product_id: String,
    pub event_id: String,
    pub version: i64,
    /// `last_write_wins`, `merge`, `reject` or `history`.
    pub mode: &'static str,
    /// `delta` or `quantity`.
    pub kind: String,
    pub number: i64,
    /// The level that the change left.
    pub stock: i64,
    pub occurred_at_us: i64,
    pub received_us: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceRow {
    pub id: i64,
    pub tenant_id: String,
    pub product_id: String,
    pub event_id: String,
    pub price: i64,
    pub currency: String,
    pub observed_at_us: i64,
    pub received_us: i64,
    /// `false`: out of line, and nobody had approved it when the row was read.
    pub is_accepted: bool,
}

/// One change of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRow {
    pub seq: i64,
    pub at_us: i64,
    pub change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An order has another status. `order` is its row id.
    Status { order: i64, tenant_id: String, order_id: String, status: &'static str },
    /// A price was out of line. The row is as it is now.
    Anomaly(Box<AnomalyRow>),
    /// Somebody has decided. An approved price counts as accepted from then on.
    Review(Box<AnomalyRow>),
    /// A person is erased or pseudonymised.
    Erasure(Box<ErasureRow>),
    /// An erasure whose person is not known here any more. Only its number is left.
    FinishedErasure { number: i64 },
    /// An erasure has deleted a service event. `event` is its row id.
    ErasedEvent { event: i64, erasure: i64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnomalyRow {
    /// 32 hex digits, the same in any number of shards.
    pub anomaly_id: String,
    pub tenant_id: String,
    pub product_id: String,
    pub event_id: String,
    pub price: i64,
    pub currency: String,
    pub observed_at_us: i64,
    pub created_us: i64,
    pub baseline: i64,
    /// Hundredths of a percent.
    pub change_bp: Option<i64>,
    pub median: Option<i64>,
    /// Thousandths.
    pub score_milli: Option<i64>,
    pub compared: Option<i64>,
    /// `open`, `approved` or `rejected`.
    pub status: String,
    pub reviewed_us: Option<i64>,
}

/// Whom an erasure concerns, and how what others wrote about the person is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasureRow {
    pub number: i64,
    pub began_us: i64,
    /// `None`: a user of the collector.
    pub tenant_id: Option<String>,
    /// The ids under which the customer may have orders, or the user's number.
    pub subject_ids: Vec<String>,
    /// The row id of the last click of the shard that the erasure of a user concerns. `None`: every click that the sink
    /// has of the shard. The user's later clicks remain.
    pub clicks_upto: Option<i64>,
    /// `None`: rows are deleted. Otherwise, orders remain under this id, without name and address.
    pub pseudonym: Option<String>,
    /// Texts, one of which is in every payload that refers to the person, if the case of ASCII letters is ignored:
    /// candidates for the matcher.
    pub needles: Vec<String>,
    /// The same for an event's id, source and type.
    pub name_needles: Vec<String>,
    pub matcher: Matcher,
}

/// The effect of an erasure on one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventFate {
    /// The event does not refer to the person.
    Other,
    Deleted,
    /// The event remains with this payload.
    Replaced(String),
}

/// Decides by an event's id, source and type, and its payload, which effect an erasure has on it.
#[derive(Clone)]
pub struct Matcher(pub MatcherFn);

/// See [`Matcher`].
pub type MatcherFn = std::sync::Arc<dyn Fn([&str; 3], &str) -> EventFate + Send + Sync>;

impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Matcher")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        std::sync::Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Matcher {}

impl Rows {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Rows::Clicks(rows) => rows.len(),
            Rows::Events(rows) => rows.len(),
            Rows::Orders(rows) => rows.len(),
            Rows::StockEvents(rows) => rows.len(),
            Rows::Prices(rows) => rows.len(),
            Rows::Changes(rows) => rows.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
