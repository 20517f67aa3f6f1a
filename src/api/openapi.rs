//! The OpenAPI 3.1 document: shapes from the serialised types, problems from the catalogue.

pub mod commerce;
pub mod dashboard;
pub mod events;
pub mod exports;
mod links;
mod parameters;
pub mod people;
pub mod prices;
mod problems;
pub mod stock;
pub mod uploads;

use serde_json::{Value, json};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Content, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, Ref, Required,
    Response, ResponseBuilder,
};

use self::links::{Next, with_links};
#[cfg(test)]
use self::problems::example;
use self::problems::{add_problems, tell_standing, with_problems};
use super::problem::Problem;
use super::schema::commerce::{
    EndOfRows, FoundOrder, IngestFault, IngestSummary, NewItem, NewOrder, OrderPage, OrderState, OrderValues,
    Sales, SalesGroup, SalesMeta, SalesMethod, SkippedPart, StatusChange, StatusChanged, StockLevelState,
    StockProductResult, StockUpdated, StoredItem, StoredOrder, UploadSummary,
};
use super::schema::exports::{self as schema_exports, ExportFilters, ExportList, ExportStatus, NewExport};
use super::schema::people::{ErasedInShard, ErasureCertificate, ErasureProgress, ErasureStep};
use super::schema::prices as schema_prices;
use super::schema::stock as schema_stock;
use super::schema::texts::{Amount, CurrencyCode, Identifier, Name};
use super::schema::{
    Accepted, BulkEvents, BulkResult, BulkRow, Check, Checks, ClickEvent, ClickPage, EventPage, EventResult,
    Health, Metric, Metrics, ProblemDocument, ProblemField, Ready, ReceiptState, ServiceEvent, ShardHealth,
    StoredClick, StoredEvent,
};
use super::{Endpoint, Endpoints, Lane};
#[cfg(test)]
use crate::event::Decoder;
use crate::http::Method;
use crate::tenants::{Need, Scope};

/// The document of these endpoints as JSON: a few milliseconds, for the first request.
#[must_use]
pub fn document<H>(endpoints: &Endpoints<H>) -> String {
    build(endpoints).to_json().unwrap_or_default()
}

fn build<H>(endpoints: &Endpoints<H>) -> OpenApi {
    let components = dashboard::schemas(commerce_schemas(ComponentsBuilder::new()))
        .schema_from::<ClickEvent>()
        .schema_from::<Accepted>()
        .schema_from::<ServiceEvent>()
        .schema_from::<BulkEvents>()
        .schema_from::<EventResult>()
        .schema_from::<BulkResult>()
        .schema_from::<BulkRow>()
        .schema_from::<StoredEvent>()
        .schema_from::<EventPage>()
        .schema_from::<StoredClick>()
        .schema_from::<ClickPage>()
        .schema_from::<Metrics>()
        .schema_from::<Metric>()
        .schema_from::<ProblemDocument>()
        .schema_from::<ProblemField>()
        .schema_from::<Health>()
        .schema_from::<ShardHealth>()
        .schema_from::<Ready>()
        .schema_from::<Checks>()
        .schema_from::<Check>()
        .schema_from::<Identifier>()
        .schema_from::<Name>()
        .schema_from::<CurrencyCode>()
        .schema_from::<ReceiptState>()
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
                     and live streams.",
                ))
                .build(),
        )
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

/// The field of an operation in its path item.
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

/// The description of an operation: its own part, and what follows from its row.
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
    if operation.pages == super::Pages::Own {
        add_problems(&mut described, &[Problem::MisdirectedRequest]);
    }
    if endpoint.has_tenant() && operation.need != Need::Nothing {
        // An invalid tenant name has no rows.
        add_problems(&mut described, &[Problem::NotFound]);
    }
    if operation.lane != Lane::Hot {
        tell_standing(&mut described);
    }
    described
}

