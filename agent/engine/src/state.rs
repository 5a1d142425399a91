//! The snapshot, compiled: everything that a request or a DNS question asks is one look-up by hash.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use arc_swap::ArcSwap;
use brattice_router::{Router, hash::FastMap};
use brattice_wire::{
    engine::{Settings, Stats},
    snapshot::{self, ForwardedHeaders, ProtocolVersion, Snapshot, Target},
};
use http::StatusCode;

use crate::{
    limits::{Registry, Usage},
    stats::AllCounts,
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
    registry: Registry,
}

impl Shared {
    /// Without any service, at revision 0.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            state: ArcSwap::from_pointee(State::default()),
            counts: AllCounts::new(settings.workers),
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
        Ok(revision)
    }

    /// Counts since the start.
    pub fn stats(&self, sandbox_missing: Vec<String>) -> Stats {
        self.counts.sum(self.state.load().revision, self.registry.busiest(), sandbox_missing)
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
}

/// The engine's view of the world at one revision.
#[derive(Debug, Default)]
pub struct State {
    /// Of the snapshot.
    pub revision: u64,
    callers: FastMap<IpAddr, Caller>,
    vpcs: Vec<Vpc>,
    services: Vec<Service>,
    groups: Vec<Group>,
    /// Name → services that have it, for DNS.
    names: FastMap<Box<str>, Vec<u32>>,
    /// Every forward of every listener, see [`Forward::index`].
    forwards: u32,
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
    /// ARN.
    pub arn: String,
    /// Resolvers for names that are not ours.
    pub dns_upstreams: Vec<SocketAddr>,
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
    /// Number on this node: key of pools and switches.
    pub number: u32,
    /// VIP.
    pub vip: IpAddr,
    /// Idle client connections are closed after this many seconds.
    pub idle_timeout_seconds: u32,
    /// Names in lower case; the last one is the VIP itself, as a `Host` field shows it.
    names: Vec<Box<str>>,
    listeners: Vec<Listener>,
}

/// A listener of a service.
#[derive(Debug)]
pub struct Listener {
    /// Id.
    pub id: String,
    /// VIP port.
    pub port: u16,
    /// How `x-forwarded-for` is written.
    pub forwarded_headers: ForwardedHeaders,
    router: Router,
    actions: Vec<Action>,
    default: Action,
}

/// What is done with a request.
#[derive(Debug)]
pub enum Action {
    /// To a target.
    Forward(Forward),
    /// Our own answer, with an empty body.
    Fixed(StatusCode),
}

/// To one of several target groups, by weight.
#[derive(Debug)]
pub struct Forward {
    /// Dense number within the state, for each worker's own counters.
    pub index: u32,
    /// Service, listener, rule: the same in every revision.
    pub key: String,
    /// Indices of target groups, see [`State::group`].
    pub groups: Vec<u32>,
    /// Their weights.
    pub weights: Vec<u16>,
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
}

impl State {
    /// Checks and indexes a snapshot.
    ///
    /// # Errors
    /// When it contradicts itself, see [`CompileError`].
    pub fn compile(snapshot: Snapshot, registry: &Registry) -> Result<Self, CompileError> {
        let Snapshot { revision, vpcs, workloads, services, target_groups, dns } = snapshot;
        let mut state = Self { revision, dns, ..Self::default() };
        let counts = (vpcs.len(), services.len(), target_groups.len());
        for service in services {
            let service = state.service_of(service, counts.2)?;
            let index = u32::try_from(state.services.len()).unwrap_or(u32::MAX);
            let names = service.names.len() - 1;
            for name in &service.names[..names] {
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
                vips.entry(service.vip).or_default().push(*index);
            }
            let mut visible = vpc.services;
            visible.sort_unstable();
            visible.dedup();
            let (name, arn, dns_upstreams) = (vpc.name, vpc.arn, vpc.dns_upstreams);
            state.vpcs.push(Vpc { name, arn, dns_upstreams, vips, visible });
        }
        for workload in workloads {
            if workload.vpc as usize >= counts.0 {
                let place = format!("workload {}", workload.name);
                return Err(CompileError::Index { place, what: "VPC", index: workload.vpc, count: counts.0 });
            }
            let caller = Caller {
                alias: workload.alias,
                address: workload.address,
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
            })
            .collect();
        Ok(state)
    }

