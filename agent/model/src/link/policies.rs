//! Auth policies and roles: whose they are, and what the policy language says about them there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use brattice_iam as iam;
use brattice_wire::auth::AuthType;

use super::index::{Index, suggestion};
use super::{Linker, qualified};
use crate::diagnostic::{Diagnostic, Located, Position, Sink, quote};
use crate::documents::{AuthPolicyDocument, Evidence, Owner, PolicyResourceIdentifier, RoleDocument};
use crate::ids::Identifier;
use crate::model::{AuthPolicy, Model, PolicyResource, PolicyState, Role, Service, Status, Trusted, Workload};
use crate::nearest::nearest;
use crate::roles::{NoRole, Roles};
use crate::yaml::policy_diagnostic;

impl Linker<'_> {
    /// All policies that have a resource, in order of it.
    pub(super) fn policies(&mut self, services: &[Service]) -> Vec<AuthPolicy> {
        let mut index = Index::default();
        for (position, service) in services.iter().enumerate() {
            index.insert(position, &service.name, &service.id, &service.arn);
        }
        let mut policies: BTreeMap<PolicyResource, (AuthPolicy, Position)> = BTreeMap::new();
        for (account, owner, documents) in self.owners() {
            for doc in &documents.policies {
                let resource = match self.policy_resource(account, owner, &doc.resource, services, &index) {
                    Ok(resource) => resource,
                    Err(diagnostic) => {
                        self.error(owner, *diagnostic);
                        continue;
                    }
                };
                if let Some((_, first)) = policies.get(&resource) {
                    let message = format!("{resource} has a policy already, at {}", first.place());
                    let diagnostic = Diagnostic::error(&doc.resource.at, message);
                    self.error(owner, diagnostic.help("put all statements into one policy"));
                    continue;
                }
                let Some((policy, attachment)) = self.read_policy(owner, doc, &resource, services, &index) else {
                    continue;
                };
                let state = match self.auth_type(&resource, services) {
                    AuthType::AwsIam => PolicyState::Active,
                    AuthType::None => PolicyState::Inactive,
                };
                if state == PolicyState::Inactive {
                    let message =
                        format!("the policy of {resource} is Inactive: its authType is NONE, so it refuses no caller");
                    let warning = Diagnostic::warning(&doc.resource.at, message);
                    self.warning(owner, warning.help("say `authType: AWS_IAM` there to put it in force"));
                }
                let policy = AuthPolicy {
                    resource: resource.clone(),
                    attachment,
                    policy,
                    mode: doc.mode,
                    state,
                    origin: doc.at.origin(),
                };
                policies.insert(resource, (policy, doc.resource.at.clone()));
            }
        }
        self.without_policy(&policies);
        policies.into_values().map(|(policy, _)| policy).collect()
    }

    /// A resource with `authType: AWS_IAM` and no policy refuses all callers, which is probably not intended.
    fn without_policy(&mut self, policies: &BTreeMap<PolicyResource, (AuthPolicy, Position)>) {
        for (account, owner, documents) in self.owners() {
            let network = |name: &str| PolicyResource::ServiceNetwork(qualified(Some(account), name));
            let service = |name: &str| PolicyResource::Service(qualified(Some(account), name));
            let networks =
                documents.networks.iter().map(|doc| (doc.auth_type, &doc.metadata.name, network(&doc.metadata.name)));
            let services =
                documents.services.iter().map(|doc| (doc.auth_type, &doc.metadata.name, service(&doc.metadata.name)));
            let lacking: Vec<(&Position, PolicyResource)> = networks
                .chain(services)
                .filter(|(auth_type, _, resource)| *auth_type == AuthType::AwsIam && !policies.contains_key(resource))
                .map(|(_, name, resource)| (&name.at, resource))
                .collect();
            for (at, resource) in lacking {
                let message = format!("{resource} has authType AWS_IAM and no policy, so every caller is refused");
                self.warning(owner, Diagnostic::warning(at, message).help("add an AuthPolicy for it"));
            }
        }
    }

    fn auth_type(&self, resource: &PolicyResource, services: &[Service]) -> AuthType {
        let found = match resource {
            PolicyResource::ServiceNetwork(name) => {
                self.networks.iter().find(|network| network.name == *name).map(|network| network.auth_type)
            }
            PolicyResource::Service(name) => {
                services.iter().find(|service| service.name == *name).map(|service| service.auth_type)
            }
        };
        found.unwrap_or_default()
    }

    /// The account's own service network or service that a policy names.
    fn policy_resource(
        &self,
        account: &str,
        owner: &Owner,
        resource: &Located<PolicyResourceIdentifier>,
        services: &[Service],
        index: &Index<Service>,
    ) -> Result<PolicyResource, Box<Diagnostic>> {
        let name = |id: &str| self.account_name(id);
        let network = resource.network.as_ref().and_then(|own| self.network_index.resolve(own, Some(account), name));
        let service = resource.service.as_ref().and_then(|own| index.resolve(own, Some(account), name));
        // Another account's is as good as none: whether it exists is not this one's to know.
        let network = network.map(|at| at.of(&self.networks)).filter(|network| network.account == account);
        let service = service.map(|at| at.of(services)).filter(|service| service.account == account);
        let text = quote(&resource.text);
        let error = |message: String| Box::new(Diagnostic::error(&resource.at, message));
        match (network, service) {
            (Some(network), Some(service)) => {
                let message = format!("{text} is a service network and a service");
                Err(Box::new(error(message).help(format!(
                    "say which by its id: {} or {}",
                    quote(&network.id),
                    quote(&service.id)
                ))))
            }
            (Some(network), None) => Ok(PolicyResource::ServiceNetwork(network.name.clone())),
            (None, Some(service)) => Ok(PolicyResource::Service(service.name.clone())),
            (None, None) => {
                let own = |name: &&str| name.split_once('/').is_some_and(|(own, _)| own == account);
                let names = self.networks.iter().map(|network| network.name.as_str());
                let names: Vec<&str> = names.chain(services.iter().map(|s| s.name.as_str())).filter(own).collect();
                let identifier = resource.service.as_ref().or(resource.network.as_ref());
                let near = identifier
                    .filter(|_| self.hints(owner))
                    .and_then(|own| suggestion(own, Some(account), names.iter().copied()));
                let message = format!("the account {account} has no service network and no service {text}");
                Err(Box::new(error(message).nearest(near.as_deref())))
            }
        }
    }

    /// The policy, read for what its resource's listeners speak.
    fn read_policy(
        &mut self,
        owner: &Owner,
        doc: &AuthPolicyDocument,
        resource: &PolicyResource,
        services: &[Service],
        index: &Index<Service>,
    ) -> Option<(iam::Policy, iam::Attachment)> {
        let attachment = match resource {
            PolicyResource::ServiceNetwork(_) => iam::Attachment::ServiceNetwork,
            PolicyResource::Service(name) => {
                let identifier = Identifier::Name(name.clone());
                let service = index.resolve(&identifier, None, |_| None).map(|at| at.of(services));
                // Listeners of this version read HTTP; a service without any may get one that does not.
                let none = service.is_none_or(|service| service.listeners.is_empty());
                iam::Attachment::Service { http: true, tcp: none }
            }
        };
        let read = iam::Policy::from_tree(&doc.policy, Arc::clone(&doc.at.file), attachment);
        self.findings(owner, &doc.at, &read.findings);
        Some((read.policy?, attachment))
    }

    fn findings(&mut self, owner: &Owner, within: &Position, findings: &[iam::Finding]) {
        for finding in findings {
            let diagnostic = policy_diagnostic(within, finding);
            if finding.is_error() {
                self.error(owner, diagnostic);
            } else {
                self.warning(owner, diagnostic);
            }
        }
    }

    /// All roles, by qualified name.
    pub(super) fn roles(&mut self, workloads: &[Workload]) -> Vec<Role> {
        let names: HashSet<&str> = workloads.iter().map(|workload| workload.name.as_str()).collect();
        let mut roles = Vec::new();
        for doc in self.operator().map_or(&[][..], |documents| &documents.roles) {
            let role = self.role(doc, &names);
            self.trusted(doc, &role, workloads);
            roles.push(role);
        }
        roles.sort_by(|a: &Role, b: &Role| a.name.cmp(&b.name));
        roles
    }

    /// Tells of labels that no workload has, and of what selects none in another way.
    fn trusted(&mut self, doc: &RoleDocument, role: &Role, workloads: &[Workload]) {
        let names: HashSet<&str> = workloads.iter().map(|workload| workload.name.as_str()).collect();
        for (own, trusted) in doc.trust.iter().zip(&role.trust) {
            let warning = |message: String| Diagnostic::warning(&own.at, message);
            let mut warned = own.workloads.iter().any(|workload| !names.contains(workload.value.as_str()));
            warned |= own.vpc.is_some()
                && trusted.vpc.as_ref().is_none_or(|vpc| self.vpcs.iter().all(|own| own.name != *vpc));
            for (key, value) in &own.labels {
                if workloads.iter().any(|workload| workload.labels.get(key) == Some(value)) {
                    continue;
                }
                warned = true;
                let label = format!("{key}: {value}");
                let finding =
                    warning(format!("no Workload has the label {}, so none can be the role by it", quote(&label)));
                let there: BTreeSet<String> = workloads
                    .iter()
                    .flat_map(|workload| workload.labels.iter().map(|(key, value)| format!("{key}: {value}")))
                    .collect();
                let near =
                    if self.hints(&Owner::Operator) { nearest(&label, there.iter().map(String::as_str)) } else { None };
                self.warning(&Owner::Operator, finding.nearest(near));
            }
            if !warned && !selects(trusted, workloads) {
                let message = "the trust selects no workload: none has all that it asks for".to_owned();
                self.warning(
                    &Owner::Operator,
                    warning(message).help("look at the workload's VPC, labels and evidence"),
                );
            }
        }
    }

    /// `roleIdentifier` of workloads, once the roles are known.
    pub(super) fn workload_roles(&mut self, workloads: &mut [Workload], roles: &[Role]) {
        let mut index = Index::default();
        for (position, role) in roles.iter().enumerate() {
            index.insert(position, &role.name, &role.arn, &role.arn);
        }
        let wished: HashMap<&str, &Located<Identifier>> = self
            .operator()
            .into_iter()
            .flat_map(|documents| &documents.workloads)
            .filter_map(|doc| Some((doc.metadata.name.value.as_str(), doc.role.as_ref()?)))
            .collect();
        for workload in workloads {
            let Some(&wish) = wished.get(workload.name.as_str()) else { continue };
            if let Some(found) = index.resolve(&wish.value, None, |id| self.account_name(id)) {
                workload.role = Some(found.of(roles).name.clone());
                continue;
            }
            // As written, which names none: the workload is not to be another role than it says.
            workload.role = Some(wish.value.to_string());
            let text = quote(&wish.value.to_string());
            let several: Vec<String> = match &wish.value {
                Identifier::Name(name) => index.namesakes(name).iter().map(|at| quote(&at.of(roles).name)).collect(),
                _ => Vec::new(),
            };
            let diagnostic = if several.len() > 1 {
                Diagnostic::error(&wish.at, format!("{text} could be one of several roles"))
                    .expected(several.join(" or "))
            } else {
                let near = suggestion(&wish.value, None, roles.iter().map(|role| role.name.as_str()));
                Diagnostic::error(&wish.at, format!("there is no Role {text}")).nearest(near.as_deref())
            };
            self.error(&Owner::Operator, diagnostic);
        }
    }

    fn role(&mut self, doc: &RoleDocument, workloads: &HashSet<&str>) -> Role {
        let mut status = Status::Active;
        let account = doc.account.value.as_str();
        if !self.accounts.contains_key(account) {
            let message = format!("there is no account {}", quote(account));
            let near = nearest(account, self.accounts.keys().map(String::as_str));
            let diagnostic = Diagnostic::error(&doc.account.at, message).nearest(near);
            status = super::entities::invalid(&diagnostic);
            self.error(&Owner::Operator, diagnostic);
        }
        let mut trust = Vec::with_capacity(doc.trust.len());
        for own in &doc.trust {
            let vpc = own.vpc.as_ref().map(|vpc| match self.operators_vpc(vpc) {
                Ok(at) => at.of(&self.vpcs).name.clone(),
                Err(diagnostic) => {
                    status = super::entities::invalid(&diagnostic);
                    self.error(&Owner::Operator, *diagnostic);
                    vpc.value.to_string()
                }
            });
            for workload in own.workloads.iter().filter(|workload| !workloads.contains(workload.value.as_str())) {
                let near = nearest(&workload.value, workloads.iter().copied());
                let message = format!("there is no Workload {}, so it cannot be the role", quote(&workload.value));
                self.warning(&Owner::Operator, Diagnostic::warning(&workload.at, message).nearest(near));
            }
            trust.push(Trusted {
                vpc,
                workloads: own.workloads.iter().map(|workload| workload.value.clone()).collect(),
                labels: own.labels.clone(),
                evidence: own.evidence.clone(),
            });
        }
        self.findings(
            &Owner::Operator,
            &doc.metadata.name.at,
            &doc.warnings.iter().filter(|f| !f.is_error()).cloned().collect::<Vec<_>>(),
        );
        let account_id = self.account_id(Some(account));
        Role {
            name: qualified(Some(account), &doc.metadata.name),
            arn: format!("arn:aws:iam::{account_id}:role/{}", doc.metadata.name.value),
            account: account.to_owned(),
            status,
            trust,
            policy: doc.policy.clone(),
            labels: doc.metadata.labels.clone(),
            tags: doc.tags.clone(),
            origin: doc.metadata.name.at.origin(),
        }
    }
}

