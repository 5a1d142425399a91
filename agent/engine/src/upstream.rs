//! Towards targets: which one is next, how it is connected to, and which connections are kept.
//!
//! - [`balance`]: whose turn it is.
//! - [`connector`]: connections to them.
//! - [`dial`]: sockets with an engine source.
//! - [`failing`]: targets that cannot be connected to.
//! - [`pool`]: kept connections.

pub(crate) mod balance;
pub(crate) mod connector;
pub mod dial;
pub mod failing;
pub(crate) mod pool;
