//! A snapshot, compiled: everything that a request or a DNS question asks is one look-up by hash.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use brattice_router::{RequestHead, Router, hash::FastMap};
use brattice_wire::{
    auth,
    index::{ServiceIndex, TargetGroupIndex, VpcIndex, WorkloadIndex},
    snapshot::{
        self, AliasGeneration, ForwardedHeaders, Protocol, ProtocolVersion, ServiceNumber, Snapshot, Target,
        WorkloadNumber,
    },
};

use crate::{
    error::CompileError,
    policies::{self, Policies, Read},
    rules::{Action, Compiler, Forward, Rule},
};

/// Numbers compilations within the process.
static EDITION: AtomicU64 = AtomicU64::new(1);

/// A snapshot, checked and indexed: the state of one revision. Made once, shared by all threads, never changed.
#[derive(Debug, Default)]
pub struct Compiled {
    /// Of the snapshot.
    pub revision: u64,
    edition: u64,
    /// Networks, identities and policies.
    pub policies: Policies,
    callers: FastMap<IpAddr, Caller>,
    vpcs: Vec<Vpc>,
    services: Vec<Service>,
    groups: Vec<Group>,
    /// Name → services that have it, for DNS.
    names: FastMap<Box<str>, Vec<ServiceIndex>>,
}

/// The identity of a peer.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The alias, as the peer's address shows it.
    pub alias: IpAddr,
    /// The real address inside the VPC.
    pub address: IpAddr,
    /// Its place in the snapshot.
    pub index: WorkloadIndex,
    /// Its VPC.
    pub vpc: VpcIndex,
    /// Name for people.
    pub name: Arc<str>,
    /// Number of the workload on this node.
    pub number: WorkloadNumber,
    /// Of the alias.
    pub generation: AliasGeneration,
}

/// A VPC as a caller.
#[derive(Debug)]
pub struct Vpc {
    /// `account/name`.
    pub name: String,
    /// Lattice-style id.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// Resolvers for names that are no service's.
    pub dns_upstreams: Vec<SocketAddr>,
    /// Whether it has addresses of IPv4, and of IPv6.
    pub families: (bool, bool),
    /// VIP → the visible services that have it. Nothing else of the state says what a VPC may see.
    vips: FastMap<IpAddr, Vec<ServiceIndex>>,
    /// Visible services, ascending.
    visible: Vec<ServiceIndex>,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    /// `account/name`.
    pub name: String,
    /// Id.
    pub id: Arc<str>,
    /// Its place in the snapshot.
    pub index: ServiceIndex,
    /// Number on this node: key of pools and switches.
    pub number: ServiceNumber,
    /// VIP.
    pub vip: IpAddr,
    /// IPv6 VIP.
    pub vip6: Option<IpAddr>,
    /// Idle client connections are closed after this many ms, and so are requests without any progress.
    pub idle_timeout_ms: u32,
    /// Names in lower case; behind those of DNS the VIPs themselves, as a `Host` field shows them.
    names: Vec<Box<str>>,
    /// How many are of DNS.
    dns_names: usize,
    listeners: Vec<Listener>,
}

/// A listener of a service.
#[derive(Debug)]
pub struct Listener {
    /// Id.
    pub id: String,
    /// VIP port.
    pub port: u16,
    /// What is spoken on its connections.
    pub protocol: Protocol,
    /// How `x-forwarded-for` is written.
    pub forwarded_headers: ForwardedHeaders,
    router: Router,
    rules: Vec<Rule>,
    default: Rule,
}

/// A target group.
#[derive(Debug)]
pub struct Group {
    /// Id.
    pub id: String,
    /// ARN.
    pub arn: String,
    /// What is spoken to its targets.
    pub protocol: ProtocolVersion,
    /// Reachable targets.
    pub targets: Vec<Target>,
    /// Time for a connect, ms.
    pub connect_timeout_ms: u32,
    /// Time that a kept connection to a target may idle, ms, where it is not the engine's own.
    pub idle_timeout_ms: Option<u32>,
}

impl Compiled {
    /// Checks and indexes a snapshot.
    ///
    /// # Errors
    /// When it contradicts itself, see [`CompileError`].
    pub fn new(snapshot: Snapshot) -> Result<Self, CompileError> {
        Self::with_policies(snapshot, &policies::read)
    }

