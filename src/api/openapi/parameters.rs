//! Parameters and their types, for the operations of the OpenAPI document.

use utoipa::Number;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Ref, RefOr, Required};

/// Describes a query parameter, which is optional by default. It must not be empty ([`super::super::query`]).
pub fn parameter(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

pub fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

pub fn words(words: &[&str]) -> ObjectBuilder {
    string().enum_values(Some(words.iter().copied()))
}

/// Describes a comma-separated list of these words.
pub fn list_of<'w>(words: impl IntoIterator<Item = &'w str>) -> ObjectBuilder {
    let words = words.into_iter().collect::<Vec<_>>().join("|");
    matching(&format!("^({words})(,({words}))*$"))
}

pub fn matching(pattern: &str) -> ObjectBuilder {
    string().pattern(Some(pattern))
}

/// Describes a string whose form no pattern can express. The format names the form.
pub fn of_form(name: &str) -> ObjectBuilder {
    string().format(Some(SchemaFormat::Custom(name.to_owned()))).min_length(Some(1))
}

/// Describes a whole number within these bounds.
pub fn number(least: i64, most: i64) -> ObjectBuilder {
    let bound = |bound: i64| Some(Number::Int(bound as isize));
    ObjectBuilder::new().schema_type(Type::Integer).minimum(bound(least)).maximum(bound(most))
}

/// Describes a whole number without bounds.
pub fn whole_number() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

/// Describes a bound of amounts in a filter, in any currency. It may lie beyond every amount.
pub fn decimal() -> ObjectBuilder {
    matching(crate::api::schema::texts::BOUND)
}

pub fn identifier() -> Ref {
    Ref::from_schema_name("Identifier")
}

pub fn name() -> Ref {
    Ref::from_schema_name("Name")
}

fn time() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

/// Describes a time or a day.
pub fn time_or_date() -> AnyOfBuilder {
    let date = string().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)));
    AnyOfBuilder::new().item(time()).item(date)
}

/// Describes a cursor from an earlier response. A client cannot construct one.
pub fn cursor() -> ObjectBuilder {
    of_form("cursor")
}

/// The descriptions of the parameters of a period, which are the same on every route that filters by time.
pub mod period {
    pub const FROM: &str = "Start of the period, inclusive: an RFC 3339 time with an offset; with `tz`, a time without \
        one; or a date, which means the beginning of its day. Cannot be combined with `start_date` or `end_date`.";
    pub const TO: &str = "End of the period, exclusive, in the same forms as `from`. A date means the beginning of \
        its day, so that this day is excluded. Must be later than `from`.";
    pub const START_DATE: &str = "First day, inclusive; or a time, as in `from`. Cannot be combined with `from` or \
        `to`.";
    pub const END_DATE: &str = "Last day, inclusive: `end_date` of a day equals `to` of the day after it. A time is an \
        exclusive end, as in `to`. Must not be before `start_date`.";
    pub const TZ: &str = "An IANA time zone such as Europe/Berlin. Days and hours begin as they do in this zone, \
        including days of 23 and 25 hours and days that begin at 01:00, and a time without an offset is local time \
        in it. Default: UTC, and every time has an offset.";
}

/// Adds the parameters of a period.
pub fn range(operation: OperationBuilder) -> OperationBuilder {
    operation
        .parameter(parameter("from", period::FROM, time_or_date()))
        .parameter(parameter("to", period::TO, time_or_date()))
        .parameter(parameter("start_date", period::START_DATE, time_or_date()))
        .parameter(parameter("end_date", period::END_DATE, time_or_date()))
        .parameter(parameter("tz", period::TZ, of_form("time-zone")))
}

/// Describes the `ack` parameter of every write.
pub fn ack() -> Parameter {
    parameter(
        "ack",
        "`disk` requests the stronger promise: what the response reports survives a power cut, whatever the \
         server's setting. `Firehose-Ack` in the response names the promise that applies.",
        words(&["os", "disk"]),
    )
}

/// Describes a path parameter.
pub fn in_path(name: &str, description: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    let mut part = parameter(name, description, schema);
    part.parameter_in = ParameterIn::Path;
    part.required = Required::True;
    part
}

/// Describes a path parameter that is the id of something that the server created: 32 hexadecimal digits.
pub fn id_in_path(name: &str, description: &str) -> Parameter {
    in_path(name, description, matching("^[0-9a-f]{32}$"))
}

/// Describes a request header.
pub fn in_header(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    required: Required,
) -> Parameter {
    let mut header = parameter(name, description, schema);
    header.parameter_in = ParameterIn::Header;
    header.required = required;
    header
}

/// Describes `Idempotency-Key`: visible ASCII characters and spaces between them, quoted or unquoted. A quote at only
/// one end is part of the key.
pub fn idempotency_key(description: &str, required: Required) -> Parameter {
    let schema = matching(r##"^([!#-~]([ -~]{0,253}[!-~])?|"([ -~]{0,253}[!#-~])?|"[ -~]{1,255}")$"##);
    in_header("Idempotency-Key", description, schema, required)
}

pub fn paging(operation: OperationBuilder) -> OperationBuilder {
    operation
        .parameter(parameter(
            "order",
            "Sort direction by time. Ties are sorted by id.",
            words(&["asc", "desc"]),
        ))
        .parameter(parameter(
            "page",
            "Page number, from 1. For deep pages, follow `next_cursor` instead.",
            number(1, 1_000_001),
        ))
        .parameter(parameter("page_size", "1 to 1,000. Default: 100.", number(1, 1_000)))
        .parameter(parameter(
            "cursor",
            "The `next_cursor` of a page with the same filter. Rows that arrive later neither shift nor \
             repeat any row. Page 10,000 costs as much as page 1.",
            cursor(),
        ))
}
