//! The loader against the real kernel, each test in a network namespace and pin directory of its own. Needs root.
// In a test, a panic is the report; clippy takes only functions marked #[test] for tests.
#![allow(clippy::unwrap_used)]

mod arp;
mod cleanup;
mod clsact;
mod coexistence;
mod first_packets;
mod foreign;
mod guard;
mod interfaces;
mod ipv6;
mod maps;
mod pins;
mod places;
mod preflight;
mod rules;
mod sockets;
mod start;
mod testbed;
