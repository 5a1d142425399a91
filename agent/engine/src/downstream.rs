//! Connections from clients.
//!
//! - [`accept`]: the one way in; [`accepted`]: what comes out of it.
//! - [`tcp`]: connections that are served as TCP. Those of HTTP are in [`crate::http`].

pub(crate) mod accept;
pub(crate) mod accepted;
pub(crate) mod tcp;
