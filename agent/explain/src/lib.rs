//! What happens to a request, and why. Pure: the model, its snapshot and what the node knows go in, an explanation comes
//! out.
//!
//! A request meets, in this order: its interface, the switches, the listener, the engine, the workload's limits, service
//! networks, the host's name, the path, policies, the rules, the targets. The first obstacle decides; the next ones are
//! shown as well. Policies, rules and targets are decided by `brattice-decide`, as in the engine, with a trace
//! (`trace.rs`).
//!
//! - [`World`], [`Facts`]: the input of a decision; [`Documents`] where there are only documents.
//! - [`explain`], [`route`]: the answers; [`render`]: as text for people.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod bypass;
mod caller;
mod case;
mod decision;
mod documents;
mod explain;
mod find;
mod judge;
mod networks;
mod notes;
mod past;
mod request;
mod roles;
mod rules;
mod scope;
mod text;
mod time;
mod trace;
mod world;

pub use documents::Documents;
pub use explain::{explain, route};
pub use find::Error;
pub use roles::{Roleless, put_first, roles_that_may};
pub use scope::compile;
pub use text::{render, render_route};
pub use world::{Attached, AttachedState, Departed, Dropped, Engine, EngineState, Facts, Refused, World};

/// Most rules that are shown as passed over; the last ones of more.
pub const MAX_PASSED: usize = 64;
/// Most service networks that are shown.
pub const MAX_NETWORKS: usize = 64;
/// Most targets of a group that are shown.
pub const MAX_TARGETS: usize = 16;
