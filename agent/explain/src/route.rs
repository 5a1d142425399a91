//! Which rule a request meets, why not those before it, and what is done with it.

use brattice_router::rewrite::{Redirector, Rewriter, Target};
use brattice_router::{RequestHead as _, RuleVerdict, Subject};
use brattice_wire::explain::{ActionView, GroupView, MismatchView, PassedView, RouteView, RuleView};
use brattice_wire::snapshot::{
    Action, Filters, Forward, HeaderEdits, Listener, PathMatch, Precedence, Rule, Snapshot, Stickiness,
};

use crate::networks::place;
use crate::request::Asked;
use crate::{MAX_PASSED, MAX_TARGETS};

/// What was found, for the rest of the explanation.
pub(crate) struct Routed {
    pub(crate) view: RouteView,
    /// Why nothing can be answered as the rule says.
    pub(crate) problem: Option<Problem>,
    /// Target groups without a target that can be reached, where others have some.
    pub(crate) notes: Vec<String>,
    /// Header fields that rules up to the one taken ask about.
    pub(crate) asks: Vec<String>,
}

/// Why nothing can be answered as the rule says.
pub(crate) enum Problem {
    /// No target.
    NoTarget(String),
    /// The path or location cannot be rewritten.
    Rewrite(String),
}

/// The whole route of a request whose path is acceptable.
pub(crate) fn route(snapshot: &Snapshot, listener: &Listener, asked: &Asked) -> Routed {
    let verdicts = brattice_router::explain(listener.precedence, &listener.rules, asked);
    let taken = verdicts.last().filter(|verdict| verdict.failed.is_none()).map(|verdict| &listener.rules[verdict.rule]);
    let failed: Vec<&RuleVerdict> = verdicts.iter().filter(|verdict| verdict.failed.is_some()).collect();
    let passed_more = failed.len().saturating_sub(MAX_PASSED);
    let passed = failed[passed_more..].iter().filter_map(|verdict| {
        let failed = verdict.failed.as_ref()?;
        Some(PassedView {
            rule: rule(&listener.rules[verdict.rule]),
            because: because(snapshot, &failed.subject, failed),
        })
    });
    let (filters, action, matched) = match taken {
        Some(rule) => (&rule.filters, &rule.action, rule.matches.path.as_ref()),
        None => (&listener.default_filters, &listener.default_action, None),
    };
    let mut routed = does(snapshot, asked, filters, action, matched);
    let asks = verdicts.iter().flat_map(|verdict| {
        let headers = listener.rules[verdict.rule].matches.headers.iter();
        headers.map(|header| header.name.clone())
    });
    let asks: Vec<String> = asks.collect();
    routed.asks = asks;
    routed.view.listener = listener.name.clone();
    routed.view.listener_id = listener.id.clone();
    routed.view.port = listener.port;
    routed.view.listener_origin = place(&listener.origin);
    routed.view.precedence = precedence(listener.precedence).to_owned();
    routed.view.passed = passed.collect();
    routed.view.passed_more = passed_more;
    routed.view.rule = taken.map(rule);
    routed
}

/// What a relayed connection meets: the default action's target groups, whatever it sends.
pub(crate) fn relayed(snapshot: &Snapshot, listener: &Listener, asked: &Asked) -> Routed {
    let none = Filters::default();
    let mut routed = does(snapshot, asked, &none, &listener.default_action, None);
    if !matches!(listener.default_action, Action::Forward(_)) {
        let text = "the default action is no forward, and what is relayed can only be forwarded".to_owned();
        routed.problem = Some(Problem::NoTarget(text));
    }
    routed.view.listener = listener.name.clone();
    routed.view.listener_id = listener.id.clone();
    routed.view.port = listener.port;
    routed.view.listener_origin = place(&listener.origin);
    routed.view.precedence = precedence(listener.precedence).to_owned();
    routed
}

const fn precedence(precedence: Precedence) -> &'static str {
    match precedence {
        Precedence::Priority => "priority",
        Precedence::MostSpecific => "most-specific",
    }
}

