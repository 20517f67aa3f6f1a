//! The endpoint table: which path is what, with which methods, on which lane.

use std::borrow::Cow;

use super::dashboard::{self, Wants};
use super::error::problem;
use super::{Problem, docs, health, metrics, openapi, uploads};
use crate::base::counters::Cell;
use crate::commerce::SPEC_BYTES_MAX;
use crate::config::Config;
use crate::http::{Answer, Method};
use crate::ops::Format;
use crate::ops::vitals::Vitals;

/// Everything that can be asked of the server. The number is the row of the request counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Event,
    Events,
    EventsBulk,
    Clicks,
    OrdersIngest,
    OrderUploads,
    OrderUpload,
    OrderSearch,
    Order,
    Sales,
    StockUpdate,
    Stock,
    PriceEvent,
    ProductAnomalies,
    PriceAnomalies,
    PriceReview,
    Exports,
    Export,
    ExportDownload,
    Customer,
    Erasure,
    ClickUser,
    ClickErasure,
    Receipt,
    Health,
    Ready,
    Metrics,
    OpenApi,
    Docs,
    Dashboard,
    DashboardState,
    Root,
    Unknown,
}

impl Endpoint {
    pub const ALL: [Endpoint; 33] = [
        Endpoint::Event,
        Endpoint::Events,
        Endpoint::EventsBulk,
        Endpoint::Clicks,
        Endpoint::OrdersIngest,
        Endpoint::OrderUploads,
        Endpoint::OrderUpload,
        Endpoint::OrderSearch,
        Endpoint::Order,
        Endpoint::Sales,
        Endpoint::StockUpdate,
        Endpoint::Stock,
        Endpoint::PriceEvent,
        Endpoint::ProductAnomalies,
        Endpoint::PriceAnomalies,
        Endpoint::PriceReview,
        Endpoint::Exports,
        Endpoint::Export,
        Endpoint::ExportDownload,
        Endpoint::Customer,
        Endpoint::Erasure,
        Endpoint::ClickUser,
        Endpoint::ClickErasure,
        Endpoint::Receipt,
        Endpoint::Health,
        Endpoint::Ready,
        Endpoint::Metrics,
        Endpoint::OpenApi,
        Endpoint::Docs,
        Endpoint::Dashboard,
        Endpoint::DashboardState,
        Endpoint::Root,
        Endpoint::Unknown,
    ];

