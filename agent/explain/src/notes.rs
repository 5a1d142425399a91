//! Notes: documents that are not in force, an engine that is behind, dropped packets, bounds nearly full.

use std::collections::{BTreeMap, BTreeSet};

use brattice_model::OPERATOR;

use crate::caller::Caller;
use crate::case::Case;
use crate::world::{Dropped, EngineState, Facts, World};

/// Most characters of an error of documents.
const MAX_ERROR: usize = 512;
/// A bound of the engine that is fuller than this is shown, percent.
const NEARLY_FULL: u32 = 90;

/// Adds what is known besides.
pub(crate) fn add(world: &World<'_>, case: &Case<'_>, caller: Option<&Caller<'_>>, notes: &mut Vec<String>) {
    if !case.asked.dropped.is_empty() {
        notes.push(format!(
            "rules, policies and targets do not see these header fields, which callers cannot pass on: {}",
            case.asked.dropped.join(", ")
        ));
    }
    if !case.asked.trimmed.is_empty() {
        notes.push(format!(
            "blanks around a value are no part of it in HTTP/1, and are refused with 400 in HTTP/2: {}",
            case.asked.trimmed.join(", ")
        ));
    }
    let replaced = case.asked.replaced();
    if !replaced.is_empty() {
        notes.push(format!(
            "rules, policies and targets see these header fields as Brattice writes them, not as the caller does: {}",
            replaced.join(", ")
        ));
    }
    let Some(facts) = world.facts else {
        notes.push(
            "by documents alone: every workload and target in them is taken to be there, and the node to be well"
                .to_owned(),
        );
        return;
    };
    owners(facts, case, caller, notes);
    let engine = &facts.engine;
    if engine.state == EngineState::Running && engine.revision < world.snapshot.revision {
        let why = engine.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        notes.push(format!(
            "the engine still serves revision {}; this is decided by revision {}{why}",
            engine.revision, world.snapshot.revision
        ));
    }
    drops(facts, case, caller, notes);
    for (name, used, limit) in &facts.busiest {
        if *limit > 0 && u64::from(*used) * 100 >= u64::from(*limit) * u64::from(NEARLY_FULL) {
            notes.push(format!("the busiest workload has {used} of {limit} {name} that one may have; is it this one?"));
        }
    }
}

/// Owners whose documents on disk are not those in force.
fn owners(facts: &Facts, case: &Case<'_>, caller: Option<&Caller<'_>>, notes: &mut Vec<String>) {
    let mut names: BTreeSet<&str> = BTreeSet::from([OPERATOR, case.service.account.as_str()]);
    names.extend(case.found.vpc.and_then(|vpc| vpc.account.as_deref()));
    let role = caller.and_then(|caller| caller.role.as_ref());
    names.extend(role.and_then(|role| role.name.split('/').next()));
    for name in names {
        let Some(view) = facts.owners.get(name).filter(|view| view.state != "in-force") else { continue };
        let error: String = view
            .errors
            .first()
            .map_or_else(String::new, |error| format!(": {}", error.chars().take(MAX_ERROR).collect::<String>()));
        notes.push(format!(
            "the documents of {name} on disk are {}, so those of its revision {} are in force{error}",
            view.state, view.revision
        ));
    }
}

/// Packets of the caller that were dropped, by reason.
fn drops(facts: &Facts, case: &Case<'_>, caller: Option<&Caller<'_>>, notes: &mut Vec<String>) {
    let ifindex = case.found.attached.map(|own| own.ifindex).filter(|ifindex| *ifindex != 0);
    let alias = caller.and_then(|caller| caller.view.alias.as_deref());
    let is_its = |dropped: &&Dropped| {
        ifindex == Some(dropped.ifindex)
            || alias
                .is_some_and(|alias| dropped.source.to_string() == alias || dropped.destination.to_string() == alias)
    };
    let mut by_reason: BTreeMap<&str, (u64, &Dropped)> = BTreeMap::new();
    for dropped in facts.dropped.iter().filter(is_its) {
        let entry = by_reason.entry(&dropped.reason).or_insert((0, dropped));
        entry.0 += dropped.events;
        if dropped.seconds_ago < entry.1.seconds_ago {
            entry.1 = dropped;
        }
    }
    for (reason, (events, latest)) in by_reason {
        notes.push(format!(
            "packets of this workload were dropped: {reason} ({}); the kernel reported {events} of them, the last {} s ago from {} to {}:{}",
            latest.text, latest.seconds_ago, latest.source, latest.destination, latest.port
        ));
    }
}
