//! Per owner, all or nothing: whose documents are in force, whose are refused, whose are held back.
//!
//! Every reading of the directory starts from what is in force. An owner's new documents replace its old ones only if
//! they are readable, valid by themselves, valid together with those of all others, and do not remove more than half of its
//! services (that must be accepted by hand: a half-mounted volume looks like a deletion). No other owner's documents wait
//! for that, nor until an owner's files are written to the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use brattice_model::{Diagnostic, Documents, Linked, Owner, Source, parse, removed_services};
use brattice_wire::api::OwnerView;
use brattice_wire::rarely;
use brattice_wire::rarely::Rarely;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::parsers::{Parsed, Parsers, lines};
use crate::settle::{Look, Settling, Verdict};
use crate::tree::{Found, ReadError, Tree};

/// Most errors, and most warnings, of one owner that are kept for `brattice status`.
pub const MAX_ERRORS: usize = 32;
/// Most owners whose refused documents are tried again alone after a failed link of all.
const MAX_RETRIES: usize = 16;
/// The same documents are linked again after this long: freed VIPs have rested by then, and dates in policies have passed.
pub const RELINK: Duration = Duration::from_secs(30);

/// An owner's documents in force, as they are kept for the next start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastGood {
    /// The owner.
    pub owner: Owner,
    /// The owner's revision.
    pub revision: u64,
    /// The files.
    pub sources: Vec<Source>,
}

/// Where an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// What is on disk is in force.
    InForce,
    /// What is on disk has errors; the last good documents are in force.
    Invalid,
    /// What is on disk removes too much and waits for `brattice accept`.
    HeldBack,
    /// What is on disk is not written to the end; the last good documents are in force.
    BeingWritten,
    /// Nothing can be read; the last good documents are in force.
    Missing,
}

impl OwnerState {
    /// All names.
    pub const NAMES: [&'static str; 5] = ["in-force", "invalid", "held-back", "being-written", "missing"];

    /// As `brattice status` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::InForce => "in-force",
            Self::Invalid => "invalid",
            Self::HeldBack => "held-back",
            Self::BeingWritten => "being-written",
            Self::Missing => "missing",
        }
    }
}

#[derive(Clone, Debug)]
struct Good {
    revision: u64,
    sources: Arc<Vec<Source>>,
    documents: Arc<Documents>,
}

#[derive(Clone, Debug)]
struct Entry {
    good: Option<Good>,
    /// What is on disk, if it is not in force: what was found in it is known until it changes.
    waiting: Option<Parsed>,
    state: OwnerState,
    errors: Vec<String>,
    /// Bounds the lines about this owner: no owner fills the log or hides another's lines.
    lines: Arc<Rarely>,
}

/// All owners. A copy shares their documents.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    owners: BTreeMap<Owner, Entry>,
    /// What is in force, but not as written.
    warnings: BTreeMap<Owner, Vec<String>>,
    /// Files on disk that are passed over.
    notes: BTreeMap<Owner, Vec<String>>,
    settling: Settling,
    /// Owners whose files wait until they are written to the end.
    unsettled: BTreeSet<Owner>,
    /// Owners whose documents are being parsed.
    unparsed: BTreeSet<Owner>,
    last_link: Option<LastLink>,
}

/// What was linked last, and its result: nothing is linked twice.
#[derive(Clone, Debug)]
struct LastLink {
    documents: AllDocuments,
    linked: Arc<Linked>,
    /// Why owners' documents were refused.
    refused: BTreeMap<Owner, Vec<String>>,
    when: Instant,
}

impl LastLink {
    fn is_of(&self, documents: &AllDocuments) -> bool {
        let known = self.documents.iter();
        self.documents.len() == documents.len()
            && known.zip(documents).all(|(known, new)| known.0 == new.0 && Arc::ptr_eq(known.1, new.1))
    }
}

/// How a reading is taken in.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The owner whose files are taken as they are, whatever they remove.
    pub accepted: Option<&'a Owner>,
    /// When the directory was read.
    pub now: Instant,
    /// The same by the clock that file times are of.
    pub clock: SystemTime,
    /// What is parsed by then is taken in, and the rest at the next reading; none: all of it.
    pub patience: Option<Duration>,
    /// Linking depends on something that has changed.
    pub relink: bool,
}

