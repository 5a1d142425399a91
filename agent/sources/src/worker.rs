//! One thread that follows a source: reads it when it changes, has parsed what is new, links what may come into force,
//! keeps that for the next start, and hands the model on. The receiver never waits for documents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use brattice_model::{Ipv6Pools, Linked, Owner, VipState};
use brattice_wire::api::{Answer, ErrorCode, OwnerView};
use ipnet::Ipv4Net;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::linking::Linking;
use crate::owners::{AllDocuments, LastGood, Owners, Terms};
use crate::parsers::Parsers;
use crate::source::{Changes as _, DocumentSource};

/// What is parsed within this time is taken in together; what is left then comes later, so that others' changes do not wait.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// At the start, files that were changed just now are waited for this long at most.
const START_PATIENCE: Duration = Duration::from_secs(1);
/// What the disk refused, or a reading that failed, is tried again after this.
pub const RETRY: Duration = Duration::from_secs(5);
/// Most findings that are logged at once.
const MAX_WARNINGS: usize = 256;
/// Orders that wait; each is an operator's.
const MAX_ORDERS: usize = 64;
/// Where documents in force are kept for the next start.
pub trait Store: Send + 'static {
    /// Keeps an owner's documents.
    ///
    /// # Errors
    /// Why it cannot, in a sentence for people.
    fn keep(&self, good: &LastGood) -> Result<(), String>;

    /// Forgets an owner.
    ///
    /// # Errors
    /// Why it cannot, in a sentence for people.
    fn forget(&self, owner: &Owner) -> Result<(), String>;
}

/// What linking needs besides documents.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Suffix of generated names.
    pub dns_suffix: String,
    /// VIP range.
    pub vip: Ipv4Net,
    /// Alias range.
    pub alias: Ipv4Net,
    /// The ranges of IPv6, and whether the host does it now.
    pub ipv6: Option<Ipv6Pools>,
    /// The VIPs as they were.
    pub vips: VipState,
}

/// What became of a reading.
#[derive(Debug)]
pub struct Update {
    /// What is in force, linked; the same `Arc` as before if nothing changed.
    pub linked: Arc<Linked>,
    /// Every owner's state.
    pub owners: Arc<BTreeMap<String, OwnerView>>,
    /// Whether other documents are in force than before.
    pub changed: bool,
    /// Why documents in force are not kept for the next start; a line per owner.
    pub unkept: Vec<String>,
    /// An operator's order that this carries out: to be answered when the model is in force.
    pub accepted: Option<Accepted>,
}

/// The answer to `brattice accept`.
#[derive(Debug)]
pub struct Accepted {
    answer: Answer,
    to: oneshot::Sender<Answer>,
}

impl Accepted {
    /// Tells it.
    pub fn tell(self) {
        let _ = self.to.send(self.answer);
    }
}

#[derive(Debug)]
enum Order {
    Accept(Owner, oneshot::Sender<Answer>),
    Ipv6(bool),
}

/// The way to the worker. It ends when all of these are gone.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Order>);

impl Handle {
    /// Has an owner's change accepted. Returns when it is in force, or why it is not.
    pub async fn accept(&self, owner: Owner) -> Answer {
        let (to, answer) = oneshot::channel();
        let ending = || Answer::Error { code: ErrorCode::Failed, message: "the agent is ending".to_owned() };
        match self.0.send(Order::Accept(owner, to)).await {
            Ok(()) => answer.await.unwrap_or_else(|_| ending()),
            Err(_) => ending(),
        }
    }

    /// The host does IPv6 from now on, or does not any more: services get or lose their IPv6 VIPs.
    pub async fn ipv6(&self, on: bool) {
        let _ = self.0.send(Order::Ipv6(on)).await;
    }
}

/// Starts following a source; the first update comes when it was read once and what was just being written has settled.
///
/// # Errors
/// When no thread can be started.
pub fn start<S: DocumentSource, K: Store>(
    source: S,
    store: K,
    owners: Owners,
    settings: LinkSettings,
) -> std::io::Result<(Handle, mpsc::Receiver<Update>)> {
    start_with_patience(source, store, owners, settings, PATIENCE)
}