    /// As [`Compiled::new`], with policies that were read before: `read` hands out those of the snapshot.
    ///
    /// # Errors
    /// As [`Compiled::new`], and those of `read`.
    pub fn with_policies(
        snapshot: Snapshot,
        read: &dyn Fn(&auth::Policy) -> Result<brattice_iam::Policy, CompileError>,
    ) -> Result<Self, CompileError> {
        let policies = Policies::compile(&snapshot, read as Read<'_>)?;
        let Snapshot { revision, vpcs, workloads, services, target_groups, networks: _, roles: _, policies: _, dns: _ } =
            snapshot;
        let edition = EDITION.fetch_add(1, Relaxed);
        let mut compiled = Self { revision, edition, policies, ..Self::default() };
        let mut compiler = Compiler { groups: &target_groups, forwards: 0 };
        for service in services {
            compiled.add_service(service, &mut compiler)?;
        }
        for vpc in vpcs {
            compiled.add_vpc(vpc)?;
        }
        for (position, workload) in workloads.into_iter().enumerate() {
            compiled.add_caller(WorkloadIndex::new(position), workload)?;
        }
        compiled.groups = target_groups
            .into_iter()
            .map(|group| Group {
                id: group.id,
                arn: group.arn,
                protocol: group.protocol_version,
                targets: group.targets,
                connect_timeout_ms: group.connect_timeout_ms,
                idle_timeout_ms: group.idle_timeout_ms,
            })
            .collect();
        Ok(compiled)
    }

    fn add_service(&mut self, service: snapshot::Service, compiler: &mut Compiler<'_>) -> Result<(), CompileError> {
        let index = ServiceIndex::new(self.services.len());
        let service = compile(service, index, compiler)?;
        for name in service.names.iter().take(service.dns_names) {
            self.names.entry(name.clone()).or_default().push(index);
        }
        self.services.push(service);
        Ok(())
    }

    fn add_vpc(&mut self, vpc: snapshot::Vpc) -> Result<(), CompileError> {
        let mut vips: FastMap<IpAddr, Vec<ServiceIndex>> = FastMap::default();
        let mut visible = Vec::with_capacity(vpc.services.len());
        for index in vpc.services {
            CompileError::check(&format!("VPC {}", vpc.name), "service", index.position(), self.services.len())?;
            let Some(service) = self.services.get(index.position()) else { continue };
            for vip in std::iter::once(service.vip).chain(service.vip6) {
                vips.entry(vip).or_default().push(index);
            }
            visible.push(index);
        }
        visible.sort_unstable();
        visible.dedup();
        let (name, arn, dns_upstreams) = (vpc.name, vpc.arn, vpc.dns_upstreams);
        let families = vpc.families;
        self.vpcs.push(Vpc { name, id: vpc.id, arn, dns_upstreams, families, vips, visible });
        Ok(())
    }

    fn add_caller(&mut self, index: WorkloadIndex, workload: snapshot::Workload) -> Result<(), CompileError> {
        CompileError::check(&format!("workload {}", workload.name), "VPC", workload.vpc.position(), self.vpcs.len())?;
        let caller = Caller {
            alias: workload.alias,
            address: workload.address,
            index,
            vpc: workload.vpc,
            name: workload.name.into(),
            number: workload.number,
            generation: workload.generation,
        };
        match self.callers.insert(workload.alias, caller) {
            Some(_) => Err(CompileError::Alias(workload.alias)),
            None => Ok(()),
        }
    }

    /// Differs between any two compilations of a process: what was decided by one is nothing to another.
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// The workload that has this alias.
    pub fn caller(&self, alias: IpAddr) -> Option<&Caller> {
        self.callers.get(&alias)
    }

    /// A VPC by its index, which comes from a [`Caller`] of the same state.
    pub fn vpc(&self, index: VpcIndex) -> Option<&Vpc> {
        self.vpcs.get(index.position())
    }

    /// All VPCs.
    pub fn vpcs(&self) -> &[Vpc] {
        &self.vpcs
    }

    /// A service by its place in the snapshot.
    pub fn service_by_index(&self, index: ServiceIndex) -> Option<&Service> {
        self.services.get(index.position())
    }

    /// The service that a workload of this VPC means by VIP, port and host, its listener, and the name that it used.
    ///
    /// `host` may be in any case, and has no port. A service that the VPC may not see is the same as none.
    pub fn service(&self, vpc: VpcIndex, vip: IpAddr, port: u16, host: &str) -> Option<(&Service, &Listener, &str)> {
        let services = self.vpcs.get(vpc.position())?.vips.get(&vip)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        services.iter().find_map(|index| {
            let service = self.services.get(index.position())?;
            let name = service.called(host)?;
            let listener = service.listeners.iter().find(|listener| listener.port == port)?;
            Some((service, listener, name))
        })
    }

    /// The only service of a VIP that a VPC sees there, for what has no host: relayed connections and idle timeouts.
    pub fn service_at(&self, vpc: VpcIndex, vip: IpAddr, port: u16) -> Option<(&Service, &Listener)> {
        let [index] = self.vpcs.get(vpc.position())?.vips.get(&vip)?.as_slice() else { return None };
        let service = self.services.get(index.position())?;
        Some((service, service.listeners.iter().find(|listener| listener.port == port)?))
    }

    /// Index of the service with this number, if it still has this VIP and the VPC may still see it.
    pub fn service_of(&self, vpc: VpcIndex, vip: IpAddr, number: ServiceNumber) -> Option<ServiceIndex> {
        let services = self.vpcs.get(vpc.position())?.vips.get(&vip)?;
        let is_it =
            |index: &ServiceIndex| self.services.get(index.position()).is_some_and(|service| service.number == number);
        services.iter().copied().find(is_it)
    }

    /// The VIPs, of IPv4 and IPv6, of the service that has this DNS name (lower case, no trailing dot), if the VPC may
    /// see it; of the families that the VPC has.
    pub fn resolve(&self, vpc: VpcIndex, name: &str) -> Option<(Option<IpAddr>, Option<IpAddr>)> {
        let Vpc { visible, families, .. } = self.vpcs.get(vpc.position())?;
        // guard: names-of-vpc
        let index = self.names.get(name)?.iter().find(|index| visible.binary_search(index).is_ok())?;
        let service = self.services.get(index.position())?;
        Some((families.0.then_some(service.vip), service.vip6.filter(|_| families.1)))
    }

    /// Whether some service of the node has this DNS name (lower case, no trailing dot), visible or not: such a name is
    /// never asked of a resolver.
    pub fn is_claimed(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// A target group by an index from [`Forward::groups`].
    pub fn group(&self, index: TargetGroupIndex) -> Option<&Group> {
        self.groups.get(index.position())
    }

    /// All target groups.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Every forward of every listener, in the order of [`Forward::index`].
    pub fn forwards(&self) -> impl Iterator<Item = &Forward> {
        self.services
            .iter()
            .flat_map(|service| &service.listeners)
            .flat_map(|listener| listener.rules.iter().chain([&listener.default]))
            .filter_map(|rule| match &rule.action {
                Action::Forward(forward) => Some(forward),
                Action::Fixed(_) | Action::Redirect(_) => None,
            })
    }
}

impl Service {
    /// The names by which it can be called: of DNS, then its VIPs as a `Host` field shows them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// Its listener on a port.
    pub fn listener(&self, port: u16) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.port == port)
    }

