//! Exports in the OpenAPI document.

use serde_json::{Value, json};
use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{Required, Response, ResponseBuilder};

use super::shapes::{
    ClickExportFilters, ClickExportRowsName, CompressionName, ExportFilters, ExportFormatName, ExportList,
    ExportRowsName, ExportStatus, NewClickExport, NewExport,
};
use crate::api::openapi::links::{Next, SAME_TENANT, with_links};
use crate::api::openapi::parameters::{
    ack, id_in_path, idempotency_key, identifier, in_header, in_path, string,
};
use crate::api::openapi::{READING, answer, header, json_like, json_of, request_id, with_problems};
use crate::api::problem::Problem;
use utoipa::openapi::schema::ComponentsBuilder;

/// Adds the export schemas.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<ExportFormatName>()
        .schema_from::<ExportRowsName>()
        .schema_from::<CompressionName>()
        .schema_from::<NewExport>()
        .schema_from::<NewClickExport>()
        .schema_from::<ClickExportFilters>()
        .schema_from::<ClickExportRowsName>()
        .schema_from::<ExportFilters>()
        .schema_from::<ExportStatus>()
        .schema_from::<ExportList>()
}

/// Whose rows an operation exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Tenant,
    /// Clicks belong to no tenant.
    NoTenant,
}

impl Owner {
    /// Returns the operation's id, for a tenant and for clicks.
    fn id(self, of_tenant: &'static str, of_clicks: &'static str) -> Option<&'static str> {
        Some(if self == Owner::Tenant { of_tenant } else { of_clicks })
    }

    fn begin(self, of_tenant: &'static str, of_clicks: &'static str) -> OperationBuilder {
        let operation = OperationBuilder::new().operation_id(self.id(of_tenant, of_clicks)).tag("exports");
        match self {
            Owner::Tenant => operation.parameter(tenant()),
            Owner::NoTenant => operation,
        }
    }
}

fn tenant() -> Parameter {
    in_path("tenant", "The tenant that owns the rows.", identifier())
}

fn export() -> Parameter {
    id_in_path("export", "The last segment of the `Location` that the creation returned.")
}

fn with(operation: OperationBuilder, problems: &[Problem]) -> OperationBuilder {
    with_problems(operation, &[READING, problems].concat())
}

const THIS_EXPORT: &[(&str, &str)] = &[SAME_TENANT, ("export", "$response.body#/id")];
const THIS_CLICK_EXPORT: &[(&str, &str)] = &[("export", "$response.body#/id")];
const CLICK_LINKS: [Next; 3] = [
    Next { operation: "getClickExport", parameters: THIS_CLICK_EXPORT },
    Next { operation: "downloadClickExport", parameters: THIS_CLICK_EXPORT },
    Next { operation: "deleteClickExport", parameters: THIS_CLICK_EXPORT },
];
const LINKS: [Next; 3] = [
    Next { operation: "getExport", parameters: THIS_EXPORT },
    Next { operation: "downloadExport", parameters: THIS_EXPORT },
    Next { operation: "deleteExport", parameters: THIS_EXPORT },
];

const OF_TENANT: &str = "The export runs in the background and can be downloaded from its first \
     byte on. It contains the rows that were committed when it was created; an order has the status that it \
     had when the job selected it, within the first seconds. The bytes are the same however often the server \
     is stopped in between. Rows are ordered by shard, then by arrival; in a shard of which few rows are \
     selected, by time.\n\nIn CSV and NDJSON, amounts have the digits of their currency; in Parquet they are \
     DECIMAL(38,4). A CSV text that begins with `=`, `+`, `-`, `@`, a tab or a carriage return is prefixed \
     with an apostrophe, so that no spreadsheet treats it as a formula. The payload of an event is JSON: \
     embedded in a line of NDJSON, with a space for each line break between its tokens, and byte for byte as \
     received in a text column of CSV and Parquet.";
const OF_CLICKS: &str = "The export runs in the background and can be downloaded from its first \
     byte on. It contains the clicks that were committed when it was created, of all users or of one. The \
     bytes are the same however often the server is stopped in between. Clicks are ordered by shard, then by \
     arrival; in a shard of which few clicks are selected, by time.\n\nThe metadata of a click is JSON: \
     embedded in a line of NDJSON, with a space for each line break between its tokens, and byte for byte as \
     received in a text column of CSV and Parquet.";

