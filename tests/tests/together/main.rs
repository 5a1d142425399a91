//! End to end, on network namespaces, side by side. As root; `cargo xtask test` runs it.
#![allow(missing_docs)] // a test's name says what it shows

mod calls;
mod canary;
mod cleanup;
mod command_line;
mod documents;
mod exposed;
mod http;
mod lab;
mod names;
mod sandbox;
mod untouched;
mod workloads;
