//! A model with its policies compiled, and decisions about calls in it.

use std::collections::HashMap;
use std::net::IpAddr;

use brattice_iam::{
    Caller, CallerKind, Chain, Compiled, Guard, Http, Key, Level, Mode, NOTHING, Network, Pairs, Policy, Query,
    Request, Scratch,
};
use brattice_model::{
    AssociationKind, Evidence, Model, NoRole, OPERATOR_ACCOUNT_ID, PolicyResource, Role, Roles, Service, Vpc, Workload,
    session_arn,
};
use brattice_wire::auth::AuthType;
use brattice_wire::words::is_workload;

/// A model with its policies compiled.
pub(super) struct World<'m> {
    pub(super) model: &'m Model,
    policies: HashMap<PolicyResource, Compiled>,
    roles: HashMap<&'m str, Compiled>,
}

/// A call to decide about.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// Qualified name of the service.
    pub(super) service: String,
    /// Qualified name of the VPC the call comes from.
    pub(super) vpc: String,
    pub(super) address: Option<IpAddr>,
    pub(super) who: Who,
    pub(super) evidence: Vec<Evidence>,
    /// Whom a workload without a role is attested to be.
    pub(super) attested: Option<String>,
    /// Without one, the service's only listener's.
    pub(super) port: Option<u16>,
    pub(super) http: Option<HttpCall>,
    pub(super) tls: bool,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// Who calls.
#[derive(Debug, Default)]
pub(super) enum Who {
    #[default]
    Anonymous,
    /// A role of the model by qualified name, with the name of its session.
    Role(String, String),
    /// A principal that a log names, with its tags.
    Recorded { kind: Kind, arn: String, session: Option<String>, tags: Vec<(String, String)> },
}

/// What a recorded principal is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Account,
    User,
    Role,
    FederatedUser,
}

/// The part that only HTTP has.
#[derive(Debug, Default)]
pub(super) struct HttpCall {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
}

/// What was decided.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) denial: Option<Refusal>,
    pub(super) audited: Option<Refusal>,
    /// Near misses and what would let the call pass.
    pub(super) why: Vec<String>,
}

/// A refusal.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    /// `Identity`, `Network` or `Service`.
    pub(super) level: String,
    pub(super) id: String,
}

impl<'m> World<'m> {
    pub(super) fn new(model: &'m Model) -> Self {
        let compile = |policy: &Policy, name: &str, mode| Compiled::new(policy.clone(), name, mode);
        let policies = model
            .policies
            .iter()
            .map(|policy| (policy.resource.clone(), compile(&policy.policy, policy.resource.name(), policy.mode)));
        let roles = model.roles.iter().filter_map(|role| {
            let policy = role.policy.as_ref()?;
            Some((role.name.as_str(), compile(policy, &role.name, Mode::Enforce)))
        });
        Self { model, policies: policies.collect(), roles: roles.collect() }
    }

