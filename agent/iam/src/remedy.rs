//! Remedies: the smallest changes of policies that would let a refused request pass, statement by statement.

use std::fmt;

use crate::chain::{Chain, Guard, Level};
use crate::compiled::{Compiled, Mode};
use crate::key::Key;
use crate::language::{Effect, Version};
use crate::policy::Statement;
use crate::principal::{CallerKind, Named, Principals};
use crate::render::{Draft, literal};
use crate::request::{Action, Facts, Request};

/// One change. All changes of a remedy together let the request pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add a statement to a policy.
    Add {
        /// Which.
        policy: Place,
        /// JSON.
        statement: String,
    },
    /// Put others in the place of a statement.
    Replace {
        /// Which policy.
        policy: Place,
        /// Position of the statement.
        position: u32,
        /// Its place, see [`crate::Policy::place`].
        line: String,
        /// JSON, of each.
        statements: Vec<String>,
    },
    /// Take a statement away that cannot be made to exempt the caller.
    Remove {
        /// Which policy.
        policy: Place,
        /// Position of the statement.
        position: u32,
        /// Its place, see [`crate::Policy::place`].
        line: String,
    },
    /// Make a policy where there is none.
    Create {
        /// Where.
        policy: Place,
        /// JSON.
        document: String,
    },
    /// Put the caller's VPC and the service into a common service network. What the policies ask about that network is not
    /// known before.
    Associate,
}

/// A policy, or where there should be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its level.
    pub level: Level,
    /// Of a network: its place in the chain.
    pub network: Option<u32>,
    /// The name of its role, service network or service.
    pub name: String,
    /// The file it was read from; empty where there is none.
    pub file: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |place: &Place| format!("the {} policy of {}", place.level.word(), place.name);
        match self {
            Self::Add { policy, statement } => write!(f, "add to {} ({}): {statement}", of(policy), policy.file),
            Self::Replace { policy, line, statements, .. } => {
                let place = format!("the denial at {}:{line} in {}", policy.file, of(policy));
                let several = if statements.len() > 1 { ", by these in its place" } else { "" };
                write!(f, "exempt this call from {place}{several}: {}", statements.join(", "))
            }
            Self::Remove { policy, line, .. } => {
                write!(
                    f,
                    "remove the denial at {}:{line} from {}: no condition can exempt the caller",
                    policy.file,
                    of(policy)
                )
            }
            Self::Create { policy, document } => write!(f, "create {}: {document}", of(policy)),
            Self::Associate => f.write_str("associate the caller's VPC and the service with a common service network"),
        }
    }
}

/// What a level needs so that the request passes it.
pub(crate) struct Needs {
    pub(crate) level: Level,
    pub(crate) network: Option<u32>,
    /// Statements that deny.
    pub(crate) denying: Vec<u32>,
    /// Whether some statement allows.
    pub(crate) allowed: bool,
}

/// The changes for what the levels need.
pub(crate) fn changes(chain: &Chain<'_>, request: &Request<'_>, needs: &[Needs]) -> Vec<Change> {
    let mut changes = Vec::new();
    for need in needs {
        let network = if need.level == Level::Network { need.network } else { None };
        let place = |name: &str, file: &str| Place { level: need.level, network, name: name.into(), file: file.into() };
        match chain.guard(need.level, need.network) {
            Some(Guard::Missing(name)) => {
                let statement = allowing(request, need.level, Version::V2012).json();
                let document = format!("{{\"Version\": \"2012-10-17\", \"Statement\": [{statement}]}}");
                changes.push(Change::Create { policy: place(name, ""), document });
            }
            Some(Guard::Policy(compiled)) if compiled.mode() == Mode::Enforce => {
                let place = place(compiled.name(), &compiled.policy().file);
                for position in &need.denying {
                    changes.extend(exempting(compiled, *position, request, &place));
                }
                if !need.allowed {
                    let statement = allowing(request, need.level, compiled.policy().version).json();
                    changes.push(Change::Add { policy: place, statement });
                }
            }
            _ => {}
        }
    }
    changes
}

