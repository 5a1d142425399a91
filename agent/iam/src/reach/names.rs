//! Findings about names that no caller and no service has, and conditions that hold for every call or for none, each by
//! itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use super::meet::{Meeting, cost, meet};
use super::places::Places;
use super::{Called, Scope, World};
use crate::condition::{Condition, Test};
use crate::finding::{Finding, Mark, Sink, nearest, quote};
use crate::glob::{self, ANY, ONE};
use crate::key::Key;
use crate::language::{Effect, Version};
use crate::lookup::NOTHING;
use crate::operator::{Comparison, Family};
use crate::pattern::Pattern;
use crate::policy::{Policy, Statement};
use crate::principal::{Caller, CallerKind, Named, Principals, is_account};
use crate::request::{Action, Facts, Request, Value, Work};
use crate::value;

/// RFC 9110, section 9, and RFC 5789: written in capitals, and compared with case.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// What keys hold.
type Values<'n> = BTreeMap<Key, BTreeSet<&'n str>>;

/// What the keys about services hold; `ports` are those of [`Scope::called`] as texts.
pub(super) fn called<'n>(scope: &'n Scope<'_>, ports: &'n [String]) -> Values<'n> {
    let mut values = Values::new();
    for (Called { arn, account, tags, network, .. }, port) in scope.called.iter().zip(ports) {
        let mut add = |key: Key, value: &'n str| {
            values.entry(key).or_default().insert(value);
        };
        add(Key::ServiceArn, arn);
        if let Some(network) = network {
            add(Key::ServiceNetworkArn, network);
        }
        add(Key::ResourceAccount, account);
        add(Key::Port, port);
        for (tag, value) in *tags {
            add(Key::ResourceTag(tag.to_ascii_lowercase().into()), value);
        }
    }
    values
}

/// What comparing two names costs, in decisions.
const NEAREST: u32 = 10;

pub(super) struct Names<'n, 'w> {
    policy: &'n Policy,
    world: &'n World<'w>,
    scope: &'n Scope<'w>,
    sink: &'n mut Sink,
    /// See [`Policy::unreachable`].
    budget: &'n mut u32,
    places: Places,
    /// What the keys about services hold.
    called: &'n Values<'n>,
    /// Positions of statements with a finding.
    reported: HashSet<usize>,
}

impl<'n, 'w> Names<'n, 'w> {
    pub(super) fn new(
        policy: &'n Policy,
        world: &'n World<'w>,
        scope: &'n Scope<'w>,
        called: &'n Values<'n>,
        budget: &'n mut u32,
        sink: &'n mut Sink,
    ) -> Self {
        Self { policy, world, scope, called, budget, sink, places: Places::default(), reported: HashSet::new() }
    }

    /// Looks at all statements; returns those with findings. What is `contradictory` was reported already, and hides what
    /// else is said about its key.
    pub(super) fn look(mut self, contradictory: &BTreeMap<usize, BTreeSet<&Key>>) -> HashSet<usize> {
        for (position, statement) in self.policy.statements.iter().enumerate() {
            let before = self.places.names();
            let mut found = Vec::new();
            self.principals(statement, &mut found);
            self.resources(statement, &mut found);
            let against = contradictory.get(&position);
            let is_reported = |key: &Key| against.is_some_and(|keys| keys.contains(key));
            for condition in statement.conditions.iter().filter(|condition| !is_reported(&condition.key)) {
                self.condition(statement, condition, &mut found);
            }
            if against.is_some() || !found.is_empty() || self.places.names() > before {
                self.reported.insert(position);
            }
            let crowded = self.policy.place(position).contains('.');
            for finding in found {
                self.sink.push(if crowded { finding.of_statement(position + 1) } else { finding });
            }
        }
        if let Some(finding) = std::mem::take(&mut self.places).finding(self.world) {
            self.sink.push(finding);
        }
        self.reported
    }

