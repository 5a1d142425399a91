//! Remedies: the smallest changes of policies that would let a refused request pass, statement by statement.

mod exemption;

use std::fmt;

use crate::chain::{Chain, Guard, Level};
use crate::compiled::Mode;
use crate::language::{Effect, Version};
use crate::principal::{CallerKind, Named, Principals};
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
    /// Take a statement away that cannot be made to exempt the call.
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

impl Change {
    /// The change as lines for people: of several statements each has its own, indented by two blanks.
    pub fn lines(&self) -> Vec<String> {
        let several = if let Self::Replace { statements, .. } = self { &statements[..] } else { &[] };
        let statements = if several.len() > 1 { several } else { &[] };
        std::iter::once(self.to_string()).chain(statements.iter().map(|statement| format!("  {statement}"))).collect()
    }
}

/// On one line, and without the statements where there are several; see [`Change::lines`].
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |place: &Place| format!("the {} policy of {}", place.level.word(), place.name);
        match self {
            Self::Add { policy, statement } => write!(f, "add to {} ({}): {statement}", of(policy), policy.file),
            Self::Replace { policy, line, statements, .. } => {
                let place = format!("the denial at {}:{line} in {}", policy.file, of(policy));
                match &statements[..] {
                    [statement] => write!(f, "exempt this call from {place}, by this in its place: {statement}"),
                    _ => write!(f, "exempt this call from {place}, by these {} in its place:", statements.len()),
                }
            }
            Self::Remove { policy, line, .. } => {
                write!(
                    f,
                    "remove the denial at {}:{line} from {}: no condition can exempt this call",
                    policy.file,
                    of(policy)
                )
            }
            Self::Create { policy, document } => write!(f, "create {}: {document}", of(policy)),
            Self::Associate => f.write_str("associate the caller's VPC and the service with a common service network"),
        }
    }
}

/// A level that the request does not pass yet: denials to lift, and whether a permission is lacking.
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
                    changes.extend(exemption::exempting(compiled, *position, request, &place));
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

/// The VPC that a statement about this caller must name, as its attested identity does not: workloads of one name in two VPCs have one session of a role.
fn vpc_to_pin<'r>(request: &Request<'r>) -> Option<&'r str> {
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
    if let Some(vpc) = vpc_to_pin(request) {
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
