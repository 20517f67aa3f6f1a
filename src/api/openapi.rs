//! The OpenAPI 3.1 document: shapes from the serialised types, problems from the catalogue.

pub mod links;
pub mod parameters;
mod problems;

use serde_json::Value;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AnyOfBuilder, ComponentsBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Content, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, Ref, Required,
    Response, ResponseBuilder,
};

#[cfg(test)]
use self::problems::example;
pub use self::problems::with_problems;
use self::problems::{add_problems, has_problem, tell_standing};
use super::problem::Problem;
use super::schema::texts::{Amount, CurrencyCode, Identifier, Name};
use super::schema::{EndOfRows, ProblemDocument, ProblemField};
use super::{Body, Endpoint, Endpoints, Lane};
use crate::http::Method;
use crate::query::LIST_LIMIT_MAX;
use crate::tenants::{Need, Scope};

/// Adds the schemas of one feature.
pub type AddSchemas = fn(ComponentsBuilder) -> ComponentsBuilder;

/// Returns the document of these endpoints as JSON. Takes a few milliseconds, at the first request.
#[must_use]
pub fn document<H>(endpoints: &Endpoints<H>, schemas: &[AddSchemas]) -> String {
    build(endpoints, schemas).to_json().unwrap_or_default()
}

/// The problems of every request for rows.
pub const READING: &[Problem] = &[Problem::BadParameter, Problem::Overloaded, Problem::ShardUnavailable];

/// The problems of every request with a JSON body, whatever its content means.
const JSON_BODY: &[Problem] = &[
    Problem::BadRequest,
    Problem::EmptyBody,
    Problem::NotJson,
    Problem::NotUtf8,
    Problem::BadEncoding,
    Problem::RequestTimeout,
    Problem::PayloadTooLarge,
    Problem::UnsupportedEncoding,
    Problem::TooDeep,
];

fn build<H>(endpoints: &Endpoints<H>, schemas: &[AddSchemas]) -> OpenApi {
    let of_features = schemas.iter().fold(ComponentsBuilder::new(), |components, add| add(components));
    let components = of_features
        .schema_from::<Amount>()
        .schema_from::<ProblemDocument>()
        .schema_from::<ProblemField>()
        .schema_from::<EndOfRows>()
        .schema_from::<Identifier>()
        .schema_from::<Name>()
        .schema_from::<CurrencyCode>()
        .security_scheme(BEARER, bearer())
        .security_scheme(API_KEY, api_key());
    let operations = endpoints
        .0
        .iter()
        .flat_map(|endpoint| endpoint.operations.iter().map(move |operation| (endpoint, operation)));
    // Two rows at one path and method share one description.
    let paths = operations.fold(PathsBuilder::new(), |paths, (endpoint, operation)| {
        let mut item = PathItem::default();
        *place(&mut item, operation.method) = Some(described(endpoint, operation));
        paths.path(endpoint.path.replace("..}", "}"), item)
    });
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("firehose")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "Accepts events and orders over HTTP, acknowledges each with a durability promise, and \
                     stores them in SQLite shards. Every response carries `X-Request-Id`. Every error is a \
                     problem document (RFC 9457); `/docs/problems/` lists the types. Every `GET` endpoint \
                     also answers `HEAD`.\n\nIf the operator has created keys, operations marked with a \
                     lock require one: `Authorization: Bearer fh_...` or `X-API-Key: fh_...`. A key has one \
                     or more scopes. `write` appends clicks and events and permits nothing else, so a key \
                     with this scope alone may appear in a public page. `manage` ingests orders and changes \
                     order status, stock and prices. `read` queries rows and counts. `admin` includes every \
                     scope. A key is bound to one tenant or to all tenants.\n\nPages of any origin may post \
                     events. All other operations accept requests only from pages of this server and of \
                     origins that the operator has listed; other pages get 403.\n\nIf a request counts \
                     against a tenant's quotas, the response reports them in `RateLimit-Policy` and \
                     `RateLimit`, whatever its status. `POST /event` sends these headers only when a quota \
                     is exhausted (429), to keep its responses short.\n\nResponses over 1 KiB, and streamed \
                     rows, are compressed if `Accept-Encoding` includes `zstd` or `gzip`. There are two \
                     exceptions: export downloads, whose ranges and digests refer to the bytes of the file, \
                     and live streams.\n\nQueries of all tenants share the server's readers. A tenant with \
                     many queries at once gets 503 with `Retry-After` for further ones. A `GET` ends when its \
                     client has closed the connection. If a client has closed only its sending side, it gets \
                     its response, and possibly `100 Continue` before it.\n\nA query parameter that the \
                     operation does not have, that has no value or that is repeated is refused (400), and the \
                     problem names it. A member of a JSON body must not be repeated either (422), except in \
                     events, where the last one counts.",
                ))
                .build(),
        )
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