    fn principals(&mut self, statement: &Statement, found: &mut Vec<Finding>) {
        let (names, listed) = match &statement.principals {
            Principals::Holder => return,
            Principals::Listed(names) if names.contains(&Named::Everyone) => return,
            Principals::Listed(names) => (names, true),
            Principals::Except(names) => (names, false),
        };
        for (named, at) in names.iter().zip(&statement.principals_at) {
            let name = named.name().unwrap_or_default();
            let elsewhere = match named {
                Named::Account(id) => self.places.is_no_account(id, *at, self.world),
                _ => self.places.is_elsewhere(name, *at, self.world),
            };
            if elsewhere {
                continue;
            }
            let (callers, roles) = (self.scope.callers, self.members(&Key::PrincipalArn));
            let warning = |message: String| Finding::warning(*at, message);
            let finding = match named {
                Named::Everyone => continue,
                Named::Role(arn) if roles.is_some_and(|own| own.contains(&**arn)) => continue,
                Named::Role(arn) if self.world.roles.contains(&**arn) => {
                    if roles.is_none() {
                        continue;
                    }
                    warning(format!("no workload that can call here has the role {}", quote(arn)))
                        .help("its workloads are in VPCs that share no service network with what is called, or there are none")
                }
                Named::Role(arn) => {
                    let near = self.near(arn, roles.into_iter().flatten().copied());
                    warning(format!("there is no role {}, so no caller has it", quote(arn))).nearest(near.as_deref())
                }
                // NotPrincipal wants the account beside its role.
                Named::Account(_) if !listed => continue,
                Named::Account(id) if self.members(&Key::PrincipalAccount).is_none_or(|own| own.contains(&**id)) => {
                    continue;
                }
                Named::Account(id) => {
                    let help = "an account stands for its roles: write a Role of it, or name who calls";
                    warning(format!("no caller is of the account {}: it has no role that is in use", quote(id)))
                        .help(help)
                }
                Named::Session(_) if callers.all.is_empty() => continue,
                Named::Session(arn) if callers.sessions.contains_key(&**arn) || callers.may_be(arn) => continue,
                Named::Session(arn) => {
                    let known = callers.sessions.keys().copied();
                    let help = "a session is named after its workload: `<role>/<name of the Workload>`";
                    let finding = warning(format!("no workload calls as the session {}", quote(arn))).help(help);
                    finding.nearest(self.near(arn, sorted(known).into_iter()).as_deref())
                }
                Named::User(_) | Named::FederatedUser(_) | Named::Service(_) | Named::Federated(_) => {
                    warning(format!("no caller is {}: workloads call with a role, or as anonymous", quote(name)))
                        .help("name a role, as in arn:aws:iam::<account>:role/<name>")
                }
            };
            found.push(finding);
        }
    }

    fn resources(&mut self, statement: &Statement, found: &mut Vec<Finding>) {
        if self.scope.called.is_empty() || !statement.actions.include(Action::Invoke) {
            return;
        }
        for (pattern, at) in statement.resources.patterns.iter().zip(&statement.resources.marks) {
            self.useless_variables(pattern, *at, found);
            let glob = pattern.outline();
            match self.fits_called(&glob, &[b'/', ANY]) {
                Some(false) => {}
                Some(true) => continue,
                None => return,
            }
            if self.places.is_elsewhere(&pattern.text, *at, self.world) {
                continue;
            }
            let warning = |message: String| Finding::warning(*at, message);
            let text = quote(&pattern.text);
            if self.fits_called(&glob, b"") == Some(true) {
                let message = format!("{text} is no request: the path stands behind the service's ARN");
                found.push(warning(message).help(format!("write `{}/*` for all paths", pattern.text)));
                continue;
            }
            if self.fits_called(&glob, &[ANY]) == Some(true) {
                let message = format!("{text} is no request: a path begins with `/`");
                found.push(warning(message).help("write a `/` behind the service's id"));
                continue;
            }
            let message = format!("{text} is no service that is called under this policy");
            let service = pattern.text.split('/').take(2).collect::<Vec<_>>().join("/");
            let finding = match self.scope.called {
                [only, rest @ ..] if rest.iter().all(|other| other.arn == only.arn) => {
                    warning(message).help(format!("the policy is for {} alone, {}", only.name, quote(only.arn)))
                }
                _ => {
                    let arns = self.members(&Key::ServiceArn).into_iter().flatten().copied();
                    let near = self.near(&service, arns);
                    warning(message).nearest(near.as_deref())
                }
            };
            found.push(finding);
        }
    }

