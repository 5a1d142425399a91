//! Associations: which side asked, whether the other side granted it, and what else keeps them from being in force.

use std::collections::{BTreeMap, HashMap};

use super::index::{Index, suggestion};
use super::{Linker, sink};
use crate::at::At;
use crate::diagnostic::{Diagnostic, Located, Position, Sink, quote};
use crate::documents::Owner;
use crate::ids::{IdKind, Identifier, arn, derive};
use crate::model::{Association, AssociationKind, Model, Service, ServiceNetwork, Status, Vpc, failure};

/// An association that a document asks for.
struct Request<'d> {
    kind: AssociationKind,
    owner: &'d Owner,
    network: &'d Located<Identifier>,
    member: Member<'d>,
    at: &'d Position,
}

enum Member<'d> {
    /// Written inside the member's own document.
    Inline(Option<Found>),
    /// Named by a document of its own.
    Named(&'d Located<Identifier>),
}

/// Where a member is in the model.
#[derive(Clone, Copy)]
enum Found {
    Service(At<Service>),
    Vpc(At<Vpc>),
}

/// A side of an association that could not be found.
struct Missing {
    status: Status,
    /// An error if the owner's own, else a warning.
    finding: Diagnostic,
}

impl<'a> Linker<'a> {
    pub(super) fn associations(&mut self, services: &[Service]) -> Vec<Association> {
        let mut service_index = Index::default();
        for (position, service) in services.iter().enumerate() {
            service_index.insert(position, &service.name, &service.id, &service.arn);
        }
        let mut associations: Vec<(Association, &Position)> = Vec::new();
        let mut seen: HashMap<(AssociationKind, String, String), usize> = HashMap::new();
        for request in self.requests(&service_index) {
            let (association, findings) = self.associate(&request, services, &service_index);
            for finding in findings {
                match finding.severity {
                    crate::Severity::Error => self.error(request.owner, finding),
                    crate::Severity::Warning => self.warning(request.owner, finding),
                }
            }
            let key = (association.kind, association.network.clone(), association.member.clone());
            let Some(&index) = seen.get(&key) else {
                seen.insert(key, associations.len());
                associations.push((association, request.at));
                continue;
            };
            let (first, place) = &mut associations[index];
            let message = format!(
                "{} and {} are already associated by {} at {}",
                first.member,
                first.network,
                first.created_by,
                place.place()
            );
            if first.created_by == *request.owner {
                self.error(request.owner, Diagnostic::error(request.at, message).help("keep one of them"));
            } else if !first.status.is_active() && association.status.is_active() {
                // The other side asked, too, and may.
                *first = association;
                *place = request.at;
            } else {
                self.warning(request.owner, Diagnostic::warning(request.at, message));
            }
        }
        self.domain_conflicts(&mut associations, services, &service_index);
        associations.into_iter().map(|(association, _)| association).collect()
    }

