//! Compares the table with what is derived from it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

fn document() -> Value {
    serde_json::from_str(&openapi::document(&ENDPOINTS, SCHEMAS)).unwrap()
}

/// Returns the table of all routes, as `docs/routes.md` has it.
fn table_of_routes() -> String {
    let document = document();
    let access = |need: Need| match need {
        Need::Nothing => "none".to_owned(),
        Need::Scope(scope) => format!("`{}`", scope.name()),
        Need::Either(one, other) => format!("`{}` or `{}`", one.name(), other.name()),
        Need::AllTenants(scope) => format!("`{}`, all tenants", scope.name()),
    };
    let mut table = "| request | access | result |\n| --- | --- | --- |\n".to_owned();
    for row in ROWS {
        let path = row.path.replace("..}", "}");
        let query = row.if_query.map(|name| format!("?{name}=…")).unwrap_or_default();
        for one in row.operations.iter().filter(|one| one.method != Method::Options) {
            let operation = &document["paths"][&path][word(one.method)];
            let summary = operation["summary"].as_str().unwrap();
            let method = word(one.method).to_uppercase();
            table += &format!("| `{method} {path}{query}` | {} | {summary} |\n", access(one.need));
        }
    }
    table
}

/// Compares the table of `docs/routes.md` with the endpoints, so that no page is needed to find a route that exists.
/// `UPDATE_ROUTES=1 cargo test --lib every_route_is_documented` rewrites it.
#[test]
fn every_route_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/routes.md");
    let page = std::fs::read_to_string(path).unwrap();
    let begin = page.find("| request |").unwrap();
    let length: usize =
        page[begin..].split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum();
    let is_update = std::env::vars_os().any(|(name, _)| name == "UPDATE_ROUTES");
    let table = table_of_routes();
    if is_update {
        std::fs::write(path, [&page[..begin], &table, &page[begin + length..]].concat()).unwrap();
        return;
    }
    assert_eq!(&page[begin..begin + length], table, "see `UPDATE_ROUTES`");
    for path in ROWS.iter().filter(|row| row.for_operators).map(|row| row.path) {
        assert!(
            page[begin + length..].contains(&format!("`{path}`")),
            "{path} is not among the operators' paths"
        );
    }
}

/// Collects every string in a JSON value, with its key.
fn strings<'v>(value: &'v Value, key: &'v str, found: &mut Vec<(&'v str, &'v str)>) {
    match value {
        Value::String(text) => found.push((key, text)),
        Value::Array(values) => values.iter().for_each(|value| strings(value, key, found)),
        Value::Object(members) => members.iter().for_each(|(key, value)| strings(value, key, found)),
        _ => {}
    }
}

#[test]
fn the_document_is_openapi_3_1_and_every_reference_resolves() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut all = Vec::new();
    strings(&document, "", &mut all);
    let references: Vec<_> = all.iter().filter(|(key, _)| *key == "$ref").collect();
    assert!(references.len() > 10);
    for (_, reference) in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn every_problem_in_it_has_a_page() {
    let document = document();
    let mut all = Vec::new();
    strings(&document, "", &mut all);
    let mut paths: Vec<_> = all
        .iter()
        .flat_map(|(_, text)| text.match_indices("/docs/problems/").map(|(at, _)| &text[at..]))
        .map(|rest| rest.split([')', '`', '"', '{']).next().unwrap())
        .collect();
    paths.sort_unstable();
    paths.dedup();
    assert!(paths.len() > 20);
    for path in paths {
        assert!(api::docs::page(path).is_some(), "{path}");
    }
}

#[test]
fn every_link_leads_to_an_operation_that_has_its_parameters() {
    let document = document();
    let paths = document["paths"].as_object().unwrap().values();
    let operations: Vec<&Value> = paths.flat_map(|item| item.as_object().unwrap().values()).collect();
    let mut links = 0;
    let responses = operations.iter().flat_map(|one| one["responses"].as_object().unwrap().values());
    for link in responses.filter_map(|response| response["links"].as_object()).flatten() {
        let (_, link) = link;
        let next = operations.iter().find(|one| one["operationId"] == link["operationId"]);
        let known = next.unwrap_or_else(|| panic!("{link}"))["parameters"].as_array().unwrap();
        for (name, expression) in link["parameters"].as_object().unwrap() {
            assert!(known.iter().any(|parameter| parameter["name"] == name.as_str()), "{link}");
            assert!(expression.as_str().unwrap().starts_with('$'), "{link}");
        }
        links += 1;
    }
    assert!(links >= 18, "{links}");
}

