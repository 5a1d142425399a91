//! Keeps one engine running and fed.
//!
//! A new engine gets the same sockets as the one before, so that what waits to be accepted is not lost. When none has
//! applied a snapshot [`GRACE`] after the old one's end, the kernel's slots are emptied and what waits is reset: clients
//! are told at once instead of being left hanging.
//!
//! An engine that fails again and again stays down ([`failures`]): what waits is reset at once, and so is everything new,
//! until the documents change or an operator restarts it. A new binary comes with a new agent, which starts afresh.

mod calling;
pub mod failures;
mod greeting;
mod memory;
mod messages;
mod restarting;
mod telling;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use brattice_wire::engine::{AccessLog, Stats, ToEngine};
use brattice_wire::records::NodeMetrics;
use brattice_wire::snapshot::Snapshot;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::handle::{Client, Event, Handle, Order, Supervision, View};
use super::link::{LinkError, Received};
use super::outputs::{Metrics, open_log};
use super::process::{Process, Record};
use super::sockets::{Slots, Sockets};
use calling::Calls;
use failures::{FAILURE_WINDOW, Failures, MAX_FAILURES, Next};
use greeting::{Greeting, Origin, Unstarted};
use memory::Kills;

/// From an engine's death until clients are reset instead of kept waiting.
pub const GRACE: Duration = Duration::from_millis(100);
/// How long the running engine of an earlier agent is called, before it is replaced.
pub const ADOPTION: Duration = Duration::from_secs(2);
/// How long a new engine has from its start to its first `Applied`.
pub const START: Duration = Duration::from_secs(20);
/// A worker whose heartbeat is older is stuck, and the engine is replaced ...
pub const STUCK: Duration = Duration::from_secs(10);
/// ... if it is so at this many looks in a row, [`HEARTBEAT`] apart: after the machine slept every heartbeat is old.
pub const STUCK_LOOKS: u32 = 4;
/// How often it is looked whether the engine lives.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// An engine that has not answered for so long cannot be told anything, and is replaced. Longer than it may take to put a
/// snapshot in force, as it answers in turn.
pub const UNANSWERED: Duration = Duration::from_secs(30);
/// After a start that did not succeed at all, the next one waits this long at least.
const CANNOT_START_PAUSE: Duration = Duration::from_millis(100);
/// An engine that served this long did not crash at its start.
pub const STABLE: Duration = Duration::from_secs(1);
/// Most messages an engine may send in a second.
pub const MAX_MESSAGES_PER_SECOND: u32 = 2_000;
/// Most frames that wait for an engine that does not read.
pub const MAX_WAITING_FRAMES: usize = 64;
/// Greetings that wait to be looked at; there are never more than two.
const MAX_GREETINGS: usize = 4;

/// Starts supervising.
///
/// # Errors
/// When the access log cannot be opened.
pub fn start(supervision: Supervision, slots: Arc<dyn Slots>) -> std::io::Result<Handle> {
    let (orders, orders_in) = mpsc::channel(256);
    let (events_out, events) = mpsc::channel(256);
    let (view_out, view) = watch::channel(View { state: "starting", ..View::default() });
    let (incoming_out, incoming) = mpsc::channel(64);
    let (greetings_out, greetings) = mpsc::channel(MAX_GREETINGS);
    let log = open_log(&supervision.access_log, supervision.access_log_sample)?;
    let adoption = Record::read(&supervision.record).is_some_and(|record| record.running(supervision.uid).is_some())
        || slots.cookie(brattice_abi::SLOT_HTTP).is_some();
    let supervisor = Supervisor {
        adoption: adoption.then(|| Instant::now() + ADOPTION),
        log,
        metrics: Metrics::new(supervision.metrics.clone(), supervision.gid),
        metrics_given: false,
        metrics_tried: None,
        numbers: None,
        supervision,
        slots,
        calls: Calls::new(adoption),
        unstarted: None,
        sockets: None,
        process: None,
        link: None,
        links: 0,
        latest: None,
        applied: 0,
        sent: 0,
        refused: 0,
        adopted: 0,
        down_since: None,
        emptied: false,
        closes: BTreeMap::new(),
        token: 0,
        failures: Failures::default(),
        kills: Kills::default(),
        start_at: Some(Instant::now()),
        restarting: None,
        killed: false,
        overdue: 0,
        stats: Vec::new(),
        stopping: None,
        messages: (Instant::now(), 0),
        events: events_out,
        view: view_out,
        incoming_out,
        greetings_out,
    };
    tokio::spawn(supervisor.run(orders_in, incoming, greetings));
    Ok(Handle { client: Client { orders, view }, events })
}

type Incoming = (u64, Result<Received, LinkError>);

/// A message with what travels with it.
type Frame = (Vec<u8>, Vec<OwnedFd>);

