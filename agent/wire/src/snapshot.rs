//! The engine's input: one immutable value per revision.
//!
//! References between parts are positions in the lists of the same [`Snapshot`], see [`crate::index`]; the engine checks
//! them once when it compiles the snapshot and refuses a snapshot with an index out of bounds.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::auth::{AuthType, Network, Policy, Role};
use crate::index::{NetworkIndex, PolicyIndex, RoleIndex, ServiceIndex, VpcIndex};
pub use crate::numbers::{AliasGeneration, ServiceNumber, WorkloadNumber};
pub use crate::origin::Origin;
pub use crate::rules::*;

/// Everything the engine needs to serve, at one revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
pub struct Snapshot {
    /// Grows by one with every change of any content; unique on a node for as long as its state directory lives.
    pub revision: u64,
    /// All VPCs of the model, in its order.
    pub vpcs: Vec<Vpc>,
    /// Workloads with a live alias.
    pub workloads: Vec<Workload>,
    /// Services in force.
    pub services: Vec<Service>,
    /// Target groups that some listener refers to.
    pub target_groups: Vec<TargetGroup>,
    /// Service networks.
    pub networks: Vec<Network>,
    /// Roles that some workload has.
    pub roles: Vec<Role>,
    /// Policies that some network, service or role refers to.
    pub policies: Vec<Policy>,
    /// The DNS server's settings.
    pub dns: Dns,
}

/// A VPC, as a caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vpc {
    /// `account/name`, or `name` for the operator's.
    pub name: String,
    /// Lattice-style id.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// The services that its workloads may see, ascending.
    pub services: Vec<ServiceIndex>,
    /// Account it belongs to, 12 digits; empty where it belongs to none.
    pub account: String,
    /// The networks it is in, ascending.
    pub networks: Vec<NetworkIndex>,
    /// Resolvers for names that are no service's, in order; a target alias where the resolver is a workload of the VPC.
    pub dns_upstreams: Vec<SocketAddr>,
    /// Whether its workloads have addresses of IPv4, and of IPv6: which addresses of services DNS gives them.
    pub families: (bool, bool),
}

/// A workload address with an alias: the identity of a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// The alias, as `accept()` shows it.
    pub alias: IpAddr,
    /// The real address inside the VPC.
    pub address: IpAddr,
    /// Its VPC.
    pub vpc: VpcIndex,
    /// Name for people: the `Workload` document's, else the interface's.
    pub name: String,
    /// Number on this node, for limits: shared by all addresses of the workload.
    pub number: WorkloadNumber,
    /// Raised whenever the alias is given to another workload.
    pub generation: AliasGeneration,
    /// The attested ARN, whatever role it has.
    pub attested: String,
    /// The evidence of its identity: words of `brattice:Evidence`.
    pub evidence: Vec<String>,
    /// The role it calls as; none: anonymous.
    pub role: Option<RoleIndex>,
    /// Name of its role session; empty without a role.
    pub session: String,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// `account/name`.
    pub name: String,
    /// `svc-` + 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Stable number on this node, key of kernel switches.
    pub number: ServiceNumber,
    /// Its VIP, the same in every VPC.
    pub vip: IpAddr,
    /// Its IPv6 VIP, likewise; none on a node without IPv6.
    pub vip6: Option<IpAddr>,
    /// Generated DNS name, lower case, without a trailing dot.
    pub generated_name: String,
    /// Custom domain names, lower case, without a trailing dot.
    pub domains: Vec<String>,
    /// Account it belongs to, 12 digits.
    pub account: String,
    /// `aws:ResourceTag/…`.
    pub tags: Vec<(String, String)>,
    /// Whether its policy decides.
    pub auth_type: AuthType,
    /// Its policy.
    pub policy: Option<PolicyIndex>,
    /// The networks it is in, ascending.
    pub networks: Vec<NetworkIndex>,
    /// Its listeners, by port.
    pub listeners: Vec<Listener>,
    /// Lattice `idleTimeoutSeconds`, in ms: so long a kept client connection may have no request, a target may take until it begins
    /// its answer, and client or target may be silent within a body.
    pub idle_timeout_ms: u32,
    /// Where it was written.
    pub origin: Origin,
}

/// A listener of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Name, unique within the service.
    pub name: String,
    /// `listener-` + 17 characters.
    pub id: String,
    /// VIP port.
    pub port: u16,
    /// Protocol of its connections.
    pub protocol: Protocol,
    /// How the `x-forwarded-*` headers are written.
    pub forwarded_headers: ForwardedHeaders,
    /// Which of several rules that match is taken.
    pub precedence: Precedence,
    /// In ascending order of priority.
    pub rules: Vec<Rule>,
    /// Changes of request and response when no rule matches.
    pub default_filters: Filters,
    /// When no rule matches.
    pub default_action: Action,
    /// Where it was written.
    pub origin: Origin,
}

/// Protocol of a listener (Lattice `CreateListener.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 by prior knowledge: each request is decided about.
    Http,
    /// Bytes: each connection goes to a target of the default action. No document says this yet; a bypass does.
    Tcp,
}

/// Treatment of `x-forwarded-for` that a client sent; `-port` and `-proto` are always replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum ForwardedHeaders {
    /// The client's value is replaced.
    #[default]
    Replace,
    /// The caller's address is appended to what the client sent.
    Append,
}

/// A target group with the targets that have an alias now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetGroup {
    /// `account/name`.
    pub name: String,
    /// `tg-` + 17 characters.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Its targets' VPC; none where that is not in force.
    pub vpc: Option<VpcIndex>,
    /// Protocol towards its targets.
    pub protocol_version: ProtocolVersion,
    /// Reachable targets.
    pub targets: Vec<Target>,
    /// Targets in the documents, reachable or not.
    pub configured: u32,
    /// How long to wait for a connection, ms.
    pub connect_timeout_ms: u32,
    /// How long a kept connection to a target may idle, ms; 0: none is kept. `None`:
    /// [`Limits::pool_idle_timeout_ms`](crate::engine::Limits::pool_idle_timeout_ms).
    pub idle_timeout_ms: Option<u32>,
    /// Where it was written.
    pub origin: Origin,
}

/// HTTP version towards targets (Lattice `protocolVersion`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProtocolVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 by prior knowledge.
    Http2,
}

/// A reachable target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Alias of the workload.
    pub alias: IpAddr,
    /// Port.
    pub port: u16,
    /// Real address, for logs.
    pub address: IpAddr,
    /// Generation of the alias; pooled connections of another generation are closed.
    pub generation: AliasGeneration,
}

/// Settings of the DNS server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Default)]
pub struct Dns {
    /// Suffix of generated names, without leading or trailing dot.
    pub suffix: String,
    /// TTL of our answers, seconds, at most 30.
    pub ttl_seconds: u32,
    /// `network/prefix` of our VIP and alias ranges: answers from upstream inside them are removed.
    pub own_ranges: Vec<(IpAddr, u8)>,
}
