//! Roles that would allow the request of a workload that is anonymous now.

use brattice_model::{Evidence, Role, Workload, session_arn};

use crate::caller::{Caller, as_role};
use crate::networks::place;
use crate::world::World;

/// Most roles that are tried.
const MAX_TRIED: usize = 50;
/// Most roles that are named.
const MAX_NAMED: usize = 3;

/// What to do so that the workload is a role that may call: those that trust it already come first.
pub(crate) fn that_may(world: &World<'_>, caller: &Caller<'_>, may: impl Fn(&Caller<'_>) -> bool) -> Vec<String> {
    let Some(name) = &caller.view.workload else { return Vec::new() };
    let document =
        world.model.workloads.iter().find(|workload| workload.name == *name && workload.vpc == caller.view.vpc);
    let evidence: Vec<Evidence> = Evidence::ALL
        .into_iter()
        .filter(|evidence| caller.evidence.iter().any(|word| word == evidence.word()))
        .collect();
    let trusts = |role: &Role| role.trusts(&caller.view.vpc, document, &evidence);
    let mut roles: Vec<&Role> = world.model.roles.iter().filter(|role| role.status.is_active()).collect();
    roles.sort_by_key(|role| !trusts(role));
    let as_one = |role: &Role| Caller {
        role: Some(as_role(world.model, role)),
        attested: Some(session_arn(role, world.model, name)),
        ..caller.clone()
    };
    roles
        .into_iter()
        .take(MAX_TRIED)
        .filter(|role| may(&as_one(role)))
        .take(MAX_NAMED)
        .enumerate()
        .map(|(number, role)| {
            let or = if number == 0 { "" } else { "or " };
            format!("{or}{}", be(role, document, trusts(role)))
        })
        .collect()
}

/// How the workload becomes the role.
fn be(role: &Role, document: Option<&Workload>, trusted: bool) -> String {
    let (name, at) = (&role.name, place(&role.origin));
    match (document, trusted) {
        (Some(document), true) => {
            format!(
                "say `roleIdentifier: {name}` in its document ({}): that role may call this",
                place(&document.origin)
            )
        }
        (None, true) => {
            format!("write a Workload document for it with `roleIdentifier: {name}`: that role may call this")
        }
        (Some(document), false) => format!(
            "let it be the role {name}, which may call this: name it in the role's `trust` ({at}), and say `roleIdentifier: {name}` in its document ({})",
            place(&document.origin)
        ),
        (None, false) => {
            format!(
                "let it be the role {name}, which may call this: write a Workload document for it, and name that in the role's `trust` ({at})"
            )
        }
    }
}