impl<'a> Terms<'a> {
    /// Of a reading that is made now.
    pub fn now(accepted: Option<&'a Owner>, patience: Option<Duration>) -> Self {
        Self { accepted, now: Instant::now(), clock: SystemTime::now(), patience, relink: false }
    }
}

/// What a reading led to.
#[derive(Debug)]
pub struct Outcome {
    /// The model of what is in force.
    pub linked: Arc<Linked>,
    /// Owners whose documents in force changed: to be kept on disk.
    pub changed: Vec<LastGood>,
    /// Owners that have no documents any more.
    pub removed: Vec<Owner>,
    /// When the directory is to be read again without an event: something waits.
    pub again: Option<Duration>,
}

/// Makes a model of all owners' documents.
pub type Linker<'a> = &'a mut dyn FnMut(&AllDocuments) -> Arc<Linked>;

/// All owners' documents.
pub type AllDocuments = BTreeMap<Owner, Arc<Documents>>;

type Candidates = BTreeMap<Owner, (Arc<Vec<Source>>, Arc<Documents>)>;

impl Owners {
    /// From the disk. Documents that this version cannot read any more are reported and left out.
    pub fn restore(saved: BTreeMap<Owner, LastGood>) -> Self {
        let mut owners = BTreeMap::new();
        for (owner, last) in saved {
            let entry = match parse(&owner, &last.sources) {
                Ok(documents) => {
                    let good = Good {
                        revision: last.revision,
                        sources: Arc::new(last.sources),
                        documents: Arc::new(documents),
                    };
                    Entry::new(Some(good), OwnerState::Missing, vec![])
                }
                Err(errors) => {
                    warn!(%owner, "the last good documents cannot be read by this version");
                    Entry::new(None, OwnerState::Invalid, lines(&errors))
                }
            };
            owners.insert(owner, entry);
        }
        Self { owners, ..Self::default() }
    }

