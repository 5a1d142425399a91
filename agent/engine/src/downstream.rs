//! Connections from clients.
//!
//! - [`accept`]: accepts them; [`accepted`]: an accepted connection.
//! - [`tcp`]: connections that are served as TCP. Those of HTTP are in [`crate::http`].

pub(crate) mod accept;
pub(crate) mod accepted;
pub(crate) mod tcp;
