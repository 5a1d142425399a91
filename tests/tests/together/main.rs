//! End to end, on network namespaces, side by side. As root; `cargo xtask test` runs it.
// A test's name says what it shows; in a test, a panic is the report.
#![allow(missing_docs, clippy::unwrap_used)]

mod accounts;
mod aged;
mod attacks;
mod calls;
mod canary;
mod cleanup;
mod coexistence;
mod command_line;
mod crash_loop;
mod documents;
mod enforcement;
mod explain;
mod exposed;
mod firewalls;
mod habits;
mod hosts;
mod http;
mod ipv6;
mod lab;
mod mended;
mod mtus;
mod names;
mod normalisation;
mod reach;
mod records;
mod revocation;
mod routing;
mod sandbox;
mod selection;
mod spellings;
mod support_bundle;
mod untouched;
mod upgrades;
mod workloads;