fn rule(rule: &Rule) -> RuleView {
    RuleView { name: rule.name.clone(), id: rule.id.clone(), priority: rule.priority, origin: place(&rule.origin) }
}

fn because(snapshot: &Snapshot, subject: &Subject, failed: &brattice_router::Failed) -> MismatchView {
    let (expected, actual) = match subject {
        // The router knows VPCs by number.
        Subject::SourceVpc => (vpcs(snapshot, &failed.wanted), vpcs(snapshot, &failed.found)),
        _ => (failed.wanted.clone(), failed.found.clone()),
    };
    MismatchView { what: subject.to_string(), expected, actual }
}

/// Numbers of VPCs, as the router lists them, by name.
fn vpcs(snapshot: &Snapshot, numbers: &str) -> String {
    let name = |number: &str| {
        let vpc = number.parse::<usize>().ok().and_then(|index| snapshot.vpcs.get(index));
        vpc.map_or_else(|| number.to_owned(), |vpc| format!("`{}`", vpc.name))
    };
    numbers.split(" or ").map(name).collect::<Vec<_>>().join(" or ")
}

fn does(snapshot: &Snapshot, asked: &Asked, filters: &Filters, action: &Action, matched: Option<&PathMatch>) -> Routed {
    let mut problem = None;
    let mut notes = Vec::new();
    let mut failed = |text: String| problem = Some(Problem::Rewrite(text));
    let view = match action {
        Action::FixedResponse(fixed) => ActionView::FixedResponse {
            status: fixed.status,
            content_type: fixed.content_type.clone(),
            body: fixed.body.clone(),
        },
        Action::Redirect(redirect) => {
            let from =
                Target { scheme: "http", host: &asked.host, port: asked.port, path: asked.path(), query: &asked.query };
            let location = Redirector::compile(redirect, matched)
                .map_err(|e| e.to_string())
                .and_then(|redirector| redirector.location(&from).map_err(|e| e.to_string()));
            ActionView::Redirect {
                status: redirect.status,
                location: location.unwrap_or_else(|why| {
                    failed(why);
                    String::new()
                }),
            }
        }
        Action::Forward(forward) => {
            let path = match &filters.rewrite.path {
                None => Ok(asked.path().to_owned()),
                Some(rewrite) => Rewriter::compile(rewrite, matched).map_err(|e| e.to_string()).and_then(|rewriter| {
                    rewriter.apply(asked.path()).map(std::borrow::Cow::into_owned).map_err(|e| e.to_string())
                }),
            };
            let mut path = path.unwrap_or_else(|why| {
                failed(why);
                asked.path().to_owned()
            });
            if !asked.query.is_empty() {
                path = format!("{path}?{}", asked.query);
            }
            let groups = groups(snapshot, forward);
            let chosen = chosen(snapshot, forward, asked).and_then(|index| groups.get(index));
            if let Some(text) = no_target(&groups) {
                problem = Some(Problem::NoTarget(text));
            } else if let Some(group) = chosen.filter(|group| group.reachable.is_empty()) {
                let text =
                    format!("its target group {} has no target that can be reached ({})", group.name, group.origin);
                problem = Some(Problem::NoTarget(text));
            } else {
                let without = groups.iter().filter(|group| group.weight > 0 && group.reachable.is_empty());
                notes.extend(without.map(|group| {
                    format!(
                        "{} has no target that can be reached ({}): its share of {:.0} % of the requests is answered with 503",
                        group.name, group.origin, group.share
                    )
                }));
            }
            ActionView::Forward {
                chosen: chosen.map(|group| group.name.clone()),
                groups,
                sticky: forward.stickiness.as_ref().map(sticky),
                path,
                host: filters.rewrite.host.clone().unwrap_or_else(|| asked.host.clone()),
            }
        }
    };
    let view = RouteView {
        listener: String::new(),
        listener_id: String::new(),
        port: 0,
        listener_origin: String::new(),
        precedence: String::new(),
        passed: Vec::new(),
        passed_more: 0,
        rule: None,
        action: view,
        request_headers: edits(&filters.request_headers),
        response_headers: edits(&filters.response_headers),
    };
    Routed { view, problem, notes, asks: Vec::new() }
}

