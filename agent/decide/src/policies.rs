//! The policies between callers and services at one revision.

use std::sync::Arc;

use brattice_iam::{self as iam, Attachment, Mode};
use brattice_wire::{
    auth::{self, AuthType, PolicyAttachment},
    index::{NetworkIndex, PolicyIndex, ServiceIndex, WorkloadIndex},
    snapshot::{self, Snapshot},
};

use crate::{
    call::Call,
    error::CompileError,
    guard::Guard,
    identity::{Identity, Principal, Tags},
    verdict::Refusal,
};

/// Service networks that a call may come through without an allocation; nearly always it is one.
const FEW: usize = 16;

/// The policies that could deny a request of a connection that is treated as TCP, so that the connection must not be relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Caller and service share no service network.
    NoNetwork,
    /// The policy of this service network, or that it lacks one.
    Network(NetworkIndex),
    /// The policy of the caller's role.
    Identity,
    /// The policy of the service, or that it lacks one.
    Service,
}

#[derive(Debug)]
struct Network {
    arn: Box<str>,
    name: Box<str>,
    guard: Guard,
}

#[derive(Debug)]
struct Vpc {
    id: Box<str>,
    account: Option<Box<str>>,
    networks: Box<[NetworkIndex]>,
}

#[derive(Debug)]
struct Service {
    arn: Box<str>,
    name: Box<str>,
    account: Box<str>,
    tags: Tags,
    networks: Box<[NetworkIndex]>,
    guard: Guard,
}

/// Networks, identities and policies of a snapshot, in its order.
#[derive(Debug, Default)]
pub struct Policies {
    enforced: bool,
    networks: Box<[Network]>,
    vpcs: Box<[Vpc]>,
    services: Box<[Service]>,
    identities: Box<[Identity]>,
}

/// Reads a policy of a snapshot.
pub(crate) type Read<'r> = &'r dyn Fn(&auth::Policy) -> Result<iam::Policy, CompileError>;

impl Policies {
    pub(crate) fn compile(snapshot: &Snapshot, read: Read<'_>) -> Result<Self, CompileError> {
        let mut policies: Vec<Arc<iam::Compiled>> = Vec::with_capacity(snapshot.policies.len());
        for policy in &snapshot.policies {
            let mode = if policy.audit { Mode::Audit } else { Mode::Enforce };
            policies.push(Arc::new(iam::Compiled::new(read(policy)?, policy.name.as_str(), mode)));
        }
        let compiler = Compiler { snapshot, policies };
        let roles = snapshot.roles.iter().map(|role| compiler.role(role)).collect::<Result<Vec<_>, _>>()?;
        let networks = snapshot.networks.iter().map(|network| compiler.network(network));
        let networks = networks.collect::<Result<Box<[_]>, _>>()?;
        let vpcs = snapshot.vpcs.iter().map(|vpc| compiler.vpc(vpc)).collect::<Result<Box<[_]>, _>>()?;
        let services = snapshot.services.iter().map(|service| compiler.service(service));
        let services = services.collect::<Result<Box<[_]>, _>>()?;
        let identities = snapshot.workloads.iter().map(|workload| compiler.identity(workload, &roles));
        let identities = identities.collect::<Result<Box<[_]>, _>>()?;
        let enforced = networks.iter().any(|network| !network.guard.is_open())
            || roles.iter().any(|role| !role.guard.is_open())
            || services.iter().any(|service| !service.guard.is_open());
        Ok(Self { enforced, networks, vpcs, services, identities })
    }
}

struct Compiler<'s> {
    snapshot: &'s Snapshot,
    policies: Vec<Arc<iam::Compiled>>,
}

