//! The identity of each live workload: its attested name, and the role it calls as.

use std::collections::{BTreeMap, HashMap};

use brattice_wire::auth;
use brattice_wire::index::{RoleIndex, VpcIndex};
use brattice_wire::snapshot;

use super::{Binding, policies};
use crate::ids::OPERATOR_ACCOUNT_ID;
use crate::model::{Model, Role, Vpc, Workload};
use crate::roles::Roles;

/// What is known of a workload beyond its addresses.
pub(super) struct Identity<'m> {
    pub(super) attested: String,
    pub(super) evidence: Vec<String>,
    pub(super) role: Option<&'m Role>,
    pub(super) session: String,
}

/// Gives bindings their identities.
pub(super) struct Identities<'m> {
    model: &'m Model,
    roles: Roles<'m>,
    documents: HashMap<&'m str, &'m Workload>,
}

impl<'m> Identities<'m> {
    pub(super) fn new(model: &'m Model) -> Self {
        let documents = model.workloads.iter().map(|workload| (workload.name.as_str(), workload)).collect();
        Self { model, roles: Roles::new(model), documents }
    }

    pub(super) fn of(&self, vpc: &Vpc, binding: &Binding) -> Identity<'m> {
        let document = self.documents.get(binding.name.as_str()).copied();
        let document = document.filter(|own| own.status.is_active() && own.vpc == vpc.name);
        let role = match (binding.documented, document) {
            // A document that is gone or not in force gives no identity.
            (true, None) => None,
            // What keeps a workload from a role was said when the documents were linked.
            (true, own) => self.roles.of(&vpc.name, own, &binding.evidence).unwrap_or_default(),
            (false, _) => self.roles.of(&vpc.name, None, &binding.evidence).unwrap_or_default(),
        };
        let mut name = session_name(&binding.name);
        if !binding.documented {
            // Documents have names of their own; interfaces of two VPCs, or an interface and a document, may share one.
            name = format!("{name}@{}", vpc.id);
        }
        let (attested, session) = match role {
            Some(role) => (session_arn(role, self.model, &name), name),
            None => (workload_arn(vpc, self.model, &name), String::new()),
        };
        let evidence = binding.evidence.iter().map(|evidence| evidence.word().to_owned()).collect();
        Identity { attested, evidence, role, session }
    }
}

/// A workload's name as the name of a session: of a workload known by its interface it may hold characters that an ARN
/// must not. Those become `=` and two hexadecimal digits, as does `=`, so that two names never become one.
fn session_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_+,.@-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("={byte:02X}"));
        }
    }
    out
}

fn account_id<'m>(model: &'m Model, account: Option<&str>) -> &'m str {
    account.and_then(|name| model.account(name)).map_or(OPERATOR_ACCOUNT_ID, |account| &account.id)
}

/// The name without the account.
fn short(qualified: &str) -> &str {
    qualified.rsplit('/').next().unwrap_or(qualified)
}

/// `arn:aws:sts::…:assumed-role/<role>/<session>`: the attested identity of a workload with a role.
pub fn session_arn(role: &Role, model: &Model, session: &str) -> String {
    format!("arn:aws:sts::{}:assumed-role/{}/{session}", account_id(model, Some(&role.account)), short(&role.name))
}

/// `arn:aws:vpc-lattice:…:workload/<VPC>/<name>`: the attested identity of a workload without a role.
pub fn workload_arn(vpc: &Vpc, model: &Model, name: &str) -> String {
    let account = account_id(model, vpc.account.as_deref());
    format!("arn:aws:vpc-lattice:{}:{account}:workload/{}/{name}", model.region, short(&vpc.name))
}

/// The roles that some workload has, and by name where they are in the snapshot.
pub(super) fn roles<'m>(
    model: &Model,
    used: impl Iterator<Item = &'m Role>,
    policies: &mut policies::Policies,
) -> (Vec<auth::Role>, BTreeMap<&'m str, RoleIndex>) {
    let used: BTreeMap<&str, &Role> = used.map(|role| (role.name.as_str(), role)).collect();
    let mut places = BTreeMap::new();
    let mut roles = Vec::with_capacity(used.len());
    for (name, role) in used {
        places.insert(name, RoleIndex::new(roles.len()));
        let account = model.account(&role.account);
        let path = account.and_then(|account| account.organization_path.as_deref());
        roles.push(auth::Role {
            name: role.name.clone(),
            arn: role.arn.clone(),
            account: account_id(model, Some(&role.account)).to_owned(),
            organization: path.and_then(|path| path.split('/').next()).map(str::to_owned),
            organization_paths: path.map(str::to_owned).into_iter().collect(),
            tags: pairs(&role.tags),
            policy: policies.of_role(role),
            origin: role.origin.clone(),
        });
    }
    (roles, places)
}

/// Tags in order of their keys.
pub(super) fn pairs(tags: &crate::documents::Tags) -> Vec<(String, String)> {
    tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The account of a VPC: 12 digits, or nothing where it belongs to the operator.
pub(super) fn vpc_account(model: &Model, vpc: &Vpc) -> String {
    vpc.account.as_deref().map_or(String::new(), |name| account_id(model, Some(name)).to_owned())
}

/// The account of a service.
pub(super) fn service_account(model: &Model, account: &str) -> String {
    account_id(model, Some(account)).to_owned()
}

/// A workload of the snapshot.
pub(super) fn workload(
    binding: &Binding,
    vpc: VpcIndex,
    own: Identity<'_>,
    role: Option<RoleIndex>,
) -> snapshot::Workload {
    snapshot::Workload {
        alias: binding.alias,
        address: binding.address,
        vpc,
        name: binding.name.clone(),
        number: binding.number,
        generation: binding.generation,
        attested: own.attested,
        evidence: own.evidence,
        role,
        session: own.session,
    }
}

#[cfg(test)]
mod tests {
    use super::session_name;

    #[test]
    fn session_names_stay_apart_and_fit_into_arns() {
        assert_eq!(session_name("orders-7@12"), "orders-7@12");
        assert_eq!(session_name("a b=c\u{e9}"), "a=20b=3Dc=C3=A9");
        assert_ne!(session_name("a b"), session_name("a=20b"));
    }
}
