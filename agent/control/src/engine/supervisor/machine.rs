//! What supervision decides. Pure: an input and the time lead to another state and to actions. [`super::Supervisor`] carries
//! the actions out; their results are the next inputs.

mod calling;
mod ending;

use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::failures::{FAILURE_WINDOW, Failures, MAX_FAILURES, Next};
use super::memory::Budget;
use super::times::{CANNOT_START_PAUSE, DOOR_RETRY, GRACE, LATE, RELINK, START, STUCK_LOOKS};
use crate::engine::handle::{Event, View};

/// The state of the engine, and what follows from it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// An engine of an earlier agent may run. It is called until then, and replaced if it does not answer.
    Adopting {
        until: Instant,
        /// The next call.
        call_at: Instant,
        /// The agent ends, and the engine with it: requests in flight have this time. None: the agent does not end.
        stop: Option<Duration>,
    },
    /// No engine runs; the next one is started then.
    Stopped { until: Instant },
    /// No engine runs, as it failed too often: none is started until the documents change or an operator asks for it.
    GivenUp { why: String },
    /// An engine runs that has no snapshot in force.
    Starting(Engine),
    /// An engine runs that has a snapshot in force.
    Running(Engine),
    /// An operator replaces the engine: it finishes what is in flight. It is killed then; `None`: it was.
    HandingOver { old: Engine, kill_at: Option<Instant> },
    /// The engine was killed, and has not ended yet.
    Failing(Engine),
    /// The agent stops the engine for good, which finishes what is in flight. It is killed then; `None`: it was.
    Draining { engine: Engine, kill_at: Option<Instant> },
    /// The engine was stopped. Nothing follows.
    Ended,
}

/// An engine that runs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Engine {
    pid: u32,
    /// When it was started or taken over.
    since: Instant,
    link: Link,
    /// Revision of the snapshot in force; 0: none.
    applied: u64,
    /// Highest revision it was sent.
    sent: u64,
    /// Highest revision it refused.
    refused: u64,
    /// What it had in force when it was taken over. An earlier agent may have given this and lower numbers to other
    /// snapshots, and an engine takes equal numbers for equal snapshots: these are not sent.
    adopted: u64,
    /// Looks in a row at which a worker's heartbeat was overdue.
    overdue: u32,
}

/// The connection to an engine that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It was started, and has not said hello.
    Greeting,
    /// It said hello. Its start failed for lack of its socket, and is tried again then.
    Waiting { again: Instant },
    /// It is connected.
    Up {
        /// Looks since the last ping or its answer.
        looks: u32,
        /// A ping is not answered yet.
        awaited: bool,
    },
    /// The connection is lost; the engine is called.
    Lost { since: Instant, call_at: Instant },
    /// Closed for good.
    Closed,
}

/// What happens to clients' connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    /// An engine serves them, or none has served yet.
    Served,
    /// They wait for a successor, for [`GRACE`].
    Waiting { since: Instant },
    /// They are reset; those that complete their handshake late are reset then.
    Reset { next: Instant },
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    /// [`Machine::deadline`] has come.
    Due,
    /// A regular look; with the age of the oldest worker's heartbeat.
    Look { oldest: Option<Duration> },
    /// [`Action::Spawn`] succeeded.
    Started { pid: u32 },
    /// [`Action::Spawn`] failed.
    CannotStart { why: String },
    /// The started engine said hello.
    Hello,
    /// [`Action::Begin`] succeeded: the engine is connected.
    Begun,
    /// [`Action::Begin`] failed.
    CannotBegin { why: String },
    /// The connection is gone.
    LinkLost,
    /// The engine did what no engine does, or cannot be sent anything.
    Misbehaved { why: String },
    /// The result of [`Action::Call`].
    Called(Answer),
    /// [`Action::TakeOver`] succeeded.
    TakenOver { pid: u32, shown: Shown },
    /// [`Action::Relink`] was carried out.
    Relinked(Shown),
    /// The engine says that a snapshot is in force.
    Applied { revision: u64 },
    /// The engine says that it refuses a snapshot.
    Refused { revision: u64, reason: String },
    /// The engine answered a ping.
    Pong,
    /// The process has ended.
    Exited { how: String, for_memory: bool },
    /// There is another snapshot.
    Snapshot { revision: u64 },
    /// The documents changed.
    Revive,
    /// An operator wants another engine; requests in flight have this time.
    Restart { grace: Duration },
    /// The agent ends, and the engine with it.
    Stop { grace: Duration },
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// No process listens. `running`: the recorded process is there nevertheless.
    NoListener { running: bool },
    /// No answer, or not the engine's.
    Unclear,
    /// An engine answered.
    Engine {
        /// Its process, as the kernel says.
        pid: u32,
        /// What it shows of itself, or why it cannot be used.
        shown: Result<Shown, String>,
    },
}