    fn service_of(&mut self, service: snapshot::Service, groups: usize) -> Result<Service, CompileError> {
        let mut names: Vec<Box<str>> = Vec::with_capacity(service.domains.len() + 2);
        names.push(service.generated_name.into());
        names.extend(service.domains.into_iter().map(Into::into));
        names.push(match service.vip {
            IpAddr::V4(vip) => vip.to_string().into(),
            IpAddr::V6(vip) => format!("[{vip}]").into(),
        });
        let mut listeners = Vec::with_capacity(service.listeners.len());
        for listener in service.listeners {
            let place = |rule: &str| format!("{}/{}/{rule}", service.id, listener.id);
            let mut actions = Vec::with_capacity(listener.rules.len());
            for rule in &listener.rules {
                actions.push(self.action_of(&rule.action, place(&rule.id), groups)?);
            }
            let default = self.action_of(&listener.default_action, place("default"), groups)?;
            listeners.push(Listener {
                router: Router::compile(&listener.rules),
                port: listener.port,
                forwarded_headers: listener.forwarded_headers,
                actions,
                default,
                id: listener.id,
            });
        }
        Ok(Service {
            name: service.name,
            id: service.id.into(),
            number: service.number,
            vip: service.vip,
            idle_timeout_seconds: service.idle_timeout_seconds,
            names,
            listeners,
        })
    }

    fn action_of(&mut self, action: &snapshot::Action, key: String, count: usize) -> Result<Action, CompileError> {
        match action {
            snapshot::Action::FixedResponse { status } => match StatusCode::from_u16(*status) {
                Ok(code) if (200..=599).contains(status) => Ok(Action::Fixed(code)),
                _ => Err(CompileError::Status { place: key, status: *status }),
            },
            snapshot::Action::Forward(shares) => {
                if let Some(share) = shares.iter().find(|share| share.target_group as usize >= count) {
                    let index = share.target_group;
                    return Err(CompileError::Index { place: key, what: "target group", index, count });
                }
                let index = self.forwards;
                self.forwards += 1;
                Ok(Action::Forward(Forward {
                    index,
                    key,
                    groups: shares.iter().map(|share| share.target_group).collect(),
                    weights: shares.iter().map(|share| share.weight).collect(),
                }))
            }
        }
    }

    /// Who has this alias.
    pub fn caller(&self, alias: IpAddr) -> Option<&Caller> {
        self.callers.get(&alias)
    }

    /// A VPC by its index, which comes from a [`Caller`] of the same state.
    pub fn vpc(&self, index: u32) -> Option<&Vpc> {
        self.vpcs.get(index as usize)
    }

    /// The service that a workload of this VPC means by VIP, port and host, its listener, and the name that it used.
    ///
    /// `host` may be in any case and without a port. A service that the VPC may not see is the same as none.
    pub fn service(&self, vpc: u32, vip: IpAddr, port: u16, host: &str) -> Option<(&Service, &Listener, &str)> {
        let services = self.vpcs.get(vpc as usize)?.vips.get(&vip)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        services.iter().find_map(|index| {
            let service = self.services.get(*index as usize)?;
            let name = service.names.iter().find(|name| name.eq_ignore_ascii_case(host))?;
            let listener = service.listeners.iter().find(|listener| listener.port == port)?;
            Some((service, listener, name.as_ref()))
        })
    }

    /// The only service of a VIP that a VPC sees there, for what has no host: relayed connections and idle timeouts.
    pub fn service_at(&self, vpc: u32, vip: IpAddr, port: u16) -> Option<(&Service, &Listener)> {
        let [index] = self.vpcs.get(vpc as usize)?.vips.get(&vip)?.as_slice() else { return None };
        let service = self.services.get(*index as usize)?;
        Some((service, service.listeners.iter().find(|listener| listener.port == port)?))
    }

    /// The VIP of the service that has this DNS name (lower case, no trailing dot), if the VPC may see it.
    pub fn resolve(&self, vpc: u32, name: &str) -> Option<IpAddr> {
        let visible = &self.vpcs.get(vpc as usize)?.visible;
        let index = self.names.get(name)?.iter().find(|index| visible.binary_search(index).is_ok())?;
        Some(self.services.get(*index as usize)?.vip)
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
            .flat_map(|listener| listener.actions.iter().chain([&listener.default]))
            .filter_map(|action| match action {
                Action::Forward(forward) => Some(forward),
                Action::Fixed(_) => None,
            })
    }
}

impl Listener {
    /// What is done with a request. `host` is a name that [`State::service`] returned, `path` comes without the query.
    pub fn action(&self, method: &str, host: &str, path: &str) -> &Action {
        self.router.find(method, host, path).and_then(|rule| self.actions.get(rule)).unwrap_or(&self.default)
    }

    /// What is done when no rule matches; the only action of a relayed connection.
    pub fn default_action(&self) -> &Action {
        &self.default
    }
}
