//! The same decision with everything that led to it. It looks at every statement of every policy, without the indexes,
//! and puts the levels together anew: that both ways agree is tested.

use std::fmt;

use crate::chain::{Cause, Chain, Decision, Denial, Guard, Level};
use crate::compiled::{Compiled, Mode};
use crate::condition::Test;
use crate::finding::{Mark, quote};
use crate::language::{Effect, Version};
use crate::limits::{MAX_NEAR_MISSES, MAX_SHOWN_VALUES};
use crate::policy::Statement;
use crate::principal::Principals;
use crate::remedy::{Change, Needs, changes};
use crate::request::{Facts, Request, Work};

/// A decision and what led to it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The decision, as [`Chain::decide`] makes it.
    pub decision: Decision,
    /// Identity, each network in turn, service; the first and last as seen through the network of the decision.
    pub levels: Vec<LevelReport>,
    /// Changes that would let the request pass; empty if it passes.
    pub remedy: Vec<Change>,
}

/// The result of a level for a request.
#[derive(Clone, Debug)]
pub struct LevelReport {
    /// Which.
    pub level: Level,
    /// Of a network: its place in the chain.
    pub network: Option<u32>,
    /// The level's state.
    pub state: State,
    /// Positions of the statements that deny.
    pub denying: Vec<u32>,
    /// Positions of the statements that allow.
    pub allowing: Vec<u32>,
    /// Statements that nearly allow, if none does.
    pub near: Vec<NearMiss>,
}

/// The state of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Open,
    /// A policy that decides.
    Enforced,
    /// A policy that only records.
    Audited,
    /// `AWS_IAM` without a policy.
    Missing,
}

/// An Allow statement that is nearly about the request.
#[derive(Clone, Debug)]
pub struct NearMiss {
    /// Position in the policy.
    pub position: u32,
    /// Where it begins.
    pub at: Mark,
    /// The same for people, see [`crate::Policy::place`].
    pub place: String,
    /// `Sid`.
    pub sid: Option<String>,
    /// Why not.
    pub failed: Vec<Failed>,
}

/// A part of a statement that the request does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Another caller.
    Principal {
        /// The principals that it names.
        expected: String,
        /// Who calls.
        actual: String,
    },
    /// Another action.
    Action {
        /// Those it is about.
        expected: String,
        /// What is done.
        actual: &'static str,
    },
    /// Another resource.
    Resource {
        /// Those it is about.
        expected: String,
        /// What is called.
        actual: String,
        /// Whether one of them has a variable that this version of the language takes for text.
        literal: bool,
    },
    /// A condition.
    Condition {
        /// The key.
        key: String,
        /// The operator.
        operator: String,
        /// Whether none of the policy's values may match.
        negated: bool,
        /// The policy's values, a few of them; of Null what it wants.
        expected: Vec<String>,
        /// The request's values, a few of them; none: it has no such key.
        actual: Vec<String>,
        /// Whether one of the policy's values has a variable that this version of the language takes for text.
        literal: bool,
        /// Where it was written.
        at: Mark,
    },
}

/// What to say of variables in an old policy.
const LITERAL: &str = " (`${` is literal text here: variables work since \"Version\": \"2012-10-17\")";

impl Failed {
    /// What to say beside the values: that variables were taken for text.
    pub const fn note(&self) -> &'static str {
        match self {
            Self::Resource { literal: true, .. } | Self::Condition { literal: true, .. } => LITERAL,
            _ => "",
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &[String]| values.iter().map(|value| quote(value)).collect::<Vec<_>>().join(", ");
        match self {
            Self::Principal { expected, actual } => write!(f, "it is about {expected}, and the caller is {actual}"),
            Self::Action { expected, actual } => write!(f, "it is about {expected}, and the call is a {actual}"),
            Self::Resource { expected, actual, .. } => {
                write!(f, "it is about {expected}, and the call is for {}{}", quote(actual), self.note())
            }
            Self::Condition { key, operator, negated, expected, actual, at, .. } => {
                let actual = if actual.is_empty() { "nothing".into() } else { list(actual) };
                let wants = match (operator.as_str(), *negated, expected.len()) {
                    ("Null", ..) => expected.join(" or "),
                    (_, true, _) => format!("none of {}", list(expected)),
                    (_, false, 1) => list(expected),
                    (_, false, _) => format!("one of {}", list(expected)),
                };
                let note = self.note();
                write!(f, "line {}: {operator} {key} wants {wants}, and the request has {actual}{note}", at.line)
            }
        }
    }
}

/// The result of one level through one network.
struct Heard {
    state: State,
    denying: Vec<u32>,
    allowing: Vec<u32>,
}

impl Heard {
    fn refusal(&self) -> Option<Cause> {
        match (self.state, self.denying.first()) {
            (State::Open, _) => None,
            (State::Missing, _) => Some(Cause::NoPolicy),
            (_, Some(position)) => Some(Cause::Statement(*position)),
            (_, None) if self.allowing.is_empty() => Some(Cause::Default),
            _ => None,
        }
    }

    fn allowed_by(&self) -> Option<u32> {
        if self.refusal().is_none() { self.allowing.first().copied() } else { None }
    }
}

