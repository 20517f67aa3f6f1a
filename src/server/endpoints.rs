//! The endpoint table: a row per path, a line per method. Everything else about an endpoint is derived from its row
//! ([`api::Endpoints`]).

use std::sync::OnceLock;

use utoipa::openapi::path::OperationBuilder;

use crate::api::{self, Asked, Body, Endpoint, Endpoints, Lane, Logged, Operation, Pages, openapi};
use crate::exports::SPEC_BYTES_MAX;
use crate::exports::openapi::Owner;
use crate::http::{Answer, Method};
use crate::lane::{Handler, Reply, Task};
use crate::ops::vitals::ROUTES;
use crate::people::ERASE_BYTES_MAX;
use crate::tenants::{Need, Scope};
use crate::{clicks, events, exports, orders, people, prices, products, sales, status, stock, uploads};

/// Converts an async function to the form that a row needs. The conversion also turns refusals into responses.
macro_rules! task {
    ($handler:path) => {
        |call, body| {
            Box::pin(async move {
                let asker = call.asker();
                Reply::of($handler(call, body).await, &asker)
            })
        }
    };
}

const OPEN: Need = Need::Nothing;
const WRITE: Need = Need::Scope(Scope::Write);
const MANAGE: Need = Need::Scope(Scope::Manage);
const READ: Need = Need::Scope(Scope::Read);
/// The access to an upload's status, for its sender and for readers.
const MANAGE_OR_READ: Need = Need::Either(Scope::Manage, Scope::Read);
const ADMIN: Need = Need::Scope(Scope::Admin);
/// The access to data that belongs to no single tenant: clicks, and the server's own figures.
const READ_ALL: Need = Need::AllTenants(Scope::Read);
const ADMIN_ALL: Need = Need::AllTenants(Scope::Admin);

/// A body that contains a single record.
const ONE: Body = Body::Whole(|config| config.event_bytes_max);
const BULK: Body = Body::Whole(|config| config.bulk_bytes_max);

type Describe = fn() -> OperationBuilder;

const fn operation(
    method: Method,
    need: Need,
    body: Body,
    handler: Handler,
    describe: Describe,
) -> Operation<Handler> {
    Operation {
        method,
        need,
        pages: Pages::Own,
        body,
        lane: Lane::Executor,
        logged: Logged::of(method),
        handler,
        describe,
    }
}

/// Samples the log of an operation that is called thousands of times per second.
const fn sampled(operation: Operation<Handler>) -> Operation<Handler> {
    Operation { logged: Logged::Sampled, ..operation }
}

/// Creates a GET that runs on the executor.
const fn get(need: Need, task: Task, describe: Describe) -> Operation<Handler> {
    operation(Method::Get, need, Body::Unused, Handler::Task(task), describe)
}

const fn delete(need: Need, task: Task, describe: Describe) -> Operation<Handler> {
    operation(Method::Delete, need, Body::Unused, Handler::Task(task), describe)
}

const fn post(need: Need, body: Body, task: Task, describe: Describe) -> Operation<Handler> {
    operation(Method::Post, need, body, Handler::Task(task), describe)
}