fn start_with_patience<S: DocumentSource, K: Store>(
    source: S,
    store: K,
    owners: Owners,
    settings: LinkSettings,
    patience: Duration,
) -> std::io::Result<(Handle, mpsc::Receiver<Update>)> {
    let (orders_out, orders) = mpsc::channel(MAX_ORDERS);
    // One at a time: what is read next starts from what was taken.
    let (updates, updates_in) = mpsc::channel(1);
    let reader = Reader {
        source,
        store,
        owners,
        settings,
        patience,
        parsers: Parsers::new(),
        unkept: BTreeMap::new(),
        warnings: BTreeSet::new(),
        relink: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("documents".to_owned()).spawn(move || {
        runtime.block_on(follow(reader, orders, updates));
    })?;
    Ok((Handle(orders_out), updates_in))
}

/// Reads whenever something changes, until the receiver of updates is gone.
async fn follow<S: DocumentSource, K: Store>(
    mut reader: Reader<S, K>,
    mut orders: mpsc::Receiver<Order>,
    updates: mpsc::Sender<Update>,
) {
    let mut changes = reader.source.changes();
    // A failed first reading must not start an agent without documents.
    let Some(mut due) = first(&mut reader, &updates).await else { return };
    let mut accepts: VecDeque<(Owner, oneshot::Sender<Answer>)> = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Accept(owner, to)) => match reader.unknown(&owner) {
                    Some(answer) => drop(to.send(answer)),
                    None => accepts.push_back((owner, to)),
                },
                Some(Order::Ipv6(on)) => {
                    if let Some(pools) = &mut reader.settings.ipv6 {
                        pools.on = on;
                    }
                    reader.relink = true;
                    due = Some(Instant::now());
                }
                None => return,
            },
            () = changes.next() => due = Some(Instant::now()),
            () = at(due) => {}
        }
        if due.is_none_or(|due| due > Instant::now()) && accepts.is_empty() {
            continue;
        }
        let accepting = accepts.pop_front();
        let owner = accepting.as_ref().map(|(owner, _)| owner.clone());
        let in_force = owner.as_ref().and_then(|owner| reader.in_force(owner));
        let Some((update, again)) = reader.read(owner.as_ref(), Some(reader.patience)) else {
            due = Some(Instant::now() + RETRY);
            if let Some((_, to)) = accepting {
                let message = "reading the documents failed, so nothing was accepted; the agent's log says why";
                let _ = to.send(Answer::Error { code: ErrorCode::Failed, message: message.to_owned() });
            }
            continue;
        };
        let accepted = match accepting {
            // Nothing is known of them yet: the order is carried out by the reading that has them.
            Some(waiting) if reader.owners.is_being_parsed(&waiting.0) => {
                accepts.push_back(waiting);
                None
            }
            Some((owner, to)) => Some(Accepted { answer: reader.accepted(&owner, in_force), to }),
            None => None,
        };
        if updates.send(Update { accepted, ..update }).await.is_err() {
            return;
        }
        let next = if accepts.is_empty() { again } else { Some(Duration::ZERO) };
        due = next.map(|next| Instant::now() + next);
    }
}

