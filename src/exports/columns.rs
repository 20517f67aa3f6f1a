//! The columns of an order and its items that an export may contain.

use super::body::{ExportFormat, ExportRows};

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    OrderId,
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
    pub const ALL: [Column; 19] = [
        Column::OrderId,
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
            Column::Units | Column::ItemCount | Column::Line | Column::Quantity => Kind::Count,
            Column::Total | Column::UnitPrice | Column::Amount => Kind::Money,
            Column::OrderedAt | Column::ReceivedAt => Kind::Time,
            Column::Items => Kind::Json,
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

    /// Returns `true` if rows of this kind may have the column.
    pub(super) fn fits(self, rows: ExportRows) -> bool {
        match rows {
            ExportRows::Orders => !self.is_of_item(),
            ExportRows::Items => self != Column::Items,
        }
    }

    /// Returns `true` if the column is present by default. By default, a line of NDJSON has the same fields as a line
    /// of a search, and a CSV or Parquet file has the columns with single values.
    pub(super) fn is_default(self, format: ExportFormat, rows: ExportRows) -> bool {
        let of_rows = match (self, format) {
            (Column::ReceivedAt, _) => false,
            (Column::Items, format) => format == ExportFormat::Ndjson,
            (Column::ItemCount, ExportFormat::Ndjson) => rows == ExportRows::Items,
            _ => true,
        };
        of_rows && self.fits(rows)
    }
}