    /// The `route` label of the metrics.
    #[must_use]
    pub fn route(self) -> &'static str {
        match self {
            Endpoint::Event => "/event",
            Endpoint::Events => "/events",
            Endpoint::EventsBulk => "/events/bulk",
            Endpoint::Clicks => "/clicks",
            Endpoint::OrdersIngest => "/api/v1/ingest/orders",
            Endpoint::OrderUploads => "/api/v1/ingest/orders/uploads",
            Endpoint::OrderUpload => "/api/v1/ingest/orders/uploads/{upload}",
            Endpoint::OrderSearch => "/api/v1/tenants/{tenant}/orders/search",
            Endpoint::Order => "/api/v1/tenants/{tenant}/orders/{order}",
            Endpoint::Sales => "/api/v1/tenants/{tenant}/metrics/sales",
            Endpoint::StockUpdate => "/api/v1/tenants/{tenant}/stock/bulk_update",
            Endpoint::Stock => "/api/v1/tenants/{tenant}/stock/{product}",
            Endpoint::PriceEvent => "/api/v1/tenants/{tenant}/products/{product}/price-event",
            Endpoint::ProductAnomalies => "/api/v1/tenants/{tenant}/products/{product}/price-anomalies",
            Endpoint::PriceAnomalies => "/api/v1/tenants/{tenant}/price-anomalies",
            Endpoint::PriceReview => "/api/v1/tenants/{tenant}/price-anomalies/{anomaly}/review",
            Endpoint::Exports => "/api/v1/tenants/{tenant}/reports/export",
            Endpoint::Export => "/api/v1/tenants/{tenant}/reports/export/{export}",
            Endpoint::ExportDownload => "/api/v1/tenants/{tenant}/reports/export/{export}/download",
            Endpoint::Customer => "/api/v1/tenants/{tenant}/customers/{customer}",
            Endpoint::Erasure => "/api/v1/tenants/{tenant}/erasures/{erasure}",
            Endpoint::ClickUser => "/clicks/users/{user_id}",
            Endpoint::ClickErasure => "/clicks/erasures/{erasure}",
            Endpoint::Receipt => "/receipts/{receipt}",
            Endpoint::Health => "/health",
            Endpoint::Ready => "/ready",
            Endpoint::Metrics => "/metrics",
            Endpoint::OpenApi => "/openapi.json",
            Endpoint::Docs => "/docs",
            Endpoint::Dashboard => "/dashboard/{file}",
            Endpoint::DashboardState => "/dashboard/state",
            Endpoint::Root => "/",
            Endpoint::Unknown => "other",
        }
    }

    /// Answered on the hot lane: the event and what is cheap to say.
    #[must_use]
    pub fn is_hot(self) -> bool {
        matches!(self, Endpoint::Event | Endpoint::Receipt | Endpoint::Health | Endpoint::Ready)
    }

    /// A POST here brings events.
    #[must_use]
    pub fn takes_events(self) -> bool {
        matches!(self, Endpoint::Event | Endpoint::Events | Endpoint::EventsBulk)
    }

    /// Everything a GET may say is in memory.
    fn is_plain(self) -> bool {
        let is_event =
            matches!(self, Endpoint::Event | Endpoint::Events | Endpoint::EventsBulk | Endpoint::Clicks);
        let is_erasure = matches!(self, Endpoint::ClickUser | Endpoint::ClickErasure);
        !is_event && !is_erasure && !self.is_commerce()
    }

    /// Of the commerce backend.
    #[must_use]
    pub fn is_commerce(self) -> bool {
        use Endpoint::{OrderUpload, OrderUploads, OrdersIngest};
        matches!(self, OrdersIngest | OrderUploads | OrderUpload) || self.has_tenant()
    }

    /// Of price events.
    #[must_use]
    pub fn is_prices(self) -> bool {
        use Endpoint::{PriceAnomalies, PriceEvent, PriceReview, ProductAnomalies};
        matches!(self, PriceEvent | ProductAnomalies | PriceAnomalies | PriceReview)
    }

    /// The path names a product behind its tenant.
    #[must_use]
    pub fn has_product(self) -> bool {
        matches!(self, Endpoint::PriceEvent | Endpoint::ProductAnomalies)
    }

    /// Of exports.
    #[must_use]
    pub fn is_export(self) -> bool {
        matches!(self, Endpoint::Exports | Endpoint::Export | Endpoint::ExportDownload)
    }

    /// Of resumable uploads.
    #[must_use]
    pub fn is_upload(self) -> bool {
        matches!(self, Endpoint::OrderUploads | Endpoint::OrderUpload)
    }

    /// The path names a tenant.
    #[must_use]
    pub fn has_tenant(self) -> bool {
        use Endpoint::{Customer, Erasure, Order, OrderSearch, Sales, Stock, StockUpdate};
        let is_one = matches!(self, OrderSearch | Order | Sales | StockUpdate | Stock | Customer | Erasure);
        is_one || self.is_prices() || self.is_export()
    }

    /// A body here is taken in as it comes, by its endpoint.
    #[must_use]
    pub fn streams_in(self, method: Method) -> bool {
        match self {
            Endpoint::OrdersIngest | Endpoint::OrderUploads => method == Method::Post,
            Endpoint::OrderUpload => method == Method::Patch,
            _ => false,
        }
    }

    /// Decoded bytes a body may have here; 413 above.
    #[must_use]
    pub fn body_bytes_max(self, config: &Config) -> u64 {
        match self {
            Endpoint::Events => config.events_bytes_max,
            Endpoint::EventsBulk | Endpoint::StockUpdate => config.bulk_bytes_max,
            Endpoint::Exports => SPEC_BYTES_MAX as u64,
            _ => config.event_bytes_max,
        }
    }

    /// Whether it does anything with this method; any other gets 404 or 405, whatever its body.
    #[must_use]
    pub fn takes(self, method: Method) -> bool {
        let name = match method {
            Method::Options => return true,
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Other => return false,
        };
        self != Endpoint::Unknown && self.allow().split(", ").any(|allowed| allowed == name)
    }

    /// Its methods, as the `Allow` header has them.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Endpoint::Event | Endpoint::EventsBulk => "POST, OPTIONS",
            Endpoint::OrdersIngest | Endpoint::OrderUploads => "POST, OPTIONS",
            Endpoint::OrderUpload => "GET, HEAD, PATCH, DELETE, OPTIONS",
            Endpoint::PriceEvent | Endpoint::PriceReview => "POST, OPTIONS",
            Endpoint::Order => "PATCH, OPTIONS",
            Endpoint::StockUpdate => "PUT, OPTIONS",
            Endpoint::Events | Endpoint::Exports => "GET, HEAD, POST, OPTIONS",
            Endpoint::Export => "GET, HEAD, DELETE, OPTIONS",
            Endpoint::Customer | Endpoint::ClickUser => "DELETE, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

