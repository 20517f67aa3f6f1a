//! Queries for events: the rows of `GET /events`, and the plan for counting them over time.

use jiff::tz::TimeZone;
use rusqlite::Connection;

use super::count::count;
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
