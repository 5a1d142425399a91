//! Service networks and policies of the snapshot: those that something refers to.

use std::collections::{BTreeMap, BTreeSet};

use brattice_iam as iam;
use brattice_wire::auth::{self, AuthType, PolicyAttachment};
use brattice_wire::index::{NetworkIndex, PolicyIndex};

use crate::model::{AssociationKind, AuthPolicy, Model, PolicyResource, Role};

/// The policies so far.
#[derive(Default)]
pub(super) struct Policies {
    pub(super) list: Vec<auth::Policy>,
}

impl Policies {
    fn push(&mut self, policy: &iam::Policy, attachment: PolicyAttachment, name: &str, mode: iam::Mode) -> PolicyIndex {
        let index = PolicyIndex::new(self.list.len());
        self.list.push(auth::Policy {
            attachment,
            name: name.to_owned(),
            json: policy.json(),
            audit: mode == iam::Mode::Audit,
            file: policy.file.to_string(),
            lines: policy.statements.iter().map(|statement| statement.at.line).collect(),
        });
        index
    }

    /// The policy of a role.
    pub(super) fn of_role(&mut self, role: &Role) -> Option<PolicyIndex> {
        let policy = role.policy.as_ref()?;
        Some(self.push(policy, PolicyAttachment::Role, &role.name, iam::Mode::Enforce))
    }

    /// The policy of a service network or service, where it decides.
    pub(super) fn of_resource(
        &mut self,
        model: &Model,
        resource: &PolicyResource,
        decides: AuthType,
    ) -> Option<PolicyIndex> {
        let AuthPolicy { policy, attachment, mode, .. } = match decides {
            AuthType::AwsIam => model.policy(resource)?,
            AuthType::None => return None,
        };
        let attachment = match *attachment {
            iam::Attachment::Service { http, tcp } => PolicyAttachment::Service { http, tcp },
            _ => PolicyAttachment::ServiceNetwork,
        };
        Some(self.push(policy, attachment, resource.name(), *mode))
    }
}

/// The networks that a service or VPC of the model is in, and the members of each.
pub(super) struct Networks {
    pub(super) list: Vec<auth::Network>,
    /// Kind and qualified name of the member → positions in the list, ascending.
    members: BTreeMap<(AssociationKind, String), Vec<NetworkIndex>>,
}

impl Networks {
    pub(super) fn new(model: &Model, policies: &mut Policies) -> Self {
        let active = || model.associations.iter().filter(|association| association.status.is_active());
        let used: BTreeSet<&str> = active().map(|association| association.network.as_str()).collect();
        let mut places: BTreeMap<&str, NetworkIndex> = BTreeMap::new();
        let mut list = Vec::with_capacity(used.len());
        for network in model.networks.iter().filter(|network| used.contains(network.name.as_str())) {
            places.insert(&network.name, NetworkIndex::new(list.len()));
            let resource = PolicyResource::ServiceNetwork(network.name.clone());
            list.push(auth::Network {
                name: network.name.clone(),
                id: network.id.clone(),
                arn: network.arn.clone(),
                auth_type: network.auth_type,
                policy: policies.of_resource(model, &resource, network.auth_type),
                origin: network.origin.clone(),
            });
        }
        let mut members: BTreeMap<(AssociationKind, String), Vec<NetworkIndex>> = BTreeMap::new();
        // In order of networks, so that each list is ascending.
        for association in active() {
            if let Some(&place) = places.get(association.network.as_str()) {
                members.entry((association.kind, association.member.clone())).or_default().push(place);
            }
        }
        Self { list, members }
    }

    pub(super) fn of(&self, kind: AssociationKind, member: &str) -> Vec<NetworkIndex> {
        self.members.get(&(kind, member.to_owned())).cloned().unwrap_or_default()
    }
}
