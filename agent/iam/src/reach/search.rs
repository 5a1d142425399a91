//! Looks for a call that each statement is about, and for one that the policy lets pass.

use std::collections::{BTreeSet, HashSet};

use super::axes::Axes;
use super::callers::open_name;
use super::contradictions::shown;
use super::meet::{Meeting, cost, meet};
use super::names::wildcards;
use super::{Called, Scope, Someone, World};
use crate::condition::Condition;
use crate::finding::{Finding, Sink};
use crate::glob::ANY;
use crate::key::Key;
use crate::language::Effect;
use crate::lookup::Pairs;
use crate::policy::{Policy, Statement};
use crate::principal::{Caller, Named, Principals};
use crate::request::{Facts, Http, Request, Work};

/// What it costs to find out which requests there are, in decisions.
const AXES: u32 = 20;
/// Most requests of one caller to one port that are tried.
const MAX_REQUESTS: usize = 4_096;

/// What became of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Yes,
    /// There is none.
    No,
    /// Not all was looked at.
    Unknown,
}

pub(super) fn search(
    policy: &Policy,
    world: &World<'_>,
    scope: &Scope<'_>,
    budget: &mut u32,
    reported: &mut HashSet<usize>,
    sink: &mut Sink,
) {
    let Some(first) = policy.statements.first() else { return };
    let allows: Vec<&Statement> = policy.statements.iter().filter(|own| own.effect == Effect::Allow).collect();
    if allows.is_empty() {
        let message = "the policy has no Allow statement, so it lets nothing pass";
        sink.push(Finding::warning(first.at, message).help("add an Allow statement; a Deny only takes away"));
        return;
    }
    let sessions = named_sessions(policy);
    let made = made_up(scope, &sessions, budget);
    let callers = callers(policy, scope, &sessions, &made);
    if scope.called.is_empty() || callers.is_empty() {
        return;
    }
    let mut search = Search { world, scope, callers, budget, work: Work::default() };
    let denies: Vec<(usize, &Statement)> =
        policy.statements.iter().enumerate().filter(|(_, own)| own.effect == Effect::Deny).collect();
    // By which Deny statements all was refused that an Allow statement was found to be about.
    let mut refused_by = BTreeSet::new();
    let (mut passes, mut sure) = (false, true);
    for (position, statement) in policy.statements.iter().enumerate() {
        let allow = statement.effect == Effect::Allow;
        let mut met = false;
        let found = search.find(&[statement], statement, false, &mut |resource, facts, work| {
            if !may_apply(statement, resource, facts, work) {
                return false;
            }
            met = true;
            if !allow || passes {
                return true;
            }
            let refusing = denies.iter().find(|(_, deny)| applies(deny, resource, facts, work));
            passes = refusing.is_none();
            refused_by.extend(refusing.map(|(position, _)| *position));
            passes
        });
        sure &= found != Found::Unknown;
        if !met && found == Found::No && reported.insert(position) {
            let why = search.why_never(statement);
            sink.push(if policy.place(position).contains('.') { why.of_statement(position + 1) } else { why });
        }
    }
    // What one Deny statement leaves of an Allow statement shows with the values that the Deny statements ask about.
    for allow in &allows {
        if passes {
            break;
        }
        let all: Vec<&Statement> = std::iter::once(*allow).chain(denies.iter().map(|(_, deny)| *deny)).collect();
        let found = search.find(&all, allow, false, &mut |resource, facts, work| {
            passes = applies(allow, resource, facts, work)
                && !denies.iter().any(|(_, deny)| applies(deny, resource, facts, work));
            passes
        });
        sure &= found != Found::Unknown;
    }
    if !passes && sure {
        sink.push(nothing_passes(policy, first, &refused_by));
    }
}

fn nothing_passes(policy: &Policy, first: &Statement, refused_by: &BTreeSet<usize>) -> Finding {
    let refusing: Vec<usize> = refused_by.iter().copied().collect();
    match refusing[..] {
        [] => {
            let message = "no Allow statement is about a call there can be, so the policy lets nothing pass";
            Finding::warning(first.at, message).help("see what the other warnings say of its statements")
        }
        [only] => {
            let message = "the statement denies every call that the policy allows, so the policy lets nothing pass";
            let at = policy.statements.get(only).map_or(first.at, |statement| statement.at);
            let finding = Finding::warning(at, message).help("narrow it: a Deny overrules every Allow");
            if policy.place(only).contains('.') { finding.of_statement(only + 1) } else { finding }
        }
        _ => {
            let message = "the Deny statements refuse every call that the policy allows, so it lets nothing pass";
            Finding::warning(first.at, message).help("narrow them: a Deny overrules every Allow")
        }
    }
}

fn applies(statement: &Statement, resource: &str, facts: &Facts<'_>, work: &mut Work) -> bool {
    statement.actions.include(facts.request.action()) && statement.applies(resource, facts, work)
}

