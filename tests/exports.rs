//! Exports: every format tells what a search tells; the bytes are the same after kills and cuts; nothing that is not
//! whole ends as if it were.

#[path = "export/mod.rs"]
mod export;
