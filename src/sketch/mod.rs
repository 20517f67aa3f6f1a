//! Sketches: how many different values there were, and which value lies at a quantile, in a few kilobytes.
//!
//! In: 64-bit hashes for [`HyperLogLog`], finite numbers for [`TDigest`]. Out: estimates, and the bytes a
//! sketch is kept as. Owns: both formats. Never: I/O, a hash function, a panic or an unbounded allocation
//! on bytes from outside, removal of a value (that wants the sketch made anew).
//!
//! ```text
//! rows ──insert──► sketch ──encode──► bytes (one per day, product, ...)
//!                                       └──merge_encoded──► one accumulator ──► estimate, quantile
//! ```
//! An accumulator is a sketch like any other; it takes the bytes of thousands without building them. What
//! each step costs is printed by `measure.rs`.

mod error;
mod hyperloglog;
#[cfg(test)]
mod measure;
#[cfg(test)]
mod random;
mod reader;
mod tdigest;

pub use error::SketchError;
pub use hyperloglog::HyperLogLog;
pub use tdigest::TDigest;
