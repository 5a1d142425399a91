//! Messages read and written, from tables.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod corpus;
mod cuts;
mod edits;
mod harness;
mod order;
mod outcomes;
mod views;