/// The same, but for what a Deny statement asks of caller and service without naming it: that all are as it wants them is
/// what it is for.
fn may_apply(statement: &Statement, resource: &str, facts: &Facts<'_>, work: &mut Work) -> bool {
    statement.actions.include(facts.request.action())
        && statement.principals.include(&facts.request.caller)
        && statement.resources.include(resource, facts, work)
        && statement
            .conditions
            .iter()
            .all(|condition| guards(statement, condition) || condition.holds(statement.effect, facts, work))
}

/// Whether a condition of a Deny statement is about caller or service and, as all others about its key, names no value that
/// they should have.
fn guards(statement: &Statement, condition: &Condition) -> bool {
    let same_key = |other: &&Condition| other.key == condition.key;
    statement.effect == Effect::Deny
        && !is_chosen(&condition.key)
        && statement.conditions.iter().filter(same_key).all(|other| other.operator.is_range())
}

/// Sessions and attested names that the policy names in full.
fn named_sessions(policy: &Policy) -> BTreeSet<&str> {
    let names = policy.statements.iter().flat_map(|statement| match &statement.principals {
        Principals::Listed(names) | Principals::Except(names) => &names[..],
        Principals::Holder => &[],
    });
    let sessions = names.filter_map(|named| if let Named::Session(arn) = named { Some(&**arn) } else { None });
    let conditions = policy.statements.iter().flat_map(|statement| &statement.conditions);
    let attested = conditions.filter(|condition| condition.key == Key::AttestedPrincipalArn);
    sessions.chain(attested.flat_map(|condition| condition.values.iter().map(|text| &**text))).collect()
}

/// Names that workloads without a document may have and that fit what the policy names, by the position of the caller.
fn made_up(scope: &Scope<'_>, sessions: &BTreeSet<&str>, budget: &mut u32) -> Vec<(usize, String)> {
    let unnamed = scope.callers.all.iter().enumerate().filter(|(_, someone)| someone.unnamed);
    let mut made = Vec::new();
    for (position, someone) in unnamed {
        let Some((beginning, end)) = open_name(someone.attested) else { continue };
        let own = [beginning.as_bytes(), &[ANY], end.as_bytes()].concat();
        for name in sessions {
            let name = wildcards(name);
            let Some(left) = budget.checked_sub(cost(&name, &own)) else { return made };
            *budget = left;
            if let Meeting::At(name) = meet(&name, &own) {
                made.push((position, name));
            }
        }
    }
    made
}

/// Callers that the policy may tell apart.
fn callers<'a>(
    policy: &Policy,
    scope: &Scope<'a>,
    sessions: &BTreeSet<&'a str>,
    made: &'a [(usize, String)],
) -> Vec<Someone<'a>> {
    let all = &scope.callers.all;
    let attested = policy.keys().any(|key| *key == Key::AttestedPrincipalArn);
    let mut positions: BTreeSet<usize> =
        if attested { (0..all.len()).collect() } else { scope.callers.kinds.iter().copied().collect() };
    positions.extend(sessions.iter().filter_map(|session| scope.callers.sessions.get(session).copied()));
    let mut callers: Vec<Someone<'a>> = positions.into_iter().map(|position| all[position]).collect();
    for (position, name) in made {
        let someone = &all[*position];
        let session = someone.caller.session.map(|_| name.as_str());
        callers.push(Someone { attested: name, caller: Caller { session, ..someone.caller }, ..*someone });
    }
    callers
}

/// Looks at a request; true: enough was seen.
type Visit<'v> = dyn FnMut(&str, &Facts<'_>, &mut Work) -> bool + 'v;

struct Search<'s, 'w> {
    world: &'s World<'w>,
    scope: &'s Scope<'w>,
    callers: Vec<Someone<'s>>,
    budget: &'s mut u32,
    work: Work,
}

