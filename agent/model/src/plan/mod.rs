//! Model and live aliases → the wanted state of engine and kernel.

mod identity;
mod numbers;
mod policies;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use brattice_abi::{IPPROTO_TCP, IPPROTO_UDP, LISTENER_DNS, LISTENER_HTTP, LISTENER_TCP};
use brattice_wire::index::{ServiceIndex, TargetGroupIndex, VpcIndex};
use brattice_wire::snapshot::{self, AliasGeneration, Protocol, ServiceNumber, Snapshot, WorkloadNumber};

use crate::at::At;
use crate::documents::Evidence;
use crate::limits::{CONNECT_TIMEOUT_MS, DNS_TTL_SECONDS};
use crate::model::{AssociationKind, Model, PolicyResource, Service};
pub use identity::{session_arn, workload_arn};
pub use numbers::Numbers;
use policies::{Networks, Policies};

/// An address of a live workload and the alias it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Qualified name of its VPC.
    pub vpc: String,
    /// Real address.
    pub address: IpAddr,
    /// Alias.
    pub alias: IpAddr,
    /// Name of the workload: its document's, else its interface's.
    pub name: String,
    /// Whether a `Workload` document names it; an interface with the same name gets nothing of that document.
    pub documented: bool,
    /// The evidence of its identity.
    pub evidence: Vec<Evidence>,
    /// Number of the workload on this node.
    pub number: WorkloadNumber,
    /// Raised whenever the alias is given to another workload.
    pub generation: AliasGeneration,
}

/// What answers at a VIP and port: `LISTENER_*` of `brattice_abi`, and the service (the default number for DNS).
pub type ListenerTarget = (u32, ServiceNumber);

/// The wanted state of engine and kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// For the engine.
    pub snapshot: Snapshot,
    /// For the map of listeners: (VIP, port, IP protocol) → what answers.
    pub listeners: BTreeMap<(IpAddr, u16, u8), ListenerTarget>,
    /// For the map of targets: (alias, or address of a resolver outside, port, IP protocol) the engine may
    /// connect to.
    pub targets: BTreeSet<(IpAddr, u16, u8)>,
}

/// For each VPC of the model, in order: the services it sees, ascending. A VPC sees a service if both are in
/// force and both have active associations with one network.
pub(crate) fn visible(model: &Model) -> Vec<Vec<At<Service>>> {
    let mut by_network: HashMap<&str, Vec<At<Service>>> = HashMap::new();
    let mut by_vpc: HashMap<&str, Vec<&str>> = HashMap::new();
    // guard: associations
    for association in model.associations.iter().filter(|association| association.status.is_active()) {
        match association.kind {
            AssociationKind::Service => {
                let found = model.services.binary_search_by(|service| service.name.cmp(&association.member));
                if let Ok(position) = found
                    && model.services[position].status.is_active()
                {
                    by_network.entry(&association.network).or_default().push(At::new(position));
                }
            }
            AssociationKind::Vpc => by_vpc.entry(&association.member).or_default().push(&association.network),
        }
    }
    let of_vpc = |vpc: &crate::model::Vpc| {
        if !vpc.status.is_active() {
            return Vec::new();
        }
        let networks = by_vpc.get(vpc.name.as_str()).map_or(&[][..], Vec::as_slice);
        let services: BTreeSet<At<Service>> =
            networks.iter().filter_map(|network| by_network.get(network)).flatten().copied().collect();
        services.into_iter().collect()
    };
    model.vpcs.iter().map(of_vpc).collect()
}

