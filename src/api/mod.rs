//! The clients' view: endpoints, problem documents, the shapes of responses, the OpenAPI document.
//!
//! In: a path and a method; errors and numbers of the layers below. Out: an [`crate::http::Answer`]. Owns: the
//! catalogue of problems and the one map from every error to it. Never: I/O, text of a payload.

pub mod access;
mod callers;
pub mod docs;
mod endpoints;
pub mod error;
pub mod etag;
pub mod openapi;
pub mod problem;
pub mod reads;
pub mod request;
pub mod schema;
mod wants;
pub mod write;

pub use callers::{Caller, NotCalled, Pages, Preflight};
pub use endpoints::{Asked, Body, Endpoint, Endpoints, Found, Lane, Logged, Methods, Operation};
pub use problem::Problem;
pub use wants::Wants;