    /// All that is asked for: by owner, inline ones first.
    fn requests(&self, services: &Index<Service>) -> Vec<Request<'a>> {
        let (service, vpc) = (AssociationKind::Service, AssociationKind::Vpc);
        let documents = self.documents;
        let mut requests = Vec::new();
        for (owner, documents) in documents {
            if owner.account().is_some_and(|name| !self.accounts.contains_key(name)) {
                continue;
            }
            for doc in &documents.vpcs {
                let account = doc.account.as_ref().map(|account| account.value.as_str());
                let name = Identifier::Qualified(
                    account.unwrap_or(crate::documents::OPERATOR).to_owned(),
                    doc.metadata.name.value.clone(),
                );
                let member = self.vpc(&name, None).map(Found::Vpc);
                for network in &doc.networks {
                    requests.push(Request {
                        kind: vpc,
                        owner,
                        network,
                        member: Member::Inline(member),
                        at: &network.at,
                    });
                }
            }
            for doc in &documents.services {
                let name = Identifier::Name(doc.metadata.name.value.clone());
                let member = services.resolve(&name, owner.account(), |_| None).map(Found::Service);
                for network in &doc.networks {
                    let member = Member::Inline(member);
                    requests.push(Request { kind: service, owner, network, member, at: &network.at });
                }
            }
            for doc in &documents.service_associations {
                let member = Member::Named(&doc.service);
                requests.push(Request { kind: service, owner, network: &doc.network, member, at: &doc.at });
            }
            for doc in &documents.vpc_associations {
                let member = Member::Named(&doc.vpc);
                requests.push(Request { kind: vpc, owner, network: &doc.network, member, at: &doc.at });
            }
        }
        requests
    }

    fn associate(
        &self,
        request: &Request<'_>,
        services: &[Service],
        service_index: &Index<Service>,
    ) -> (Association, Vec<Diagnostic>) {
        let home = request.owner.account();
        let network = self.network_index.resolve(&request.network.value, home, |id| self.account_name(id));
        let member = match (&request.member, request.kind) {
            (Member::Inline(found), _) => *found,
            (Member::Named(name), AssociationKind::Service) => {
                service_index.resolve(&name.value, home, |id| self.account_name(id)).map(Found::Service)
            }
            (Member::Named(name), AssociationKind::Vpc) => self.vpc(&name.value, home).map(Found::Vpc),
        };
        let mut missing = Vec::new();
        if network.is_none() {
            missing.push(self.missing_network(request));
        }
        if let (None, Member::Named(name)) = (member, &request.member) {
            missing.push(self.missing_member(request, name, services));
        }
        // Account, name and whether it is in force.
        let described = member.map(|found| match found {
            Found::Service(at) => {
                let service = at.of(services);
                (Some(service.account.as_str()), service.name.as_str(), &service.status)
            }
            Found::Vpc(at) => {
                let vpc = at.of(&self.vpcs);
                (vpc.account.as_deref(), vpc.name.as_str(), &vpc.status)
            }
        });
        let network_name =
            network.map_or_else(|| request.network.value.to_string(), |at| at.of(&self.networks).name.clone());
        let member_name = match (&described, &request.member) {
            (Some((_, name, _)), _) => (*name).to_owned(),
            (None, Member::Named(name)) => name.value.to_string(),
            (None, Member::Inline(_)) => String::new(),
        };
        let (status, findings) = match (missing.first(), network, member.zip(described)) {
            (Some(first), ..) => (first.status.clone(), missing.into_iter().map(|missing| missing.finding).collect()),
            (None, Some(network), Some((member, (_, name, status)))) => {
                let refusal = self.refusal(request, network, member, services).map(|(message, help)| {
                    let finding = Diagnostic::warning(request.at, format!("not associated: {message}")).help(help);
                    (Status::failed(failure::ACCESS_DENIED, message), vec![finding])
                });
                let failed = || {
                    let message = format!("{name} is not in force");
                    (!status.is_active()).then(|| (Status::failed(failure::MEMBER_FAILED, message), Vec::new()))
                };
                refusal.or_else(failed).unwrap_or((Status::Active, Vec::new()))
            }
            _ => (Status::failed(failure::MEMBER_FAILED, "the member is not in force"), Vec::new()),
        };
        let id_kind = match request.kind {
            AssociationKind::Service => IdKind::ServiceAssociation,
            AssociationKind::Vpc => IdKind::VpcAssociation,
        };
        let account_id = self.account_id(described.and_then(|(account, ..)| account));
        let id = derive(account_id, id_kind, &network_name, &member_name);
        let association = Association {
            kind: request.kind,
            arn: arn(self.settings.region, account_id, id_kind, &id),
            id,
            network: network_name,
            member: member_name,
            created_by: request.owner.clone(),
            status,
            origin: request.at.origin(),
        };
        (association, findings)
    }

    fn missing_network(&self, request: &Request<'_>) -> Missing {
        let home = request.owner.account();
        let text = quote(&request.network.value.to_string());
        let near = if self.hints(request.owner) {
            // The owner must not learn names of networks that are not shared with it.
            let visible = self.networks.iter().filter(|network| {
                home.is_none_or(|home| {
                    network.account == home || network.shared_with.iter().any(|account| account == home)
                })
            });
            suggestion(&request.network.value, home, visible.map(|network| network.name.as_str()))
        } else {
            None
        };
        let message = format!("there is no service network {text}");
        let status = Status::failed(failure::NETWORK_NOT_FOUND, message.clone());
        let at = &request.network.at;
        let finding = if self.is_own(&request.network.value, home) {
            Diagnostic::error(at, message)
        } else {
            Diagnostic::warning(at, format!("not associated: {message}"))
        };
        Missing { status, finding: finding.nearest(near.as_deref()) }
    }

    fn missing_member(&self, request: &Request<'_>, name: &Located<Identifier>, services: &[Service]) -> Missing {
        let home = request.owner.account();
        let text = quote(&name.value.to_string());
        let (what, code, own) = match request.kind {
            AssociationKind::Service => ("service", failure::SERVICE_NOT_FOUND, self.is_own(&name.value, home)),
            // All VPCs are the operator's documents.
            AssociationKind::Vpc => ("VPC", failure::VPC_NOT_FOUND, home.is_none()),
        };
        let near = if self.hints(request.owner) {
            match request.kind {
                AssociationKind::Service => {
                    let visible = services.iter().filter(|service| {
                        home.is_some_and(|home| {
                            service.account == home || service.shared_with.iter().any(|account| account == home)
                        })
                    });
                    suggestion(&name.value, home, visible.map(|service| service.name.as_str()))
                }
                AssociationKind::Vpc => {
                    let visible = self.vpcs.iter().filter(|vpc| home.is_none() || vpc.account.as_deref() == home);
                    suggestion(&name.value, home, visible.map(|vpc| vpc.name.as_str()))
                }
            }
        } else {
            None
        };
        let message = format!("there is no {what} {text}");
        let status = Status::failed(code, message.clone());
        let finding = if own {
            Diagnostic::error(&name.at, message)
        } else {
            Diagnostic::warning(&name.at, format!("not associated: {message}"))
        };
        Missing { status, finding: finding.nearest(near.as_deref()) }
    }

    /// Whether an identifier that means nothing would mean something of the owner's own.
    fn is_own(&self, identifier: &Identifier, home: Option<&str>) -> bool {
        let Some(home) = home else { return false };
        match identifier {
            Identifier::Name(_) => true,
            Identifier::Qualified(account, _) => self.account_name(account).unwrap_or(account) == home,
            Identifier::Id(_) => false,
            Identifier::Arn(arn) => arn.split(':').nth(4) == Some(self.account_id(Some(home))),
        }
    }

    /// Why the owner may not associate these two, and what to do about it.
    fn refusal(
        &self,
        request: &Request<'_>,
        network: At<ServiceNetwork>,
        member: Found,
        services: &[Service],
    ) -> Option<(String, String)> {
        let network = network.of(&self.networks);
        let granted =
            |account: &str, shared: &[String], to: &str| account == to || shared.iter().any(|name| name == to);
        let owner = request.owner.account();
        match member {
            Found::Service(at) => {
                let service = at.of(services);
                // One side is the owner's, the other is shared with it.
                if owner == Some(service.account.as_str()) {
                    return (!granted(&network.account, &network.shared_with, &service.account)).then(|| {
                        (
                            format!("{} is not shared with the account {}", network.name, service.account),
                            format!(
                                "the account {} adds `{}` to `sharedWith` of the service network",
                                network.account, service.account
                            ),
                        )
                    });
                }
                if owner == Some(network.account.as_str()) {
                    return (!granted(&service.account, &service.shared_with, &network.account)).then(|| {
                        (
                            format!("{} is not shared with the account {}", service.name, network.account),
                            format!(
                                "the account {} adds `{}` to `sharedWith` of the service",
                                service.account, network.account
                            ),
                        )
                    });
                }
                Some((
                    format!("neither {} nor {} belongs to {}", service.name, network.name, request.owner),
                    "the owner of one of them associates them".into(),
                ))
            }
            Found::Vpc(at) => {
                let vpc = at.of(&self.vpcs);
                let account = vpc.account.as_deref();
                if let Some(owner) = owner
                    && account != Some(owner)
                {
                    return Some((
                        format!("the VPC {} does not belong to the account {owner}", vpc.name),
                        "the account it belongs to, or the operator, associates it".into(),
                    ));
                }
                // The operator's own VPCs need no grant: the operator hands out the accounts themselves.
                let account = account?;
                (!granted(&network.account, &network.shared_with, account)).then(|| {
                    (
                        format!("{} is not shared with the account {account}", network.name),
                        format!(
                            "the account {} adds `{account}` to `sharedWith` of the service network",
                            network.account
                        ),
                    )
                })
            }
        }
    }

    /// Of services of one network that claim the same domain, the first by (account, name) has it; the associations of
    /// the others fail.
    fn domain_conflicts(
        &mut self,
        associations: &mut [(Association, &Position)],
        services: &[Service],
        index: &Index<Service>,
    ) {
        let mut members: Vec<(&str, At<Service>, usize)> = Vec::new();
        for (position, (association, _)) in associations.iter().enumerate() {
            if association.kind != AssociationKind::Service || !association.status.is_active() {
                continue;
            }
            let Some((account, name)) = association.member.split_once('/') else { continue };
            let name = Identifier::Qualified(account.to_owned(), name.to_owned());
            let Some(service) = index.resolve(&name, None, |_| None) else { continue };
            members.push((association.network.as_str(), service, position));
        }
        // `services` is in order of (account, name).
        members.sort_unstable();
        let mut holders: HashMap<(&str, &str), At<Service>> = HashMap::new();
        let mut conflicts: Vec<(usize, String, Diagnostic, Owner)> = Vec::new();
        for (network, service, position) in members {
            let domains = &service.of(services).domains;
            let taken = domains.iter().find_map(|domain| Some((domain, *holders.get(&(network, domain.as_str()))?)));
            if let Some((domain, holder)) = taken {
                let (association, at) = &associations[position];
                let holder = holder.of(services);
                let message = format!(
                    "{} is already claimed in {network} by {} at {}",
                    quote(domain),
                    holder.name,
                    holder.origin
                );
                let finding = Diagnostic::warning(at, format!("not associated: {message}"))
                    .help("give the service another domain name, or leave this network out");
                conflicts.push((position, message, finding, association.created_by.clone()));
                continue;
            }
            for domain in domains {
                holders.insert((network, domain), service);
            }
        }
        for (position, message, finding, owner) in conflicts {
            associations[position].0.status = Status::failed(failure::DOMAIN_CONFLICT, message);
            self.warning(&owner, finding);
        }
    }
}

/// A VPC in several networks can see two services with one domain; both are reached, but the name means the first.
pub(super) fn name_conflicts(model: &Model, warnings: &mut BTreeMap<Owner, Sink>) {
    for (vpc, services) in model.vpcs.iter().zip(crate::plan::visible(model)) {
        let mut holders: HashMap<&str, &Service> = HashMap::new();
        for at in services {
            let service = at.of(&model.services);
            for domain in &service.domains {
                let Some(first) = holders.get(domain.as_str()) else {
                    holders.insert(domain, service);
                    continue;
                };
                let at = Position { file: vpc.origin.file().into(), line: vpc.origin.line(), column: 1, length: 1 };
                let message = format!(
                    "in the VPC {} the name {} means {}, though {} claims it as well, in another network",
                    vpc.name,
                    quote(domain),
                    first.name,
                    service.name
                );
                let finding = Diagnostic::warning(&at, message).help("associate the VPC with one of the networks only");
                sink(warnings, &Owner::Operator).push(finding);
            }
        }
    }
}
