//! The quotas of one account: documents over a quota are an error of that account, and other accounts are not affected.

use super::{Documents, Owner};
use crate::diagnostic::{Diagnostic, Position, Sink};
use crate::limits::{
    MAX_LISTENERS_PER_ACCOUNT, MAX_NETWORKS_PER_ACCOUNT, MAX_RULES_PER_ACCOUNT, MAX_SERVICES_PER_ACCOUNT,
    MAX_STATEMENTS_PER_ACCOUNT, MAX_TARGET_GROUPS_PER_ACCOUNT, MAX_TARGETS_PER_ACCOUNT,
};

/// Reports each quota that an account goes over, where it does. The operator has none: it hands them out.
pub(super) fn check(owner: &Owner, documents: &Documents, sink: &mut Sink) {
    let Some(account) = owner.account() else { return };
    let mut quota = |what: &str, most: usize, items: &mut dyn Iterator<Item = (&Position, usize)>| {
        let mut used = 0;
        for (at, count) in items {
            used += count;
            if used > most {
                let message = format!("the account {account} has more than {most} {what}");
                let help = "remove some, or divide the documents among several accounts";
                sink.push(Diagnostic::error(at, message).help(help));
                return;
            }
        }
    };
    let services = || documents.services.iter().map(|doc| (&doc.metadata.name.at, 1));
    let networks = || documents.networks.iter().map(|doc| (&doc.metadata.name.at, 1));
    let groups = || documents.target_groups.iter().map(|doc| (&doc.metadata.name.at, 1));
    quota("services", MAX_SERVICES_PER_ACCOUNT, &mut services());
    quota("service networks", MAX_NETWORKS_PER_ACCOUNT, &mut networks());
    quota("target groups", MAX_TARGET_GROUPS_PER_ACCOUNT, &mut groups());
    let listeners = || documents.services.iter().flat_map(|doc| &doc.listeners);
    quota("listeners", MAX_LISTENERS_PER_ACCOUNT, &mut listeners().map(|listener| (&listener.at, 1)));
    let rules = || listeners().flat_map(|listener| &listener.rules);
    quota("rules", MAX_RULES_PER_ACCOUNT, &mut rules().map(|rule| (&rule.at, 1)));
    let targets = || documents.target_groups.iter().map(|doc| (&doc.metadata.name.at, doc.targets.len()));
    quota("targets", MAX_TARGETS_PER_ACCOUNT, &mut targets());
    let statements = || documents.policies.iter().map(|doc| (&doc.at, doc.statements));
    quota("policy statements", MAX_STATEMENTS_PER_ACCOUNT, &mut statements());
}
