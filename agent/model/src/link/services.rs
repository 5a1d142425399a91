//! Services and their VIPs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::entities::invalid;
use super::rules::{Findings, Parent};
use super::{Linker, qualified};
use crate::diagnostic::{Diagnostic, Position, quote};
use crate::documents::{Owner, ServiceDocument};
use crate::ids::{IdKind, arn, derive};
use crate::model::{Listener, Service, Status, failure};
use crate::names::covers;
use crate::vips::{VipState, vips6};

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
        if let Some(pools) = self.settings.ipv6.filter(|pools| pools.on) {
            let vips6 = vips6(pools.vip, &ids);
            for (service, vip) in services.iter_mut().zip(vips6) {
                service.vip6 = Some(IpAddr::V6(vip));
            }
        }
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
        let mut found = Findings { errors: self.domain_errors(account, doc), warnings: Vec::new() };
        let parent = Parent { account, owner, account_id: &account_id, arn: &arn, id: &id };
        let own_names: BTreeSet<&str> =
            doc.domains.iter().map(|domain| domain.value.as_str()).chain([generated_name.as_str()]).collect();
        let mut listeners: Vec<Listener> =
            doc.listeners.iter().map(|listener| self.listener(&parent, listener, &own_names, &mut found)).collect();
        listeners.sort_by_key(|listener| listener.port);
        let mut status = Status::Active;
        if let Some(first) = found.errors.first() {
            status = invalid(first);
        }
        for diagnostic in found.errors {
            self.error(owner, diagnostic);
        }
        for diagnostic in found.warnings {
            self.warning(owner, diagnostic);
        }
        Service {
            name: qualified(Some(account), &doc.metadata.name),
            id,
            arn,
            account: account.to_owned(),
            status,
            vip: None,
            vip6: None,
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
}
