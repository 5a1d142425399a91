//! The way to an engine that runs: called where there is none yet or it broke, asked for a sign of life while there is.
//! An engine that cannot be told anything, of revocations above all, is replaced within a bounded time.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use brattice_wire::engine::{PING, ToEngine};
use tokio::net::{UnixSocket, UnixStream};
use tokio::time::Instant;

use super::greeting::Origin;
use super::{HEARTBEAT, Supervisor};
use crate::engine::process::Record;

/// Time between two calls.
const AGAIN: Duration = Duration::from_millis(50);
/// How long an engine may be without a link, before it is replaced.
pub(super) const RELINK: Duration = Duration::from_secs(2);

/// Calls, and signs of life.
#[derive(Default)]
pub(super) struct Calls {
    /// A call is on its way.
    under_way: bool,
    /// When the next one is due.
    due: Option<Instant>,
    /// Since when the engine that runs has no link.
    unlinked: Option<Instant>,
    /// Looks since the last sign of life was asked for, or came.
    looks: u32,
    /// A sign of life is awaited.
    awaited: bool,
}

impl Calls {
    /// `at_once`: an engine of an earlier agent may be there.
    pub(super) fn new(at_once: bool) -> Self {
        Self { due: at_once.then(Instant::now), ..Self::default() }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> impl Iterator<Item = Instant> {
        self.due.into_iter().chain(self.unlinked.map(|since| since + RELINK))
    }

    /// The link is gone.
    pub(super) fn lost(&mut self) {
        let now = Instant::now();
        self.unlinked.get_or_insert(now);
        self.again(now);
    }

    /// A link is there.
    pub(super) fn linked(&mut self) {
        *self = Self { under_way: self.under_way, ..Self::default() };
    }

    /// A call has ended.
    pub(super) fn ended(&mut self) {
        self.under_way = false;
    }

    /// Another call, a little later.
    pub(super) fn later(&mut self) {
        self.again(Instant::now() + AGAIN);
    }

    fn again(&mut self, at: Instant) {
        if !self.under_way {
            self.due.get_or_insert(at);
        }
    }

    /// The engine answered; false: it was not asked.
    pub(super) fn answered(&mut self) -> bool {
        self.looks = 0;
        std::mem::take(&mut self.awaited)
    }
}

impl Supervisor {
    pub(super) fn call_when_due(&mut self, now: Instant) {
        if self.calls.due.is_some_and(|at| now >= at) {
            self.calls.due = None;
            let wanted = self.link.is_none() && (self.process.is_some() || self.adoption.is_some());
            if wanted && !self.calls.under_way {
                self.calls.under_way = true;
                self.greet_called();
            }
        }
        if self.calls.unlinked.is_some_and(|since| now >= since + RELINK) {
            self.calls.unlinked = None;
            self.kill("it cannot be told anything: its link is closed, and it answers no call");
        }
    }

    /// Every [`HEARTBEAT`]: asks a linked engine for a sign of life. Counted in looks, so that an agent that was stopped
    /// itself blames nobody.
    pub(super) fn check_link(&mut self) {
        if self.link.is_none() {
            return;
        }
        self.calls.looks += 1;
        if !self.calls.awaited && looks(PING) <= self.calls.looks {
            self.calls.looks = 0;
            self.calls.awaited = true;
            self.tell(&ToEngine::Ping);
        } else if self.calls.awaited && looks(self.supervision.silent) <= self.calls.looks {
            // guard: engine-silent
            self.kill("it cannot be told anything: it does not answer");
        }
    }

    /// Nobody listens where the engine should.
    pub(super) fn nobody_answers(&mut self) {
        let gone = || Record::read(&self.supervision.record).and_then(|r| r.running(self.supervision.uid)).is_none();
        if self.adoption.is_some() && gone() {
            self.adoption = None;
            return;
        }
        self.calls.later();
    }

    fn greet_called(&mut self) {
        let socket = self.supervision.socket.clone();
        self.greet_with(Origin::Called, async move { call(&socket).await });
    }

    /// The socket on which later agents call the engine. The agent keeps no copy: nobody listens when the engine is gone.
    pub(super) fn door(&self) -> io::Result<OwnedFd> {
        let path = &self.supervision.socket;
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener.into())
    }
}

/// How many looks a time is.
fn looks(time: Duration) -> u32 {
    let looks = time.as_millis().div_ceil(HEARTBEAT.as_millis());
    u32::try_from(looks).expect("it is a time of seconds or minutes").max(1)
}

/// Asked for before anything is sent: who sends it.
async fn call(path: &Path) -> io::Result<UnixStream> {
    let socket = UnixSocket::new_stream()?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    socket.connect(path).await
}
