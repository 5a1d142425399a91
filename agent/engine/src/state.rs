//! The snapshot, compiled: everything that a request or a DNS question asks is one look-up by hash.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use brattice_router::{RequestHead, Router, hash::FastMap};
use brattice_wire::{
    engine::{Limits, Settings, Stats},
    snapshot::{self, ForwardedHeaders, Protocol, ProtocolVersion, Snapshot, Target},
};

use crate::{
    aliases::CallerId,
    auth::{GuardError, Guards},
    descriptors,
    limits::{Registry, Usage},
    memory,
    records::{names::Names, outlets::Outlets},
    rules::{Action, Compiler, Forward, Rule},
    stats::AllCounts,
    upstream::failing::Failing,
};

/// What all threads of the engine share.
#[derive(Debug)]
pub struct Shared {
    /// The state in force; readers never wait.
    pub state: ArcSwap<State>,
    /// Counts.
    pub counts: AllCounts,
    /// What the engine was started with.
    pub settings: Settings,
    /// Its bounds, as they fit to what the process may have.
    pub limits: Limits,
    /// What leaves the workers beside traffic.
    pub outlets: Arc<Outlets>,
    /// Targets that cannot be connected to.
    pub failing: Failing,
    registry: Registry,
}

impl Shared {
    /// Without any service, at revision 0.
    pub fn new(settings: Settings) -> Arc<Self> {
        let limits = settings.limits;
        Self::within(settings, limits)
    }

    /// As [`Shared::new`], within other bounds than those that the agent knows of.
    pub fn within(settings: Settings, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits: memory::fit(descriptors::fit(limits), settings.halvings),
            state: ArcSwap::from_pointee(State::default()),
            counts: AllCounts::new(settings.workers),
            outlets: Arc::new(Outlets::new(settings.workers)),
            failing: Failing::default(),
            registry: Registry::default(),
            settings,
        })
    }

    /// Compiles a snapshot and puts it in force. Workers see it at their next request; who must know that all do,
    /// gives them [`crate::orders::Order::Applied`].
    ///
    /// # Errors
    /// When the snapshot is inconsistent; the state before stays.
    pub fn apply(&self, snapshot: Snapshot) -> Result<u64, CompileError> {
        let state = State::compile(snapshot, &self.registry)?;
        let revision = state.revision;
        self.state.store(Arc::new(state));
        self.registry.prune();
        self.outlets.forget_series(&self.state.load().records);
        Ok(revision)
    }

    /// Counts since the start.
    pub fn stats(&self, sandbox_missing: Vec<String>) -> Stats {
        let stats = self.counts.sum(self.state.load().revision, self.registry.busiest(), sandbox_missing);
        let limits = &self.limits;
        Stats {
            log_lines: self.outlets.log_lines_so_far(),
            metrics_overflow: self.outlets.series.overflow(),
            descriptors: self.descriptors(),
            failing: self.failing.lately(),
            memory: [self.bytes(), limits.memory_bytes],
            busiest_memory: [self.registry.largest(), limits.bytes_per_workload],
            most: [limits.connections_per_workload, limits.requests_per_workload, limits.dns_in_flight_per_workload],
            ..stats
        }
    }
}

/// Why a snapshot was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// An index points nowhere.
    #[error("{place}: {what} number {index} does not exist (there are {count}); the agent that sent it has a defect")]
    Index {
        /// Who refers to it.
        place: String,
        /// `VPC`, `service`, `target group`.
        what: &'static str,
        /// The index.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// Two workloads with one alias: a caller could not be told.
    #[error("the alias {0} stands for two workloads; the agent that sent it has a defect")]
    Alias(IpAddr),
    /// No answer can have this status.
    #[error("{place}: {status} cannot be the status of an answer; use 200 to 599")]
    Status {
        /// Service and rule.
        place: String,
        /// The status.
        status: u16,
    },
    /// What a rule would write into a request or an answer cannot be written there.
    #[error("{place}: {text:?} cannot be a {what}; the agent that sent it has a defect")]
    Unusable {
        /// Service and rule.
        place: String,
        /// `field name`, `field value`, `host`.
        what: &'static str,
        /// What it says.
        text: String,
    },
    /// A regular expression of a rewrite or a redirect is refused.
    #[error("{place}: {error}")]
    Regex {
        /// Service, listener and rule.
        place: String,
        /// Why.
        error: Box<brattice_router::RegexError>,
    },
    /// Networks, roles or policies are refused.
    #[error(transparent)]
    Guards(#[from] GuardError),
    /// The rules of a listener cannot be compiled.
    #[error("{place}: {error}")]
    Rules {
        /// Service and listener.
        place: String,
        /// Why.
        error: Box<brattice_router::CompileError>,
    },
}

/// The engine's view of the world at one revision.
#[derive(Debug, Default)]
pub struct State {
    /// Of the snapshot.
    pub revision: u64,
    /// Networks, roles and policies.
    pub guards: Guards,
    /// Names for what is written down.
    pub records: Names,
    callers: FastMap<IpAddr, Caller>,
    vpcs: Vec<Vpc>,
    services: Vec<Service>,
    groups: Vec<Group>,
    /// Name → services that have it, for DNS.
    names: FastMap<Box<str>, Vec<u32>>,
    /// Settings of the DNS server.
    pub dns: snapshot::Dns,
}

/// Who a peer is.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The alias, as the peer's address shows it.
    pub alias: IpAddr,
    /// The real address inside the VPC.
    pub address: IpAddr,
    /// Index among the snapshot's workloads.
    pub index: u32,
    /// Index of its VPC.
    pub vpc: u32,
    /// Name for people.
    pub name: Arc<str>,
    /// Number of the workload on this node.
    pub number: u32,
    /// Of the alias.
    pub generation: u32,
    /// What the workload has open, over all its addresses.
    pub usage: Arc<Usage>,
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
    /// Resolvers for names that are not ours.
    pub dns_upstreams: Vec<SocketAddr>,
    /// Whether it has addresses of IPv4, and of IPv6.
    pub families: (bool, bool),
    /// VIP → the visible services that have it. Nothing else of the state says what a VPC may see.
    vips: FastMap<IpAddr, Vec<u32>>,
    /// Visible services, ascending.
    visible: Vec<u32>,
}

