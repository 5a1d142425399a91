//! A model whose policies are compiled as the engine does it, and decisions about calls in it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use brattice_decide::{Asked, Authorizer, Compiled, Connection, Guard, Head, Identity, Principal, Tags, Trace};
use brattice_explain::{Roleless, put_first, roles_that_may};
use brattice_iam::{self as iam, CallerKind, Change, Key, Level, Mode, Policy};
use brattice_model::{Evidence, Model, NoRole, Numbers, Role, Roles, Service, Vpc, Workload, plan, session_arn};
use brattice_wire::index::{ServiceIndex, VpcIndex};
use brattice_wire::snapshot::Snapshot;
use brattice_wire::words::is_workload;

use crate::names::guess;

/// A model, and what the engine makes of its documents.
pub(super) struct World<'m> {
    pub(super) model: &'m Model,
    compiled: Compiled,
    /// By qualified name.
    vpcs: HashMap<String, VpcIndex>,
    services: HashMap<String, ServiceIndex>,
    /// Of roles with a policy, by qualified name.
    roles: HashMap<&'m str, Guard>,
    anonymous: Identity,
}

/// A call to decide about.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    /// Qualified name of the service.
    pub(super) service: String,
    /// Qualified name of the VPC the call comes from.
    pub(super) vpc: String,
    pub(super) address: Option<IpAddr>,
    pub(super) who: Who,
    pub(super) evidence: Vec<Evidence>,
    /// The attested identity of a workload without a role.
    pub(super) attested: Option<String>,
    /// The name of a workload without a role.
    pub(super) roleless: Option<String>,
    /// Without one, the service's only listener's.
    pub(super) port: Option<u16>,
    pub(super) http: Option<HttpCall>,
    pub(super) tls: bool,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// Who calls.
#[derive(Clone, Debug, Default)]
pub(super) enum Who {
    #[default]
    Anonymous,
    /// A role of the model by qualified name, with the name of its session; none: any.
    Role(String, Option<String>),
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
#[derive(Clone, Debug, Default)]
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
    /// Compiles the documents' policies.
    ///
    /// # Errors
    /// When the engine would refuse them.
    pub(super) fn new(model: &'m Model) -> Result<Self, String> {
        let snapshot: Snapshot = plan(model, &[], &mut Numbers::default(), 0).snapshot;
        let vpcs = snapshot.vpcs.iter().enumerate().map(|(position, vpc)| (vpc.name.clone(), VpcIndex::new(position)));
        let services = snapshot.services.iter().enumerate();
        let services = services.map(|(position, service)| (service.name.clone(), ServiceIndex::new(position)));
        let (vpcs, services) = (vpcs.collect(), services.collect());
        let compiled = brattice_explain::compile(model, snapshot).map_err(|error| error.to_string())?;
        let roles = model.roles.iter().filter_map(|role| {
            let policy = iam::Compiled::new(role.policy.clone()?, role.name.as_str(), Mode::Enforce);
            Some((role.name.as_str(), Guard::Policy(Arc::new(policy))))
        });
        Ok(Self { model, compiled, vpcs, services, roles: roles.collect(), anonymous: Identity::default() })
    }

