//! Any bytes of a target: no panic, and the naive reader's verdict however they are cut.
//! `cargo +nightly fuzz run responses fuzz/corpus/responses fuzz/seeds/responses` in `agent/http1`.

#![no_main]

#[path = "../../tests/compare/mod.rs"]
#[allow(dead_code)]
mod compare;
#[path = "../../tests/naive/mod.rs"]
mod naive;

libfuzzer_sys::fuzz_target!(|input: &[u8]| compare::response(input, input.len() % 4 == 3));