    /// Whether a resource's pattern fits the ARN of something called with `rest` behind it; none: it is not known, as the
    /// budget is used up.
    fn fits_called(&mut self, glob: &[u8], rest: &[u8]) -> Option<bool> {
        if !self.spend(1 + self.scope.called.len() / 64) {
            return None;
        }
        for called in self.scope.called.iter().filter(|called| begins_alike(glob, called.arn)) {
            let text = [called.arn.as_bytes(), rest].concat();
            if !self.spend(cost(glob, &text) as usize) {
                return None;
            }
            if meet(glob, &text) != Meeting::Never {
                return Some(true);
            }
        }
        Some(false)
    }

    /// Variables of keys that no caller has, where nothing stands in for them.
    fn useless_variables(&self, pattern: &Pattern, at: Mark, found: &mut Vec<Finding>) {
        for key in pattern.needed() {
            if self.members(key).is_some_and(BTreeSet::is_empty) {
                let message =
                    format!("no call has a value for the policy variable `{key}`, so the text matches nothing");
                found.push(
                    Finding::warning(at, message).help("use another key, or give it a default: ${key, 'default'}"),
                );
            }
        }
    }

    fn condition(&mut self, statement: &Statement, condition: &Condition, found: &mut Vec<Finding>) {
        let (key, base) = (&condition.key, condition.operator.base());
        let at = |index: usize| condition.marks.get(index).copied().unwrap_or(condition.at);
        match &condition.test {
            Test::Truths(truths) if truths.contains(&true) && truths.contains(&false) => {
                let message = format!("`true` and `false` together say nothing about `{key}`");
                found.push(
                    Finding::warning(condition.at, message)
                        .help("keep one of them, or use Null to ask whether it is there"),
                );
                return;
            }
            Test::Null(missing) if missing.contains(&true) && missing.contains(&false) => {
                let message = format!("`true` and `false` together say nothing about whether `{key}` is there");
                found.push(Finding::warning(condition.at, message).help("keep one of them"));
                return;
            }
            Test::Strings(_, patterns) | Test::Lowered(_, patterns) => {
                patterns.iter().for_each(|pattern| self.useless_variables(pattern, condition.at, found));
            }
            Test::Arns(arns) => {
                arns.iter().flatten().for_each(|pattern| self.useless_variables(pattern, condition.at, found));
            }
            _ => {}
        }
        if base.family == Family::Null {
            return;
        }
        if *key == Key::SecureTransport {
            found.extend(secure(statement, condition));
            return;
        }
        if *key == Key::UserId {
            let message = "no caller has an `aws:userid`: workloads call as roles, by what they are attached to";
            let help = "use aws:PrincipalArn, or brattice:AttestedPrincipalArn for a single workload";
            found.push(Finding::warning(condition.at, message).help(help));
            return;
        }
        let count = found.len();
        for (index, text) in condition.values.iter().enumerate() {
            let finding = match key {
                Key::RequestMethod => method(condition, text),
                Key::RequestPath => path(text, base.comparison),
                Key::RequestHeader(_) => blank(key, text),
                Key::SourceIp => self.addresses(text),
                Key::CurrentTime | Key::EpochTime => self.past(condition, text),
                _ => self.value(statement.effect, condition, text, at(index)),
            };
            found.extend(finding.map(|finding| Finding { at: at(index), ..finding }));
        }
        if let Key::RequestHeader(name) = key
            && found.len() == count
            && (self.world.hidden)(name)
        {
            let message = format!("no policy sees the field `{name}`: it goes before policies are asked");
            found.push(
                Finding::warning(condition.at, message)
                    .help("it belongs to one connection, or only Brattice may write it"),
            );
        }
    }