    /// A VPC by name, `account/name`, id or ARN.
    pub(super) fn vpc(&self, text: &str) -> Option<&'m Vpc> {
        only(text, &self.model.vpcs, |vpc| [&vpc.name, &vpc.id, &vpc.arn])
    }

    /// A service by name, `account/name`, id or ARN.
    pub(super) fn service(&self, text: &str) -> Option<&'m Service> {
        only(text, &self.model.services, |service| [&service.name, &service.id, &service.arn])
    }

    /// A role by name, `account/name` or ARN.
    pub(super) fn role(&self, text: &str) -> Option<&'m Role> {
        only(text, &self.model.roles, |role| [&role.name, &role.arn, &role.arn])
    }

    pub(super) fn workload(&self, name: &str) -> Option<&'m Workload> {
        self.model.workloads.iter().find(|workload| is_workload(name, &workload.vpc, &workload.name))
    }

    /// The role that a workload without a document calls as in a VPC.
    pub(super) fn role_in(&self, vpc: &Vpc, evidence: &[Evidence]) -> Result<Option<&'m Role>, String> {
        match Roles::new(self.model).of(&vpc.name, None, evidence) {
            Ok(position) => Ok(position.map(|position| &self.model.roles[position])),
            Err(NoRole::Several(roles)) => {
                let roles: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
                Err(format!("a workload in {} may be {}; say which with `role`", vpc.name, roles.join(" and ")))
            }
            // Of documents alone.
            Err(NoRole::Missing(_) | NoRole::NotTrusted(_)) => Ok(None),
        }
    }

    /// The role that a workload calls as.
    pub(super) fn role_of(&self, workload: &'m Workload, evidence: &[Evidence]) -> Result<Option<&'m Role>, String> {
        let name = &workload.name;
        let found = Roles::new(self.model).of(&workload.vpc, Some(workload), evidence);
        let position = found.map_err(|why| match why {
            NoRole::Missing(role) => format!("the workload {name} names the role {role}, which is not in force"),
            NoRole::NotTrusted(role) => format!("the workload {name} names {}, which does not trust it", role.name),
            NoRole::Several(roles) => {
                let roles: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
                format!("the workload {name} may be {}; say which with `role`", roles.join(" and "))
            }
        })?;
        Ok(position.map(|position| &self.model.roles[position]))
    }

    /// Keys that some policy that counts for the call asks about.
    pub(super) fn keys_of(&self, vpc: &str, service: &str, role: Option<&str>) -> Vec<&Key> {
        self.policies_of(vpc, service, role).into_iter().flat_map(Policy::keys).collect()
    }

    /// The policies that count for a call.
    pub(super) fn policies_of(&self, vpc: &str, service: &str, role: Option<&str>) -> Vec<&Policy> {
        let networks = self.networks(vpc, service).into_iter().filter_map(|name| self.model.network(name));
        let networks = networks.map(|own| (own.auth_type, PolicyResource::ServiceNetwork(own.name.clone())));
        let service = self.model.service(service);
        let service = service.map(|own| (own.auth_type, PolicyResource::Service(own.name.clone())));
        let resources = networks.chain(service).filter(|(auth_type, _)| *auth_type == AuthType::AwsIam);
        let policies = resources.filter_map(|(_, resource)| self.policies.get(&resource));
        let role = role.and_then(|role| self.roles.get(role));
        policies.chain(role).map(Compiled::policy).collect()
    }

    /// The service networks that a VPC and a service share, by qualified name.
    fn networks(&self, vpc: &str, service: &str) -> Vec<&'m str> {
        let of = |kind: AssociationKind, member: &str| -> Vec<&'m str> {
            let active = self.model.associations.iter().filter(|association| association.status.is_active());
            let own = active.filter(|association| association.kind == kind && association.member == member);
            own.map(|association| association.network.as_str()).collect()
        };
        let of_service = of(AssociationKind::Service, service);
        of(AssociationKind::Vpc, vpc).into_iter().filter(|name| of_service.contains(name)).collect()
    }

    fn account_id(&self, name: Option<&str>) -> &'m str {
        name.and_then(|name| self.model.account(name)).map_or(OPERATOR_ACCOUNT_ID, |account| &account.id)
    }

    /// What stands before a service network or a service.
    fn guard<'w>(&'w self, auth_type: AuthType, resource: &PolicyResource, name: &'w str) -> Guard<'w> {
        match auth_type {
            AuthType::None => Guard::Open,
            AuthType::AwsIam => self.policies.get(resource).map_or(Guard::Missing(name), Guard::Policy),
        }
    }

    /// Decides about a call.
    pub(super) fn decide(&self, call: &Call) -> Result<Verdict, String> {
        let model = self.model;
        let service = model.service(&call.service).ok_or_else(|| format!("there is no service {}", call.service))?;
        let vpc = model.vpc(&call.vpc).ok_or_else(|| format!("there is no VPC {}", call.vpc))?;
        let names = self.networks(&vpc.name, &service.name);
        let networks: Vec<Network<'_>> = names
            .iter()
            .filter_map(|name| model.network(name))
            .map(|network| Network {
                arn: &network.arn,
                guard: self.guard(
                    network.auth_type,
                    &PolicyResource::ServiceNetwork(network.name.clone()),
                    &network.name,
                ),
            })
            .collect();
        let role = match &call.who {
            Who::Role(name, _) => Some(model.role(name).ok_or_else(|| format!("there is no role {name}"))?),
            Who::Recorded { arn, .. } => model.roles.iter().find(|role| role.arn == *arn),
            Who::Anonymous => None,
        };
        let port = match (call.port, &service.listeners[..]) {
            (Some(port), _) => port,
            (None, [only]) => only.port,
            (None, _) => return Err(format!("the service {} has several listeners; say which port", service.name)),
        };
        let chain = Chain {
            identity: role.and_then(|role| self.roles.get(role.name.as_str())).map_or(Guard::Open, Guard::Policy),
            networks: &networks,
            service: self.guard(service.auth_type, &PolicyResource::Service(service.name.clone()), &service.name),
        };
        // The operator's VPCs are of no account, as in the engine.
        let owner = vpc.account.as_deref().map(|account| self.account_id(Some(account)));
        let principal = Principal::of(&call.who, role, model);
        let account_id = principal.account_id().to_owned();
        let account = model.accounts.iter().find(|account| account.id == account_id);
        let path = account.and_then(|account| account.organization_path.as_deref());
        let paths: Vec<&str> = path.into_iter().collect();
        let recorded: Vec<(&str, &str)> = principal.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let recorded = Pairs(&recorded);
        let headers: Vec<(&str, &str)> = call
            .http
            .iter()
            .flat_map(|http| &http.headers)
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let headers = Pairs(&headers);
        let query = Query(call.http.as_ref().map_or("", |http| &http.query));
        let evidence: Vec<&str> = call.evidence.iter().map(|evidence| evidence.word()).collect();
        let request = Request {
            caller: Caller {
                kind: principal.kind,
                name: &principal.arn,
                session: principal.session.as_deref(),
                provider: None,
                account: (!account_id.is_empty()).then_some(&account_id),
                organization: path.and_then(|path| path.split('/').next()),
                organization_paths: &paths,
                tags: role.map_or(&recorded, |role| &role.tags),
                user_id: None,
            },
            attested: call.attested.as_deref().or(principal.session.as_deref()),
            evidence: &evidence,
            service_arn: &service.arn,
            service_account: self.account_id(Some(&service.account)),
            service_tags: &service.tags,
            port,
            source_vpc: Some(&vpc.id),
            source_vpc_account: owner,
            source_ip: call.address,
            secure: call.tls,
            now: call.now,
            http: call.http.as_ref().map(|http| Http {
                method: &http.method,
                path: &http.path,
                headers: if http.headers.is_empty() { NOTHING } else { &headers },
                query: &query,
            }),
        };
        Ok(verdict(&chain, &request))
    }
}

