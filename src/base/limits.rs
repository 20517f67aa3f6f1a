//! Every limit that is not a setting, with its reason. The defaults of settings are in `config/`.

/// Bytes of a request head (RFC 9110 sets no limit); 431 above. Cookies and tracing headers of a browser remain under
/// 16 KiB.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Header fields of one request; 431 above. A Chrome `fetch` sends 17.
pub const HEADER_COUNT_MAX: usize = 100;

/// Bytes of a request target; 414 above.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Nesting of JSON; 422 above. simd-json and serde_json are iterative, but the next reader may not be.
pub const JSON_DEPTH_MAX: usize = 128;

/// Bytes of an identifier that a client chooses, including `X-Request-Id`.
pub const IDENTIFIER_BYTES_MAX: usize = 200;

/// Bytes of `source` and `event_type`.
pub const NAME_BYTES_MAX: usize = 100;

/// Bytes of an event's `payload` in the events service.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Events of one `POST /events/bulk`; 413 above.
pub const BULK_EVENTS_MAX: usize = 5_000;

/// Items of one order. An item's id has space for 1,024 of them.
pub const ORDER_ITEMS_MAX: usize = 1_000;

/// How long a finished ingest is kept under its idempotency key, in microseconds: twice the promised time.
pub const INGEST_KEY_KEPT_US: i64 = 48 * 3_600 * 1_000_000;

/// Updates of one `PUT …/stock/bulk_update`; 413 above.
pub const STOCK_UPDATES_MAX: usize = 10_000;

/// Bytes of one journal record's payload: the largest event (`/event`, 256 KiB), with space for what the record adds. A
/// larger length in a file is damage and never leads to an allocation.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// The first and the last time that can be stored, in microseconds since 1970 UTC. The first is 0000-01-01T00:00:00Z,
/// so that it has a year of four digits in UTC. The last is 9999-12-30T22:00:00.999999Z, the last one that
/// [`jiff::Timestamp`] can hold and that has a year of four digits at every offset.
pub const TIME_US_MIN: i64 = -62_167_219_200_000_000;
pub const TIME_US_MAX: i64 = 253_402_207_200_999_999;

/// Shards of one data folder. A query opens every one.
pub const SHARD_COUNT_MAX: u16 = 256;

/// Cores that one process serves on.
pub const CORE_COUNT_MAX: u16 = 256;

const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX < RECORD_BYTES_MAX);
