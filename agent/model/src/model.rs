//! The model: every entity with its id, ARN, owner, status and the place it was written.
//!
//! Lists are in order of their qualified names, so that equal documents give equal models.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use brattice_wire::auth::AuthType;
use brattice_wire::snapshot::{
    Filters, FixedResponse, ForwardedHeaders, Match, Origin, Precedence, Protocol, ProtocolVersion, Redirect,
    Stickiness,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use self::vpc::{Vpc, Workload};
use crate::documents::{Evidence, Owner, Tags};

mod vpc;

/// Lattice's status words, as far as entities here can have them: nothing is created in the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// In force.
    Active,
    /// Not in force.
    CreateFailed {
        /// One of [`failure`].
        code: &'static str,
        /// For people.
        message: String,
    },
}

impl Status {
    /// Lattice's word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::CreateFailed { .. } => "CREATE_FAILED",
        }
    }

    /// Whether it is in force.
    pub const fn is_active(&self) -> bool {
        matches!(self, Self::Active)
    }

    /// Code and text, if it failed.
    pub fn failure(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Active => None,
            Self::CreateFailed { code, message } => Some((code, message)),
        }
    }

    pub(crate) fn failed(code: &'static str, message: impl Into<String>) -> Self {
        Self::CreateFailed { code, message: message.into() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("ACTIVE"),
            Self::CreateFailed { code, message } => write!(f, "CREATE_FAILED ({code}: {message})"),
        }
    }
}

/// Failure codes of [`Status::CreateFailed`].
pub mod failure {
    /// The other side has not shared itself with this one.
    pub const ACCESS_DENIED: &str = "AccessDenied";
    /// No such service network.
    pub const NETWORK_NOT_FOUND: &str = "ServiceNetworkNotFound";
    /// No such service.
    pub const SERVICE_NOT_FOUND: &str = "ServiceNotFound";
    /// No such VPC.
    pub const VPC_NOT_FOUND: &str = "VpcNotFound";
    /// Another service of the network has the domain name.
    pub const DOMAIN_CONFLICT: &str = "DomainConflict";
    /// The service, network or VPC itself is not in force.
    pub const MEMBER_FAILED: &str = "MemberFailed";
    /// The document has errors.
    pub const INVALID: &str = "InvalidDocument";
    /// No VIP is left.
    pub const VIPS_EXHAUSTED: &str = "VipsExhausted";
}

/// All entities of all owners.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// By name.
    pub accounts: Vec<Account>,
    /// By qualified name.
    pub vpcs: Vec<Vpc>,
    /// `Workload` documents, by name.
    pub workloads: Vec<Workload>,
    /// By qualified name.
    pub networks: Vec<ServiceNetwork>,
    /// By qualified name.
    pub services: Vec<Service>,
    /// By qualified name.
    pub target_groups: Vec<TargetGroup>,
    /// By network, then member.
    pub associations: Vec<Association>,
    /// By resource.
    pub policies: Vec<AuthPolicy>,
    /// By qualified name.
    pub roles: Vec<Role>,
    /// Suffix of generated DNS names.
    pub dns_suffix: String,
    /// Region in ARNs.
    pub region: String,
    /// VIP range.
    pub vip: Ipv4Net,
    /// Alias range.
    pub alias: Ipv4Net,
    /// The ranges of IPv6; none: the node has no IPv6.
    pub ipv6: Option<Ipv6Pools>,
}

/// The ranges of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Pools {
    /// VIP range, a /64.
    pub vip: Ipv6Net,
    /// Alias range, a /48.
    pub alias: Ipv6Net,
    /// Whether the host does IPv6 now. While it does not, nothing has an IPv6 VIP, but the ranges stay reserved.
    pub on: bool,
}

impl Model {
    /// By qualified name.
    pub fn vpc(&self, name: &str) -> Option<&Vpc> {
        find(&self.vpcs, name, |e| &e.name)
    }