/// A service.
#[derive(Debug)]
pub struct Service {
    /// `account/name`.
    pub name: String,
    /// Id.
    pub id: Arc<str>,
    /// Index among the snapshot's services.
    pub index: u32,
    /// Number on this node: key of pools and switches.
    pub number: u32,
    /// VIP.
    pub vip: IpAddr,
    /// IPv6 VIP.
    pub vip6: Option<IpAddr>,
    /// Idle client connections are closed after so many ms, and so are requests of which nobody says a word.
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
    /// What is spoken to its targets.
    pub protocol: ProtocolVersion,
    /// Reachable targets.
    pub targets: Vec<Target>,
    /// Time for a connect, ms.
    pub connect_timeout_ms: u32,
    /// Time that a kept connection to a target may idle, ms, where it is not the engine's own.
    pub idle_timeout_ms: Option<u32>,
}

impl State {
    /// Checks and indexes a snapshot.
    ///
    /// # Errors
    /// When it contradicts itself, see [`CompileError`].
    pub fn compile(snapshot: Snapshot, registry: &Registry) -> Result<Self, CompileError> {
        let guards = Guards::compile(&snapshot)?;
        let records = Names::of(&snapshot);
        let Snapshot { revision, vpcs, workloads, services, target_groups, networks: _, roles: _, policies: _, dns } =
            snapshot;
        let mut state = Self { revision, guards, records, dns, ..Self::default() };
        let counts = (vpcs.len(), services.len());
        let mut compiler = Compiler { groups: &target_groups, forwards: 0 };
        for service in services {
            let index = u32::try_from(state.services.len()).unwrap_or(u32::MAX);
            let service = compile(service, index, &mut compiler)?;
            for name in service.names.iter().take(service.dns_names) {
                state.names.entry(name.clone()).or_default().push(index);
            }
            state.services.push(service);
        }
        for vpc in vpcs {
            let mut vips: FastMap<IpAddr, Vec<u32>> = FastMap::default();
            for index in &vpc.services {
                let service = state.services.get(*index as usize).ok_or_else(|| CompileError::Index {
                    place: format!("VPC {}", vpc.name),
                    what: "service",
                    index: *index,
                    count: counts.1,
                })?;
                for vip in std::iter::once(service.vip).chain(service.vip6) {
                    vips.entry(vip).or_default().push(*index);
                }
            }
            let mut visible = vpc.services;
            visible.sort_unstable();
            visible.dedup();
            let (name, arn, dns_upstreams) = (vpc.name, vpc.arn, vpc.dns_upstreams);
            let families = vpc.families;
            state.vpcs.push(Vpc { name, id: vpc.id, arn, dns_upstreams, families, vips, visible });
        }
        for (index, workload) in (0u32..).zip(workloads) {
            if workload.vpc as usize >= counts.0 {
                let place = format!("workload {}", workload.name);
                return Err(CompileError::Index { place, what: "VPC", index: workload.vpc, count: counts.0 });
            }
            let caller = Caller {
                alias: workload.alias,
                address: workload.address,
                index,
                vpc: workload.vpc,
                name: workload.name.into(),
                number: workload.number,
                generation: workload.generation,
                usage: registry.usage(workload.number),
            };
            if state.callers.insert(workload.alias, caller).is_some() {
                return Err(CompileError::Alias(workload.alias));
            }
        }
        state.groups = target_groups
            .into_iter()
            .map(|group| Group {
                id: group.id,
                protocol: group.protocol_version,
                targets: group.targets,
                connect_timeout_ms: group.connect_timeout_ms,
                idle_timeout_ms: group.idle_timeout_ms,
            })
            .collect();
        Ok(state)
    }

