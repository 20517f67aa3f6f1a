//! All problems of clients: status, stable name, and remedy.

/// The types of problems. Append-only: a slug never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    BadRequest,
    EmptyBody,
    NotJson,
    NotUtf8,
    BadEncoding,
    BadParameter,
    Unauthorized,
    Forbidden,
    ForeignOrigin,
    NotFound,
    NotAReceipt,
    MethodNotAllowed,
    RequestTimeout,
    PayloadTooLarge,
    TooManyEvents,
    UriTooLong,
    UnsupportedEncoding,
    ExpectationFailed,
    MisdirectedRequest,
    InvalidEvent,
    InvalidEvents,
    TooDeep,
    RateLimited,
    QueueFull,
    HeadTooLarge,
    Internal,
    UnsupportedTransferCoding,
    Overloaded,
    Draining,
    JournalUnsynced,
    OutcomeUnknown,
    ShardUnavailable,
    UnsupportedVersion,
    JournalFull,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    NoOrders,
    IngestRunning,
    UnsupportedMediaType,
    DamagedUpload,
    NoSuchOrder,
    InvalidStatus,
    QueryTooLarge,
    BadUploadHeader,
    NoSuchUpload,
    UploadGone,
    TusVersion,
    WrongUploadOffset,
    UploadLocked,
    ChecksumMismatch,
    NoRoomForUpload,
    NoSuchStock,
    TooManyUpdates,
    InvalidStockUpdate,
    BadSignature,
    NoSuchAnomaly,
    PriceEventConflict,
    AlreadyReviewed,
    InvalidReview,
    InvalidExport,
    NoSuchExport,
    ExportGone,
    ExportFailed,
    PreconditionFailed,
    RangeNotSatisfiable,
    NoRoomForExport,
    NoSuchErasure,
    ErasureBlocked,
}

/// The entry of one problem.
struct Entry {
    status: u16,
    slug: &'static str,
    title: &'static str,
    explanation: &'static str,
}

impl Problem {
    /// The whole catalogue, by status.
    pub const ALL: &[Problem] = &[
        Problem::BadRequest,
        Problem::EmptyBody,
        Problem::NotJson,
        Problem::NotUtf8,
        Problem::BadEncoding,
        Problem::BadParameter,
        Problem::IdempotencyKeyMissing,
        Problem::DamagedUpload,
        Problem::BadUploadHeader,
        Problem::Unauthorized,
        Problem::BadSignature,
        Problem::Forbidden,
        Problem::ForeignOrigin,
        Problem::NotFound,
        Problem::NotAReceipt,
        Problem::NoSuchOrder,
        Problem::NoSuchUpload,
        Problem::NoSuchStock,
        Problem::NoSuchAnomaly,
        Problem::NoSuchExport,
        Problem::NoSuchErasure,
        Problem::MethodNotAllowed,
        Problem::RequestTimeout,
        Problem::IngestRunning,
        Problem::WrongUploadOffset,
        Problem::PriceEventConflict,
        Problem::AlreadyReviewed,
        Problem::ExportFailed,
        Problem::ErasureBlocked,
        Problem::UploadGone,
        Problem::ExportGone,
        Problem::TusVersion,
        Problem::PreconditionFailed,
        Problem::PayloadTooLarge,
        Problem::TooManyEvents,
        Problem::TooManyUpdates,
        Problem::UriTooLong,
        Problem::UnsupportedEncoding,
        Problem::UnsupportedMediaType,
        Problem::RangeNotSatisfiable,
        Problem::ExpectationFailed,
        Problem::MisdirectedRequest,
        Problem::InvalidEvent,
        Problem::InvalidEvents,
        Problem::TooDeep,
        Problem::IdempotencyKeyReused,
        Problem::NoOrders,
        Problem::InvalidStatus,
        Problem::InvalidReview,
        Problem::InvalidExport,
        Problem::QueryTooLarge,
        Problem::InvalidStockUpdate,
        Problem::UploadLocked,
        Problem::RateLimited,
        Problem::QueueFull,
        Problem::HeadTooLarge,
        Problem::ChecksumMismatch,
        Problem::Internal,
        Problem::UnsupportedTransferCoding,
        Problem::Overloaded,
        Problem::Draining,
        Problem::JournalUnsynced,
        Problem::OutcomeUnknown,
        Problem::ShardUnavailable,
        Problem::UnsupportedVersion,
        Problem::JournalFull,
        Problem::NoRoomForUpload,
        Problem::NoRoomForExport,
    ];