impl Compiler<'_> {
    fn policy(&self, place: &str, policy: Option<PolicyIndex>) -> Result<Guard, CompileError> {
        let Some(index) = policy else { return Ok(Guard::Missing) };
        CompileError::check(place, "policy", index.position(), self.policies.len())?;
        Ok(self.policies.get(index.position()).map_or(Guard::Missing, |policy| Guard::Policy(Arc::clone(policy))))
    }

    fn guard(&self, place: &str, auth_type: AuthType, policy: Option<PolicyIndex>) -> Result<Guard, CompileError> {
        let guard = self.policy(place, policy)?;
        Ok(if auth_type == AuthType::AwsIam { guard } else { Guard::Open })
    }

    /// A list of service networks, ascending.
    fn members(&self, place: &str, list: &[NetworkIndex]) -> Result<Box<[NetworkIndex]>, CompileError> {
        let count = self.snapshot.networks.len();
        for index in list {
            CompileError::check(place, "service network", index.position(), count)?;
        }
        let mut list = list.to_vec();
        list.sort_unstable();
        list.dedup();
        Ok(list.into())
    }

    fn role(&self, role: &auth::Role) -> Result<Arc<Principal>, CompileError> {
        let guard = match role.policy {
            Some(_) => self.policy(&format!("role {}", role.name), role.policy)?,
            None => Guard::Open,
        };
        Ok(Arc::new(Principal::role(role, guard)))
    }

    fn network(&self, network: &auth::Network) -> Result<Network, CompileError> {
        let guard = self.guard(&format!("service network {}", network.name), network.auth_type, network.policy)?;
        Ok(Network { arn: network.arn.as_str().into(), name: network.name.as_str().into(), guard })
    }

    fn vpc(&self, vpc: &snapshot::Vpc) -> Result<Vpc, CompileError> {
        Ok(Vpc {
            networks: self.members(&format!("VPC {}", vpc.name), &vpc.networks)?,
            account: Some(vpc.account.as_str()).filter(|account| !account.is_empty()).map(Into::into),
            id: vpc.id.as_str().into(),
        })
    }

    fn service(&self, service: &snapshot::Service) -> Result<Service, CompileError> {
        let place = format!("service {}", service.name);
        Ok(Service {
            networks: self.members(&place, &service.networks)?,
            guard: self.guard(&place, service.auth_type, service.policy)?,
            arn: service.arn.as_str().into(),
            name: service.name.as_str().into(),
            account: service.account.as_str().into(),
            tags: Tags::of(&service.tags),
        })
    }

    fn identity(&self, workload: &snapshot::Workload, roles: &[Arc<Principal>]) -> Result<Identity, CompileError> {
        let Some(index) = workload.role else { return Ok(Identity::new(workload, None)) };
        let position = index.position();
        CompileError::check(&format!("workload {}", workload.name), "role", position, roles.len())?;
        let role = self.snapshot.roles.get(position).zip(roles.get(position));
        Ok(Identity::new(workload, role))
    }
}

impl Policies {
    /// Whether any policy decides at all; else nothing is evaluated.
    pub fn enforced(&self) -> bool {
        self.enforced
    }

    /// The identity of a workload, by its index in the snapshot.
    pub fn identity(&self, workload: WorkloadIndex) -> Option<&Identity> {
        self.identities.get(workload.position())
    }

    /// ARN of a service network.
    pub fn network_arn(&self, network: NetworkIndex) -> Option<&str> {
        self.networks.get(network.position()).map(|network| &*network.arn)
    }

    /// ARN of a service.
    pub fn service_arn(&self, service: ServiceIndex) -> Option<&str> {
        self.guarded(service).map(|service| &*service.arn)
    }

    fn guarded(&self, service: ServiceIndex) -> Option<&Service> {
        self.services.get(service.position())
    }

    /// The service networks that the caller's VPC and the service are both in, ascending, into `common`. Not made in
    /// advance: that would be a list for each pair of VPC and service.
    pub fn common(&self, call: &Call<'_>, common: &mut Vec<NetworkIndex>) {
        common.clear();
        let vpc = self.vpcs.get(call.vpc.position());
        let (Some(vpc), Some(service)) = (vpc, self.guarded(call.service)) else { return };
        common.extend(vpc.networks.iter().filter(|network| service.networks.binary_search(network).is_ok()));
    }

    /// The policies that decide about a call: of the caller's role, the service networks in common, the service.
    pub fn deciding<'p>(&'p self, call: &Call<'p>) -> Vec<&'p iam::Policy> {
        let mut common = Vec::new();
        self.common(call, &mut common);
        self.guards(call, &common).filter_map(Guard::policy).collect()
    }

    /// Whether the decision is the same for all requests of a connection, see [`iam::Compiled::per_connection`].
    pub(crate) fn per_connection(&self, call: &Call<'_>, common: &[NetworkIndex]) -> bool {
        self.guards(call, common).all(Guard::per_connection)
    }

    /// The policies between a call and its service, at all levels.
    fn guards<'p>(&'p self, call: &Call<'p>, common: &[NetworkIndex]) -> impl Iterator<Item = &'p Guard> {
        let role = call.identity.principal.as_ref().map(|principal| &principal.guard);
        let networks = common.iter().filter_map(|index| self.networks.get(index.position()));
        let networks = networks.map(|network| &network.guard);
        role.into_iter().chain(networks).chain(self.guarded(call.service).map(|service| &service.guard))
    }

    /// Whether a connection may be relayed as TCP: a policy that could refuse a request could not be asked. None: it may.
    pub fn unreadable(&self, call: &Call<'_>) -> Option<Unreadable> {
        if !self.enforced() {
            return None;
        }
        if call.identity.principal.as_ref().is_some_and(|principal| principal.guard.refuses()) {
            return Some(Unreadable::Identity);
        }
        let mut common = Vec::new();
        self.common(call, &mut common);
        if common.is_empty() {
            return Some(Unreadable::NoNetwork);
        }
        let refuses =
            |index: &&NetworkIndex| self.networks.get(index.position()).is_none_or(|network| network.guard.refuses());
        if let Some(index) = common.iter().find(refuses) {
            return Some(Unreadable::Network(*index));
        }
        self.guarded(call.service).is_none_or(|service| service.guard.refuses()).then_some(Unreadable::Service)
    }

