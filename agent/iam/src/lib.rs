//! AWS's policy language as VPC Lattice uses it: policies, requests, and decisions with their reasons. Pure: no file,
//! socket or clock is touched here.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod chain;
mod compiled;
mod condition;
mod explain;
mod finding;
mod glob;
pub mod json;
mod key;
mod language;
pub mod limits;
mod lookup;
mod message;
mod operator;
mod pattern;
mod policy;
mod principal;
mod reach;
mod read;
mod remedy;
mod render;
mod request;
mod tree;
mod value;

pub use chain::{Cause, Chain, Decision, Denial, Guard, Level, Network};
pub use compiled::{Compiled, Mode};
pub use condition::Condition;
pub use explain::{Explanation, Failed, LevelReport, NearMiss, State};
pub use finding::{Finding, Mark, Severity};
pub use key::Key;
pub use language::{Attachment, Effect, Version};
pub use lookup::{Lookup, NOTHING, Pairs, Query};
pub use operator::Operator;
pub use policy::{Actions, Policy, Read, Resources, Statement};
pub use principal::{Caller, CallerKind, Named, Principals};
pub use reach::{Called, Callers, Scope, Someone, World};
pub use remedy::{Change, Place};
pub use request::{Action, Http, Request, Scratch};
pub use tree::{Content, Name, Tree};
pub use value::seconds;
