//! The clients' view: endpoints, problem documents, the shapes of responses, the OpenAPI document.
//!
//! In: a path and a method; errors and numbers of the layers below. Out: an [`crate::http::Answer`]. Owns: the
//! catalogue of problems and the one map from every error to it. Never: I/O, text of a payload.

pub mod access;
mod callers;
pub mod commerce;
pub mod dashboard;
pub mod docs;
mod endpoints;
pub mod error;
mod etag;
pub mod event;
pub mod events;
pub mod exports;
pub mod health;
pub mod metrics;
pub mod openapi;
pub mod people;
pub mod prices;
pub mod problem;
pub mod reads;
pub mod schema;
pub mod stock;
pub mod uploads;
pub mod write;

pub use callers::{Caller, NotCalled, Pages, Preflight};
pub use dashboard::Wants;
pub use endpoints::{Asked, Body, Endpoint, Endpoints, Found, Lane, Logged, Methods, Operation};
pub use problem::Problem;
