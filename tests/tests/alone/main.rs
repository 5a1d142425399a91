//! End to end, one at a time: load, time and memory. As root; `cargo xtask test` runs it.
// A test's name says what it shows; in a test, a panic is the report.
#![allow(missing_docs, clippy::unwrap_used)]

mod disruption;
mod first_call;
mod flood;
mod large_node;
mod transfer;