const _: () = assert!(Endpoint::ALL.len() <= crate::ops::vitals::ROUTES);

/// The endpoint at a path (one trailing slash is tolerated), and the path's last part where the
/// endpoint takes one.
#[must_use]
pub fn find(path: &str) -> (Endpoint, &str) {
    let path = match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter,
        _ => path,
    };
    let endpoint = match path {
        "/event" => Endpoint::Event,
        "/events" => Endpoint::Events,
        "/events/bulk" => Endpoint::EventsBulk,
        "/clicks" => Endpoint::Clicks,
        "/api/v1/ingest/orders" => Endpoint::OrdersIngest,
        "/api/v1/ingest/orders/uploads" => Endpoint::OrderUploads,
        "/health" | "/livez" => Endpoint::Health,
        "/ready" | "/readyz" => Endpoint::Ready,
        "/metrics" => Endpoint::Metrics,
        "/openapi.json" => Endpoint::OpenApi,
        "/docs" => Endpoint::Docs,
        "/dashboard" => Endpoint::Dashboard,
        "/dashboard/state" => Endpoint::DashboardState,
        "/" => Endpoint::Root,
        _ if path.starts_with("/api/v1/") => return commerce(path),
        _ if path.starts_with("/clicks/") => return clicks(path),
        _ => match path.strip_prefix("/receipts/") {
            Some(receipt) => return (Endpoint::Receipt, receipt),
            None if path.starts_with("/docs/") => Endpoint::Docs,
            None if path.starts_with("/dashboard/") => Endpoint::Dashboard,
            None => Endpoint::Unknown,
        },
    };
    (endpoint, path)
}

/// The user, or the erasure, below `/clicks`.
fn clicks(path: &str) -> (Endpoint, &str) {
    let last = |prefix: &str| path.strip_prefix(prefix).filter(|last| !last.contains('/'));
    match (last("/clicks/users/"), last("/clicks/erasures/")) {
        (Some(user), _) => (Endpoint::ClickUser, user),
        (_, Some(erasure)) => (Endpoint::ClickErasure, erasure),
        _ => (Endpoint::Unknown, path),
    }
}

/// The upload, or the path behind `tenants/`, of a commerce endpoint that has one.
fn commerce(path: &str) -> (Endpoint, &str) {
    if let Some(upload) = path.strip_prefix("/api/v1/ingest/orders/uploads/") {
        return (Endpoint::OrderUpload, upload);
    }
    let Some(below) = path.strip_prefix("/api/v1/tenants/") else { return (Endpoint::Unknown, path) };
    let mut parts = below.split('/');
    let mut next = || parts.next();
    let endpoint = match [next(), next(), next(), next(), next(), next()] {
        [Some(_), Some("orders"), Some("search"), None, ..] => Endpoint::OrderSearch,
        [Some(_), Some("orders"), Some(_), None, ..] => Endpoint::Order,
        [Some(_), Some("metrics"), Some("sales"), None, ..] => Endpoint::Sales,
        [Some(_), Some("stock"), Some("bulk_update"), None, ..] => Endpoint::StockUpdate,
        [Some(_), Some("stock"), Some(_), None, ..] => Endpoint::Stock,
        [Some(_), Some("reports"), Some("export"), None, ..] => Endpoint::Exports,
        [Some(_), Some("reports"), Some("export"), Some(_), None, _] => Endpoint::Export,
        [Some(_), Some("reports"), Some("export"), Some(_), Some("download"), None] => {
            Endpoint::ExportDownload
        }
        [Some(_), Some("customers"), Some(_), None, ..] => Endpoint::Customer,
        [Some(_), Some("erasures"), Some(_), None, ..] => Endpoint::Erasure,
        _ => prices(below),
    };
    (endpoint, below)
}

