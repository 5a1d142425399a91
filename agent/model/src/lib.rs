//! The meaning of the policies directory: documents → model → plan. Pure: no file, socket or clock is touched here.
//!
//! 1. [`parse`] reads the documents of one owner and finds every error in them, with file, line and column.
//! 2. [`link()`] puts the documents of all owners together: references, grants, associations, VIPs. It never fails as a
//!    whole: what is wrong is reported per owner and is not in force.
//! 3. [`plan`] joins the model with the aliases that live workloads have and gives what engine and kernel need.
//!
//! [`diff()`] compares two models, [`removed_services`] guards against losing most of them by accident.

// Outside of tests: a number that is cut in silence is a bug that nothing reports (`cargo xtask lint saturations` has the rest).
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation))]

mod at;
mod describe;
mod diagnostic;
mod diff;
mod documents;
mod ids;
pub mod limits;
mod link;
mod model;
mod names;
mod nearest;
mod plan;
mod roles;
mod vips;
pub mod yaml;

pub use diagnostic::{Diagnostic, Located, Position, Severity};
pub use diff::{Change, FieldChange, What, diff};
pub use documents::*;
pub use ids::{IdKind, Identifier, OPERATOR_ACCOUNT_ID, arn, child_arn, derive};
pub use link::{Linked, Settings, link};
pub use model::*;
pub use names::{Glob, domain};
pub use nearest::nearest;
pub use plan::{Binding, ListenerTarget, Numbers, Plan, plan, session_arn, workload_arn};
pub use roles::{NoRole, Roles};
pub use vips::VipState;
