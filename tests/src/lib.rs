//! What the tests of Brattice share: a lab of network namespaces, servers, clients.
//!
//! A panic here is the report of a test, so this crate unwraps and asserts freely.
#![allow(clippy::unwrap_used)]

pub mod client;
pub mod foreign;
pub mod lab;
pub mod packets;
pub mod raw;
pub mod server;
