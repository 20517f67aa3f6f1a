//! What a digest promises.