/// Creates a GET that is answered from memory.
const fn page(need: Need, answer: fn(&Asked<'_>) -> Answer, describe: Describe) -> Operation<Handler> {
    operation(Method::Get, need, Body::Unused, Handler::Memory(answer), describe)
}

const fn hot(operation: Operation<Handler>) -> Operation<Handler> {
    Operation { lane: Lane::Hot, ..operation }
}

/// Lets every page call an operation that only appends events.
const fn for_every_page(operation: Operation<Handler>) -> Operation<Handler> {
    Operation { pages: Pages::Every, ..operation }
}

/// Lets an operation be called under any host name, as probes and scrapers do.
const fn by_any_name(operation: Operation<Handler>) -> Operation<Handler> {
    Operation { pages: Pages::OwnByAnyName, ..operation }
}

/// Every endpoint. The first one is found without comparing the path with the others.
const ROWS: &[Endpoint<Handler>] = &[
    Endpoint::new(
        "/event",
        &[for_every_page(hot(sampled(operation(
            Method::Post,
            WRITE,
            ONE,
            Handler::Click(task!(clicks::endpoints::post_click)),
            clicks::openapi::post_event,
        ))))],
    ),
    Endpoint::new(
        "/events",
        &[
            get(READ, task!(events::endpoints::get_page), events::openapi::get_page),
            for_every_page(sampled(post(
                WRITE,
                Body::Whole(|config| config.events_bytes_max),
                task!(events::endpoints::post_one),
                events::openapi::post_one,
            ))),
        ],
    ),
    Endpoint::new(
        "/events/bulk",
        &[for_every_page(sampled(post(
            WRITE,
            BULK,
            task!(events::endpoints::post_bulk),
            events::openapi::post_bulk,
        )))],
    ),
    Endpoint::new(
        "/clicks",
        &[get(READ_ALL, task!(clicks::endpoints::get_page), clicks::openapi::get_clicks)],
    ),
    Endpoint::new(
        "/api/v1/ingest/orders",
        &[operation(
            Method::Post,
            MANAGE,
            Body::Streamed,
            Handler::Stream(task!(orders::endpoints::post)),
            orders::openapi::post_ingest,
        )],
    ),
    Endpoint::new(
        "/api/v1/ingest/orders/uploads",
        &[
            operation(
                Method::Post,
                MANAGE,
                Body::Streamed,
                Handler::Stream(task!(uploads::endpoints::create)),
                uploads::openapi::post,
            ),
            operation(Method::Options, OPEN, Body::Unused, Handler::Preflight(uploads::options), || {
                uploads::openapi::capabilities("uploadCapabilities")
            }),
        ],
    ),
    Endpoint::new(
        "/api/v1/ingest/orders/uploads/{upload}",
        &[
            get(MANAGE_OR_READ, task!(uploads::endpoints::get), uploads::openapi::get),
            operation(
                Method::Head,
                MANAGE_OR_READ,
                Body::Unused,
                Handler::Task(task!(uploads::endpoints::head)),
                uploads::openapi::head,
            ),
            operation(
                Method::Patch,
                MANAGE,
                Body::Streamed,
                Handler::Stream(task!(uploads::endpoints::patch)),
                uploads::openapi::patch,
            ),
            delete(MANAGE, task!(uploads::endpoints::delete), uploads::openapi::delete),
            operation(
                Method::Options,
                OPEN,
                Body::Unused,
                Handler::Preflight(uploads::options),
                uploads::openapi::options,
            ),
        ],
    )
    .overrides_method(),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/orders/search",
        &[get(READ, task!(orders::endpoints::search), orders::openapi::search)],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/orders/{order}",
        &[
            get(READ, task!(orders::endpoints::get), orders::openapi::get_order),
            operation(
                Method::Patch,
                MANAGE,
                ONE,
                Handler::Task(task!(orders::endpoints::patch)),
                orders::openapi::patch_order,
            ),
        ],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/events/summary",
        &[get(READ, task!(events::endpoints::get_summary), events::openapi::get_summary)],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/events/unique",
        &[get(READ, task!(events::endpoints::get_unique), events::openapi::get_unique)],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/metrics/sales",
        &[get(READ, task!(sales::endpoints::sales), sales::openapi::sales)],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/stock/bulk_update",
        &[sampled(operation(
            Method::Put,
            MANAGE,
            BULK,
            Handler::Task(task!(stock::endpoints::put)),
            stock::openapi::put,
        ))],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/stock",
        &[get(READ, task!(stock::endpoints::list), stock::openapi::list)],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/stock/{product}",
        &[get(READ, task!(stock::endpoints::get), stock::openapi::get)],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/products",
        &[get(READ, task!(products::endpoints::list), products::openapi::list)],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/products/{product}",
        &[get(READ, task!(products::endpoints::get), products::openapi::get)],
    )
    .checks_product(),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/products/{product}/price-event",
        &[sampled(post(MANAGE, ONE, task!(prices::endpoints::post_event), prices::openapi::post_event))],
    )
    .checks_product(),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/products/{product}/price-anomalies",
        &[get(READ, task!(prices::endpoints::list), || prices::openapi::list(true))],
    )
    .checks_product(),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/price-anomalies",
        &[get(READ, task!(prices::endpoints::list), || prices::openapi::list(false))],
    ),
    Endpoint::new(
        REVIEW,
        &[post(MANAGE, ONE, task!(prices::endpoints::post_review), || prices::openapi::post_review(false))],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/products/{product}/price-anomalies/{anomaly}/review",
        &[post(MANAGE, ONE, task!(prices::endpoints::post_review), || prices::openapi::post_review(true))],
    )
    .counted_as(REVIEW),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/reports/export",
        &[
            get(READ, task!(exports::endpoints::list), || exports::openapi::list(Owner::Tenant)),
            // An export is a way of reading, so a client that may create one may delete it.
            post(READ, Body::Whole(|_| SPEC_BYTES_MAX as u64), task!(exports::endpoints::create), || {
                exports::openapi::create(Owner::Tenant)
            }),
        ],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/reports/export/{export}",
        &[
            get(READ, task!(exports::endpoints::get), || exports::openapi::get(Owner::Tenant)),
            delete(READ, task!(exports::endpoints::delete), || exports::openapi::delete(Owner::Tenant)),
        ],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/reports/export/{export}/download",
        &[get(READ, task!(exports::endpoints::download), || exports::openapi::download(Owner::Tenant))],
    ),
    Endpoint::new(
        "/api/v1/reports/export",
        &[
            get(ADMIN_ALL, task!(exports::endpoints::list), || exports::openapi::list(Owner::NoTenant)),
            post(
                ADMIN_ALL,
                Body::Whole(|_| SPEC_BYTES_MAX as u64),
                task!(exports::endpoints::create),
                || exports::openapi::create(Owner::NoTenant),
            ),
        ],
    ),
    Endpoint::new(
        "/api/v1/reports/export/{export}",
        &[
            get(ADMIN_ALL, task!(exports::endpoints::get), || exports::openapi::get(Owner::NoTenant)),
            delete(ADMIN_ALL, task!(exports::endpoints::delete), || {
                exports::openapi::delete(Owner::NoTenant)
            }),
        ],
    ),
    Endpoint::new(
        "/api/v1/reports/export/{export}/download",
        &[get(ADMIN_ALL, task!(exports::endpoints::download), || {
            exports::openapi::download(Owner::NoTenant)
        })],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/customers/{customer}",
        &[
            get(ADMIN, task!(people::endpoints::customer), people::openapi::customer),
            delete(ADMIN, task!(people::endpoints::erase_customer), people::openapi::erase_customer),
        ],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/customers/{customer}/export",
        &[get(ADMIN, task!(people::endpoints::export), people::openapi::export)],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/customers/erase",
        &[post(
            ADMIN,
            Body::Whole(|_| ERASE_BYTES_MAX as u64),
            task!(people::endpoints::erase_customers),
            people::openapi::erase_customers,
        )],
    ),
    Endpoint::new(
        "/api/v1/tenants/{tenant}/erasures/{erasure}",
        &[get(ADMIN, task!(people::endpoints::erasure), people::openapi::erasure)],
    ),
    Endpoint::new(
        "/clicks/users/{user_id}",
        &[delete(ADMIN_ALL, task!(people::endpoints::erase_user), people::openapi::erase_user)],
    ),
    Endpoint::new(
        "/clicks/erasures/{erasure}",
        &[get(ADMIN_ALL, task!(people::endpoints::erasure), people::openapi::click_erasure)],
    ),
    Endpoint::new("/receipts/{receipt}", &[hot(page(OPEN, status::receipt, status::openapi::get_receipt))]),
    Endpoint::new(
        "/health",
        &[by_any_name(hot(page(OPEN, HEALTH, || status::openapi::get_health("health"))))],
    )
    .for_operators(),
    Endpoint::new("/livez", &[by_any_name(hot(page(OPEN, HEALTH, || status::openapi::get_health("livez"))))])
        .counted_as("/health")
        .for_operators(),
    Endpoint::new("/ready", &[by_any_name(hot(page(OPEN, READY, || status::openapi::get_ready("ready"))))])
        .for_operators(),
    Endpoint::new("/readyz", &[by_any_name(hot(page(OPEN, READY, || status::openapi::get_ready("readyz"))))])
        .counted_as("/ready")
        .for_operators(),
    // Two resources at one path: the page for Prometheus, and a tenant's counts over time.
    Endpoint::new("/metrics", &[by_any_name(page(READ_ALL, status::metrics, events::openapi::get_metrics))])
        .for_operators(),
    Endpoint::new(
        "/metrics",
        &[get(READ, task!(events::endpoints::get_buckets), events::openapi::get_metrics)],
    )
    .if_query("tenant_id"),
    Endpoint::new("/openapi.json", &[page(OPEN, openapi_document, openapi::get_openapi)]),
    Endpoint::new("/docs", &[page(OPEN, api::docs::answer, openapi::get_docs)]),
    Endpoint::new("/docs/problems/{slug}", &[page(OPEN, api::docs::answer, openapi::get_problem_page)])
        .counted_as("/docs"),
    Endpoint::new("/docs/{file..}", &[page(OPEN, api::docs::answer, openapi::get_docs_file)])
        .counted_as("/docs"),
    Endpoint::new("/dashboard/{file..}", &[page(OPEN, status::file, status::openapi::get_file)])
        .counted_as("/dashboard/{file}"),
    Endpoint::new(
        "/dashboard/state",
        &[page(READ_ALL, |asked| status::state(asked.vitals), status::openapi::state)],
    ),
    Endpoint::new("/favicon.ico", &[page(OPEN, status::favicon, status::openapi::get_favicon)]),
    Endpoint::new("/", &[page(OPEN, status::root, status::openapi::get_root)]),
];

