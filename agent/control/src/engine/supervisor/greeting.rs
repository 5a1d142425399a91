//! An engine's first message (hello): of one that was started just now, or of a running one that was called.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use brattice_wire::engine::{FromEngine, PROTOCOL_VERSION, Running, Settings};
use tokio::net::UnixStream;
use tracing::{debug, warn};

use super::machine::{Answer, Input, Shown};
use super::times::{GREETING, START};
use super::{Supervisor, calling, memory};
use crate::engine::link::{LinkError, Reader, Received, Sender};
use crate::engine::process::{Process, Record};
use crate::engine::sockets::Sockets;

/// Which process a greeting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The engine that was started with this process id.
    Started(u32),
    /// The process that listens at the socket of a running engine.
    Called,
}

/// A connection, and its result.
pub(super) struct Greeting {
    origin: Origin,
    first: Result<Heard, NoHello>,
}

struct Heard {
    stream: Arc<UnixStream>,
    reader: Reader,
    first: Received,
}

/// Why there was no hello.
enum NoHello {
    /// No process listens, or the engine has closed the connection.
    NoProcess,
    /// Something else.
    Because(String),
}

impl From<io::Error> for NoHello {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NoProcess,
            _ => Self::Because(error.to_string()),
        }
    }
}

/// A started engine that said hello and waits for its start.
pub(super) struct Greeted {
    stream: Arc<UnixStream>,
    reader: Reader,
}

/// A running engine that answered a call, with what it showed.
pub(super) struct Answered {
    stream: Arc<UnixStream>,
    reader: Reader,
    shown: Shown,
    sockets: Sockets,
    metrics: Option<OwnedFd>,
}

impl Supervisor {
    /// Waits for the hello on a connection.
    pub(super) fn greet(&self, stream: UnixStream, origin: Origin) {
        self.greet_with(origin, std::future::ready(Ok(stream)));
    }

    /// As [`Supervisor::greet`], on a connection that is to be made.
    pub(super) fn greet_with(
        &self,
        origin: Origin,
        connect: impl Future<Output = io::Result<UnixStream>> + Send + 'static,
    ) {
        let out = self.greetings_out.clone();
        let patience = if origin == Origin::Called { GREETING } else { START };
        tokio::spawn(async move {
            let hello = async {
                let stream = Arc::new(connect.await?);
                let mut reader = Reader::new(stream.clone());
                match reader.next().await {
                    Ok(first) => Ok(Heard { stream, reader, first }),
                    Err(LinkError::Closed) => Err(NoHello::NoProcess),
                    Err(e) => Err(NoHello::Because(e.to_string())),
                }
            };
            let in_time = tokio::time::timeout(patience, hello).await;
            let first = in_time.unwrap_or_else(|_| Err(NoHello::Because("no hello in time".to_owned())));
            let _ = out.send(Greeting { origin, first }).await;
        });
    }

    /// Connects to the process that listens at the socket of a running engine.
    pub(super) fn greet_called(&self) {
        let socket = self.supervision.socket.clone();
        self.greet_with(Origin::Called, async move { calling::call(&socket).await });
    }

    /// What a first message means for the machine; none: its engine is gone already.
    pub(super) fn greeted(&mut self, greeting: Greeting) -> Option<Input> {
        match greeting.origin {
            Origin::Started(pid) if self.machine.pid() != Some(pid) => None,
            Origin::Started(_) => Some(self.greeted_by_started(greeting.first)),
            Origin::Called => Some(Input::Called(self.greeted_by_called(greeting.first))),
        }
    }

    fn greeted_by_started(&mut self, first: Result<Heard, NoHello>) -> Input {
        let heard = match first {
            Ok(heard) => heard,
            Err(NoHello::NoProcess) => return Input::LinkLost,
            Err(NoHello::Because(why)) => return Input::Misbehaved { why },
        };
        match hello(&heard.first) {
            Ok(None) if heard.first.descriptors.is_empty() => {
                self.greeted = Some(Greeted { stream: heard.stream, reader: heard.reader });
                Input::Hello
            }
            Ok(_) => Input::Misbehaved { why: "it claims to run already".to_owned() },
            Err(why) => Input::Misbehaved { why },
        }
    }

