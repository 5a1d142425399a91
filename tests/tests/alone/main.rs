//! End to end, one at a time: load, time and memory. As root; `cargo xtask test` runs it.
#![allow(missing_docs)] // a test's name says what it shows

mod disruption;
mod flood;
mod transfer;
