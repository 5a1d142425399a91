//! Explanations as text for people.

use std::fmt::Write as _;

use brattice_wire::explain::{
    ActionView, CallerView, DecisionView, Explanation, LevelView, MismatchView, NetworkView, Outcome, RequestView,
    RouteView, RuleView,
};

use crate::time::rfc3339;

/// Everything that led to the outcome.
pub fn render(explanation: &Explanation) -> String {
    let mut out = verdict(explanation);
    if let Some(then) = &explanation.then {
        section(&mut out, "then");
        line(&mut out, &format!("{}, request {}, revision {}", then.time, id(&then.request_id), then.revision));
        line(&mut out, &then.summary);
        if then.differences.is_empty() {
            line(&mut out, "now the same would be decided");
        }
        for difference in &then.differences {
            line(&mut out, &format!("but {difference}"));
        }
    }
    section(&mut out, "request");
    request(&mut out, &explanation.request);
    section(&mut out, "caller");
    caller(&mut out, &explanation.caller);
    section(&mut out, "service");
    service(&mut out, explanation);
    if !explanation.networks.is_empty() {
        section(&mut out, "networks");
        for network in &explanation.networks {
            one_network(&mut out, network);
        }
    }
    if let Some(decision) = &explanation.decision {
        section(&mut out, "policies");
        policies(&mut out, decision);
    }
    if let Some(found) = &explanation.route {
        section(&mut out, "route");
        route(&mut out, found);
    }
    rest(&mut out, explanation);
    out
}

/// Only what concerns rules.
pub fn render_route(explanation: &Explanation) -> String {
    // Policies were not asked: nothing is allowed by that.
    let mut out = match explanation.outcome {
        Outcome::Allowed => format!("ROUTED: {}\n", one_line(&explanation.summary)),
        _ => verdict(explanation),
    };
    section(&mut out, "request");
    request(&mut out, &explanation.request);
    section(&mut out, "service");
    service(&mut out, explanation);
    if let Some(found) = &explanation.route {
        section(&mut out, "route");
        route(&mut out, found);
    }
    rest(&mut out, explanation);
    out
}

fn verdict(explanation: &Explanation) -> String {
    format!("{}: {}\n", explanation.outcome.word(), one_line(&explanation.summary))
}

fn rest(out: &mut String, explanation: &Explanation) {
    for (name, list) in [("remedy", &explanation.remedy), ("notes", &explanation.notes)] {
        if list.is_empty() {
            continue;
        }
        section(out, name);
        for item in list {
            line(out, item);
        }
    }
}

fn section(out: &mut String, name: &str) {
    let _ = writeln!(out, "{name}");
}

/// A line of a section: whatever is in it, it stays one.
fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "  {}", one_line(text));
}

fn inner(out: &mut String, text: &str) {
    let _ = writeln!(out, "    {}", one_line(text));
}

/// Control characters as escapes: a line that came from elsewhere must not become two.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn id(request_id: &str) -> &str {
    if request_id.is_empty() { "-" } else { request_id }
}

fn request(out: &mut String, request: &RequestView) {
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    if request.method.is_empty() && request.path.is_empty() {
        line(out, &format!("a connection to port {} that was not read", request.port));
        return;
    }
    line(out, &format!("{} http://{}:{}{}{query}", request.method, request.host, request.port, request.path));
    match (&request.normal_path, &request.path_refused) {
        (Some(normal), _) if *normal != request.path => line(out, &format!("path {} → {normal}", request.path)),
        (None, Some(why)) => line(out, &format!("path {} refused (400): {why}", request.path)),
        _ => {}
    }
    if !request.headers.is_empty() {
        line(out, &format!("header fields {}", request.headers.join(", ")));
    }
}

fn caller(out: &mut String, caller: &CallerView) {
    let name = caller.workload.as_deref().map_or_else(
        || format!("some workload of VPC {}", caller.vpc),
        |name| format!("workload {name} of VPC {}", caller.vpc),
    );
    let address = caller.address.as_ref().map_or_else(String::new, |address| format!(", address {address}"));
    let alias = caller.alias.as_ref().map_or_else(String::new, |alias| format!(", alias {alias}"));
    let origin = caller.origin.as_ref().map_or_else(String::new, |origin| format!(" ({origin})"));
    line(out, &format!("{name}{origin}{address}{alias}"));
    let mut known: Vec<String> = Vec::new();
    known.extend(caller.interface.as_ref().map(|interface| format!("interface {interface}")));
    known.extend(caller.namespace.as_ref().map(|place| match &caller.interface {
        None if place.starts_with("cgroup ") => format!("processes of the host, {place}"),
        _ => format!("namespace {place}"),
    }));
    known.extend(caller.state.clone());
    known.extend(
        caller
            .since
            .map(|since| format!("since {}", rfc3339(i64::try_from(since).expect("clocks count seconds in an i64")))),
    );
    if !known.is_empty() {
        line(out, &known.join(", "));
    }
    if let Some(attested) = &caller.attested {
        line(out, &format!("attested {attested} by {}", caller.evidence.join(" and ")));
    }
    match (&caller.role, &caller.session) {
        (Some(role), Some(session)) => line(out, &format!("role {role}, session {session}: {}", caller.role_reason)),
        (Some(role), None) => line(out, &format!("role {role}: {}", caller.role_reason)),
        (None, _) if !caller.role_reason.is_empty() => line(out, &caller.role_reason),
        _ => {}
    }
}

