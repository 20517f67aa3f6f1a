//! Exports: every format contains the same rows as a search, the bytes are the same after kills and cut connections,
//! and an incomplete export never ends like a complete one.

#[path = "export/mod.rs"]
mod export;
