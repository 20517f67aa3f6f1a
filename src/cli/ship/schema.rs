//! `firehose ship schema`: prints the SQL of the target's tables.

use std::process::ExitCode;

use crate::ops::output::say;
use crate::ship::postgres::schema_sql;

/// Prints the SQL.
pub(super) fn schema(citus: bool) -> ExitCode {
    say(&schema_sql(citus));
    ExitCode::SUCCESS
}
