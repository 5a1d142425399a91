//! What happens to a request. The engine, `brattice explain` and `brattice policy test` call the same functions and
//! differ in what they trace. Pure: no I/O and no clock.
//!
//! ```text
//! wire::Snapshot ──compile──► Compiled
//!                                │
//! caller, host ─► Compiled::service ─► decide(call, listener, head, trace) ─► denied | refused | own response | forward
//!                                             │
//!                                             ├─ authorize: policies of role, service network, service
//!                                             └─ route: rule ─► fixed response, redirect, or target group
//! ```
//!
//! - [`Compiled`]: a snapshot, checked and indexed; [`CompileError`]: why a snapshot is refused.
//! - [`Head`]: what is asked of a request. An HTTP codec implements it over its own buffers.
//! - [`Call`], [`Identity`]: who calls what.
//! - [`decide`], and its two halves [`Authorizer::authorize`] and [`route`].
//! - [`Trace`]: observes each step of a decision; [`Untraced`] costs nothing.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod authorize;
mod call;
mod compiled;
mod decide;
mod error;
mod filters;
mod guard;
mod head;
mod identity;
mod policies;
mod request;
mod route;
mod rules;
mod sticky;
mod text;
mod trace;
mod verdict;

pub use authorize::{Authorizer, Connection};
pub use call::Call;
pub use compiled::{Caller, Compiled, Group, Listener, Service, Vpc};
pub use decide::decide;
pub use error::CompileError;
pub use filters::{Edits, Filters, Host};
pub use guard::Guard;
pub use head::Head;
pub use identity::{Identity, Principal, Tags, session_arn};
pub use policies::{Policies, Unreadable, read as read_policy};
pub use request::Request;
pub use route::{Decision, OwnResponse, Refused, Route, route, route_connection};
pub use rules::{Action, Fixed, Forward, ForwardIndex, Redirect, Rule, Shares, Stickiness};
pub use trace::{Asked, Trace, Untraced};
pub use verdict::{Passed, Refusal};
