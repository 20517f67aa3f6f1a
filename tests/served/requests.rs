//! The requests to a folder: every read that existed, requests that were sent before, and an upload that continues.

use serde_json::{Value, json};

use super::make::{self, TENANT};
use crate::support::{Answer, Server};

pub(super) struct Request {
    pub(super) name: String,
    method: &'static str,
    target: String,
    lines: Vec<String>,
    body: String,
    /// Members whose values differ from run to run, in addition to those that always do.
    pub(super) left_out: Vec<&'static str>,
    /// If true, the next page is requested as well.
    pub(super) is_paged: bool,
}

impl Request {
    fn new(name: &str, method: &'static str, key: &str, target: &str) -> Request {
        Request {
            name: name.to_owned(),
            method,
            target: target.to_owned(),
            lines: vec![format!("Authorization: Bearer {key}")],
            body: String::new(),
            left_out: Vec::new(),
            is_paged: false,
        }
    }

    fn line(mut self, line: &str) -> Request {
        self.lines.push(line.to_owned());
        self
    }

    fn body(mut self, body: &str) -> Request {
        body.clone_into(&mut self.body);
        self
    }

    fn paged(mut self) -> Request {
        self.is_paged = true;
        self
    }

    fn without(mut self, member: &'static str) -> Request {
        self.left_out.push(member);
        self
    }

    /// Returns the request for the page after a cursor.
    pub(super) fn after(&self, cursor: &str) -> Request {
        Request {
            name: format!("{}-next", self.name),
            target: format!("{}&cursor={cursor}", self.target),
            lines: self.lines.clone(),
            body: self.body.clone(),
            left_out: self.left_out.clone(),
            is_paged: false,
            ..*self
        }
    }

    #[track_caller]
    pub(super) fn send(&self, server: &Server) -> Answer {
        make::ask(&mut server.client(), self.method, &self.target, &self.lines, self.body.as_bytes())
    }
}

fn text<'m>(made: &'m Value, name: &str) -> &'m str {
    made[name].as_str().unwrap_or_else(|| panic!("{name} in {made}"))
}

const NDJSON: &str = "Accept: application/x-ndjson";

pub(super) fn reads(made: &Value) -> Vec<Request> {
    let (admin, reader) = (text(made, "admin"), text(made, "reader"));
    let root = format!("/api/v1/tenants/{TENANT}");
    let get = |name: &str, target: &str| Request::new(name, "GET", admin, target);
    let of_tenant = |name: &str, target: &str| Request::new(name, "GET", reader, &format!("{root}/{target}"));
    let events = format!("/events?tenant_id={TENANT}");
    let buckets = format!("/metrics?tenant_id={TENANT}");
    let mut all = vec![
        get("clicks", "/clicks?page_size=60").paged(),
        get("clicks-desc", "/clicks?order=desc&page=2&page_size=30"),
        get("clicks-lines", "/clicks?from=2026-03-01T00:00:30Z&to=2026-03-01T00:01:10Z").line(NDJSON),
        get("receipt", &format!("/receipts/{}", text(made, "receipt"))),
        get("events", &format!("{events}&page_size=50")).paged(),
        get("events-desc", &format!("{events}&order=desc&page=2&page_size=40")),
        get(
            "events-filter",
            &format!("{events}&source=web&event_type=view&from=2026-03-01T10:10:00Z&to=2026-03-01T10:40:00Z"),
        ),
        get("events-lines", &format!("{events}&event_type=buy")).line(NDJSON),
        get("buckets-minute", &format!("{buckets}&bucket_size=minute")),
        get("buckets-hour", &format!("{buckets}&bucket_size=hour&source=web")),
        get("buckets-day", &format!("{buckets}&bucket_size=day&tz=Asia/Kolkata")),
        get("clicks-erasure", text(made, "click_erasure")),
        get("upload", text(made, "upload")),
        get("upload-begun", text(made, "upload_begun")),
        Request::new("upload-begun-head", "HEAD", admin, text(made, "upload_begun"))
            .line("Tus-Resumable: 1.0.0"),
        get("foreign", "/api/v1/tenants/gamma/orders/search?limit=20"),
        Request::new("foreign-key", "GET", reader, "/api/v1/tenants/gamma/orders/search"),
        of_tenant("search", "orders/search?limit=70").line(NDJSON).paged(),
        of_tenant("search-json", "orders/search?status=paid&fields=order_id,total,units,status,ordered_at")
            .line("Accept: application/json"),
        of_tenant("search-product", "orders/search?product_id=p-3&min_total=20&max_total=90"),
        of_tenant("search-words", "orders/search?q=number4"),
        of_tenant("search-dates", "orders/search?from=2026-03-02&to=2026-03-05T12:00:00Z").line(NDJSON),
        of_tenant("order", "orders/acme-o-12"),
        of_tenant("order-changed", "orders/acme-o-5"),
        of_tenant("order-of-token", "orders/acme-o-10"),
        of_tenant("order-unknown", "orders/none"),
        of_tenant("stock-p-0", "stock/p-0"),
        of_tenant("stock-p-1", "stock/p-1"),
        of_tenant("stock-p-2", "stock/p-2"),
        of_tenant("stock-unknown", "stock/none"),
        of_tenant("anomalies", "price-anomalies?limit=2").paged(),
        of_tenant("anomalies-open", "price-anomalies?status=open"),
        of_tenant("anomalies-product", "products/p-1/price-anomalies?since=2026-01-01T00:00:00Z"),
        of_tenant("exports", "reports/export"),
    ];
    for by in ["day", "hour", "product", "category"] {
        for precision in ["exact", "approx"] {
            let target = format!("metrics/sales?group_by={by}&precision={precision}");
            all.push(of_tenant(&format!("sales-{by}-{precision}"), &target));
        }
    }
    let target = "metrics/sales?group_by=day&start_date=2026-03-03&end_date=2026-03-12&tz=America/New_York";
    all.push(of_tenant("sales-zone", target));
    for export in ["csv", "parquet", "ndjson"] {
        let url = text(&made["exports"], export);
        all.push(get(&format!("export-{export}"), url));
        all.push(get(&format!("export-{export}-file"), &format!("{url}/download")));
    }
    let url = text(&made["exports"], "csv");
    all.push(get("export-csv-range", &format!("{url}/download")).line("Range: bytes=100-299"));
    for name in ["erased", "pseudonymised"] {
        all.push(get(
            &format!("erasure-{name}"),
            &format!("{root}/erasures/{}", text(&made["erasures"], name)),
        ));
    }
    all
}

