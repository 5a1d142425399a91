//! An engine's first word: of one that was started just now, or of one that runs and was called.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use brattice_wire::engine::{FromEngine, PROTOCOL_VERSION, Running, Settings, ToEngine};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{START, Supervisor, memory};
use crate::engine::handle::Event;
use crate::engine::link::{LinkError, Reader, Received, Sender};
use crate::engine::process::Process;
use crate::engine::sockets::Sockets;

/// Time for the hello of an engine that was called.
const GREETING: Duration = Duration::from_secs(2);
/// Where the socket for later agents cannot be made, the engine waits and it is tried again after this.
const DOOR_RETRY: Duration = Duration::from_millis(50);

/// Whose first word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Of the engine that was started with this process id.
    Started(u32),
    /// Of whoever listens where a running engine does.
    Called,
}

/// A connection, and what came of it.
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
    /// Nobody listens, or the engine has closed the connection.
    Nobody,
    /// Something else.
    Because(String),
}

impl From<io::Error> for NoHello {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::Nobody,
            _ => Self::Because(error.to_string()),
        }
    }
}

/// An engine that said hello and waits for its start, until then.
pub(super) struct Unstarted {
    at: Instant,
    stream: Arc<UnixStream>,
    reader: Reader,
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
                    Err(LinkError::Closed) => Err(NoHello::Nobody),
                    Err(e) => Err(NoHello::Because(e.to_string())),
                }
            };
            let in_time = tokio::time::timeout(patience, hello).await;
            let first = in_time.unwrap_or_else(|_| Err(NoHello::Because("no hello in time".to_owned())));
            let _ = out.send(Greeting { origin, first }).await;
        });
    }

    pub(super) fn greeted(&mut self, greeting: Greeting) {
        match greeting.origin {
            // Of an engine that is gone already.
            Origin::Started(pid) if self.process.as_ref().is_none_or(|process| process.pid != pid) => {}
            Origin::Started(_) => self.greeted_by_started(greeting.first),
            Origin::Called => {
                self.calls.ended();
                self.greeted_by_called(greeting.first);
            }
        }
    }

    fn greeted_by_started(&mut self, first: Result<Heard, NoHello>) {
        let heard = match first {
            Ok(heard) => heard,
            // Its end is about to be noticed; else it is called, and answers nobody.
            Err(NoHello::Nobody) => return self.calls.lost(),
            Err(NoHello::Because(why)) => return self.kill(&why),
        };
        match hello(&heard.first) {
            Ok(None) if heard.first.descriptors.is_empty() => self.begin(heard.stream, heard.reader),
            Ok(_) => self.kill("it claims to run already"),
            Err(why) => self.kill(&why),
        }
    }

    /// Starts an engine that said hello; later, where that cannot be done now.
    fn begin(&mut self, stream: Arc<UnixStream>, reader: Reader) {
        match self.door() {
            Ok(door) => {
                self.metrics_given = false;
                let start = ToEngine::Start(self.supervision.settings.clone());
                self.connect(stream, reader, Some((start, door)));
            }
            Err(e) => {
                let why = format!("the socket {} cannot be made: {e}", self.supervision.socket.display());
                self.view.send_if_modified(|view| {
                    let news = view.last_error.as_ref() != Some(&why);
                    if news {
                        warn!("the engine waits for its start: {why}");
                        view.last_error = Some(why);
                    }
                    news
                });
                self.unstarted = Some(Unstarted { at: Instant::now() + DOOR_RETRY, stream, reader });
            }
        }
    }

    /// When the start of an engine that waits for it is tried again.
    pub(super) fn start_again_at(&self) -> Option<Instant> {
        self.unstarted.as_ref().map(|unstarted| unstarted.at)
    }

    pub(super) fn start_again(&mut self, now: Instant) {
        if let Some(Unstarted { stream, reader, .. }) = self.unstarted.take_if(|unstarted| now >= unstarted.at) {
            self.begin(stream, reader);
        }
    }

    fn greeted_by_called(&mut self, first: Result<Heard, NoHello>) {
        if self.link.is_some() {
            return;
        }
        let heard = match first {
            Ok(heard) => heard,
            Err(NoHello::Nobody) => return self.nobody_answers(),
            Err(NoHello::Because(why)) => {
                debug!(why, "the engine was called");
                return self.calls.later();
            }
        };
        let Some(Sender { pid, .. }) = heard.first.sender.filter(|sender| sender.uid == self.supervision.uid) else {
            warn!("somebody who is not the engine answers where it should");
            return self.calls.later();
        };
        let ours = self.process.as_ref().map(|process| process.pid == pid);
        let shown = match hello(&heard.first) {
            Ok(Some(running)) => self.fit(&running, heard.first.descriptors).map(|sockets| (running, sockets)),
            Ok(None) => Err("it runs, and says that it does not".to_owned()),
            Err(why) => Err(why),
        };
        match (ours, shown) {
            (Some(true), Err(why)) => self.kill(&why),
            (Some(true), Ok((running, shown))) => self.relink(&running, shown, heard.stream, heard.reader),
            // Of an earlier agent, and too late; or nobody's.
            (Some(false), _) => {
                warn!(pid, "a second engine runs; it is ended");
                self.end_stray(pid);
                self.calls.later();
            }
            (None, _) if self.adoption.is_none() => {
                warn!(pid, "a second engine runs; it is ended");
                self.end_stray(pid);
            }
            (None, Err(why)) => {
                warn!(pid, "the running engine is replaced: {why}");
                self.end_stray(pid);
                self.adoption = None;
                self.start_at = Some(Instant::now() + Duration::from_millis(20));
            }
            (None, Ok((running, shown))) => match Process::adopt(pid, self.supervision.uid) {
                Ok(process) => {
                    self.took(process);
                    info!(pid, revision = running.revision, "the running engine is taken over");
                    self.adopted = running.revision;
                    self.relink(&running, shown, heard.stream, heard.reader);
                    // Before the news: who hears it looks here.
                    self.show();
                    if self.events.try_send(Event::Adopted(running.revision)).is_err() {
                        self.kill("nobody hears that it was taken over");
                    }
                }
                Err(e) => warn!(pid, error = %e, "the engine that answered cannot be watched"),
            },
        }
    }

    /// The link to an engine that runs.
    fn relink(
        &mut self,
        running: &Running,
        (sockets, metrics): (Sockets, Option<OwnedFd>),
        stream: Arc<UnixStream>,
        reader: Reader,
    ) {
        self.adoption = None;
        self.inherit(running.settings.halvings);
        self.sockets = Some(sockets);
        // One that does not fit is given back by the order that follows.
        self.metrics_given = metrics.is_some_and(|shown| self.metrics.adopt(shown));
        self.applied = running.revision;
        self.sent = self.sent.max(running.revision);
        if self.applied > 0 {
            self.fill();
        }
        self.connect(stream, reader, None);
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
            Some(own) if self.emptied => {
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

    fn end_stray(&self, pid: u32) {
        match Process::adopt(pid, self.supervision.uid) {
            Ok(process) => process.kill(),
            Err(e) => debug!(pid, error = %e, "already gone"),
        }
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
