//! The L7 engine of a node: an unprivileged process that parses everything workloads send.
//!
//! - [`process`]: [`run`], the whole process; threads, descriptors, start and end.
//! - [`sandbox`]: what it gives up before it reads anything.
//! - [`link`], [`fds`], [`orders`]: the connection to the agent, and how its orders reach the workers.
//! - [`heartbeat`]: what the kernel programs and the agent see of each worker.
//! - [`state`], [`limits`], [`stats`]: what all threads share.
//! - [`worker`]: one thread per core; [`relay`] is its path for bypassed connections.
//! - [`dns`]: the DNS server.

pub mod dial;
pub mod dns;
pub mod fds;
pub mod heartbeat;
pub mod limits;
pub mod link;
pub mod orders;
pub mod process;
pub mod relay;
pub mod sandbox;
pub mod state;
pub mod stats;
pub mod tasks;
pub mod worker;

pub use process::{Args, Error, run};