    fn greeted_by_called(&mut self, first: Result<Heard, NoHello>) -> Answer {
        let Heard { stream, reader, first } = match first {
            Ok(heard) => heard,
            Err(NoHello::NoProcess) => {
                let running = Record::read(&self.supervision.record).and_then(|r| r.running(self.supervision.uid));
                return Answer::NoListener { running: running.is_some() };
            }
            Err(NoHello::Because(why)) => {
                debug!(why, "the engine was called");
                return Answer::Unclear;
            }
        };
        let Some(Sender { pid, .. }) = first.sender.filter(|sender| sender.uid == self.supervision.uid) else {
            warn!("a process that is not the engine answers at the engine's socket");
            return Answer::Unclear;
        };
        let shown = match hello(&first) {
            Ok(Some(running)) => self.fit(&running, first.descriptors).map(|(sockets, metrics)| {
                let shown = Shown { revision: running.revision, halvings: running.settings.halvings };
                self.answered = Some(Answered { stream, reader, shown, sockets, metrics });
                shown
            }),
            Ok(None) => Err("it runs, and says that it does not".to_owned()),
            Err(why) => Err(why),
        };
        Answer::Engine { pid, shown }
    }

    /// Starts the engine that said hello; later, where that cannot be done now.
    pub(super) fn begin(&mut self) {
        let Some(Greeted { stream, reader }) = self.greeted.take() else { return };
        match calling::listen(&self.supervision.socket) {
            Ok(listener) => {
                self.connect(stream, reader);
                self.tell_start(listener);
                self.inputs.push_back(Input::Begun);
            }
            Err(e) => {
                let why = format!("the socket {} cannot be made: {e}", self.supervision.socket.display());
                self.greeted = Some(Greeted { stream, reader });
                self.inputs.push_back(Input::CannotBegin { why });
            }
        }
    }

    /// Takes the process over that answered a call.
    pub(super) fn take_over(&mut self, pid: u32) {
        let Some(answered) = self.answered.take() else { return };
        match Process::adopt(pid, self.supervision.uid) {
            Ok(process) => {
                self.took(process);
                let shown = self.link_to(answered);
                self.inputs.push_back(Input::TakenOver { pid, shown });
            }
            Err(e) => warn!(pid, error = %e, "the engine that answered cannot be watched"),
        }
    }

    /// Uses the connection on which the engine answered a call.
    pub(super) fn relink(&mut self) {
        let Some(answered) = self.answered.take() else { return };
        let shown = self.link_to(answered);
        self.inputs.push_back(Input::Relinked(shown));
    }

    fn link_to(&mut self, answered: Answered) -> Shown {
        let Answered { stream, reader, shown, sockets, metrics } = answered;
        self.sockets = Some(sockets);
        self.outputs.shown(metrics);
        self.connect(stream, reader);
        shown
    }

    pub(super) fn kill_stray(&self, pid: u32) {
        match Process::adopt(pid, self.supervision.uid) {
            Ok(process) => process.kill(),
            Err(e) => debug!(pid, error = %e, "already gone"),
        }
    }

    /// Checks what a running engine shows.
    fn fit(&self, running: &Running, mut descriptors: Vec<OwnedFd>) -> Result<(Sockets, Option<OwnedFd>), String> {
        // Smaller budgets are no other settings.
        let halvings = running.settings.halvings;
        if halvings > memory::MOST_HALVINGS
            || running.settings != (Settings { halvings, ..self.supervision.settings.clone() })
        {
            return Err("it was started with other settings".to_owned());
        }
        let metrics = if running.metrics { descriptors.pop() } else { None };
        let sockets = Sockets::new(running.settings.workers, !running.settings.sources6.is_empty(), descriptors)
            .ok_or_else(|| "it does not show the descriptors it was given".to_owned())?;
        // After a time without an engine the slots are empty: then our own handles say what the sockets are.
        let fits = match &self.sockets {
            Some(own) if self.machine.slots_are_empty() => {
                let cookies = |sockets: &Sockets| -> Vec<Option<u64>> {
                    let slots = sockets.slots();
                    slots.iter().map(|(_, fd)| rustix::net::sockopt::socket_cookie(fd).ok()).collect()
                };
                cookies(own) == cookies(&sockets)
            }
            _ => sockets.match_slots(&*self.slots),
        };
        // guard: engine-sockets
        if fits { Ok((sockets, metrics)) } else { Err("its sockets are not those in the kernel's table".to_owned()) }
    }
}

/// What a first message says of the engine that sent it, if it is a hello of our version.
fn hello(first: &Received) -> Result<Option<Running>, String> {
    match &first.message {
        FromEngine::Hello { version, running } if *version == PROTOCOL_VERSION => Ok(running.clone()),
        FromEngine::Hello { version, .. } => {
            Err(format!("it speaks version {version} of the protocol, the agent {PROTOCOL_VERSION}"))
        }
        _ => Err("it did not begin with a hello".to_owned()),
    }
}