    /// A VPC by name, `account/name`, id or ARN.
    pub(super) fn vpc(&self, text: &str) -> Result<&'m Vpc, String> {
        only("VPC", text, &self.model.vpcs, |vpc| [&vpc.name, &vpc.id, &vpc.arn])
    }

    /// A service by name, `account/name`, id or ARN.
    pub(super) fn service(&self, text: &str) -> Result<&'m Service, String> {
        only("service", text, &self.model.services, |service| [&service.name, &service.id, &service.arn])
    }

    /// A role by name, `account/name` or ARN.
    pub(super) fn role(&self, text: &str) -> Result<&'m Role, String> {
        only("role", text, &self.model.roles, |role| [&role.name, &role.arn, &role.arn])
    }

    pub(super) fn workload(&self, name: &str) -> Option<&'m Workload> {
        self.model.workloads.iter().find(|workload| is_workload(name, &workload.vpc, &workload.name))
    }

    /// The role that a workload without a document calls as in a VPC.
    pub(super) fn role_in(&self, vpc: &Vpc, evidence: &[Evidence]) -> Result<Option<&'m Role>, String> {
        match Roles::new(self.model).of(&vpc.name, None, evidence) {
            Ok(role) => Ok(role),
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
        found.map_err(|why| match why {
            NoRole::Missing(role) => format!("the workload {name} names the role {role}, which is not in force"),
            NoRole::NotTrusted(role) => format!("the workload {name} names {}, which does not trust it", role.name),
            NoRole::Several(roles) => {
                let roles: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
                format!("the workload {name} may be {}; say which with `role`", roles.join(" and "))
            }
        })
    }

    /// The policies that decide about calls from a VPC to a service; by a role, its own, too.
    pub(super) fn policies_of(&self, vpc: &str, service: &str, role: Option<&str>) -> Vec<&Policy> {
        let (Some(vpc), Some(service)) = (self.vpcs.get(vpc), self.services.get(service)) else { return Vec::new() };
        let call = brattice_decide::Call {
            identity: &self.anonymous,
            vpc: *vpc,
            address: None,
            service: *service,
            port: 0,
            tls: false,
            now: 0,
        };
        let role = role.and_then(|role| self.roles.get(role)).and_then(Guard::policy);
        self.compiled.policies.deciding(&call).into_iter().chain(role).collect()
    }

    /// Keys that the deciding policies ask about.
    pub(super) fn keys_of(&self, vpc: &str, service: &str, role: Option<&str>) -> Vec<&Key> {
        self.policies_of(vpc, service, role).into_iter().flat_map(Policy::keys).collect()
    }

    /// Decides about a call.
    pub(super) fn decide(&self, call: &Call) -> Result<Verdict, String> {
        let (mut verdict, mut remedy) = self.authorize(call)?;
        if let Some(name) = call.roleless.as_ref().filter(|_| verdict.denial.is_some()) {
            let document = self.model.workloads.iter().find(|own| own.name == *name && own.vpc == call.vpc);
            let workload = Roleless { vpc: &call.vpc, document, evidence: &call.evidence };
            let roles = roles_that_may(self.model, workload, |role| {
                let who = Who::Role(role.name.clone(), Some(name.clone()));
                let as_role = Call { who, attested: None, roleless: None, ..call.clone() };
                self.authorize(&as_role).is_ok_and(|(verdict, _)| verdict.denial.is_none())
            });
            put_first(roles, &mut remedy);
        }
        // A statement on its own line belongs to the change above it.
        let line = |line: String| if line.starts_with(' ') { line } else { format!("to allow it: {line}") };
        verdict.why.extend(remedy.into_iter().map(line));
        Ok(verdict)
    }

    /// The verdict with near misses alone, and what would let a refused call pass.
    fn authorize(&self, call: &Call) -> Result<(Verdict, Vec<String>), String> {
        let model = self.model;
        let service = model.service(&call.service).ok_or_else(|| format!("there is no service {}", call.service))?;
        let index = self.services.get(&service.name);
        let index = index.ok_or_else(|| format!("the service {} is not in force", service.name))?;
        let vpc = self.vpcs.get(&call.vpc).ok_or_else(|| format!("there is no VPC {}", call.vpc))?;
        let port = match (call.port, &service.listeners[..]) {
            (Some(port), _) => port,
            (None, [only]) => only.port,
            (None, _) => return Err(format!("the service {} has several listeners; say which port", service.name)),
        };
        let identity = self.identity(call)?;
        let own = brattice_decide::Call {
            identity: &identity,
            vpc: *vpc,
            address: call.address,
            service: *index,
            port,
            tls: call.tls,
            now: call.now,
        };
        let mut noted = Noted::default();
        // The trace has what was decided, in more detail.
        let _ = Authorizer::default().authorize(
            &self.compiled,
            &Connection::default(),
            &own,
            call.http.as_ref(),
            &mut noted,
        );
        noted.0.ok_or_else(|| format!("the VPC {} or the service {} is not in force", call.vpc, call.service))
    }

    /// Who calls, as the engine knows callers.
    fn identity(&self, call: &Call) -> Result<Identity, String> {
        let model = self.model;
        let (principal, session) = match &call.who {
            Who::Anonymous => (None, None),
            Who::Role(name, session) => {
                let role = model.role(name).ok_or_else(|| format!("there is no role {name}"))?;
                let session = session.as_ref().map(|session| session_arn(role, model, session));
                (Some(self.principal(CallerKind::Role, &role.arn, Some(role), &[])), session)
            }
            Who::Recorded { kind, arn, session, tags } => {
                let kind = match kind {
                    Kind::Account => CallerKind::Account,
                    Kind::User => CallerKind::User,
                    Kind::Role => CallerKind::Role,
                    Kind::FederatedUser => CallerKind::FederatedUser,
                };
                let role = model.roles.iter().find(|role| role.arn == *arn);
                (Some(self.principal(kind, arn, role, tags)), session.clone())
            }
        };
        Ok(Identity {
            attested: call.attested.as_deref().or(session.as_deref()).map(Into::into),
            evidence: call.evidence.iter().map(|evidence| evidence.word().into()).collect(),
            principal: principal.map(Arc::new),
            session: session.map(Into::into),
        })
    }

    /// A principal. `tags` are those recorded; a role of the model has its own.
    fn principal(&self, kind: CallerKind, arn: &str, role: Option<&Role>, tags: &[(String, String)]) -> Principal {
        let account = arn.split(':').nth(4).filter(|account| !account.is_empty());
        let path = self.model.accounts.iter().find(|own| Some(own.id.as_str()) == account);
        let path = path.and_then(|account| account.organization_path.as_deref());
        let own = role.into_iter().flat_map(|role| &role.tags).map(|(key, value)| (key.as_str(), value.as_str()));
        let recorded = tags.iter().filter(|_| role.is_none()).map(|(key, value)| (key.as_str(), value.as_str()));
        Principal {
            kind,
            name: role.map_or("", |role| &role.name).into(),
            arn: arn.into(),
            account: account.map(Into::into),
            organization: path.and_then(|path| path.split('/').next()).map(Into::into),
            organization_paths: path.into_iter().map(Into::into).collect(),
            tags: Tags::new(own.chain(recorded)),
            guard: role.and_then(|role| self.roles.get(role.name.as_str())).cloned().unwrap_or_default(),
        }
    }
}

