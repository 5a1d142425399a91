//! The L7 engine of a node: an unprivileged process that parses everything workloads send.
//!
//! - [`process`]: [`run`], the whole process; threads, descriptors, start and end.
//! - [`sandbox`]: what it gives up before it reads anything.
//! - [`link`], [`fds`], [`orders`]: the connection to the agent, and how its orders reach the workers.
//! - [`heartbeat`]: what the kernel programs and the agent see of each worker.

pub mod fds;
pub mod heartbeat;
pub mod link;
pub mod orders;
pub mod sandbox;
