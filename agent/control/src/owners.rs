//! Per owner, all or nothing: whose documents are in force, whose are refused, whose are held back.
//!
//! Every reading of the directory starts from what is in force. An owner's new documents replace its old ones only if
//! they are readable, valid by themselves, valid together with everybody else's, and do not remove more than half of its
//! services (that must be accepted by hand: a half-mounted volume looks like a deletion). Nobody else's documents wait
//! for that.

use std::collections::{BTreeMap, BTreeSet};

use brattice_model::{Diagnostic, Documents, Linked, Owner, Severity, Source, parse, removed_services};
use brattice_wire::api::OwnerView;
use tracing::{info, warn};

use crate::policies::read::{ReadError, Tree};
use crate::state::LastGood;

/// Most errors, and most warnings, of one owner that are kept for `brattice status`.
pub const MAX_ERRORS: usize = 32;
/// Most owners whose refused documents are tried again alone after a failed link of all.
const MAX_RETRIES: usize = 16;

/// Where an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// What is on disk is in force.
    InForce,
    /// What is on disk has errors; the last good documents are in force.
    Invalid,
    /// What is on disk removes too much and waits for `brattice accept`.
    HeldBack,
    /// Nothing can be read; the last good documents are in force.
    Missing,
}

impl OwnerState {
    /// As `brattice status` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InForce => "in-force",
            Self::Invalid => "invalid",
            Self::HeldBack => "held-back",
            Self::Missing => "missing",
        }
    }
}

#[derive(Clone, Debug)]
struct Good {
    revision: u64,
    sources: Vec<Source>,
    documents: Documents,
}

/// Files, and what was read from them: documents, or errors.
type Waiting = (Vec<Source>, Result<Documents, Vec<String>>);

#[derive(Clone, Debug)]
struct Entry {
    good: Option<Good>,
    /// What is on disk, if it is not in force: what was found in it is known until it changes.
    waiting: Option<Waiting>,
    state: OwnerState,
    errors: Vec<String>,
}

/// All owners.
#[derive(Debug, Default)]
pub struct Owners {
    owners: BTreeMap<Owner, Entry>,
    /// What is in force, but not as written.
    warnings: BTreeMap<Owner, Vec<String>>,
}

/// What a reading led to.
#[derive(Debug)]
pub struct Outcome {
    /// The model of what is in force.
    pub linked: Linked,
    /// Owners whose documents in force changed: to be kept on disk.
    pub changed: Vec<LastGood>,
    /// Owners that have no documents any more.
    pub removed: Vec<Owner>,
}

/// Makes a model of everybody's documents.
pub type Linker<'a> = &'a mut dyn FnMut(&BTreeMap<Owner, Documents>) -> Linked;

type Candidates = BTreeMap<Owner, (Vec<Source>, Documents)>;

impl Owners {
    /// From the disk. Documents that this version cannot read any more are reported and left out.
    pub fn restore(saved: BTreeMap<Owner, LastGood>) -> Self {
        let mut owners = BTreeMap::new();
        for (owner, last) in saved {
            let entry = match parse(&owner, &last.sources) {
                Ok(documents) => {
                    let good = Good { revision: last.revision, sources: last.sources, documents };
                    Entry { good: Some(good), waiting: None, state: OwnerState::Missing, errors: vec![] }
                }
                Err(errors) => {
                    warn!(%owner, "the last good documents cannot be read by this version");
                    Entry { good: None, waiting: None, state: OwnerState::Invalid, errors: lines(&errors) }
                }
            };
            owners.insert(owner, entry);
        }
        Self { owners, warnings: BTreeMap::new() }
    }

    /// Takes in a reading of the directory. `accepted`: the owner whose removals are accepted.
    pub fn apply(&mut self, read: Result<Tree, ReadError>, accepted: Option<&Owner>, link: Linker<'_>) -> Outcome {
        let candidates = match read {
            Ok(tree) if !tree.is_empty() || self.in_force().is_empty() || accepted.is_some() => {
                self.sort(tree, accepted)
            }
            Ok(_) => {
                self.all_missing("the policies directory is empty: not mounted yet? The last good documents stay in force; if everything is to go, run `brattice accept operator`");
                Candidates::new()
            }
            Err(e) => {
                self.all_missing(&e.to_string());
                Candidates::new()
            }
        };
        let (linked, candidates) = self.link(candidates, link);
        self.warnings = linked.warnings.iter().map(|(owner, found)| (owner.clone(), shown(found))).collect();
        let mut outcome = Outcome { linked, changed: Vec::new(), removed: Vec::new() };
        for (owner, (sources, documents)) in candidates {
            self.put_in_force(&mut outcome, owner, sources, documents);
        }
        outcome
    }