/// Returns an operation's field in its path item.
fn place(item: &mut PathItem, method: Method) -> &mut Option<Operation> {
    match method {
        Method::Get | Method::Other => &mut item.get,
        Method::Head => &mut item.head,
        Method::Post => &mut item.post,
        Method::Options => &mut item.options,
        Method::Put => &mut item.put,
        Method::Patch => &mut item.patch,
        Method::Delete => &mut item.delete,
    }
}

/// Returns an operation's complete description: the part that its `describe` function states, and the part that follows
/// from the endpoint's row.
fn described<H>(endpoint: &Endpoint<H>, operation: &super::Operation<H>) -> Operation {
    let described = (operation.describe)();
    let locked = |described, scopes: &[Scope]| {
        let mut locked = with_key(described, scopes).build();
        add_problems(&mut locked, &[Problem::Unauthorized, Problem::Forbidden, Problem::RateLimited]);
        locked
    };
    let mut described = match operation.need {
        Need::Nothing => described.build(),
        Need::Scope(scope) | Need::AllTenants(scope) => locked(described, &[scope]),
        Need::Either(one, other) => locked(described, &[one, other]),
    };
    if matches!(operation.body, Body::Whole(_)) {
        add_problems(&mut described, JSON_BODY);
    }
    if operation.method != Method::Options {
        add_problems(&mut described, &[Problem::BadParameter]);
    }
    if operation.pages == super::Pages::Own {
        add_problems(&mut described, &[Problem::MisdirectedRequest]);
    }
    if endpoint.has_tenant() && operation.need != Need::Nothing {
        // A path with an invalid tenant name is a 404.
        add_problems(&mut described, &[Problem::NotFound]);
    }
    if operation.method == Method::Get && has_problem(&described, Problem::ShardUnavailable) {
        // A stop ends a read of shards that takes long.
        add_problems(&mut described, &[Problem::Draining]);
    }
    if operation.lane != Lane::Hot {
        tell_standing(&mut described);
    }
    described
}

const BEARER: &str = "bearer";
const API_KEY: &str = "apiKey";

fn bearer() -> SecurityScheme {
    let description =
        "A key, `fh_...`, as printed by `firehose key create`. Clients may send it in `X-API-Key` instead.";
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
    SecurityScheme::Http(scheme.build())
}

fn api_key() -> SecurityScheme {
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
        "X-API-Key",
        "The same key, in its own header.",
    )))
}

/// Requires a key with one of these scopes, in either header.
fn with_key(operation: OperationBuilder, scopes: &[Scope]) -> OperationBuilder {
    scopes.iter().fold(operation, |operation, scope| {
        operation
            .security(SecurityRequirement::new(BEARER, [scope.name()]))
            .security(SecurityRequirement::new(API_KEY, [scope.name()]))
    })
}

#[must_use]
pub fn get_docs() -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some("docs"))
        .tag("documentation")
        .summary(Some("API documentation page"))
        .response("200", answer("Swagger UI.", text(), "text/html"))
}

/// Describes an asset of the documentation page.
#[must_use]
pub fn get_docs_file() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("docsFile"))
        .tag("documentation")
        .summary(Some("A file of the documentation page, or the list of all problem types"))
        .parameter(parameters::in_path(
            "file",
            "The file's name, or `problems` for the list.",
            parameters::string().examples(["problems"]),
        ))
        .response(
            "200",
            file(&["text/html", "text/css", "text/javascript", "image/png", "application/json"]),
        );
    with_problems(operation, &[Problem::NotFound])
}

/// Describes a file that has one of these types.
pub fn file(content_types: &[&str]) -> Response {
    let file = ResponseBuilder::new().description("The file.").header("X-Request-Id", request_id());
    content_types.iter().fold(file, |file, content_type| file.content(*content_type, text())).build()
}

#[must_use]
pub fn get_problem_page() -> OperationBuilder {
    let slugs = Problem::ALL.iter().map(|problem| problem.slug());
    let operation = OperationBuilder::new()
        .operation_id(Some("problemPage"))
        .tag("documentation")
        .summary(Some("Explanation of a problem type and its remedy"))
        .parameter(
            ParameterBuilder::new()
                .name("slug")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("The last segment of a problem's `type`."))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(slugs)))),
        )
        .response("200", answer("A page for people.", text(), "text/html"));
    with_problems(operation, &[Problem::NotFound])
}