/// What a running engine shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Revision in force.
    pub(super) revision: u64,
    /// How often its budgets were halved.
    pub(super) halvings: u32,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Start a process. [`Input::Started`] or [`Input::CannotStart`] follows before anything else.
    Spawn,
    /// Close the link and kill the process.
    Kill,
    /// Kill the recorded process of an earlier agent, if it is there.
    KillRecorded,
    /// Kill another engine than the one that is supervised.
    KillStray(u32),
    /// Connect to where an engine listens, and wait for its hello. [`Input::Called`] follows.
    Call,
    /// Start the engine that said hello.
    Begin,
    /// Take the process over that answered a call.
    TakeOver(u32),
    /// Use the connection on which the engine answered a call.
    Relink,
    /// Give the engine the outputs, the numbers and the aliases to close: it is newly connected.
    Feed,
    /// Send the latest snapshot.
    SendSnapshot,
    /// Ping the engine.
    Ping,
    /// Have it finish what is in flight and end.
    Shutdown(Duration),
    /// Put the sockets into the kernel's slots.
    FillSlots,
    /// Empty the kernel's slots.
    EmptySlots,
    /// Reset the connections that wait to be accepted.
    ResetWaiting,
    /// Tell the agent.
    Report(Event),
    /// Tell the agent that the engine is gone, and all of its connections.
    ReportDown,
}

/// The state, and what is remembered from engine to engine.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    clients: Clients,
    /// A call is in progress. It outlives the engine that it was for.
    calling: bool,
    /// Revision of the latest snapshot; none: there is none yet.
    latest: Option<u64>,
    /// When the first snapshot came: before, no engine can apply one.
    first: Option<Instant>,
    failures: Failures,
    budget: Budget,
    restarts: u64,
    last_error: Option<String>,
    settings: Settings,
    actions: Vec<Action>,
}

/// After how long an engine is replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// A worker whose heartbeat is older is stuck.
    pub(super) stuck: Duration,
    /// An engine that does not answer for so long cannot be reached.
    pub(super) silent: Duration,
}

impl Machine {
    /// `adoption`: until when an engine of an earlier agent is called, if there may be one.
    pub(super) fn new(adoption: Option<Instant>, settings: Settings, now: Instant) -> Self {
        let state = match adoption {
            Some(until) => State::Adopting { until, call_at: now, stop: None },
            None => State::Stopped { until: now },
        };
        Self {
            state,
            clients: Clients::Served,
            calling: false,
            latest: None,
            first: None,
            failures: Failures::default(),
            budget: Budget::default(),
            restarts: 0,
            last_error: None,
            settings,
            actions: Vec::new(),
        }
    }