fn verdict(chain: &Chain<'_>, request: &Request<'_>) -> Verdict {
    let decision = chain.decide(request, &mut Scratch::default());
    let refusal = |denial: &brattice_iam::Denial| Refusal {
        level: denial.level.denied_reason().to_owned(),
        id: denial.id(chain),
    };
    let mut why = Vec::new();
    if !decision.is_allowed() {
        let explanation = chain.explain(request);
        for report in &explanation.levels {
            let name = match (report.level, report.network) {
                (Level::Network, Some(number)) => {
                    chain.policy(Level::Network, Some(number)).map_or(String::new(), |own| format!(" {}", own.name()))
                }
                _ => String::new(),
            };
            for near in &report.near {
                let sid = near.sid.as_deref().map_or(String::new(), |sid| format!(" ({sid})"));
                for failed in &near.failed {
                    why.push(format!("near miss, {}{name} line {}{sid}: {failed}", report.level.word(), near.place));
                }
            }
        }
        why.extend(explanation.remedy.iter().map(|change| format!("to allow it: {change}")));
    }
    Verdict { denial: decision.denial.as_ref().map(refusal), audited: decision.audited.as_ref().map(refusal), why }
}

/// A caller that owns its texts.
struct Principal {
    kind: CallerKind,
    arn: String,
    session: Option<String>,
    tags: Vec<(String, String)>,
}

impl Principal {
    fn of(who: &Who, role: Option<&Role>, model: &Model) -> Self {
        let (kind, arn, session, tags) = match who {
            Who::Anonymous => (CallerKind::Anonymous, String::new(), None, Vec::new()),
            Who::Role(_, session) => {
                let arn = role.map_or(String::new(), |role| role.arn.clone());
                let session = role.map(|role| session_arn(role, model, session));
                (CallerKind::Role, arn, session, Vec::new())
            }
            Who::Recorded { kind, arn, session, tags } => {
                let kind = match kind {
                    Kind::Account => CallerKind::Account,
                    Kind::User => CallerKind::User,
                    Kind::Role => CallerKind::Role,
                    Kind::FederatedUser => CallerKind::FederatedUser,
                };
                (kind, arn.clone(), session.clone(), tags.clone())
            }
        };
        Self { kind, arn, session, tags }
    }

    fn account_id(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }
}

/// The entity that a text names: by one of its names in full, or by its short name where only one has it.
fn only<'m, T>(text: &str, list: &'m [T], names: impl Fn(&T) -> [&String; 3]) -> Option<&'m T> {
    let in_full = list.iter().find(|entity| names(entity).into_iter().any(|name| name == text));
    in_full.or_else(|| {
        let mut short = list.iter().filter(|entity| names(entity)[0].rsplit('/').next() == Some(text));
        short.next().filter(|_| short.next().is_none())
    })
}
