//! What can be wrong with a value or with the bytes of a sketch.

/// Trying again helps with none of them. A value that is refused leaves the sketch as it was, and so do
/// bytes: they are merged whole or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// The bytes end before the sketch does.
    #[error("the bytes of a sketch end too early")]
    Truncated,
    /// More bytes than the sketch has.
    #[error("a sketch is followed by {0} bytes that are not its own")]
    Trailing(usize),
    /// Not a sketch of this type, or one of a later version.
    #[error("no sketch of this type begins with {0:#04x}")]
    Kind(u8),
    /// No value could have made these bytes.
    #[error("the bytes of a sketch are invalid: {0}")]
    Damaged(&'static str),
    /// NaN, infinite, or beyond ±2^960.
    #[error("a quantile is taken of finite numbers only, up to 2^960 either way")]
    NotFinite,
    /// The weights would add up to more than 2^53.
    #[error("a digest counts up to 2^53 values")]
    TooMany,
}
