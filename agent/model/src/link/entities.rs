//! Accounts, VPCs, workloads, service networks, target groups.

use std::collections::HashMap;
use std::net::IpAddr;

use super::index::suggestion;
use super::{Linker, qualified, reserved};
use crate::at::At;
use crate::diagnostic::{Diagnostic, Located, Position, quote};
use crate::documents::{Attachment, Owner, TargetGroupDocument, VpcDocument};
use crate::ids::{IdKind, Identifier, arn, derive};
use crate::model::{Account, ServiceNetwork, Status, TargetGroup, Vpc, Workload, failure};
use crate::nearest::nearest;

/// The status of an entity whose document has an error.
pub(super) fn invalid(diagnostic: &Diagnostic) -> Status {
    Status::failed(failure::INVALID, diagnostic.message.clone())
}

impl Linker<'_> {
    pub(super) fn accounts(&mut self) {
        for doc in self.operator().map_or(&[][..], |documents| &documents.accounts) {
            let name = doc.metadata.name.value.clone();
            self.account_ids.insert(doc.id.value.clone(), name.clone());
            let account = Account {
                name: name.clone(),
                id: doc.id.value.clone(),
                organization_path: doc.organization_path.clone(),
                domains: doc.domains.iter().map(|domain| domain.value.clone()).collect(),
                vpcs: Vec::new(),
                origin: doc.metadata.name.at.origin(),
            };
            self.accounts.insert(name, account);
        }
        let documents = self.documents;
        for (owner, documents) in documents {
            let (Some(name), Some(first)) = (owner.account(), documents.first()) else { continue };
            if !self.accounts.contains_key(name) {
                let message = format!("there is no account {}, so nothing in its folder is in force", quote(name));
                let mut diagnostic = Diagnostic::error(first, message);
                diagnostic = match nearest(name, self.accounts.keys().map(String::as_str)) {
                    Some(near) => diagnostic.help(format!("is this the folder of {}?", quote(near))),
                    None => diagnostic.help("the operator adds an Account document of this name"),
                };
                self.error(owner, diagnostic);
            }
        }
    }

    pub(super) fn vpcs(&mut self) {
        let mut docs: Vec<&VpcDocument> = self.operator().into_iter().flat_map(|documents| &documents.vpcs).collect();
        docs.sort_by_cached_key(|doc| doc.qualified());
        for doc in docs {
            let mut status = Status::Active;
            for diagnostic in self.vpc_errors(doc) {
                status = invalid(&diagnostic);
                self.error(&Owner::Operator, diagnostic);
            }
            let account = doc.account.as_ref().map(|account| account.value.as_str());
            let name = doc.qualified();
            let account_id = self.account_id(account).to_owned();
            let id = derive(&account_id, IdKind::Vpc, "", &doc.metadata.name);
            let arn = arn(self.settings.region, &account_id, IdKind::Vpc, &id);
            self.vpc_index.insert(self.vpcs.len(), &name, &id, &arn);
            self.vpcs.push(Vpc {
                name,
                id,
                arn,
                account: account.map(str::to_owned),
                status,
                cidrs: doc.cidrs.iter().map(|cidr| cidr.value).collect(),
                attachments: doc.attachments.clone(),
                dns: doc.dns,
                dns_upstreams: doc.dns_upstreams.iter().map(|upstream| upstream.value).collect(),
                labels: doc.metadata.labels.clone(),
                tags: doc.tags.clone(),
                origin: doc.metadata.name.at.origin(),
            });
        }
    }

    /// VPCs that select by the same patterns: what both select is refused as `ClaimedByTwoVpcs`.
    pub(super) fn vpcs_with_the_same_selector(&mut self) {
        let mut found = Vec::new();
        for (index, vpc) in self.vpcs.iter().enumerate() {
            for attachment in &vpc.attachments {
                let same = |other: &Attachment| {
                    (&other.interface, &other.namespace, &other.namespace_cgroup)
                        == (&attachment.interface, &attachment.namespace, &attachment.namespace_cgroup)
                };
                let Some(first) = self.vpcs[..index].iter().find(|other| other.attachments.iter().any(same)) else {
                    continue;
                };
                let origin = &vpc.origin;
                let at = Position { file: origin.file().into(), line: origin.line(), column: 1, length: 1 };
                let message =
                    format!("the VPC {} selects by the same pattern ({attachment}) as {}", vpc.name, first.name);
                let help =
                    "an interface that two VPCs select is refused (ClaimedByTwoVpcs): each needs a pattern of its own";
                found.push(Diagnostic::warning(&at, message).help(help));
            }
        }
        for finding in found {
            self.warning(&Owner::Operator, finding);
        }
    }

    fn vpc_errors(&self, doc: &VpcDocument) -> Vec<Diagnostic> {
        let mut errors = Vec::new();
        if let Some(account) = &doc.account
            && !self.accounts.contains_key(&account.value)
        {
            let message = format!("there is no account {}", quote(&account.value));
            let near = nearest(&account.value, self.accounts.keys().map(String::as_str));
            errors.push(Diagnostic::error(&account.at, message).nearest(near));
        }
        for cidr in &doc.cidrs {
            if let Some(range) = reserved(cidr.value, self.settings) {
                errors.push(
                    Diagnostic::error(&cidr.at, format!("{} overlaps {range}", cidr.value))
                        .help("choose another block, or start the agent with another range"),
                );
            }
        }
        for upstream in &doc.dns_upstreams {
            if let Some(range) = reserved(upstream.value.ip().into(), self.settings) {
                errors.push(Diagnostic::error(&upstream.at, format!("{} lies in {range}", upstream.value.ip())));
            }
        }
        errors
    }

    /// `Account.vpcs`, once the VPCs are known.
    pub(super) fn account_vpcs(&mut self) {
        for doc in self.operator().map_or(&[][..], |documents| &documents.accounts) {
            let mut names = Vec::with_capacity(doc.vpcs.len());
            for vpc in &doc.vpcs {
                match self.operators_vpc(vpc) {
                    Ok(at) => names.push(at.of(&self.vpcs).name.clone()),
                    Err(diagnostic) => self.error(&Owner::Operator, *diagnostic),
                }
            }
            names.sort();
            names.dedup();
            if let Some(account) = self.accounts.get_mut(&doc.metadata.name.value) {
                account.vpcs = names;
            }
        }
    }

    /// A VPC that a document of the operator names.
    pub(super) fn operators_vpc(&self, vpc: &Located<Identifier>) -> Result<At<Vpc>, Box<Diagnostic>> {
        if let Some(index) = self.vpc(&vpc.value, None) {
            return Ok(index);
        }
        let diagnostic = Diagnostic::error(&vpc.at, format!("there is no VPC {}", quote(&vpc.value.to_string())));
        if let Identifier::Name(name) = &vpc.value {
            let several: Vec<String> =
                self.vpc_index.namesakes(name).iter().map(|at| quote(&at.of(&self.vpcs).name)).collect();
            if several.len() > 1 {
                let message = format!("{} could be one of several VPCs", quote(name));
                let diagnostic = Diagnostic { message, ..diagnostic };
                return Err(Box::new(diagnostic.expected(several.join(" or "))));
            }
        }
        let near = if self.hints(&Owner::Operator) {
            suggestion(&vpc.value, None, self.vpcs.iter().map(|vpc| vpc.name.as_str()))
        } else {
            None
        };
        Err(Box::new(diagnostic.nearest(near.as_deref())))
    }

    /// A VPC as an account (`None`: the operator) names it.
    pub(super) fn vpc(&self, identifier: &Identifier, home: Option<&str>) -> Option<At<Vpc>> {
        self.vpc_index.resolve(identifier, home, |id| self.account_name(id))
    }

    pub(super) fn workloads(&mut self) -> Vec<Workload> {
        let mut seen: HashMap<(At<Vpc>, IpAddr), &Position> = HashMap::new();
        let mut workloads = Vec::new();
        for doc in self.operator().map_or(&[][..], |documents| &documents.workloads) {
            let mut status = Status::Active;
            let found = self.operators_vpc(&doc.vpc);
            let mut errors = Vec::new();
            match &found {
                Err(diagnostic) => errors.push((**diagnostic).clone()),
                Ok(at) => {
                    let vpc = at.of(&self.vpcs);
                    for address in &doc.addresses {
                        if !vpc.contains(address.value) {
                            errors.push(outside(&address.at, address.value, vpc));
                        }
                        if let Some(first) = seen.insert((*at, address.value), &address.at) {
                            let message =
                                format!("{} in {} is already given at {}", address.value, vpc.name, first.place());
                            errors.push(Diagnostic::error(&address.at, message).expected("one workload per address"));
                        }
                    }
                    if !vpc.status.is_active() {
                        status =
                            Status::failed(failure::MEMBER_FAILED, format!("the VPC {} is not in force", vpc.name));
                    }
                }
            }
            let vpc = found.map_or_else(|_| doc.vpc.value.to_string(), |at| at.of(&self.vpcs).name.clone());
            for diagnostic in errors {
                status = invalid(&diagnostic);
                self.error(&Owner::Operator, diagnostic);
            }
            workloads.push(Workload {
                name: doc.metadata.name.value.clone(),
                vpc,
                status,
                role: None,
                interface: doc.interface.as_ref().map(|name| name.value.clone()),
                namespace: doc.namespace.as_ref().map(|name| name.value.clone()),
                namespace_path: doc.namespace_path.as_ref().map(|path| path.value.clone()),
                namespace_cgroup: doc.namespace_cgroup.as_ref().map(|glob| glob.value.clone()),
                cgroup: doc.cgroup.as_ref().map(|glob| glob.value.clone()),
                uid: doc.uid.as_ref().map(|uid| uid.value),
                mac: doc.mac.as_ref().map(|mac| mac.value),
                addresses: doc.addresses.iter().map(|address| address.value).collect(),
                allow_beside_cni: doc.allow_beside_cni,
                labels: doc.metadata.labels.clone(),
                tags: doc.tags.clone(),
                origin: doc.metadata.name.at.origin(),
            });
        }
        workloads
    }

    pub(super) fn networks(&mut self) {
        for (account, owner, documents) in self.owners() {
            for doc in &documents.networks {
                let shared_with = self.shared_with(owner, &doc.shared_with);
                let account_id = self.account_id(Some(account)).to_owned();
                let id = derive(&account_id, IdKind::ServiceNetwork, "", &doc.metadata.name);
                let arn = arn(self.settings.region, &account_id, IdKind::ServiceNetwork, &id);
                let name = qualified(Some(account), &doc.metadata.name);
                self.network_index.insert(self.networks.len(), &name, &id, &arn);
                self.networks.push(ServiceNetwork {
                    name,
                    id,
                    arn,
                    account: account.to_owned(),
                    status: Status::Active,
                    auth_type: doc.auth_type,
                    shared_with,
                    labels: doc.metadata.labels.clone(),
                    tags: doc.tags.clone(),
                    origin: doc.metadata.name.at.origin(),
                });
            }
        }
    }

    pub(super) fn target_groups(&mut self) {
        for (account, owner, documents) in self.owners() {
            for doc in &documents.target_groups {
                let (vpc, status) = self.target_group_vpc(account, owner, doc);
                let account_id = self.account_id(Some(account)).to_owned();
                let id = derive(&account_id, IdKind::TargetGroup, "", &doc.metadata.name);
                let arn = arn(self.settings.region, &account_id, IdKind::TargetGroup, &id);
                let name = qualified(Some(account), &doc.metadata.name);
                self.target_group_index.insert(self.target_groups.len(), &name, &id, &arn);
                self.target_groups.push(TargetGroup {
                    name,
                    id,
                    arn,
                    account: account.to_owned(),
                    status,
                    vpc,
                    port: doc.port,
                    protocol_version: doc.protocol_version,
                    idle_timeout_seconds: doc.idle_timeout_seconds,
                    targets: doc.targets.iter().map(|target| (target.address, target.port)).collect(),
                    labels: doc.metadata.labels.clone(),
                    tags: doc.tags.clone(),
                    origin: doc.metadata.name.at.origin(),
                });
            }
        }
    }

    /// The VPC's name and the status that follows from it and from the targets' addresses.
    fn target_group_vpc(&mut self, account: &str, owner: &Owner, doc: &TargetGroupDocument) -> (String, Status) {
        let written = doc.vpc.value.to_string();
        let granted: &[String] = self.accounts.get(account).map_or(&[], |account| &account.vpcs);
        let may = |vpc: &Vpc| vpc.account.as_deref() == Some(account) || granted.binary_search(&vpc.name).is_ok();
        let Some(at) = self.vpc(&doc.vpc.value, Some(account)) else {
            // VPCs are the operator's: that one is missing is no error of the account.
            let message = format!("there is no VPC {}", quote(&written));
            let near = if self.hints(owner) {
                let visible = self.vpcs.iter().filter(|vpc| may(vpc)).map(|vpc| vpc.name.as_str());
                suggestion(&doc.vpc.value, Some(account), visible)
            } else {
                None
            };
            let text = format!("{message}, so the target group has no reachable targets");
            self.warning(owner, Diagnostic::warning(&doc.vpc.at, text).nearest(near.as_deref()));
            return (written, Status::failed(failure::VPC_NOT_FOUND, message));
        };
        let vpc = at.of(&self.vpcs);
        let name = vpc.name.clone();
        if !may(vpc) {
            let message = format!("the account {account} may not have targets in the VPC {name}");
            let diagnostic = Diagnostic::error(&doc.vpc.at, message);
            let diagnostic = if granted.is_empty() {
                diagnostic.help("the operator lists the VPC in `vpcs` of the Account")
            } else {
                let shown: Vec<String> = granted.iter().take(10).map(|name| quote(name)).collect();
                diagnostic.expected(format!("a VPC of the account, or one granted to it: {}", shown.join(", ")))
            };
            let status = invalid(&diagnostic);
            self.error(owner, diagnostic);
            return (name, status);
        }
        let errors: Vec<Diagnostic> = doc
            .targets
            .iter()
            .filter_map(|target| {
                // Brattice's ranges cannot be inside a VPC that is in force, but this one may not be.
                if let Some(range) = reserved(target.address.into(), self.settings) {
                    return Some(Diagnostic::error(&target.at, format!("{} lies in {range}", target.address)));
                }
                (!vpc.contains(target.address)).then(|| outside(&target.at, target.address, vpc))
            })
            .collect();
        let mut status = if vpc.status.is_active() {
            Status::Active
        } else {
            Status::failed(failure::MEMBER_FAILED, format!("the VPC {name} is not in force"))
        };
        if let Some(first) = errors.first() {
            status = invalid(first);
        }
        for diagnostic in errors {
            self.error(owner, diagnostic);
        }
        (name, status)
    }
}

fn outside(at: &Position, address: IpAddr, vpc: &Vpc) -> Diagnostic {
    let cidrs: Vec<String> = vpc.cidrs.iter().map(ToString::to_string).collect();
    Diagnostic::error(at, format!("{address} lies outside the VPC {}", vpc.name))
        .expected(format!("an address in {}", cidrs.join(" or ")))
}