#[must_use]
pub fn get_openapi() -> OperationBuilder {
    let any_object = ContentBuilder::new().schema(Some(ObjectBuilder::new().build())).build();
    OperationBuilder::new()
        .operation_id(Some("openapi"))
        .tag("documentation")
        .summary(Some("This OpenAPI document"))
        .response("200", answer("OpenAPI 3.1.", any_object, "application/json"))
}

pub fn answer(description: &str, content: Content, content_type: &str) -> Response {
    ResponseBuilder::new()
        .description(description)
        .content(content_type, content)
        .header("X-Request-Id", request_id())
        .build()
}

/// Describes a response with rows: as lines of this shape, or as a page.
pub fn rows_of(description: &str, line: &str, page: &str) -> Response {
    let line = AnyOfBuilder::new()
        .item(Ref::from_schema_name(line))
        .item(Ref::from_schema_name("EndOfRows"))
        .description(Some("A line."));
    let line = ContentBuilder::new().schema(Some(Schema::AnyOf(line.build()))).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/x-ndjson", line)
        .content("application/json", json_of(page))
        .header("X-Request-Id", request_id())
        .build()
}

/// Describes a list in the order of ids.
pub fn list_by_id(operation: OperationBuilder, rows: &str, line: &str, page: &str) -> OperationBuilder {
    let limit = format!(
        "1 to {LIST_LIMIT_MAX}. Default: 100 in a JSON page; all in NDJSON, which is streamed with constant memory."
    );
    let found = format!(
        "{rows} JSON (the default) is one page. NDJSON has one line for each and a last line \
         `{{\"_end\":true,\"rows\":n,\"next_cursor\":…}}`; a response without that last line is incomplete."
    );
    let operation = operation
        .parameter(parameters::parameter(
            "prefix",
            "Only ids that begin with this.",
            parameters::identifier(),
        ))
        .parameter(parameters::parameter("limit", &limit, parameters::number(1, LIST_LIMIT_MAX as i64)))
        .parameter(parameters::parameter(
            "cursor",
            "The `next_cursor` of a response with the same conditions. `limit` may differ.",
            parameters::cursor(),
        ))
        .response("200", rows_of(&found, line, page));
    with_problems(operation, READING)
}

pub fn json_of(schema: &str) -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build()
}

/// Describes a JSON request body. The documentation page sends the example as it is.
pub fn json_like(schema: &str, example: Value) -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).example(Some(example)).build()
}

pub fn text() -> Content {
    ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String).build())).build()
}

/// Describes a body of raw bytes.
pub fn bytes() -> Content {
    let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
    let schema = ObjectBuilder::new().schema_type(Type::String).format(Some(binary));
    ContentBuilder::new().schema(Some(schema.build())).build()
}

pub fn header(description: &str, values: &[&str]) -> utoipa::openapi::Header {
    let mut schema = ObjectBuilder::new().schema_type(Type::String);
    if !values.is_empty() {
        schema = schema.enum_values(Some(values.iter().copied()));
    }
    header_of(description, schema)
}

pub fn header_of(description: &str, schema: ObjectBuilder) -> utoipa::openapi::Header {
    HeaderBuilder::new().schema(Some(schema.build())).description(Some(description)).build()
}

pub fn request_id() -> utoipa::openapi::Header {
    header("The request's id: the client's own, or one that the server generates.", &[])
}

/// The path, method and description of an operation.
#[cfg(test)]
pub(crate) type OneOperation = (&'static str, Method, fn() -> OperationBuilder);

/// Returns the document of a few operations, for the tests of each.
#[cfg(test)]
pub(crate) fn document_of(operations: &[OneOperation], schemas: &[AddSchemas]) -> serde_json::Value {
    let endpoint = |(path, method, describe): &OneOperation| {
        let operation = super::Operation {
            method: *method,
            need: Need::Nothing,
            pages: super::Pages::Own,
            body: match method {
                Method::Post | Method::Put | Method::Patch => Body::Whole(|config| config.event_bytes_max),
                _ => Body::Unused,
            },
            lane: Lane::Executor,
            logged: super::Logged::of(*method),
            handler: (),
            describe: *describe,
        };
        super::Endpoint::new(path, Vec::leak(vec![operation]))
    };
    let endpoints = Endpoints::new(Vec::leak(operations.iter().map(endpoint).collect()));
    serde_json::from_str(&document(&endpoints, schemas)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_a_problem_document_is_described() {
        let document = document_of(&[], &[]);
        let described = document["components"]["schemas"]["Problem"]["properties"].as_object().unwrap();
        for kind in [Problem::InvalidEvent, Problem::QueueFull] {
            for member in example(kind).as_object().unwrap().keys() {
                assert!(described.contains_key(member), "{member}");
            }
        }
    }
}
