//! Numbers for Prometheus, beside those of [`crate::stats`].
//!
//! - [`series`]: what is counted per service, listener, target group and caller's VPC, in cells that one thread writes.
//! - [`text`]: the text format.
//! - [`page`]: everything that is served.
//! - [`server`]: who may connect, and how long.

pub(crate) mod page;
pub mod series;
pub(crate) mod server;
pub(crate) mod text;