    /// A value of a key whose values are known, if none of them is it.
    fn value(&mut self, effect: Effect, condition: &Condition, text: &str, at: Mark) -> Option<Finding> {
        let key = &condition.key;
        let members = self.members(key)?;
        if self.policy.version == Version::V2012 && text.contains("${") {
            return None;
        }
        let base = condition.operator.base();
        // What is beyond all that there is today may be what a Deny statement is for.
        if effect == Effect::Deny && condition.operator.is_range() && !base.negated {
            return None;
        }
        let plain = !text.contains(['*', '?']) && matches!(base.comparison, Comparison::Equal | Comparison::Like);
        if plain && members.contains(text) {
            return None;
        }
        let test = crate::read::alone(condition.operator, text, self.policy.version)?;
        if !self.spend(members.len() / 4) || members.iter().any(|member| fits(&test, key, member)) {
            return None;
        }
        if *key == Key::AttestedPrincipalArn {
            let name = wildcards(text);
            for (beginning, end) in &self.scope.callers.unnamed {
                let own = [beginning.as_bytes(), &[ANY], end.as_bytes()].concat();
                let spent = cost(&name, &own) as usize;
                if !self.spend(spent) || meet(&name, &own) != Meeting::Never {
                    return None;
                }
            }
        }
        let account = matches!(key, Key::PrincipalAccount | Key::ResourceAccount | Key::SourceVpcOwnerAccount);
        let elsewhere = if account && is_account(text) {
            self.places.is_no_account(text, at, self.world)
        } else {
            self.places.is_elsewhere(text, at, self.world)
        };
        if elsewhere {
            return None;
        }
        if condition.operator.is_range() && !base.negated {
            let message = format!("no call has a `{key}` that fulfils `{}` with {}", condition.operator, quote(text));
            let finding = Finding::warning(at, message);
            let all: Vec<String> = members.iter().map(|member| quote(member)).collect();
            let list = self.scope.hints && (1..=4).contains(&all.len());
            return Some(if list { finding.help(format!("there is {}", all.join(" and "))) } else { finding });
        }
        let finding = Finding::warning(at, self.nothing(key, text));
        if *key == Key::SourceVpc
            && self.scope.hints
            && let Some((id, _)) = self.scope.callers.vpcs.iter().find(|(_, name)| same_name(name, text))
        {
            return Some(finding.help(format!("the key holds the VPC's id, which is {}", quote(id))));
        }
        let near = self.near(text, members.iter().copied());
        Some(match (near, members.len()) {
            (Some(near), _) => finding.nearest(Some(&near)),
            (None, 1..=4) if self.scope.hints => {
                let all: Vec<String> = members.iter().map(|member| quote(member)).collect();
                finding.expected(all.join(" or "))
            }
            _ => finding,
        })
    }

