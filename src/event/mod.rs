//! Decodes JSON bytes to a click, and contains what the decoders of all features share: the parser, spans of members,
//! rules for strings and times, errors.
//!
//! In: a request's decoded body, or one line of it. Out: a [`Click`] that borrows from the body, or a
//! [`DecodeError`] that lists every invalid field. Owns: the parser's buffers, in one [`Decoder`] per core. Never: does
//! I/O, copies metadata or payload, allocates for a valid click, puts payload text into an error.
//!
//! ```text
//! body ──► one pass over an object ──ok──► spans of the top-level members ──► field rules
//!            └─ else ─► simd-json validates a padded copy ──ok──► spans by its index ──┤
//!                           └─ refuses ─► depth scan ─► UTF-8 ─► serde_json ─ok─► spans by a byte scan
//! ```
//! Service events (`events/body.rs`), orders (`orders/body.rs`) and stock updates (`stock/body.rs`) have their rules in
//! their own folders.
//!
//! The second look is exact where simd-json is stricter than RFC 8259: integers beyond 64 bits, floats beyond f64,
//! escapes of lone surrogates. It needs no memory, so bodies above 256 KiB use it at once.

mod decode;
mod error;
mod fields;
mod json;
mod one_pass;
mod quotes;
mod rules;
mod structurals;
mod time;

pub use decode::{Decoder, SIMD_BYTES_MAX, is_json, second_look};
pub use error::{BulkError, Code, DecodeError, FieldError, FieldErrors};
pub use fields::{Click, Collect, field, repeated};
pub use json::{
    elements, is_deeper_than, members, skip_whitespace, string_end, unescape, unescape_exactly,
    unescape_into, value_end,
};
pub use rules::{TextRule, TimeRule, text, time};
pub(crate) use rules::{text_rule, time_rule};
pub use structurals::{Structurals, skip_nested, trim_end};
pub use time::{TimeError, parse_iso8601_lenient, parse_rfc3339, parse_rfc3339_bound};