fn word(method: Method) -> String {
    format!("{method:?}").to_lowercase()
}

#[test]
fn every_row_is_in_the_document_and_the_other_way_round() {
    let document = document();
    let rows: BTreeSet<(String, String)> = ROWS
        .iter()
        .flat_map(|row| row.operations.iter().map(|one| (row.path.replace("..}", "}"), word(one.method))))
        .collect();
    let mut described = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} is there twice");
            described.insert((path.clone(), method.clone()));
            // Every name in the template is a parameter, and every path parameter is in the template.
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = parameters.iter().filter(|one| one["in"] == "path");
            let named: BTreeSet<&str> = in_path.map(|one| one["name"].as_str().unwrap()).collect();
            let parts = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            assert_eq!(named, parts.collect(), "{method} {path}");
        }
    }
    assert_eq!(rows, described);
}

#[test]
fn no_row_hides_another_and_a_path_with_a_tenant_asks_for_its_key() {
    let mut shapes = BTreeSet::new();
    for row in ROWS {
        let is_parameter = |part: &&str| part.starts_with('{');
        let shape: Vec<&str> =
            row.path.split('/').map(|part| if is_parameter(&part) { "{}" } else { part }).collect();
        let is_rest = row.path.ends_with("..}");
        assert!(shapes.insert((shape, is_rest, row.if_query)), "{} is there twice", row.path);
        let methods: BTreeSet<String> = row.operations.iter().map(|one| word(one.method)).collect();
        assert_eq!(methods.len(), row.operations.len(), "{} has a method twice", row.path);
        assert!(row.path.starts_with('/'));
        for one in row.operations.iter().filter(|_| row.has_tenant()) {
            // Requests that name a tenant are admitted and charged in one place, which runs only before a
            // `Handler::Task`.
            let is_let_in = matches!((one.need, one.handler), (Need::Scope(_), Handler::Task(_)));
            assert!(is_let_in, "{:?} {}", one.method, row.path);
        }
    }
    // The first row is found without comparing the path with the others, so no other row may have its path.
    assert!(ROWS[1..].iter().all(|row| row.path != ROWS[CLICKS].path));
}

#[test]
fn what_needs_a_key_says_so_and_the_rest_does_not() {
    let document = document();
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert_eq!(document["components"]["securitySchemes"]["apiKey"]["name"], "X-API-Key");
    let mut seen = 0;
    for (row, one) in ROWS.iter().flat_map(|row| row.operations.iter().map(move |one| (row, one))) {
        let operation = &document["paths"][row.path.replace("..}", "}")][word(one.method)];
        seen += 1;
        let either = |scope: Scope| [json!({"bearer": [scope.name()]}), json!({"apiKey": [scope.name()]})];
        let scope = match one.need {
            Need::Nothing => Value::Null,
            Need::Scope(scope) | Need::AllTenants(scope) => Value::from(either(scope).to_vec()),
            Need::Either(one, other) => Value::from([either(one), either(other)].concat()),
        };
        let marked = operation.get("security").cloned().unwrap_or_default();
        assert_eq!(marked, scope, "{} {:?}", row.path, one.method);
        for status in ["401", "403", "429"] {
            let described = operation["responses"][status].is_object();
            assert_eq!(described, !scope.is_null(), "{} {:?} {status}", row.path, one.method);
        }
        let not_found = &operation["responses"]["404"]["content"][api::problem::CONTENT_TYPE]["examples"];
        assert!(!row.has_tenant() || not_found["not-found"].is_object(), "{}", row.path);
    }
    assert!(seen >= 45, "{seen}");
    let limited = &document["paths"]["/event"]["post"]["responses"]["429"]["headers"];
    assert!(limited["RateLimit"].is_object() && limited["RateLimit-Policy"].is_object());
    let told = |path: &str, method: &str, status: &str| {
        let headers = &document["paths"][path][method]["responses"][status]["headers"];
        assert!(headers["X-Request-Id"].is_object(), "{method} {path} {status}");
        headers["RateLimit"].is_object() && headers["RateLimit-Policy"].is_object()
    };
    assert!(told("/events", "post", "201") && told("/events/bulk", "post", "200"));
    assert!(told("/events", "get", "200") && told("/api/v1/tenants/{tenant}/orders/search", "get", "200"));
    assert!(!told("/event", "post", "202") && !told("/health", "get", "200"));
}