    /// Reports that no caller, or no service, has a value.
    fn nothing(&self, key: &Key, text: &str) -> String {
        let text = quote(text);
        let tagged = |what: &str, tag: &str, some: bool| {
            if some {
                format!("no {what} has the tag `{tag}` with the value {text}")
            } else {
                format!("no {what} has a tag `{tag}`")
            }
        };
        match key {
            Key::SourceVpc => format!("no call comes from a VPC with the id {text}"),
            Key::SourceVpcOwnerAccount => format!("no call comes from a VPC of an account {text}"),
            Key::PrincipalArn => format!("there is no role {text}, so no caller has it"),
            Key::PrincipalAccount => format!("no caller is of an account {text}"),
            Key::PrincipalOrgId => format!("no account of a caller is in an organization {text}"),
            Key::PrincipalOrgPaths => format!("no account of a caller has an organization path {text}"),
            Key::PrincipalTag(tag) => tagged("role", tag, self.scope.callers.tags().any(|own| *own == **tag)),
            Key::ResourceTag(tag) => tagged("service that is called", tag, self.called.contains_key(key)),
            Key::PrincipalType => format!("no caller is of a type {text}"),
            Key::AttestedPrincipalArn => format!("no workload is attested as {text}"),
            Key::Evidence => format!("there is no evidence {text}"),
            Key::Port => format!("no call comes to a port {text}: no listener has it"),
            Key::ResourceAccount => format!("no service that is called is of an account {text}"),
            Key::ServiceArn => format!("{text} is no service that is called under this policy"),
            Key::ServiceNetworkArn => format!("no call comes through a service network {text}"),
            other => format!("no call has a value {text} of `{other}`"),
        }
    }

    /// The values that a key can have; none: any.
    fn members(&self, key: &Key) -> Option<&'n BTreeSet<&'n str>> {
        static NONE: BTreeSet<&str> = BTreeSet::new();
        match (self.called.get(key), key) {
            (Some(own), _) => Some(own),
            (None, Key::ResourceTag(_)) if !self.scope.called.is_empty() => Some(&NONE),
            (None, key) => self.scope.callers.values(key),
        }
    }

    /// Takes from the budget; false: it is used up.
    fn spend(&mut self, decisions: usize) -> bool {
        let left = u32::try_from(decisions).ok().and_then(|decisions| self.budget.checked_sub(decisions));
        *self.budget = left.unwrap_or(0);
        left.is_some()
    }

    /// The nearest name, if the policy's owner may know it. Of more names than the budget allows the first are looked at.
    fn near<'c>(&mut self, text: &str, names: impl Iterator<Item = &'c str>) -> Option<String> {
        if !self.scope.hints {
            return None;
        }
        let most = (*self.budget / NEAREST) as usize;
        let mut seen = 0;
        let found = nearest(text, names.take(most).inspect(|_| seen += 1)).map(str::to_owned);
        *self.budget = self.budget.saturating_sub(NEAREST.saturating_mul(seen));
        found
    }

    fn addresses(&self, text: &str) -> Option<Finding> {
        let block = value::Block::parse(text)?;
        let own = &self.scope.callers.blocks;
        let meets = |(address, length): &(IpAddr, u8)| {
            block.contains(*address) || value::Block::new(*address, (*length).into()).contains(block.first())
        };
        if own.is_empty() || own.iter().any(meets) {
            return None;
        }
        let message =
            format!("no VPC has an address in {}; `aws:SourceIp` is the caller's address in its own VPC", quote(text));
        Some(Finding::warning(Mark::START, message))
    }

    /// A time that no call can have any more.
    fn past(&self, condition: &Condition, text: &str) -> Option<Finding> {
        let test = crate::read::alone(condition.operator, text, self.policy.version)?;
        let seconds = value::seconds(text)?;
        let later =
            [self.world.now, seconds.max(self.world.now), seconds.saturating_add(1).max(self.world.now), i64::MAX / 2];
        let holds = |now: i64| fits_value(&test, Value::Time(now)) != condition.operator.base().negated;
        let never = later.into_iter().all(|now| !holds(now));
        never.then(|| Finding::warning(Mark::START, format!("{} is past, so the condition holds no more", quote(text))))
    }
}