fn commerce_schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<NewOrder>()
        .schema_from::<NewItem>()
        .schema_from::<Amount>()
        .schema_from::<OrderState>()
        .schema_from::<schema_exports::ExportFormatName>()
        .schema_from::<schema_exports::ExportRowsName>()
        .schema_from::<schema_exports::CompressionName>()
        .schema_from::<IngestSummary>()
        .schema_from::<IngestFault>()
        .schema_from::<SkippedPart>()
        .schema_from::<UploadSummary>()
        .schema_from::<StatusChange>()
        .schema_from::<StatusChanged>()
        .schema_from::<StoredOrder>()
        .schema_from::<FoundOrder>()
        .schema_from::<EndOfRows>()
        .schema_from::<StoredItem>()
        .schema_from::<OrderPage>()
        .schema_from::<Sales>()
        .schema_from::<SalesGroup>()
        .schema_from::<OrderValues>()
        .schema_from::<SalesMeta>()
        .schema_from::<SalesMethod>()
        .schema_from::<schema_stock::StockUpdates>()
        .schema_from::<StockUpdated>()
        .schema_from::<StockProductResult>()
        .schema_from::<StockLevelState>()
        .schema_from::<schema_prices::NewPriceEvent>()
        .schema_from::<schema_prices::PriceRecorded>()
        .schema_from::<schema_prices::PriceAccepted>()
        .schema_from::<schema_prices::FoundAnomaly>()
        .schema_from::<schema_prices::AnomalyReason>()
        .schema_from::<schema_prices::AnomalyScore>()
        .schema_from::<schema_prices::PriceAnomaly>()
        .schema_from::<schema_prices::AnomalyState>()
        .schema_from::<schema_prices::PriceAnomalies>()
        .schema_from::<schema_prices::PriceReview>()
        .schema_from::<schema_prices::PriceDecision>()
        .schema_from::<NewExport>()
        .schema_from::<ExportFilters>()
        .schema_from::<ExportStatus>()
        .schema_from::<ExportList>()
        .schema_from::<ErasureCertificate>()
        .schema_from::<ErasedInShard>()
        .schema_from::<ErasureProgress>()
        .schema_from::<ErasureStep>()
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
pub fn post_event() -> OperationBuilder {
    let accepted = ResponseBuilder::new()
        .description(
            "The event is accepted. The headers name the promise. The response does not wait for \
                      the database.",
        )
        .content("application/json", json_of("Accepted"))
        .header(
            "Firehose-Ack",
            header(
                "The promise of this response: `os` means the event survives the death of the process, `disk` \
                 means it survives a power cut.",
                &["os", "disk"],
            ),
        )
        .header(
            "Firehose-Receipt",
            header("The receipt of the event, `<shard>-<number>`. `/receipts/` reports its state.", &[]),
        )
        .header("X-Request-Id", request_id());
    let operation = OperationBuilder::new()
        .operation_id(Some("postEvent"))
        .tag("collector")
        .summary(Some("Accept one event"))
        .description(Some(
            "The body is parsed as JSON regardless of its Content-Type. `Content-Encoding` may be `gzip`, \
             `deflate`, `zstd` or `identity`; the size limit applies to the decoded bytes. Pages of any \
             origin may post.",
        ))
        .parameter(
            ParameterBuilder::new()
                .name("ack")
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(
                    "Requests the stronger promise: the server responds once the event survives a power \
                     cut, whatever its own setting.",
                ))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["disk"])))),
        )
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", click_event())
                .build(),
        ))
        .response("202", with_links(accepted, &LINKS));
    with_problems(
        operation,
        &[
            Problem::BadRequest,
            Problem::EmptyBody,
            Problem::NotJson,
            Problem::NotUtf8,
            Problem::BadEncoding,
            Problem::BadParameter,
            Problem::RequestTimeout,
            Problem::PayloadTooLarge,
            Problem::UriTooLong,
            Problem::UnsupportedEncoding,
            Problem::ExpectationFailed,
            Problem::InvalidEvent,
            Problem::TooDeep,
            Problem::QueueFull,
            Problem::HeadTooLarge,
            Problem::Internal,
            Problem::UnsupportedTransferCoding,
            Problem::Overloaded,
            Problem::Draining,
            Problem::JournalUnsynced,
            Problem::UnsupportedVersion,
            Problem::JournalFull,
        ],
    )
}

const LINKS: [Next; 2] = [
    Next { operation: "getReceipt", parameters: &[("receipt", "$response.header.Firehose-Receipt")] },
    Next { operation: "eraseClickUser", parameters: &[("user_id", "$request.body#/user_id")] },
];

#[must_use]
pub fn get_receipt() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("getReceipt"))
        .tag("collector")
        .summary(Some("State of an accepted event"))
        .parameter(
            ParameterBuilder::new()
                .name("receipt")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("The value of a `Firehose-Receipt` header."))
                .example(Some(Value::from("0-64")))
                .schema(Some(parameters::matching("^[0-9]{1,5}-[0-9]{1,19}$"))),
        )
        .response("200", answer("The event's state.", json_of("ReceiptState"), "application/json"));
    with_problems(operation, &[Problem::NotAReceipt])
}

#[must_use]
pub fn get_health(id: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .tag("operations")
        .summary(Some("Server health"))
        .description(Some("Returns 200 for as long as the process responds. Never reads the disk."))
        .response("200", answer("State and counters.", json_of("Health"), "application/json"))
}

#[must_use]
pub fn get_ready(id: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .tag("operations")
        .summary(Some("Server readiness"))
        .response("200", answer("The server is ready for requests.", json_of("Ready"), "application/json"))
        .response(
            "503",
            answer(
                "The server is not ready. `checks` gives the reasons.",
                json_of("Ready"),
                "application/json",
            ),
        )
}