fn groups(snapshot: &Snapshot, forward: &Forward) -> Vec<GroupView> {
    let total: u32 = forward.groups.iter().map(|share| u32::from(share.weight)).sum();
    let group = |share: &brattice_wire::snapshot::WeightedTargetGroup| {
        let group = snapshot.target_groups.get(usize::try_from(share.target_group).ok()?)?;
        let targets = group.targets.iter().take(MAX_TARGETS);
        Some(GroupView {
            name: group.name.clone(),
            weight: share.weight,
            share: if total == 0 { 0.0 } else { f64::from(share.weight) * 100.0 / f64::from(total) },
            reachable_count: u32::try_from(group.targets.len()).unwrap_or(u32::MAX),
            reachable: targets.map(|target| format!("{}:{}", target.address, target.port)).collect(),
            configured: group.configured,
            origin: place(&group.origin),
        })
    };
    forward.groups.iter().filter_map(group).collect()
}

/// Why no target gets the request, whichever group is chosen.
fn no_target(groups: &[GroupView]) -> Option<String> {
    if groups.iter().all(|group| group.weight == 0) {
        return Some("no target group has a weight above 0".to_owned());
    }
    let lacking: Vec<String> = groups
        .iter()
        .filter(|group| group.weight > 0)
        .map(|group| format!("{} (0 of {}, {})", group.name, group.configured, group.origin))
        .collect();
    let any = groups.iter().any(|group| group.weight > 0 && !group.reachable.is_empty());
    (!any).then(|| {
        format!("no target of {} can be reached: none is the address of an attached workload", lacking.join(" and "))
    })
}

/// The place of the target group that the request gets, where that does not depend on the requests before it. The keys are
/// those of the engine.
fn chosen(snapshot: &Snapshot, forward: &Forward, asked: &Asked) -> Option<usize> {
    let mut weighted = forward.groups.iter().enumerate().filter(|(_, share)| share.weight > 0);
    if let (Some((only, _)), None) = (weighted.next(), weighted.next()) {
        return Some(only);
    }
    let key: Vec<u8> = match forward.stickiness.as_ref()? {
        Stickiness::Cookie { .. } => return None,
        Stickiness::Header(name) => {
            let mut values: Vec<Vec<u8>> = Vec::new();
            asked.header(name, &mut |value| values.push(value.to_vec()));
            if values.is_empty() {
                return None;
            }
            values.join(&b", "[..])
        }
        Stickiness::Source => {
            let (vpc, address) = asked.source.as_ref()?;
            brattice_router::SourceKey::new(vpc, *address).bytes().to_vec()
        }
    };
    let id = |index: u32| snapshot.target_groups.get(usize::try_from(index).ok()?).map(|group| group.id.as_str());
    let shares: Option<Vec<(&str, u16)>> =
        forward.groups.iter().map(|share| Some((id(share.target_group)?, share.weight))).collect();
    brattice_router::sticky(&shares?, &key)
}

fn sticky(stickiness: &Stickiness) -> String {
    match stickiness {
        Stickiness::Cookie { name, max_age_seconds: Some(seconds) } => format!("by the cookie {name}, for {seconds} s"),
        Stickiness::Cookie { name, max_age_seconds: None } => format!("by the cookie {name}, for the client's session"),
        Stickiness::Header(name) => format!("by the header {name}; without it, by weight"),
        Stickiness::Source => "by the caller's address".to_owned(),
    }
}

/// In the order in which they are made.
fn edits(edits: &HeaderEdits) -> Vec<String> {
    let remove = edits.remove.iter().map(|name| format!("remove {name}"));
    let set = edits.set.iter().map(|(name, value)| format!("set {name}: {value}"));
    let add = edits.add.iter().map(|(name, value)| format!("add {name}: {value}"));
    remove.chain(set).chain(add).collect()
}
