//! Serves what `crate::events::metrics` has counted, for Prometheus.
//!
//! - [`text`]: the text format.
//! - [`page`]: everything that is served.
//! - [`server`]: who may connect, and how long.

pub(crate) mod page;
pub(crate) mod server;
pub(crate) mod text;
