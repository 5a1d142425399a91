//! The agent: reads the policies directory, decides, and brings kernel and engine to what the documents say.
//!
//! - [`attachments`], [`aliases`], [`since`]: which interface belongs to which workload, aliases, times of attachment.
//!   Pure.
//! - [`planner`]: from documents, interfaces and places to the wanted state of kernel and engine. Pure.
//! - [`actuator`], [`reconcile`]: brings the kernel there, by the smallest change of its maps.
//! - [`node`]: the loop that takes inputs in, plans and has the plan carried out.
//! - `picture`: what the loop knows, published after each turn, for all readers.
//! - [`engine`], [`kernel`]: the engine's process, its sockets and the link to it.
//! - [`api`], [`switches`], [`drops`]: the API for operators, its switches, and sampled drops.
//! - [`state`]: what is kept on disk; `notify`: messages to the service manager.

pub mod actuator;
pub mod aliases;
pub mod api;
pub mod attachments;
pub mod clock;
pub mod drops;
pub mod engine;
#[cfg(test)]
mod fixtures;
pub mod kernel;
pub mod node;
mod noticed;
mod notify;
mod picture;
pub mod planner;
pub mod reconcile;
pub mod settings;
pub mod since;
pub mod state;
pub mod switches;
