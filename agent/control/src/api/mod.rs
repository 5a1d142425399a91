//! The agent's API: one JSON request and one JSON answer on a Unix socket ([`server`]), and how the answers are put
//! together ([`views`], [`answers`] of what happens to a request) from the published picture (`calls`). [`socket`] makes the socket.

pub(crate) mod answers;
pub(crate) mod calls;
pub(crate) mod problems;
pub mod server;
pub mod socket;
pub mod thread;
pub(crate) mod unserved;
pub mod views;