    /// Its HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.entry().status
    }

    /// The last segment of its `type`. It never changes.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        self.entry().slug
    }

    /// A few words for people, always the same.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.entry().title
    }

    /// Its meaning, whose fault it is, and the remedy: one paragraph of plain text.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        self.entry().explanation
    }

    /// Whether the same request may succeed later: exactly the statuses 408, 429, 502, 503, 504, 507.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(self.status(), 408 | 429 | 502 | 503 | 504 | 507)
    }

    const fn entry(self) -> Entry {
        const fn entry(
            status: u16,
            slug: &'static str,
            title: &'static str,
            explanation: &'static str,
        ) -> Entry {
            Entry { status, slug, title, explanation }
        }
        match self {
            Problem::BadRequest => entry(
                400,
                "bad-request",
                "Invalid HTTP request",
                "The head or the framing of the request violates HTTP/1.1: a malformed line or header, a missing Host, \
                 Content-Length together with Transfer-Encoding, a repeated or malformed length, or a malformed chunk. \
                 The server closes the connection, because the bytes after the fault cannot be parsed reliably. Nothing \
                 was stored. Fix the client or the proxy in front of it.",
            ),
            Problem::EmptyBody => entry(
                400,
                "empty-body",
                "Empty body",
                "The request needs a body and has none. Nothing was stored. Send one JSON object. A client that \
                 intended to send one may have lost it on a redirect, or have set Content-Length: 0.",
            ),
            Problem::NotJson => entry(
                400,
                "not-json",
                "Invalid JSON",
                "The body is not a single JSON value as defined by RFC 8259. The detail gives the byte at which parsing \
                 stopped. Common causes are a truncated body, a byte order mark, single quotes, a comma before a \
                 closing bracket, NaN, or two values in one body. Nothing was stored. Fix the sender; the same request \
                 cannot succeed.",
            ),
            Problem::NotUtf8 => entry(
                400,
                "not-utf8",
                "Invalid UTF-8",
                "JSON must be UTF-8, and the body has bytes that are not. Common causes are a Latin-1 or UTF-16 \
                 encoder, or compressed bytes without a Content-Encoding header. Nothing was stored.",
            ),
            Problem::BadEncoding => entry(
                400,
                "bad-encoding",
                "The body cannot be decompressed",
                "The body does not match its Content-Encoding: the compressed stream is damaged, ends early or is \
                 followed by other bytes. Nothing was stored. Check that the header matches the encoding and that the \
                 client compresses the body once.",
            ),
            Problem::BadParameter => entry(
                400,
                "bad-parameter",
                "Invalid query parameter",
                "A query parameter of this endpoint has an invalid value. The detail names the parameter and its valid \
                 values. Nothing was stored, because the requested promise could not be determined.",
            ),
            Problem::IdempotencyKeyMissing => entry(
                400,
                "idempotency-key-missing",
                "Missing or malformed Idempotency-Key",
                "An ingest needs one Idempotency-Key header of 1 to 255 visible ASCII characters, so that it can be \
                 retried safely. Nothing was stored. Generate a key for each upload (a UUID, or the name and date of \
                 the file) and send the same key with every retry.",
            ),
            Problem::DamagedUpload => entry(
                400,
                "damaged-upload",
                "The body is damaged or incomplete",
                "The compressed bytes are damaged or truncated, or a form is malformed. The detail gives the position. \
                 The orders on the lines before it are stored and counted in rows_inserted and the other counters. Send \
                 the whole upload again, corrected, with the same Idempotency-Key: the server recognises the orders \
                 that are already stored.",
            ),
            Problem::NoSuchOrder => entry(
                404,
                "no-such-order",
                "Unknown order",
                "This tenant has no order with the id in the path. An order of an ingest that is still running may \
                 appear shortly.",
            ),
            Problem::IngestRunning => entry(
                409,
                "ingest-running",
                "A request with this Idempotency-Key is still running",
                "Another request with the same Idempotency-Key is still running, on this or another connection. The \
                 body of this request was not read. Wait as long as Retry-After says and send it again. The server then \
                 returns the result of the other request.",
            ),
            Problem::UnsupportedMediaType => entry(
                415,
                "unsupported-media-type",
                "Unsupported body format",
                "Orders are sent as JSON lines, plain or compressed with gzip, zstd or zip, or as the files of a \
                 multipart form. The detail names the format that was found. Nothing was stored, or only the lines \
                 before the position that the detail gives.",
            ),
            Problem::IdempotencyKeyReused => entry(
                422,
                "idempotency-key-reused",
                "The Idempotency-Key was used with other content",
                "An ingest with this key is finished, and its lines were different. Nothing was stored. Use a new key \
                 for new content. If this request was meant as a retry, the file has changed since.",
            ),
            Problem::NoOrders => entry(
                422,
                "no-orders",
                "No order was stored",
                "No line of the body is an order that is stored now or was stored before. The detail describes the body \
                 and what to send instead, errors lists the errors of the lines, and skipped lists the parts and \
                 entries that were not read. The Idempotency-Key remains unused: send the corrected file with the same \
                 key.",
            ),
            Problem::InvalidStatus => entry(
                422,
                "invalid-status",
                "Invalid status change",
                "The body must be one JSON object. Its status is one of pending, paid, shipped, delivered, cancelled \
                 and refunded. Its occurred_at is optional, RFC 3339, and at most 24 hours ahead of the server's clock. \
                 The request is also refused if it would count the order as a sale again and the sales of that day in \
                 that currency would exceed 64 bits; errors then has the code amount_out_of_range. Nothing was changed.",
            ),
            Problem::QueryTooLarge => entry(
                422,
                "query-too-large",
                "The exact answer exceeds the memory limit of a query",
                "The exact number of unique customers, or the exact percentiles, of this many groups do not fit into \
                 the memory limit of one query. Request a shorter period, or use precision=approx; its response states \
                 the error.",
            ),
            Problem::Unauthorized => entry(
                401,
                "unauthorized",
                "A valid key is required",
                "This operation requires a key. The request has none, or its key is unknown, has expired or was \
                 revoked. Nothing was stored. Send the key as Authorization: Bearer or as X-API-Key; a key in the query \
                 string is ignored. The operator creates keys with firehose key create and lists valid keys with \
                 firehose key list.",
            ),
            Problem::Forbidden => entry(
                403,
                "forbidden",
                "The key does not permit this operation",
                "The key is valid, but it lacks the required scope (write to send events; manage to send orders and to \
                 change stock, prices and order status; read to query), or it is bound to a tenant other than that of \
                 the request. The detail says which. Nothing was stored. Use another key: the scopes and the tenant of \
                 a key cannot change.",
            ),
            Problem::ForeignOrigin => entry(
                403,
                "foreign-origin",
                "Pages of other origins may only post events",
                "The request comes from a web page of another origin: its Origin header has another host or port than \
                 the Host header. Any page may post events. Everything else is limited to pages of this server, so that \
                 a web page cannot read or change data that its reader's machine can reach. Nothing was stored or \
                 changed. The operator lists further origins in cors_origins. If a proxy in front of the server uses \
                 another name, public_url sets the server's own origin.",
            ),
            Problem::MisdirectedRequest => entry(
                421,
                "misdirected-request",
                "The server does not answer to this host name",
                "The server has no keys, so everyone who can reach it has full access. The Host header contains a name \
                 that anyone could have pointed at this server, for example to make a web page appear as one of this \
                 server's own. Nothing was stored or changed. Use the server's address or localhost, or have the \
                 operator add the host to allowed_hosts or public_url, or create keys with firehose key create. Posted \
                 events, probes and the Prometheus page are answered under every name.",
            ),
            Problem::NotFound => entry(
                404,
                "not-found",
                "Not found",
                "No resource has this path. /openapi.json lists the paths, and /docs shows them.",
            ),
            Problem::NotAReceipt => entry(
                404,
                "not-a-receipt",
                "Unknown receipt",
                "The path does not end in a receipt that this server issued. A receipt is the complete value of the \
                 Firehose-Receipt header of a 202. It is valid only on the server that issued it.",
            ),
            Problem::MethodNotAllowed => entry(
                405,
                "method-not-allowed",
                "Method not allowed",
                "The path exists, but not for this method. The Allow header lists its methods.",
            ),
            Problem::RequestTimeout => entry(
                408,
                "request-timeout",
                "Request timeout",
                "The head or the body did not arrive completely within the time limit, and the server closed the \
                 connection. Nothing was stored. Send the request again. If this happens often, the network is slow or \
                 the client opens requests that it does not finish.",
            ),
            Problem::PayloadTooLarge => entry(
                413,
                "payload-too-large",
                "The body is too large",
                "The body, after decompression, is larger than this endpoint accepts. The detail gives the limit. \
                 Nothing was stored. Send less in one request.",
            ),
            Problem::TooManyEvents => entry(
                413,
                "too-many-events",
                "Too many events in one request",
                "A request to /events/bulk may contain at most 5,000 events. Nothing was stored. Send the events in \
                 several requests. Retries are safe, because an event_id is stored once.",
            ),
            Problem::UriTooLong => entry(
                414,
                "uri-too-long",
                "The request target is too long",
                "The path and query together are longer than 8 KiB. Nothing was stored. Put data into the body.",
            ),
            Problem::UnsupportedEncoding => entry(
                415,
                "unsupported-encoding",
                "Unsupported Content-Encoding",
                "The body has an unsupported encoding, or more than one. Nothing was stored. Use gzip, deflate, zstd or \
                 identity, as listed in the Accept-Encoding header of the response.",
            ),
            Problem::ExpectationFailed => entry(
                417,
                "expectation-failed",
                "Unsupported Expect header",
                "The server supports only the expectation 100-continue. Nothing was stored. Omit the header.",
            ),
            Problem::InvalidEvent => entry(
                422,
                "invalid-event",
                "Invalid event",
                "The body is JSON, but one or more fields of the event are missing or invalid. errors lists each of \
                 them with a JSON Pointer and a stable code. Nothing was stored. At /event, an event has user_id (a \
                 64-bit integer), timestamp (an ISO 8601 date-time) and metadata (any JSON value). At /events, it has \
                 event_id, tenant_id, source and event_type (short strings), timestamp with an offset, and payload (a \
                 JSON object).",
            ),
            Problem::InvalidEvents => entry(
                422,
                "invalid-events",
                "No valid event in the request",
                "Every event of the request is invalid, or the request has none. errors lists the rows by index (and by \
                 line, if the body has lines) and their fields by JSON Pointer, with stable codes. Nothing was stored. \
                 If at least one row were valid, it would have been stored and the others reported.",
            ),
            Problem::TooDeep => entry(
                422,
                "too-deep",
                "The JSON is nested too deeply",
                "Arrays and objects are nested deeper than 128 levels. Nothing was stored. The server refuses such \
                 documents because later readers may fail on them. Flatten the metadata, or send it as a string.",
            ),
            Problem::RateLimited => entry(
                429,
                "rate-limited",
                "Quota exceeded",
                "The tenant of the key has sent more requests or bytes than its quota allows. Nothing was stored. \
                 RateLimit-Policy describes the quota (q units in w seconds) and RateLimit the rest of it. Wait as long \
                 as Retry-After says, then send the request again. Other tenants are not affected. The operator changes \
                 limits with firehose tenant set.",
            ),
            Problem::QueueFull => entry(
                429,
                "queue-full",
                "Events arrive faster than they can be stored",
                "The number of events waiting to be stored exceeds the high-water mark. This event was not stored. Wait \
                 as long as Retry-After says, then send it again. queue_size, queue_bytes and expected_delay_seconds \
                 describe the queue. If this persists, the database is locked, or the disk is too slow for the load.",
            ),
            Problem::HeadTooLarge => entry(
                431,
                "head-too-large",
                "The request head is too large",
                "The request line and headers are larger than 32 KiB, or there are more than 100 headers. Nothing was \
                 stored. Oversized cookies are the usual cause.",
            ),
            Problem::Internal => entry(
                500,
                "internal",
                "Internal server error",
                "An unexpected error occurred in the server. The server's log has it under the request's id. Whether \
                 anything was stored is not known.",
            ),
            Problem::UnsupportedTransferCoding => entry(
                501,
                "unsupported-transfer-coding",
                "Unsupported Transfer-Encoding",
                "The server supports only the transfer coding chunked. Nothing was stored. Compress with \
                 Content-Encoding instead.",
            ),
            Problem::Overloaded => entry(
                503,
                "overloaded",
                "The server is overloaded",
                "A limit of the server was reached, such as its number of connections or its memory for unfinished \
                 requests. Nothing was stored. Wait as long as Retry-After says, then send the request again.",
            ),
            Problem::Draining => entry(
                503,
                "draining",
                "The server is shutting down",
                "The server accepts no new requests and stores what it accepted before. This request was not stored. \
                 Send it to another server, or to this one after its restart.",
            ),
            Problem::JournalUnsynced => entry(
                503,
                "journal-unsynced",
                "The journal could not be synced to disk",
                "The request asked for a promise that survives a power cut (ack=disk), and the disk did not confirm the \
                 write. `detail` says whether something may be stored nevertheless. If so, a retry stores an event \
                 without an id twice, but not a record with an id. While a failed sync is known, the server refuses \
                 requests for this promise at once and stores nothing of them; other requests continue. Check the disk.",
            ),
            Problem::OutcomeUnknown => entry(
                503,
                "outcome-unknown",
                "Outcome unknown",
                "The core that stores these events did not respond in time. They may have been stored. Send them again: \
                 an event_id is stored once, however often it arrives.",
            ),
            Problem::ShardUnavailable => entry(
                503,
                "shard-unavailable",
                "Part of the data cannot be read",
                "A shard is damaged, locked or too slow, and without it the answer would be silently incomplete. The \
                 data of other shards is safe, and events are still accepted. Retry later. /ready names the shard and \
                 the reason.",
            ),
            Problem::UnsupportedVersion => entry(
                505,
                "unsupported-version",
                "Unsupported HTTP version",
                "The server supports HTTP/1.1 and HTTP/1.0. Nothing was stored. A proxy in front of it can support \
                 other versions.",
            ),
            Problem::JournalFull => entry(
                507,
                "journal-full",
                "The journal is full",
                "The journal has reached its size limit, or the disk is full. This event was not stored. Reads and \
                 health checks continue. The server recovers as soon as there is space; send the event again then.",
            ),
            Problem::BadUploadHeader => entry(
                400,
                "bad-upload-header",
                "Missing or malformed upload header",
                "Resumable uploads follow tus 1.0.0. POST requires Upload-Length or Upload-Defer-Length, PATCH requires \
                 Upload-Offset, and lengths and offsets are whole numbers. Upload-Metadata and Upload-Checksum have the \
                 forms that tus defines. Uploads cannot be concatenated. Nothing was stored. Fix the client, or use a \
                 standard tus client.",
            ),
            Problem::NoSuchUpload => entry(
                404,
                "no-such-upload",
                "Unknown upload",
                "The upload was never created, was terminated, or expired some time ago; or it belongs to a tenant \
                 other than the key's. Orders that it stored remain. Create a new upload. Orders that are already \
                 stored count as duplicates or, with the same Idempotency-Key, as inserted.",
            ),
            Problem::UploadGone => entry(
                410,
                "upload-gone",
                "The upload has expired",
                "The upload received no bytes for the time set by upload_expiry, so its bytes were deleted. Orders that \
                 it stored remain. Create a new upload. Orders that are already stored are not stored twice.",
            ),
            Problem::TusVersion => entry(
                412,
                "tus-version",
                "Missing or unsupported tus version",
                "Every request to an upload except OPTIONS and GET must have the header Tus-Resumable: 1.0.0, the only \
                 supported version. Nothing was stored.",
            ),
            Problem::WrongUploadOffset => entry(
                409,
                "wrong-upload-offset",
                "Wrong upload offset",
                "Upload-Offset does not equal the number of bytes received. The Upload-Offset of this response and of \
                 any HEAD response does. Nothing was stored. A client that lost a response asks with HEAD and resumes \
                 from there.",
            ),
            Problem::UploadLocked => entry(
                423,
                "upload-locked",
                "Another request uses the upload",
                "An upload accepts one request at a time, and another one is still sending or waiting for its response. \
                 A request that stops sending is replaced by a newer one within seconds. Nothing was stored. Try again \
                 after Retry-After.",
            ),
            Problem::ChecksumMismatch => entry(
                460,
                "checksum-mismatch",
                "Checksum mismatch",
                "The bytes were damaged in transit, or their Upload-Checksum belongs to other bytes. All of them were \
                 discarded, and the offset of the upload has not changed. Send the bytes again.",
            ),
            Problem::NoSuchStock => entry(
                404,
                "no-such-stock",
                "The product has no stock",
                "No stock update of this product of this tenant was applied or imported. The first update creates its \
                 stock, which starts at quantity 0 and version 0.",
            ),
            Problem::TooManyUpdates => entry(
                413,
                "too-many-updates",
                "Too many updates in one request",
                "PUT /stock/bulk_update accepts at most 10,000 updates in one request. Nothing was changed. Send \
                 several requests, and keep the updates of a product that must apply together in the same request.",
            ),
            Problem::InvalidStockUpdate => entry(
                422,
                "invalid-stock-update",
                "Invalid stock update",
                "The body is JSON, but not an object with a known mode and a list of updates, or every product in it \
                 has an invalid update. Each entry of errors has the index of the update, a JSON Pointer within it (or \
                 into the body, if there is no index), a code and a sentence. At most 1,000 entries are listed. Nothing \
                 was changed. Fix the sender; the same request cannot succeed.",
            ),
            Problem::NoRoomForUpload => entry(
                507,
                "no-room-for-upload",
                "No space for the upload",
                "The bytes of running uploads have reached uploads_bytes_max or the tenant's share of it, there are too \
                 many uploads, or the disk is full. Bytes that were reported as received remain. Wait as long as \
                 Retry-After says, then continue. If the upload exists, resume at the offset that HEAD returns. Space \
                 becomes free when uploads finish, are terminated or expire.",
            ),
            Problem::BadSignature => entry(
                401,
                "bad-signature",
                "Missing, expired or invalid signature",
                "The tenant has webhook secrets, so its price events must be signed by the scheme of Standard Webhooks: \
                 webhook-id, webhook-timestamp within five minutes of the server's clock, and webhook-signature with v1 \
                 and the base64 of the HMAC-SHA-256 over id, timestamp and body, joined by dots. The body is signed \
                 exactly as it is sent. Nothing was stored. Check the secret and the clock, and that no proxy changes \
                 the body.",
            ),
            Problem::NoSuchAnomaly => entry(
                404,
                "no-such-anomaly",
                "Unknown anomaly",
                "The tenant, or the product in the path, has no anomaly with this id. Nothing was decided. The list of \
                 price-anomalies has the ids.",
            ),
            Problem::PriceEventConflict => entry(
                409,
                "price-event-conflict",
                "Conflicting price event",
                "An event_id permanently identifies one observation of a product. The product already has an event with \
                 this id and another price, currency or time. The first event remains, and nothing was stored. Give \
                 each new observation its own id.",
            ),
            Problem::AlreadyReviewed => entry(
                409,
                "already-reviewed",
                "The anomaly was decided otherwise",
                "An anomaly is approved or rejected once. This one was decided the other way, and the first decision \
                 remains. Repeating the same decision is not a conflict.",
            ),
            Problem::InvalidReview => entry(
                422,
                "invalid-review",
                "Invalid review",
                "A review is a JSON object whose only member is decision, either \"approve\" or \"reject\". Nothing was \
                 decided.",
            ),
            Problem::InvalidExport => entry(
                422,
                "invalid-export",
                "Invalid export request",
                "The body must be a JSON object with a format (csv, ndjson or parquet) and, optionally, rows, filters, \
                 fields and compression. errors lists each invalid member. No export was created. Correct the request \
                 and send it again.",
            ),
            Problem::NoSuchExport => entry(
                404,
                "no-such-export",
                "Unknown export",
                "The export was never created, was deleted, or expired some time ago; or it belongs to a tenant other \
                 than that in the path. Create a new export.",
            ),
            Problem::ExportGone => entry(
                410,
                "export-gone",
                "The export is gone",
                "The file was deleted after the time set by export_expiry, or because it contained a person who was \
                 erased. The detail says which. Create a new export; it contains the orders as they are now.",
            ),
            Problem::ExportFailed => entry(
                409,
                "export-failed",
                "The export failed",
                "The export ended before its file was complete, and the part that existed was deleted. error gives \
                 the reason. Create a new export, with fewer orders or once there is more space.",
            ),
            Problem::PreconditionFailed => entry(
                412,
                "precondition-failed",
                "Precondition failed",
                "If-Match does not contain the current tag of the file: the file has changed. Start again with a \
                 request without If-Match.",
            ),
            Problem::RangeNotSatisfiable => entry(
                416,
                "range-not-satisfiable",
                "Range not satisfiable",
                "The range begins after the end of the file. Content-Range gives the current number of bytes. A client \
                 that has that many has the whole file if the export is done.",
            ),
            Problem::NoRoomForExport => entry(
                507,
                "no-room-for-export",
                "No space for the export",
                "The exports have reached exports_bytes_max, there are too many of them, or the disk is full. No export \
                 was created. Delete exports that are no longer needed, or wait until they expire.",
            ),
            Problem::NoSuchErasure => entry(
                404,
                "no-such-erasure",
                "Unknown erasure",
                "There is no erasure with this id, it belongs to another tenant, or it finished so long ago that its \
                 certificate was deleted. Erasing the same person again is safe and creates a new certificate.",
            ),
            Problem::ErasureBlocked => entry(
                409,
                "erasure-blocked",
                "The erasure cannot start",
                "The data folder contains rows that this server does not manage, such as the remains of a reshard or a \
                 copy of a database; or another request is starting an erasure of the same person. Nothing was erased, \
                 because the erasure would be incomplete. Remove what `detail` names, or try again.",
            ),
        }
    }
}