/// The caller's attested identity, which tells callers of the same principal apart.
const ATTESTED: &str = "brattice:AttestedPrincipalArn";
const METHOD: &str = "vpc-lattice-svcs:RequestMethod";
const PATH: &str = "vpc-lattice-svcs:RequestPath";
const PORT: &str = "vpc-lattice-svcs:Port";
const SERVICE: &str = "vpc-lattice-svcs:ServiceArn";
const VPC: &str = "vpc-lattice-svcs:SourceVpc";

/// The caller's VPC, where its attested identity does not name it: workloads of one name in two VPCs have one session of a role.
fn told_by_vpc<'r>(request: &Request<'r>) -> Option<&'r str> {
    let names_vpc = request.attested.is_some_and(|attested| attested.contains(":workload/"));
    request.source_vpc.filter(|_| !names_vpc)
}

/// A statement that allows this caller this method on this path at this port of the service, and nothing else.
fn allowing(request: &Request<'_>, level: Level, version: Version) -> Draft {
    let caller = &request.caller;
    let named = match (caller.kind, caller.session) {
        (CallerKind::Anonymous, _) => Named::Everyone,
        (CallerKind::Account, _) => Named::Account(caller.account.unwrap_or(caller.name).into()),
        (CallerKind::User, _) => Named::User(caller.name.into()),
        (CallerKind::Role, Some(session)) => Named::Session(session.into()),
        (CallerKind::Role, None) => Named::Role(caller.name.into()),
        (CallerKind::FederatedUser, _) => Named::FederatedUser(caller.name.into()),
        (CallerKind::Service, _) => Named::Service(caller.name.into()),
    };
    // A role's policy is about all its sessions.
    let exact =
        level != Level::Identity && matches!(named, Named::Session(_) | Named::User(_) | Named::FederatedUser(_));
    let principals = if level == Level::Identity { Principals::Holder } else { Principals::Listed(vec![named]) };
    let resource = request.resource();
    let mut draft = Draft {
        sid: None,
        effect: Effect::Allow,
        principals,
        actions: (false, vec![request.action().name().into()]),
        resources: (false, vec![literal(&resource, true, version)]),
        conditions: Vec::new(),
    };
    let mut equals = |key: &str, value: &str| draft.condition("StringEquals", key, [literal(value, false, version)]);
    if !exact {
        // Other callers have the same principal: all that is known of this one is written.
        if matches!(caller.kind, CallerKind::Anonymous | CallerKind::Account) && level != Level::Identity {
            equals("aws:PrincipalType", caller.kind.principal_type().unwrap_or_default());
        }
        if let Some(attested) = request.attested {
            equals(ATTESTED, attested);
        }
    }
    if let Some(vpc) = told_by_vpc(request) {
        equals(VPC, vpc);
    }
    if let Some(http) = request.http {
        equals(METHOD, http.method);
        // Where wildcards cannot be escaped, the path is said again where there are none.
        if version == Version::V2008 && http.path.contains(['*', '?']) {
            equals(PATH, http.path);
        }
    }
    draft.condition("NumericEquals", PORT, [request.port.to_string()]);
    draft
}

