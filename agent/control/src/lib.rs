//! The agent: reads the policies directory, decides, and brings kernel and engine to what the documents say.
//!
//! - [`attachments`], [`aliases`], [`since`]: which interface belongs to which workload, aliases, times of attachment.
//!   Pure.
//! - [`planner`]: from documents, interfaces and places to the wanted state of kernel and engine. Pure.
//! - [`node`]: the loop that sees what goes in.
//! - [`actuator`], [`reconcile`]: the thread that has plans made and carries them out, by the smallest change of the kernel's maps.
//! - `picture`: what is known, published by the actuator after each change, for all readers.
//! - [`host_changes`], `noticed`, `node_metrics`: changes on the host; what no event reports; the agent's own numbers.
//! - [`engine`], [`kernel`]: the engine's process, its sockets and the link to it.
//! - [`api`], [`switches`], [`drops`]: the API for operators, its switches, and sampled drops.
//! - [`state`]: what is kept on disk; `notify`: messages to the service manager.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

pub mod actuator;
pub mod aliases;
pub mod api;
pub mod attachments;
pub mod clock;
mod departed;
pub mod drops;
pub mod engine;
mod failing_targets;
#[cfg(test)]
mod fixtures;
pub mod host_changes;
pub mod kernel;
pub mod node;
mod node_metrics;
mod noticed;
mod notify;
mod picture;
pub mod planner;
pub mod ranges;
pub mod reconcile;
pub mod settings;
pub mod since;
pub mod state;
pub mod switches;
