//! The agent: reads the policies directory, decides, and brings kernel and engine to what the documents say.
//!
//! - [`attachments`], [`aliases`], [`since`]: which interfaces are whose workloads, who has which alias, since when. Pure.
//! - [`reconcile`], [`node`]: the smallest change of the kernel's maps, and the loop that owns everything.
//! - [`engine`], [`kernel`]: the engine's process, its sockets and the link to it.
//! - [`api`], [`switches`], [`drops`]: what operators ask and switch.
//! - [`state`]: what survives the agent; `notify`: what the service manager is told.

pub mod aliases;
pub mod api;
pub mod attachments;
pub mod clock;
pub mod drops;
pub mod engine;
pub mod kernel;
pub mod node;
mod notify;
pub mod reconcile;
pub mod settings;
pub mod since;
pub mod state;
pub mod switches;
