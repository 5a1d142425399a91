//! The protocols between the processes of Brattice.
//!
//! - [`snapshot`]: the immutable, indexed state that the agent gives the engine; [`index`]: positions in its
//!   lists; [`numbers`]: what is numbered for longer.
//! - [`rules`], [`auth`]: parts of it: rules of listeners; networks, roles and policies.
//! - [`engine`]: the messages between agent and engine, and how they are framed on the Unix socket.
//! - [`records`]: what the engine reports of its work, to callers that the agent hands over.
//! - [`api`]: the requests and answers between the CLI and the agent; [`explain`] of them what happens to a request.
//!
//! - [`rarely`]: how often both may log what callers cause. [`words`]: how both name and count things for people.
//!
//! Types only, but for these: no I/O, so that every side can be tested without the other.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

pub mod api;
pub mod auth;
pub mod engine;
pub mod explain;
pub mod index;
mod named;
pub mod numbers;
mod origin;
pub mod rarely;
pub mod records;
pub mod rules;
pub mod snapshot;
pub mod words;
