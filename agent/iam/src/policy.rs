//! A policy as read: what each statement says, and whether it is about a request.

use std::sync::Arc;

use crate::condition::Condition;
use crate::finding::{Finding, Mark};
use crate::key::Key;
use crate::language::{Effect, Version};
use crate::pattern::Pattern;
use crate::principal::Principals;
use crate::request::{Action, Facts, Work};

/// A policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The file it was read from.
    pub file: Arc<str>,
    /// Its version.
    pub version: Version,
    /// Its `Id`.
    pub id: Option<String>,
    /// Its statements.
    pub statements: Vec<Statement>,
}

/// The result of reading a policy.
#[derive(Clone, Debug)]
pub struct Read {
    /// The policy, unless there are errors.
    pub policy: Option<Policy>,
    /// Errors and warnings in order of place.
    pub findings: Vec<Finding>,
}

impl Policy {
    /// Where a statement is, for people: its line, and its number from 1 behind a dot where others begin on that line.
    pub fn place(&self, position: usize) -> String {
        let line = |position: usize| self.statements.get(position).map(|statement| statement.at.line);
        let own = line(position);
        let number = own.map_or(String::new(), |line| line.to_string());
        let beside = [position.checked_sub(1), position.checked_add(1)].into_iter().flatten();
        let crowded = own.is_some() && beside.map(line).any(|other| other == own);
        if crowded { format!("{number}.{}", position.saturating_add(1)) } else { number }
    }

    /// What names a statement: `<file>:<line>#<Sid>`, or without a Sid `<file>:<place>`.
    pub fn statement_id(&self, position: usize) -> String {
        match self.statements.get(position) {
            Some(Statement { sid: Some(sid), at, .. }) => format!("{}:{}#{sid}", self.file, at.line),
            _ => format!("{}:{}", self.file, self.place(position)),
        }
    }

    /// The condition keys that it asks about, in conditions and variables.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let conditions = self.statements.iter().flat_map(|statement| &statement.conditions);
        let resources = self.statements.iter().flat_map(|statement| &statement.resources.patterns);
        conditions.flat_map(Condition::keys).chain(resources.flat_map(Pattern::variables))
    }
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// `Sid`.
    pub sid: Option<String>,
    /// `Effect`.
    pub effect: Effect,
    /// `Principal` or `NotPrincipal`.
    pub principals: Principals,
    /// `Action` or `NotAction`.
    pub actions: Actions,
    /// `Resource` or `NotResource`.
    pub resources: Resources,
    /// `Condition`, line by line: all must hold.
    pub conditions: Vec<Condition>,
    /// Where it begins.
    pub at: Mark,
    /// Where its principals stand.
    pub(crate) principals_at: Vec<Mark>,
}

/// `Action` or `NotAction`.
#[derive(Clone, Debug, PartialEq)]
pub struct Actions {
    /// Whether it is `NotAction`.
    pub negated: bool,
    /// As written.
    pub written: Vec<Box<str>>,
    /// Those the statement is about, negation included.
    pub(crate) bits: u8,
}

impl Actions {
    /// Whether the statement is about the action.
    pub const fn include(&self, action: Action) -> bool {
        self.bits & action.bit() != 0
    }
}

/// `Resource` or `NotResource`.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// Whether it is `NotResource`.
    pub negated: bool,
    pub(crate) patterns: Vec<Pattern>,
    /// Where they stand.
    pub(crate) marks: Vec<Mark>,
}

impl Resources {
    pub(crate) fn include(&self, resource: &str, facts: &Facts<'_>, work: &mut Work) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(resource, facts, work)) != self.negated
    }
}

impl Statement {
    /// Whether it is about the request, action aside: the index of actions has seen to that.
    pub(crate) fn applies(&self, resource: &str, facts: &Facts<'_>, work: &mut Work) -> bool {
        self.principals.include(&facts.request.caller)
            && self.resources.include(resource, facts, work)
            && self.conditions.iter().all(|condition| condition.holds(self.effect, facts, work))
    }
}