/// An established connection.
struct Link {
    number: u64,
    frames: mpsc::Sender<Frame>,
    tasks: [tokio::task::AbortHandle; 2],
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Supervisor {
    supervision: Supervision,
    slots: Arc<dyn Slots>,
    calls: Calls,
    unstarted: Option<Unstarted>,
    sockets: Option<Sockets>,
    process: Option<Process>,
    link: Option<Link>,
    links: u64,
    /// What a new engine is given.
    latest: Option<Arc<Snapshot>>,
    applied: u64,
    sent: u64,
    refused: u64,
    /// What the engine served when it was taken over from an earlier agent.
    adopted: u64,
    /// Until when an engine of an earlier agent may still answer.
    adoption: Option<Instant>,
    /// Since when no engine serves; `None` while one does.
    down_since: Option<Instant>,
    /// Whether the slots were emptied since.
    emptied: bool,
    closes: BTreeMap<u64, Vec<(IpAddr, u32)>>,
    token: u64,
    failures: Failures,
    kills: Kills,
    /// When the next engine is started; `None`: not until somebody asks for it.
    start_at: Option<Instant>,
    /// An operator replaces the engine: when it is ended if it has not finished by then.
    restarting: Option<Instant>,
    killed: bool,
    /// Looks in a row at which a heartbeat was overdue.
    overdue: u32,
    stats: Vec<oneshot::Sender<Option<Stats>>>,
    stopping: Option<(Instant, oneshot::Sender<()>)>,
    messages: (Instant, u32),
    /// The access log as it is open now, for engines to come.
    log: Option<(AccessLog, OwnedFd)>,
    metrics: Metrics,
    /// The connected engine has the metrics' socket.
    metrics_given: bool,
    /// When the metrics' socket could not be made last.
    metrics_tried: Option<Instant>,
    numbers: Option<Box<NodeMetrics>>,
    events: mpsc::Sender<Event>,
    view: watch::Sender<View>,
    incoming_out: mpsc::Sender<Incoming>,
    greetings_out: mpsc::Sender<Greeting>,
}

impl Supervisor {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut incoming: mpsc::Receiver<Incoming>,
        mut greetings: mpsc::Receiver<Greeting>,
    ) {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let deadline = self.deadline();
            tokio::select! {
                ended = ended(&mut self.process) => self.died(&ended).await,
                Some(greeting) = greetings.recv() => self.greeted(greeting),
                Some((number, received)) = incoming.recv() => {
                    if self.link.as_ref().is_some_and(|link| link.number == number) {
                        self.received(received).await;
                    }
                }
                order = orders.recv() => match order {
                    Some(order) => self.ordered(order).await,
                    // The agent ends; the engine serves on.
                    None => return,
                },
                _ = heartbeat.tick() => {
                    self.check_heartbeat();
                    self.check_link();
                    self.forgive();
                    self.give_metrics();
                }
                () = sleep_until(deadline) => self.due(),
            }
            if self.stopping.is_some() && self.process.is_none() {
                if let Some((_, done)) = self.stopping.take() {
                    let _ = done.send(());
                }
                return;
            }
            self.show();
        }
    }

    /// When something is due next.
    fn deadline(&self) -> Instant {
        let mut deadlines = vec![Instant::now() + Duration::from_secs(3600)];
        deadlines.extend(self.stopping.as_ref().map(|(at, _)| *at));
        deadlines.extend(self.restarting.filter(|_| !self.killed));
        deadlines.extend(self.calls.deadline());
        deadlines.extend(self.start_again_at());
        match &self.process {
            None => deadlines.extend(self.adoption.or(self.start_at)),
            Some(process) if self.applied == 0 && self.latest.is_some() => deadlines.push(process.since + START),
            Some(_) => {}
        }
        if let Some(since) = self.down_since {
            // While down, what completes its handshake late is reset, too.
            deadlines.push(if self.emptied { Instant::now() + GRACE } else { since + GRACE });
        }
        deadlines.into_iter().min().unwrap_or_else(Instant::now)
    }

    fn due(&mut self) {
        let now = Instant::now();
        if let Some(since) = self.down_since
            && now >= since + GRACE
        {
            self.empty();
        }
        if self.stopping.as_ref().is_some_and(|(at, _)| now >= *at)
            && let Some(process) = &self.process
        {
            process.kill();
            return;
        }
        if self.restarting.is_some_and(|at| now >= at) {
            self.kill("it is restarted, and did not finish in time");
        }
        self.call_when_due(now);
        self.start_again(now);
        match &self.process {
            Some(process) if self.applied == 0 && self.latest.is_some() && now >= process.since + START => {
                self.kill("it did not apply a snapshot in time");
            }
            Some(_) => {}
            None => {
                if self.adoption.is_some_and(|until| now >= until) {
                    self.adoption = None;
                    self.abandon();
                }
                if self.adoption.is_none() && self.start_at.is_some_and(|at| now >= at) && self.stopping.is_none() {
                    self.spawn();
                }
            }
        }
    }

    /// An earlier agent's engine did not answer: it ends, so that its addresses and sockets are free.
    fn abandon(&self) {
        if let Some(process) = Record::read(&self.supervision.record).and_then(|r| r.running(self.supervision.uid)) {
            warn!(pid = process.pid, "the engine of an earlier agent does not answer; it is replaced");
            process.kill();
        }
    }

    fn spawn(&mut self) {
        if self.sockets.is_none() {
            match self.slots.sockets() {
                Ok(sockets) => self.sockets = Some(sockets),
                Err(e) => return self.cannot_start(&format!("its sockets cannot be made: {e}")),
            }
        }
        let started = UnixStream::pair().and_then(|(ours, its)| {
            let its = its.into_std()?;
            // Its own end: what it does with it is its affair.
            its.set_nonblocking(false)?;
            Ok((ours, Process::start(&self.supervision.program, &self.supervision.arguments, OwnedFd::from(its))?))
        });
        match started {
            Ok((link, process)) => {
                info!(pid = process.pid, "engine started");
                self.greet(link, Origin::Started(process.pid));
                self.took(process);
            }
            Err(e) => self.cannot_start(&format!("{} cannot be started: {e}", self.supervision.program.display())),
        }
    }

    fn cannot_start(&mut self, why: &str) {
        error!("the engine cannot start: {why}");
        self.view.send_modify(|view| view.last_error = Some(why.to_owned()));
        let next = match self.failures.count(Instant::now(), false) {
            // Trying at once would meet the same obstacle.
            Next::After(pause) => Next::After(pause.max(CANNOT_START_PAUSE)),
            stay => stay,
        };
        self.after_failure(next, why);
    }

    fn took(&mut self, process: Process) {
        if let Some(record) = process.record()
            && let Err(e) = crate::state::write_json(&self.supervision.record, &record)
        {
            warn!(error = %e, "the engine's process cannot be recorded; a later agent will wait for it in vain");
        }
        self.kills.watch(process.pid, self.supervision.oom_events.as_deref());
        self.process = Some(process);
        self.killed = false;
        self.applied = 0;
        self.sent = 0;
        self.refused = 0;
        self.adopted = 0;
    }

    /// Ends an engine that misbehaves; its death is then handled like any other.
    fn kill(&mut self, why: &str) {
        self.link = None;
        if let Some(process) = &self.process
            && !self.killed
        {
            warn!(pid = process.pid, "the engine is replaced: {why}");
            self.view.send_modify(|view| view.last_error = Some(why.to_owned()));
            process.kill();
            self.killed = true;
        }
    }

    async fn died(&mut self, how: &str) {
        let Some(process) = self.process.take() else { return };
        self.link = None;
        self.calls = Calls::default();
        self.unstarted = None;
        for waiting in self.stats.drain(..) {
            let _ = waiting.send(None);
        }
        let now = Instant::now();
        if self.down_since.is_none() {
            self.down_since = Some(now);
        }
        let stable = process.since.elapsed() >= STABLE && self.applied > 0;
        self.applied = 0;
        if self.stopping.is_some() {
            self.empty();
        } else {
            self.view.send_modify(|view| view.restarts += 1);
            if self.restarting.take().is_some() {
                info!(pid = process.pid, how, "the engine ended; its successor is started");
                self.start_at = Some(now);
                self.spawn();
            } else if !self.died_for_memory(how, stable) {
                let why = format!("it ended: {how}");
                if !self.killed {
                    self.view.send_modify(|view| view.last_error = Some(why.clone()));
                }
                let why = self.view.borrow().last_error.clone().unwrap_or(why);
                let next = self.failures.count(now, stable);
                warn!(pid = process.pid, how, failures = self.failures.in_a_row(), "the engine ended");
                self.after_failure(next, &why);
            }
        }
        // A dead process has no connections.
        for (_, aliases) in std::mem::take(&mut self.closes) {
            let _ = self.events.send(Event::Closed(aliases)).await;
        }
        let _ = self.events.send(Event::Down).await;
    }

    /// Another start, or none.
    fn after_failure(&mut self, next: Next, why: &str) {
        match next {
            Next::After(pause) => {
                self.start_at = Some(Instant::now() + pause);
                if pause.is_zero() {
                    self.spawn();
                }
            }
            Next::StayDown => {
                self.start_at = None;
                let why = format!(
                    "it failed {MAX_FAILURES} times within {} s and stays down, latest: {why}",
                    FAILURE_WINDOW.as_secs()
                );
                error!("the engine: {why}. `brattice engine restart` or a change of the documents starts it again");
                self.view.send_modify(|view| view.given_up = Some(why));
                // Nobody will come: clients are told now.
                self.down_since.get_or_insert_with(Instant::now);
                self.empty();
            }
        }
    }

    /// Empties the slots and resets what waits.
    fn empty(&mut self) {
        let Some(sockets) = &self.sockets else { return };
        if !self.emptied {
            warn!("no engine serves: new connections are reset until one does");
            for (slot, _) in sockets.slots() {
                if let Err(e) = self.slots.clear(slot) {
                    error!(slot, "the slot cannot be emptied: {e}");
                }
            }
            self.emptied = true;
        }
        let reset = sockets.drain();
        if reset > 0 {
            self.view.send_modify(|view| view.reset += reset as u64);
        }
    }

    /// The engine serves: its sockets go into the slots, if they are not there.
    fn fill(&mut self) {
        let Some(sockets) = &self.sockets else { return };
        for (slot, socket) in sockets.slots() {
            let there = self.slots.cookie(slot);
            if there.is_some() && there == rustix::net::sockopt::socket_cookie(socket).ok() {
                continue;
            }
            if let Err(e) = self.slots.set(slot, socket) {
                error!(slot, "the slot cannot be filled: {e}");
            }
        }
        self.down_since = None;
        self.emptied = false;
    }

    async fn ordered(&mut self, order: Order) {
        match order {
            Order::Snapshot(snapshot) => {
                self.latest = Some(snapshot.clone());
                self.tell_snapshot(&snapshot);
            }
            Order::Close(aliases) => {
                if self.process.is_none() && self.adoption.is_none() {
                    let _ = self.events.send(Event::Closed(aliases)).await;
                    return;
                }
                self.token += 1;
                let token = self.token;
                self.closes.insert(token, aliases.clone());
                self.tell(&ToEngine::CloseAliases { token, aliases });
            }
            Order::Stats(answer) => {
                if self.link.is_none() || self.applied == 0 || self.stats.len() >= MAX_WAITING_FRAMES {
                    let _ = answer.send(None);
                } else {
                    if self.stats.is_empty() {
                        self.tell(&ToEngine::Stats);
                    }
                    self.stats.push(answer);
                }
            }
            Order::Attend(query, connection, taken) => {
                let _ = taken.send(self.attend(query, connection));
            }
            Order::NodeMetrics(numbers) => {
                self.tell(&ToEngine::NodeMetrics(numbers.clone()));
                self.numbers = Some(numbers);
            }
            Order::Reopen => self.reopen(),
            Order::Revive => self.revive("the documents changed"),
            Order::Restart { grace, begun } => {
                self.restart(grace);
                let _ = begun.send(());
            }
            Order::Stop { grace, done } => {
                self.adoption = None;
                self.tell(&ToEngine::Shutdown { grace_ms: grace_ms(grace) });
                self.stopping = Some((Instant::now() + grace + Duration::from_millis(500), done));
            }
        }
    }

    fn check_heartbeat(&mut self) {
        if self.applied == 0 || self.process.is_none() {
            return;
        }
        let states = self.slots.worker_states(self.supervision.settings.workers);
        // An engine has had time for its first beat.
        let young = self.process.as_ref().is_some_and(|process| process.since.elapsed() < self.supervision.stuck);
        let overdue = !young && oldest_heartbeat(&states).is_some_and(|age| age > self.supervision.stuck);
        self.overdue = if overdue { self.overdue + 1 } else { 0 };
        if self.overdue >= STUCK_LOOKS {
            self.overdue = 0;
            self.kill("a worker is stuck: its heartbeat is overdue");
        }
    }

    fn show(&self) {
        let state = match (&self.process, self.down_since) {
            (Some(_), None) if self.applied > 0 => "running",
            (Some(_), _) => "starting",
            (None, _) if self.adoption.is_some() => "starting",
            (None, _) => "down",
        };
        let pid = self.process.as_ref().map(|process| process.pid);
        self.view.send_if_modified(|view| {
            let before = view.clone();
            view.state = state;
            view.pid = pid;
            view.revision = self.applied;
            *view != before
        });
    }
}

/// Time for requests in flight, as the engine is told it.
fn grace_ms(grace: Duration) -> u32 {
    u32::try_from(grace.as_millis()).expect("it is a constant of a few seconds")
}

async fn ended(process: &mut Option<Process>) -> String {
    match process {
        Some(process) => process.ended().await,
        None => std::future::pending().await,
    }
}

/// Age of the oldest heartbeat; `None` without workers.
pub fn oldest_heartbeat(states: &[brattice_abi::WorkerState]) -> Option<Duration> {
    let now = crate::clock::boottime_ns();
    states.iter().map(|state| Duration::from_nanos(now.saturating_sub(state.heartbeat_ns))).max()
}

#[cfg(test)]
mod tests;
