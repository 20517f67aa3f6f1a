//! Turns bytes into requests and responses into bytes, without a socket, a clock or a runtime.
//!
//! In: the bytes of one connection. Out: [`Next::Request`], or the [`Refusal`] that ends it; the bytes of an
//! [`Answer`]. Owns: every rule for framing, limits on the head and content codings, used by both lanes. The hot lane
//! drives [`Connection`] itself; in front of hyper, a [`Gate`] does. Never: interprets a path, reads a clock, panics
//! on a peer's bytes.

mod accept;
mod answer;
mod chunked;
mod coding;
mod connection;
mod credential;
mod gate;
mod head;
mod known;
mod refusal;
mod request_id;

pub use accept::{Media, preferred, preferred_coding, takes_coding};
pub use answer::{Answer, Cors, To, write_answer, write_answer_after, write_common};
pub use chunked::Chunked;
pub use coding::{CODINGS, Coding, InflateError, UNPACKED_MAX, sent_bytes_max, without_mark};
pub use connection::{Connection, Next, Wanted};
pub use credential::Credential;
pub use gate::{Gate, Passed, REFUSED_PATH};
pub use head::{Framing, Head, Method, is_to_head, peek};
pub use known::KnownHead;
pub use refusal::Refusal;
pub use request_id::{REQUEST_ID_BYTES, RequestIds, taken_over};

/// The response to a client that waits before it sends the body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
