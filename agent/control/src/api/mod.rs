//! The agent's API: one JSON request and one JSON answer on a Unix socket ([`server`]), and how the answers are put
//! together ([`views`]).

pub mod server;
pub mod views;