/// Returns requests that were sent before, and different ones with the same ids.
pub(super) fn repeats(made: &Value) -> Vec<Request> {
    let admin = text(made, "admin");
    let root = format!("/api/v1/tenants/{TENANT}");
    let post = |name: &str, target: &str, body: &str| Request::new(name, "POST", admin, target).body(body);
    let price = format!("{root}/products/p-1/price-event");
    let stock = |name: &str, body: &Value| {
        Request::new(name, "PUT", admin, &format!("{root}/stock/bulk_update")).body(&body.to_string())
    };
    let mut other = make::event(3);
    other["payload"] = json!({"other": 1});
    let mut bulk = make::bulk();
    bulk["events"][1]["payload"] = json!({"other": 1});
    let review = format!("{root}/price-anomalies/{}/review", text(made, "approved"));
    vec![
        post("again-event", "/events", &make::event(3).to_string()),
        post("again-event-other", "/events", &other.to_string()),
        post("again-event-of-journal", "/events", &make::event(900).to_string()),
        post("again-bulk", "/events/bulk", &bulk.to_string()),
        post("again-price", &price, &make::price(0).to_string()),
        post("again-price-anomaly", &price, &make::price(6).to_string()),
        post("again-price-other", &price, &json!({"event_id": "price-0", "price": "1.00", "currency": "USD", "observed_at": "2026-01-01T00:00:00Z"}).to_string()),
        post("again-review", &review, r#"{"decision":"approve"}"#),
        post("again-review-other", &review, r#"{"decision":"reject"}"#),
        stock("again-stock-set", &make::stock_set()),
        stock("again-stock-add", &make::stock_add()),
        stock("again-stock-reject", &make::stock_reject()),
        Request::new("again-status", "PATCH", admin, &format!("{root}/orders/acme-o-5"))
            .body(&make::status().to_string()),
        Request::new("status-superseded", "PATCH", admin, &format!("{root}/orders/acme-o-5"))
            .body(r#"{"status":"paid","occurred_at":"2020-01-01T00:00:00Z"}"#),
    ]
}

/// Returns the requests that send the rest of an upload and read the result.
pub(super) fn continued(made: &Value) -> Vec<Request> {
    let (admin, path) = (text(made, "admin"), text(made, "upload_begun"));
    let (whole, half) = make::upload_begun();
    vec![
        Request::new("continued-patch", "PATCH", admin, path)
            .line("Tus-Resumable: 1.0.0")
            .line("Content-Type: application/offset+octet-stream")
            .line(&format!("Upload-Offset: {half}"))
            .body(&whole[half..]),
        Request::new("continued-summary", "GET", admin, path)
            .without("expires_at")
            .without("processing_time"),
        Request::new("continued-order", "GET", admin, &format!("/api/v1/tenants/{TENANT}/orders/late-o-29"))
            .without("received_at"),
    ]
}

/// Returns ingests with keys that were used before.
pub(super) fn ingests(made: &Value) -> Vec<Request> {
    let admin = text(made, "admin");
    let post = |name: &str, key: &str, body: &str| {
        Request::new(name, "POST", admin, "/api/v1/ingest/orders/")
            .line("Content-Type: application/x-ndjson")
            .line(&format!("Idempotency-Key: {key}"))
            .body(body)
    };
    vec![
        post("again-ingest", "first", &make::body("acme", 150)),
        post("again-ingest-conflicts", "conflicts", &make::conflicts()),
        post("again-ingest-other", "first", &make::body("acme", 3)),
        post("again-ingest-gamma", "gamma", &make::body("gamma", 130)),
        // With a new key, every order is known.
        post("ingest-known", "new", &make::body("acme", 20)).without("processing_time"),
    ]
}
