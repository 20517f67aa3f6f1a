//! The HTTP state machine against itself and against the gate: `cargo install cargo-fuzz`, then
//! `cargo +nightly fuzz run http -- -max_len=65536` in the project's folder. `tests/fuzz/http.rs` has the check.

#![no_main]

#[path = "../../tests/fuzz/http.rs"]
mod http;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http::check(data));