    /// Documents in force.
    pub fn in_force(&self) -> BTreeMap<Owner, Documents> {
        let good = |entry: &Entry| entry.good.as_ref().map(|good| good.documents.clone());
        self.owners.iter().filter_map(|(owner, entry)| Some((owner.clone(), good(entry)?))).collect()
    }

    /// Whether a change of this owner waits to be accepted.
    pub fn is_held_back(&self, owner: &Owner) -> bool {
        self.owners.get(owner).is_some_and(|entry| entry.state == OwnerState::HeldBack)
    }

    /// Whether the owner has anything here.
    pub fn is_known(&self, owner: &Owner) -> bool {
        self.owners.contains_key(owner)
    }

    /// For `brattice status`.
    pub fn views(&self) -> BTreeMap<String, OwnerView> {
        let view = |owner: &Owner, entry: &Entry| OwnerView {
            revision: entry.good.as_ref().map_or(0, |good| good.revision),
            state: entry.state.name().to_owned(),
            errors: entry.errors.clone(),
            warnings: self.warnings.get(owner).cloned().unwrap_or_default(),
            documents: entry.good.as_ref().map_or(0, |good| u32::try_from(good.documents.len()).unwrap_or(u32::MAX)),
        };
        self.owners.iter().map(|(owner, entry)| (owner.to_string(), view(owner, entry))).collect()
    }

    fn all_missing(&mut self, why: &str) {
        if self.owners.is_empty() {
            self.owners.insert(
                Owner::Operator,
                Entry { good: None, waiting: None, state: OwnerState::Missing, errors: vec![] },
            );
        }
        for (owner, entry) in &mut self.owners {
            entry.state = OwnerState::Missing;
            // The same sentence once is enough.
            entry.errors = if *owner == Owner::Operator { vec![why.to_owned()] } else { Vec::new() };
        }
    }

    /// Sorts owners into those whose documents may come into force and those whose may not.
    fn sort(&mut self, tree: Tree, accepted: Option<&Owner>) -> Candidates {
        let mut candidates = Candidates::new();
        let Tree { owners: mut found, accounts_unknown } = tree;
        let known: BTreeSet<Owner> = self.owners.keys().chain(found.keys()).cloned().collect();
        for owner in known {
            let entry = self.owners.entry(owner.clone()).or_insert(Entry {
                good: None,
                waiting: None,
                state: OwnerState::InForce,
                errors: Vec::new(),
            });
            let sources = match found.remove(&owner) {
                Some(Ok(sources)) => sources,
                Some(Err(errors)) => {
                    entry.set(&owner, OwnerState::Invalid, errors);
                    continue;
                }
                None if accounts_unknown => {
                    entry.set(&owner, OwnerState::Missing, vec!["the accounts' folders cannot be listed".to_owned()]);
                    continue;
                }
                // The folder is gone: as if it were empty.
                None => Vec::new(),
            };
            if entry.good.as_ref().is_some_and(|good| good.sources == sources) {
                entry.waiting = None;
                entry.set(&owner, OwnerState::InForce, Vec::new());
                continue;
            }
            // Nobody waits for the same documents twice: their owner may have made them large and wrong on purpose.
            let known = entry.waiting.take().filter(|(known, _)| *known == sources);
            let (_, parsed) = entry.waiting.insert(known.unwrap_or_else(|| {
                let parsed = parse(&owner, &sources).map_err(|errors| lines(&errors));
                (sources.clone(), parsed)
            }));
            let documents = match parsed {
                Ok(documents) => documents.clone(),
                Err(errors) => {
                    let errors = errors.clone();
                    entry.set(&owner, OwnerState::Invalid, errors);
                    continue;
                }
            };
            if accepted != Some(&owner)
                && let Some(good) = &entry.good
                && let Some(why) = removes_too_much(&owner, &good.documents, &documents)
            {
                entry.set(&owner, OwnerState::HeldBack, vec![why]);
                continue;
            }
            candidates.insert(owner, (sources, documents));
        }
        candidates
    }

