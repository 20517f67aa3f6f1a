//! The query of `GET /clicks`.

use rusqlite::Connection;

use super::read::{ClickFilter, count};
use super::schema::CLICKS;
use crate::query::{ParameterError, Parameters, Period, RowsPlan, Selection, Step};
use crate::shard::read::{self, Partial, TimeRange};
use crate::shard::{ShardError, Stream};

/// Selects clicks in order of (timestamp, user, shard, id).
impl Selection for ClickFilter {
    fn stream(&self) -> &'static Stream {
        &CLICKS
    }

    fn step(&self, connection: &Connection, step: &Step<'_>) -> Result<Partial, ShardError> {
        read::step(connection, (self, step.range), step.pin, step.position, step.bounds, step.keys_only)
    }

    fn count(&self, connection: &Connection, range: (i64, i64)) -> Result<Option<i64>, ShardError> {
        count(connection, self, range).map(Some)
    }

    fn fingerprint(&self, part: &mut dyn FnMut(Option<&str>)) {
        part(Some("clicks"));
        part(self.user_id.map(|id| id.to_string()).as_deref());
    }
}

/// Parses the query of `GET /clicks`.
///
/// # Errors
/// Returns every invalid parameter.
pub fn rows_plan(query: Option<&str>) -> Result<RowsPlan, Vec<ParameterError>> {
    let mut parameters = Parameters::with_period(query, &["user_id", "order", "page", "page_size", "cursor"]);
    let of = click_filter(&mut parameters);
    RowsPlan::new(parameters, of)
}

/// Parses the filter and the range of an export from the parameters that `GET /clicks` has too.
pub fn click_selection(parameters: &mut Parameters) -> (ClickFilter, TimeRange) {
    (click_filter(parameters), Period::read(parameters).range(false))
}

fn click_filter(parameters: &mut Parameters) -> ClickFilter {
    ClickFilter { user_id: parameters.number("user_id", i64::MIN, i64::MAX) }
}