impl Chain<'_> {
    /// Explains a decision. Allocates; not for every request.
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        let resource = request.resource();
        let heard: Vec<[Heard; 3]> = self
            .networks
            .iter()
            .map(|network| {
                let facts = Facts { request, network: Some(network.arn) };
                [&self.identity, &network.guard, &self.service].map(|guard| hear(guard, &resource, &facts))
            })
            .collect();
        let decision = decide(&heard);
        let through = decision.denial.map_or(decision.network, |denial| denial.network);
        Explanation {
            decision,
            levels: self.reports(request, &resource, &heard, through),
            remedy: self.remedy(request, &heard, &decision, through),
        }
    }

    fn reports(
        &self,
        request: &Request<'_>,
        resource: &str,
        heard: &[[Heard; 3]],
        through: Option<u32>,
    ) -> Vec<LevelReport> {
        let mut levels = Vec::with_capacity(heard.len() + 2);
        let report = |level: Level, number: usize, heard: &Heard| {
            let network = u32::try_from(number).ok();
            let facts = Facts { request, network: self.networks.get(number).map(|network| network.arn) };
            let near = match self.policy(level, network) {
                Some(compiled) if heard.allowing.is_empty() => near_misses(compiled, resource, &facts),
                _ => Vec::new(),
            };
            LevelReport {
                level,
                network: network.filter(|_| level == Level::Network),
                state: heard.state,
                denying: heard.denying.clone(),
                allowing: heard.allowing.clone(),
                near,
            }
        };
        let Some(number) = through.and_then(|number| usize::try_from(number).ok()) else { return levels };
        levels.push(report(Level::Identity, number, &heard[number][0]));
        for (number, heard) in heard.iter().enumerate() {
            levels.push(report(Level::Network, number, &heard[1]));
        }
        levels.push(report(Level::Service, number, &heard[number][2]));
        levels
    }

    fn remedy(
        &self,
        request: &Request<'_>,
        heard: &[[Heard; 3]],
        decision: &Decision,
        through: Option<u32>,
    ) -> Vec<Change> {
        if decision.is_allowed() {
            return Vec::new();
        }
        let Some(through) = through else {
            // What the other levels say where they do not ask for the network, whose ARN is not known yet.
            let facts = Facts { request, network: None };
            let alone =
                [&self.identity, &Guard::Open, &self.service].map(|guard| hear(guard, &request.resource(), &facts));
            let mut remedy = vec![Change::Associate];
            remedy.extend(changes(self, request, &needs(&[alone], 0)));
            return remedy;
        };
        changes(self, request, &needs(heard, through))
    }
}

/// The changes that the levels need so that the request passes through a network. Denials count through every network,
/// permissions only through this one.
fn needs(heard: &[[Heard; 3]], through: u32) -> Vec<Needs> {
    let mut needs: Vec<Needs> = Vec::new();
    for (number, heard) in (0u32..).zip(heard) {
        for (level, heard) in [Level::Identity, Level::Network, Level::Service].into_iter().zip(heard) {
            let allowed = number != through || !heard.allowing.is_empty();
            if heard.state == State::Missing && number != through {
                continue;
            }
            let network = Some(number).filter(|_| level == Level::Network);
            match needs.iter_mut().find(|need| need.level == level && need.network == network) {
                Some(need) => {
                    need.denying.extend(&heard.denying);
                    need.denying.sort_unstable();
                    need.denying.dedup();
                    need.allowed &= allowed;
                }
                None => needs.push(Needs { level, network, denying: heard.denying.clone(), allowed }),
            }
        }
    }
    needs
}

/// Puts together what the levels say through each network.
fn decide(heard: &[[Heard; 3]]) -> Decision {
    let levels = [Level::Identity, Level::Network, Level::Service];
    let mut refusals: Vec<Denial> = Vec::new();
    let mut audited = None;
    let mut allowed = None;
    for (number, of_network) in (0u32..).zip(heard) {
        let mut passes = true;
        for (level, heard) in levels.into_iter().zip(of_network) {
            let Some(cause) = heard.refusal() else { continue };
            let denial = Denial { level, network: Some(number), cause };
            if heard.state == State::Audited {
                audited = audited.or(Some(denial));
            } else {
                // Of a network only the first default denial stops the request; explicit ones count wherever they are.
                if passes || matches!(cause, Cause::Statement(_)) {
                    refusals.push(denial);
                }
                passes = false;
            }
        }
        if passes && allowed.is_none() {
            let by = |heard: &Heard| heard.allowed_by();
            allowed = Some((number, [by(&of_network[0]), by(&of_network[1]), by(&of_network[2])]));
        }
    }
    let explicit = refusals.iter().filter(|denial| matches!(denial.cause, Cause::Statement(_)));
    if let Some(denial) = explicit.min_by_key(|denial| (denial.level, denial.network)) {
        return Decision { denial: Some(*denial), network: None, statements: [None; 3], audited };
    }
    if let Some((network, statements)) = allowed {
        return Decision { denial: None, network: Some(network), statements, audited };
    }
    let furthest = refusals.into_iter().rev().max_by_key(|denial| denial.level);
    let denial = furthest.unwrap_or(Denial { level: Level::Network, network: None, cause: Cause::NoNetwork });
    Decision { denial: Some(denial), network: None, statements: [None; 3], audited }
}

