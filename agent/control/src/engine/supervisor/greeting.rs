//! Who connects to the engine's socket: a new engine, one of an earlier agent, or somebody else.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use brattice_wire::engine::{FromEngine, PROTOCOL_VERSION, Running, ToEngine};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{GREETING, Greeting, MAX_GREETINGS, Supervisor};
use crate::engine::link::{Reader, Received};
use crate::engine::process::Process;
use crate::engine::sockets::Sockets;

impl Supervisor {
    pub(super) fn accepted(&mut self, stream: UnixStream) {
        let (uid, pid) = match stream.peer_cred() {
            Ok(credentials) => (credentials.uid(), credentials.pid().and_then(|pid| u32::try_from(pid).ok())),
            Err(_) => return,
        };
        let Some(pid) = pid.filter(|_| uid == self.supervision.uid) else {
            warn!(uid, "somebody who is not the engine connected to its socket");
            return;
        };
        if self.greeting >= MAX_GREETINGS {
            warn!(pid, "too many connections to the engine's socket at once");
            return;
        }
        self.greeting += 1;
        let out = self.greetings_out.clone();
        tokio::spawn(async move {
            let stream = Arc::new(stream);
            let mut reader = Reader::new(stream.clone());
            let first = match tokio::time::timeout(GREETING, reader.next()).await {
                Ok(Ok(received)) => Ok(received),
                Ok(Err(e)) => Err(e.to_string()),
                Err(_) => Err("no hello in time".to_owned()),
            };
            let _ = out.send(Greeting { pid, stream, reader, first }).await;
        });
    }

    pub(super) fn greeted(&mut self, greeting: Greeting) {
        self.greeting -= 1;
        let Greeting { pid, stream, reader, first } = greeting;
        let ours = self.process.as_ref().is_some_and(|process| process.pid == pid);
        let hello = match first {
            Ok(Received { message: FromEngine::Hello { version, running }, descriptors })
                if version == PROTOCOL_VERSION =>
            {
                Ok((running, descriptors))
            }
            Ok(Received { message: FromEngine::Hello { version, .. }, .. }) => {
                Err(format!("it speaks version {version} of the protocol, the agent {PROTOCOL_VERSION}"))
            }
            Ok(_) => Err("it did not begin with a hello".to_owned()),
            Err(e) => Err(e),
        };
        let adopting = self.process.is_none() && self.adoption.is_some();
        match hello {
            Ok((Some(running), descriptors)) if ours || adopting => match self.fit(&running, descriptors) {
                Ok((sockets, metrics)) => {
                    if adopting {
                        match Process::adopt(pid, self.supervision.uid) {
                            Ok(process) => self.took(process),
                            Err(e) => return warn!(pid, error = %e, "the engine that connected cannot be watched"),
                        }
                        info!(pid, revision = running.revision, "the running engine is taken over");
                    }
                    self.adoption = None;
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
                Err(why) if ours => self.kill(&why),
                Err(why) => {
                    warn!(pid, "the running engine is replaced: {why}");
                    self.end_stray(pid);
                    self.adoption = None;
                    self.start_at = Some(Instant::now() + Duration::from_millis(20));
                }
            },
            Ok((None, descriptors)) if ours && descriptors.is_empty() && self.link.is_none() => {
                self.metrics_given = false;
                let start = ToEngine::Start(self.supervision.settings.clone());
                self.connect(stream, reader, Some(&start));
            }
            Ok((Some(_), _)) => {
                warn!(pid, "a second engine runs; it is ended");
                self.end_stray(pid);
            }
            Ok(_) => debug!(pid, "a connection to the engine's socket that is not expected"),
            Err(why) if ours => self.kill(&why),
            Err(why) => debug!(pid, why, "a connection to the engine's socket"),
        }
    }

    /// Checks what a running engine shows.
    fn fit(&self, running: &Running, mut descriptors: Vec<OwnedFd>) -> Result<(Sockets, Option<OwnedFd>), String> {
        if running.settings != self.supervision.settings {
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
        if fits { Ok((sockets, metrics)) } else { Err("its sockets are not those in the kernel's table".to_owned()) }
    }

    fn end_stray(&self, pid: u32) {
        match Process::adopt(pid, self.supervision.uid) {
            Ok(process) => process.kill(),
            Err(e) => debug!(pid, error = %e, "already gone"),
        }
    }
}
