//! Documents: what is written in the policies directory, checked one owner at a time and each document by itself.
//!
//! What needs other owners' documents (grants, VPCs, accounts) is checked by [`crate::link()`].

mod account;
mod association;
mod common;
mod network;
mod parse;
mod policy;
mod quota;
mod rule;
mod service;
mod target_group;
mod vpc;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Position, Severity, quote};
use crate::names;

pub use account::AccountDocument;
pub use association::{ServiceAssociationDocument, VpcAssociationDocument};
pub use common::{Metadata, Tags};
pub use network::ServiceNetworkDocument;
pub use parse::parse;
pub use policy::{AuthPolicyDocument, Evidence, PolicyResourceIdentifier, RoleDocument, Trust};
pub use rule::{ActionDocument, ActionKind, MatchDocument, RuleDocument, WeightedDocument};
pub use service::{ListenerDocument, ServiceDocument};
pub use target_group::{TargetDocument, TargetGroupDocument};
pub use vpc::{Attachment, DnsMode, VpcDocument, WorkloadDocument};

/// A file of an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Relative to the policies directory, `/` between parts.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// The owner of a document, by the folder it is in. The operator sorts first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Owner {
    /// Directly in the policies directory.
    Operator,
    /// Under `accounts/<name>/`.
    Account(String),
}

/// How the operator is called; no account may be.
pub const OPERATOR: &str = "operator";

impl Owner {
    /// The owner of a file by its path relative to the policies directory.
    ///
    /// # Errors
    /// A finding at the file's start where the place belongs to no owner.
    pub fn of_path(path: &str) -> Result<Self, Box<Diagnostic>> {
        let at = Position { file: path.into(), line: 1, column: 1, length: 1 };
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            [_] => Ok(Self::Operator),
            ["accounts", name, _, ..] => match names::check(name, names::ACCOUNT) {
                Ok(()) if name != OPERATOR => Ok(Self::Account(name.into())),
                Ok(()) => Err(Box::new(
                    Diagnostic::error(&at, format!("{} is no account's folder", quote(name)))
                        .help("the operator's documents lie directly in the policies directory"),
                )),
                Err(why) => {
                    Err(Box::new(Diagnostic::error(&at, format!("{} is no account's folder: {why}", quote(name)))))
                }
            },
            _ => Err(Box::new(
                Diagnostic::error(&at, "this path belongs to no owner")
                    .expected("a file directly in the policies directory (the operator's) or under accounts/<name>/")
                    .help("move the file"),
            )),
        }
    }

    /// The account's name, if it is one.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Operator => None,
            Self::Account(name) => Some(name),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.account().unwrap_or(OPERATOR))
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.to_string()
    }
}

impl From<String> for Owner {
    fn from(text: String) -> Self {
        if text == OPERATOR { Self::Operator } else { Self::Account(text) }
    }
}

/// Kinds of documents of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// Names an account and what it may do.
    Account,
    /// An address space and how its workloads are found.
    Vpc,
    /// One workload, named.
    Workload,
    /// The boundary in which VPCs and services talk.
    ServiceNetwork,
    /// A service.
    Service,
    /// Where calls go.
    TargetGroup,
    /// Service in network.
    ServiceNetworkServiceAssociation,
    /// VPC in network.
    ServiceNetworkVpcAssociation,
    /// Who may call.
    AuthPolicy,
    /// A role: the principal that workloads call as.
    Role,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Account,
        Self::Vpc,
        Self::Workload,
        Self::ServiceNetwork,
        Self::Service,
        Self::TargetGroup,
        Self::ServiceNetworkServiceAssociation,
        Self::ServiceNetworkVpcAssociation,
        Self::AuthPolicy,
        Self::Role,
    ];

    /// As in the field `kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::Vpc => "Vpc",
            Self::Workload => "Workload",
            Self::ServiceNetwork => "ServiceNetwork",
            Self::Service => "Service",
            Self::TargetGroup => "TargetGroup",
            Self::ServiceNetworkServiceAssociation => "ServiceNetworkServiceAssociation",
            Self::ServiceNetworkVpcAssociation => "ServiceNetworkVpcAssociation",
            Self::AuthPolicy => "AuthPolicy",
            Self::Role => "Role",
        }
    }

    /// Whether documents of this kind may lie with this owner.
    pub const fn belongs_to(self, owner: &Owner) -> bool {
        match self {
            Self::Account | Self::Vpc | Self::Workload | Self::Role => matches!(owner, Owner::Operator),
            Self::ServiceNetwork
            | Self::Service
            | Self::TargetGroup
            | Self::ServiceNetworkServiceAssociation
            | Self::AuthPolicy => matches!(owner, Owner::Account(_)),
            Self::ServiceNetworkVpcAssociation => true,
        }
    }
}