    /// Links; owners whose candidates have errors are put back to what is in force.
    fn link(&mut self, mut candidates: Candidates, link: Linker<'_>) -> (Linked, Candidates) {
        let base = self.in_force();
        let combined = |candidates: &Candidates| {
            let mut all = base.clone();
            all.extend(candidates.iter().map(|(owner, (_, documents))| (owner.clone(), documents.clone())));
            all
        };
        let mut refused = Candidates::new();
        let mut linked = loop {
            let linked = link(&combined(&candidates));
            let wrong: Vec<Owner> =
                candidates.keys().filter(|owner| linked.errors.contains_key(owner)).cloned().collect();
            if wrong.is_empty() {
                break linked;
            }
            for owner in wrong {
                if let Some(candidate) = candidates.remove(&owner) {
                    let errors = linked.errors.get(&owner).map(|errors| lines(errors)).unwrap_or_default();
                    self.entry(&owner).set(&owner, OwnerState::Invalid, errors);
                    refused.insert(owner, candidate);
                }
            }
        };
        // Some were refused only because of others that are refused now.
        if refused.len() > 1 {
            for (owner, candidate) in refused.into_iter().take(MAX_RETRIES) {
                let mut with = candidates.clone();
                with.insert(owner.clone(), candidate);
                let again = link(&combined(&with));
                if with.keys().all(|owner| !again.errors.contains_key(owner)) {
                    candidates = with;
                    linked = again;
                }
            }
        }
        for owner in candidates.keys() {
            self.entry(owner).set(owner, OwnerState::InForce, Vec::new());
        }
        // Documents that were good until somebody else's changed: what cannot be any more is left out and shown.
        for (owner, errors) in &linked.errors {
            if !candidates.contains_key(owner) && self.entry(owner).state == OwnerState::InForce {
                self.entry(owner).set(owner, OwnerState::Invalid, lines(errors));
            }
        }
        (linked, candidates)
    }

    fn entry(&mut self, owner: &Owner) -> &mut Entry {
        self.owners.entry(owner.clone()).or_insert(Entry {
            good: None,
            waiting: None,
            state: OwnerState::InForce,
            errors: Vec::new(),
        })
    }

    fn put_in_force(&mut self, outcome: &mut Outcome, owner: Owner, sources: Vec<Source>, documents: Documents) {
        let entry = self.entry(&owner);
        let revision = entry.good.as_ref().map_or(0, |good| good.revision) + 1;
        if sources.is_empty() && owner != Owner::Operator {
            info!(%owner, "the owner's documents are gone");
            self.owners.remove(&owner);
            outcome.removed.push(owner);
            return;
        }
        info!(%owner, revision, documents = documents.len(), "documents in force");
        entry.waiting = None;
        entry.good = Some(Good { revision, sources: sources.clone(), documents });
        outcome.changed.push(LastGood { owner, revision, sources });
    }
}

impl Entry {
    fn set(&mut self, owner: &Owner, state: OwnerState, errors: Vec<String>) {
        let errors = some(errors);
        if (self.state, &self.errors) != (state, &errors) && state != OwnerState::InForce {
            warn!(%owner, state = state.name(), errors = errors.join(" | "), "the last good documents of this owner stay in force");
        }
        self.state = state;
        self.errors = errors;
    }
}

fn removes_too_much(owner: &Owner, old: &Documents, new: &Documents) -> Option<String> {
    let (removed, total) = removed_services(old, new);
    (removed * 2 > total).then(|| {
        format!(
            "would remove {removed} of {total} {}, more than half, and is held back; if that is meant: brattice accept {owner}",
            if *owner == Owner::Operator { "accounts or VPCs" } else { "services or service networks" }
        )
    })
}

/// Not more than are kept for `brattice status`.
fn some(mut texts: Vec<String>) -> Vec<String> {
    if texts.len() > MAX_ERRORS {
        let more = texts.len() - MAX_ERRORS;
        texts.truncate(MAX_ERRORS);
        texts.push(format!("... and {more} more; `brattice validate` shows all"));
    }
    texts
}

fn shown(warnings: &[Diagnostic]) -> Vec<String> {
    some(warnings.iter().map(ToString::to_string).collect())
}

fn lines(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().filter(|d| d.severity == Severity::Error).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests;
