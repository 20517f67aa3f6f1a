//! What stands between this process and a core of its own.

pub mod preflight;