impl Head for HttpCall {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn query(&self) -> &str {
        &self.query
    }

    fn field(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        let values = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        values.for_each(|(_, value)| each(value.as_bytes()));
    }
}

/// Notes what policies decided, and why.
#[derive(Default)]
struct Noted(Option<(Verdict, Vec<String>)>);

impl Trace for Noted {
    const POLICIES: bool = true;

    fn policies(&mut self, asked: &Asked<'_>) {
        let refusal = |denial: &iam::Denial| Refusal {
            level: denial.level.denied_reason().to_owned(),
            id: denial.id(asked.chain),
        };
        let decision = asked.decision;
        let (denial, audited) = (decision.denial.as_ref().map(refusal), decision.audited.as_ref().map(refusal));
        let (why, remedy) = why(asked);
        self.0 = Some((Verdict { denial, audited, why }, remedy));
    }
}

/// Near misses and what would let a refused call pass.
fn why(asked: &Asked<'_>) -> (Vec<String>, Vec<String>) {
    let mut why = Vec::new();
    if asked.decision.is_allowed() {
        return (why, Vec::new());
    }
    let explanation = asked.chain.explain(asked.request);
    for report in &explanation.levels {
        let name = match (report.level, report.network) {
            (Level::Network, Some(number)) => {
                let policy = asked.chain.policy(Level::Network, Some(number));
                policy.map_or(String::new(), |own| format!(" {}", own.name()))
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
    (why, explanation.remedy.iter().flat_map(Change::lines).collect())
}

/// The entity that a text names: by one of its names in full, or by its short name where only one has it.
fn only<'m, T>(what: &str, text: &str, list: &'m [T], names: impl Fn(&T) -> [&String; 3]) -> Result<&'m T, String> {
    if let Some(found) = list.iter().find(|entity| names(entity).into_iter().any(|name| name == text)) {
        return Ok(found);
    }
    let short: Vec<&T> = list.iter().filter(|entity| names(entity)[0].rsplit('/').next() == Some(text)).collect();
    match short[..] {
        [only] => Ok(only),
        [] => {
            let guess = guess(text, list.iter().map(|entity| names(entity)[0].as_str()));
            Err(format!("there is no {what} {text:?}{guess}"))
        }
        _ => {
            let all: Vec<&str> = short.iter().map(|entity| names(entity)[0].as_str()).collect();
            Err(format!("the {what} {text:?} may be {}: write it in full", all.join(" or ")))
        }
    }
}
