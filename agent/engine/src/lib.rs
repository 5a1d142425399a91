//! The L7 engine of a node: an unprivileged process that parses everything workloads send.
//!
//! - [`process`]: [`run`], the whole process; threads, descriptors, start and end.
//! - [`sandbox`]: the privileges that it gives up before it reads anything.
//! - [`link`], [`orders`]: the connection to the agent, and how its orders reach the workers.
//! - [`heartbeat`]: heartbeats and load of each worker, for the kernel programs and the agent.
//! - [`state`], [`limits`], [`descriptors`], [`memory`]: what all threads share; [`admission`]: checks against the
//!   limits.
//! - [`worker`]: one thread per core, [`ticker`] its time, [`turn`] the share of it that a peer gets.
//! - [`downstream`]: connections of clients; [`transport`]: the streams that carry them, and those to targets.
//! - [`upstream`]: towards targets.
//! - [`http`]: the L7 path, from a client's socket to a target's; [`copy`]: bytes of connections that are not parsed.
//! - [`auth`]: authorization, by `brattice-decide`; [`review`]: ends what a new revision denies. [`aliases`]:
//!   identities of callers.
//! - [`local`], [`views`]: a worker's events and bounds, and the state that it sees.
//! - [`dns`]: the DNS server.
//! - [`events`]: what happens to connections and requests, and its subscribers: metrics, flows, past requests, access log.
//! - [`metrics`], [`queries`]: what is served to Prometheus, and to callers of the agent.

#[cfg(test)]
extern crate self as brattice_engine;

mod active_requests;
mod admission;
pub mod aliases;
pub mod auth;
mod clock;
pub mod copy;
mod descriptors;
pub mod dns;
pub mod downstream;
pub mod events;
pub mod heartbeat;
pub mod http;
pub mod limits;
pub mod link;
mod local;
mod memory;
pub mod metrics;
pub mod orders;
pub mod process;
pub mod queries;
mod random;
mod read_size;
mod review;
pub mod sandbox;
pub mod state;
pub mod tasks;
mod ticker;
pub mod transport;
mod turn;
pub mod upstream;
mod views;
mod waker;
pub mod worker;

pub use process::{Args, Error, run};
