//! Requests that the server understands but cannot serve as they are: 421 to 499.

use super::{Entry, Problem, entry};

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        Problem::IdempotencyKeyReused,
        422,
        "idempotency-key-reused",
        "The Idempotency-Key was used with other content",
        "An ingest with this key is finished, and its lines were different. Nothing was stored. Use a new key \
         for new content. If this request was meant as a retry, the file has changed since.",
    ),
    entry(
        Problem::NoOrders,
        422,
        "no-orders",
        "No order was stored",
        "No line of the body is an order that is stored now or was stored before. The detail describes the body \
         and what to send instead, errors lists the errors of the lines, and skipped lists the parts and \
         entries that were not read. The Idempotency-Key remains unused: send the corrected file with the same \
         key.",
    ),
    entry(
        Problem::InvalidStatus,
        422,
        "invalid-status",
        "Invalid status change",
        "The body is JSON, but not an object with a status and, optionally, an occurred_at. The status is one of \
         pending, paid, shipped, delivered, cancelled and refunded. occurred_at is RFC 3339, and at most 24 hours \
         ahead of the server's clock. errors lists each invalid member. The request is also refused if it would \
         count the order as a sale again and the sales of that day in that currency would exceed 64 bits; errors \
         then has the code amount_out_of_range. Nothing was changed.",
    ),
    entry(
        Problem::QueryTooLarge,
        422,
        "query-too-large",
        "The exact answer exceeds the memory limit of a query",
        "The exact number of unique customers, or the exact percentiles, of this many groups do not fit into \
         the memory limit of one query. Request a shorter period, or use precision=approx; its response states \
         the error.",
    ),
    entry(
        Problem::MisdirectedRequest,
        421,
        "misdirected-request",
        "The server does not answer to this host name",
        "The server has no keys, so everyone who can reach it has full access. The Host header contains a name \
         that anyone could have pointed at this server, for example to make a web page appear as one of this \
         server's own. Nothing was stored or changed. Use the server's address or localhost, or have the \
         operator add the host to allowed_hosts or public_url, or create keys with firehose key create. Posted \
         events, probes and the Prometheus page are answered under every name.",
    ),
    entry(
        Problem::InvalidEvent,
        422,
        "invalid-event",
        "Invalid event",
        "The body is JSON, but one or more fields of the event are missing or invalid. errors lists each of \
         them with a JSON Pointer and a stable code. Nothing was stored. At /event, an event has user_id (a \
         64-bit integer), timestamp (an ISO 8601 date-time) and metadata (any JSON value). At /events, it has \
         event_id, tenant_id, source and event_type (short strings), timestamp with an offset, and payload (a \
         JSON object).",
    ),
    entry(
        Problem::InvalidEvents,
        422,
        "invalid-events",
        "No valid event in the request",
        "Every event of the request is invalid, or the request has none. errors lists the rows by index (and by \
         line, if the body has lines) and their fields by JSON Pointer, with stable codes. Nothing was stored. \
         If at least one row were valid, it would have been stored and the others reported.",
    ),
    entry(
        Problem::TooDeep,
        422,
        "too-deep",
        "The JSON is nested too deeply",
        "Arrays and objects are nested deeper than 128 levels. Nothing was stored. The server refuses such \
         documents because later readers may fail on them. Flatten the metadata, or send it as a string.",
    ),
    entry(
        Problem::RateLimited,
        429,
        "rate-limited",
        "Quota exceeded",
        "The tenant of the key has sent more requests or bytes than its quota allows. Nothing was stored. \
         RateLimit-Policy describes the quota (q units in w seconds) and RateLimit the rest of it. Wait as long \
         as Retry-After says, then send the request again. Other tenants are not affected. The operator changes \
         limits with firehose tenant set.",
    ),
    entry(
        Problem::QueueFull,
        429,
        "queue-full",
        "Events arrive faster than they can be stored",
        "The number of events waiting to be stored exceeds the high-water mark. This event was not stored. Wait \
         as long as Retry-After says, then send it again. queue_size, queue_bytes and expected_delay_seconds \
         describe the queue. If this persists, the database is locked, or the disk is too slow for the load.",
    ),
    entry(
        Problem::HeadTooLarge,
        431,
        "head-too-large",
        "The request head is too large",
        "The request line and headers are larger than 32 KiB, or there are more than 100 headers. Nothing was \
         stored. Oversized cookies are the usual cause.",
    ),
    entry(
        Problem::UploadLocked,
        423,
        "upload-locked",
        "Another request uses the upload",
        "An upload accepts one request at a time, and another one is still sending or waiting for its response. \
         A request that stops sending is replaced by a newer one within seconds. Nothing was stored. Try again \
         after Retry-After.",
    ),
    entry(
        Problem::ChecksumMismatch,
        460,
        "checksum-mismatch",
        "Checksum mismatch",
        "The bytes were damaged in transit, or their Upload-Checksum belongs to other bytes. All of them were \
         discarded, and the offset of the upload has not changed. Send the bytes again.",
    ),
    entry(
        Problem::InvalidStockUpdate,
        422,
        "invalid-stock-update",
        "Invalid stock update",
        "The body is JSON, but not an object with a known mode and a list of updates, or every product in it \
         has an invalid update. Each entry of errors has the index of the update, a JSON Pointer within it (or \
         into the body, if there is no index), a code and a sentence. At most 1,000 entries are listed. Nothing \
         was changed. Fix the sender; the same request cannot succeed.",
    ),
    entry(
        Problem::InvalidReview,
        422,
        "invalid-review",
        "Invalid review",
        "The body is JSON, but not an object whose only member is decision, either \"approve\" or \"reject\". errors \
         lists each invalid member. Nothing was decided.",
    ),
    entry(
        Problem::InvalidExport,
        422,
        "invalid-export",
        "Invalid export request",
        "The body is JSON, but not an object with a format (csv, ndjson or parquet) and, optionally, rows, filters, \
         fields and compression, or one of these is invalid. A list must not be empty: a filter that is left out \
         selects every row. errors lists each invalid member. No export was created. Correct the request and send \
         it again.",
    ),
    entry(
        Problem::InvalidErasure,
        422,
        "invalid-erasure",
        "Invalid erasure request",
        "The body is JSON, but not an object with customers, an array of 1 to 1000 ids, and, optionally, a mode \
         (erase or pseudonymise). errors lists each invalid member. Nothing was erased. Correct the request and \
         send it again.",
    ),
];
