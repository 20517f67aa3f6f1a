//! Sketches: the number of different values, and the value at a quantile, in a few kilobytes.
//!
//! In: 64-bit hashes for [`HyperLogLog`], finite numbers for [`TDigest`]. Out: estimates, and the bytes in which a
//! sketch is stored. Owns: both formats. Never: does I/O, hashes a value, panics or allocates without a bound on
//! bytes from outside, removes a value (which requires rebuilding the sketch).
//!
//! ```text
//! rows ──insert──► sketch ──encode──► bytes (one per day, product, ...)
//!                                       └──merge_encoded──► one accumulator ──► estimate, quantile
//! ```
//! An accumulator is an ordinary sketch. It merges the bytes of thousands of others without decoding them first.
//! `measure.rs` prints the cost of each step.

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
