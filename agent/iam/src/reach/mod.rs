//! Whether a statement of a policy can ever match a call. All possible callers and services are known, so a name
//! that is none of theirs is probably a mistake: such an Allow permits nothing, such a Deny refuses nothing. These
//! findings are warnings, as the named thing may be made later.

mod axes;
mod callers;
mod contradictions;
mod meet;
mod names;
mod places;
mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use callers::Callers;

use crate::finding::{Finding, Sink};
use crate::policy::Policy;
use crate::principal::Caller;

/// Names with values, as documents have them.
type Tags = BTreeMap<String, String>;

/// A caller there can be.
#[derive(Clone, Copy, Debug)]
pub struct Someone<'a> {
    /// As what it calls. Its tags are those of `tags`.
    pub caller: Caller<'a>,
    /// Its tags.
    pub tags: &'a Tags,
    /// The attested identity.
    pub attested: &'a str,
    /// Whether its name is one of many: of workloads without a document only the end of it is known, from the `@`.
    pub unnamed: bool,
    /// The evidence that its identity may have: any of these sets.
    pub evidence: &'a [&'a [&'a str]],
    /// Id of its VPC.
    pub vpc: &'a str,
    /// The VPC's name, for messages.
    pub vpc_name: &'a str,
    /// The VPC's account.
    pub vpc_account: Option<&'a str>,
    /// The addresses it may have, as blocks.
    pub addresses: &'a [(IpAddr, u8)],
}

/// A port of a service that can be called.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// The service's ARN.
    pub arn: &'a str,
    /// Its name, for messages.
    pub name: &'a str,
    /// 12 digits.
    pub account: &'a str,
    /// The service's tags.
    pub tags: &'a Tags,
    /// The port.
    pub port: u16,
    /// ARN of the service network that the call comes through; none: the service is in none so far.
    pub network: Option<&'a str>,
}

/// What is the same for all policies of a node.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// Partition of its ARNs.
    pub partition: &'a str,
    /// Region of its ARNs.
    pub region: &'a str,
    /// Ids of the accounts there are.
    pub accounts: &'a BTreeSet<&'a str>,
    /// ARNs of the roles there are.
    pub roles: &'a BTreeSet<&'a str>,
    /// Whether no policy sees a header field of this name (in lower case).
    pub hidden: fn(&str) -> bool,
    /// Seconds since 1970.
    pub now: i64,
}

/// What a policy sees of it.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Everyone whose calls come under it.
    pub callers: &'a Callers<'a>,
    /// What is called under it.
    pub called: &'a [Called<'a>],
    /// Whether its owner may be told the names of callers that are nearly those it wrote.
    pub hints: bool,
}

/// Decisions that one policy's search may take.
const MAX_DECISIONS: u32 = 20_000;

impl Policy {
    /// What in the policy is about no call there can be. `budget` is how many decisions the search for calls may take; it
    /// is taken down, and nothing is said of what was not looked at.
    pub fn unreachable(&self, world: &World<'_>, scope: &Scope<'_>, budget: &mut u32) -> Vec<Finding> {
        let mut sink = Sink::default();
        let mut own = MAX_DECISIONS.min(*budget);
        let before = own;
        let ports: Vec<String> = scope.called.iter().map(|called| called.port.to_string()).collect();
        let called = names::called(scope, &ports);
        let contradictory = contradictions::look(self, &mut sink);
        let mut reported = names::Names::new(self, world, scope, &called, &mut own, &mut sink).look(&contradictory);
        search::search(self, world, scope, &mut own, &mut reported, &mut sink);
        *budget -= before - own;
        sink.finish()
    }
}
