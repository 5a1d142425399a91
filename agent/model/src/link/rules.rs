//! Listeners and rules of a service: what they refer to, and which of them can never be taken.

use std::collections::BTreeSet;

use brattice_router as router;
use brattice_wire::index::VpcIndex;
use brattice_wire::snapshot::{self, HostMatch, HostMatchKind, ProtocolVersion, Redirect};

use super::Linker;
use super::index::suggestion;
use crate::at::At;
use crate::diagnostic::{Diagnostic, Located, quote};
use crate::documents::{ActionDocument, ActionKind, ListenerDocument, Owner, RuleDocument};
use crate::ids::{IdKind, Identifier, child_arn, derive};
use crate::model::{Action, Listener, Rule, TargetGroup};

/// What is found about a service: errors keep it out of force.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// The service a listener or rule lies in.
pub(super) struct Parent<'p> {
    pub(super) account: &'p str,
    pub(super) owner: &'p Owner,
    pub(super) account_id: &'p str,
    pub(super) arn: &'p str,
    pub(super) id: &'p str,
}

impl Linker<'_> {
    pub(super) fn listener(
        &self,
        parent: &Parent<'_>,
        doc: &ListenerDocument,
        own_names: &BTreeSet<&str>,
        found: &mut Findings,
    ) -> Listener {
        let id = derive(parent.account_id, IdKind::Listener, parent.id, &doc.name);
        let arn = child_arn(parent.arn, "listener", &id);
        let rules: Vec<Rule> = doc
            .rules
            .iter()
            .map(|rule| {
                let id = derive(parent.account_id, IdKind::Rule, &id, &rule.name);
                self.rule(parent, doc, rule, child_arn(&arn, "rule", &id), id, own_names, found)
            })
            .collect();
        in_order(doc, &rules, found);
        Listener {
            name: doc.name.value.clone(),
            port: doc.port,
            protocol: doc.protocol,
            forwarded_headers: doc.forwarded_headers,
            precedence: doc.precedence,
            rules,
            default_filters: doc.default_action.filters.clone(),
            default_action: self.action(parent, doc, &doc.default_action, false, found),
            origin: doc.at.origin(),
            id,
            arn,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is another part of what surrounds a rule")]
    fn rule(
        &self,
        parent: &Parent<'_>,
        listener: &ListenerDocument,
        doc: &RuleDocument,
        arn: String,
        id: String,
        own_names: &BTreeSet<&str>,
        found: &mut Findings,
    ) -> Rule {
        let mut matches = doc.matches.conditions.clone();
        if let (Some(host), Some(at)) = (&matches.host, &doc.matches.host_at)
            && !own_names.iter().any(|name| is_host(host, name))
        {
            let shown: Vec<String> = own_names.iter().map(|name| quote(name)).collect();
            let message = match host.kind {
                HostMatchKind::Exact => format!("no request for {} comes to this service", quote(&host.value)),
                HostMatchKind::Suffix => {
                    format!("no request for a name beneath {} comes to this service", quote(&host.value))
                }
            };
            let expected = format!("one of its own names: {}", shown.join(", "));
            found.errors.push(Diagnostic::error(at, message).expected(match host.kind {
                HostMatchKind::Exact => expected,
                HostMatchKind::Suffix => format!("the end of {expected}"),
            }));
        }
        if let (Some(port), Some(at)) = (matches.port, &doc.matches.port_at)
            && port != listener.port
        {
            let message = format!("no request can match: the listener's port is {}, not {port}", listener.port);
            found.errors.push(Diagnostic::error(at, message).help("move the rule to the listener of that port"));
        }
        matches.source_vpcs = doc.matches.source_vpcs.as_ref().map(|vpcs| self.source_vpcs(parent, vpcs, found));
        let grpc = matches.grpc.is_some();
        Rule {
            name: doc.name.value.clone(),
            arn,
            id,
            priority: doc.priority.value,
            matches,
            filters: doc.action.filters.clone(),
            action: self.action(parent, listener, &doc.action, grpc, found),
            origin: doc.at.origin(),
        }
    }

    /// Positions in the model of the VPCs that a rule names. Only the operator gets an error for one that does not exist.
    fn source_vpcs(&self, parent: &Parent<'_>, vpcs: &[Located<Identifier>], found: &mut Findings) -> Vec<VpcIndex> {
        let mut positions = Vec::with_capacity(vpcs.len());
        for vpc in vpcs {
            if let Some(at) = self.vpc(&vpc.value, Some(parent.account)) {
                positions.push(VpcIndex::new(at.position()));
                continue;
            }
            let message = format!("there is no VPC {}, so no caller comes from it", quote(&vpc.value.to_string()));
            let near = if self.hints(parent.owner) {
                // The account must not learn names of others' VPCs that are not granted to it.
                let granted: &[String] = self.accounts.get(parent.account).map_or(&[], |account| &account.vpcs);
                let own = self.vpcs.iter().filter(|vpc| {
                    vpc.account.as_deref() == Some(parent.account) || granted.binary_search(&vpc.name).is_ok()
                });
                suggestion(&vpc.value, Some(parent.account), own.map(|vpc| vpc.name.as_str()))
            } else {
                None
            };
            found.warnings.push(Diagnostic::warning(&vpc.at, message).nearest(near.as_deref()));
        }
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    fn action(
        &self,
        parent: &Parent<'_>,
        listener: &ListenerDocument,
        doc: &ActionDocument,
        grpc: bool,
        found: &mut Findings,
    ) -> Action {
        let (groups, stickiness) = match &doc.kind {
            ActionKind::FixedResponse(response) => return Action::FixedResponse(response.clone()),
            ActionKind::Redirect(redirect) => {
                if is_itself(redirect, listener.port) {
                    let message = "the redirect leads to where the request came to";
                    let diagnostic = Diagnostic::error(&doc.at, message);
                    found.errors.push(diagnostic.help("change the host, the path, or the port to another one"));
                }
                return Action::Redirect(redirect.clone());
            }
            ActionKind::Forward { groups, stickiness } => (groups, stickiness),
        };
        let mut forward: Vec<(String, u16)> = Vec::with_capacity(groups.len());
        for group in groups {
            match self.target_group(parent, &group.target_group) {
                Ok(at) => {
                    let target_group = at.of(&self.target_groups);
                    let name = &target_group.name;
                    if forward.iter().any(|(other, _)| other == name) {
                        let message = format!("the target group {name} is named twice, in different ways");
                        let diagnostic = Diagnostic::error(&group.target_group.at, message);
                        found.errors.push(diagnostic.help("add up their weights"));
                        continue;
                    }
                    if grpc && target_group.protocol_version == ProtocolVersion::Http1 {
                        let message =
                            format!("gRPC cannot be forwarded to {name}, whose targets are spoken to in HTTP/1.1");
                        let diagnostic = Diagnostic::error(&group.target_group.at, message);
                        found.errors.push(diagnostic.help("say `protocolVersion: HTTP2` in the target group's config"));
                    }
                    forward.push((name.clone(), group.weight));
                }
                Err(diagnostic) => found.errors.push(*diagnostic),
            }
        }
        Action::Forward { groups: forward, stickiness: stickiness.clone() }
    }

    /// A target group that a service names: of its own account only, as with Lattice.
    fn target_group(
        &self,
        parent: &Parent<'_>,
        group: &Located<Identifier>,
    ) -> Result<At<TargetGroup>, Box<Diagnostic>> {
        let text = quote(&group.value.to_string());
        let own = |account: &str| account == parent.account;
        if let Some(at) =
            self.target_group_index.resolve(&group.value, Some(parent.account), |id| self.account_name(id))
            && own(&at.of(&self.target_groups).account)
        {
            return Ok(at);
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

fn is_host(host: &HostMatch, name: &str) -> bool {
    match host.kind {
        HostMatchKind::Exact => host.value == name,
        HostMatchKind::Suffix => name.strip_suffix(host.value.as_str()).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// Whether a redirect leads to where every request came to.
fn is_itself(redirect: &Redirect, port: u16) -> bool {
    let target = match (redirect.port, redirect.scheme.as_deref()) {
        (Some(port), _) => port,
        (None, Some("http")) => 80,
        (None, Some(_)) => 443,
        (None, None) => port,
    };
    let same_scheme = redirect.scheme.as_deref().is_none_or(|scheme| scheme == "http");
    redirect.host.is_none() && redirect.path.is_none() && same_scheme && target == port
}

/// What is wrong with the rules of a listener taken together.
fn in_order(doc: &ListenerDocument, rules: &[Rule], found: &mut Findings) {
    let rules: Vec<snapshot::Rule> = rules.iter().map(routed).collect();
    if let Err(error) = router::Router::compile(doc.precedence, &rules) {
        found.errors.push(Diagnostic::error(&doc.at, error.to_string()));
        return;
    }
    for shadow in router::shadowed(doc.precedence, &rules) {
        let (Some(rule), Some(by)) = (doc.rules.get(shadow.rule), doc.rules.get(shadow.by)) else { continue };
        let message = format!(
            "the rule {} is never taken: {} at {} comes before it and matches all that it matches",
            quote(&rule.name),
            quote(&by.name),
            by.at.place()
        );
        let help = "give it a lower priority number, make the other one narrower, or remove it";
        found.warnings.push(Diagnostic::warning(&rule.at, message).help(match doc.precedence {
            snapshot::Precedence::Priority => help,
            snapshot::Precedence::MostSpecific => "make one of them more specific, or remove it",
        }));
    }
}

/// A rule as the router sees it: where it leads does not matter to it.
fn routed(rule: &Rule) -> snapshot::Rule {
    snapshot::Rule {
        name: rule.name.clone(),
        id: rule.id.clone(),
        priority: rule.priority,
        matches: rule.matches.clone(),
        filters: snapshot::Filters::default(),
        action: snapshot::Action::Forward(snapshot::Forward { groups: Vec::new(), stickiness: None }),
        origin: rule.origin.clone(),
    }
}
