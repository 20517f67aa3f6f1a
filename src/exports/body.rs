//! An export's specification: parsed from the JSON of its request, validated, and stored in canonical form.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::columns::Column;
use crate::base::keys::KeyHasher;
use crate::orders::{OrderFilter, order_filter};
use crate::query::Parameters;
use crate::shard::read::TimeRange;

/// The maximum length of a request in bytes. Long product lists fit.
pub const SPEC_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    Csv,
    Ndjson,
    Parquet,
}

/// What one row of the file describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportRows {
    /// An order.
    Orders,
    /// One line of an order, together with the order's fields.
    Items,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// The filters that select orders. They are stored as the strings of the request, so that people can read them later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filters {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tz: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub order_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub customer_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub product_id: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_price: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub currency: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub status: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min_total: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_total: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub q: Option<String>,
}

/// A complete specification, with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportSpec {
    pub format: ExportFormat,
    pub rows: ExportRows,
    pub compression: Compression,
    pub filters: Filters,
    /// Names of [`Column`]s, in file order.
    pub fields: Vec<String>,
}

/// An error in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFault {
    /// JSON Pointer.
    pub pointer: &'static str,
    pub code: &'static str,
    pub detail: String,
}

impl ExportSpec {
    /// Parses the specification from a request's body.
    ///
    /// # Errors
    /// Returns every error in the body. No error repeats any of the body's content.
    pub fn read(body: &[u8]) -> Result<ExportSpec, Vec<ExportFault>> {
        let mut reader = Reader { faults: Vec::new() };
        let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
            reader.wrong(
                "",
                "not_an_object",
                "the body must be a JSON object with a format: csv, ndjson or parquet",
            );
            return Err(reader.faults);
        };
        let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
        let formats = [
            ("csv", ExportFormat::Csv),
            ("ndjson", ExportFormat::Ndjson),
            ("parquet", ExportFormat::Parquet),
        ];
        let format = take("format");
        if format.is_none() {
            reader.wrong("/format", "missing", "format is required: csv, ndjson or parquet");
        }
        let format = reader.choice(format, "/format", &formats).unwrap_or(ExportFormat::Csv);
        let kinds = [("orders", ExportRows::Orders), ("items", ExportRows::Items)];
        let rows = reader.choice(take("rows"), "/rows", &kinds).unwrap_or(ExportRows::Orders);
        let codings = [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];
        let compression =
            reader.choice(take("compression"), "/compression", &codings).unwrap_or(Compression::None);
        let filters = reader.filters(take("filters"));
        let fields = reader.fields(take("fields"), format, rows);
        if !members.is_empty() {
            let detail = "unknown members; the known members are format, rows, filters, fields and \
                          compression";
            reader.wrong("", "unknown_member", detail);
        }
        let spec = ExportSpec { format, rows, compression, filters, fields };
        if let Err(faults) = spec.filter("", &KeyHasher::new(&[0; 16])) {
            reader.faults.extend(faults);
        }
        if reader.faults.is_empty() { Ok(spec) } else { Err(reader.faults) }
    }

    /// Returns the filter that selects the tenant's orders.
    ///
    /// # Errors
    /// Returns every error in the filters.
    pub fn filter(
        &self,
        tenant_id: &str,
        keys: &KeyHasher,
    ) -> Result<(OrderFilter, TimeRange), Vec<ExportFault>> {
        let filters = &self.filters;
        let status = (!filters.status.is_empty()).then(|| filters.status.join(","));
        let pairs = [
            ("from", &filters.from),
            ("to", &filters.to),
            ("start_date", &filters.start_date),
            ("end_date", &filters.end_date),
            ("tz", &filters.tz),
            ("order_id", &filters.order_id),
            ("customer_id", &filters.customer_id),
            ("category", &filters.category),
            ("min_price", &filters.min_price),
            ("max_price", &filters.max_price),
            ("currency", &filters.currency),
            ("min_total", &filters.min_total),
            ("max_total", &filters.max_total),
            ("q", &filters.q),
            ("status", &status),
        ];
        let mut parameters = Parameters::of(&pairs);
        let filter = order_filter(tenant_id, keys, &mut parameters, filters.product_id.clone());
        parameters.done(filter).map_err(|errors| {
            let fault = |error: crate::query::ParameterError| ExportFault {
                pointer: pointer_of(error.name),
                code: error.code,
                detail: error.detail,
            };
            errors.into_iter().map(fault).collect()
        })
    }

    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        let column = |name: &String| Column::ALL.into_iter().find(|column| column.name() == name);
        self.fields.iter().filter_map(column).collect()
    }

    /// Returns `true` if the export needs the orders' items.
    #[must_use]
    pub fn with_items(&self) -> bool {
        self.rows == ExportRows::Items || self.columns().contains(&Column::Items)
    }

    /// Returns the file name extension.
    #[must_use]
    pub fn extension(&self) -> &'static str {
        match (self.format, self.compression) {
            (ExportFormat::Parquet, _) => "parquet",
            (ExportFormat::Csv, Compression::None) => "csv",
            (ExportFormat::Csv, Compression::Gzip) => "csv.gz",
            (ExportFormat::Csv, Compression::Zstd) => "csv.zst",
            (ExportFormat::Ndjson, Compression::None) => "ndjson",
            (ExportFormat::Ndjson, Compression::Gzip) => "ndjson.gz",
            (ExportFormat::Ndjson, Compression::Zstd) => "ndjson.zst",
        }
    }

    /// Returns the file's media type. Compression is declared as a media type, because a content coding would be
    /// removed in transit.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match (self.format, self.compression) {
            (ExportFormat::Parquet, _) => "application/vnd.apache.parquet",
            (_, Compression::Gzip) => "application/gzip",
            (_, Compression::Zstd) => "application/zstd",
            (ExportFormat::Csv, _) => "text/csv; charset=utf-8; header=present",
            (ExportFormat::Ndjson, _) => "application/x-ndjson",
        }
    }
}

