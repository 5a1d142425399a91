//! What the processes of Brattice say to each other.
//!
//! - [`snapshot`]: the immutable, indexed state that the agent gives the engine.
//! - [`engine`]: the messages between agent and engine, and how they are framed on the Unix socket.
//! - [`api`]: the requests and answers between the CLI and the agent.
//!
//! Types only: no I/O, so that every side can be tested without the other.

pub mod api;
pub mod engine;
pub mod snapshot;