    /// What a caller that gives no name is taken to mean: the first of the service's own names, else the generated one.
    pub fn usual_name(&self) -> &str {
        let own = self.names[..self.dns_names].get(1).or_else(|| self.names.first());
        own.map_or("", AsRef::as_ref)
    }

    /// The name of the service that a host (without port and trailing dot) is, in any case; an IPv6 VIP in any spelling.
    pub fn called(&self, host: &str) -> Option<&str> {
        if let Some(literal) = host.strip_prefix('[') {
            let address: Ipv6Addr = literal.strip_suffix(']')?.parse().ok()?;
            let own = std::iter::once(self.vip).chain(self.vip6).position(|vip| vip == IpAddr::V6(address))?;
            return self.names.get(self.dns_names + own).map(AsRef::as_ref);
        }
        self.names.iter().find(|name| name.eq_ignore_ascii_case(host)).map(AsRef::as_ref)
    }
}

impl Listener {
    /// The rule that a request meets and its position; the default, and none, where no rule matches.
    pub(crate) fn rule<R: RequestHead + ?Sized>(&self, request: &R) -> (Option<usize>, &Rule) {
        let found = self.router.find(request).and_then(|position| Some((Some(position), self.rules.get(position)?)));
        found.unwrap_or((None, &self.default))
    }

    /// What is done when no rule matches; the only action of a relayed connection.
    pub fn default_action(&self) -> &Action {
        &self.default.action
    }
}

fn compile(
    service: snapshot::Service,
    index: ServiceIndex,
    compiler: &mut Compiler<'_>,
) -> Result<Service, CompileError> {
    let mut names: Vec<Box<str>> = Vec::with_capacity(service.domains.len() + 2);
    names.push(service.generated_name.into());
    names.extend(service.domains.into_iter().map(Into::into));
    let dns_names = names.len();
    names.extend(std::iter::once(service.vip).chain(service.vip6).map(|vip| match vip {
        IpAddr::V4(vip) => vip.to_string().into(),
        IpAddr::V6(vip) => format!("[{vip}]").into(),
    }));
    let mut listeners = Vec::with_capacity(service.listeners.len());
    for listener in service.listeners {
        let place = |rule: &str| format!("{}/{}/{rule}", service.id, listener.id);
        let mut rules = Vec::with_capacity(listener.rules.len());
        for rule in &listener.rules {
            rules.push(compiler.rule(rule, place(&rule.id))?);
        }
        let default = compiler.default(&listener, place("default"))?;
        let router = Router::compile(listener.precedence, &listener.rules).map_err(|error| CompileError::Rules {
            place: format!("{}/{}", service.id, listener.id),
            error: error.into(),
        })?;
        listeners.push(Listener {
            router,
            port: listener.port,
            protocol: listener.protocol,
            forwarded_headers: listener.forwarded_headers,
            rules,
            default,
            id: listener.id,
        });
    }
    Ok(Service {
        name: service.name,
        id: service.id.into(),
        index,
        number: service.number,
        vip: service.vip,
        vip6: service.vip6,
        idle_timeout_ms: service.idle_timeout_ms,
        names,
        dns_names,
        listeners,
    })
}