impl Search<'_, '_> {
    /// Shows requests, made of what `statements` ask about, of callers that `of` may be about; `all`: also those of which
    /// caller and service show that it is not.
    fn find(&mut self, statements: &[&Statement], of: &Statement, all: bool, visit: &mut Visit<'_>) -> Found {
        let mut found = Found::No;
        let callers = std::mem::take(&mut self.callers);
        'all: for someone in callers.iter().filter(|someone| of.principals.include(&someone.caller)) {
            for called in self.scope.called {
                match self.requests(statements, of, all, someone, called, visit) {
                    Found::Yes => {
                        found = Found::Yes;
                        break 'all;
                    }
                    Found::Unknown => found = Found::Unknown,
                    Found::No => {}
                }
                if *self.budget == 0 {
                    found = Found::Unknown;
                    break 'all;
                }
            }
        }
        self.callers = callers;
        found
    }

    /// The requests of one caller to one port.
    fn requests(
        &mut self,
        statements: &[&Statement],
        of: &Statement,
        all: bool,
        someone: &Someone<'_>,
        called: &Called<'_>,
        visit: &mut Visit<'_>,
    ) -> Found {
        let caller = Caller { tags: someone.tags, ..someone.caller };
        let known = Request {
            caller,
            attested: Some(someone.attested),
            evidence: &[],
            service_arn: called.arn,
            service_account: called.account,
            service_tags: called.tags,
            port: called.port,
            source_vpc: Some(someone.vpc),
            source_vpc_account: someone.vpc_account,
            source_ip: None,
            secure: false,
            now: self.world.now,
            http: None,
        };
        let facts = Facts { request: &known, network: called.network };
        *self.budget = self.budget.saturating_sub(1);
        // What only caller and service decide is looked at first: for most there is nothing more to see.
        let given = |condition: &&Condition| !is_chosen(&condition.key) && !guards(of, condition);
        if !all && !of.conditions.iter().filter(given).all(|own| own.holds(of.effect, &facts, &mut self.work)) {
            return Found::No;
        }
        *self.budget = self.budget.saturating_sub(AXES);
        let axes = Axes::new(statements, someone, called.arn, self.world.now, &facts, &mut self.work);
        *self.budget = self.budget.saturating_sub(axes.cost);
        let sizes = axes.sizes();
        let count = axes.count();
        let mut found = if axes.exact && count <= MAX_REQUESTS { Found::No } else { Found::Unknown };
        for number in 0..count.min(MAX_REQUESTS) {
            if *self.budget == 0 {
                return Found::Unknown;
            }
            *self.budget -= 1;
            let chosen = digits(number, &sizes);
            let pairs = |axes: &[(String, Vec<Vec<String>>)], chosen: &[usize]| -> Vec<(String, String)> {
                let each = axes.iter().zip(chosen);
                each.flat_map(|((name, choices), chosen)| {
                    choices[*chosen].iter().map(|value| (name.clone(), value.clone()))
                })
                .collect()
            };
            let (own, rest) = chosen.split_at(5);
            let (fields, query) = rest.split_at(axes.fields.len());
            let (fields, query) = (pairs(&axes.fields, fields), pairs(&axes.query, query));
            let (fields, query) = (borrowed(&fields), borrowed(&query));
            let (fields, query) = (Pairs(&fields), Pairs(&query));
            let http =
                Http { method: &axes.methods[own[0]], path: &axes.paths[own[1]], headers: &fields, query: &query };
            let request = Request {
                http: Some(http),
                source_ip: Some(axes.addresses[own[2]]),
                now: axes.times[own[3]],
                evidence: axes.evidence[own[4]],
                ..known
            };
            let facts = Facts { request: &request, network: called.network };
            if visit(&request.resource(), &facts, &mut self.work) {
                found = Found::Yes;
                break;
            }
        }
        found
    }

    /// What makes that a statement never applies.
    fn why_never(&mut self, statement: &Statement) -> Finding {
        let warning = |at, message: &str| Finding::warning(at, message.to_owned());
        if !self.callers.iter().any(|someone| statement.principals.include(&someone.caller)) {
            return warning(statement.at, "the statement is about no caller there can be, so it never applies");
        }
        let mut resource = false;
        let mut holds = vec![false; statement.conditions.len()];
        let mut actions = false;
        self.find(&[statement], statement, true, &mut |name, facts, work| {
            actions |= statement.actions.include(facts.request.action());
            resource |= statement.resources.include(name, facts, work);
            for (holds, condition) in holds.iter_mut().zip(&statement.conditions) {
                *holds |= condition.holds(statement.effect, facts, work);
            }
            false
        });
        if !actions {
            return warning(
                statement.at,
                "only HTTP requests come here, and the statement is about none, so it never applies",
            )
            .help("HTTP requests are the action vpc-lattice-svcs:Invoke");
        }
        if !resource {
            return warning(statement.at, "no call is for the statement's resource, so it never applies");
        }
        let never = statement.conditions.iter().zip(&holds).find(|(_, holds)| !**holds);
        if let Some((condition, _)) = never {
            let message = format!("no call fulfils {}, so the statement never applies", shown(condition));
            return Finding::warning(condition.at, message);
        }
        let finding = warning(
            statement.at,
            "no call fulfils all that the statement asks for at once, so it never applies: its conditions contradict each other, or its caller or resource",
        );
        let keys: Vec<&Key> = statement.conditions.iter().map(|condition| &condition.key).collect();
        let twice = keys.iter().enumerate().find(|(index, key)| keys[..*index].contains(key));
        match twice {
            Some((_, key)) => finding.help(format!("look at `{key}`, about which it says several things")),
            None => finding.help("divide it into several statements where any of them should do"),
        }
    }
}

/// Whether a request chooses the key's value by itself.
fn is_chosen(key: &Key) -> bool {
    key.is_http() || matches!(key, Key::SourceIp | Key::CurrentTime | Key::EpochTime | Key::Evidence)
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The digits of a number, each with its own base.
fn digits(mut number: usize, bases: &[usize]) -> Vec<usize> {
    bases
        .iter()
        .map(|base| {
            let digit = number % base;
            number /= base;
            digit
        })
        .collect()
}