/// The endpoint of a path behind `tenants/` that is about prices.
fn prices(below: &str) -> Endpoint {
    let parts: Vec<&str> = below.split('/').take(7).collect();
    match parts[..] {
        [_, "products", _, "price-event"] => Endpoint::PriceEvent,
        [_, "products", _, "price-anomalies"] => Endpoint::ProductAnomalies,
        [_, "price-anomalies"] => Endpoint::PriceAnomalies,
        [_, "price-anomalies", _, "review"] | [_, "products", _, "price-anomalies", _, "review"] => {
            Endpoint::PriceReview
        }
        _ => Endpoint::Unknown,
    }
}

/// What of a request the plain endpoints look at.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub endpoint: Endpoint,
    /// The second half of [`find`]'s answer.
    pub argument: &'a str,
    pub method: Method,
    pub format: Format,
    /// What matters to the dashboard's files only.
    pub wants: Wants<'a>,
    pub request_id: &'a str,
}

/// What is answered from memory, without waiting: everything that neither takes events nor reads rows.
#[must_use]
pub fn plain(asked: &Asked<'_>, vitals: &Vitals, problems: &[Cell]) -> Answer {
    let Asked { endpoint, argument, method, format, wants, request_id } = *asked;
    let failed = |kind, detail: &str| problem(kind, detail, request_id, &[], &[], problems);
    match (endpoint, method) {
        (_, Method::Options) if endpoint.is_upload() => uploads::options(preflight(endpoint), &vitals.config),
        (_, Method::Options) => preflight(endpoint),
        (Endpoint::Unknown, _) => failed(Problem::NotFound, "no endpoint has this path"),
        (_, Method::Get | Method::Head) if endpoint.is_plain() => match endpoint {
            Endpoint::Receipt => health::receipt(argument, vitals)
                .unwrap_or_else(|| failed(Problem::NotAReceipt, "this receipt was never given out")),
            Endpoint::Health => health::health(vitals),
            Endpoint::Ready => health::ready(vitals),
            Endpoint::Metrics => {
                Answer::new(200, format.content_type(), metrics::page(vitals, format).into_bytes())
            }
            Endpoint::OpenApi => Answer::new(200, "application/json", openapi::document().as_bytes()),
            Endpoint::Root if wants.html => dashboard::index(&wants),
            Endpoint::Root => Answer::new(303, "", &b""[..]).with("Location", "/docs").with("Vary", "Accept"),
            Endpoint::Dashboard => dashboard::file(argument, &wants)
                .unwrap_or_else(|| failed(Problem::NotFound, "no page has this path")),
            Endpoint::DashboardState => dashboard::state(vitals),
            _ => match docs::page(argument) {
                Some(page) => Answer::new(200, page.content_type, page.body),
                None => failed(Problem::NotFound, "no page has this path"),
            },
        },
        _ => {
            let allow = endpoint.allow();
            failed(Problem::MethodNotAllowed, &format!("this path takes {allow}")).with("Allow", allow)
        }
    }
}

/// What a browser may send.
const HEADERS: &str = "Content-Type, Content-Encoding, X-Request-Id, Authorization, X-API-Key, Idempotency-Key, \
    If-None-Match, Last-Event-ID, webhook-id, webhook-timestamp, webhook-signature";
/// What it may send to uploads beside that; tus clients name some that mean nothing here.
const UPLOAD_HEADERS: &str = "Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, Upload-Checksum, \
    Upload-Defer-Length, Upload-Concat, X-HTTP-Method-Override, X-Requested-With";

/// And to downloads.
const DOWNLOAD_HEADERS: &str = "Range, If-Range, If-None-Match, If-Match";

