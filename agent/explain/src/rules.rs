//! What a listener's rules do with a request, as it is shown.

use std::cell::Cell;

use brattice_decide::{Decision, Forward as Weighted, Refused, route_connection};
use brattice_wire::explain::{ActionView, GroupView, RouteView};
use brattice_wire::index::TargetGroupIndex;
use brattice_wire::snapshot::{Action, Filters, Forward, HeaderEdits, Listener, Precedence, Snapshot, Stickiness};

use crate::MAX_TARGETS;
use crate::networks::place;
use crate::request::Asked;
use crate::scope::Scope;
use crate::trace::{Noted, rule_view};

/// The route, for the rest of the explanation.
pub(crate) struct Routed {
    pub(crate) view: RouteView,
    /// Why no response can be given as the rule says.
    pub(crate) problem: Option<Problem>,
    /// Target groups without a target that can be reached, where others have some; rules that may be wrong.
    pub(crate) notes: Vec<String>,
}

/// Why no response can be given as the rule says.
pub(crate) enum Problem {
    /// No target.
    NoTarget(String),
    /// The path or location cannot be rewritten.
    Rewrite(String),
}

/// The counters by which the engine takes turns among target groups.
pub(crate) struct Turn<'s> {
    scope: &'s Scope,
    /// The choice depends on the requests before this one.
    undetermined: Cell<bool>,
}

impl<'s> Turn<'s> {
    pub(crate) fn new(scope: &'s Scope) -> Self {
        Self { scope, undetermined: Cell::new(false) }
    }

    /// One of the target groups with a weight; where there are several, one that has a target.
    pub(crate) fn share(&self, forward: &Weighted) -> Option<usize> {
        let mut weighted =
            (0..forward.groups.len()).filter(|place| forward.weights.get(*place).is_some_and(|own| *own > 0));
        let first = weighted.next()?;
        let Some(second) = weighted.next() else { return Some(first) };
        self.undetermined.set(true);
        let has_target = |place: &usize| {
            let group = forward.groups.get(*place).and_then(|index| self.scope.compiled.group(*index));
            group.is_some_and(|group| !group.targets.is_empty())
        };
        [first, second].into_iter().chain(weighted).find(has_target).or(Some(first))
    }

    /// Whether it was asked and could only guess.
    pub(crate) fn is_undetermined(&self) -> bool {
        self.undetermined.get()
    }
}

/// What was decided about a request, and noted meanwhile. None: no rule was looked for.
pub(crate) fn routed(
    snapshot: &Snapshot,
    listener: &Listener,
    asked: &Asked,
    decision: &Decision<'_>,
    noted: &mut Noted<'_, '_>,
    turn: &Turn<'_>,
) -> Option<Routed> {
    let rules = noted.rules.take()?;
    let rule = rules.position.and_then(|position| listener.rules.get(position));
    let (filters, action) = match rule {
        Some(rule) => (&rule.filters, &rule.action),
        None => (&listener.default_filters, &listener.default_action),
    };
    let (mut problem, mut notes) = (None, Vec::new());
    let action = match action {
        Action::FixedResponse(fixed) => ActionView::FixedResponse {
            status: fixed.status,
            content_type: fixed.content_type.clone(),
            body: fixed.body.clone(),
        },
        Action::Redirect(redirect) => {
            let location = match decision {
                Decision::Respond(response) => response.location.as_ref(),
                _ => None,
            };
            if let Decision::Refused(why) = decision {
                problem = Some(Problem::Rewrite(why.to_string()));
            }
            let location = location.map(|location| String::from_utf8_lossy(location.as_bytes()).into_owned());
            ActionView::Redirect { status: redirect.status, location: location.unwrap_or_default() }
        }
        Action::Forward(forward) => {
            let chosen = noted.group.filter(|_| !turn.is_undetermined());
            let mut path = rules.path.unwrap_or_else(|why| {
                problem = Some(Problem::Rewrite(why.to_string()));
                asked.path.clone().unwrap_or_default()
            });
            if !asked.query.is_empty() {
                path = format!("{path}?{}", asked.query);
            }
            let host = filters.rewrite.host.as_ref().unwrap_or(&asked.host).clone();
            let target =
                Target { path, host, chosen, refused: matches!(decision, Decision::Refused(Refused::NoTarget)) };
            forwarded(snapshot, forward, target, &mut problem, &mut notes)
        }
    };
    let mut view = view(listener, action, filters);
    (view.passed, view.passed_more) = (rules.passed, rules.passed_more);
    notes.extend(rules.doubts);
    view.rule = rule.map(rule_view);
    Some(Routed { view, problem, notes })
}

