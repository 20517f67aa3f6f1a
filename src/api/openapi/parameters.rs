//! Parameters and the types they may have, for the operations of the OpenAPI document.

use utoipa::openapi::Required;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};

/// One of the query string; none is required unless it is made so.
pub(super) fn parameter(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

pub(super) fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

pub(super) fn words(words: &[&str]) -> ObjectBuilder {
    string().enum_values(Some(words.iter().copied()))
}

pub(super) fn number() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

pub(super) fn time() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

pub(super) fn date() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)))
}

/// The parameters that say which stretch of time, which every route that takes them takes alike.
pub(super) fn range(operation: OperationBuilder) -> OperationBuilder {
    operation
        .parameter(parameter(
            "from",
            "Not before this time, RFC 3339 with an offset, or the beginning of this date. Not with `start_date` or \
             `end_date`.",
            time(),
        ))
        .parameter(parameter("to", "Before this time, or the beginning of this date.", time()))
        .parameter(parameter("start_date", "The first day, or a time as in `from`.", date()))
        .parameter(parameter("end_date", "The last day, included; or a time as in `to`.", date()))
        .parameter(parameter(
            "tz",
            "An IANA zone such as Europe/Berlin: days (and hours) begin as they do there, those of 23 and 25 hours \
             included, and a time without an offset is one of its clock. UTC unless told.",
            string(),
        ))
}

/// Of whatever writes.
pub(super) fn ack() -> Parameter {
    parameter(
        "ack",
        "`disk` asks for the stronger promise: what the answer says survives a power cut, whatever the server's \
         setting. `Firehose-Ack` in the answer names the promise that holds.",
        words(&["os", "disk"]),
    )
}

/// A part of the path.
pub(super) fn in_path(name: &str, description: &str) -> Parameter {
    let mut part = parameter(name, description, string());
    part.parameter_in = ParameterIn::Path;
    part.required = Required::True;
    part
}

/// A header of the request.
pub(super) fn in_header(name: &str, description: &str, required: Required) -> Parameter {
    let mut header = parameter(name, description, string());
    header.parameter_in = ParameterIn::Header;
    header.required = required;
    header
}