/// The answer to OPTIONS, a browser's CORS preflight included: any origin may post events.
fn preflight(endpoint: Endpoint) -> Answer {
    Answer::new(204, "", &b""[..])
        .with("Allow", endpoint.allow())
        .with("Access-Control-Allow-Methods", endpoint.allow())
        .with(
            "Access-Control-Allow-Headers",
            match endpoint {
                _ if endpoint.is_upload() => Cow::Owned(format!("{HEADERS}, {UPLOAD_HEADERS}")),
                Endpoint::ExportDownload => Cow::Owned(format!("{HEADERS}, {DOWNLOAD_HEADERS}")),
                _ => Cow::Borrowed(HEADERS),
            },
        )
        .with("Access-Control-Max-Age", "86400")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_finds_its_endpoint_with_and_without_a_trailing_slash() {
        for (path, endpoint) in [
            ("/event", Endpoint::Event),
            ("/livez", Endpoint::Health),
            ("/readyz", Endpoint::Ready),
            ("/receipts/0-65", Endpoint::Receipt),
            ("/docs/problems/not-json", Endpoint::Docs),
            ("/docs", Endpoint::Docs),
            ("/events", Endpoint::Events),
            ("/events/bulk", Endpoint::EventsBulk),
            ("/clicks", Endpoint::Clicks),
            ("/events/x", Endpoint::Unknown),
            ("/api/v1/ingest/orders", Endpoint::OrdersIngest),
            ("/api/v1/ingest/orders/uploads", Endpoint::OrderUploads),
            ("/api/v1/ingest/orders/uploads/1-x", Endpoint::OrderUpload),
            ("/api/v1/tenants/t/orders/search", Endpoint::OrderSearch),
            ("/api/v1/tenants/t/orders/o-1", Endpoint::Order),
            ("/api/v1/tenants/t/metrics/sales", Endpoint::Sales),
            ("/api/v1/tenants/t/products/p/price-event", Endpoint::PriceEvent),
            ("/api/v1/tenants/t/products/p/price-anomalies", Endpoint::ProductAnomalies),
            ("/api/v1/tenants/t/price-anomalies", Endpoint::PriceAnomalies),
            ("/api/v1/tenants/t/price-anomalies/1/review", Endpoint::PriceReview),
            ("/api/v1/tenants/t/products/p/price-anomalies/1/review", Endpoint::PriceReview),
            ("/api/v1/tenants/t/products/p/price-anomalies/1/review/x", Endpoint::Unknown),
            ("/api/v1/tenants/t/metrics/sales/x", Endpoint::Unknown),
            ("/api/v1/tenants/t/stock/bulk_update", Endpoint::StockUpdate),
            ("/api/v1/tenants/t/stock/p-1", Endpoint::Stock),
            ("/api/v1/tenants/t/stock", Endpoint::Unknown),
            ("/api/v1/tenants/t/reports/export", Endpoint::Exports),
            ("/api/v1/tenants/t/reports/export/0a", Endpoint::Export),
            ("/api/v1/tenants/t/reports/export/0a/download", Endpoint::ExportDownload),
            ("/api/v1/tenants/t/reports/export/0a/download/x", Endpoint::Unknown),
            ("/api/v1/tenants/t/reports/export/0a/x", Endpoint::Unknown),
            ("/api/v1/tenants/t/customers/c-1", Endpoint::Customer),
            ("/api/v1/tenants/t/erasures/0a", Endpoint::Erasure),
            ("/clicks/users/-7", Endpoint::ClickUser),
            ("/clicks/erasures/0a", Endpoint::ClickErasure),
            ("/clicks/x", Endpoint::Unknown),
            ("/api/v1/tenants", Endpoint::Unknown),
            ("/docsy", Endpoint::Unknown),
            ("/dashboard", Endpoint::Dashboard),
            ("/dashboard/main.js", Endpoint::Dashboard),
            ("/dashboard/state", Endpoint::DashboardState),
            ("/dashboards", Endpoint::Unknown),
        ] {
            assert_eq!(find(path).0, endpoint, "{path}");
            assert_eq!(find(&format!("{path}/")).0, endpoint, "{path}/");
        }
        assert_eq!(find("/").0, Endpoint::Root);
        assert_eq!(find("//").0, Endpoint::Root);
        assert_eq!(find("/receipts/0-65").1, "0-65");
    }

    #[test]
    fn an_endpoint_takes_the_methods_it_allows() {
        use Method::{Delete, Get, Head, Options, Other, Patch, Post, Put};
        let all = [Get, Head, Post, Put, Patch, Delete, Options, Other];
        let taken =
            |endpoint: Endpoint| all.into_iter().filter(|method| endpoint.takes(*method)).collect::<Vec<_>>();
        assert_eq!(taken(Endpoint::Event), [Post, Options]);
        assert_eq!(taken(Endpoint::OrderUpload), [Get, Head, Patch, Delete, Options]);
        assert_eq!(taken(Endpoint::Health), [Get, Head, Options]);
        assert_eq!(taken(Endpoint::Unknown), [Options]);
    }
}