    /// By qualified name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        find(&self.services, name, |e| &e.name)
    }

    /// By qualified name.
    pub fn target_group(&self, name: &str) -> Option<&TargetGroup> {
        find(&self.target_groups, name, |e| &e.name)
    }

    /// By qualified name.
    pub fn network(&self, name: &str) -> Option<&ServiceNetwork> {
        find(&self.networks, name, |e| &e.name)
    }

    /// By name.
    pub fn account(&self, name: &str) -> Option<&Account> {
        find(&self.accounts, name, |e| &e.name)
    }

    /// By qualified name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        find(&self.roles, name, |e| &e.name)
    }

    /// The policy of a service network or service.
    pub fn policy(&self, resource: &PolicyResource) -> Option<&AuthPolicy> {
        self.policies.binary_search_by(|policy| policy.resource.cmp(resource)).ok().map(|index| &self.policies[index])
    }

    /// Associations of a service, by qualified name.
    pub fn associations_of_service<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m Association> {
        self.associations.iter().filter(move |a| a.kind == AssociationKind::Service && a.member == name)
    }

    /// Associations of a VPC, by qualified name.
    pub fn associations_of_vpc<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m Association> {
        self.associations.iter().filter(move |a| a.kind == AssociationKind::Vpc && a.member == name)
    }

    /// The address at which workloads reach the DNS server.
    pub fn dns_vip(&self) -> IpAddr {
        crate::vips::address(self.vip, brattice_abi::DNS_VIP_OFFSET).into()
    }

    /// As [`Self::dns_vip`], over IPv6.
    pub fn dns_vip6(&self) -> Option<IpAddr> {
        let range = self.serves_ipv6()?.vip;
        Some(Ipv6Addr::from_bits(range.network().to_bits() | u128::from(brattice_abi::DNS_VIP_OFFSET)).into())
    }

    /// The ranges of IPv6, while the host does it.
    pub fn serves_ipv6(&self) -> Option<Ipv6Pools> {
        self.ipv6.filter(|pools| pools.on)
    }

    /// The ranges that are the node's own, of both families.
    pub fn own_ranges(&self) -> impl Iterator<Item = IpNet> {
        let ipv6 = self.ipv6.map(|pools| [IpNet::V6(pools.vip), IpNet::V6(pools.alias)]);
        [IpNet::V4(self.vip), IpNet::V4(self.alias)].into_iter().chain(ipv6.into_iter().flatten())
    }
}

fn find<'m, T>(list: &'m [T], name: &str, key: impl Fn(&T) -> &String) -> Option<&'m T> {
    list.binary_search_by(|e| key(e).as_str().cmp(name)).ok().map(|index| &list[index])
}

/// An account.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Its name; also its folder's.
    pub name: String,
    /// 12 digits.
    pub id: String,
    /// `o-…/…`.
    pub organization_path: Option<String>,
    /// Domains its services may claim.
    pub domains: Vec<String>,
    /// VPCs its target groups may lie in besides its own, by qualified name.
    pub vpcs: Vec<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// A service network.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceNetwork {
    /// `account/name`.
    pub name: String,
    /// `sn-` and 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Its account.
    pub account: String,
    /// In force or not.
    pub status: Status,
    /// Whether its policy decides.
    pub auth_type: AuthType,
    /// Accounts that may associate with it, by name.
    pub shared_with: Vec<String>,
    /// For selection.
    pub labels: Tags,
    /// Tags.
    pub tags: Tags,
    /// Where it was written.
    pub origin: Origin,
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// `account/name`.
    pub name: String,
    /// `svc-` and 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Its account.
    pub account: String,
    /// In force or not.
    pub status: Status,
    /// Its VIP; none if no one is left in the range.
    pub vip: Option<IpAddr>,
    /// Its IPv6 VIP; none if the node has no IPv6 now.
    pub vip6: Option<IpAddr>,
    /// `<name>-<id>.<suffix>`.
    pub generated_name: String,
    /// Custom domain names, lower case.
    pub domains: Vec<String>,
    /// By port.
    pub listeners: Vec<Listener>,
    /// 60 to 600.
    pub idle_timeout_seconds: u32,
    /// Whether its policy decides.
    pub auth_type: AuthType,
    /// Accounts that may associate it with networks of theirs, by name.
    pub shared_with: Vec<String>,
    /// For selection.
    pub labels: Tags,
    /// Tags.
    pub tags: Tags,
    /// Where it was written.
    pub origin: Origin,
}

/// A listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique within the service.
    pub name: String,
    /// `listener-` and 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// VIP port.
    pub port: u16,
    /// Protocol of its connections.
    pub protocol: Protocol,
    /// How `x-forwarded-*` headers are written.
    pub forwarded_headers: ForwardedHeaders,
    /// Which of several rules that match is taken.
    pub precedence: Precedence,
    /// By priority.
    pub rules: Vec<Rule>,
    /// Changes of request and response when no rule matches.
    pub default_filters: Filters,
    /// When no rule matches.
    pub default_action: Action,
    /// Where it was written.
    pub origin: Origin,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique within the listener.
    pub name: String,
    /// `rule-` and 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// 1 to 2000; where the order is by specificity, the place in the document, from 1.
    pub priority: u16,
    /// Conditions; VPCs by their position in [`Model::vpcs`].
    pub matches: Match,
    /// Changes of request and response.
    pub filters: Filters,
    /// The action.
    pub action: Action,
    /// Where it was written.
    pub origin: Origin,
}

/// The action for a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// To a target.
    Forward {
        /// Qualified target group names with their weights.
        groups: Vec<(String, u16)>,
        /// Stickiness: keeps a caller at a group.
        stickiness: Option<Stickiness>,
    },
    /// A fixed response.
    FixedResponse(FixedResponse),
    /// The client is sent elsewhere.
    Redirect(Redirect),
}

