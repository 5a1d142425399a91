//! Who may call what: identity, enforcement, revocation.
//!
//! - [`guards`]: networks, roles and policies of a state, compiled.
//! - [`identity`]: who a workload is, from its attachment and never from what it sends.
//! - [`authorize`]: the decision about a request, and what a connection remembers of it.
//! - [`facts`]: what policies may ask about a request, also after it has gone.
//! - [`review`]: what is in flight, when a state comes in force.
//! - [`said`]: what targets are told of caller and way.

mod authorize;
mod facts;
mod guards;
mod identity;
mod review;
mod said;

pub use authorize::{Authorizer, Call, Passed, Refusal, Session};
pub(crate) use facts::Facts;
pub use facts::Fields;
pub use guards::{GuardError, Guards, Parties};
pub(crate) use review::{Latest, Origin, Reviews, Revoked, begin as review};
pub(crate) use said::Said;