/// `true` never comes, and `false` always.
fn secure(statement: &Statement, condition: &Condition) -> Option<Finding> {
    let Test::Truths(truths) = &condition.test else { return None };
    let wants = truths.contains(&true);
    let message = match (wants, statement.effect) {
        (true, _) => "no call comes over TLS in this version, so `aws:SecureTransport` is never `true`",
        (false, Effect::Deny) => {
            "no call comes over TLS in this version, so `aws:SecureTransport` is `false` for every call, and all are denied"
        }
        (false, Effect::Allow) => return None,
    };
    Some(Finding::warning(condition.at, message).help("leave the condition out"))
}

/// A standard method in small letters is another method.
fn method(condition: &Condition, text: &str) -> Option<Finding> {
    if condition.operator.base().comparison == Comparison::IgnoreCase || !text.bytes().any(|b| b.is_ascii_lowercase()) {
        return None;
    }
    let upper = text.to_ascii_uppercase();
    let fits = |text: &str, method: &str| glob::matches(&wildcards(text), method.as_bytes(), &mut Vec::new());
    let meant = METHODS.into_iter().find(|method| fits(&upper, method) && !fits(text, method))?;
    let message = format!("{} is not the method {meant}: methods are compared with case", quote(text));
    Some(Finding::warning(Mark::START, message).help(format!("write {}", quote(&upper))))
}

/// A path begins with a slash, and has no query.
fn path(text: &str, comparison: Comparison) -> Option<Finding> {
    let like = comparison == Comparison::Like;
    let begins = text.starts_with('/') || text.starts_with("${") || (like && text.starts_with(['*', '?']));
    let finding = |message: String| Finding::warning(Mark::START, message);
    if !begins {
        return Some(
            finding(format!("{} is no path: every path begins with `/`", quote(text))).help(format!("write `/{text}`")),
        );
    }
    if !like && text.contains('?') {
        let message = format!("{} is no path: the query does not belong to it", quote(text));
        return Some(finding(message).help("use vpc-lattice-svcs:RequestQueryString/<key> for the query"));
    }
    None
}

/// Blanks around a field's value are not part of it (RFC 9110, 5.5).
fn blank(key: &Key, text: &str) -> Option<Finding> {
    if text.trim_matches([' ', '\t']).len() == text.len() {
        return None;
    }
    let message = format!("no value of `{key}` begins or ends with a blank, as {} does", quote(text));
    Some(Finding::warning(Mark::START, message).help("leave the blanks out"))
}

fn same_name(name: &str, text: &str) -> bool {
    name == text || name.rsplit('/').next() == Some(text)
}

fn sorted<'s>(names: impl Iterator<Item = &'s str>) -> BTreeSet<&'s str> {
    names.collect()
}

/// As [`glob`] wants it.
pub(super) fn wildcards(text: &str) -> Vec<u8> {
    let byte = |byte: u8| match byte {
        b'*' => ANY,
        b'?' => ONE,
        byte => byte,
    };
    text.bytes().map(byte).collect()
}

/// Whether the literal beginning of a pattern is that of an ARN: most are not, and need no closer look.
fn begins_alike(glob: &[u8], arn: &str) -> bool {
    glob.iter().take_while(|byte| !matches!(**byte, ANY | ONE)).zip(arn.as_bytes()).all(|(a, b)| a == b)
}

/// Whether a value of a key fits.
fn fits(test: &Test, key: &Key, member: &str) -> bool {
    match key {
        Key::Port => member.parse().is_ok_and(|port| fits_value(test, Value::Whole(port))),
        _ => fits_value(test, Value::Text(member)),
    }
}

/// For tests without variables, which ask for nothing else of a request.
fn fits_value(test: &Test, value: Value<'_>) -> bool {
    let request = Request {
        caller: Caller::new(CallerKind::Anonymous, ""),
        attested: None,
        evidence: &[],
        service_arn: "",
        service_account: "",
        service_tags: NOTHING,
        port: 0,
        source_vpc: None,
        source_vpc_account: None,
        source_ip: None,
        secure: false,
        now: 0,
        http: None,
    };
    test.fits(value, &Facts { request: &request, network: None }, &mut Work::default())
}
