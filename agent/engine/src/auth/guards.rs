//! What stands between callers and services at one revision: made once, shared by all workers, never changed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use brattice_iam::{self as iam, Attachment, Compiled, Mode};
use brattice_wire::{
    auth::{AuthType, PolicyAttachment},
    snapshot::Snapshot,
};
use http::HeaderValue;

use super::{
    identity::{Identity, Role, Tags},
    said,
};

/// Service networks that a call may come through without an allocation; nearly always it is one.
const FEW: usize = 16;

/// Numbers [`Guards`] within the process.
static EDITION: AtomicU64 = AtomicU64::new(1);

/// Why networks, roles and policies were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// An index points nowhere.
    #[error("{place}: {what} number {index} does not exist (there are {count}); the agent that sent it has a defect")]
    Index {
        /// Who refers to it.
        place: String,
        /// `policy`, `role`, `service network`, `VPC`.
        what: &'static str,
        /// The index.
        index: u32,
        /// How many there are.
        count: usize,
    },
    /// The policy was checked where it was written, and cannot be read here.
    #[error("{file}: the policy of {name} cannot be read: {finding}; agent and engine are of different versions")]
    Policy {
        /// File it was written in.
        file: String,
        /// Whose it is.
        name: String,
        /// The first error.
        finding: String,
    },
    /// Statements and lines do not go together, so denials could not be named.
    #[error(
        "{file}: the policy of {name} has {statements} statements and {lines} lines; the agent that sent it has a defect"
    )]
    Lines {
        /// File it was written in.
        file: String,
        /// Whose it is.
        name: String,
        /// Statements read.
        statements: usize,
        /// Lines given.
        lines: usize,
    },
}

/// What stands at a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stands {
    /// Nothing.
    #[default]
    Open,
    /// `AWS_IAM`, and no policy.
    Missing,
    /// This policy.
    Policy(u32),
}

#[derive(Debug)]
struct Network {
    arn: Box<str>,
    name: Box<str>,
    stands: Stands,
}

#[derive(Debug)]
struct Vpc {
    id: Box<str>,
    account: Option<Box<str>>,
    networks: Box<[u32]>,
    /// For targets: its ARN, and its id.
    said: [Option<HeaderValue>; 2],
}

#[derive(Debug)]
struct Service {
    arn: Box<str>,
    name: Box<str>,
    account: Box<str>,
    tags: Tags,
    networks: Box<[u32]>,
    stands: Stands,
}

/// Networks, roles and policies, compiled; all indices are the snapshot's.
#[derive(Debug, Default)]
pub struct Guards {
    edition: u64,
    enforced: bool,
    policies: Box<[Compiled]>,
    networks: Box<[Network]>,
    roles: Box<[Role]>,
    vpcs: Box<[Vpc]>,
    services: Box<[Service]>,
    identities: Box<[Identity]>,
    groups: Box<[Box<str>]>,
}

/// A call as far as it is the same for all requests of a connection to one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// Index of the caller among the snapshot's workloads.
    pub workload: u32,
    /// Index of its VPC.
    pub vpc: u32,
    /// Index of the service.
    pub service: u32,
}

