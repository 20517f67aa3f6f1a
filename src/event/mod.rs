//! JSON bytes to an event: the requirements of a body, and every fault of one that does not meet them.
//!
//! In: the decoded body of a request, or one line of it. Out: a [`Click`], a [`ServiceEvent`], the rows of a bulk
//! request or an [`Order`], each borrowing from the body, or a [`DecodeError`] (for an order an [`OrderError`]) that
//! lists every invalid field. Owns: the parser's buffers, one [`Decoder`] per core. Never: I/O, a copy of metadata or
//! payload, allocation for one valid event, payload text in an error.
//!
//! ```text
//! bulk ─► rows ─┐
//! body ─────────┴► simd-json validates a padded copy ──ok──► spans of the top-level members ──► field rules
//!                      └─ refuses ─► depth scan ─► UTF-8 ─► serde_json ─ok─► spans by a byte scan ──┘
//! ```
//! The second look is exact where simd-json is stricter than RFC 8259: integers beyond 64 bits, floats beyond f64,
//! escapes of lone surrogates. It needs no memory, so texts above 256 KiB use it at once.

mod bulk;
mod decode;
mod error;
mod fields;
mod json;
mod order;
mod rules;
mod service_event;
mod stock;
mod structurals;
mod time;

pub use decode::Decoder;
pub use error::{BulkError, Code, DecodeError, FieldError, FieldErrors};
pub use fields::Click;
pub use json::is_too_deep;
pub use order::{Item, Items, ORDER_BYTES_MAX, Order, OrderError, OrderFault, OrderFaults, OrderPointer};
pub use service_event::ServiceEvent;
pub use stock::{StockAmount, StockBodyError, StockFault, StockRequest, StockUpdate};
pub use time::{TimeError, parse_iso8601_lenient, parse_rfc3339, parse_rfc3339_bound};
