//! Roles that would allow the request of a workload that is anonymous now.

use brattice_model::{Evidence, Model, Role, Workload};

use crate::networks::place;

/// Most roles that are tried.
const MAX_TRIED: usize = 50;
/// Most roles that are named.
const MAX_NAMED: usize = 3;

/// A workload without a role.
#[derive(Clone, Copy, Debug)]
pub struct Roleless<'w> {
    /// Qualified name of its VPC.
    pub vpc: &'w str,
    /// Its document, where it has one.
    pub document: Option<&'w Workload>,
    /// What its identity was learnt from.
    pub evidence: &'w [Evidence],
}

/// What to do so that the workload is a role that may call: those that trust it already come first. `may`: whether a role
/// may.
pub fn roles_that_may(model: &Model, workload: Roleless<'_>, may: impl Fn(&Role) -> bool) -> Vec<String> {
    let Roleless { vpc, document, evidence } = workload;
    let trusts = |role: &Role| role.trusts(vpc, document, evidence);
    let mut roles: Vec<&Role> = model.roles.iter().filter(|role| role.status.is_active()).collect();
    roles.sort_by_key(|role| !trusts(role));
    roles
        .into_iter()
        .take(MAX_TRIED)
        .filter(|role| may(role))
        .take(MAX_NAMED)
        .enumerate()
        .map(|(number, role)| {
            let or = if number == 0 { "" } else { "or " };
            format!("{or}{}", be(role, document, trusts(role)))
        })
        .collect()
}

/// Puts roles before the changes of policies: then no policy needs to be touched.
pub fn put_first(roles: Vec<String>, remedy: &mut Vec<String>) {
    if !roles.is_empty()
        && let Some(first) = remedy.first_mut()
    {
        *first = format!("or, for this workload alone and without a role: {first}");
    }
    remedy.splice(0..0, roles);
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
