//! End to end, on network namespaces, side by side. As root; `cargo xtask test` runs it.
#![allow(missing_docs)] // a test's name says what it shows

mod lab;