fn hear(guard: &Guard<'_>, resource: &str, facts: &Facts<'_>) -> Heard {
    let compiled = match guard {
        Guard::Open => return Heard { state: State::Open, denying: Vec::new(), allowing: Vec::new() },
        Guard::Missing(_) => return Heard { state: State::Missing, denying: Vec::new(), allowing: Vec::new() },
        Guard::Policy(compiled) => compiled,
    };
    let state = if compiled.mode() == Mode::Audit { State::Audited } else { State::Enforced };
    let mut heard = Heard { state, denying: Vec::new(), allowing: Vec::new() };
    let mut work = Work::default();
    for (position, statement) in (0u32..).zip(&compiled.policy().statements) {
        let action = statement.actions.include(facts.request.action());
        if action && statement.applies(resource, facts, &mut work) {
            match statement.effect {
                Effect::Allow => heard.allowing.push(position),
                Effect::Deny => heard.denying.push(position),
            }
        }
    }
    heard
}

fn near_misses(compiled: &Compiled, resource: &str, facts: &Facts<'_>) -> Vec<NearMiss> {
    let policy = compiled.policy();
    let mut misses: Vec<NearMiss> = (0u32..)
        .zip(&policy.statements)
        .filter(|(_, statement)| statement.effect == Effect::Allow)
        .map(|(position, statement)| NearMiss {
            position,
            at: statement.at,
            place: policy.place(position as usize),
            sid: statement.sid.clone(),
            failed: failed(statement, policy.version, resource, facts),
        })
        .collect();
    // The fewer reasons, the nearer. Of those with many only the nearest are worth a look.
    misses.sort_by_key(|miss| miss.failed.len());
    let least = misses.first().map_or(0, |miss| miss.failed.len());
    misses.retain(|miss| miss.failed.len() <= least.max(NEAR));
    misses.truncate(MAX_NEAR_MISSES);
    misses
}

/// Reasons that a near miss may have.
const NEAR: usize = 2;

fn failed(statement: &Statement, version: Version, resource: &str, facts: &Facts<'_>) -> Vec<Failed> {
    let mut failed = Vec::new();
    let mut work = Work::default();
    let literal = |text: &str| version == Version::V2008 && text.contains("${");
    let caller = &facts.request.caller;
    if !statement.principals.include(caller) {
        failed.push(Failed::Principal { expected: whom(&statement.principals), actual: caller.display().into() });
    }
    let action = facts.request.action();
    if !statement.actions.include(action) {
        let actions = &statement.actions;
        let expected = some(actions.negated, actions.written.iter().map(|text| &**text));
        failed.push(Failed::Action { expected, actual: action.name() });
    }
    if !statement.resources.include(resource, facts, &mut work) {
        let texts = || statement.resources.patterns.iter().map(|pattern| &*pattern.text);
        failed.push(Failed::Resource {
            expected: some(statement.resources.negated, texts()),
            actual: resource.to_owned(),
            literal: texts().any(literal),
        });
    }
    for condition in &statement.conditions {
        if condition.holds(statement.effect, facts, &mut work) {
            continue;
        }
        let mut actual = Vec::new();
        facts.each(&condition.key, &mut |value| {
            if actual.len() < MAX_SHOWN_VALUES {
                let mut text = String::new();
                value.write(&condition.key, &mut text);
                actual.push(text);
            }
        });
        failed.push(Failed::Condition {
            key: condition.key.to_string(),
            operator: condition.operator.to_string(),
            negated: condition.operator.base().negated,
            expected: match &condition.test {
                Test::Null(missing) => {
                    missing.iter().map(|m| if *m { "no such key" } else { "the key" }.into()).collect()
                }
                _ => condition.values.iter().take(MAX_SHOWN_VALUES).map(ToString::to_string).collect(),
            },
            actual,
            literal: condition.values.iter().any(|text| literal(text)),
            at: condition.at,
        });
    }
    failed
}

/// A few texts, perhaps negated.
fn some<'t>(negated: bool, texts: impl ExactSizeIterator<Item = &'t str>) -> String {
    let more = texts.len().saturating_sub(MAX_SHOWN_VALUES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown: Vec<String> = texts.take(MAX_SHOWN_VALUES).map(quote).collect();
    format!("{}{}{more}", if negated { "all but " } else { "" }, shown.join(", "))
}

fn whom(principals: &Principals) -> String {
    let (word, names) = match principals {
        Principals::Holder => return "the role".into(),
        Principals::Listed(names) => ("", names),
        Principals::Except(names) => ("everyone but ", names),
    };
    let shown: Vec<&str> = names.iter().take(MAX_SHOWN_VALUES).map(|named| named.name().unwrap_or("*")).collect();
    let more = names.len().saturating_sub(MAX_SHOWN_VALUES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{word}{}{more}", shown.join(", "))
}
