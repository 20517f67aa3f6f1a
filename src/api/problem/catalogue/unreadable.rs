//! Malformed requests and bodies: 400.

use super::{Entry, Problem, entry};

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        Problem::BadRequest,
        400,
        "bad-request",
        "Invalid HTTP request",
        "The head or the framing of the request violates HTTP/1.1: a malformed line or header, a missing Host, \
         Content-Length together with Transfer-Encoding, a repeated or malformed length, or a malformed chunk. \
         The server closes the connection, because the bytes after the fault cannot be parsed reliably. Nothing \
         was stored. Fix the client or the proxy in front of it.",
    ),
    entry(
        Problem::EmptyBody,
        400,
        "empty-body",
        "Empty body",
        "The request needs a body and has none. Nothing was stored. Send one JSON object. A client that \
         intended to send one may have lost it on a redirect, or have set Content-Length: 0.",
    ),
    entry(
        Problem::NotJson,
        400,
        "not-json",
        "Invalid JSON",
        "The body is not a single JSON value as defined by RFC 8259. The detail gives the byte at which parsing \
         stopped. Common causes are a truncated body, a byte order mark, single quotes, a comma before a \
         closing bracket, NaN, or two values in one body. Nothing was stored. Fix the sender; the same request \
         cannot succeed.",
    ),
    entry(
        Problem::NotUtf8,
        400,
        "not-utf8",
        "Invalid UTF-8",
        "JSON must be UTF-8, and the body has bytes that are not. Common causes are a Latin-1 or UTF-16 \
         encoder, or compressed bytes without a Content-Encoding header. Nothing was stored.",
    ),
    entry(
        Problem::BadEncoding,
        400,
        "bad-encoding",
        "The body cannot be decompressed",
        "The body does not match its Content-Encoding: the compressed stream is damaged, ends early or is \
         followed by other bytes. Nothing was stored. Check that the header matches the encoding and that the \
         client compresses the body once.",
    ),
    entry(
        Problem::BadParameter,
        400,
        "bad-parameter",
        "Invalid query parameter",
        "A query parameter of this endpoint has an invalid value. The detail names the parameter and its valid \
         values. Nothing was stored, because the requested promise could not be determined.",
    ),
    entry(
        Problem::IdempotencyKeyMissing,
        400,
        "idempotency-key-missing",
        "Missing or malformed Idempotency-Key",
        "An ingest needs one Idempotency-Key header of 1 to 255 visible ASCII characters, so that it can be \
         retried safely. Nothing was stored. Generate a key for each upload (a UUID, or the name and date of \
         the file) and send the same key with every retry.",
    ),
    entry(
        Problem::DamagedUpload,
        400,
        "damaged-upload",
        "The body is damaged or incomplete",
        "The compressed bytes are damaged or truncated, or a form is malformed. The detail gives the position. \
         The orders on the lines before it are stored and counted in rows_inserted and the other counters. Send \
         the whole upload again, corrected, with the same Idempotency-Key: the server recognises the orders \
         that are already stored.",
    ),
    entry(
        Problem::BadUploadHeader,
        400,
        "bad-upload-header",
        "Missing or malformed upload header",
        "Resumable uploads follow tus 1.0.0. POST requires Upload-Length or Upload-Defer-Length, PATCH requires \
         Upload-Offset, and lengths and offsets are whole numbers. Upload-Metadata and Upload-Checksum have the \
         forms that tus defines. Uploads cannot be concatenated. Nothing was stored. Fix the client, or use a \
         standard tus client.",
    ),
];
