//! Tasks of one thread that serve connections, and connections that others' tasks use, indexed by the aliases at both ends.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    net::IpAddr,
    rc::{Rc, Weak},
    time::Duration,
};

use brattice_wire::{records::FailureReason, snapshot::AliasGeneration};
use futures_util::FutureExt;
use tokio::task::JoinHandle;

use crate::{auth::CALLER_GONE, events::RequestEvent};

/// Why a task was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// The alias at place 0 was closed: the caller's.
    Caller,
    /// Another alias was closed: the target's.
    Target,
    /// The worker ends.
    Stopped,
}

impl Aborted {
    /// The event for the records of the task's requests.
    pub(crate) fn event(self) -> RequestEvent<'static> {
        match self {
            Self::Caller => CALLER_GONE,
            Self::Target | Self::Stopped => RequestEvent::Failed(self.failure()),
        }
    }

    /// The failure reason of the task's requests.
    pub(crate) fn failure(self) -> FailureReason {
        match self {
            Self::Caller => FailureReason::ClientAccessDenied,
            Self::Target => FailureReason::TargetConnectionClosed,
            Self::Stopped => FailureReason::EngineStopped,
        }
    }
}

/// The aliases, with generations, that a task talks with. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Parties(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    aliases: RefCell<Vec<(IpAddr, AliasGeneration)>>,
    aborted: Cell<Option<Aborted>>,
}

impl Parties {
    /// The task talks with this alias from now on, until another one replaces it at the same place: 0 is the caller,
    /// 1 the present target.
    pub fn set(&self, place: usize, alias: IpAddr, generation: AliasGeneration) {
        let mut parties = self.0.aliases.borrow_mut();
        parties.truncate(place);
        parties.push((alias, generation));
    }

    /// The task talks with this alias as well from now on.
    pub fn add(&self, alias: IpAddr, generation: AliasGeneration) {
        self.0.aliases.borrow_mut().push((alias, generation));
    }

    /// Why tasks of these parties were aborted, if they were.
    pub fn aborted(&self) -> Option<Aborted> {
        self.0.aborted.get()
    }

    /// The place of the first one that is named, with this generation or a later one.
    fn place_of(&self, aliases: &[(IpAddr, AliasGeneration)]) -> Option<usize> {
        self.0.aliases.borrow().iter().position(|(alias, generation)| {
            aliases.iter().any(|(closed, closed_generation)| alias == closed && generation <= closed_generation)
        })
    }
}

/// What is closed with an alias though no task of its own runs for it.
pub trait Close {
    /// Closes it; who waits for something of it is woken.
    fn close(&self);
}

struct Task {
    parties: Parties,
    kind: Kind,
}

enum Kind {
    Running(JoinHandle<()>),
    Held(Weak<dyn Close>),
}

/// Has something closed with an alias, until it is dropped.
pub struct Held(#[allow(dead_code, reason = "takes it out of the table when dropped")] Entry);

/// All tasks of a kind on a thread.
#[derive(Default)]
pub struct Tasks {
    next: Cell<u64>,
    open: RefCell<HashMap<u64, Task>>,
}

/// Takes a task, or what is held, out of the table when it ends.
struct Entry {
    tasks: Rc<Tasks>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tasks.open.borrow_mut().remove(&self.number);
    }
}

impl Tasks {
    /// Runs a task on the thread's `LocalSet`.
    pub fn spawn<F: Future<Output = ()> + 'static>(self: &Rc<Self>, parties: Parties, task: F) {
        let entry = self.entry();
        let number = entry.number;
        // A spawned task first runs after this function, so the table has it before it can end.
        // Not an `async` block, which would hold the task twice: as it came, and as it is waited for.
        let handle = tokio::task::spawn_local(task.map(move |()| drop(entry)));
        self.open.borrow_mut().insert(number, Task { parties, kind: Kind::Running(handle) });
    }

    /// Closes this with its parties' aliases, as a task of theirs would be aborted.
    pub fn hold(self: &Rc<Self>, parties: Parties, what: Weak<dyn Close>) -> Held {
        let entry = self.entry();
        self.open.borrow_mut().insert(entry.number, Task { parties, kind: Kind::Held(what) });
        Held(entry)
    }

    fn entry(self: &Rc<Self>) -> Entry {
        let number = self.next.get();
        self.next.set(number + 1);
        Entry { tasks: Rc::clone(self), number }
    }

    /// How many run.
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Aborts every task that talks with one of these aliases and returns when they, and their sockets, are gone.
    pub async fn close(&self, aliases: &[(IpAddr, AliasGeneration)]) {
        let reason = |parties: &Parties| {
            parties.place_of(aliases).map(|place| if place == 0 { Aborted::Caller } else { Aborted::Target })
        };
        self.abort(reason).await;
    }

    /// Waits until all have ended, at most this long, and aborts what is left.
    pub async fn finish(&self, grace: Duration) {
        let deadline = tokio::time::Instant::now() + grace;
        while !self.is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10).min(grace)).await;
        }
        self.abort(|_| Some(Aborted::Stopped)).await;
    }

    /// Aborts the tasks for which there is a reason.
    async fn abort(&self, reason: impl Fn(&Parties) -> Option<Aborted>) {
        let aborted: Vec<Task> = {
            let mut open = self.open.borrow_mut();
            let noted = |parties: &Parties| {
                let reason = reason(parties);
                parties.0.aborted.set(parties.aborted().or(reason));
                reason.is_some()
            };
            let numbers: Vec<u64> =
                open.iter().filter(|(_, task)| noted(&task.parties)).map(|(number, _)| *number).collect();
            numbers.iter().filter_map(|number| open.remove(number)).collect()
        };
        for task in &aborted {
            match &task.kind {
                Kind::Running(handle) => handle.abort(),
                Kind::Held(what) => {
                    if let Some(what) = what.upgrade() {
                        what.close();
                    }
                }
            }
        }
        for task in aborted {
            if let Kind::Running(handle) = task.kind {
                // Cancelled or ended meanwhile; a panic is reported by the thread's hook.
                let _ = handle.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_named_generations_are_closed() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let tasks = Rc::new(Tasks::default());
                let alias: IpAddr = "100.127.0.1".parse().unwrap();
                let target: IpAddr = "100.127.0.2".parse().unwrap();
                let old = Parties::default();
                old.set(0, alias, AliasGeneration::new(1));
                let new = Parties::default();
                new.set(0, alias, AliasGeneration::new(2));
                let with_target = Parties::default();
                with_target.set(0, "100.127.0.9".parse().unwrap(), AliasGeneration::new(1));
                with_target.set(1, target, AliasGeneration::new(1));
                for parties in [&old, &new, &with_target] {
                    tasks.spawn(parties.clone(), std::future::pending());
                }
                let aborted = || [&old, &new, &with_target].map(Parties::aborted);
                tasks.close(&[(alias, AliasGeneration::new(1))]).await;
                assert_eq!((tasks.len(), aborted()), (2, [Some(Aborted::Caller), None, None]));
                tasks.close(&[(target, AliasGeneration::new(7))]).await;
                assert_eq!((tasks.len(), aborted()), (1, [Some(Aborted::Caller), None, Some(Aborted::Target)]));
                tasks.spawn(Parties::default(), async {});
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert_eq!(tasks.len(), 1, "ended tasks leave the table");
                tasks.finish(Duration::from_millis(20)).await;
                assert!(tasks.is_empty());
                assert_eq!(aborted()[..2], [Some(Aborted::Caller), Some(Aborted::Stopped)]);
            })
            .await;
    }
}
