//! What would let a refused request pass: the smallest changes of policies, statement by statement.

use std::fmt;

use crate::chain::{Chain, Guard, Level};
use crate::compiled::{Compiled, Mode};
use crate::policy::{Effect, Statement, Version};
use crate::principal::{Caller, CallerKind, Named, Principals};
use crate::render::{Draft, literal};
use crate::request::Request;

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
    /// Put another statement in the place of one.
    Replace {
        /// Which policy.
        policy: Place,
        /// Position of the statement.
        position: u32,
        /// Its line.
        line: u32,
        /// JSON.
        statement: String,
    },
    /// Take a statement away that cannot be made to exempt the caller.
    Remove {
        /// Which policy.
        policy: Place,
        /// Position of the statement.
        position: u32,
        /// Its line.
        line: u32,
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
    /// Whose it is.
    pub name: String,
    /// The file it was read from; empty where there is none.
    pub file: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |place: &Place| format!("the {} policy of {}", place.level.word(), place.name);
        match self {
            Self::Add { policy, statement } => write!(f, "add to {} ({}): {statement}", of(policy), policy.file),
            Self::Replace { policy, line, statement, .. } => {
                write!(f, "exempt the caller from the denial at {}:{line} in {}: {statement}", policy.file, of(policy))
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
                    changes.extend(exempting(compiled, *position, &request.caller, &place));
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

/// A statement that allows this request and no more than the caller, action and resource tell apart.
fn allowing(request: &Request<'_>, level: Level, version: Version) -> Draft {
    let caller = &request.caller;
    let principals = match (level, caller.kind) {
        (Level::Identity, _) => Principals::Holder,
        (_, CallerKind::Anonymous) => Principals::Listed(vec![Named::Everyone]),
        (_, CallerKind::Account) => {
            Principals::Listed(vec![Named::Account(caller.account.unwrap_or(caller.name).into())])
        }
        (_, CallerKind::User) => Principals::Listed(vec![Named::User(caller.name.into())]),
        (_, CallerKind::Role) => Principals::Listed(vec![Named::Role(caller.name.into())]),
        (_, CallerKind::FederatedUser) => Principals::Listed(vec![Named::FederatedUser(caller.name.into())]),
        (_, CallerKind::Service) => Principals::Listed(vec![Named::Service(caller.name.into())]),
    };
    let mut draft = Draft {
        sid: None,
        effect: Effect::Allow,
        principals,
        actions: (false, vec![request.action().name().into()]),
        resources: (false, vec![literal(&request.resource(), true, version)]),
        conditions: Vec::new(),
    };
    if caller.kind == CallerKind::Anonymous && level != Level::Identity {
        draft.condition("StringEquals", "aws:PrincipalType", ["Anonymous".to_owned()]);
    }
    draft
}

/// The Deny statement with the caller exempted.
fn exempting(compiled: &Compiled, position: u32, caller: &Caller<'_>, place: &Place) -> Option<Change> {
    let policy = compiled.policy();
    let statement: &Statement = policy.statements.get(usize::try_from(position).ok()?)?;
    let line = statement.at.line;
    let mut draft = Draft::of(statement);
    match (caller.arn(), caller.kind) {
        (Some(arn), _) => {
            draft.condition("StringNotEquals", "aws:PrincipalArn", [literal(arn, false, policy.version)]);
        }
        (None, CallerKind::Anonymous) => {
            draft.condition("StringNotEquals", "aws:PrincipalType", ["Anonymous".to_owned()]);
        }
        (None, _) => return Some(Change::Remove { policy: place.clone(), position, line }),
    }
    Some(Change::Replace { policy: place.clone(), position, line, statement: draft.json() })
}
