//! The caller of a request, and how it is identified.

use std::net::IpAddr;

use brattice_model::{Evidence, Model, NoRole, Role, Roles};
use brattice_wire::explain::CallerView;
use brattice_wire::index::VpcIndex;
use brattice_wire::snapshot::WorkloadNumber;
use brattice_wire::{auth, snapshot};

use crate::find::Found;
use crate::networks::place;
use crate::world::World;

/// What a workload calls as.
#[derive(Clone, Debug, Default)]
pub(crate) struct As {
    pub(crate) name: String,
    pub(crate) arn: String,
    pub(crate) account: String,
    pub(crate) organization: Option<String>,
    pub(crate) organization_paths: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
}

/// Who calls, as policies ask about it.
#[derive(Clone, Debug)]
pub(crate) struct Caller<'w> {
    /// Its VPC.
    pub(crate) vpc: VpcIndex,
    pub(crate) from: &'w snapshot::Vpc,
    pub(crate) address: Option<IpAddr>,
    pub(crate) attested: Option<String>,
    pub(crate) evidence: Vec<String>,
    pub(crate) role: Option<As>,
    /// Its number, for limits.
    pub(crate) number: Option<WorkloadNumber>,
    pub(crate) view: CallerView,
}

impl<'w> Caller<'w> {
    /// The caller that was found, as planned. None: its VPC is not known at all.
    pub(crate) fn new(world: &World<'w>, found: &Found<'w>) -> Option<Self> {
        let position = world.snapshot.vpcs.iter().position(|vpc| vpc.name == found.vpc_name)?;
        let (vpc, from) = (VpcIndex::new(position), &world.snapshot.vpcs[position]);
        let name = found.attached.map(|own| &own.name).or(found.document.map(|own| &own.name));
        let known = world.snapshot.workloads.iter().find(|workload| {
            workload.vpc == vpc
                && match name {
                    Some(name) if found.address.is_none_or(|address| workload.address != address) => {
                        world.documents_only() && workload.name == *name
                    }
                    Some(name) => workload.name == *name,
                    None => found.address == Some(workload.address) && !world.documents_only(),
                }
        });
        let mut view = found.view();
        let caller = match known {
            Some(workload) => Self::known(world, found, workload, from, view),
            None => {
                let document = found.document.filter(|document| document.status.is_active());
                let (role, reason) = role(world.model, &found.vpc_name, document, &[Evidence::Interface]);
                view.role_reason = reason;
                if let Some(role) = role {
                    view.role = Some(role.name.clone());
                    view.role_arn = Some(role.arn.clone());
                }
                Self {
                    vpc,
                    from,
                    address: found.address,
                    attested: None,
                    evidence: Vec::new(),
                    role: role.map(|role| as_role(world.model, role)),
                    number: None,
                    view,
                }
            }
        };
        Some(caller)
    }

    fn known(
        world: &World<'w>,
        found: &Found<'w>,
        workload: &'w snapshot::Workload,
        from: &'w snapshot::Vpc,
        mut view: CallerView,
    ) -> Self {
        let evidence: Vec<Evidence> = Evidence::ALL
            .into_iter()
            .filter(|evidence| workload.evidence.iter().any(|word| word == evidence.word()))
            .collect();
        let role = workload.role.and_then(|index| world.snapshot.roles.get(index.position()));
        let document = found.document.filter(|document| document.status.is_active());
        view.workload = Some(workload.name.clone());
        view.alias = (!world.documents_only()).then(|| workload.alias.to_string());
        view.attested = Some(workload.attested.clone());
        view.evidence = workload.evidence.clone();
        view.role = role.map(|role| role.name.clone());
        view.role_arn = role.map(|role| role.arn.clone());
        view.session = role.map(|_| workload.session.clone());
        view.role_reason = self::role(world.model, &found.vpc_name, document, &evidence).1;
        let address = Some(workload.address).filter(|address| !address.is_unspecified());
        view.address = address.or(found.address).map(|address| address.to_string());
        Self {
            vpc: workload.vpc,
            from,
            address: address.or(found.address),
            attested: Some(workload.attested.clone()),
            evidence: workload.evidence.clone(),
            role: role.map(of_snapshot),
            number: Some(workload.number),
            view,
        }
    }
}

impl Found<'_> {
    /// What is known without a plan.
    pub(crate) fn view(&self) -> CallerView {
        let attached = self.attached;
        CallerView {
            workload: attached
                .map(|own| own.name.clone())
                .or(self.document.map(|own| own.name.clone()))
                .or(self.departed.map(|own| own.name.clone())),
            vpc: self.vpc_name.clone(),
            address: self.address.map(|address| address.to_string()),
            interface: attached.map(|own| own.interface.clone()).filter(|interface| !interface.is_empty()),
            namespace: attached.and_then(|own| own.namespace.clone()),
            since: attached.and_then(|own| own.since),
            state: attached.map(|own| own.state.word().to_owned()),
            origin: self.document.map(|document| place(&document.origin)),
            ..CallerView::default()
        }
    }
}

/// The role that a workload calls as, and why.
fn role<'m>(
    model: &'m Model,
    vpc: &str,
    document: Option<&'m brattice_model::Workload>,
    evidence: &[Evidence],
) -> (Option<&'m Role>, String) {
    match Roles::new(model).of(vpc, document, evidence) {
        Ok(Some(role)) => {
            let why = match document.and_then(|document| document.role.as_ref()) {
                Some(_) => format!("its document names it, and the role ({}) trusts it", place(&role.origin)),
                None => format!("the only role that trusts it ({})", place(&role.origin)),
            };
            (Some(role), why)
        }
        Ok(None) => (None, "no role trusts it, so it calls as anonymous".to_owned()),
        Err(NoRole::Missing(name)) => {
            (None, format!("its document names the role {name}, which is not in force, so it calls as anonymous"))
        }
        Err(NoRole::NotTrusted(role)) => {
            let origin = place(&role.origin);
            (
                None,
                format!(
                    "its document names the role {} ({origin}), which does not trust it, so it calls as anonymous",
                    role.name
                ),
            )
        }
        Err(NoRole::Several(roles)) => {
            let names: Vec<String> =
                roles.iter().map(|role| format!("{} ({})", role.name, place(&role.origin))).collect();
            (
                None,
                format!(
                    "{} trust it, so it calls as anonymous; say which with roleIdentifier in its document",
                    names.join(" and ")
                ),
            )
        }
    }
}

fn of_snapshot(role: &auth::Role) -> As {
    As {
        name: role.name.clone(),
        arn: role.arn.clone(),
        account: role.account.clone(),
        organization: role.organization.clone(),
        organization_paths: role.organization_paths.clone(),
        tags: role.tags.clone(),
    }
}

/// A role that no workload of the node has.
pub(crate) fn as_role(model: &Model, role: &Role) -> As {
    let account = model.account(&role.account);
    let path = account.and_then(|account| account.organization_path.clone());
    As {
        name: role.name.clone(),
        arn: role.arn.clone(),
        account: account.map(|account| account.id.clone()).unwrap_or_default(),
        organization: path.as_deref().and_then(|path| path.split('/').next()).map(str::to_owned),
        organization_paths: path.into_iter().collect(),
        tags: role.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    }
}