/// Joins the model with the live aliases. `bindings` of VPCs that are not in force are left out.
pub fn plan(model: &Model, bindings: &[Binding], numbers: &mut Numbers, revision: u64) -> Plan {
    numbers.update(model);
    let mut planner = Planner {
        model,
        vpcs: model
            .vpcs
            .iter()
            .enumerate()
            .filter(|(_, vpc)| vpc.status.is_active())
            .map(|(position, vpc)| (vpc.name.as_str(), VpcIndex::new(position)))
            .collect(),
        live: HashMap::new(),
        listeners: BTreeMap::new(),
        targets: BTreeSet::new(),
        groups: HashMap::new(),
        target_groups: Vec::new(),
        services: HashMap::new(),
    };
    let mut policies = Policies::default();
    let networks = Networks::new(model, &mut policies);
    let (workloads, roles) = planner.workloads(bindings, &mut policies);
    let services = planner.services(numbers, &networks, &mut policies);
    let vpcs = planner.vpcs(&networks);
    for dns_vip in std::iter::once(model.dns_vip()).chain(model.dns_vip6()) {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            planner.listeners.insert((dns_vip, 53, protocol), (LISTENER_DNS, ServiceNumber::default()));
        }
    }
    let dns = snapshot::Dns {
        suffix: model.dns_suffix.clone(),
        ttl_seconds: DNS_TTL_SECONDS,
        own_ranges: model.own_ranges().map(|range| (range.network(), range.prefix_len())).collect(),
    };
    Plan {
        snapshot: Snapshot {
            revision,
            vpcs,
            workloads,
            services,
            target_groups: planner.target_groups,
            networks: networks.list,
            roles,
            policies: policies.list,
            dns,
        },
        listeners: planner.listeners,
        targets: planner.targets,
    }
}

struct Planner<'m> {
    model: &'m Model,
    /// Names of VPCs in force → position, the same in model and snapshot.
    vpcs: HashMap<&'m str, VpcIndex>,
    /// (VPC, real address) → alias.
    live: HashMap<(VpcIndex, IpAddr), (IpAddr, AliasGeneration)>,
    listeners: BTreeMap<(IpAddr, u16, u8), ListenerTarget>,
    targets: BTreeSet<(IpAddr, u16, u8)>,
    /// Target group name → position in the snapshot.
    groups: HashMap<&'m str, TargetGroupIndex>,
    target_groups: Vec<snapshot::TargetGroup>,
    /// Position in the model → position in the snapshot.
    services: HashMap<At<Service>, ServiceIndex>,
}

fn milliseconds(seconds: u32) -> u32 {
    seconds.checked_mul(1_000).expect("documents say at most 600 seconds")
}

