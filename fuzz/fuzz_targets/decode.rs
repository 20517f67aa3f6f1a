//! The event decoder against serde_json: `cargo install cargo-fuzz`, then
//! `cargo +nightly fuzz run decode -- -max_len=4096` in the project's folder. `tests/fuzz/decode.rs` has the check.

#![no_main]

#[path = "../../tests/fuzz/decode.rs"]
mod decode;

libfuzzer_sys::fuzz_target!(|body: &[u8]| decode::check(body));