/// All documents of one owner.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Documents {
    /// `Account`s.
    pub accounts: Vec<AccountDocument>,
    /// `Vpc`s.
    pub vpcs: Vec<VpcDocument>,
    /// `Workload`s.
    pub workloads: Vec<WorkloadDocument>,
    /// `ServiceNetwork`s.
    pub networks: Vec<ServiceNetworkDocument>,
    /// `Service`s.
    pub services: Vec<ServiceDocument>,
    /// `TargetGroup`s.
    pub target_groups: Vec<TargetGroupDocument>,
    /// `ServiceNetworkServiceAssociation`s.
    pub service_associations: Vec<ServiceAssociationDocument>,
    /// `ServiceNetworkVpcAssociation`s.
    pub vpc_associations: Vec<VpcAssociationDocument>,
    /// `AuthPolicy`s.
    pub policies: Vec<AuthPolicyDocument>,
    /// `Role`s.
    pub roles: Vec<RoleDocument>,
}

impl Documents {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
            + self.vpcs.len()
            + self.workloads.len()
            + self.networks.len()
            + self.services.len()
            + self.target_groups.len()
            + self.service_associations.len()
            + self.vpc_associations.len()
            + self.policies.len()
            + self.roles.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the first document is, for findings about the owner as a whole.
    pub(crate) fn first(&self) -> Option<&Position> {
        let metadata = self.accounts.iter().map(|d| &d.metadata.name.at);
        metadata
            .chain(self.vpcs.iter().map(|d| &d.metadata.name.at))
            .chain(self.workloads.iter().map(|d| &d.metadata.name.at))
            .chain(self.networks.iter().map(|d| &d.metadata.name.at))
            .chain(self.services.iter().map(|d| &d.metadata.name.at))
            .chain(self.target_groups.iter().map(|d| &d.metadata.name.at))
            .chain(self.service_associations.iter().map(|d| &d.at))
            .chain(self.vpc_associations.iter().map(|d| &d.at))
            .chain(self.policies.iter().map(|d| &d.at))
            .chain(self.roles.iter().map(|d| &d.metadata.name.at))
            .min_by_key(|at| (&at.file, at.line, at.column))
    }
}

/// How much of what others depend on goes away when `new` replaces `old`: (removed, total before). More than half is
/// held back by the agent until accepted.
///
/// For an account that is its services, or its service networks where it has no services; for the operator the worse of
/// accounts and VPCs. A service that is renamed counts as removed: its callers lose it.
pub fn removed_services(old: &Documents, new: &Documents) -> (usize, usize) {
    fn count<'a, N: Ord>(old: impl Iterator<Item = N> + 'a, new: impl Iterator<Item = N> + 'a) -> (usize, usize) {
        let new: std::collections::BTreeSet<N> = new.collect();
        old.fold((0, 0), |(removed, total), name| (removed + usize::from(!new.contains(&name)), total + 1))
    }
    let name = |metadata: &Metadata| metadata.name.value.clone();
    let services =
        count(old.services.iter().map(|d| name(&d.metadata)), new.services.iter().map(|d| name(&d.metadata)));
    if services.1 > 0 {
        return services;
    }
    let networks =
        count(old.networks.iter().map(|d| name(&d.metadata)), new.networks.iter().map(|d| name(&d.metadata)));
    let accounts =
        count(old.accounts.iter().map(|d| name(&d.metadata)), new.accounts.iter().map(|d| name(&d.metadata)));
    let vpcs = count(old.vpcs.iter().map(VpcDocument::qualified), new.vpcs.iter().map(VpcDocument::qualified));
    // a/b > c/d without division; an empty class is 0 of 0 and never the worst.
    [accounts, vpcs].into_iter().fold(networks, |worst, class| {
        if worst.1 == 0 || class.0 * worst.1 > worst.0 * class.1 { class } else { worst }
    })
}

/// Whether any finding is an error.
pub fn has_errors(findings: &[Diagnostic]) -> bool {
    findings.iter().any(|d| d.severity == Severity::Error)
}