/// What happens to a connection that is handled as TCP: it gets a target group of the default action, whatever it sends.
pub(crate) fn relayed(snapshot: &Snapshot, scope: &Scope, listener: &Listener, asked: &Asked) -> Option<Routed> {
    let own = scope.service()?.listener(listener.port)?;
    let turn = Turn::new(scope);
    let found = route_connection(&scope.compiled, own, |forward| turn.share(forward));
    let chosen = found.map(|(index, _)| index).filter(|_| !turn.is_undetermined());
    let (mut problem, mut notes) = (None, Vec::new());
    let action = match &listener.default_action {
        Action::Forward(forward) => {
            let (path, host) = (asked.path.clone().unwrap_or_default(), asked.host.clone());
            let target = Target { path, host, chosen, refused: found.is_none() };
            forwarded(snapshot, forward, target, &mut problem, &mut notes)
        }
        other => {
            let text = "the default action is no forward, and what is relayed can only be forwarded".to_owned();
            problem = Some(Problem::NoTarget(text));
            match other {
                Action::Redirect(redirect) => ActionView::Redirect { status: redirect.status, location: String::new() },
                Action::FixedResponse(fixed) => ActionView::FixedResponse {
                    status: fixed.status,
                    content_type: fixed.content_type.clone(),
                    body: fixed.body.clone(),
                },
                Action::Forward(_) => return None,
            }
        }
    };
    Some(Routed { view: view(listener, action, &Filters::default()), problem, notes })
}

/// What a target is sent, and which target group gets it.
struct Target {
    path: String,
    host: String,
    /// Index of the target group; none: that depends on the requests before.
    chosen: Option<TargetGroupIndex>,
    /// No target can get it.
    refused: bool,
}

fn forwarded(
    snapshot: &Snapshot,
    forward: &Forward,
    target: Target,
    problem: &mut Option<Problem>,
    notes: &mut Vec<String>,
) -> ActionView {
    let groups = groups(snapshot, forward);
    let chosen = target.chosen.and_then(|chosen| {
        let place = forward.groups.iter().position(|share| share.target_group == chosen)?;
        groups.get(place)
    });
    if target.refused {
        *problem = Some(Problem::NoTarget(no_target(&groups, chosen)));
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
        sticky: forward.stickiness.as_ref().map(sticky),
        path: target.path,
        host: target.host,
        groups,
    }
}

fn view(listener: &Listener, action: ActionView, filters: &Filters) -> RouteView {
    RouteView {
        listener: listener.name.clone(),
        listener_id: listener.id.clone(),
        port: listener.port,
        listener_origin: place(&listener.origin),
        precedence: precedence(listener.precedence).to_owned(),
        passed: Vec::new(),
        passed_more: 0,
        rule: None,
        action,
        request_headers: edits(&filters.request_headers),
        response_headers: edits(&filters.response_headers),
    }
}

const fn precedence(precedence: Precedence) -> &'static str {
    match precedence {
        Precedence::Priority => "priority",
        Precedence::MostSpecific => "most-specific",
    }
}

fn groups(snapshot: &Snapshot, forward: &Forward) -> Vec<GroupView> {
    let total: u32 = forward.groups.iter().map(|share| u32::from(share.weight)).sum();
    let group = |share: &brattice_wire::snapshot::WeightedTargetGroup| {
        let group = snapshot.target_groups.get(share.target_group.position())?;
        let targets = group.targets.iter().take(MAX_TARGETS);
        Some(GroupView {
            name: group.name.clone(),
            weight: share.weight,
            share: if total == 0 { 0.0 } else { f64::from(share.weight) * 100.0 / f64::from(total) },
            reachable_count: u32::try_from(group.targets.len()).expect("documents are bounded far below"),
            reachable: targets.map(|target| format!("{}:{}", target.address, target.port)).collect(),
            configured: group.configured,
            origin: place(&group.origin),
        })
    };
    forward.groups.iter().filter_map(group).collect()
}

/// Why no target gets the request.
fn no_target(groups: &[GroupView], chosen: Option<&GroupView>) -> String {
    let mut weighted = groups.iter().filter(|group| group.weight > 0).peekable();
    if weighted.peek().is_none() {
        return "no target group has a weight above 0".to_owned();
    }
    if let Some(group) = chosen.filter(|_| weighted.clone().any(|group| !group.reachable.is_empty())) {
        return format!("its target group {} has no target that can be reached ({})", group.name, group.origin);
    }
    let lacking: Vec<String> =
        weighted.map(|group| format!("{} (0 of {}, {})", group.name, group.configured, group.origin)).collect();
    format!(
        "no target of {} can be reached: none is the address of an attached workload, or connects to it fail (`brattice status`)",
        lacking.join(" and ")
    )
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