impl<'m> Planner<'m> {
    fn workloads(
        &mut self,
        bindings: &[Binding],
        policies: &mut Policies,
    ) -> (Vec<snapshot::Workload>, Vec<brattice_wire::auth::Role>) {
        let identities = identity::Identities::new(self.model);
        let mut known = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let Some((&vpc, own)) = self.vpcs.get(binding.vpc.as_str()).zip(self.model.vpc(&binding.vpc)) else {
                continue;
            };
            self.live.insert((vpc, binding.address), (binding.alias, binding.generation));
            known.push((binding, vpc, identities.of(own, binding)));
        }
        known.sort_by_key(|(binding, ..)| binding.alias);
        let used = known.iter().filter_map(|(.., identity)| identity.role);
        let (roles, places) = identity::roles(self.model, used, policies);
        let workloads = known.into_iter().map(|(binding, vpc, own)| {
            let role = own.role.and_then(|role| places.get(role.name.as_str()).copied());
            identity::workload(binding, vpc, own, role)
        });
        (workloads.collect(), roles)
    }

    fn vpcs(&mut self, networks: &Networks) -> Vec<snapshot::Vpc> {
        let model = self.model;
        let mut vpcs = Vec::with_capacity(model.vpcs.len());
        for (position, (vpc, visible)) in model.vpcs.iter().zip(visible(model)).enumerate() {
            let mut upstreams = Vec::with_capacity(vpc.dns_upstreams.len());
            for upstream in vpc.dns_upstreams.iter().filter(|_| vpc.status.is_active()) {
                if !vpc.contains(upstream.ip()) {
                    upstreams.push(*upstream);
                    self.targets.insert((upstream.ip(), upstream.port(), IPPROTO_UDP));
                    self.targets.insert((upstream.ip(), upstream.port(), IPPROTO_TCP));
                    continue;
                }
                // Inside the VPC: by its alias, or not at all. The same address outside the VPC is another host.
                if let Some(&(alias, _)) = self.live.get(&(VpcIndex::new(position), upstream.ip())) {
                    upstreams.push(SocketAddr::new(alias, upstream.port()));
                    self.targets.insert((alias, upstream.port(), IPPROTO_UDP));
                    self.targets.insert((alias, upstream.port(), IPPROTO_TCP));
                }
            }
            vpcs.push(snapshot::Vpc {
                name: vpc.name.clone(),
                id: vpc.id.clone(),
                arn: vpc.arn.clone(),
                services: visible.iter().filter_map(|at| self.services.get(at).copied()).collect(),
                account: identity::vpc_account(model, vpc),
                networks: if vpc.status.is_active() {
                    networks.of(AssociationKind::Vpc, &vpc.name)
                } else {
                    Vec::new()
                },
                dns_upstreams: upstreams,
                families: vpc.families(),
            });
        }
        vpcs
    }

    fn services(&mut self, numbers: &Numbers, networks: &Networks, policies: &mut Policies) -> Vec<snapshot::Service> {
        let model = self.model;
        let mut services = Vec::with_capacity(model.services.len());
        for (position, service) in model.services.iter().enumerate() {
            let (true, Some(vip), Some(stable)) = (service.status.is_active(), service.vip, numbers.get(&service.id))
            else {
                continue;
            };
            self.services.insert(At::new(position), ServiceIndex::new(services.len()));
            for listener in &service.listeners {
                let kind = match listener.protocol {
                    Protocol::Http => LISTENER_HTTP,
                    Protocol::Tcp => LISTENER_TCP,
                };
                for vip in std::iter::once(vip).chain(service.vip6) {
                    self.listeners.insert((vip, listener.port, IPPROTO_TCP), (kind, stable));
                }
            }
            services.push(snapshot::Service {
                name: service.name.clone(),
                id: service.id.clone(),
                arn: service.arn.clone(),
                number: stable,
                vip,
                vip6: service.vip6,
                generated_name: service.generated_name.clone(),
                domains: service.domains.clone(),
                account: identity::service_account(model, &service.account),
                tags: identity::pairs(&service.tags),
                auth_type: service.auth_type,
                policy: policies.of_resource(model, &PolicyResource::Service(service.name.clone()), service.auth_type),
                networks: networks.of(AssociationKind::Service, &service.name),
                listeners: service.listeners.iter().map(|listener| self.listener(listener)).collect(),
                idle_timeout_ms: milliseconds(service.idle_timeout_seconds),
                origin: service.origin.clone(),
            });
        }
        services
    }

    fn target_group(&mut self, name: &'m str) -> Option<TargetGroupIndex> {
        if let Some(&index) = self.groups.get(name) {
            return Some(index);
        }
        let group = self.model.target_group(name)?;
        let vpc = self.vpcs.get(group.vpc.as_str()).copied().filter(|_| group.status.is_active());
        let mut targets = Vec::with_capacity(group.targets.len());
        for &(address, port) in &group.targets {
            let Some(&(alias, generation)) = vpc.and_then(|vpc| self.live.get(&(vpc, address))) else { continue };
            targets.push(snapshot::Target { alias, port, address, generation });
            self.targets.insert((alias, port, IPPROTO_TCP));
        }
        let index = TargetGroupIndex::new(self.target_groups.len());
        self.target_groups.push(snapshot::TargetGroup {
            name: group.name.clone(),
            id: group.id.clone(),
            arn: group.arn.clone(),
            vpc,
            protocol_version: group.protocol_version,
            targets,
            configured: u32::try_from(group.targets.len()).expect("documents are bounded far below (limits.rs)"),
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            idle_timeout_ms: group.idle_timeout_seconds.map(milliseconds),
            origin: group.origin.clone(),
        });
        self.groups.insert(name, index);
        Some(index)
    }
}