/// The Deny statement without this call: it stays for all other callers, and for this one's calls from another VPC, of
/// other services and ports, with other methods, paths, and values of the headers and query parameters that the statement
/// asks about. Each of these takes a statement of its own, except where the Deny statement is about one value alone.
fn exempting(compiled: &Compiled, position: u32, request: &Request<'_>, place: &Place) -> Option<Change> {
    let policy = compiled.policy();
    let statement: &Statement = policy.statements.get(usize::try_from(position).ok()?)?;
    let line = policy.place(usize::try_from(position).ok()?);
    let caller = &request.caller;
    let (key, who) = match (request.attested, caller.arn()) {
        (Some(attested), _) => (ATTESTED, attested),
        (None, Some(arn)) => ("aws:PrincipalArn", arn),
        (None, None) => return Some(Change::Remove { policy: place.clone(), position, line }),
    };
    let others = others(statement, request, place.level, (key, who));
    let sids: Vec<&str> = policy.statements.iter().filter_map(|other| other.sid.as_deref()).collect();
    let requests = request.http.is_none() && statement.actions.include(Action::Invoke);
    let several = others.len() > 1 || requests;
    let draft = |what: &str| {
        let mut draft = Draft::of(statement);
        if several {
            draft.sid = draft.sid.map(|sid| format!("{sid}-{what}")).filter(|sid| !sids.contains(&sid.as_str()));
        }
        draft
    };
    let mut statements = Vec::with_capacity(others.len() + 1);
    for Others { what, operator, key, values } in others {
        let mut draft = draft(what);
        draft.condition(operator, &key, values.iter().map(|value| literal(value, false, policy.version)));
        statements.push(draft.json());
    }
    if requests {
        // A connection has no method that would tell it from requests.
        let mut draft = draft("requests");
        draft.actions = (false, vec![Action::Invoke.name().to_owned()]);
        statements.push(draft.json());
    }
    Some(Change::Replace { policy: place.clone(), position, line, statements })
}

/// Calls that a Deny statement goes on to deny: those that differ from the call in one respect.
struct Others {
    /// Ends the `Sid`.
    what: &'static str,
    operator: &'static str,
    key: String,
    /// The call's.
    values: Vec<String>,
}

/// Each respect in which calls can differ and the Deny statement be about both; first the callers, by this key.
fn others(statement: &Statement, request: &Request<'_>, level: Level, (key, who): (&str, &str)) -> Vec<Others> {
    let mut found = Vec::new();
    let mut add = |what, operator, key: &str, values: Vec<String>| {
        found.push(Others { what, operator, key: key.to_owned(), values });
    };
    let differ = "StringNotEquals";
    add("others", differ, key, vec![who.to_owned()]);
    if let Some(vpc) = told_by_vpc(request).filter(|_| !only(statement, &Key::SourceVpc, "StringEquals")) {
        add("other-vpcs", differ, VPC, vec![vpc.to_owned()]);
    }
    let resources = &statement.resources;
    let resource_is_one =
        !resources.negated && resources.patterns.len() == 1 && resources.patterns[0].literal().is_some();
    // A service's policy is about that service alone.
    if level != Level::Service && !resource_is_one && !only(statement, &Key::ServiceArn, "StringEquals") {
        add("other-services", differ, SERVICE, vec![request.service_arn.to_owned()]);
    }
    if !only(statement, &Key::Port, "NumericEquals") {
        add("other-ports", "NumericNotEquals", PORT, vec![request.port.to_string()]);
    }
    let Some(http) = request.http else { return found };
    if !only(statement, &Key::RequestMethod, "StringEquals") {
        add("other-methods", differ, METHOD, vec![http.method.to_owned()]);
    }
    if !only(statement, &Key::RequestPath, "StringEquals") && !resource_is_one {
        add("other-paths", differ, PATH, vec![http.path.to_owned()]);
    }
    let facts = Facts { request, network: None };
    let mut asked: Vec<&Key> = statement.conditions.iter().map(|condition| &condition.key).collect();
    asked.sort_unstable();
    asked.dedup();
    for key in asked {
        let what = match key {
            Key::RequestHeader(_) | Key::UserAgent => "other-headers",
            Key::RequestQueryString(_) => "other-queries",
            _ => continue,
        };
        let mut values = Vec::new();
        facts.each(key, &mut |value| {
            let mut text = String::new();
            value.write(key, &mut text);
            values.push(text);
        });
        values.sort_unstable();
        values.dedup();
        // What the call lacks has no value to keep apart from others.
        if !values.is_empty() {
            add(what, differ, &key.to_string(), values);
        }
    }
    found
}

/// Whether a statement is about one value of a key alone, which this operator compares.
fn only(statement: &Statement, key: &Key, operator: &str) -> bool {
    statement.conditions.iter().any(|condition| {
        condition.key == *key
            && condition.operator.to_string() == operator
            && condition.values.len() == 1
            && condition.keys().count() == 1
    })
}