    /// Who has this alias now; asked where a connection or a question comes in, and nowhere else.
    pub fn caller_at(&self, alias: IpAddr) -> Option<&Caller> {
        self.callers.get(&alias)
    }

    /// What this state says of a caller; `None` where it has its alias no more.
    pub fn caller(&self, id: CallerId) -> Option<&Caller> {
        self.callers.get(&id.alias()).filter(|caller| caller.generation == id.generation())
    }

    /// A VPC by its index, which comes from a [`Caller`] of the same state.
    pub fn vpc(&self, index: u32) -> Option<&Vpc> {
        self.vpcs.get(index as usize)
    }

    /// All VPCs.
    pub fn vpcs(&self) -> &[Vpc] {
        &self.vpcs
    }

    /// The service that a workload of this VPC means by VIP, port and host, its listener, and the name that it used.
    ///
    /// `host` may be in any case and without a port. A service that the VPC may not see is the same as none.
    pub fn service(&self, vpc: u32, vip: IpAddr, port: u16, host: &str) -> Option<(&Service, &Listener, &str)> {
        let services = self.vpcs.get(vpc as usize)?.vips.get(&vip)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        services.iter().find_map(|index| {
            let service = self.services.get(*index as usize)?;
            let name = service.called(host)?;
            let listener = service.listeners.iter().find(|listener| listener.port == port)?;
            Some((service, listener, name))
        })
    }

    /// The only service of a VIP that a VPC sees there, for what has no host: relayed connections and idle timeouts.
    pub fn service_at(&self, vpc: u32, vip: IpAddr, port: u16) -> Option<(&Service, &Listener)> {
        let [index] = self.vpcs.get(vpc as usize)?.vips.get(&vip)?.as_slice() else { return None };
        let service = self.services.get(*index as usize)?;
        Some((service, service.listeners.iter().find(|listener| listener.port == port)?))
    }

    /// Index of the service with this number, if it still has this VIP and the VPC may still see it.
    pub(crate) fn service_of(&self, vpc: u32, vip: IpAddr, number: u32) -> Option<u32> {
        let services = self.vpcs.get(vpc as usize)?.vips.get(&vip)?;
        let is_it = |index: &u32| self.services.get(*index as usize).is_some_and(|service| service.number == number);
        services.iter().copied().find(is_it)
    }

    /// The VIPs, of IPv4 and IPv6, of the service that has this DNS name (lower case, no trailing dot), if the VPC may
    /// see it; of the families that the VPC has.
    pub fn resolve(&self, vpc: u32, name: &str) -> Option<(Option<IpAddr>, Option<IpAddr>)> {
        let Vpc { visible, families, .. } = self.vpcs.get(vpc as usize)?;
        // guard: names-of-vpc
        let index = self.names.get(name)?.iter().find(|index| visible.binary_search(index).is_ok())?;
        let service = self.services.get(*index as usize)?;
        Some((families.0.then_some(service.vip), service.vip6.filter(|_| families.1)))
    }

    /// Whether some service of the node has this DNS name (lower case, no trailing dot), visible or not: such a name is
    /// never asked of a resolver.
    pub fn is_claimed(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// A target group by an index from [`Forward::groups`].
    pub fn group(&self, index: u32) -> Option<&Group> {
        self.groups.get(index as usize)
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

impl Caller {
    /// By which it is known in later states.
    pub fn id(&self) -> CallerId {
        CallerId::new(self.alias, self.generation)
    }
}

impl Service {
    /// What a caller that gives no name is taken to mean: the first of the service's own names, else the generated one.
    pub(crate) fn usual_name(&self) -> &str {
        let own = self.names[..self.dns_names].get(1).or_else(|| self.names.first());
        own.map_or("", AsRef::as_ref)
    }

    /// The name of the service that a host (without port and trailing dot) is, in any case; an IPv6 VIP in any spelling.
    fn called(&self, host: &str) -> Option<&str> {
        if let Some(literal) = host.strip_prefix('[') {
            let address: Ipv6Addr = literal.strip_suffix(']')?.parse().ok()?;
            let own = std::iter::once(self.vip).chain(self.vip6).position(|vip| vip == IpAddr::V6(address))?;
            return self.names.get(self.dns_names + own).map(AsRef::as_ref);
        }
        self.names.iter().find(|name| name.eq_ignore_ascii_case(host)).map(AsRef::as_ref)
    }
}

impl Listener {
    /// The rule that a request meets; the default where none matches.
    pub fn rule<R: RequestHead + ?Sized>(&self, request: &R) -> &Rule {
        self.router.find(request).and_then(|rule| self.rules.get(rule)).unwrap_or(&self.default)
    }

    /// What is done when no rule matches; the only action of a relayed connection.
    pub fn default_action(&self) -> &Action {
        &self.default.action
    }
}

fn compile(service: snapshot::Service, index: u32, compiler: &mut Compiler<'_>) -> Result<Service, CompileError> {
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
