//! An export's specification: parsed from the JSON of its request, validated, and stored in canonical form.

use serde::{Deserialize, Serialize};

use super::columns::Column;
use super::filters::{Filters, fault};
use super::source::ExportSource;
use crate::api::members::{Member, Members};
use crate::base::keys::KeyHasher;
use crate::clicks::click_selection;
use crate::events::event_selection;
use crate::orders::order_filter;
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
    /// A service event.
    Events,
    /// A click. Clicks belong to no tenant.
    Clicks,
}

impl ExportRows {
    /// The rows that belong to a tenant. The first are the default.
    pub const OF_TENANT: &'static [ExportRows] = &[ExportRows::Orders, ExportRows::Items, ExportRows::Events];
    /// The rows that belong to no tenant.
    pub const OF_ALL: &'static [ExportRows] = &[ExportRows::Clicks];

    /// Returns the rows that an export of a tenant may have. Without a tenant, the name is empty.
    #[must_use]
    pub fn of(tenant: &str) -> &'static [ExportRows] {
        if tenant.is_empty() { ExportRows::OF_ALL } else { ExportRows::OF_TENANT }
    }

    /// Returns `true` if a chosen row is an order.
    #[must_use]
    pub fn are_of_orders(self) -> bool {
        matches!(self, ExportRows::Orders | ExportRows::Items)
    }

    /// Returns the word in requests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ExportRows::Orders => "orders",
            ExportRows::Items => "items",
            ExportRows::Events => "events",
            ExportRows::Clicks => "clicks",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    Gzip,
    Zstd,
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
    /// Parses the specification from a request's document. `rows` are the rows that the export may have, the default
    /// first.
    ///
    /// # Errors
    /// Returns every error in the body. No error repeats any of the body's content.
    pub(crate) fn read(body: Member<'_>, rows: &[ExportRows]) -> Result<ExportSpec, Vec<ExportFault>> {
        let mut reader = Reader { faults: Vec::new() };
        let Some(mut members) = body.members() else {
            reader.wrong(
                "",
                "not_an_object",
                "the body must be a JSON object with a format: csv, ndjson or parquet",
            );
            return Err(reader.faults);
        };
        let formats = [
            ("csv", ExportFormat::Csv),
            ("ndjson", ExportFormat::Ndjson),
            ("parquet", ExportFormat::Parquet),
        ];
        let format = reader.choice(&mut members, "format", "/format", &formats);
        if format.is_none() && reader.faults.is_empty() {
            reader.wrong("/format", "missing", "format is required: csv, ndjson or parquet");
        }
        let format = format.unwrap_or(ExportFormat::Csv);
        let kinds: Vec<_> = rows.iter().map(|rows| (rows.name(), *rows)).collect();
        let rows = reader.choice(&mut members, "rows", "/rows", &kinds).or(rows.first().copied());
        let rows = rows.unwrap_or(ExportRows::Orders);
        let codings = [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];
        let compression = reader.choice(&mut members, "compression", "/compression", &codings);
        let compression = compression.unwrap_or(Compression::None);
        let mut wrong = |pointer: &'static str, code, detail: &str| reader.wrong(pointer, code, detail);
        let filters = members.take("filters", "/filters", &mut wrong);
        let filters = Filters::read(filters, rows, &mut wrong);
        let fields = members.take("fields", "/fields", &mut wrong);
        let fields = reader.fields(fields, format, rows);
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

    /// Returns the source of the rows and their range of times.
    ///
    /// # Errors
    /// Returns every error in the filters.
    pub fn filter(
        &self,
        tenant_id: &str,
        keys: &KeyHasher,
    ) -> Result<(ExportSource, TimeRange), Vec<ExportFault>> {
        let mut parameters = self.filters.parameters(self.rows);
        let source = match self.rows {
            ExportRows::Orders | ExportRows::Items => {
                let products = self.filters.texts("product_id").to_vec();
                let (of, range) = order_filter(tenant_id, keys, &mut parameters, products);
                (ExportSource::Orders(Box::new(of)), range)
            }
            ExportRows::Events => {
                let (of, range) = event_selection(&mut parameters, tenant_id);
                (ExportSource::Events(of), range)
            }
            ExportRows::Clicks => {
                let (of, range) = click_selection(&mut parameters);
                (ExportSource::Clicks(of), range)
            }
        };
        parameters.done(source).map_err(|errors| errors.into_iter().map(fault).collect())
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

struct Reader {
    faults: Vec<ExportFault>,
}

impl Reader {
    fn wrong(&mut self, pointer: &'static str, code: &'static str, detail: &str) {
        self.faults.push(ExportFault { pointer, code, detail: detail.to_owned() });
    }

    fn choice<T: Copy>(
        &mut self,
        members: &mut Members<'_>,
        name: &str,
        pointer: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let mut wrong = |pointer: &'static str, code, detail: &str| self.wrong(pointer, code, detail);
        let word = members.take(name, pointer, &mut wrong)?.text();
        let chosen = choices.iter().find(|(known, _)| word.as_deref() == Some(known));
        if chosen.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(pointer, "unknown_value", &format!("allowed values: {}", words.join(", ")));
        }
        chosen.map(|(_, chosen)| *chosen)
    }

    fn fields(&mut self, value: Option<Member<'_>>, format: ExportFormat, rows: ExportRows) -> Vec<String> {
        let known = || Column::of(std::slice::from_ref(&rows));
        let Some(value) = value else {
            let chosen = known().filter(|column| column.is_default(format, rows));
            return chosen.map(|column| column.name().to_owned()).collect();
        };
        // One string is not a list of columns.
        let names = value.elements().and_then(|_| value.texts());
        if names.as_ref().is_some_and(Vec::is_empty) {
            let detail = "fields must have at least one column; leave it out to get the default ones";
            self.wrong("/fields", "too_few", detail);
            return Vec::new();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<ExportSpec, Vec<ExportFault>> {
        read_of(body, ExportRows::OF_TENANT)
    }

    fn read_of(body: &[u8], rows: &[ExportRows]) -> Result<ExportSpec, Vec<ExportFault>> {
        ExportSpec::read(Member::of(body).unwrap(), rows)
    }

    #[test]
    fn what_is_left_open_is_filled_in_and_kept() {
        let spec = read(br#"{"format":"csv"}"#).unwrap();
        assert_eq!((spec.rows, spec.compression), (ExportRows::Orders, Compression::None));
        assert_eq!(spec.fields.first().map(String::as_str), Some("order_id"));
        assert!(!spec.fields.contains(&"items".to_owned()) && !spec.with_items());
        let lines = read(br#"{"format":"ndjson"}"#).unwrap();
        assert!(lines.fields.contains(&"items".to_owned()) && lines.with_items());
        let body = br#"{"format":"parquet","rows":"items","compression":"zstd","fields":["amount","order_id"],
            "filters":{"from":"2026-01-01T00:00:00Z","product_id":["a,b","c"],"status":"paid","min_total":10.5}}"#;
        let spec = read(body).unwrap();
        assert_eq!(spec.columns(), [Column::Amount, Column::OrderId]);
        assert_eq!(
            (spec.filters.texts("product_id").len(), spec.filters.texts("min_total")),
            (2, &["10.5".to_owned()][..])
        );
        let again: ExportSpec = serde_json::from_slice(&serde_json::to_vec(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
        let (of, _) = spec.filter("t", &KeyHasher::new(&[3; 16])).unwrap();
        let ExportSource::Orders(of) = of else { panic!("{of:?}") };
        assert_eq!(
            (of.product_ids, of.statuses, of.total_min),
            (vec!["a,b".to_owned(), "c".to_owned()], 4, Some(105_000))
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_nothing_repeated() {
        let body = br#"{"format":"xls","rows":"secret","fields":["total","total"],"x":1,
            "filters":{"from":"secret","status":["secret"],"min_total":{},"y":2}}"#;
        let faults = read(body).unwrap_err();
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
        for (body, expected) in [
            ("[]", ("", "not_an_object")),
            ("{}", ("/format", "missing")),
            (r#"{"format":null}"#, ("/format", "missing")),
            (r#"{"format":"\ud800"}"#, ("/format", "unknown_value")),
            (r#"{"format":"csv","fields":["\ud800"]}"#, ("/fields", "unknown_value")),
            (r#"{"format":"csv","filters":{"q":"\ud800"}}"#, ("/filters/q", "invalid_unicode")),
            (
                r#"{"format":"csv","filters":{"product_id":["a","\ud800"]}}"#,
                ("/filters/product_id", "invalid_unicode"),
            ),
        ] {
            let faults = read(body.as_bytes()).unwrap_err();
            let found: Vec<_> = faults.iter().map(|fault| (fault.pointer, fault.code)).collect();
            assert_eq!(found, [expected], "{body}");
        }
        let orders = br#"{"format":"csv","fields":["quantity"]}"#;
        assert_eq!(read(orders).unwrap_err()[0].pointer, "/fields");
    }

    /// A program that fills a list from its own data, and finds nothing, must not get every row.
    #[test]
    fn an_empty_list_is_refused_and_does_not_select_everything() {
        for (body, pointer) in [
            (r#"{"format":"csv","filters":{"status":[]}}"#, "/filters/status"),
            (r#"{"format":"csv","filters":{"product_id":[ ]}}"#, "/filters/product_id"),
            (r#"{"format":"csv","fields":[]}"#, "/fields"),
        ] {
            let faults = read(body.as_bytes()).unwrap_err();
            let found: Vec<_> = faults.iter().map(|fault| (fault.pointer, fault.code)).collect();
            assert_eq!(found, [(pointer, "too_few")], "{body}");
        }
        let commas = read(br#"{"format":"csv","filters":{"status":","}}"#).unwrap_err();
        assert_eq!((commas[0].pointer, commas[0].code), ("/filters/status", "empty_value"));
        for (rows, name) in [ExportRows::Orders, ExportRows::Events, ExportRows::Clicks]
            .into_iter()
            .flat_map(|rows| super::super::filters::names(rows).map(move |name| (rows, name)))
        {
            let body = format!(r#"{{"format":"csv","rows":"{}","filters":{{"{name}":[]}}}}"#, rows.name());
            let faults = read_of(body.as_bytes(), &[rows]).unwrap_err();
            assert_eq!(faults[0].pointer, format!("/filters/{name}"));
        }
    }

    #[test]
    fn an_amount_keeps_all_its_digits_whether_it_is_a_number_or_a_string() {
        for (amount, expected) in [
            ("12345678901234.5678", Some(123_456_789_012_345_678)),
            ("\"12345678901234.5678\"", Some(123_456_789_012_345_678)),
            ("0.3", Some(3_000)),
            ("90071992547409.93", Some(900_719_925_474_099_300)),
            ("1e2", Some(1_000_000)),
            ("-1.5e-2", Some(-150)),
            ("12345678901234567890.5", Some(123_456_789_012_345_678_905_000)),
            ("90071992547409931e-4", Some(90_071_992_547_409_931)),
            ("1e399", Some(i128::MAX)),
            ("1e400", None),
            ("1e-400", None),
            ("1.00001", None),
            ("1e-5", None),
            ("\"1e2\"", None),
        ] {
            let body = format!(r#"{{"format":"csv","filters":{{"min_total":{amount}}}}}"#);
            let spec = read(body.as_bytes());
            let Some(expected) = expected else {
                let faults = spec.unwrap_err();
                assert_eq!((faults.len(), faults[0].pointer), (1, "/filters/min_total"), "{amount}");
                continue;
            };
            let (of, _) = spec.unwrap().filter("t", &KeyHasher::new(&[3; 16])).unwrap();
            let ExportSource::Orders(of) = of else { panic!("{of:?}") };
            assert_eq!(of.total_min, Some(expected), "{amount}");
        }
    }

    #[test]
    fn a_bound_beyond_every_amount_is_valid_and_bounds_that_cross_are_named() {
        let spec = |filters: &str| read(format!("{{\"format\":\"csv\",\"filters\":{filters}}}").as_bytes());
        let wide = spec(r#"{"min_total":-5,"max_total":1e30}"#).unwrap();
        let (of, _) = wide.filter("t", &KeyHasher::new(&[3; 16])).unwrap();
        let ExportSource::Orders(of) = of else { panic!("{of:?}") };
        assert_eq!((of.total_min, of.total_max), (Some(-50_000), Some(10_i128.pow(34))));
        for (crossing, pointer) in [
            (r#"{"min_price":"9","max_price":8}"#, "/filters/max_price"),
            (r#"{"min_total":1e30,"max_total":9E+29}"#, "/filters/max_total"),
        ] {
            let faults = spec(crossing).unwrap_err();
            assert_eq!((faults[0].pointer, faults[0].code, faults.len()), (pointer, "out_of_range", 1));
        }
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
                r#"{"from":"2026-03-29T01:00","to":"2026-03-29T040000","tz":"Europe/Berlin"}"#,
                us("2026-03-29T00:00:00Z"),
                us("2026-03-29T02:00:00Z"),
            ),
        ] {
            for (rows, field) in [("orders", "total"), ("events", "source"), ("clicks", "user_id")] {
                let stored = format!(
                    r#"{{"format":"csv","rows":"{rows}","compression":"none","filters":{filters},"fields":["{field}"]}}"#
                );
                let spec: ExportSpec = serde_json::from_str(&stored).unwrap();
                let range = spec.filter("t", &KeyHasher::new(&[3; 16])).unwrap().1;
                assert_eq!((range.from_us, range.to_us), (from, to), "{filters}");
            }
        }
    }

    #[test]
    fn a_repeated_member_is_refused_by_its_pointer() {
        for (body, pointer) in [
            (r#"{"format":"csv","filters":{"customer_id":"a","customer_id":"b"}}"#, "/filters/customer_id"),
            (r#"{"format":"csv","filters":{"q":null,"\u0071":"b"}}"#, "/filters/q"),
            (r#"{"format":"csv","filters":{},"filters":{"q":"a"}}"#, "/filters"),
            (r#"{"format":"csv","format":"csv"}"#, "/format"),
            (r#"{"format":"csv","rows":"items","rows":"orders"}"#, "/rows"),
        ] {
            let faults = read(body.as_bytes()).unwrap_err();
            let told: Vec<_> = faults.iter().map(|fault| (fault.pointer, fault.code)).collect();
            assert_eq!(told, [(pointer, "repeated")], "{body}");
        }
    }

    #[test]
    fn rows_have_the_filters_of_their_query_and_the_message_lists_them() {
        let events = r#"{"format":"csv","rows":"events","filters":{"source":"web","from":"2026-01-01"}}"#;
        let (of, range) = read(events.as_bytes()).unwrap().filter("t", &KeyHasher::new(&[3; 16])).unwrap();
        assert!(matches!(of, ExportSource::Events(of) if of.source.as_deref() == Some("web")));
        assert_eq!((range.from_us, range.descending), (Some(1_767_225_600_000_000), false));
        let clicks = br#"{"format":"csv","filters":{"user_id":-7}}"#;
        let spec = read_of(clicks, ExportRows::OF_ALL).unwrap();
        assert_eq!((spec.rows, spec.filters.user_id()), (ExportRows::Clicks, Some(-7)));
        let (of, _) = spec.filter("", &KeyHasher::new(&[3; 16])).unwrap();
        assert!(matches!(of, ExportSource::Clicks(of) if of.user_id == Some(-7)));
        let again: ExportSpec = serde_json::from_slice(&serde_json::to_vec(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
        for (body, rows, told) in [
            (
                r#"{"format":"csv","rows":"events","filters":{"q":"x"}}"#,
                ExportRows::OF_TENANT,
                "source and event_type",
            ),
            (r#"{"format":"csv","filters":{"source":"x"}}"#, ExportRows::OF_TENANT, "max_total and q"),
            (r#"{"format":"csv","filters":{"source":"x"}}"#, ExportRows::OF_ALL, "tz and user_id"),
        ] {
            let faults = read_of(body.as_bytes(), rows).unwrap_err();
            assert_eq!(faults.len(), 1, "{body}");
            assert_eq!((faults[0].pointer, faults[0].code), ("/filters", "unknown_member"));
            assert!(faults[0].detail.ends_with(told), "{}", faults[0].detail);
        }
        for (body, rows) in [
            (r#"{"format":"csv","rows":"clicks"}"#, ExportRows::OF_TENANT),
            (r#"{"format":"csv","rows":"orders"}"#, ExportRows::OF_ALL),
        ] {
            assert_eq!(read_of(body.as_bytes(), rows).unwrap_err()[0].pointer, "/rows");
        }
        for user_id in ["\"7\"", "7.0", "9223372036854775808"] {
            let body = format!(r#"{{"format":"csv","filters":{{"user_id":{user_id}}}}}"#);
            let faults = read_of(body.as_bytes(), ExportRows::OF_ALL).unwrap_err();
            assert_eq!((faults[0].pointer, faults[0].code), ("/filters/user_id", "not_an_integer"));
        }
    }
}
