//! What clients see: problem documents, the answers' shapes, the OpenAPI document and its pages.
//!
//! In: errors and numbers of the layers below. Out: bytes of bodies. Owns: the catalogue of problems.
//! Never: I/O, text of a payload.

pub mod docs;
pub mod openapi;
pub mod problem;
pub mod schema;

pub use problem::Problem;
