//! A request that was sent: what was decided then, and what would be decided now.

use std::net::IpAddr;

use brattice_wire::explain::{Explanation, Outcome, ThenView};
use brattice_wire::records::Past;

use crate::case::{Case, Gone};
use crate::find::{Error, Found, attached};
use crate::judge::judge;
use crate::request::Asked;
use crate::time::rfc3339;
use crate::world::World;

/// Decides a remembered request again.
pub(crate) fn explain(world: &World<'_>, past: &Past) -> Result<Explanation, Error> {
    let id = if past.request_id.is_empty() { format!("on connection {}", past.flow) } else { past.request_id.clone() };
    let by_name = past.service.as_deref().and_then(|name| world.model.service(name));
    let by_vip = || world.model.services.iter().find(|service| [service.vip, service.vip6].contains(&Some(past.vip)));
    let Some(service) = by_name.or_else(by_vip) else {
        let what = match &past.service {
            Some(name) => format!("the service {name}"),
            None => format!("a service at {}", past.vip),
        };
        return Err(Error::Gone { id, what });
    };
    let (found, gone, note) = caller(world, past);
    let case = Case { found, gone, service, asked: Asked::again(past), unread: past.method.is_empty() };
    let mut explanation = judge(world, case, true);
    if past.cut {
        explanation.notes.push("a part of the request was too long to be remembered whole: this may differ".to_owned());
    }
    explanation.notes.extend(note);
    explanation.then = Some(ThenView {
        request_id: past.request_id.clone(),
        time: rfc3339(i64::try_from(past.time_ms / 1_000).expect("a thousandth of any u64 fits")),
        revision: past.revision,
        status: past.status.unwrap_or_default(),
        summary: then(past),
        differences: differences(past, &explanation),
    });
    Ok(explanation)
}

/// The caller of a past request: still there, there again, or gone.
fn caller<'w>(world: &World<'w>, past: &Past) -> (Found<'w>, Option<Gone>, Option<String>) {
    let workloads = &world.snapshot.workloads;
    let known = workloads.iter().find(|own| own.alias == past.alias && own.generation == past.generation);
    let attachments = || world.facts.map_or(&[][..], |facts| &facts.attached);
    let holds = |alias: IpAddr| {
        move |own: &&crate::world::Attached| own.addresses.iter().any(|(_, given)| *given == Some(alias))
    };
    if let Some(known) = known
        && let Some(own) = attachments().iter().find(holds(known.alias))
    {
        return (attached(world, own, Some(known.address)), None, None);
    }
    let named = attachments().iter().find(|own| own.name == past.workload && own.vpc == past.vpc);
    if let Some(own) = named.filter(|_| !past.workload.is_empty()) {
        let note = format!(
            "the workload {} had the alias {} then, and has another one now: it was attached anew in between",
            past.workload, past.alias
        );
        return (attached(world, own, None), None, Some(note));
    }
    let departed = world.facts.and_then(|facts| {
        facts.departed.iter().rfind(|own| own.name == past.workload && own.vpc == past.vpc && !own.name.is_empty())
    });
    let found = Found { vpc: world.model.vpc(&past.vpc), vpc_name: past.vpc.clone(), departed, ..Found::default() };
    if let Some(departed) = departed {
        return (found, Some(Gone::departed(departed)), None);
    }
    let who =
        if past.workload.is_empty() { "the caller".to_owned() } else { format!("the workload {}", past.workload) };
    let gone = format!("{who} of VPC {} (alias {}) is not on this node any more", past.vpc, past.alias);
    (found, Some(Gone { text: gone, remedy: "see `brattice workloads` for who is there now".to_owned() }), None)
}

/// What was decided then, in a sentence.
fn then(past: &Past) -> String {
    let id = past.decision_id.as_deref().unwrap_or("-");
    if let Some(by) = past.denied_by {
        return format!("denied at the level {} by {id}", by.as_str());
    }
    let mut text = match (past.status, past.method.is_empty()) {
        (Some(status), _) => format!("answered with {status}"),
        (None, true) => "relayed as TCP".to_owned(),
        (None, false) => "not answered".to_owned(),
    };
    if let Some(rule) = &past.rule {
        text.push_str(&format!(", rule {rule}"));
    }
    if let Some(group) = &past.target_group {
        text.push_str(&format!(", target group {group}"));
    }
    if let Some(target) = &past.target {
        text.push_str(&format!(", target {target}"));
    }
    if let Some(failure) = past.failure {
        text.push_str(&format!(", {}", failure.as_str()));
    }
    text
}

/// What would be decided otherwise now.
fn differences(past: &Past, now: &Explanation) -> Vec<String> {
    let mut differences = Vec::new();
    let denied = past.denied_by.is_some();
    match (denied, now.outcome) {
        (true, Outcome::Allowed) => differences.push("it was denied then and would be allowed now".to_owned()),
        (true, Outcome::Unreachable) => {
            differences.push("it was denied by a policy then and would not come that far now".to_owned());
        }
        (false, Outcome::Denied) => differences.push("it was not denied then and would be denied now".to_owned()),
        (false, Outcome::Unreachable) if past.failure.is_none() && past.status.is_some_and(|status| status < 400) => {
            differences.push("it was served then and could not be now".to_owned());
        }
        _ => {}
    }
    let id = now.decision.as_ref().and_then(|decision| decision.id.as_ref());
    if let (true, Some(then), Some(now)) = (denied, &past.decision_id, id)
        && then != now
    {
        differences.push(format!("it was denied by {then} then, and would be by {now} now"));
    }
    if let (Some(then), Some(route)) = (&past.rule, &now.route) {
        let rule = route.rule.as_ref().map_or("default", |rule| rule.id.as_str());
        if rule != then {
            differences.push(format!("it met the rule {then} then, and would meet {rule} now"));
        }
    }
    if let (Some(then), Some(route)) = (&past.target_group, &now.route)
        && let brattice_wire::explain::ActionView::Forward { groups, .. } = &route.action
        && !groups.iter().any(|group| group.name == *then && group.weight > 0)
    {
        differences.push(format!("it went to the target group {then} then, which gets nothing now"));
    }
    if !differences.is_empty() && past.revision != now.revision {
        differences.push(format!("it was revision {} then, and is {} now", past.revision, now.revision));
    }
    differences
}