#[must_use]
pub fn create(owner: Owner) -> OperationBuilder {
    let march = |mut filters: Value| {
        filters["start_date"] = json!("2026-03-01");
        filters["end_date"] = json!("2026-03-31");
        filters
    };
    let (body, example, links) = match owner {
        Owner::Tenant => (
            "NewExport",
            json!({"format": "csv", "rows": "items", "filters": march(json!({"status": "paid"}))}),
            &LINKS,
        ),
        Owner::NoTenant => (
            "NewClickExport",
            json!({"format": "parquet", "filters": march(json!({"user_id": 12_345}))}),
            &CLICK_LINKS,
        ),
    };
    let created = ResponseBuilder::new()
        .description("The export is created. It runs to its end even if the process is killed.")
        .content("application/json", json_of("ExportStatus"))
        .header("Location", header("URL of the export.", &[]))
        .header(
            "Idempotent-Replayed",
            header(
                "The same request with the same key created this export \
                                               before.",
                &["true"],
            ),
        )
        .header("X-Request-Id", request_id());
    let operation = owner
        .begin("createExport", "createClickExport")
        .summary(Some(match owner {
            Owner::Tenant => "Create an export of orders, their items, or service events",
            Owner::NoTenant => "Create an export of clicks",
        }))
        .description(Some(match owner {
            Owner::Tenant => OF_TENANT,
            Owner::NoTenant => OF_CLICKS,
        }))
        .parameter(ack())
        .parameter(idempotency_key(
            "1 to 255 visible ASCII characters. The same request with the same key returns the same export.",
            Required::False,
        ))
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", json_like(body, example))
                .build(),
        ))
        .response("201", with_links(created, links));
    let problems = [
        Problem::IngestRunning,
        Problem::IdempotencyKeyReused,
        Problem::InvalidExport,
        Problem::NoRoomForExport,
    ];
    with(operation, &problems)
}

#[must_use]
pub fn list(owner: Owner) -> OperationBuilder {
    let operation = owner
        .begin("listExports", "listClickExports")
        .summary(Some(match owner {
            Owner::Tenant => "A tenant's exports, newest first",
            Owner::NoTenant => "The exports of clicks, newest first",
        }))
        .response("200", answer("The exports.", json_of("ExportList"), "application/json"));
    with(operation, &[])
}

#[must_use]
pub fn get(owner: Owner) -> OperationBuilder {
    let operation = owner
        .begin("getExport", "getClickExport")
        .summary(Some(match owner {
            Owner::Tenant => "State and progress of an export",
            Owner::NoTenant => "State and progress of an export of clicks",
        }))
        .parameter(export())
        .response("200", answer("The export's state.", json_of("ExportStatus"), "application/json"));
    with(operation, &[Problem::NoSuchExport])
}

#[must_use]
pub fn delete(owner: Owner) -> OperationBuilder {
    let operation = owner
        .begin("deleteExport", "deleteClickExport")
        .summary(Some(match owner {
            Owner::Tenant => "Delete an export, finished or not",
            Owner::NoTenant => "Delete an export of clicks, finished or not",
        }))
        .description(Some(
            "Downloads in progress are aborted, so that no client mistakes them for complete \
                           ones.",
        ))
        .parameter(export())
        .parameter(ack())
        .response(
            "204",
            ResponseBuilder::new()
                .description("The export is deleted.")
                .header("X-Request-Id", request_id())
                .build(),
        );
    with(operation, &[Problem::NoSuchExport])
}

/// Describes the response with the file or a part of it.
fn bytes(description: &str, more: &[(&str, &str)]) -> Response {
    let mut response = ResponseBuilder::new()
        .description(description)
        .header(
            "ETag",
            header(
                "Identifies the bytes of the file. Bytes that were sent once never change under the same \
                    tag.",
                &[],
            ),
        )
        .header("Accept-Ranges", header("`bytes`.", &["bytes"]))
        .header("Content-Disposition", header("A suggested name for the file.", &[]))
        .header("X-Request-Id", request_id());
    for (name, meaning) in more {
        response = response.header(*name, header(meaning, &[]));
    }
    for media in [
        "text/csv",
        "application/x-ndjson",
        "application/vnd.apache.parquet",
        "application/gzip",
        "application/zstd",
    ] {
        response = response.content(media, crate::api::openapi::bytes());
    }
    response.build()
}

