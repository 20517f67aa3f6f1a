//! Requests that are refused because of who sends them, what they request, or how: 401 to 417.

use super::{Entry, Problem, entry};

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        Problem::NoSuchOrder,
        404,
        "no-such-order",
        "Unknown order",
        "This tenant has no order with the id in the path. An order of an ingest that is still running may \
         appear shortly.",
    ),
    entry(
        Problem::IngestRunning,
        409,
        "ingest-running",
        "A request with this Idempotency-Key is still running",
        "Another request with the same Idempotency-Key is still running, on this or another connection. The \
         body of this request was not read. Wait as long as Retry-After says and send it again. The server then \
         returns the result of the other request.",
    ),
    entry(
        Problem::UnsupportedMediaType,
        415,
        "unsupported-media-type",
        "Unsupported body format",
        "Orders are sent as JSON lines, plain or compressed with gzip, zstd or zip, or as the files of a \
         multipart form. The detail names the format that was found. Nothing was stored, or only the lines \
         before the position that the detail gives.",
    ),
    entry(
        Problem::Unauthorized,
        401,
        "unauthorized",
        "A valid key is required",
        "This operation requires a key. The request has none, or its key is unknown, has expired or was \
         revoked. Nothing was stored. Send the key as Authorization: Bearer or as X-API-Key; a key in the query \
         string is ignored. The operator creates keys with firehose key create and lists valid keys with \
         firehose key list.",
    ),
    entry(
        Problem::Forbidden,
        403,
        "forbidden",
        "The key does not permit this operation",
        "The key is valid, but it lacks the required scope (write to send events; manage to send orders and to \
         change stock, prices and order status; read to query), or it is bound to a tenant other than that of \
         the request. The detail says which. Nothing was stored. Use another key: the scopes and the tenant of \
         a key cannot change.",
    ),
    entry(
        Problem::ForeignOrigin,
        403,
        "foreign-origin",
        "Pages of other origins may only post events",
        "The request comes from a web page of another origin: its Origin header has another host or port than \
         the Host header. Any page may post events. Everything else is limited to pages of this server, so that \
         a web page cannot read or change data that its reader's machine can reach. Nothing was stored or \
         changed. The operator lists further origins in cors_origins. If a proxy in front of the server uses \
         another name, public_url sets the server's own origin.",
    ),
    entry(
        Problem::NotFound,
        404,
        "not-found",
        "Not found",
        "No resource has this path. /openapi.json lists the paths, and /docs shows them.",
    ),
    entry(
        Problem::NotAReceipt,
        404,
        "not-a-receipt",
        "Unknown receipt",
        "The path does not end in a receipt that this server issued. A receipt is the complete value of the \
         Firehose-Receipt header of a 202. It is valid only on the server that issued it.",
    ),
    entry(
        Problem::MethodNotAllowed,
        405,
        "method-not-allowed",
        "Method not allowed",
        "The path exists, but not for this method. The Allow header lists its methods.",
    ),
    entry(
        Problem::RequestTimeout,
        408,
        "request-timeout",
        "Request timeout",
        "The head or the body did not arrive completely within the time limit, and the server closed the \
         connection. Nothing was stored. Send the request again. If this happens often, the network is slow or \
         the client opens requests that it does not finish.",
    ),
    entry(
        Problem::PayloadTooLarge,
        413,
        "payload-too-large",
        "The body is too large",
        "The body, after decompression, is larger than this endpoint accepts. The detail gives the limit. \
         Nothing was stored. Send less in one request.",
    ),
    entry(
        Problem::TooManyEvents,
        413,
        "too-many-events",
        "Too many events in one request",
        "A request to /events/bulk may contain at most 5,000 events. Nothing was stored. Send the events in \
         several requests. Retries are safe, because an event_id is stored once.",
    ),
    entry(
        Problem::UriTooLong,
        414,
        "uri-too-long",
        "The request target is too long",
        "The path and query together are longer than 8 KiB. Nothing was stored. Put data into the body.",
    ),
    entry(
        Problem::UnsupportedEncoding,
        415,
        "unsupported-encoding",
        "Unsupported Content-Encoding",
        "The body has an unsupported encoding, or more than one. Nothing was stored. Use gzip, deflate, zstd or \
         identity, as listed in the Accept-Encoding header of the response.",
    ),
    entry(
        Problem::ExpectationFailed,
        417,
        "expectation-failed",
        "Unsupported Expect header",
        "The server supports only the expectation 100-continue. Nothing was stored. Omit the header.",
    ),
    entry(
        Problem::NoSuchUpload,
        404,
        "no-such-upload",
        "Unknown upload",
        "The upload was never created, was terminated, or expired some time ago; or it belongs to a tenant \
         other than the key's. Orders that it stored remain. Create a new upload. Orders that are already \
         stored count as duplicates or, with the same Idempotency-Key, as inserted.",
    ),
    entry(
        Problem::UploadGone,
        410,
        "upload-gone",
        "The upload has expired",
        "The upload received no bytes for the time set by upload_expiry, so its bytes were deleted. Orders that \
         it stored remain. Create a new upload. Orders that are already stored are not stored twice.",
    ),
    entry(
        Problem::TusVersion,
        412,
        "tus-version",
        "Missing or unsupported tus version",
        "Every request to an upload except OPTIONS and GET must have the header Tus-Resumable: 1.0.0, the only \
         supported version. Nothing was stored.",
    ),
    entry(
        Problem::WrongUploadOffset,
        409,
        "wrong-upload-offset",
        "Wrong upload offset",
        "Upload-Offset does not equal the number of bytes received. The Upload-Offset of this response and of \
         any HEAD response does. Nothing was stored. A client that lost a response asks with HEAD and resumes \
         from there.",
    ),
    entry(
        Problem::NoSuchStock,
        404,
        "no-such-stock",
        "The product has no stock",
        "No stock update of this product of this tenant was applied or imported. The first update creates its \
         stock, which starts at quantity 0 and version 0.",
    ),
    entry(
        Problem::NoSuchProduct,
        404,
        "no-such-product",
        "Unknown product",
        "No order, price event or stock update of this tenant names the product. A product that was just sent may \
         appear shortly. GET /products lists the ids that are known.",
    ),
    entry(
        Problem::TooManyUpdates,
        413,
        "too-many-updates",
        "Too many updates in one request",
        "PUT /stock/bulk_update accepts at most 10,000 updates in one request. Nothing was changed. Send \
         several requests, and keep the updates of a product that must apply together in the same request.",
    ),
    entry(
        Problem::BadSignature,
        401,
        "bad-signature",
        "Missing, expired or invalid signature",
        "The tenant has webhook secrets, so its price events must be signed by the scheme of Standard Webhooks: \
         webhook-id, webhook-timestamp within five minutes of the server's clock, and webhook-signature with v1 \
         and the base64 of the HMAC-SHA-256 over id, timestamp and body, joined by dots. The body is signed \
         exactly as it is sent. Nothing was stored. Check the secret and the clock, and that no proxy changes \
         the body.",
    ),
    entry(
        Problem::NoSuchAnomaly,
        404,
        "no-such-anomaly",
        "Unknown anomaly",
        "The tenant, or the product in the path, has no anomaly with this id. Nothing was decided. The list of \
         price-anomalies has the ids.",
    ),
    entry(
        Problem::PriceEventConflict,
        409,
        "price-event-conflict",
        "Conflicting price event",
        "An event_id permanently identifies one observation of a product. The product already has an event with \
         this id and another price, currency or time. The first event remains, and nothing was stored. Give \
         each new observation its own id.",
    ),
    entry(
        Problem::AlreadyReviewed,
        409,
        "already-reviewed",
        "The anomaly was decided otherwise",
        "An anomaly is approved or rejected once. This one was decided the other way, and the first decision \
         remains. Repeating the same decision is not a conflict.",
    ),
    entry(
        Problem::NoSuchExport,
        404,
        "no-such-export",
        "Unknown export",
        "The export was never created, was deleted, or expired some time ago; or it belongs to a tenant other \
         than that in the path. Create a new export.",
    ),
    entry(
        Problem::ExportGone,
        410,
        "export-gone",
        "The export is gone",
        "The file was deleted after the time set by export_expiry, or because it contained a person who was \
         erased. The detail says which. Create a new export; it contains the orders as they are now.",
    ),
    entry(
        Problem::SalesDropped,
        410,
        "sales-dropped",
        "Retention has deleted orders that the figures require",
        "The range contains days (UTC) with orders that retention_orders has deleted, and the requested figures \
         cannot be computed without them. The detail names the first and the last of these days and their number: \
         request ranges without them, or omit the beginning to get the figures of all other days. A range without a \
         beginning is refused only if no other day has sales. Unless retention_orders_sums is drop, orders, units \
         and revenue of whole days remain (fields=orders,units,revenue), as do the estimates of precision=approx.",
    ),
    entry(
        Problem::ExportFailed,
        409,
        "export-failed",
        "The export failed",
        "The export ended before its file was complete, and the part that existed was deleted. error gives \
         the reason. Create a new export, with fewer orders or once there is more space.",
    ),
    entry(
        Problem::PreconditionFailed,
        412,
        "precondition-failed",
        "Precondition failed",
        "If-Match does not contain the current tag of the file: the file has changed. Start again with a \
         request without If-Match.",
    ),
    entry(
        Problem::RangeNotSatisfiable,
        416,
        "range-not-satisfiable",
        "Range not satisfiable",
        "The range begins after the end of the file. Content-Range gives the current number of bytes. A client \
         that has that many has the whole file if the export is done.",
    ),
    entry(
        Problem::NoSuchErasure,
        404,
        "no-such-erasure",
        "Unknown erasure",
        "There is no erasure with this id, it belongs to another tenant, or it finished so long ago that its \
         certificate was deleted. Erasing the same person again is safe and creates a new certificate.",
    ),
    entry(
        Problem::ErasureBlocked,
        409,
        "erasure-blocked",
        "The erasure cannot start",
        "The data folder contains rows that this server does not manage, such as the remains of a reshard or a \
         copy of a database; or another request is starting an erasure of the same person. Nothing was erased, \
         because the erasure would be incomplete. Remove what `detail` names, or try again.",
    ),
];
