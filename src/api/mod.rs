//! The clients' view: endpoints, problem documents, the OpenAPI document, and what the responses of features share.
//!
//! In: a path and a method; errors and figures from the layers below. Out: an [`crate::http::Answer`]. Owns: the
//! problem catalogue and the mapping from shared errors to problems. Never: does I/O, or shows any part of a
//! payload.

pub mod access;
mod callers;
pub mod docs;
mod endpoints;
pub mod error;
pub mod etag;
pub(crate) mod members;
pub mod openapi;
pub mod problem;
mod query;
pub mod reads;
pub mod request;
pub mod schema;
mod template;
mod wants;
pub mod write;

pub use callers::{Caller, NotCalled, Pages, Preflight};
pub use endpoints::{Asked, Body, Endpoint, Endpoints, Found, Lane, Logged, Methods, Operation};
pub use problem::Problem;
pub use query::{QueryNames, is_plain_ack};
pub use wants::Wants;
