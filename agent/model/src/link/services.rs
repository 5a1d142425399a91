//! Services, their listeners and rules, their VIPs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::entities::invalid;
use super::index::suggestion;
use super::{Linker, qualified};
use crate::diagnostic::{Diagnostic, Located, Position, quote};
use crate::documents::{ActionDocument, ListenerDocument, Owner, ServiceDocument};
use crate::ids::{IdKind, Identifier, arn, child_arn, derive};
use crate::model::{Action, Listener, Rule, Service, Status, failure};
use crate::names::covers;
use crate::vips::VipState;

impl Linker<'_> {
    /// All services in order of (account, name), and the VIPs they leave.
    pub(super) fn services(&mut self) -> (Vec<Service>, VipState) {
        let mut services: Vec<Service> = Vec::new();
        let mut places: Vec<(&Owner, &Position)> = Vec::new();
        for (account, owner, documents) in self.owners() {
            let first = services.len();
            let mut docs: Vec<&ServiceDocument> = documents.services.iter().collect();
            docs.sort_by_key(|doc| &doc.metadata.name.value);
            for doc in docs {
                let service = self.service(account, owner, doc);
                services.push(service);
                places.push((owner, &doc.metadata.name.at));
            }
            debug_assert!(services[first..].is_sorted_by_key(|service| &service.name));
        }
        let mut vips = self.settings.vips.clone();
        let ids: Vec<&str> = services.iter().map(|service| service.id.as_str()).collect();
        vips.retain(self.settings.vip, &ids.iter().copied().collect::<BTreeSet<_>>(), self.settings.now);
        let assigned = vips.assign(self.settings.vip, &ids);
        for ((service, vip), (owner, at)) in services.iter_mut().zip(assigned).zip(places) {
            service.vip = vip.map(IpAddr::V4);
            if vip.is_none() {
                let (used, resting, total) = vips.fill(self.settings.vip);
                let message = format!(
                    "no VIP is left for the service: of {total} in {}, {used} are in use and {resting} rest",
                    self.settings.vip
                );
                let diagnostic = Diagnostic::error(at, message.clone())
                    .help("remove services, wait for freed VIPs to have rested, or give the agent a larger VIP range");
                self.error(owner, diagnostic);
                service.status = Status::failed(failure::VIPS_EXHAUSTED, message);
            }
        }
        (services, vips)
    }

    fn service(&mut self, account: &str, owner: &Owner, doc: &ServiceDocument) -> Service {
        let account_id = self.account_id(Some(account)).to_owned();
        let id = derive(&account_id, IdKind::Service, "", &doc.metadata.name);
        let arn = arn(self.settings.region, &account_id, IdKind::Service, &id);
        let generated_name = format!("{}-{id}.{}", doc.metadata.name.value, self.settings.dns_suffix);
        let mut errors = self.domain_errors(account, doc);
        let parent = Parent { account, owner, account_id: &account_id, arn: &arn, id: &id };
        let own_names: BTreeSet<&str> =
            doc.domains.iter().map(|domain| domain.value.as_str()).chain([generated_name.as_str()]).collect();
        let mut listeners: Vec<Listener> =
            doc.listeners.iter().map(|listener| self.listener(&parent, listener, &own_names, &mut errors)).collect();
        listeners.sort_by_key(|listener| listener.port);
        let mut status = Status::Active;
        if let Some(first) = errors.first() {
            status = invalid(first);
        }
        for diagnostic in errors {
            self.error(owner, diagnostic);
        }
        Service {
            name: qualified(Some(account), &doc.metadata.name),
            id,
            arn,
            account: account.to_owned(),
            status,
            vip: None,
            generated_name,
            domains: doc.domains.iter().map(|domain| domain.value.clone()).collect(),
            listeners,
            idle_timeout_seconds: doc.idle_timeout_seconds,
            auth_type: doc.auth_type,
            shared_with: self.shared_with(owner, &doc.shared_with),
            labels: doc.metadata.labels.clone(),
            tags: doc.tags.clone(),
            origin: doc.metadata.name.at.origin(),
        }
    }

    fn domain_errors(&self, account: &str, doc: &ServiceDocument) -> Vec<Diagnostic> {
        let granted: &[String] = self.accounts.get(account).map_or(&[], |account| &account.domains);
        let mut errors = Vec::new();
        for domain in &doc.domains {
            let name = quote(&domain.value);
            if covers(self.settings.dns_suffix, &domain.value) {
                let message = format!("{name} lies among the generated names under {}", self.settings.dns_suffix);
                errors.push(Diagnostic::error(&domain.at, message).help("choose another domain name"));
            } else if !granted.iter().any(|granted| covers(granted, &domain.value)) {
                let diagnostic =
                    Diagnostic::error(&domain.at, format!("the account {account} may not claim the domain {name}"));
                errors.push(if granted.is_empty() {
                    diagnostic.help("the operator lists the account's domains in `domains` of the Account")
                } else {
                    let shown: Vec<String> = granted.iter().take(10).map(|name| quote(name)).collect();
                    diagnostic.expected(format!("a name in {}", shown.join(", ")))
                });
            }
        }
        errors
    }

    fn listener(
        &self,
        parent: &Parent<'_>,
        doc: &ListenerDocument,
        own_names: &BTreeSet<&str>,
        errors: &mut Vec<Diagnostic>,
    ) -> Listener {
        let id = derive(parent.account_id, IdKind::Listener, parent.id, &doc.name);
        let arn = child_arn(parent.arn, "listener", &id);
        let rules = doc
            .rules
            .iter()
            .map(|rule| {
                if let Some(host) = &rule.matches.host
                    && !own_names.contains(host.value.as_str())
                {
                    let shown: Vec<String> = own_names.iter().map(|name| quote(name)).collect();
                    let message = format!("no request for {} comes to this service", quote(&host.value));
                    errors.push(
                        Diagnostic::error(&host.at, message)
                            .expected(format!("one of its own names: {}", shown.join(", "))),
                    );
                }
                let id = derive(parent.account_id, IdKind::Rule, &id, &rule.name);
                Rule {
                    name: rule.name.value.clone(),
                    arn: child_arn(&arn, "rule", &id),
                    id,
                    priority: rule.priority.value,
                    method: rule.matches.method.clone(),
                    path: rule.matches.path.clone(),
                    host: rule.matches.host.as_ref().map(|host| host.value.clone()),
                    action: self.action(parent, &rule.action, errors),
                    origin: rule.at.origin(),
                }
            })
            .collect();
        Listener {
            name: doc.name.value.clone(),
            port: doc.port,
            forwarded_headers: doc.forwarded_headers,
            rules,
            default_action: self.action(parent, &doc.default_action, errors),
            origin: doc.at.origin(),
            id,
            arn,
        }
    }

    fn action(&self, parent: &Parent<'_>, doc: &ActionDocument, errors: &mut Vec<Diagnostic>) -> Action {
        let groups = match doc {
            ActionDocument::FixedResponse(status) => return Action::FixedResponse(*status),
            ActionDocument::Forward(groups) => groups,
        };
        let mut forward: Vec<(String, u16)> = Vec::with_capacity(groups.len());
        for group in groups {
            match self.target_group(parent, &group.target_group) {
                Ok(name) if forward.iter().any(|(other, _)| *other == name) => {
                    let message = format!("the target group {name} is named twice, in different ways");
                    errors.push(Diagnostic::error(&group.target_group.at, message).help("add up their weights"));
                }
                Ok(name) => forward.push((name, group.weight)),
                Err(diagnostic) => errors.push(*diagnostic),
            }
        }
        Action::Forward(forward)
    }

    /// A target group that a service names: of its own account only, as with Lattice.
    fn target_group(&self, parent: &Parent<'_>, group: &Located<Identifier>) -> Result<String, Box<Diagnostic>> {
        let text = quote(&group.value.to_string());
        let own = |account: &str| account == parent.account;
        if let Some(index) =
            self.target_group_index.resolve(&group.value, Some(parent.account), |id| self.account_name(id))
        {
            let found = &self.target_groups[index];
            if own(&found.account) {
                return Ok(found.name.clone());
            }
        }
        let diagnostic = match &group.value {
            Identifier::Qualified(account, _) if !own(self.account_name(account).unwrap_or(account)) => {
                let message = format!("the target group {text} is another account's");
                return Err(Box::new(
                    Diagnostic::error(&group.at, message)
                        .expected(format!("a target group of the account {}", parent.account))
                        .help("make one with the same targets in this account"),
                ));
            }
            _ => Diagnostic::error(&group.at, format!("the account {} has no target group {text}", parent.account)),
        };
        let near = if self.hints(parent.owner) {
            let visible =
                self.target_groups.iter().filter(|group| own(&group.account)).map(|group| group.name.as_str());
            suggestion(&group.value, Some(parent.account), visible)
        } else {
            None
        };
        Err(Box::new(diagnostic.nearest(near.as_deref())))
    }
}

/// The service a listener or rule lies in.
struct Parent<'p> {
    account: &'p str,
    owner: &'p Owner,
    account_id: &'p str,
    arn: &'p str,
    id: &'p str,
}
