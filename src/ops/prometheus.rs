//! Metrics pages in the Prometheus text format 0.0.4 and in OpenMetrics 1.0.
//!
//! In: names, labels and numbers from code. Out: a page. Owns: escaping and the naming rules in which the formats
//! differ. Never: uses an identifier as a label value (callers keep label sets closed).

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::http::{Media, preferred};

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text format 0.0.4, which every scraper supports.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns the value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

const OPEN: Media = Media { essence: "application/openmetrics-text", versions: &["1.0.0", "0.0.1"] };
const TEXT: Media = Media::new("text/plain");

/// Returns the format that an `Accept` header prefers: OpenMetrics if its weight is not lower than that of plain
/// text, otherwise text. Versions other than 1 and 0.0.1 (its draft name) are not supported.
#[must_use]
pub fn negotiate(accept: &[&str]) -> Format {
    if preferred(accept, &[OPEN, TEXT], 1) == 0 { Format::OpenMetrics } else { Format::Text }
}

/// A family's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that only increases. Its samples get `_total`.
    Counter,
    Gauge,
    /// Written by [`Page::histogram`] or [`Page::buckets`].
    Histogram,
    /// Written by [`Page::summary`].
    Summary,
}

/// A sample's value. Whole numbers keep every digit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Whole(u64),
    Float(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Number {
        Number::Whole(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Number {
        Number::Float(value)
    }
}

/// A page under construction: families in sequence, each with its samples.
#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
    name: &'static str,
    kind: Kind,
}

impl Page {
    #[must_use]
    pub fn new(format: Format) -> Page {
        // A full page of a two-core server is about 30 KB.
        Page { format, text: String::with_capacity(32 * 1024), name: "", kind: Kind::Gauge }
    }

    /// Begins a family. A counter's `name` has no `_total`. `unit` is the base unit at the end of the name (`seconds`,
    /// `bytes`), or empty. A family may begin only once per page.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str, unit: &str) {
        debug_assert!(is_name(name), "{name} is not a metric name");
        debug_assert!(!name.ends_with("_total"), "{name}: the page adds _total");
        debug_assert!(
            unit.is_empty() || name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')),
            "{name} does not end with its unit"
        );
        (self.name, self.kind) = (name, kind);
        let declared = match (self.format, kind) {
            (Format::Text, Kind::Counter) => "_total",
            _ => "",
        };
        _ = write!(self.text, "# HELP {name}{declared} ");
        escape(&mut self.text, help, self.format == Format::OpenMetrics);
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        _ = writeln!(self.text, "\n# TYPE {name}{declared} {kind}");
        if self.format == Format::OpenMetrics && !unit.is_empty() {
            _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
    }

    /// Writes a sample of the current family. Its labels must be unique.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Number>) {
        debug_assert_ne!(self.kind, Kind::Histogram, "{}: use histogram()", self.name);
        debug_assert_ne!(self.kind, Kind::Summary, "{}: use summary()", self.name);
        debug_assert!(
            labels.iter().all(|(name, _)| *name != "quantile"),
            "{}: quantiles are a summary's",
            self.name
        );
        let suffix = if self.kind == Kind::Counter { "_total" } else { "" };
        self.line(suffix, labels, None, value.into());
    }

    /// Writes the samples of one histogram of the current family: values in microseconds, `bounds` in seconds
    /// ascending. The caller provides `sum_seconds`, because the histogram only contains buckets. A bucket counts
    /// values up to its bound within the histogram's precision. This takes one pass over the recorded values.
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        histogram: &Histogram<u64>,
        bounds: &[f64],
        sum_seconds: f64,
    ) {
        debug_assert_eq!(self.kind, Kind::Histogram, "{}: use sample()", self.name);
        debug_assert!(bounds.is_sorted(), "{}: bounds must ascend", self.name);
        let mut recorded = histogram.iter_recorded().peekable();
        let mut count = 0;
        for bound in bounds {
            let bound_us = (bound * 1e6).round() as u64;
            while let Some(step) =
                recorded.next_if(|step| histogram.lowest_equivalent(step.value_iterated_to()) <= bound_us)
            {
                count += step.count_since_last_iteration();
            }
            self.line("_bucket", labels, Some(*bound), Number::Whole(count));
        }
        self.line("_bucket", labels, Some(f64::INFINITY), Number::Whole(histogram.len()));
        self.line("_sum", labels, None, Number::Float(sum_seconds));
        self.line("_count", labels, None, Number::Whole(histogram.len()));
    }

    /// Writes one histogram, counted in buckets with their upper bounds. The last count is for values above them.
    pub fn buckets(&mut self, labels: &[(&str, &str)], bounds_us: &[u64], counts: &[u64], sum_seconds: f64) {
        debug_assert_eq!(self.kind, Kind::Histogram, "{}: use sample()", self.name);
        debug_assert_eq!(bounds_us.len() + 1, counts.len(), "{}", self.name);
        let mut count = 0;
        for (bound_us, of_bucket) in bounds_us.iter().zip(counts) {
            count += of_bucket;
            self.line("_bucket", labels, Some(*bound_us as f64 / 1e6), Number::Whole(count));
        }
        count = counts.iter().sum();
        self.line("_bucket", labels, Some(f64::INFINITY), Number::Whole(count));
        self.line("_sum", labels, None, Number::Float(sum_seconds));
        self.line("_count", labels, None, Number::Whole(count));
    }

    /// Writes the samples of one summary of the current family: the value at each of the named `quantiles`, the sum
    /// and the count. The histogram contains microseconds; `sum_seconds` is as in [`Page::histogram`].
    pub fn summary(
        &mut self,
        labels: &[(&str, &str)],
        histogram: &Histogram<u64>,
        quantiles: &[(f64, &str)],
        sum_seconds: f64,
    ) {
        debug_assert_eq!(self.kind, Kind::Summary, "{}: use sample()", self.name);
        for (quantile, name) in quantiles {
            let value = Number::Float(histogram.value_at_quantile(*quantile) as f64 / 1e6);
            self.line("", &[labels, &[("quantile", name)]].concat(), None, value);
        }
        self.line("_sum", labels, None, Number::Float(sum_seconds));
        self.line("_count", labels, None, Number::Whole(histogram.len()));
    }

    /// Returns the finished page, with the end that its format requires.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    /// Returns the format of this page.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<f64>, value: Number) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let mut open = '{';
        for (name, value) in labels {
            debug_assert!(is_name(name) && *name != "le", "{name} is not a label name");
            _ = write!(self.text, "{open}{name}=\"");
            escape(&mut self.text, value, true);
            self.text.push('"');
            open = ',';
        }
        if let Some(bound) = bound {
            _ = write!(self.text, "{open}le=\"");
            float(&mut self.text, bound);
            self.text.push('"');
            open = ',';
        }
        self.text.push_str(if open == ',' { "} " } else { " " });
        match value {
            Number::Whole(value) => _ = write!(self.text, "{value}"),
            Number::Float(value) => float(&mut self.text, value),
        }
        self.text.push('\n');
    }
}