#[must_use]
pub fn download(owner: Owner) -> OperationBuilder {
    const DIGEST: (&str, &str) = (
        "Repr-Digest",
        "SHA-256 of the whole file (RFC 9530), once the export is \
                                                  finished.",
    );
    let operation = owner
        .begin("downloadExport", "downloadClickExport")
        .summary(Some(match owner {
            Owner::Tenant => "Download the file of an export, even while it is written",
            Owner::NoTenant => "Download the file of an export of clicks, even while it is written",
        }))
        .description(Some(
            "While the export runs, the response has no length and follows the file until it is finished. \
             The connection breaks before the end of the response if the export fails, if it is deleted, or \
             if an erasure removes rows that the file contains; in the last case the export restarts \
             under another `ETag`. A finished file that contained an erased person returns 410. An \
             interrupted download resumes with `Range: bytes=N-` and `If-Range`, even while the file grows. \
             `Content-Range` then has no total, and its last byte is a very large number (RFC 8673). A \
             clean end of the response is the end of the file. A request for several ranges gets the whole \
             file.",
        ))
        .parameter(export())
        .parameter(in_header("Range", "One range of bytes.", string(), Required::False))
        .parameter(in_header(
            "If-Range",
            "The `ETag` of the file. The range applies only if the file still \
                                          has this tag.",
            string(),
            Required::False,
        ))
        .parameter(in_header(
            "If-None-Match",
            "Tags that the client has. The response is 304 if the \
                                               finished file has one of them.",
            string(),
            Required::False,
        ))
        .response("200", bytes("The file.", &[DIGEST]))
        .response(
            "206",
            bytes("The requested range of the file.", &[DIGEST, ("Content-Range", "The range returned.")]),
        )
        .response(
            "304",
            ResponseBuilder::new()
                .description("The client has this file: `If-None-Match` contains its tag.")
                .header("X-Request-Id", request_id())
                .build(),
        );
    let problems = [
        Problem::NoSuchExport,
        Problem::ExportFailed,
        Problem::ExportGone,
        Problem::PreconditionFailed,
        Problem::RangeNotSatisfiable,
    ];
    with(operation, &problems)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::body::{ExportRows, ExportSpec};
    use super::super::record::{Export, ExportId, ExportRecord, Progress};
    use super::super::{columns, filters};
    use crate::api::members::Member;
    use crate::api::openapi::document_of;

    #[test]
    fn an_export_is_described_as_it_is_told() {
        let document = document_of(&[], &[super::schemas]);
        let schema = &document["components"]["schemas"];
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let example = br#"{"format":"parquet","rows":"items","compression":"zstd",
            "fields":["order_id","ordered_at","product_id","amount"],
            "filters":{"from":"2026-01-01T00:00:00Z","status":["paid","shipped"],"min_total":"10.00"}}"#;
        let asked: Value = serde_json::from_slice(example).unwrap();
        assert_eq!(keys(&schema["NewExport"]["properties"]), keys(&asked));
        let export = Export::new(ExportRecord {
            id: ExportId::random().unwrap(),
            tenant: "t".to_owned(),
            key: None,
            spec: ExportSpec::read(Member::of(example).unwrap(), ExportRows::OF_TENANT).unwrap(),
            created_us: 0,
            pins: Vec::new(),
            floors: Vec::new(),
            progress: Progress::begin(),
        });
        assert_eq!(keys(&schema["ExportStatus"]["properties"]), keys(&export.to_json()));
        let names = |rows: &[ExportRows]| -> BTreeSet<String> {
            rows.iter().flat_map(|rows| filters::names(*rows)).map(str::to_owned).collect()
        };
        assert_eq!(keys(&schema["ExportFilters"]["properties"]), names(ExportRows::OF_TENANT));
        assert_eq!(keys(&schema["ClickExportFilters"]["properties"]), names(ExportRows::OF_ALL));
        assert_eq!(keys(&schema["NewClickExport"]["properties"]), keys(&asked));
        for (body, rows) in [("NewExport", ExportRows::OF_TENANT), ("NewClickExport", ExportRows::OF_ALL)] {
            let known = &schema[body]["properties"]["fields"]["items"]["enum"];
            let all: Vec<_> = columns::Column::of(rows).map(columns::Column::name).collect();
            assert_eq!(*known, serde_json::json!(all), "{body}");
        }
    }
}