#[must_use]
pub fn get_docs() -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some("docs"))
        .tag("documentation")
        .summary(Some("API documentation page"))
        .response("200", answer("Swagger UI.", text(), "text/html"))
}

/// An asset of the page.
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

/// A file as one of these types.
fn file(content_types: &[&str]) -> Response {
    let file = ResponseBuilder::new().description("The file.").header("X-Request-Id", request_id());
    content_types.iter().fold(file, |file, content_type| file.content(*content_type, text())).build()
}

/// `/`.
#[must_use]
pub fn get_root() -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some("root"))
        .tag("operations")
        .summary(Some("The dashboard, for clients that accept `text/html`"))
        .response("200", answer("The page.", text(), "text/html"))
        .response(
            "303",
            ResponseBuilder::new()
                .description("Redirects all other clients to `/docs`.")
                .header("Location", header("`/docs`.", &["/docs"]))
                .header("X-Request-Id", request_id()),
        )
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

fn answer(description: &str, content: Content, content_type: &str) -> Response {
    ResponseBuilder::new()
        .description(description)
        .content(content_type, content)
        .header("X-Request-Id", request_id())
        .build()
}

fn json_of(schema: &str) -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build()
}

/// With its own example, because a property of any type cannot have one.
fn click_event() -> Content {
    let example = json!({
        "user_id": 12345,
        "timestamp": "2024-01-14T10:30:00Z",
        "metadata": {"page": "/products/42", "button": "buy"},
    });
    ContentBuilder::new().schema(Some(Ref::from_schema_name("ClickEvent"))).example(Some(example)).build()
}

fn text() -> Content {
    ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String).build())).build()
}

/// Raw bytes.
fn bytes() -> Content {
    let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
    let schema = ObjectBuilder::new().schema_type(Type::String).format(Some(binary));
    ContentBuilder::new().schema(Some(schema.build())).build()
}

fn header(description: &str, values: &[&str]) -> utoipa::openapi::Header {
    let mut schema = ObjectBuilder::new().schema_type(Type::String);
    if !values.is_empty() {
        schema = schema.enum_values(Some(values.iter().copied()));
    }
    header_of(description, schema)
}

fn header_of(description: &str, schema: ObjectBuilder) -> utoipa::openapi::Header {
    HeaderBuilder::new().schema(Some(schema.build())).description(Some(description)).build()
}

fn request_id() -> utoipa::openapi::Header {
    header("The request's id: the client's own, or one that the server generates.", &[])
}

/// Path, method and description.
#[cfg(test)]
type OneOperation = (&'static str, Method, fn() -> OperationBuilder);

/// The document of a few operations, for the tests of each.
#[cfg(test)]
fn document_of(operations: &[OneOperation]) -> Value {
    let endpoint = |(path, method, describe): &OneOperation| {
        let operation = super::Operation {
            method: *method,
            need: Need::Nothing,
            pages: super::Pages::Own,
            body: super::Body::Unused,
            lane: Lane::Executor,
            logged: super::Logged::of(*method),
            handler: (),
            describe: *describe,
        };
        super::Endpoint::new(path, Vec::leak(vec![operation]))
    };
    let endpoints = Endpoints(Vec::leak(operations.iter().map(endpoint).collect()));
    serde_json::from_str(&document(&endpoints)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::problem;

    #[test]
    fn what_a_client_must_know_of_post_event_is_in_it() {
        let document = document_of(&[("/event", Method::Post, post_event)]);
        let operation = &document["paths"]["/event"]["post"];
        let example = operation["requestBody"]["content"]["application/json"]["example"].to_string();
        assert!(Decoder::new().click(example.as_bytes()).is_ok());
        let accepted = &operation["responses"]["202"];
        for header in ["Firehose-Ack", "Firehose-Receipt", "X-Request-Id"] {
            assert!(accepted["headers"][header].is_object(), "{header}");
        }
        for status in ["400", "408", "413", "422", "429", "431", "503", "507"] {
            let content = &operation["responses"][status]["content"][problem::CONTENT_TYPE];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{status}");
            for example in content["examples"].as_object().unwrap().values() {
                assert_eq!(example["value"]["status"].to_string(), status);
            }
        }
        assert!(operation["responses"]["429"]["headers"]["Retry-After"].is_object());
        assert_eq!(operation["parameters"][0]["name"], "ack");
    }

    #[test]
    fn every_member_of_a_problem_document_is_described() {
        let document = document_of(&[]);
        let described = document["components"]["schemas"]["Problem"]["properties"].as_object().unwrap();
        for kind in [Problem::InvalidEvent, Problem::QueueFull] {
            for member in example(kind).as_object().unwrap().keys() {
                assert!(described.contains_key(member), "{member}");
            }
        }
    }
}
