//! The part of a snapshot that a call is about, compiled as the engine does it.

use std::collections::BTreeSet;
use std::sync::Arc;

use brattice_decide::{Call, CompileError, Compiled, Guard, Head, Identity, Principal, Tags};
use brattice_iam as iam;
use brattice_model::{Model, PolicyResource};
use brattice_wire::auth::{self, AuthType, PolicyAttachment};
use brattice_wire::index::{NetworkIndex, PolicyIndex, ServiceIndex, TargetGroupIndex};
use brattice_wire::snapshot::{self, Snapshot};

use crate::caller::Caller;
use crate::request::Asked;
use crate::world::World;

/// The only service.
const SERVICE: ServiceIndex = ServiceIndex::new(0);

/// One service, with its policies and target groups. Indices of VPCs, networks and target groups are the snapshot's; the service
/// is the only one.
pub(crate) struct Scope {
    pub(crate) compiled: Compiled,
}

impl Scope {
    /// Of a service. Policies are those of the model, which knows their places in the documents.
    pub(crate) fn new(world: &World<'_>, service: &snapshot::Service) -> Result<Self, CompileError> {
        let all = world.snapshot;
        let mut policies = Vec::new();
        let mut keep = |policy: Option<PolicyIndex>| {
            let own = all.policies.get(policy?.position())?;
            policies.push(own.clone());
            Some(PolicyIndex::new(policies.len() - 1))
        };
        let own = snapshot::Service { policy: keep(service.policy), ..service.clone() };
        let network = |(position, network): (usize, &auth::Network)| {
            let mut network = network.clone();
            let concerned = service.networks.contains(&NetworkIndex::new(position));
            network.policy = network.policy.filter(|_| concerned).and_then(|policy| keep(Some(policy)));
            network.auth_type = if concerned { network.auth_type } else { AuthType::None };
            network
        };
        let networks = all.networks.iter().enumerate().map(network).collect();
        let vpc = |vpc: &snapshot::Vpc| snapshot::Vpc { services: Vec::new(), ..vpc.clone() };
        let snapshot = Snapshot {
            revision: all.revision,
            vpcs: all.vpcs.iter().map(vpc).collect(),
            services: vec![own],
            target_groups: target_groups(all, service),
            networks,
            policies,
            ..Snapshot::default()
        };
        Ok(Self { compiled: compile(world.model, snapshot)? })
    }

    /// The service.
    pub(crate) fn service(&self) -> Option<&brattice_decide::Service> {
        self.compiled.service_by_index(SERVICE)
    }

    /// A call of the service.
    pub(crate) fn call<'i>(
        &self,
        world: &World<'_>,
        caller: &Caller<'_>,
        identity: &'i Identity,
        port: u16,
    ) -> Call<'i> {
        Call { identity, vpc: caller.vpc, address: caller.address, service: SERVICE, port, tls: false, now: world.now }
    }
}

/// The snapshot's target groups; those that the service does not forward to are without targets, so that a question does not
/// copy the targets of a whole node.
fn target_groups(all: &Snapshot, service: &snapshot::Service) -> Vec<snapshot::TargetGroup> {
    let rules = service.listeners.iter().flat_map(|listener| {
        listener.rules.iter().map(|rule| &rule.action).chain(std::iter::once(&listener.default_action))
    });
    let forwards = rules.filter_map(|action| match action {
        snapshot::Action::Forward(forward) => Some(forward),
        _ => None,
    });
    let used: BTreeSet<TargetGroupIndex> =
        forwards.flat_map(|forward| &forward.groups).map(|share| share.target_group).collect();
    let group = |(position, group): (usize, &snapshot::TargetGroup)| snapshot::TargetGroup {
        name: group.name.clone(),
        id: group.id.clone(),
        arn: group.arn.clone(),
        targets: if used.contains(&TargetGroupIndex::new(position)) { group.targets.clone() } else { Vec::new() },
        origin: group.origin.clone(),
        ..*group
    };
    all.target_groups.iter().enumerate().map(group).collect()
}

/// Compiles a snapshot as the engine does, with the policies of the model, which knows their places in the documents.
///
/// # Errors
/// When the engine would refuse it.
pub fn compile(model: &Model, snapshot: Snapshot) -> Result<Compiled, CompileError> {
    Compiled::with_policies(snapshot, &|policy| match of_model(model, policy) {
        Some(own) => Ok(own.clone()),
        None => brattice_decide::read_policy(policy),
    })
}

/// A policy of the snapshot as it was written.
fn of_model<'m>(model: &'m Model, policy: &auth::Policy) -> Option<&'m iam::Policy> {
    match policy.attachment {
        PolicyAttachment::Role => model.role(&policy.name)?.policy.as_ref(),
        PolicyAttachment::ServiceNetwork => {
            model.policy(&PolicyResource::ServiceNetwork(policy.name.clone())).map(|own| &own.policy)
        }
        PolicyAttachment::Service { .. } => {
            model.policy(&PolicyResource::Service(policy.name.clone())).map(|own| &own.policy)
        }
    }
}

/// Who calls, with the policy of its role.
pub(crate) fn identity(model: &Model, caller: &Caller<'_>) -> Identity {
    let boxed = |text: &String| text.as_str().into();
    let principal = caller.role.as_ref().map(|role| {
        let policy = model.role(&role.name).and_then(|own| own.policy.clone());
        let compiled = policy.map(|policy| iam::Compiled::new(policy, role.name.as_str(), iam::Mode::Enforce));
        Arc::new(Principal {
            kind: iam::CallerKind::Role,
            name: boxed(&role.name),
            arn: boxed(&role.arn),
            account: Some(boxed(&role.account)),
            organization: role.organization.as_ref().map(boxed),
            organization_paths: role.organization_paths.iter().map(boxed).collect(),
            tags: Tags::new(role.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()))),
            guard: compiled.map_or(Guard::Open, |policy| Guard::Policy(Arc::new(policy))),
        })
    });
    let attested = caller.attested.as_ref().map(boxed);
    Identity {
        session: attested.clone().filter(|_| principal.is_some()),
        attested,
        evidence: caller.evidence.iter().map(boxed).collect(),
        principal,
    }
}

impl Head for Asked {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_default()
    }

    fn query(&self) -> &str {
        &self.query
    }

    fn field(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        self.fields().filter(|(own, _)| own.eq_ignore_ascii_case(name)).for_each(|(_, value)| each(value.as_bytes()));
    }
}