fn pointer_of(name: &str) -> &'static str {
    match name {
        "from" => "/filters/from",
        "to" => "/filters/to",
        "start_date" => "/filters/start_date",
        "end_date" => "/filters/end_date",
        "tz" => "/filters/tz",
        "order_id" => "/filters/order_id",
        "customer_id" => "/filters/customer_id",
        "product_id" => "/filters/product_id",
        "category" => "/filters/category",
        "min_price" => "/filters/min_price",
        "max_price" => "/filters/max_price",
        "currency" => "/filters/currency",
        "status" => "/filters/status",
        "min_total" => "/filters/min_total",
        "max_total" => "/filters/max_total",
        "q" => "/filters/q",
        _ => "/filters",
    }
}

struct Reader {
    faults: Vec<ExportFault>,
}

impl Reader {
    fn wrong(&mut self, pointer: &'static str, code: &'static str, detail: &str) {
        self.faults.push(ExportFault { pointer, code, detail: detail.to_owned() });
    }

    fn choice<T: Copy>(
        &mut self,
        value: Option<Value>,
        pointer: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let value = value?;
        let chosen = choices.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, chosen)| *chosen);
        if chosen.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(pointer, "unknown_value", &format!("allowed values: {}", words.join(", ")));
        }
        chosen
    }

    fn filters(&mut self, value: Option<Value>) -> Filters {
        let mut members = match value {
            None => return Filters::default(),
            Some(Value::Object(members)) => members,
            Some(_) => {
                self.wrong(
                    "/filters",
                    "not_an_object",
                    "filters must be an object with the parameters of a \
                                                         search",
                );
                return Filters::default();
            }
        };
        let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
        let filters = Filters {
            from: self.text(take("from"), "/filters/from"),
            to: self.text(take("to"), "/filters/to"),
            start_date: self.text(take("start_date"), "/filters/start_date"),
            end_date: self.text(take("end_date"), "/filters/end_date"),
            tz: self.text(take("tz"), "/filters/tz"),
            order_id: self.text(take("order_id"), "/filters/order_id"),
            customer_id: self.text(take("customer_id"), "/filters/customer_id"),
            product_id: self.list(take("product_id"), "/filters/product_id"),
            category: self.text(take("category"), "/filters/category"),
            min_price: self.amount(take("min_price"), "/filters/min_price"),
            max_price: self.amount(take("max_price"), "/filters/max_price"),
            currency: self.text(take("currency"), "/filters/currency"),
            status: self.list(take("status"), "/filters/status"),
            min_total: self.amount(take("min_total"), "/filters/min_total"),
            max_total: self.amount(take("max_total"), "/filters/max_total"),
            q: self.text(take("q"), "/filters/q"),
        };
        if !members.is_empty() {
            let detail = "unknown filters; the known filters are from, to, start_date, end_date, tz, \
                          order_id, customer_id, product_id, category, min_price, max_price, currency, status, \
                          min_total, max_total and q";
            self.wrong("/filters", "unknown_member", detail);
        }
        filters
    }

    fn text(&mut self, value: Option<Value>, pointer: &'static str) -> Option<String> {
        match value? {
            Value::String(text) => Some(text),
            _ => {
                self.wrong(pointer, "not_a_text", "must be a string");
                None
            }
        }
    }

    fn amount(&mut self, value: Option<Value>, pointer: &'static str) -> Option<String> {
        match value? {
            Value::String(text) => Some(text),
            // A number is written without an exponent.
            Value::Number(number) => match number.to_string() {
                text if text.contains(['e', 'E']) => number.as_f64().map(|number| number.to_string()),
                text => Some(text),
            },
            _ => {
                self.wrong(pointer, "not_a_decimal", "must be a decimal number, preferably a string");
                None
            }
        }
    }

    /// Returns the strings from a string or an array of strings.
    fn list(&mut self, value: Option<Value>, pointer: &'static str) -> Vec<String> {
        let values = match value {
            None => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(value) => vec![value],
        };
        let texts: Option<Vec<String>> = values.into_iter().map(text_of).collect();
        match texts {
            Some(texts) if texts.iter().all(|text| !text.is_empty()) => texts,
            _ => {
                self.wrong(pointer, "not_a_list", "must be an array of non-empty strings");
                Vec::new()
            }
        }
    }

    fn fields(&mut self, value: Option<Value>, format: ExportFormat, rows: ExportRows) -> Vec<String> {
        let known = || Column::ALL.into_iter().filter(|column| column.fits(rows));
        let Some(value) = value else {
            let chosen = known().filter(|column| column.is_default(format, rows));
            return chosen.map(|column| column.name().to_owned()).collect();
        };
        let names: Option<Vec<String>> = match value {
            Value::Array(values) if !values.is_empty() => values.into_iter().map(text_of).collect(),
            _ => None,
        };
        let is_known = |name: &String| known().any(|column| column.name() == name);
        let is_once =
            |names: &[String]| names.iter().enumerate().all(|(at, name)| !names[..at].contains(name));
        match names {
            Some(names) if names.iter().all(is_known) && is_once(&names) => names,
            _ => {
                let all: Vec<_> = known().map(Column::name).collect();
                let detail = format!(
                    "fields must be an array of column names without repetition; the columns of these rows \
                     are {}",
                    all.join(", ")
                );
                self.wrong("/fields", "unknown_value", &detail);
                Vec::new()
            }
        }
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_beyond_every_amount_is_valid_and_bounds_that_cross_are_named() {
        let spec = |filters: &str| {
            ExportSpec::read(format!("{{\"format\":\"csv\",\"filters\":{filters}}}").as_bytes())
        };
        let wide = spec(r#"{"min_total":-5,"max_total":1e30}"#).unwrap();
        let (of, _) = wide.filter("t", &KeyHasher::new(&[3; 16])).unwrap();
        assert_eq!((of.total_min, of.total_max), (Some(-50_000), Some(10_i128.pow(34))));
        let faults = spec(r#"{"min_price":"9","max_price":8}"#).unwrap_err();
        assert_eq!((faults[0].pointer, faults[0].code), ("/filters/max_price", "out_of_range"));
    }

    #[test]
    fn what_is_left_open_is_filled_in_and_kept() {
        let spec = ExportSpec::read(br#"{"format":"csv"}"#).unwrap();
        assert_eq!((spec.rows, spec.compression), (ExportRows::Orders, Compression::None));
        assert_eq!(spec.fields.first().map(String::as_str), Some("order_id"));
        assert!(!spec.fields.contains(&"items".to_owned()) && !spec.with_items());
        let lines = ExportSpec::read(br#"{"format":"ndjson"}"#).unwrap();
        assert!(lines.fields.contains(&"items".to_owned()) && lines.with_items());
        let body = br#"{"format":"parquet","rows":"items","compression":"zstd","fields":["amount","order_id"],
            "filters":{"from":"2026-01-01T00:00:00Z","product_id":["a,b","c"],"status":"paid","min_total":10.5}}"#;
        let spec = ExportSpec::read(body).unwrap();
        assert_eq!(spec.columns(), [Column::Amount, Column::OrderId]);
        assert_eq!((spec.filters.product_id.len(), spec.filters.min_total.as_deref()), (2, Some("10.5")));
        let again: ExportSpec = serde_json::from_slice(&serde_json::to_vec(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
        let (of, _) = spec.filter("t", &KeyHasher::new(&[3; 16])).unwrap();
        assert_eq!(
            (of.product_ids, of.statuses, of.total_min),
            (vec!["a,b".to_owned(), "c".to_owned()], 4, Some(105_000))
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_nothing_repeated() {
        let body = br#"{"format":"xls","rows":"secret","fields":["total","total"],"x":1,
            "filters":{"from":"secret","status":["secret"],"min_total":{},"y":2}}"#;
        let faults = ExportSpec::read(body).unwrap_err();
        let pointers: Vec<_> = faults.iter().map(|fault| fault.pointer).collect();
        assert_eq!(
            pointers,
            [
                "/format",
                "/rows",
                "/filters/min_total",
                "/filters",
                "/fields",
                "",
                "/filters/from",
                "/filters/status"
            ]
        );
        assert!(faults.iter().all(|fault| !fault.detail.contains("secret")));
        for body in [&b""[..], b"[]", b"{}", b"{\"format\":null}", b"{\"format\":\"csv\",\"fields\":[]}"] {
            assert!(ExportSpec::read(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        let orders = br#"{"format":"csv","fields":["quantity"]}"#;
        assert_eq!(ExportSpec::read(orders).unwrap_err()[0].pointer, "/fields");
    }

    #[test]
    fn a_stored_specification_keeps_its_period() {
        let us = |text: &str| Some(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        for (filters, from, to) in [
            (r#"{"from":"2026-01-01T00:00:00Z"}"#, us("2026-01-01T00:00:00Z"), None),
            (
                r#"{"from":"2026-01-01t00:00:00z","to":"2026-02-01"}"#,
                us("2026-01-01T00:00:00Z"),
                us("2026-02-01T00:00:00Z"),
            ),
            (
                r#"{"start_date":"2026-03-29","end_date":"2026-03-29","tz":"Europe/Berlin"}"#,
                us("2026-03-28T23:00:00Z"),
                us("2026-03-29T22:00:00Z"),
            ),
            (
                r#"{"from":"2026-03-29T01:00","end_date":null,"to":"2026-03-29T040000","tz":"Europe/Berlin"}"#,
                us("2026-03-29T00:00:00Z"),
                us("2026-03-29T02:00:00Z"),
            ),
        ] {
            let stored = format!(
                r#"{{"format":"csv","rows":"orders","compression":"none","filters":{filters},"fields":["total"]}}"#
            );
            let spec: ExportSpec = serde_json::from_str(&stored).unwrap();
            let range = spec.filter("t", &KeyHasher::new(&[3; 16])).unwrap().1;
            assert_eq!((range.from_us, range.to_us), (from, to), "{filters}");
        }
    }
}