/// The resource that an [`AuthPolicy`] is for, by qualified name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyResource {
    /// A service network.
    ServiceNetwork(String),
    /// A service.
    Service(String),
}

impl PolicyResource {
    /// Qualified name.
    pub fn name(&self) -> &str {
        match self {
            Self::ServiceNetwork(name) | Self::Service(name) => name,
        }
    }
}

impl fmt::Display for PolicyResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceNetwork(name) => write!(f, "the service network {name}"),
            Self::Service(name) => write!(f, "the service {name}"),
        }
    }
}

/// Lattice's word for whether an auth policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyState {
    /// It does.
    Active,
    /// It does not, as the resource's `authType` is `NONE`.
    Inactive,
}

impl PolicyState {
    /// Lattice's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Inactive => "Inactive",
        }
    }
}

/// The policy of a service network or service.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthPolicy {
    /// The resource that it belongs to.
    pub resource: PolicyResource,
    /// The kind of resource that it was read for.
    pub attachment: brattice_iam::Attachment,
    /// What it says.
    pub policy: brattice_iam::Policy,
    /// Whether it decides or only records, once it is active.
    pub mode: brattice_iam::Mode,
    /// Whether it is in force.
    pub state: PolicyState,
    /// Where it was written.
    pub origin: Origin,
}

/// A role: the principal that workloads call as.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// `account/name`.
    pub name: String,
    /// `arn:aws:iam::<account id>:role/<name>`.
    pub arn: String,
    /// Its account.
    pub account: String,
    /// In force or not.
    pub status: Status,
    /// The trust policy: any of these may call as the role.
    pub trust: Vec<Trusted>,
    /// The policy of its calls; none = whatever network and service allow.
    pub policy: Option<brattice_iam::Policy>,
    /// For selection.
    pub labels: Tags,
    /// `aws:PrincipalTag/…`.
    pub tags: Tags,
    /// Where it was written.
    pub origin: Origin,
}

impl Role {
    /// Whether the role's trust includes a workload of a VPC (by qualified name) that is known by this evidence.
    pub fn trusts(&self, vpc: &str, workload: Option<&Workload>, evidence: &[Evidence]) -> bool {
        self.trust.iter().any(|trusted| {
            let labels = workload.map(|workload| &workload.labels);
            let has = |(key, value): (&String, &String)| labels.is_some_and(|labels| labels.get(key) == Some(value));
            trusted.vpc.as_deref().is_none_or(|own| own == vpc)
                && (trusted.workloads.is_empty() || workload.is_some_and(|w| trusted.workloads.contains(&w.name)))
                && trusted.labels.iter().all(has)
                && trusted.evidence.iter().all(|wanted| evidence.contains(wanted))
        })
    }
}

/// Workloads that may be a role; what is given must all fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Trusted {
    /// Their VPC by qualified name.
    pub vpc: Option<String>,
    /// Names of `Workload` documents; empty = any.
    pub workloads: Vec<String>,
    /// Labels that a `Workload` document must have.
    pub labels: Tags,
    /// Evidence that the workload's identity must have; empty = any.
    pub evidence: Vec<Evidence>,
}

/// A target group.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGroup {
    /// `account/name`.
    pub name: String,
    /// `tg-` and 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Its account.
    pub account: String,
    /// In force or not; one that is not has no reachable targets.
    pub status: Status,
    /// Its VPC by qualified name; as written where there is none such.
    pub vpc: String,
    /// Port of targets that name none.
    pub port: u16,
    /// Protocol towards targets.
    pub protocol_version: ProtocolVersion,
    /// How long a kept connection to a target may idle, seconds, where the document says it; 0: none is kept.
    pub idle_timeout_seconds: Option<u32>,
    /// In the order of the document.
    pub targets: Vec<(IpAddr, u16)>,
    /// For selection.
    pub labels: Tags,
    /// Tags.
    pub tags: Tags,
    /// Where it was written.
    pub origin: Origin,
}

/// The other side of a network's association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssociationKind {
    /// `ServiceNetworkServiceAssociation`.
    Service,
    /// `ServiceNetworkVpcAssociation`.
    Vpc,
}

/// A service or VPC in a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Association {
    /// Its kind: service or VPC.
    pub kind: AssociationKind,
    /// `snsa-` or `snva-` and 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// The network by qualified name; as written where there is none such.
    pub network: String,
    /// The service or VPC by qualified name; as written where there is none such.
    pub member: String,
    /// The owner whose document asked for it.
    pub created_by: Owner,
    /// In force or not.
    pub status: Status,
    /// Where it was written.
    pub origin: Origin,
}

impl Association {
    /// The failure, in Lattice's terms.
    pub fn failure_code(&self) -> Option<&'static str> {
        self.status.failure().map(|(code, _)| code)
    }
}
