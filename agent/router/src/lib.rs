//! Which rule of a listener a request meets, what the rule makes of it, and which target group gets it. Pure: no I/O, no
//! clock.
//!
//! - [`authority`]: the host that a request names.
//! - [`path`]: the one form in which paths are compared and sent on.
//! - [`Router`]: the rules of a listener, indexed so that a look-up costs the same with 10 rules as with 10,000.
//! - [`passed_over`]: why rules were not taken; [`shadowed`]: which ones never will be.
//! - [`rewrite`]: other paths, and the `location` of redirects.
//! - [`Shares`]: a weighted choice that is never further than one request from the exact share; [`sticky`]: one that
//!   keeps a caller where it is; [`SourceKey`]: what a caller is to it.
//! - [`fields`]: header fields that do not pass.
//! - [`hash`]: the hasher of the tables, for keys that only the operator writes.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

pub mod authority;
mod condition;
mod explain;
mod field;
pub mod fields;
pub mod hash;
mod head;
mod index;
pub mod limits;
mod order;
pub mod path;
mod pattern;
pub mod rewrite;
mod router;
mod scratch;
mod shadow;
mod shares;
mod sticky;
mod tree;
mod value;

pub use condition::Subject;
pub use explain::{Failed, PassedOver, mismatch, passed_over};
pub use head::RequestHead;
pub use pattern::{RegexError, check_regex};
pub use router::{CompileError, Count, Router};
pub use shadow::{Shadow, shadowed};
pub use shares::Shares;
pub use sticky::{SourceKey, sticky};