/// Returns the path and the metrics label of the row for a path and method.
fn row(path: &str, method: Method) -> Option<(&'static str, &'static str)> {
    let found = ENDPOINTS.find(path, method, None);
    found.operation.and(found.endpoint).map(|endpoint| (endpoint.path, endpoint.route))
}

#[test]
fn every_path_finds_its_endpoint_with_and_without_a_trailing_slash() {
    use Method::{Delete, Get, Patch, Post, Put};
    let tenant = |rest: &str| format!("/api/v1/tenants/t/{rest}");
    for (path, method, expected) in [
        ("/event".to_owned(), Post, Some("/event")),
        ("/livez".to_owned(), Get, Some("/health")),
        ("/readyz".to_owned(), Get, Some("/ready")),
        ("/receipts/0-65".to_owned(), Get, Some("/receipts/{receipt}")),
        ("/docs/problems/not-json".to_owned(), Get, Some("/docs")),
        ("/docs".to_owned(), Get, Some("/docs")),
        ("/events".to_owned(), Get, Some("/events")),
        ("/events/bulk".to_owned(), Post, Some("/events/bulk")),
        ("/clicks".to_owned(), Get, Some("/clicks")),
        ("/events/x".to_owned(), Get, None),
        ("/api/v1/ingest/orders".to_owned(), Post, Some("/api/v1/ingest/orders")),
        ("/api/v1/ingest/orders/uploads".to_owned(), Post, Some("/api/v1/ingest/orders/uploads")),
        (
            "/api/v1/ingest/orders/uploads/1-x".to_owned(),
            Patch,
            Some("/api/v1/ingest/orders/uploads/{upload}"),
        ),
        (tenant("orders/search"), Get, Some("/api/v1/tenants/{tenant}/orders/search")),
        (tenant("orders/search"), Patch, Some("/api/v1/tenants/{tenant}/orders/{order}")),
        (tenant("orders/o-1"), Get, Some("/api/v1/tenants/{tenant}/orders/{order}")),
        (tenant("orders/o-1"), Patch, Some("/api/v1/tenants/{tenant}/orders/{order}")),
        (tenant("metrics/sales"), Get, Some("/api/v1/tenants/{tenant}/metrics/sales")),
        (tenant("events/summary"), Get, Some("/api/v1/tenants/{tenant}/events/summary")),
        (tenant("events/unique"), Get, Some("/api/v1/tenants/{tenant}/events/unique")),
        (tenant("events"), Get, None),
        (
            tenant("products/p/price-event"),
            Post,
            Some("/api/v1/tenants/{tenant}/products/{product}/price-event"),
        ),
        (
            tenant("products/p/price-anomalies"),
            Get,
            Some("/api/v1/tenants/{tenant}/products/{product}/price-anomalies"),
        ),
        (tenant("price-anomalies"), Get, Some("/api/v1/tenants/{tenant}/price-anomalies")),
        (tenant("price-anomalies/1/review"), Post, Some(REVIEW)),
        (tenant("products/p/price-anomalies/1/review"), Post, Some(REVIEW)),
        (tenant("products/p/price-anomalies/1/review/x"), Post, None),
        (tenant("metrics/sales/x"), Get, None),
        (tenant("stock/bulk_update"), Put, Some("/api/v1/tenants/{tenant}/stock/bulk_update")),
        (tenant("stock/p-1"), Get, Some("/api/v1/tenants/{tenant}/stock/{product}")),
        (tenant("stock"), Get, Some("/api/v1/tenants/{tenant}/stock")),
        (tenant("stock/p-1/x"), Get, None),
        (tenant("products"), Get, Some("/api/v1/tenants/{tenant}/products")),
        (tenant("products/p-1"), Get, Some("/api/v1/tenants/{tenant}/products/{product}")),
        (tenant("products/p-1/x"), Get, None),
        (tenant("reports/export"), Post, Some("/api/v1/tenants/{tenant}/reports/export")),
        (tenant("reports/export/0a"), Get, Some("/api/v1/tenants/{tenant}/reports/export/{export}")),
        (
            tenant("reports/export/0a/download"),
            Get,
            Some("/api/v1/tenants/{tenant}/reports/export/{export}/download"),
        ),
        (tenant("reports/export/0a/download/x"), Get, None),
        (tenant("reports/export/0a/x"), Get, None),
        (tenant("customers/c-1"), Delete, Some("/api/v1/tenants/{tenant}/customers/{customer}")),
        (tenant("customers/c-1"), Get, Some("/api/v1/tenants/{tenant}/customers/{customer}")),
        (tenant("customers/erase"), Delete, Some("/api/v1/tenants/{tenant}/customers/{customer}")),
        (tenant("customers/erase"), Post, Some("/api/v1/tenants/{tenant}/customers/erase")),
        (tenant("customers/c-1/export"), Get, Some("/api/v1/tenants/{tenant}/customers/{customer}/export")),
        (tenant("erasures/0a"), Get, Some("/api/v1/tenants/{tenant}/erasures/{erasure}")),
        ("/clicks/users/-7".to_owned(), Delete, Some("/clicks/users/{user_id}")),
        ("/clicks/erasures/0a".to_owned(), Get, Some("/clicks/erasures/{erasure}")),
        ("/clicks/x".to_owned(), Get, None),
        ("/api/v1/tenants".to_owned(), Get, None),
        ("/docsy".to_owned(), Get, None),
        ("/dashboard".to_owned(), Get, Some("/dashboard/{file}")),
        ("/dashboard/main.js".to_owned(), Get, Some("/dashboard/{file}")),
        ("/dashboard/state".to_owned(), Get, Some("/dashboard/state")),
        ("/dashboards".to_owned(), Get, None),
    ] {
        assert_eq!(row(&path, method).map(|(_, route)| route), expected, "{method:?} {path}");
        assert_eq!(row(&format!("{path}/"), method).map(|(_, route)| route), expected, "{path}/");
    }
    assert_eq!((row("/", Get), row("//", Get)), (Some(("/", "/")), Some(("/", "/"))));
    let path = "/receipts/0-65";
    assert_eq!(ENDPOINTS.find(path, Get, None).parameter(path, "receipt"), "0-65");
}