fn service(out: &mut String, explanation: &Explanation) {
    let service = &explanation.service;
    let vip = service.vip.as_ref().map_or_else(String::new, |vip| format!(", VIP {vip}"));
    line(
        out,
        &format!("{} ({}), {}{vip}, authType {}", service.name, service.origin, service.status, service.auth_type),
    );
}

fn one_network(out: &mut String, network: &NetworkView) {
    let common = if network.common { "" } else { ", not in common" };
    line(
        out,
        &format!(
            "{}, authType {}: VPC {}, service {}{common}",
            network.name, network.auth_type, network.vpc, network.service
        ),
    );
    if !network.details.is_empty() {
        inner(out, &network.details.join(", "));
    }
    for failure in &network.failures {
        inner(out, failure);
    }
}

fn policies(out: &mut String, decision: &DecisionView) {
    for level in &decision.levels {
        one_level(out, level);
    }
    match (&decision.id, &decision.denied_at) {
        (Some(id), Some(at)) => line(out, &format!("denied at the level {at} by {id}")),
        _ => {
            let through = decision.network.as_ref().map_or_else(String::new, |name| format!(" through {name}"));
            line(out, &format!("allowed{through}"));
        }
    }
    if let Some(audited) = &decision.audited {
        line(out, &format!("in audit mode, not enforced: {audited}"));
    }
    if let Some(message) = &decision.message {
        line(out, &format!("message to the caller: {message}"));
    }
}

fn one_level(out: &mut String, level: &LevelView) {
    let state = match level.state.as_str() {
        "open" => "no policy, open",
        "no-policy" => "AWS_IAM without a policy",
        "audit" => "policy in audit mode",
        _ => "policy",
    };
    line(out, &format!("{}: {} ({state}): {}", level.level, level.name, level.verdict));
    for statement in &level.denying {
        inner(out, &format!("denied by {statement}"));
    }
    for statement in &level.allowing {
        inner(out, &format!("allowed by {statement}"));
    }
    for near in &level.near {
        let failed: Vec<String> = near.failed.iter().map(mismatch).collect();
        inner(out, &format!("near miss {}: {}", near.statement, failed.join("; ")));
    }
}

fn mismatch(mismatch: &MismatchView) -> String {
    format!("{} wants {}, the request has {}", mismatch.what, mismatch.expected, mismatch.actual)
}

fn rule(rule: &RuleView) -> String {
    format!("{} {} ({})", rule.priority, rule.name, rule.origin)
}

fn route(out: &mut String, route: &RouteView) {
    let by = if route.precedence == "priority" { "by priority" } else { "the most specific first" };
    line(out, &format!("listener {} ({}), port {}, rules {by}", route.listener, route.listener_origin, route.port));
    if route.passed_more > 0 {
        line(out, &format!("{} rules before these do not match", route.passed_more));
    }
    for passed in &route.passed {
        line(out, &format!("not {}: {}", rule(&passed.rule), mismatch(&passed.because)));
    }
    match &route.rule {
        Some(taken) => line(out, &format!("taken {}", rule(taken))),
        None => line(out, "taken the default action"),
    }
    for edit in &route.request_headers {
        line(out, &format!("request header: {edit}"));
    }
    action(out, &route.action);
    for edit in &route.response_headers {
        line(out, &format!("response header: {edit}"));
    }
}

fn action(out: &mut String, action: &ActionView) {
    match action {
        ActionView::Forward { groups, sticky, chosen, path, host } => {
            line(out, &format!("forward as {path} with host {host}"));
            for group in groups {
                let list = if group.reachable.is_empty() {
                    String::new()
                } else {
                    format!(": {}", group.reachable.join(", "))
                };
                inner(
                    out,
                    &format!(
                        "{} ({}), weight {} ({:.0} %), {} of {} targets can be reached{list}",
                        group.name, group.origin, group.weight, group.share, group.reachable_count, group.configured
                    ),
                );
            }
            let goes = chosen.as_ref().map(|chosen| format!("this request goes to {chosen}"));
            match (sticky, goes) {
                (Some(sticky), Some(goes)) => inner(out, &format!("sticky {sticky}: {goes}")),
                (Some(sticky), None) => inner(out, &format!("sticky {sticky}")),
                (None, Some(goes)) if groups.len() > 1 => inner(out, &goes),
                (None, _) => {}
            }
        }
        ActionView::FixedResponse { status, content_type, body } => {
            let kind = content_type.as_ref().map_or_else(String::new, |kind| format!(", {kind}"));
            line(out, &format!("answer {status}{kind}, {} bytes of body", body.len()));
        }
        ActionView::Redirect { status, location } => line(out, &format!("redirect {status} to {location}")),
    }
}