    /// Handles a reading of the directory.
    pub fn apply(
        &mut self,
        read: Result<Tree, ReadError>,
        terms: &Terms<'_>,
        parsers: &Parsers,
        link: Linker<'_>,
    ) -> Outcome {
        let mut again = None;
        self.unparsed.clear();
        let candidates = match read {
            Ok(tree) if !tree.is_empty() || !self.any_in_force() || terms.accepted.is_some() => {
                let settled = self.settled(tree, terms, &mut again);
                self.sort(settled, terms, parsers, &mut again)
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
        let (linked, candidates) = self.link(candidates, terms, link);
        self.warnings = linked.warnings.iter().map(|(owner, found)| (owner.clone(), shown(found))).collect();
        let mut outcome = Outcome { linked, changed: Vec::new(), removed: Vec::new(), again };
        for (owner, (sources, documents)) in candidates {
            self.put_in_force(&mut outcome, owner, sources, documents);
        }
        outcome
    }

    /// Documents in force.
    pub fn in_force(&self) -> AllDocuments {
        let good = |entry: &Entry| entry.good.as_ref().map(|good| good.documents.clone());
        self.owners.iter().filter_map(|(owner, entry)| Some((owner.clone(), good(entry)?))).collect()
    }

    fn any_in_force(&self) -> bool {
        self.owners.values().any(|entry| entry.good.is_some())
    }

    /// Whether a change of this owner waits to be accepted.
    pub fn is_held_back(&self, owner: &Owner) -> bool {
        self.owners.get(owner).is_some_and(|entry| entry.state == OwnerState::HeldBack)
    }

    /// Whether the owner's documents on disk are still being parsed.
    pub fn is_being_parsed(&self, owner: &Owner) -> bool {
        self.unparsed.contains(owner)
    }

    /// Whether the owner has anything here.
    pub fn is_known(&self, owner: &Owner) -> bool {
        self.owners.contains_key(owner)
    }

    /// For `brattice status`.
    pub fn views(&self) -> BTreeMap<String, OwnerView> {
        self.status().into_iter().map(|(owner, view)| (owner.to_string(), view)).collect()
    }

    /// What became of each owner's documents.
    pub fn status(&self) -> BTreeMap<Owner, OwnerView> {
        let view = |owner: &Owner, entry: &Entry| OwnerView {
            revision: entry.good.as_ref().map_or(0, |good| good.revision),
            state: entry.state.name().to_owned(),
            errors: entry.errors.clone(),
            warnings: [&self.warnings, &self.notes]
                .iter()
                .flat_map(|all| all.get(owner).into_iter().flatten().cloned())
                .collect(),
            documents: entry.good.as_ref().map_or(0, |good| count(good.documents.len())),
        };
        self.owners.iter().map(|(owner, entry)| (owner.clone(), view(owner, entry))).collect()
    }

    fn all_missing(&mut self, why: &str) {
        if self.owners.is_empty() {
            self.owners.insert(Owner::Operator, Entry::new(None, OwnerState::Missing, vec![]));
        }
        for (owner, entry) in &mut self.owners {
            entry.state = OwnerState::Missing;
            // The same sentence once is enough.
            entry.errors = if *owner == Owner::Operator { vec![why.to_owned()] } else { Vec::new() };
        }
    }

    /// The files of those owners that are written to the end; what is on disk of others is as if it were not there yet.
    fn settled(
        &mut self,
        tree: Tree,
        terms: &Terms<'_>,
        again: &mut Option<Duration>,
    ) -> BTreeMap<Owner, Result<Vec<Source>, Vec<String>>> {
        let Tree { owners: mut found, accounts_unknown } = tree;
        self.notes = found.iter().map(|(owner, found)| (owner.clone(), shown(&found.notes))).collect();
        self.unsettled.clear();
        let known: BTreeSet<Owner> = self.owners.keys().chain(found.keys()).cloned().collect();
        let mut settled = BTreeMap::new();
        for owner in known {
            let Found { sources, look, .. } = match found.remove(&owner) {
                Some(found) => found,
                None if accounts_unknown => {
                    let why = vec!["the accounts' folders cannot be listed".to_owned()];
                    self.entry(&owner).set(&owner, OwnerState::Missing, why);
                    continue;
                }
                // The folder is gone: as if it were empty, and had changed just now.
                None => Found {
                    look: Look { changed: Some(terms.clock), ..Look::default() },
                    ..Found::from(Ok(Vec::new()))
                },
            };
            let good = self.owners.get(&owner).and_then(|entry| entry.good.as_ref());
            let same = matches!((&sources, good), (Ok(sources), Some(good)) if *good.sources == *sources);
            if same || terms.accepted == Some(&owner) {
                self.settling.forget(&owner);
                settled.insert(owner, sources);
                continue;
            }
            match self.settling.judge(&owner, &look, terms.now, terms.clock) {
                Verdict::Settled => drop(settled.insert(owner, sources)),
                Verdict::Wait { again: when, why } => {
                    self.unsettled.insert(owner.clone());
                    sooner(again, when);
                    if let Some(why) = why {
                        self.entry(&owner).set(&owner, OwnerState::BeingWritten, vec![why]);
                    }
                }
            }
        }
        settled
    }

    /// Sorts owners into those whose documents may come into force and those whose may not.
    fn sort(
        &mut self,
        settled: BTreeMap<Owner, Result<Vec<Source>, Vec<String>>>,
        terms: &Terms<'_>,
        parsers: &Parsers,
        again: &mut Option<Duration>,
    ) -> Candidates {
        let mut candidates = Candidates::new();
        let mut changed = Vec::new();
        for (owner, sources) in settled {
            let good = self.owners.get(&owner).and_then(|entry| entry.good.as_ref());
            match sources {
                Err(errors) => self.entry(&owner).set(&owner, OwnerState::Invalid, errors),
                Ok(sources) if good.is_some_and(|good| *good.sources == sources) => {
                    let entry = self.entry(&owner);
                    entry.waiting = None;
                    entry.set(&owner, OwnerState::InForce, Vec::new());
                }
                // An account's folder without documents, of which none are in force.
                Ok(sources) if sources.is_empty() && good.is_none() && owner != Owner::Operator => {
                    self.owners.remove(&owner);
                }
                Ok(sources) => changed.push((owner, sources)),
            }
        }
        for (owner, (sources, parsed)) in self.parse(changed, terms, parsers, again) {
            let entry = self.entry(&owner);
            let documents = match parsed {
                Ok(documents) => documents,
                Err(errors) => {
                    entry.set(&owner, OwnerState::Invalid, errors);
                    continue;
                }
            };
            if terms.accepted != Some(&owner)
                && let Some(good) = &entry.good
                && let Some(why) = emptied(&owner, &good.sources, &sources)
                    .or_else(|| removes_too_much(&owner, &good.documents, &documents))
            {
                entry.set(&owner, OwnerState::HeldBack, vec![why]);
                continue;
            }
            candidates.insert(owner, (sources, documents));
        }
        candidates
    }

    /// Parses what changed. No reading waits for the same documents twice: their owner may have made them large and wrong
    /// on purpose.
    fn parse(
        &mut self,
        changed: Vec<(Owner, Vec<Source>)>,
        terms: &Terms<'_>,
        parsers: &Parsers,
        again: &mut Option<Duration>,
    ) -> Vec<(Owner, Parsed)> {
        let mut parsed = Vec::with_capacity(changed.len());
        let mut unknown = Vec::new();
        for (owner, sources) in changed {
            let entry = self.entry(&owner);
            match entry.waiting.take().filter(|(known, _)| **known == sources) {
                Some(known) => parsed.push((owner, entry.waiting.insert(known).clone())),
                None => {
                    self.unparsed.insert(owner.clone());
                    unknown.push((owner, sources));
                }
            }
        }
        let (done, left) = parsers.parse(unknown, &self.unsettled, terms.accepted, terms.patience);
        for (owner, waiting) in done {
            self.unparsed.remove(&owner);
            self.entry(&owner).waiting = Some(waiting.clone());
            parsed.push((owner, waiting));
        }
        if left {
            sooner(again, Some(Duration::ZERO));
        }
        parsed
    }

    /// Links; owners whose candidates have errors are put back to what is in force. Linked is only what was not linked
    /// before.
    fn link(&mut self, candidates: Candidates, terms: &Terms<'_>, link: Linker<'_>) -> (Arc<Linked>, Candidates) {
        let base = self.in_force();
        let all = combined(&base, &candidates);
        let fresh = |last: &LastLink| !terms.relink && terms.now.duration_since(last.when) < RELINK;
        let (candidates, refused) = match self.last_link.take().filter(|last| fresh(last) && last.is_of(&all)) {
            // What was good then is in force since.
            Some(last) => {
                let refused = last.refused.clone();
                self.last_link = Some(last);
                (Candidates::new(), refused)
            }
            None => {
                let (linked, candidates, refused) = link_all(&base, candidates, link);
                let (when, known) = (terms.now, refused.clone());
                self.last_link = Some(LastLink { documents: all, linked, refused: known, when });
                (candidates, refused)
            }
        };
        for (owner, errors) in refused {
            self.entry(&owner).set(&owner, OwnerState::Invalid, errors);
        }
        for owner in candidates.keys() {
            self.entry(owner).set(owner, OwnerState::InForce, Vec::new());
        }
        let linked = match &self.last_link {
            Some(last) => last.linked.clone(),
            None => link(&base),
        };
        // Documents that were good until another owner's changed: those that cannot be in force any more are left out
        // and reported.
        for (owner, errors) in &linked.errors {
            if !candidates.contains_key(owner) && self.entry(owner).state == OwnerState::InForce {
                self.entry(owner).set(owner, OwnerState::Invalid, lines(errors));
            }
        }
        (linked, candidates)
    }

    fn entry(&mut self, owner: &Owner) -> &mut Entry {
        self.owners.entry(owner.clone()).or_insert_with(|| Entry::new(None, OwnerState::InForce, Vec::new()))
    }

    fn put_in_force(
        &mut self,
        outcome: &mut Outcome,
        owner: Owner,
        sources: Arc<Vec<Source>>,
        documents: Arc<Documents>,
    ) {
        let entry = self.entry(&owner);
        let revision = entry.good.as_ref().map_or(0, |good| good.revision) + 1;
        if sources.is_empty() && owner != Owner::Operator {
            rarely!(info, %owner, "the owner's documents are gone");
            self.owners.remove(&owner);
            outcome.removed.push(owner);
            return;
        }
        if let Some(left_out) = entry.lines.admit_now() {
            info!(%owner, revision, documents = documents.len(), left_out, "documents in force");
        }
        entry.waiting = None;
        let kept = Vec::clone(&sources);
        entry.good = Some(Good { revision, sources, documents });
        outcome.changed.push(LastGood { owner, revision, sources: kept });
    }
}

impl Entry {
    fn new(good: Option<Good>, state: OwnerState, errors: Vec<String>) -> Self {
        Self { good, waiting: None, state, errors, lines: Arc::default() }
    }

    fn set(&mut self, owner: &Owner, state: OwnerState, errors: Vec<String>) {
        let errors = some(errors);
        if (self.state, &self.errors) != (state, &errors)
            && state != OwnerState::InForce
            && let Some(left_out) = self.lines.admit_now()
        {
            warn!(%owner, left_out, state = state.name(), errors = errors.join(" | "), "the last good documents of this owner stay in force");
        }
        self.state = state;
        self.errors = errors;
    }
}

/// What is in force, with candidates in place of their owners' old documents.
fn combined(base: &AllDocuments, candidates: &Candidates) -> AllDocuments {
    let mut all = base.clone();
    all.extend(candidates.iter().map(|(owner, (_, documents))| (owner.clone(), documents.clone())));
    all
}

/// Links until no candidate has errors. Returns those that are left, and why the others are refused.
fn link_all(
    base: &AllDocuments,
    mut candidates: Candidates,
    link: Linker<'_>,
) -> (Arc<Linked>, Candidates, BTreeMap<Owner, Vec<String>>) {
    let mut refused = Candidates::new();
    let mut reasons = BTreeMap::new();
    let mut linked = loop {
        let linked = link(&combined(base, &candidates));
        let wrong: Vec<Owner> = candidates.keys().filter(|owner| linked.errors.contains_key(owner)).cloned().collect();
        if wrong.is_empty() {
            break linked;
        }
        for owner in wrong {
            if let Some(candidate) = candidates.remove(&owner) {
                reasons
                    .insert(owner.clone(), linked.errors.get(&owner).map(|errors| lines(errors)).unwrap_or_default());
                refused.insert(owner, candidate);
            }
        }
    };
    // Some were refused only because of others that are refused now.
    if refused.len() > 1 {
        for (owner, candidate) in refused.into_iter().take(MAX_RETRIES) {
            let mut with = candidates.clone();
            with.insert(owner.clone(), candidate);
            let again = link(&combined(base, &with));
            if with.keys().all(|owner| !again.errors.contains_key(owner)) {
                candidates = with;
                linked = again;
                reasons.remove(&owner);
            }
        }
    }
    (linked, candidates, reasons)
}

fn count(documents: usize) -> u32 {
    u32::try_from(documents).expect("an owner has at most 20,000 (model/limits.rs)")
}

/// The earlier of two times to look again.
fn sooner(again: &mut Option<Duration>, when: Option<Duration>) {
    *again = match (*again, when) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

/// A file that became empty: more likely its writer has just begun, or the disk is full, than that this is meant. To
/// remove the documents, remove the file.
fn emptied(owner: &Owner, old: &[Source], new: &[Source]) -> Option<String> {
    let blank = |text: &str| text.trim().is_empty();
    let had = |path: &str| old.iter().any(|source| source.path == path && !blank(&source.text));
    let file = new.iter().find(|source| blank(&source.text) && had(&source.path))?;
    Some(format!(
        "{} is empty and was not: is it still being written, or is the disk full? What is on disk is held back; if that \
         is meant, remove the file, or: brattice accept {owner}",
        file.path
    ))
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

#[cfg(test)]
mod tests;
