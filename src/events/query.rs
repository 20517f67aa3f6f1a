//! Queries for events: the rows of `GET /events`, and the plan for counting them over time.

use jiff::tz::TimeZone;
use rusqlite::Connection;

use super::count::count;
use super::payload_value::{PATH_CHARS_MAX, PATH_PARTS_MAX, ValuePath};
use super::read::EventFilter;
use super::schema::EVENTS;
use crate::base::bucket_size::BucketSize;
use crate::base::limits::NAME_BYTES_MAX;
use crate::query::{ParameterError, Parameters, Period, RowsPlan, Selection, Step};
use crate::shard::read::{self, Partial, TimeRange};
use crate::shard::{ShardError, Stream};

/// Selects events in order of (timestamp, event id).
impl Selection for EventFilter {
    fn stream(&self) -> &'static Stream {
        &EVENTS
    }

    fn step(&self, connection: &Connection, step: &Step<'_>) -> Result<Partial, ShardError> {
        read::step(connection, (self, step.range), step.pin, step.position, step.bounds, step.keys_only)
    }

    fn count(&self, connection: &Connection, range: (i64, i64)) -> Result<Option<i64>, ShardError> {
        count(connection, self, range).map(Some)
    }

    fn fingerprint(&self, part: &mut dyn FnMut(Option<&str>)) {
        let EventFilter { tenant_id, source, event_type } = self;
        for value in [Some("events"), Some(tenant_id.as_str()), source.as_deref(), event_type.as_deref()] {
            part(value);
        }
    }
}

/// A query for counts over time.
#[derive(Clone, Debug)]
pub struct BucketsPlan {
    pub of: EventFilter,
    pub size: BucketSize,
    pub range: TimeRange,
    /// The time zone. `None` means UTC.
    pub zone: Option<TimeZone>,
}

/// Parses the query of `GET /events`. Also returns the tenant.
///
/// # Errors
/// Returns every invalid parameter.
pub fn rows_plan(query: Option<&str>) -> Result<(RowsPlan, String), Vec<ParameterError>> {
    let known = &["tenant_id", "source", "event_type", "order", "page", "page_size", "cursor"];
    let mut parameters = Parameters::with_period(query, known);
    let tenant_id = parameters.tenant();
    let of = event_filter(&mut parameters, tenant_id.clone());
    Ok((RowsPlan::new(parameters, of)?, tenant_id))
}

/// Parses the filter and the range of an export from the parameters that `GET /events` has too.
pub fn event_selection(parameters: &mut Parameters, tenant_id: &str) -> (EventFilter, TimeRange) {
    (event_filter(parameters, tenant_id.to_owned()), Period::read(parameters).range(false))
}

/// The property by which events are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupBy {
    EventType,
    Source,
    Hour,
    Day,
}

/// A query for the number of events by group.
#[derive(Clone, Debug)]
pub(super) struct SummaryPlan {
    pub of: EventFilter,
    pub by: GroupBy,
    pub period: Period,
}

impl SummaryPlan {
    /// Parses the query of `…/events/summary`.
    pub(super) fn new(tenant_id: &str, query: Option<&str>) -> Result<SummaryPlan, Vec<ParameterError>> {
        let mut parameters = Parameters::with_period(query, &["group_by", "source", "event_type"]);
        let groups = [
            ("event_type", GroupBy::EventType),
            ("source", GroupBy::Source),
            ("hour", GroupBy::Hour),
            ("day", GroupBy::Day),
        ];
        let by = parameters.choice("group_by", &groups).unwrap_or(GroupBy::EventType);
        let of = event_filter(&mut parameters, tenant_id.to_owned());
        let period = Period::read(&mut parameters);
        parameters.done(SummaryPlan { of, by, period })
    }
}

/// The property whose distinct values are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UniqueBy {
    Names(GroupBy),
    Payload(ValuePath),
}

/// A query for the number of distinct values.
#[derive(Clone, Debug)]
pub(super) struct UniquePlan {
    pub of: EventFilter,
    /// The value, as the client wrote it.
    pub text: String,
    pub by: UniqueBy,
    pub period: Period,
}

impl UniquePlan {
    /// Parses the query of `…/events/unique`.
    pub(super) fn new(tenant_id: &str, query: Option<&str>) -> Result<UniquePlan, Vec<ParameterError>> {
        let mut parameters = Parameters::with_period(query, &["by", "source", "event_type"]);
        let text = parameters.value("by");
        let by = match text.as_deref() {
            None => {
                let detail = "by is required: source, event_type, or a path such as payload.user.id";
                parameters.wrong("by", "missing_parameter", detail);
                None
            }
            Some("source") => Some(UniqueBy::Names(GroupBy::Source)),
            Some("event_type") => Some(UniqueBy::Names(GroupBy::EventType)),
            Some(path) => ValuePath::parse(path).map(UniqueBy::Payload).or_else(|| {
                let detail = format!(
                    "by must be source, event_type, a path such as payload.user.id, or a JSON Pointer such as \
                     /payload/user.id/0; at most {PATH_CHARS_MAX} characters and {PATH_PARTS_MAX} members"
                );
                parameters.wrong("by", "unknown_value", &detail);
                None
            }),
        };
        let of = event_filter(&mut parameters, tenant_id.to_owned());
        let period = Period::read(&mut parameters);
        let by = by.unwrap_or(UniqueBy::Names(GroupBy::Source));
        parameters.done(UniquePlan { of, text: text.unwrap_or_default(), by, period })
    }
}

fn event_filter(parameters: &mut Parameters, tenant_id: String) -> EventFilter {
    let mut name = |name| parameters.text(name, NAME_BYTES_MAX);
    EventFilter { tenant_id, source: name("source"), event_type: name("event_type") }
}

impl BucketsPlan {
    /// Parses the query of `GET /metrics?tenant_id=…`.
    pub fn new(query: Option<&str>) -> Result<BucketsPlan, Vec<ParameterError>> {
        let known = &["tenant_id", "source", "event_type", "bucket_size"];
        let mut parameters = Parameters::with_period(query, known);
        let tenant_id = parameters.tenant();
        let of = event_filter(&mut parameters, tenant_id.clone());
        let period = Period::read(&mut parameters);
        let sizes = [("minute", BucketSize::Minute), ("hour", BucketSize::Hour), ("day", BucketSize::Day)];
        if !parameters.is_given("bucket_size") {
            parameters.wrong(
                "bucket_size",
                "missing_parameter",
                "bucket_size is required: minute, hour or day",
            );
        }
        let size = parameters.choice("bucket_size", &sizes).unwrap_or(BucketSize::Hour);
        let range = period.range(false);
        parameters.done(BucketsPlan { of, size, range, zone: period.zone })
    }
}
