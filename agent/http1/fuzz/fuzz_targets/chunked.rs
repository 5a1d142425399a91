//! Any bytes of a chunked body: no panic, and the naive reader's verdict however they are cut.
//! `cargo +nightly fuzz run chunked fuzz/corpus/chunked fuzz/seeds/chunked` in `agent/http1`.

#![no_main]

#[path = "../../tests/compare/mod.rs"]
#[allow(dead_code)]
mod compare;
#[path = "../../tests/naive/mod.rs"]
mod naive;

libfuzzer_sys::fuzz_target!(|input: &[u8]| compare::chunked(input));