/// Writes a number in a form that both formats accept: `1.0`, `1e-5`, `+Inf`, `NaN`.
fn float(text: &mut String, value: f64) {
    match value {
        value if value.is_nan() => text.push_str("NaN"),
        f64::INFINITY => text.push_str("+Inf"),
        f64::NEG_INFINITY => text.push_str("-Inf"),
        value => _ = write!(text, "{value:?}"),
    }
}

fn escape(text: &mut String, raw: &str, quotes: bool) {
    for c in raw.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.family("firehose_received", Kind::Counter, "Events \"in\",\nby \\ core.", "");
        page.sample(&[("core", "0")], 18_446_744_073_709_551_615_u64);
        page.sample(&[("core", "a\"b\\c\nd")], 0_u64);
        page.family("process_resident_memory_bytes", Kind::Gauge, "Memory.", "bytes");
        page.sample(&[], 1.5e9);
        page.family("firehose_ack_seconds", Kind::Histogram, "Ack.", "seconds");
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 2).unwrap();
        for us in [5, 10, 11, 1_000, 2_000_000] {
            histogram.record(us).unwrap();
        }
        page.histogram(&[("core", "0")], &histogram, &[0.00001, 0.001, 1.0], 2.001_026);
        page.finish()
    }

    #[test]
    fn the_text_page_is_as_its_format_says() {
        assert_eq!(
            page(Format::Text),
            "# HELP firehose_received_total Events \"in\",\\nby \\\\ core.\n\
             # TYPE firehose_received_total counter\n\
             firehose_received_total{core=\"0\"} 18446744073709551615\n\
             firehose_received_total{core=\"a\\\"b\\\\c\\nd\"} 0\n\
             # HELP process_resident_memory_bytes Memory.\n\
             # TYPE process_resident_memory_bytes gauge\n\
             process_resident_memory_bytes 1500000000.0\n\
             # HELP firehose_ack_seconds Ack.\n\
             # TYPE firehose_ack_seconds histogram\n\
             firehose_ack_seconds_bucket{core=\"0\",le=\"1e-5\"} 2\n\
             firehose_ack_seconds_bucket{core=\"0\",le=\"0.001\"} 4\n\
             firehose_ack_seconds_bucket{core=\"0\",le=\"1.0\"} 4\n\
             firehose_ack_seconds_bucket{core=\"0\",le=\"+Inf\"} 5\n\
             firehose_ack_seconds_sum{core=\"0\"} 2.001026\n\
             firehose_ack_seconds_count{core=\"0\"} 5\n"
        );
    }

    #[test]
    fn the_openmetrics_page_names_its_families_bare_and_ends() {
        let page = page(Format::OpenMetrics);
        assert!(page.starts_with(
            "# HELP firehose_received Events \\\"in\\\",\\nby \\\\ core.\n\
             # TYPE firehose_received counter\n\
             firehose_received_total{core=\"0\"} 18446744073709551615\n"
        ));
        assert!(page.contains("# UNIT firehose_ack_seconds seconds\n"), "{page}");
        assert!(page.ends_with("firehose_ack_seconds_count{core=\"0\"} 5\n# EOF\n"), "{page}");
    }

    #[test]
    fn scrapers_get_the_format_they_prefer() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (None, Format::Text),
            (Some(""), Format::Text),
            (Some("*/*"), Format::Text),
            (Some("text/html"), Format::Text),
            (Some(prometheus), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("application/openmetrics-text; q=0.1, text/plain"), Format::Text),
            (Some("application/openmetrics-text;q=0"), Format::Text),
            (Some("application/openmetrics-text;version=9.0.0"), Format::Text),
            (Some("application/openmetrics-text;q=nonsense"), Format::Text),
        ] {
            assert_eq!(negotiate(accept.as_slice()), format, "{accept:?}");
        }
    }
}
