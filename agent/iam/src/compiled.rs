//! A policy compiled for decisions: indexed by action, effect and principal, so that a decision looks only at the
//! statements that may be about the caller.

use std::collections::HashMap;
use std::sync::Arc;

use crate::key::Key;
use crate::language::Effect;
use crate::policy::Policy;
use crate::principal::Principals;
use crate::request::{Action, Facts, Work};

/// Whether a policy is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// It decides.
    #[default]
    Enforce,
    /// What it would refuse is recorded, and passes.
    Audit,
}

/// A policy ready for decisions. Made once per revision, shared by all threads.
#[derive(Clone, Debug)]
pub struct Compiled {
    policy: Policy,
    name: Arc<str>,
    mode: Mode,
    invoke: Statements,
    connect: Statements,
    reads_network: bool,
    per_connection: bool,
}

/// The statements about an action.
#[derive(Clone, Debug, Default)]
struct Statements {
    deny: Index,
    allow: Index,
}

/// Positions of statements in the policy, ascending, by the principals that they may match.
#[derive(Clone, Debug, Default)]
struct Index {
    /// About everyone, or everyone but some.
    everyone: Vec<u32>,
    /// By the name of a principal.
    named: HashMap<Box<str>, Vec<u32>>,
}

/// What a policy says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// This statement allows it, and none denies it.
    Allow(u32),
    /// This statement denies it.
    Deny(u32),
    /// No statement is about it.
    Nothing,
}

impl Compiled {
    /// Compiles a policy. `name` says whose it is (the ARN of service or network, the name of a role); it becomes part of
    /// the ids of default denials.
    pub fn new(policy: Policy, name: impl Into<Arc<str>>, mode: Mode) -> Self {
        let (mut invoke, mut connect) = (Statements::default(), Statements::default());
        for (position, statement) in (0u32..).zip(&policy.statements) {
            for (action, statements) in [(Action::Invoke, &mut invoke), (Action::Connect, &mut connect)] {
                if !statement.actions.include(action) {
                    continue;
                }
                let index = match statement.effect {
                    Effect::Allow => &mut statements.allow,
                    Effect::Deny => &mut statements.deny,
                };
                index.add(position, &statement.principals);
            }
        }
        let reads_network = policy.keys().any(|key| *key == Key::ServiceNetworkArn);
        let whole = policy.statements.iter().flat_map(|s| &s.resources.patterns).all(|pattern| &*pattern.text == "*");
        let changes = |key: &Key| key.is_http() || matches!(key, Key::CurrentTime | Key::EpochTime);
        let per_connection = whole && !policy.keys().any(changes);
        Self { policy, name: name.into(), mode, invoke, connect, reads_network, per_connection }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The name of its role, service network or service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is in force.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether what it says is the same for all requests of a caller on one connection: it asks neither for the time nor
    /// for anything that HTTP requests differ in.
    pub fn per_connection(&self) -> bool {
        self.per_connection
    }

    /// Whether what it says may differ between the service networks that a call could come through.
    pub(crate) fn reads_network(&self) -> bool {
        self.reads_network
    }

    pub(crate) fn says(&self, resource: &str, facts: &Facts<'_>, work: &mut Work) -> Says {
        let statements = match facts.request.action() {
            Action::Invoke => &self.invoke,
            Action::Connect => &self.connect,
        };
        if let Some(position) = self.first(&statements.deny, resource, facts, work) {
            return Says::Deny(position);
        }
        match self.first(&statements.allow, resource, facts, work) {
            Some(position) => Says::Allow(position),
            None => Says::Nothing,
        }
    }

    /// The first statement of an index that is about the request.
    fn first(&self, index: &Index, resource: &str, facts: &Facts<'_>, work: &mut Work) -> Option<u32> {
        let mut best = self.first_of(&index.everyone, u32::MAX, resource, facts, work);
        if !index.named.is_empty() {
            for name in facts.request.caller.names().into_iter().flatten() {
                if let Some(list) = index.named.get(name) {
                    let before = best.unwrap_or(u32::MAX);
                    best = self.first_of(list, before, resource, facts, work).or(best);
                }
            }
        }
        best
    }

    /// The first statement of a list that is about the request, if it comes before another.
    fn first_of(&self, list: &[u32], before: u32, resource: &str, facts: &Facts<'_>, work: &mut Work) -> Option<u32> {
        list.iter().copied().take_while(|position| (..before).contains(position)).find(|position| {
            usize::try_from(*position)
                .ok()
                .and_then(|position| self.policy.statements.get(position))
                .is_some_and(|statement| statement.applies(resource, facts, work))
        })
    }
}

impl Index {
    fn add(&mut self, position: u32, principals: &Principals) {
        let Principals::Listed(names) = principals else {
            self.everyone.push(position);
            return;
        };
        if names.iter().any(|named| named.name().is_none()) {
            self.everyone.push(position);
            return;
        }
        for name in names.iter().filter_map(|named| named.name()) {
            let list = self.named.entry(name.into()).or_default();
            if list.last() != Some(&position) {
                list.push(position);
            }
        }
    }
}