    /// Handles an input.
    pub(super) fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match input {
            Input::Due => self.due(now),
            Input::Look { oldest } => self.look(oldest, now),
            Input::Started { pid } => self.state = State::Starting(Engine::new(pid, now)),
            Input::CannotStart { why } => self.cannot_start(&why, now),
            Input::Hello => self.begin(),
            Input::Begun => self.begun(),
            Input::CannotBegin { why } => self.cannot_begin(why, now),
            Input::LinkLost => self.link_lost(now),
            Input::Misbehaved { why } => self.kill(why),
            Input::Called(answer) => self.called(answer, now),
            Input::TakenOver { pid, shown } => self.taken_over(pid, shown, now),
            Input::Relinked(shown) => self.relinked(shown, now),
            Input::Applied { revision } => self.applied(revision),
            Input::Refused { revision, reason } => self.refused(revision, reason),
            Input::Pong => self.pong(),
            Input::Exited { how, for_memory } => self.exited(&how, for_memory, now),
            Input::Snapshot { revision } => {
                self.latest = Some(revision);
                self.first.get_or_insert(now);
                self.send_snapshot();
            }
            Input::Revive => self.revive("the documents changed", now),
            Input::Restart { grace } => self.restart(grace, now),
            Input::Stop { grace } => self.stop(grace, now),
        }
        std::mem::take(&mut self.actions)
    }

    /// When [`Input::Due`] is wanted, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let call = |at: Instant| (!self.calling).then_some(at);
        let state = match &self.state {
            State::Adopting { until, call_at, .. } => [Some(*until), call(*call_at)],
            State::Stopped { until } => [Some(*until), None],
            State::Starting(engine) => [self.apply_by(engine), None],
            State::HandingOver { kill_at, .. } | State::Draining { kill_at, .. } => [*kill_at, None],
            State::Running(_) | State::Failing(_) | State::GivenUp { .. } | State::Ended => [None, None],
        };
        let link = match self.engine().map(|engine| &engine.link) {
            Some(Link::Waiting { again }) => [Some(*again), None],
            Some(Link::Lost { since, call_at }) => [Some(*since + RELINK), call(*call_at)],
            Some(Link::Greeting | Link::Up { .. } | Link::Closed) | None => [None, None],
        };
        let clients = match self.clients {
            Clients::Served => None,
            Clients::Waiting { since } => Some(since + GRACE),
            Clients::Reset { next } => Some(next),
        };
        state.into_iter().chain(link).chain([clients]).flatten().min()
    }

    /// Until when an engine that starts must have applied a snapshot; none: there is none yet to apply.
    fn apply_by(&self, engine: &Engine) -> Option<Instant> {
        Some(self.first?.max(engine.since) + START)
    }

    /// The state.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// The process that runs.
    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.engine()?.pid)
    }

    /// Whether an engine is connected and has a snapshot in force.
    pub(super) fn serves(&self) -> bool {
        self.engine().is_some_and(|engine| engine.applied > 0 && matches!(engine.link, Link::Up { .. }))
    }

    /// Whether an engine may have connections: one runs, or may run.
    pub(super) fn may_have_connections(&self) -> bool {
        self.engine().is_some() || matches!(self.state, State::Adopting { .. })
    }

    /// Whether the kernel's slots were emptied.
    pub(super) fn slots_are_empty(&self) -> bool {
        matches!(self.clients, Clients::Reset { .. })
    }

    /// How often the budgets of the next engine are halved.
    pub(super) fn halvings(&self) -> u32 {
        self.budget.halvings()
    }

    /// Writes what is known into the view.
    pub(super) fn show(&self, view: &mut View) {
        let served = self.clients == Clients::Served;
        view.state = match self.engine() {
            Some(engine) if engine.applied > 0 && served => "running",
            Some(_) => "starting",
            None if matches!(self.state, State::Adopting { .. }) => "starting",
            None => "down",
        };
        view.pid = self.pid();
        view.restarts = self.restarts;
        view.revision = self.engine().map_or(0, |engine| engine.applied);
        view.last_error.clone_from(&self.last_error);
        view.given_up = match &self.state {
            State::GivenUp { why } => Some(why.clone()),
            _ => None,
        };
        view.memory_kills = self.budget.kills();
        view.short_of_memory = self.budget.why().map(ToOwned::to_owned);
    }

    /// The engine that runs.
    fn engine(&self) -> Option<&Engine> {
        match &self.state {
            State::Starting(engine)
            | State::Running(engine)
            | State::HandingOver { old: engine, .. }
            | State::Failing(engine)
            | State::Draining { engine, .. } => Some(engine),
            State::Adopting { .. } | State::Stopped { .. } | State::GivenUp { .. } | State::Ended => None,
        }
    }

    fn engine_mut(&mut self) -> Option<&mut Engine> {
        match &mut self.state {
            State::Starting(engine)
            | State::Running(engine)
            | State::HandingOver { old: engine, .. }
            | State::Failing(engine)
            | State::Draining { engine, .. } => Some(engine),
            State::Adopting { .. } | State::Stopped { .. } | State::GivenUp { .. } | State::Ended => None,
        }
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Does what is due.
    fn due(&mut self, now: Instant) {
        let resets = match self.clients {
            Clients::Served => false,
            Clients::Waiting { since } => now >= since + GRACE,
            Clients::Reset { next } => now >= next,
        };
        if resets {
            self.reset_clients(now);
        }
        match &self.state {
            State::Adopting { until, .. } if now >= *until => {
                self.act(Action::KillRecorded);
                self.not_adopted(now, now);
            }
            State::Stopped { until } if now >= *until => self.spawn(now),
            State::Starting(engine) if self.apply_by(engine).is_some_and(|by| now >= by) => {
                self.kill("it did not apply a snapshot in time".to_owned());
            }
            State::HandingOver { kill_at: Some(at), .. } if now >= *at => {
                self.kill("it is restarted, and did not finish in time".to_owned());
            }
            State::Draining { kill_at: Some(at), .. } if now >= *at => {
                self.kill("it is stopped, and did not finish in time".to_owned());
            }
            _ => {}
        }
        if self.engine().is_some_and(|engine| matches!(engine.link, Link::Waiting { again } if now >= again)) {
            self.act(Action::Begin);
        }
        self.call_when_due(now);
    }

    /// Looks at what shows in time only.
    fn look(&mut self, oldest: Option<Duration>, now: Instant) {
        let stuck = self.settings.stuck;
        if let State::Running(engine) = &mut self.state {
            // An engine has had time for its first beat.
            let overdue = now.duration_since(engine.since) >= stuck && oldest.is_some_and(|age| age > stuck);
            engine.overdue = if overdue { engine.overdue + 1 } else { 0 };
            if engine.overdue >= STUCK_LOOKS {
                self.kill("a worker is stuck: its heartbeat is overdue".to_owned());
            }
        }
        self.check_link();
        self.budget.forgive(now);
    }

    fn spawn(&mut self, now: Instant) {
        self.state = State::Stopped { until: now };
        self.act(Action::Spawn);
    }

    fn cannot_start(&mut self, why: &str, now: Instant) {
        error!("the engine cannot start: {why}");
        self.last_error = Some(why.to_owned());
        let next = match self.failures.count(now, false) {
            // Trying at once would meet the same obstacle.
            Next::After(pause) => Next::After(pause.max(CANNOT_START_PAUSE)),
            stay => stay,
        };
        self.after_failure(next, why, now);
    }

    /// The engine said hello, or waits since.
    fn begin(&mut self) {
        if matches!(&self.state, State::Starting(engine) if engine.link == Link::Greeting) {
            self.act(Action::Begin);
        }
    }

    fn begun(&mut self) {
        self.connected();
        self.act(Action::Feed);
        self.send_snapshot();
    }

    fn cannot_begin(&mut self, why: String, now: Instant) {
        if self.last_error.as_ref() != Some(&why) {
            warn!("the engine waits for its start: {why}");
            self.last_error = Some(why);
        }
        if let Some(engine) = self.engine_mut()
            && engine.link != Link::Closed
        {
            engine.link = Link::Waiting { again: now + DOOR_RETRY };
        }
    }

    /// Sends the latest snapshot, if there is a link and the engine does not have it from an earlier agent.
    fn send_snapshot(&mut self) {
        let Some(latest) = self.latest else { return };
        if let Some(engine) = self.engine_mut()
            && matches!(engine.link, Link::Up { .. })
            && latest > engine.adopted
        {
            engine.sent = engine.sent.max(latest);
            self.act(Action::SendSnapshot);
        }
    }

    fn applied(&mut self, revision: u64) {
        match self.engine_mut() {
            // guard: engine-claims
            Some(engine) if revision > 0 && revision <= engine.sent => {
                let news = engine.applied != revision;
                engine.applied = revision;
                self.serve();
                if news {
                    self.act(Action::Report(Event::Applied(revision)));
                }
            }
            _ => self.kill(format!("it claims to have applied revision {revision}, which it was not sent")),
        }
    }

    fn refused(&mut self, revision: u64, reason: String) {
        match self.engine_mut() {
            Some(engine) if revision > engine.refused && revision <= engine.sent => {
                engine.refused = revision;
                self.act(Action::Report(Event::Refused { revision, reason }));
            }
            _ => self.kill(format!("it refused revision {revision}, which it was not sent or has refused before")),
        }
    }

    /// The engine has a snapshot in force: clients are led to it.
    fn serve(&mut self) {
        if let State::Starting(engine) = &self.state {
            self.state = State::Running(engine.clone());
        }
        self.clients = Clients::Served;
        self.act(Action::FillSlots);
    }

    /// No engine serves: clients get an answer at once.
    fn reset_clients(&mut self, now: Instant) {
        if !self.slots_are_empty() {
            self.act(Action::EmptySlots);
        }
        self.clients = Clients::Reset { next: now + GRACE };
        self.act(Action::ResetWaiting);
    }

    /// Starts an engine that stays down; nothing otherwise.
    fn revive(&mut self, why: &str, now: Instant) {
        if matches!(self.state, State::GivenUp { .. }) {
            info!("the engine is started again: {why}");
            self.failures.forget();
            self.spawn(now);
        }
    }
}

impl Engine {
    fn new(pid: u32, since: Instant) -> Self {
        Self { pid, since, link: Link::Greeting, applied: 0, sent: 0, refused: 0, adopted: 0, overdue: 0 }
    }
}

#[cfg(test)]
mod tests;