/// The first reading: all is parsed, and files that were changed just now are waited for. Returns when to read again; the
/// outer none: it failed.
async fn first<S: DocumentSource, K: Store>(
    reader: &mut Reader<S, K>,
    updates: &mpsc::Sender<Update>,
) -> Option<Option<Instant>> {
    let start = Instant::now();
    let mut changed = false;
    loop {
        let (update, again) = reader.read(None, None)?;
        changed |= update.changed;
        match again {
            Some(again) if start.elapsed() + again <= START_PATIENCE => tokio::time::sleep(again).await,
            _ => {
                let _ = updates.send(Update { changed, ..update }).await;
                return Some(again.map(|again| Instant::now() + again));
            }
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// What reading starts from, and leads to.
struct Reader<S, K> {
    source: S,
    store: K,
    owners: Owners,
    settings: LinkSettings,
    /// What is parsed within this time is taken in together.
    patience: Duration,
    parsers: Parsers,
    /// Documents in force that the store does not have yet; none: it is to forget them.
    unkept: BTreeMap<Owner, Option<LastGood>>,
    /// Findings that do not keep documents from coming into force, as logged.
    warnings: BTreeSet<String>,
    /// Linking depends on something that has changed.
    relink: bool,
}

impl<S: DocumentSource, K: Store> Reader<S, K> {
    /// Reads the source, and handles its content. Returns when to read again without a change. None: that failed, and all
    /// is as it was.
    fn read(&mut self, accepted: Option<&Owner>, patience: Option<Duration>) -> Option<(Update, Option<Duration>)> {
        let mut owners = self.owners.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let terms = Terms { relink: self.relink, ..Terms::now(accepted, patience) };
            let settings = &self.settings;
            let linking = Linking {
                vips: &settings.vips,
                dns_suffix: &settings.dns_suffix,
                vip: settings.vip,
                alias: settings.alias,
                ipv6: settings.ipv6,
            };
            let mut link = |documents: &AllDocuments| Arc::new(linking.link(documents));
            owners.apply(self.source.read(), &terms, &self.parsers, &mut link)
        }));
        let Ok(outcome) = outcome else {
            error!("reading the documents failed, which is a fault of Brattice; those in force stay");
            return None;
        };
        self.owners = owners;
        self.relink = false;
        self.settings.vips = outcome.linked.vips.clone();
        self.warn(&outcome.linked);
        let changed = !outcome.changed.is_empty() || !outcome.removed.is_empty();
        self.unkept.extend(outcome.changed.into_iter().map(|good| (good.owner.clone(), Some(good))));
        self.unkept.extend(outcome.removed.into_iter().map(|owner| (owner, None)));
        // Before it is published.
        let unkept = self.keep();
        self.source.report(&self.owners.status());
        let owners = self.owners.views();
        let again =
            if unkept.is_empty() { outcome.again } else { Some(outcome.again.map_or(RETRY, |again| again.min(RETRY))) };
        Some((Update { linked: outcome.linked, owners: owners.into(), changed, unkept, accepted: None }, again))
    }

    /// Keeps what is in force now; what the store refuses is tried again.
    fn keep(&mut self) -> Vec<String> {
        let mut refused = Vec::new();
        let store = &self.store;
        self.unkept.retain(|owner, good| {
            let kept = match good {
                Some(good) => store.keep(good),
                None => store.forget(owner),
            };
            if let Err(why) = &kept {
                error!(%owner, why, "the owner's last good documents cannot be kept; a restart now would bring back the ones before");
                refused.push(format!("the state directory does not keep the documents of {owner}: {why}"));
            }
            kept.is_err()
        });
        refused
    }

    /// Logs findings that are new.
    fn warn(&mut self, linked: &Linked) {
        let findings = linked.warnings.values().flatten();
        let now: BTreeSet<String> = findings.map(ToString::to_string).take(MAX_WARNINGS).collect();
        for warning in now.difference(&self.warnings) {
            warn!("in force, but not as written: {warning}");
        }
        self.warnings = now;
    }

    fn unknown(&self, owner: &Owner) -> Option<Answer> {
        if self.owners.is_known(owner) {
            return None;
        }
        let known: Vec<String> = self.owners.views().into_keys().collect();
        let message = format!("there is no owner {owner}; there are {}", known.join(", "));
        Some(Answer::Error { code: ErrorCode::NotFound, message })
    }

    /// An owner's revision, if all of its documents are in force.
    fn in_force(&self, owner: &Owner) -> Option<u64> {
        let view = self.owners.views().remove(&owner.to_string())?;
        (view.state == "in-force").then_some(view.revision)
    }

    /// The message for the operator; `before`: see [`Self::in_force`].
    fn accepted(&self, owner: &Owner, before: Option<u64>) -> Answer {
        match self.owners.views().remove(&owner.to_string()) {
            None => Answer::Done { message: format!("accepted: {owner} has no documents any more") },
            Some(view) if view.state == "in-force" && before == Some(view.revision) => Answer::Done {
                message: format!("nothing of {owner} is held back: revision {} stays in force", view.revision),
            },
            Some(view) if view.state == "in-force" => {
                Answer::Done { message: format!("accepted: revision {} of {owner} is in force", view.revision) }
            }
            Some(view) => Answer::Error {
                code: ErrorCode::Failed,
                message: format!("{owner} is {}: {}", view.state, view.errors.join("; ")),
            },
        }
    }
}

#[cfg(test)]
mod tests;
