//! Errors in a value or in a sketch's bytes.

/// None of these errors can be retried. A refused value leaves the sketch unchanged. Refused bytes do too, because
/// bytes are merged completely or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// The bytes end before the sketch does.
    #[error("the bytes of a sketch end too early")]
    Truncated,
    /// There are more bytes than the sketch has.
    #[error("a sketch is followed by {0} bytes that are not its own")]
    Trailing(usize),
    /// The bytes are not a sketch of this type, or they are one of a newer version.
    #[error("no sketch of this type begins with {0:#04x}")]
    Kind(u8),
    /// No value could have produced these bytes.
    #[error("the bytes of a sketch are invalid: {0}")]
    Damaged(&'static str),
    /// The value is NaN, infinite, or beyond ±2^960.
    #[error("a quantile is taken of finite numbers only, up to 2^960 either way")]
    NotFinite,
    /// The weights would exceed 2^53 in total.
    #[error("a digest counts up to 2^53 values")]
    TooMany,
}
