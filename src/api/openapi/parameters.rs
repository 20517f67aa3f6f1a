//! Parameters and the types they may have, for the operations of the OpenAPI document.

use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
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
