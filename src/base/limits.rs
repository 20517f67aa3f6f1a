//! Every limit that is not a setting, with its reason. The defaults of settings are in `config/`.

use std::time::Duration;

/// The maximum size of a request head in bytes (RFC 9110 sets no limit). Above it: 431. A browser's cookies and
/// tracing headers stay under 16 KiB.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The maximum number of header fields in a request. Above it: 431. A Chrome `fetch` sends 17.
pub const HEADER_COUNT_MAX: usize = 100;

/// The maximum size of a request target in bytes. Above it: 414.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// The maximum nesting depth of JSON. Above it: 422. simd-json and serde_json are iterative, but a later reader of
/// the data may not be.
pub const JSON_DEPTH_MAX: usize = 128;

/// The maximum size in bytes of an identifier that a client chooses, including `X-Request-Id`.
pub const IDENTIFIER_BYTES_MAX: usize = 200;

/// The maximum size of `source` and `event_type` in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// The maximum size in bytes of an event's `payload` in the events service.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// The maximum number of events in one `POST /events/bulk`. Above it: 413.
pub const BULK_EVENTS_MAX: usize = 5_000;

/// The maximum number of items in an order. An item's id has space for 1,024 items of each order.
pub const ORDER_ITEMS_MAX: usize = 1_000;

/// How long a finished ingest is kept under its idempotency key, in microseconds: twice the promised time.
pub const INGEST_KEY_KEPT_US: i64 = 48 * 3_600 * 1_000_000;

/// The minimum and the maximum age of a retention. With a shorter age, a partition would contain the rows of a few
/// seconds only.
pub const RETENTION_MIN: Duration = Duration::from_secs(60);
pub const RETENTION_MAX: Duration = Duration::from_secs(100_000 * 86_400);

/// The maximum number of updates in one `PUT …/stock/bulk_update`. Above it: 413.
pub const STOCK_UPDATES_MAX: usize = 10_000;

/// The maximum payload of a journal record in bytes: the largest event (`/event`, 256 KiB), with space for what the
/// record adds. A larger length in a file is damage and never leads to an allocation.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// The first time that can be stored, in microseconds since 1970 UTC: 0000-01-01T00:00:00Z. It has a four-digit year
/// in UTC.
pub const TIME_US_MIN: i64 = -62_167_219_200_000_000;
/// The last time that can be stored, in microseconds since 1970 UTC: 9999-12-30T22:00:00.999999Z. It is the last one
/// that [`jiff::Timestamp`] can hold and that has a four-digit year at every offset.
pub const TIME_US_MAX: i64 = 253_402_207_200_999_999;

/// The maximum number of shards in a data folder. A query opens every shard.
pub const SHARD_COUNT_MAX: u16 = 256;

/// The maximum number of cores that one process serves on.
pub const CORE_COUNT_MAX: u16 = 256;

const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX < RECORD_BYTES_MAX);