#[test]
fn a_path_names_product_and_anomaly() {
    let named = |rest: &str, name: &str| {
        let path = format!("/api/v1/tenants/t/{rest}");
        let endpoint = ENDPOINTS.find(&path, Method::Post, None).endpoint.unwrap();
        endpoint.parameter(&path, name)
    };
    assert_eq!(named("products/a%2Fb/price-event", "product").as_deref(), Some("a/b"));
    let review = "price-anomalies/x/review";
    assert_eq!((named(review, "product"), named(review, "anomaly").as_deref()), (None, Some("x")));
    let review = "products/p%20q/price-anomalies/x/review";
    assert_eq!(named(review, "product").as_deref(), Some("p q"));
    assert_eq!(named(review, "anomaly").as_deref(), Some("x"));
    let is_product = |path| api::request::is_identifier(&named(path, "product").unwrap());
    assert!(is_product("products/p/price-event") && !is_product("products//price-event"));
}

#[test]
fn an_endpoint_takes_the_methods_it_allows() {
    let allowed = |path| ENDPOINTS.find(path, Method::Other, None).allowed.to_string();
    assert_eq!(allowed("/event"), "POST, OPTIONS");
    assert_eq!(allowed("/api/v1/ingest/orders/uploads/1"), "GET, HEAD, PATCH, DELETE, OPTIONS");
    assert_eq!(allowed("/health"), "GET, HEAD, OPTIONS");
    assert_eq!(allowed("/nope"), "");
    assert!(ENDPOINTS.find("/nope", Method::Options, None).operation.is_none());
}

