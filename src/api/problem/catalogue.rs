//! Everything that can go wrong for a client: status, stable name, and what to do about it.

/// Every kind of problem a client can meet. Append-only: a slug once given out keeps its meaning.
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

/// What the catalogue says of one problem.
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

    /// The HTTP status it travels with.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.entry().status
    }

    /// The last segment of its `type`; never changes.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        self.entry().slug
    }

    /// A few words for people, the same every time.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.entry().title
    }

    /// What it means, whose fault it is and what to do: one paragraph of plain text.
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
                "Not a valid HTTP request",
                "The head or the framing of the request breaks HTTP/1.1: a malformed line or header, a missing \
                 Host, Content-Length together with Transfer-Encoding, a repeated or malformed length, a broken \
                 chunk. The connection is closed, because nothing after the fault can be trusted to be a \
                 request. Nothing was stored. Mend the client or the proxy in front of it.",
            ),
            Problem::EmptyBody => entry(
                400,
                "empty-body",
                "The body is empty",
                "An event was expected and the body has no bytes. Nothing was stored. Send one JSON object; a \
                 client that meant to send one may have lost it on a redirect, or set Content-Length: 0.",
            ),
            Problem::NotJson => entry(
                400,
                "not-json",
                "The body is not JSON",
                "The body is not one JSON value as RFC 8259 has it; the detail names the byte at which reading \
                 stopped. Common causes: a truncated body, a byte order mark, single quotes, a comma before a \
                 closing bracket, NaN, or two values in one body. Nothing was stored. Mend the sender; sending \
                 the same again cannot succeed.",
            ),
            Problem::NotUtf8 => entry(
                400,
                "not-utf8",
                "The body is not UTF-8",
                "JSON travels as UTF-8, and the body has bytes that are not. Usual causes are a Latin-1 or UTF-16 \
                 encoder, or compressed bytes without a Content-Encoding header. Nothing was stored.",
            ),
            Problem::BadEncoding => entry(
                400,
                "bad-encoding",
                "The body does not decompress",
                "The body is not what its Content-Encoding says: the compressed stream is damaged, ends early or \
                 is followed by other bytes. Nothing was stored. Check that the header matches what the client \
                 does, and that it compresses once.",
            ),
            Problem::BadParameter => entry(
                400,
                "bad-parameter",
                "A query parameter has no meaning",
                "A query parameter that this endpoint knows has a value it does not; the detail names the \
                 parameter and the values it may have. Nothing was stored, because the promise that was asked \
                 for could not be understood.",
            ),
            Problem::IdempotencyKeyMissing => entry(
                400,
                "idempotency-key-missing",
                "The Idempotency-Key header is missing or malformed",
                "An ingest names itself with one Idempotency-Key header of 1 to 255 visible ASCII characters, so \
                 that it can be repeated without harm. Nothing was stored. Make a key for each upload (a UUID, the \
                 name and date of the file) and send the same one with every attempt at it.",
            ),
            Problem::DamagedUpload => entry(
                400,
                "damaged-upload",
                "The upload cannot be read to its end",
                "The packed bytes are damaged or cut short, or a form breaks its own rules; the detail says where. \
                 Orders of lines before that place are stored, and counted in rows_inserted and its neighbours. \
                 Send the whole upload again, mended, with the same Idempotency-Key: what is stored already is \
                 recognised.",
            ),
            Problem::NoSuchOrder => entry(
                404,
                "no-such-order",
                "The tenant has no such order",
                "No order of this tenant has the id in the path. An order that is in an ingest still running may \
                 appear a moment later.",
            ),
            Problem::IngestRunning => entry(
                409,
                "ingest-running",
                "A request with this Idempotency-Key is running",
                "The same Idempotency-Key is being worked under by another request, on whichever connection. \
                 Nothing of this one was read. Wait as long as Retry-After says and send it again: it is then \
                 answered from what the other one did.",
            ),
            Problem::UnsupportedMediaType => entry(
                415,
                "unsupported-media-type",
                "The body comes as something that is not taken",
                "Orders come as lines of JSON, plain or packed with gzip, zstd or zip, or as the files of a \
                 multipart form; the detail says what was found. Nothing was stored, or only the lines before the \
                 place that the detail names.",
            ),
            Problem::IdempotencyKeyReused => entry(
                422,
                "idempotency-key-reused",
                "The Idempotency-Key was used for other content",
                "An ingest with this key is finished, and its lines were others than these. Nothing was stored. \
                 Use a new key for new content; if this was meant as a repetition, the file has changed since.",
            ),
            Problem::NoOrders => entry(
                422,
                "no-orders",
                "Nothing of the body was stored",
                "No line of the body is an order that is stored now or was stored before; the detail says what the \
                 body looks like and what to send instead, errors names what is wrong with the lines, and skipped \
                 the parts and entries that were not read. The Idempotency-Key is not used up: send the mended file \
                 with the same one.",
            ),
            Problem::InvalidStatus => entry(
                422,
                "invalid-status",
                "The JSON is not a new status",
                "The body is one JSON object whose status is one of pending, paid, shipped, delivered, cancelled \
                 and refunded; occurred_at, where it is there, is RFC 3339 and no more than 24 hours ahead of the \
                 server's clock. Or the order would be a sale again, and the sales of its day in its currency more than \
                 64 bits hold: then errors has the code amount_out_of_range. Nothing was changed.",
            ),
            Problem::QueryTooLarge => entry(
                422,
                "query-too-large",
                "An exact answer needs more memory than a query may have",
                "The exact number of different customers, or exact quantiles, of so many groups do not fit in the \
                 memory of one query. Ask for a shorter time, or with precision=approx, whose error is stated in \
                 the answer.",
            ),
            Problem::Unauthorized => entry(
                401,
                "unauthorized",
                "A valid key is needed",
                "This server wants a key for this, and the request brings none, or one that is not known, has \
                 expired or was revoked. Nothing was stored. Send the key as Authorization: Bearer, or as \
                 X-API-Key; a key in the query string is not looked at. The operator makes keys with firehose key \
                 create, and sees with firehose key list which of them still hold.",
            ),
            Problem::Forbidden => entry(
                403,
                "forbidden",
                "The key does not allow this",
                "The key is valid, but it lacks the scope that this needs (write to send events, manage to send \
                 orders and to change stock, prices and status, read to ask for them), or it is bound to another tenant than the one the request is about; the detail says \
                 which. Nothing was stored. Use another key: the scopes and the tenant of a key do not change.",
            ),
            Problem::ForeignOrigin => entry(
                403,
                "foreign-origin",
                "Pages of another origin may only post events",
                "The request comes from a page of a browser, and the page is of another origin than this server: its \
                 Origin header has another host or port than the Host header. Any page may post events; everything \
                 else is for pages of this server, so that a page which happens to be open cannot read or change \
                 what its reader's machine can reach. Nothing was stored or changed. The operator lists origins that \
                 may do more in cors_origins; where a proxy in front asks under another name, public_url says which \
                 origin is this server's own.",
            ),
            Problem::MisdirectedRequest => entry(
                421,
                "misdirected-request",
                "This server does not go by that name",
                "The server has no keys, so whoever reaches it may do everything, and the Host header names it by a \
                 name that anybody could have pointed at it: a page may have done so to be taken for one of this \
                 server's own. Nothing was stored or changed. Ask for it by its address or as localhost; or let the \
                 operator name the host in allowed_hosts or public_url, or make keys with firehose key create. Posts \
                 of events, probes and the Prometheus page are answered under every name.",
            ),
            Problem::NotFound => entry(
                404,
                "not-found",
                "There is nothing at this path",
                "No endpoint has this path. The paths are listed in /openapi.json and shown at /docs.",
            ),
            Problem::NotAReceipt => entry(
                404,
                "not-a-receipt",
                "This receipt was never given out",
                "The path does not end in a receipt this server has given out. A receipt is the value of the \
                 Firehose-Receipt header of a 202, copied whole, and means something only to the server that \
                 gave it.",
            ),
            Problem::MethodNotAllowed => entry(
                405,
                "method-not-allowed",
                "The path has no such method",
                "The path exists, but not for this method. The Allow header lists the methods it has.",
            ),
            Problem::RequestTimeout => entry(
                408,
                "request-timeout",
                "The request took too long to arrive",
                "The head or the body did not arrive whole within the time for it, and the connection was closed. \
                 Nothing was stored. Send it again; if it happens often, the network is slow or the client \
                 opens requests it does not finish.",
            ),
            Problem::PayloadTooLarge => entry(
                413,
                "payload-too-large",
                "The body is too large",
                "The body is larger than this endpoint takes, counted after decompression; the detail names the \
                 limit. Nothing was stored. Send less in one request.",
            ),
            Problem::TooManyEvents => entry(
                413,
                "too-many-events",
                "More events than one request may hold",
                "A request to /events/bulk may hold 5,000 events. Nothing was stored. Send them in several \
                 requests; a repetition does no harm, because an event_id is stored once.",
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
                "The Content-Encoding is not supported",
                "The body is compressed in a way this server does not undo, or more than once. Nothing was \
                 stored. Use one of gzip, deflate, zstd, or identity, as the Accept-Encoding header of the \
                 answer lists.",
            ),
            Problem::ExpectationFailed => entry(
                417,
                "expectation-failed",
                "The Expect header asks for something unknown",
                "The only expectation this server can meet is 100-continue. Nothing was stored. Leave the header \
                 out.",
            ),
            Problem::InvalidEvent => entry(
                422,
                "invalid-event",
                "The JSON is not an event",
                "The body is JSON, but one or more fields of the event are missing or wrong; errors names every \
                 one of them by JSON Pointer with a code that does not change. Nothing was stored. At /event an \
                 event has a user_id (a 64-bit integer), a timestamp (an ISO 8601 date-time) and metadata (any \
                 JSON value); at /events it has event_id, tenant_id, source, event_type (short strings), a \
                 timestamp with an offset, and a payload (a JSON object).",
            ),
            Problem::InvalidEvents => entry(
                422,
                "invalid-events",
                "None of the events is valid",
                "The request holds events and every one of them is wrong, or it holds none; errors names the \
                 rows by index (and line, where there are lines), the fields by JSON Pointer, with codes that do \
                 not change. Nothing was stored. Had one row been valid, it would have been stored and the others \
                 reported beside it.",
            ),
            Problem::TooDeep => entry(
                422,
                "too-deep",
                "The JSON is nested too deeply",
                "Arrays and objects are nested deeper than 128 levels. Nothing was stored. Such documents are \
                 refused because whoever reads them later may not survive them; flatten the metadata, or send \
                 it as a string.",
            ),
            Problem::RateLimited => entry(
                429,
                "rate-limited",
                "The tenant has used up its quota",
                "The tenant that the key is bound to has sent more requests or bytes than it may in so much time. \
                 Nothing was stored. RateLimit-Policy names the quota (q units in w seconds), RateLimit what is \
                 left of it; wait as long as Retry-After says, then send it again. Other tenants are not held up. \
                 The operator changes limits with firehose tenant set.",
            ),
            Problem::QueueFull => entry(
                429,
                "queue-full",
                "Events arrive faster than they can be stored",
                "More events wait to be stored than the high-water mark allows. This one was not stored. Wait as \
                 long as Retry-After says, then send it again; queue_size, queue_bytes and \
                 expected_delay_seconds say how much is waiting. If it lasts, the database is locked, or the \
                 disk is too slow for the load.",
            ),
            Problem::HeadTooLarge => entry(
                431,
                "head-too-large",
                "The request head is too large",
                "The request line and headers are larger than 32 KiB, or there are more than 100 headers. Nothing \
                 was stored. Oversized cookies are the usual cause.",
            ),
            Problem::Internal => entry(
                500,
                "internal",
                "The server made a mistake",
                "Something failed that should not have. It is the server's fault and in its log under the \
                 request's id. Whether anything was stored is not known.",
            ),
            Problem::UnsupportedTransferCoding => entry(
                501,
                "unsupported-transfer-coding",
                "The Transfer-Encoding is not supported",
                "The only transfer coding this server reads is chunked. Nothing was stored. Compress with \
                 Content-Encoding instead.",
            ),
            Problem::Overloaded => entry(
                503,
                "overloaded",
                "The server has too much to do",
                "A limit of the server itself was reached, such as its number of connections or its memory for \
                 unfinished requests. Nothing was stored. Wait as long as Retry-After says, then send it again.",
            ),
            Problem::Draining => entry(
                503,
                "draining",
                "The server is stopping",
                "The server is shutting down and takes nothing new; what it accepted before is being stored. This \
                 request was not stored. Send it to another server, or to this one when it is back.",
            ),
            Problem::JournalUnsynced => entry(
                503,
                "journal-unsynced",
                "The journal could not be made safe on disk",
                "The request asked for a promise that survives a power cut (ack=disk), and the disk did not \
                 confirm it. `detail` says whether something may be stored all the same: an event without an id \
                 is then stored twice if it is sent again, anything with an id is not. While a failed sync is \
                 known, requests that ask for the disk are refused at once and nothing of them is stored; those \
                 that do not ask for it go on. The disk needs a look.",
            ),
            Problem::OutcomeUnknown => entry(
                503,
                "outcome-unknown",
                "Whether the events were taken is not known",
                "The core that keeps these events did not answer in time. They may have been stored. Send them \
                 again: an event_id is stored once, however often it arrives.",
            ),
            Problem::ShardUnavailable => entry(
                503,
                "shard-unavailable",
                "A part of the data cannot be read just now",
                "A shard is damaged, locked away or too slow to answer, and an answer without it would be short \
                 without saying so. What other shards hold is safe, and events are still accepted. Ask again; \
                 /ready names the shard and the reason.",
            ),
            Problem::UnsupportedVersion => entry(
                505,
                "unsupported-version",
                "The HTTP version is not supported",
                "This server speaks HTTP/1.1 and HTTP/1.0. Nothing was stored. A proxy in front of it can speak \
                 other versions.",
            ),
            Problem::JournalFull => entry(
                507,
                "journal-full",
                "There is no room for more events",
                "The journal has reached the size it is allowed, or the disk is full. This event was not stored; \
                 reads and health go on. The server recovers by itself as soon as there is room; send the event \
                 again then.",
            ),
            Problem::BadUploadHeader => entry(
                400,
                "bad-upload-header",
                "A header of the upload is missing or malformed",
                "Resumable uploads follow tus 1.0.0: POST needs Upload-Length, PATCH needs Upload-Offset, both whole \
                 numbers; Upload-Metadata and Upload-Checksum have the forms that tus gives them; lengths cannot be \
                 told later, and uploads are not put together from others. Nothing was taken. Mend the client, or \
                 use one that speaks tus.",
            ),
            Problem::NoSuchUpload => entry(
                404,
                "no-such-upload",
                "There is no upload with this id",
                "The upload was never created, was terminated, or expired a while ago; or it belongs to another \
                 tenant than the key. What it stored stays. Create a new one: orders that are stored already count \
                 as duplicates, or, with the same Idempotency-Key, as inserted.",
            ),
            Problem::UploadGone => entry(
                410,
                "upload-gone",
                "The upload has expired",
                "Nothing was sent to the upload for as long as upload_expiry says, so its bytes were removed. The \
                 orders it stored stay. Create a new one: orders that are stored already are not stored twice.",
            ),
            Problem::TusVersion => entry(
                412,
                "tus-version",
                "The version of tus is missing or another",
                "Every request to an upload but OPTIONS and GET says Tus-Resumable: 1.0.0, the only version there \
                 is. Nothing was taken.",
            ),
            Problem::WrongUploadOffset => entry(
                409,
                "wrong-upload-offset",
                "The upload goes on elsewhere",
                "Upload-Offset is not the number of bytes the upload has; the answer's Upload-Offset is, and HEAD \
                 tells it at any time. Nothing was taken. A client that lost an answer asks with HEAD and goes on \
                 from there.",
            ),
            Problem::UploadLocked => entry(
                423,
                "upload-locked",
                "Another request works on the upload",
                "One request at a time works on an upload, and another one is still being answered or still sends. \
                 One that rests makes way for a newer one within seconds. Nothing was taken. Ask again after \
                 Retry-After.",
            ),
            Problem::ChecksumMismatch => entry(
                460,
                "checksum-mismatch",
                "The bytes do not have the checksum they were sent with",
                "The piece was damaged on its way, or its Upload-Checksum is of other bytes. None of the piece was \
                 taken, and the upload is where it was. Send the piece again.",
            ),
            Problem::NoSuchStock => entry(
                404,
                "no-such-stock",
                "The product has no stock",
                "Nothing ever happened to the stock of this product of this tenant: no update was applied, and none \
                 was carried in. Its first update makes it: stock begins at 0, version 0.",
            ),
            Problem::TooManyUpdates => entry(
                413,
                "too-many-updates",
                "More updates than one request may have",
                "PUT /stock/bulk_update takes at most 10,000 updates in one request. Nothing was changed. Divide them, \
                 with all updates of one product that belong together in the same request.",
            ),
            Problem::InvalidStockUpdate => entry(
                422,
                "invalid-stock-update",
                "The body is no update of stock",
                "The body is JSON, but not an object with a known mode and updates, or every product in it has an \
                 update that is wrong. Each entry of errors has the index of the update, a JSON Pointer within it (or \
                 into the body, where there is no index), a code and a sentence; at most 1,000 are listed. Nothing was \
                 changed. Mend the sender; sending the same again cannot succeed.",
            ),
            Problem::NoRoomForUpload => entry(
                507,
                "no-room-for-upload",
                "There is no room for the upload",
                "The uploads under way have as many bytes as uploads_bytes_max allows, or those of the tenant as many \
                 as they leave to others, there are too many of them, or the disk is full. What was reported as taken stays. Wait as long as Retry-After says, \
                 then go on, from where HEAD says if the upload exists; uploads that finish, are terminated or \
                 expire make room.",
            ),
            Problem::BadSignature => entry(
                401,
                "bad-signature",
                "The signature is missing, old or does not fit",
                "The tenant has webhook secrets, so each of its price events is signed by the scheme of Standard \
                 Webhooks: webhook-id, webhook-timestamp within five minutes of the server's clock, and \
                 webhook-signature with v1 and the base64 of the HMAC-SHA-256 over id, timestamp and body, dots \
                 between them, the body exactly as it is sent. Nothing was stored. Check the secret, the clock and \
                 that nothing on the way changes the body.",
            ),
            Problem::NoSuchAnomaly => entry(
                404,
                "no-such-anomaly",
                "There is no anomaly with this id",
                "The tenant has no anomaly with this id, or the product in the path has not. Nothing was decided. \
                 The list of price-anomalies has the ids.",
            ),
            Problem::PriceEventConflict => entry(
                409,
                "price-event-conflict",
                "The product has another price event with this id",
                "An event_id names one observation of a product for ever, and this one has another price, currency \
                 or time than the first. The first one stands and nothing was stored. Give a new observation an id \
                 of its own.",
            ),
            Problem::AlreadyReviewed => entry(
                409,
                "already-reviewed",
                "The anomaly was decided otherwise before",
                "An anomaly is approved or rejected once, and this one was decided the other way. The first \
                 decision stands. The same decision again is no conflict.",
            ),
            Problem::InvalidReview => entry(
                422,
                "invalid-review",
                "The body is no decision",
                "A review is a JSON object with a decision, \"approve\" or \"reject\", and nothing else. Nothing was \
                 decided.",
            ),
            Problem::InvalidExport => entry(
                422,
                "invalid-export",
                "The export cannot be made as it is asked for",
                "The body is a JSON object with a format (csv, ndjson or parquet) and, where wanted, rows, filters, \
                 fields and compression; errors names each member that is wrong. Nothing was begun. Mend it and send \
                 it again.",
            ),
            Problem::NoSuchExport => entry(
                404,
                "no-such-export",
                "There is no export with this id",
                "The export was never created, was deleted, or expired a while ago; or it belongs to another tenant \
                 than the path names. Create a new one.",
            ),
            Problem::ExportGone => entry(
                410,
                "export-gone",
                "The export is gone",
                "The file was kept for as long as export_expiry says and was removed then, or it told of a person \
                 who was erased and went with them; detail says which. Create a new one: it tells the orders as \
                 they are now.",
            ),
            Problem::ExportFailed => entry(
                409,
                "export-failed",
                "The export came to nothing",
                "The export ended before its file was whole, and what there was of it was removed; error says why. \
                 Create a new one, perhaps of fewer orders or when there is more room.",
            ),
            Problem::PreconditionFailed => entry(
                412,
                "precondition-failed",
                "The file is another one",
                "If-Match names none of what is here. Begin anew with a request without it.",
            ),
            Problem::RangeNotSatisfiable => entry(
                416,
                "range-not-satisfiable",
                "The file ends before the range begins",
                "Content-Range tells how many bytes there are. A client that has as many has the whole file if the \
                 export is done.",
            ),
            Problem::NoRoomForExport => entry(
                507,
                "no-room-for-export",
                "There is no room for the export",
                "The exports take as many bytes as exports_bytes_max allows, there are too many of them, or the disk \
                 is full. Nothing was begun. Delete those that are not needed any more, or wait until they expire.",
            ),
            Problem::NoSuchErasure => entry(
                404,
                "no-such-erasure",
                "There is no erasure with this id",
                "No erasure was given this id, it is another tenant's, or it was finished so long ago that its \
                 certificate is kept no more. Erasing the same person again is safe and gives a new certificate.",
            ),
            Problem::ErasureBlocked => entry(
                409,
                "erasure-blocked",
                "Nobody can be erased just now",
                "Something holds rows that this server does not look after: what a reshard left behind, or a copy of \
                 a database beside it; or another request begins with the same person at this moment. Nothing was \
                 erased, because it could not be everywhere. Remove what `detail` names, or ask again.",
            ),
        }
    }
}
