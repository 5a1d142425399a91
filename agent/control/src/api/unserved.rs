//! Target groups that get a share of the requests and have no target: the engine answers that share with 503, and
//! operators would not notice it as long as the other groups serve.

use std::collections::{BTreeMap, BTreeSet};

use brattice_model::Model;
use brattice_wire::index::{ServiceIndex, TargetGroupIndex};
use brattice_wire::rules::{Action, Forward};
use brattice_wire::snapshot::{Snapshot, TargetGroup};

/// Most groups named.
const MAX_GROUPS: usize = 16;
/// Most addresses of a group that are named.
const MAX_ADDRESSES: usize = 3;

/// What of a service's requests a group gets.
struct Use<'a> {
    /// In percent of the requests that meet this rule.
    share: f64,
    service: &'a str,
    port: u16,
    /// None: the default action.
    rule: Option<&'a str>,
}

/// A line for each such group that some VPC can call.
pub(crate) fn unserved(snapshot: &Snapshot, model: &Model) -> Vec<String> {
    let uses = uses(snapshot);
    let mut lines: Vec<String> = uses
        .iter()
        .take(MAX_GROUPS)
        .map(|(group, uses)| line(&snapshot.target_groups[group.position()], uses, model))
        .collect();
    if let Some(more) = uses.len().checked_sub(MAX_GROUPS).filter(|more| *more > 0) {
        lines.push(format!("{more} more target groups have no target; `brattice services` shows them"));
    }
    lines
}

/// Groups without a target by index, with what they should serve.
fn uses(snapshot: &Snapshot) -> BTreeMap<TargetGroupIndex, Vec<Use<'_>>> {
    let mut uses: BTreeMap<TargetGroupIndex, Vec<Use<'_>>> = BTreeMap::new();
    let empty: Vec<bool> = snapshot.target_groups.iter().map(|group| group.targets.is_empty()).collect();
    if !empty.contains(&true) {
        return uses;
    }
    let called: BTreeSet<ServiceIndex> = snapshot.vpcs.iter().flat_map(|vpc| vpc.services.iter().copied()).collect();
    let called = called.into_iter().filter_map(|index| snapshot.services.get(index.position()));
    for (service, listener) in called.flat_map(|service| service.listeners.iter().map(move |own| (service, own))) {
        let rules = listener.rules.iter().map(|rule| (Some(rule.name.as_str()), &rule.action));
        for (rule, action) in rules.chain([(None, &listener.default_action)]) {
            let Action::Forward(forward) = action else { continue };
            for (group, share) in shares(forward).filter(|(group, _)| empty.get(group.position()) == Some(&true)) {
                let (service, port) = (service.name.as_str(), listener.port);
                uses.entry(group).or_default().push(Use { share, service, port, rule });
            }
        }
    }
    uses
}

/// Index and percentage of each group that has a weight.
fn shares(forward: &Forward) -> impl Iterator<Item = (TargetGroupIndex, f64)> {
    let total: u32 = forward.groups.iter().map(|share| u32::from(share.weight)).sum();
    let weighted = forward.groups.iter().filter(|share| share.weight > 0);
    weighted.map(move |share| (share.target_group, f64::from(share.weight) * 100.0 / f64::from(total)))
}

fn line(group: &TargetGroup, uses: &[Use<'_>], model: &Model) -> String {
    let worst = uses.iter().max_by(|a, b| a.share.total_cmp(&b.share)).expect("a group without a use is not listed");
    let Use { share, service, port, rule } = worst;
    let share = match *share {
        share if share > 99.95 => "all".to_owned(),
        share if share < 0.95 => "up to 1 %".to_owned(),
        share => format!("{share:.0} %"),
    };
    let meeting = rule.map_or_else(String::new, |rule| format!(" that meet its rule {rule}"));
    let others = match uses.len() - 1 {
        0 => String::new(),
        1 => " (and of those that meet one more rule)".to_owned(),
        more => format!(" (and of those that meet {more} more rules)"),
    };
    format!(
        "target group {} has no target: {share} of the requests to {service} port {port}{meeting}{others} are answered with 503. {}",
        group.name,
        why(group, model)
    )
}

/// Cause and remedy.
fn why(group: &TargetGroup, model: &Model) -> String {
    let (name, origin) = (&group.name, group.origin.to_string());
    let Some(document) = model.target_group(name) else { return format!("See {origin}") };
    if let Some((code, message)) = document.status.failure() {
        return format!("It is not in force: {code}: {message} ({origin})");
    }
    if document.targets.is_empty() {
        return format!("Its document names none ({origin}): add one, or give the group the weight 0");
    }
    let addresses: BTreeSet<_> = document.targets.iter().map(|(address, _)| *address).collect();
    let named: Vec<String> = addresses.iter().take(MAX_ADDRESSES).map(ToString::to_string).collect();
    let more = match addresses.len() - named.len() {
        0 => String::new(),
        more => format!(" or {more} more"),
    };
    format!(
        "No attached workload of {} has the address {}{more} ({origin}): start the workload (`brattice workloads` shows \
         what is attached), correct the target, or give the group the weight 0",
        document.vpc,
        named.join(" or ")
    )
}