    /// That a connection may not be relayed as TCP, for its record. None: it may be.
    pub fn refusal_unread(&self, call: &Call<'_>) -> Option<Refusal> {
        let (level, name) = match self.unreadable(call)? {
            Unreadable::NoNetwork => {
                return Some(Refusal {
                    level: iam::Level::Network,
                    decision: "no-network".into(),
                    text: String::new(),
                });
            }
            Unreadable::Network(index) => (iam::Level::Network, self.networks.get(index.position()).map(|it| &it.name)),
            Unreadable::Identity => (iam::Level::Identity, call.identity.principal.as_ref().map(|role| &role.name)),
            Unreadable::Service => (iam::Level::Service, self.guarded(call.service).map(|service| &service.name)),
        };
        let decision = format!("not-evaluated:{}:{}", level.word(), name.map_or("", |name| &**name));
        Some(Refusal { level, decision: decision.into(), text: String::new() })
    }

    /// The chain of policies that a call must pass, for as long as `use_it` takes; none where VPC or service do not exist.
    pub(crate) fn with_chain<R>(
        &self,
        call: &Call<'_>,
        common: &[NetworkIndex],
        use_it: impl FnOnce(&iam::Chain<'_>) -> R,
    ) -> Option<R> {
        let service = self.guarded(call.service)?;
        let network = |index: NetworkIndex| {
            let network = self.networks.get(index.position())?;
            Some(iam::Network { arn: &network.arn, guard: network.guard.named(&network.name) })
        };
        let principal = call.identity.principal.as_ref();
        let with = |networks: &[iam::Network<'_>]| {
            use_it(&iam::Chain {
                identity: principal.map_or(iam::Guard::Open, |role| role.guard.named(&role.name)),
                networks,
                service: service.guard.named(&service.name),
            })
        };
        let mut few = [iam::Network { arn: "", guard: iam::Guard::Missing("") }; FEW];
        let Some(few) = few.get_mut(..common.len()) else {
            let many = common.iter().map(|index| network(*index)).collect::<Option<Vec<_>>>()?;
            return Some(with(&many));
        };
        for (place, index) in few.iter_mut().zip(common) {
            *place = network(*index)?;
        }
        Some(with(few))
    }

    /// The call as policies see it, for as long as `use_it` takes; none where VPC or service do not exist.
    pub(crate) fn with_request<R>(
        &self,
        call: &Call<'_>,
        http: Option<iam::Http<'_>>,
        use_it: impl FnOnce(&iam::Request<'_>) -> R,
    ) -> Option<R> {
        let (vpc, service) = (self.vpcs.get(call.vpc.position())?, self.guarded(call.service)?);
        Some(call.identity.with(|who| {
            use_it(&iam::Request {
                caller: who.caller,
                attested: who.attested,
                evidence: who.evidence,
                service_arn: &service.arn,
                service_account: &service.account,
                service_tags: &service.tags,
                port: call.port,
                source_vpc: Some(&vpc.id),
                source_vpc_account: vpc.account.as_deref(),
                source_ip: call.address,
                secure: call.tls,
                now: call.now,
                http,
            })
        }))
    }
}

/// A policy of a snapshot, with its statements where they stand in the file.
///
/// # Errors
/// When it cannot be read: agent and engine are of different versions.
pub fn read(policy: &auth::Policy) -> Result<iam::Policy, CompileError> {
    let attachment = match policy.attachment {
        PolicyAttachment::Role => Attachment::Role,
        PolicyAttachment::ServiceNetwork => Attachment::ServiceNetwork,
        PolicyAttachment::Service { http, tcp } => Attachment::Service { http, tcp },
    };
    let (file, name) = (policy.file.clone(), policy.name.clone());
    let read = iam::Policy::from_json(&policy.json, policy.file.as_str(), attachment);
    let Some(mut own) = read.policy else {
        let finding = read.findings.iter().find(|finding| finding.is_error());
        let finding = finding.map_or_else(|| "no reason is known".to_owned(), ToString::to_string);
        return Err(CompileError::Policy { file, name, finding });
    };
    if own.statements.len() != policy.lines.len() {
        let (statements, lines) = (own.statements.len(), policy.lines.len());
        return Err(CompileError::Lines { file, name, statements, lines });
    }
    for (statement, line) in own.statements.iter_mut().zip(&policy.lines) {
        statement.at.line = *line;
    }
    Ok(own)
}