/// Whether some workload can be a role by this: with all evidence there can be.
fn selects(trusted: &Trusted, workloads: &[Workload]) -> bool {
    let by_interface = [Evidence::Interface, Evidence::Namespace];
    let known = |evidence: &[Evidence]| trusted.evidence.iter().all(|wanted| evidence.contains(wanted));
    // Of those without a document nothing but the VPC is known.
    let unnamed = trusted.workloads.is_empty() && trusted.labels.is_empty() && known(&by_interface);
    unnamed
        || workloads.iter().any(|workload| {
            let evidence = if workload.cgroup.is_some() { workload.evidence() } else { by_interface.to_vec() };
            trusted.vpc.as_ref().is_none_or(|vpc| workload.vpc == *vpc)
                && (trusted.workloads.is_empty() || trusted.workloads.contains(&workload.name))
                && trusted.labels.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
                && known(&evidence)
        })
}

/// Workloads that some role was meant for and that call as anonymous all the same. With all evidence there can be: how a
/// workload is known shows only when it runs.
pub(super) fn without_role(model: &Model, documents: &super::AllDocuments<'_>, warnings: &mut BTreeMap<Owner, Sink>) {
    let of_interface = [Evidence::Interface, Evidence::Namespace];
    let roles = Roles::new(model);
    let Some(documents) = documents.get(&Owner::Operator) else { return };
    let mut warn = |at: &Position, message: String, help: &str| {
        super::sink(warnings, &Owner::Operator).push(Diagnostic::warning(at, message).help(help));
    };
    let names = |several: &[&Role]| several.iter().map(|role| quote(&role.name)).collect::<Vec<_>>().join(" and ");
    let places: HashMap<&str, &Located<String>> =
        documents.workloads.iter().map(|doc| (doc.metadata.name.value.as_str(), &doc.metadata.name)).collect();
    for workload in model.workloads.iter().filter(|workload| workload.status.is_active()) {
        let Some(name) = places.get(workload.name.as_str()) else { continue };
        let of_host = workload.evidence();
        let evidence = if workload.cgroup.is_some() { &of_host[..] } else { &of_interface };
        match roles.of(&workload.vpc, Some(workload), evidence) {
            // That it is missing is an error already, or the role itself has one.
            Ok(_) | Err(NoRole::Missing(_)) => {}
            Err(NoRole::NotTrusted(role)) => {
                let message = format!(
                    "the role {} does not trust the workload {}, which calls as anonymous",
                    role.name, workload.name
                );
                warn(&name.at, message, "add the workload to the role's `trust`");
            }
            Err(NoRole::Several(several)) => {
                let message = format!(
                    "the workload {} is trusted by the roles {}, and calls as anonymous as long as it does not say which it is",
                    workload.name,
                    names(&several)
                );
                warn(&name.at, message, "say `roleIdentifier`, or narrow the roles' `trust`");
            }
        }
    }
    let places: HashMap<String, &Position> =
        documents.vpcs.iter().map(|doc| (doc.qualified(), &doc.metadata.name.at)).collect();
    for vpc in model.vpcs.iter().filter(|vpc| vpc.status.is_active()) {
        if let (Err(NoRole::Several(several)), Some(at)) =
            (roles.of(&vpc.name, None, &of_interface), places.get(&vpc.name))
        {
            let message = format!(
                "workloads of the VPC {} without a document are trusted by the roles {}, and call as anonymous",
                vpc.name,
                names(&several)
            );
            warn(at, message, "narrow the roles' `trust`, or write Workload documents with `roleIdentifier`");
        }
    }
}