impl Guards {
    /// Compiles what a snapshot says about who may call what.
    ///
    /// # Errors
    /// When it contradicts itself, or a policy cannot be read: then nothing of it may come in force.
    pub fn compile(snapshot: &Snapshot) -> Result<Self, GuardError> {
        let policies = snapshot.policies.iter().map(policy).collect::<Result<Box<[_]>, _>>()?;
        let index = |place: &str, what: &'static str, index: u32, count: usize| {
            if (index as usize) < count {
                return Ok(index);
            }
            Err(GuardError::Index { place: place.to_owned(), what, index, count })
        };
        let policy = |place: &str, policy: Option<u32>| -> Result<Stands, GuardError> {
            policy.map_or(Ok(Stands::Missing), |number| {
                index(place, "policy", number, policies.len()).map(Stands::Policy)
            })
        };
        let stands = |place: &str, auth_type: AuthType, number: Option<u32>| -> Result<Stands, GuardError> {
            let stands = policy(place, number)?;
            Ok(if auth_type == AuthType::AwsIam { stands } else { Stands::Open })
        };
        let members = |place: &str, list: &[u32]| -> Result<Box<[u32]>, GuardError> {
            let mut list = list
                .iter()
                .map(|number| index(place, "service network", *number, snapshot.networks.len()))
                .collect::<Result<Vec<_>, _>>()?;
            list.sort_unstable();
            list.dedup();
            Ok(list.into())
        };
        let networks = snapshot
            .networks
            .iter()
            .map(|network| {
                let stands = stands(&format!("service network {}", network.name), network.auth_type, network.policy)?;
                Ok(Network { arn: network.arn.as_str().into(), name: network.name.as_str().into(), stands })
            })
            .collect::<Result<Box<[_]>, _>>()?;
        let roles = snapshot
            .roles
            .iter()
            .map(|role| {
                let stands = match role.policy {
                    Some(number) => policy(&format!("role {}", role.name), Some(number))?,
                    None => Stands::Open,
                };
                Ok(Role::new(role, stands))
            })
            .collect::<Result<Box<[_]>, _>>()?;
        let vpcs = snapshot
            .vpcs
            .iter()
            .map(|vpc| {
                Ok(Vpc {
                    networks: members(&format!("VPC {}", vpc.name), &vpc.networks)?,
                    account: Some(vpc.account.as_str()).filter(|account| !account.is_empty()).map(Into::into),
                    said: [said::network(&vpc.arn), said::source_vpc(&vpc.id)],
                    id: vpc.id.as_str().into(),
                })
            })
            .collect::<Result<Box<[_]>, _>>()?;
        let services = snapshot
            .services
            .iter()
            .map(|service| {
                let place = format!("service {}", service.name);
                Ok(Service {
                    networks: members(&place, &service.networks)?,
                    stands: stands(&place, service.auth_type, service.policy)?,
                    arn: service.arn.as_str().into(),
                    name: service.name.as_str().into(),
                    account: service.account.as_str().into(),
                    tags: Tags::new(&service.tags),
                })
            })
            .collect::<Result<Box<[_]>, _>>()?;
        let identities = snapshot
            .workloads
            .iter()
            .map(|workload| {
                let role = match workload.role {
                    Some(number) => {
                        index(&format!("workload {}", workload.name), "role", number, roles.len())?;
                        Some((number, &roles[number as usize]))
                    }
                    None => None,
                };
                Ok(Identity::new(workload, role))
            })
            .collect::<Result<Box<[_]>, _>>()?;
        let closed = |stands: Stands| stands != Stands::Open;
        let enforced = networks.iter().any(|network| closed(network.stands))
            || roles.iter().any(|role| closed(role.stands))
            || services.iter().any(|service| closed(service.stands));
        Ok(Self {
            edition: EDITION.fetch_add(1, Relaxed),
            enforced,
            groups: snapshot.target_groups.iter().map(|group| group.arn.as_str().into()).collect(),
            policies,
            networks,
            roles,
            vpcs,
            services,
            identities,
        })
    }

    /// Differs between any two compilations: decisions of one are none of another.
    pub(crate) fn edition(&self) -> u64 {
        self.edition
    }

    /// Whether anything decides at all; else nothing is evaluated.
    pub fn enforced(&self) -> bool {
        self.enforced
    }

    /// The service networks that the caller's VPC and the service are both in, ascending, into `common`. Not made in
    /// advance: that would be a list for each pair of VPC and service.
    pub(super) fn common(&self, parties: &Parties, common: &mut Vec<u32>) {
        common.clear();
        let (Some(vpc), Some(service)) = (self.vpc(parties), self.service(parties)) else { return };
        let (short, long) = if vpc.networks.len() <= service.networks.len() {
            (&vpc.networks, &service.networks)
        } else {
            (&service.networks, &vpc.networks)
        };
        common.extend(short.iter().filter(|network| long.binary_search(network).is_ok()));
    }

    fn vpc(&self, parties: &Parties) -> Option<&Vpc> {
        self.vpcs.get(parties.vpc as usize)
    }

    fn service(&self, parties: &Parties) -> Option<&Service> {
        self.services.get(parties.service as usize)
    }

    /// Who calls.
    pub(crate) fn identity(&self, workload: u32) -> Option<&Identity> {
        self.identities.get(workload as usize)
    }

    /// What a workload calls as.
    pub(crate) fn role(&self, identity: &Identity) -> Option<&Role> {
        self.roles.get(identity.role()? as usize)
    }

    /// ARN of a service network.
    pub(crate) fn network_arn(&self, network: u32) -> Option<&str> {
        self.networks.get(network as usize).map(|network| &*network.arn)
    }

    /// ARN of a service.
    pub(crate) fn service_arn(&self, service: u32) -> Option<&str> {
        self.services.get(service as usize).map(|service| &*service.arn)
    }

    /// ARN of a target group.
    pub(crate) fn group_arn(&self, group: u32) -> Option<&str> {
        self.groups.get(group as usize).map(|arn| &**arn)
    }

    /// The values of `x-amzn-lattice-network` and `x-amzn-source-vpc`.
    pub(crate) fn said_of_vpc(&self, vpc: u32) -> [Option<&HeaderValue>; 2] {
        self.vpcs.get(vpc as usize).map_or([None; 2], |vpc| vpc.said.each_ref().map(Option::as_ref))
    }

    fn guard<'g>(&'g self, stands: Stands, name: &'g str) -> iam::Guard<'g> {
        match stands {
            Stands::Open => iam::Guard::Open,
            Stands::Missing => iam::Guard::Missing(name),
            // The index was checked; were it wrong, nothing may pass.
            Stands::Policy(number) => {
                self.policies.get(number as usize).map_or(iam::Guard::Missing(name), iam::Guard::Policy)
            }
        }
    }

    /// What stands between these two, where they have these networks in common.
    fn stands(&self, parties: &Parties, common: &[u32]) -> impl Iterator<Item = Stands> {
        let role = self.identity(parties.workload).and_then(|identity| self.role(identity));
        let networks = common.iter().filter_map(|number| self.networks.get(*number as usize));
        networks
            .map(|network| network.stands)
            .chain(role.map(|role| role.stands))
            .chain(self.service(parties).map(|service| service.stands))
    }

    /// Whether the decision is the same for all requests of a connection, see [`Compiled::per_connection`].
    pub(super) fn per_connection(&self, parties: &Parties, common: &[u32]) -> bool {
        self.stands(parties, common).all(|stands| match stands {
            Stands::Open | Stands::Missing => true,
            Stands::Policy(number) => self.policies.get(number as usize).is_some_and(Compiled::per_connection),
        })
    }

    /// Whether connections may pass unread: where a policy could refuse a request, it could not be asked.
    pub fn relayable(&self, parties: &Parties) -> bool {
        if !self.enforced {
            return true;
        }
        let mut common = Vec::new();
        self.common(parties, &mut common);
        let decides = |stands| match stands {
            Stands::Open => false,
            Stands::Missing => true,
            Stands::Policy(number) => {
                self.policies.get(number as usize).is_none_or(|policy| policy.mode() == Mode::Enforce)
            }
        };
        !common.is_empty() && !self.stands(parties, &common).any(decides)
    }

    /// The chain that a request must pass, for as long as `use_it` takes; none where the parties do not exist.
    pub(super) fn with_chain<R>(
        &self,
        parties: &Parties,
        common: &[u32],
        use_it: impl FnOnce(&iam::Chain<'_>) -> R,
    ) -> Option<R> {
        let identity = self.identity(parties.workload)?;
        let service = self.service(parties)?;
        let role = self.role(identity);
        let network = |number: u32| {
            self.networks
                .get(number as usize)
                .map(|network| iam::Network { arn: &network.arn, guard: self.guard(network.stands, &network.name) })
        };
        let with = |networks: &[iam::Network<'_>]| {
            use_it(&iam::Chain {
                identity: role.map_or(iam::Guard::Open, |role| self.guard(role.stands, role.name())),
                networks,
                service: self.guard(service.stands, &service.name),
            })
        };
        let mut few = [iam::Network { arn: "", guard: iam::Guard::Missing("") }; FEW];
        let Some(few) = few.get_mut(..common.len()) else {
            let many = common.iter().map(|number| network(*number)).collect::<Option<Vec<_>>>()?;
            return Some(with(&many));
        };
        for (place, number) in few.iter_mut().zip(common) {
            *place = network(*number)?;
        }
        Some(with(few))
    }

    /// The request as policies see it, for as long as `use_it` takes.
    pub(super) fn with_request<R>(
        &self,
        parties: &Parties,
        call: &super::Call<'_>,
        now: i64,
        use_it: impl FnOnce(&iam::Request<'_>) -> R,
    ) -> Option<R> {
        let (vpc, service) = (self.vpc(parties)?, self.service(parties)?);
        let identity = self.identity(parties.workload)?;
        Some(identity.with(self.role(identity), |who| {
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
                source_ip: Some(call.address),
                // Clients are not offered TLS.
                secure: false,
                now,
                http: Some(call.http),
            })
        }))
    }
}

/// A policy, with its statements where they stand in the file.
fn policy(policy: &brattice_wire::auth::Policy) -> Result<Compiled, GuardError> {
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
        return Err(GuardError::Policy { file, name, finding });
    };
    if own.statements.len() != policy.lines.len() {
        let (statements, lines) = (own.statements.len(), policy.lines.len());
        return Err(GuardError::Lines { file, name, statements, lines });
    }
    for (statement, line) in own.statements.iter_mut().zip(&policy.lines) {
        statement.at.line = *line;
    }
    let mode = if policy.audit { Mode::Audit } else { Mode::Enforce };
    Ok(Compiled::new(own, name, mode))
}
