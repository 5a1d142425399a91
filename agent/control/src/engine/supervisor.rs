//! Keeps one engine running and fed. [`machine`] decides and is pure; its actions are carried out here.
//!
//! A new engine gets the same sockets as the one before, so that connections waiting to be accepted are not lost. When
//! none has applied a snapshot [`GRACE`] after the old one's end, the kernel's slots are emptied and waiting
//! connections are reset: clients fail at once instead of hanging.
//!
//! An engine that fails again and again stays down ([`failures`]): waiting and new connections are reset at once, until
//! the documents change or an operator restarts it. A new binary comes with a new agent, which counts from 0.

mod acting;
mod calling;
pub mod failures;
mod greeting;
mod machine;
mod memory;
mod messages;
mod telling;
mod times;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use brattice_wire::engine::{Stats, ToEngine};
use brattice_wire::snapshot::{AliasGeneration, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::handle::{Client, Event, Handle, Order, Supervision, View};
use super::link::{LinkError, Received};
use super::outputs::open_log;
use super::process::{Process, Record};
use super::sockets::{Slots, Sockets};
use greeting::{Answered, Greeted, Greeting};
use machine::{Input, Machine, State};
use memory::Kills;
use messages::Rate;
use telling::Outputs;
pub use times::{ADOPTION, GRACE, STABLE, START, STUCK, STUCK_LOOKS, UNANSWERED};

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
    let now = Instant::now();
    let settings = machine::Settings { stuck: supervision.stuck, silent: supervision.silent };
    let supervisor = Supervisor {
        machine: Machine::new(adoption.then(|| now + ADOPTION), settings, now),
        outputs: Outputs::new(&supervision, log),
        supervision,
        slots,
        sockets: None,
        process: None,
        kills: Kills::default(),
        link: None,
        links: 0,
        greeted: None,
        answered: None,
        latest: None,
        closes: Closes::default(),
        stats: Vec::new(),
        rate: Rate::new(now),
        stopped: None,
        inputs: VecDeque::new(),
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

/// Aliases that the engine was asked to close, by the token of the request.
#[derive(Default)]
struct Closes {
    token: u64,
    waiting: BTreeMap<u64, Vec<(IpAddr, AliasGeneration)>>,
}

/// Carries out the machine's actions: holds the process, its link, its sockets, and the callers that wait for answers.
struct Supervisor {
    machine: Machine,
    supervision: Supervision,
    slots: Arc<dyn Slots>,
    sockets: Option<Sockets>,
    process: Option<Process>,
    kills: Kills,
    link: Option<Link>,
    /// Links so far: what a closed one still brings is not taken for the next one's.
    links: u64,
    /// The connection of a started engine that said hello, until it is started.
    greeted: Option<Greeted>,
    /// The connection of an engine that answered a call, until the machine has said what to do with it.
    answered: Option<Answered>,
    latest: Option<Arc<Snapshot>>,
    closes: Closes,
    outputs: Outputs,
    stats: Vec<oneshot::Sender<Option<Stats>>>,
    rate: Rate,
    /// Told when the engine is stopped.
    stopped: Option<oneshot::Sender<()>>,
    /// Results of actions, the next inputs of the machine.
    inputs: VecDeque<Input>,
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
        let mut look = tokio::time::interval(times::HEARTBEAT);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let deadline = self.machine.deadline();
            tokio::select! {
                ended = ended(&mut self.process) => self.exited(ended).await,
                Some(greeting) = greetings.recv() => {
                    if let Some(input) = self.greeted(greeting) {
                        self.take_in(input).await;
                    }
                }
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
                _ = look.tick() => {
                    let oldest = oldest_heartbeat(&self.slots.worker_states(self.supervision.settings.workers));
                    self.take_in(Input::Look { oldest }).await;
                    self.give_metrics();
                }
                () = at(deadline) => self.take_in(Input::Due).await,
            }
            // What was sent to the engine meanwhile may have failed.
            while let Some(input) = self.inputs.pop_front() {
                self.take_in(input).await;
            }
            if *self.machine.state() == State::Ended {
                if let Some(done) = self.stopped.take() {
                    let _ = done.send(());
                }
                return;
            }
        }
    }

    /// Handles an event, and carries out what follows.
    async fn take_in(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            for action in self.machine.on(input, Instant::now()) {
                self.perform(action).await;
            }
        }
        self.show();
    }

    async fn ordered(&mut self, order: Order) {
        match order {
            Order::Snapshot(snapshot) => {
                let revision = snapshot.revision;
                self.latest = Some(snapshot);
                self.take_in(Input::Snapshot { revision }).await;
            }
            Order::Close(aliases) => {
                if !self.machine.may_have_connections() {
                    let _ = self.events.send(Event::Closed(aliases)).await;
                    return;
                }
                self.closes.token += 1;
                let token = self.closes.token;
                self.closes.waiting.insert(token, aliases.clone());
                self.tell(&ToEngine::CloseAliases { token, aliases });
            }
            Order::Stats(answer) => {
                if !self.machine.serves() || self.stats.len() >= MAX_WAITING_FRAMES {
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
                self.outputs.numbers = Some(numbers);
            }
            Order::Reopen => self.reopen(),
            Order::Revive => self.take_in(Input::Revive).await,
            Order::Restart { grace, begun } => {
                self.take_in(Input::Restart { grace }).await;
                let _ = begun.send(());
            }
            Order::Stop { grace, done } => {
                self.stopped = Some(done);
                self.take_in(Input::Stop { grace }).await;
            }
        }
    }

    /// Publishes what is known.
    fn show(&self) {
        self.view.send_if_modified(|view| {
            let before = view.clone();
            self.machine.show(view);
            *view != before
        });
    }
}

/// Time for requests in flight, as it is sent to the engine.
fn grace_ms(grace: Duration) -> u32 {
    u32::try_from(grace.as_millis()).expect("it is a constant of a few seconds")
}

async fn ended(process: &mut Option<Process>) -> String {
    match process {
        Some(process) => process.ended().await,
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
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
