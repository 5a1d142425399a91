//! Observers of a decision. The engine's records and `brattice explain` implement the trait; spans of a trace can
//! do so later. No implementation can change what is decided.

use brattice_iam::{Chain, Decision, Request};
use brattice_router::RequestHead;
use brattice_wire::index::{NetworkIndex, TargetGroupIndex};

use crate::{
    rules::Rule,
    verdict::{Passed, Refusal},
};

/// The policies of a call, the call as they see it, and what they decided.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The policies.
    pub chain: &'a Chain<'a>,
    /// The chain's service networks.
    pub networks: &'a [NetworkIndex],
    /// The call.
    pub request: &'a Request<'a>,
    /// The decision.
    pub decision: &'a Decision,
}

/// Gets each step of a decision, in their order. Every method does nothing unless it is implemented, so a trace that
/// does not look costs nothing.
pub trait Trace {
    /// Whether [`Trace::policies`] is wanted: then policies are asked although the connection remembers their answer, or
    /// none of them could refuse.
    const POLICIES: bool = false;

    /// Policies were asked.
    fn policies(&mut self, _: &Asked<'_>) {}

    /// Policies refuse.
    fn denied(&mut self, _: &Refusal) {}

    /// Policies let it through.
    fn passed(&mut self, _: &Passed) {}

    /// The rule was found; `position` in the listener's list, none: the default action.
    fn rule<R: RequestHead + ?Sized>(&mut self, _request: &R, _position: Option<usize>, _rule: &Rule) {}

    /// The target group was found.
    fn group(&mut self, _: TargetGroupIndex) {}
}

/// No trace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untraced;

impl Trace for Untraced {}
