//! The formats of a result. Each writes rows as they arrive.

mod csv;
mod json;
mod sink;
mod table;
mod values;

use clap::ValueEnum;
use rusqlite::types::ValueRef;

pub(super) use sink::Sink;

/// A format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns. NULL is NULL, the text NULL is 'NULL'. Control characters are escaped.
    Table,
    /// RFC 4180 with a header line. NULL is empty, the empty text is "".
    Csv,
    /// One array of objects.
    Json,
    /// One object per line.
    Ndjson,
}

/// A result in one of the formats.
pub(super) enum Rows {
    Table(table::Table),
    Csv,
    Json(json::Objects),
}

impl Rows {
    /// Begins a result with these columns.
    pub(super) fn begin(
        format: Format,
        columns: Vec<String>,
        (is_plan, has_header): (bool, bool),
        out: &mut Vec<u8>,
    ) -> Rows {
        match format {
            Format::Table => Rows::Table(table::Table::new(columns, is_plan, has_header)),
            Format::Csv => {
                if has_header {
                    csv::head(&columns, out);
                }
                Rows::Csv
            }
            Format::Json => Rows::Json(json::Objects::begin(columns, true, out)),
            Format::Ndjson => Rows::Json(json::Objects::begin(columns, false, out)),
        }
    }

    pub(super) fn row(&mut self, values: &[ValueRef<'_>], out: &mut Vec<u8>) {
        match self {
            Rows::Table(table) => table.row(values, out),
            Rows::Csv => csv::row(values, out),
            Rows::Json(objects) => objects.row(values, out),
        }
    }

    pub(super) fn end(self, out: &mut Vec<u8>) {
        match self {
            Rows::Table(table) => table.end(out),
            Rows::Csv => {}
            Rows::Json(objects) => objects.end(out),
        }
    }
}
