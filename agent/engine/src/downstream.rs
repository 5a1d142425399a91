//! Connections of clients.
//!
//! - [`tcp`]: those that are served as TCP.

pub mod tcp;
