//! The columns that an export may contain: of an order and its items, of an event, of a click.

use super::body::{ExportFormat, ExportRows};

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    OrderId,
    EventId,
    UserId,
    TenantId,
    CustomerId,
    CustomerName,
    CustomerEmail,
    Status,
    Currency,
    OrderedAt,
    Total,
    Units,
    ItemCount,
    /// All of the order's items, as JSON.
    Items,
    Source,
    EventType,
    /// The time that the client gave an event or a click.
    Timestamp,
    /// An event's JSON, byte for byte as received.
    Payload,
    /// A click's JSON, byte for byte as received.
    Metadata,
    ReceivedAt,
    Line,
    ProductId,
    Category,
    Quantity,
    UnitPrice,
    /// The quantity times the unit price.
    Amount,
}

/// The type of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Count,
    Money,
    Time,
    Json,
}

impl Column {
    pub const ALL: [Column; 26] = [
        Column::OrderId,
        Column::EventId,
        Column::UserId,
        Column::TenantId,
        Column::CustomerId,
        Column::CustomerName,
        Column::CustomerEmail,
        Column::Status,
        Column::Currency,
        Column::OrderedAt,
        Column::Total,
        Column::Units,
        Column::ItemCount,
        Column::Items,
        Column::Source,
        Column::EventType,
        Column::Timestamp,
        Column::Payload,
        Column::Metadata,
        Column::ReceivedAt,
        Column::Line,
        Column::ProductId,
        Column::Category,
        Column::Quantity,
        Column::UnitPrice,
        Column::Amount,
    ];

    /// Returns the column's name in `fields` and in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Column::OrderId => "order_id",
            Column::EventId => "event_id",
            Column::UserId => "user_id",
            Column::TenantId => "tenant_id",
            Column::CustomerId => "customer_id",
            Column::CustomerName => "customer_name",
            Column::CustomerEmail => "customer_email",
            Column::Status => "status",
            Column::Currency => "currency",
            Column::OrderedAt => "ordered_at",
            Column::Total => "total",
            Column::Units => "units",
            Column::ItemCount => "item_count",
            Column::Items => "items",
            Column::Source => "source",
            Column::EventType => "event_type",
            Column::Timestamp => "timestamp",
            Column::Payload => "payload",
            Column::Metadata => "metadata",
            Column::ReceivedAt => "received_at",
            Column::Line => "line",
            Column::ProductId => "product_id",
            Column::Category => "category",
            Column::Quantity => "quantity",
            Column::UnitPrice => "unit_price",
            Column::Amount => "amount",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Column::Units | Column::ItemCount | Column::Line | Column::Quantity | Column::UserId => {
                Kind::Count
            }
            Column::Total | Column::UnitPrice | Column::Amount => Kind::Money,
            Column::OrderedAt | Column::ReceivedAt | Column::Timestamp => Kind::Time,
            Column::Items | Column::Payload | Column::Metadata => Kind::Json,
            _ => Kind::Text,
        }
    }

    /// Returns `true` if the column belongs to an item rather than to the whole order.
    pub(super) fn is_of_item(self) -> bool {
        matches!(
            self,
            Column::Line
                | Column::ProductId
                | Column::Category
                | Column::Quantity
                | Column::UnitPrice
                | Column::Amount
        )
    }

    /// Returns `true` if the column belongs to an order as a whole.
    fn is_of_order(self) -> bool {
        matches!(
            self,
            Column::OrderId
                | Column::TenantId
                | Column::CustomerId
                | Column::CustomerName
                | Column::CustomerEmail
                | Column::Status
                | Column::Currency
                | Column::OrderedAt
                | Column::Total
                | Column::Units
                | Column::ItemCount
                | Column::Items
                | Column::ReceivedAt
        )
    }

    /// Returns `true` if rows of this kind may have the column.
    pub(super) fn fits(self, rows: ExportRows) -> bool {
        match rows {
            ExportRows::Orders => self.is_of_order(),
            ExportRows::Items => (self.is_of_order() && self != Column::Items) || self.is_of_item(),
            ExportRows::Events => matches!(
                self,
                Column::EventId
                    | Column::TenantId
                    | Column::Source
                    | Column::EventType
                    | Column::Timestamp
                    | Column::Payload
                    | Column::ReceivedAt
            ),
            ExportRows::Clicks => {
                matches!(self, Column::UserId | Column::Timestamp | Column::Metadata | Column::ReceivedAt)
            }
        }
    }

    /// Returns the columns that rows of these kinds may have.
    pub(super) fn of(rows: &[ExportRows]) -> impl Iterator<Item = Column> {
        Column::ALL.into_iter().filter(|column| rows.iter().any(|rows| column.fits(*rows)))
    }

    /// Returns `true` if the column is present by default. By default, a line of NDJSON has the same fields as a line
    /// of a search, of `GET /events` or of `GET /clicks`. A CSV or Parquet file of orders has the columns with single
    /// values.
    pub(super) fn is_default(self, format: ExportFormat, rows: ExportRows) -> bool {
        let of_rows = match (self, format, rows) {
            (_, _, ExportRows::Events | ExportRows::Clicks) => true,
            (Column::ReceivedAt, ..) => false,
            (Column::Items, format, _) => format == ExportFormat::Ndjson,
            (Column::ItemCount, ExportFormat::Ndjson, _) => rows == ExportRows::Items,
            _ => true,
        };
        of_rows && self.fits(rows)
    }
}