const REVIEW: &str = "/api/v1/tenants/{tenant}/price-anomalies/{anomaly}/review";
const HEALTH: fn(&Asked<'_>) -> Answer = |asked| status::health(asked.vitals);
const READY: fn(&Asked<'_>) -> Answer = |asked| status::ready(asked.vitals);

/// The table of all endpoints.
pub(super) static ENDPOINTS: Endpoints<Handler> = Endpoints::new(ROWS);

/// The row of the collector's events, which the listener counts per tick.
pub(super) const CLICKS: usize = 0;
/// The row that counts requests without an endpoint.
pub(super) const UNMATCHED: usize = ROWS.len();

const _: () = {
    assert!(UNMATCHED < ROUTES, "every row, and a request without an endpoint, has its own counters");
    assert!(matches!(ROWS[CLICKS].operations[0].handler, Handler::Click(_)));
    let mut row = 0;
    while row < ROWS.len() {
        let operations = ROWS[row].operations;
        let mut at = 0;
        while at < operations.len() {
            let is_streamed = matches!(operations[at].body, Body::Streamed);
            let streams = matches!(operations[at].handler, Handler::Stream(_));
            assert!(is_streamed == streams, "a row with a streamed body states it in both columns");
            // The listener handles either all methods of a path or none. It requires a key only for events, and it
            // never waits.
            let is_hot = matches!(operations[at].lane, Lane::Hot);
            let may_be = match operations[at].handler {
                Handler::Click(_) => true,
                Handler::Memory(_) => matches!(operations[at].need, Need::Nothing),
                _ => false,
            };
            assert!(!is_hot || may_be, "this cannot be answered on the listener");
            assert!(is_hot == matches!(operations[0].lane, Lane::Hot), "a path is hot with all its methods");
            at += 1;
        }
        row += 1;
    }
};

/// The features' schemas.
const SCHEMAS: &[openapi::AddSchemas] = &[
    clicks::openapi::schemas,
    events::openapi::schemas,
    orders::openapi::schemas,
    sales::openapi::schemas,
    uploads::openapi::schemas,
    exports::openapi::schemas,
    prices::openapi::schemas,
    stock::openapi::schemas,
    products::openapi::schemas,
    people::openapi::schemas,
    status::openapi::schemas,
];

fn openapi_document(_: &Asked<'_>) -> Answer {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| openapi::document(&ENDPOINTS, SCHEMAS));
    Answer::new(200, "application/json", document.as_bytes())
}

#[cfg(test)]
mod tests;