#[test]
fn a_public_key_and_a_page_of_any_origin_can_append_events_and_nothing_else() {
    for row in ROWS {
        for one in row.operations {
            let appends =
                matches!(row.path, "/event" | "/events" | "/events/bulk") && one.method == Method::Post;
            let asked = (row.path, one.method);
            assert_eq!(one.need == WRITE, appends, "{asked:?}");
            assert_eq!(one.pages == Pages::Every, appends, "{asked:?}");
            let is_probe = matches!(row.path, "/health" | "/livez" | "/ready" | "/readyz" | "/metrics")
                && row.if_query.is_none();
            assert_eq!(one.pages == Pages::OwnByAnyName, is_probe, "{asked:?}");
        }
    }
}

#[test]
fn every_endpoint_asks_for_what_it_gives() {
    use Method::{Delete, Get, Head, Options, Other, Patch, Post, Put};
    for row in ROWS {
        for method in [Get, Head, Post, Put, Patch, Delete, Options, Other] {
            let query = row.if_query;
            let path = row.path;
            let said = query.map(|name| format!("{name}=t"));
            let asked = ENDPOINTS.find(path, method, said.as_deref()).need();
            let is_get = matches!(method, Get | Head);
            let is_of_tenant = row.has_tenant();
            let expected = match path {
                _ if matches!(method, Options | Other) => OPEN,
                "/event" | "/events" | "/events/bulk" if method == Post => WRITE,
                "/events" if is_get => READ,
                "/metrics" if is_get && query == Some("tenant_id") => READ,
                "/clicks" | "/metrics" | "/dashboard/state" if is_get => READ_ALL,
                "/clicks/users/{user_id}" if method == Delete => ADMIN_ALL,
                "/clicks/erasures/{erasure}" if is_get => ADMIN_ALL,
                "/api/v1/ingest/orders" | "/api/v1/ingest/orders/uploads" if method == Post => MANAGE,
                "/api/v1/ingest/orders/uploads/{upload}" if is_get => MANAGE_OR_READ,
                "/api/v1/ingest/orders/uploads/{upload}" if matches!(method, Patch | Delete) => MANAGE,
                _ if path.ends_with("/price-event") || path.ends_with("/review") => {
                    if method == Post {
                        MANAGE
                    } else {
                        OPEN
                    }
                }
                // A customer may have the id `erase`.
                _ if path.contains("/customers/") => match method {
                    Post if path.ends_with("/erase") => ADMIN,
                    Delete if !path.ends_with("/export") => ADMIN,
                    _ if is_get => ADMIN,
                    _ => OPEN,
                },
                _ if path.contains("/erasures/") && is_of_tenant => {
                    if is_get {
                        ADMIN
                    } else {
                        OPEN
                    }
                }
                _ if path.contains("/reports/export") && !is_of_tenant => match method {
                    Post if path.ends_with("/export") => ADMIN_ALL,
                    Delete if path.ends_with("{export}") => ADMIN_ALL,
                    _ if is_get => ADMIN_ALL,
                    _ => OPEN,
                },
                _ if path.contains("/reports/export") => match method {
                    Post if path.ends_with("/export") => READ,
                    Delete if path.ends_with("{export}") => READ,
                    _ => {
                        if is_get {
                            READ
                        } else {
                            OPEN
                        }
                    }
                },
                _ if path.ends_with("/bulk_update") => match method {
                    Put => MANAGE,
                    // For any other method, the path names the product `bulk_update`.
                    _ => {
                        if is_get {
                            READ
                        } else {
                            OPEN
                        }
                    }
                },
                _ if path.contains("/orders/") && is_of_tenant && method == Patch => MANAGE,
                _ if is_of_tenant && is_get => READ,
                _ => OPEN,
            };
            assert_eq!(asked, expected, "{path} {method:?}");
        }
    }
}
