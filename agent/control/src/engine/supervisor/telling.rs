//! Messages to a connected engine: its start, the outputs that were opened for it, snapshots, orders.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use brattice_wire::engine::{AccessLog, MAX_TO_ENGINE, Settings, ToEngine, encode};
use brattice_wire::records::{NodeMetrics, Query};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::machine::Input;
use super::messages::Rate;
use super::times::METRICS_RETRY;
use super::{Frame, Link, MAX_WAITING_FRAMES, Supervisor};
use crate::engine::handle::Supervision;
use crate::engine::link::{LinkError, Reader, send};
use crate::engine::outputs::{Metrics, open_log};

/// Messages of at least so many bytes have debug lines of their own: snapshots of large nodes.
const LARGE_FRAME: usize = 64 * 1024;

/// What was opened for engines, and what the connected one has of it.
pub(super) struct Outputs {
    /// The access log as it is open now.
    log: Option<(AccessLog, OwnedFd)>,
    metrics: Metrics,
    /// The connected engine has the metrics' socket.
    metrics_given: bool,
    /// When the metrics' socket could not be made last.
    metrics_tried: Option<Instant>,
    /// The agent's own numbers.
    pub(super) numbers: Option<Box<NodeMetrics>>,
}

impl Outputs {
    pub(super) fn new(supervision: &Supervision, log: Option<(AccessLog, OwnedFd)>) -> Self {
        let metrics = Metrics::new(supervision.metrics.clone(), supervision.gid);
        Self { log, metrics, metrics_given: false, metrics_tried: None, numbers: None }
    }

    /// No engine answers scrapers that wait.
    pub(super) fn drain_metrics(&self) {
        self.metrics.drain();
    }

    /// A running engine showed which metrics' socket it has. One that is not wanted is taken back when it is fed.
    pub(super) fn shown(&mut self, metrics: Option<OwnedFd>) {
        self.metrics_given = metrics.is_some_and(|shown| self.metrics.adopt(shown));
    }
}

impl Supervisor {
    /// Begins to read and write.
    pub(super) fn connect(&mut self, stream: Arc<UnixStream>, mut reader: Reader) {
        self.links += 1;
        // What the one before sent is not held against this one.
        self.rate = Rate::new(Instant::now());
        let number = self.links;
        let (frames, mut waiting) = mpsc::channel::<Frame>(MAX_WAITING_FRAMES);
        let incoming = self.incoming_out.clone();
        let failed = self.incoming_out.clone();
        let write = tokio::spawn(async move {
            while let Some((frame, descriptors)) = waiting.recv().await {
                let with: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
                let began = Instant::now();
                if let Err(e) = send(&stream, &frame, &with).await {
                    let _ = failed.send((number, Err(LinkError::Io(e)))).await;
                    return;
                }
                if frame.len() >= LARGE_FRAME {
                    debug!(bytes = frame.len(), took = ?began.elapsed(), "a large message was sent to the engine");
                }
            }
        });
        let read = tokio::spawn(async move {
            loop {
                let received = reader.next().await;
                let last = received.is_err();
                if incoming.send((number, received)).await.is_err() || last {
                    return;
                }
            }
        });
        self.link = Some(Link { number, frames, tasks: [write.abort_handle(), read.abort_handle()] });
    }

    /// Starts a new engine: its settings and sockets, and the one on which later agents call it.
    pub(super) fn tell_start(&mut self, listener: OwnedFd) {
        self.outputs.metrics_given = false;
        let Some(sockets) = &self.sockets else { return };
        match sockets.all().iter().map(BorrowedFd::try_clone_to_owned).collect::<Result<Vec<_>, _>>() {
            Ok(mut descriptors) => {
                descriptors.push(listener);
                let halvings = self.machine.halvings();
                let settings = Settings { halvings, ..self.supervision.settings.clone() };
                self.tell_with(&ToEngine::Start(settings), descriptors);
            }
            Err(e) => self.misbehaved(format!("no descriptors are left: {e}")),
        }
    }

    /// Gives a newly connected engine what every engine gets.
    pub(super) fn feed(&mut self) {
        self.give_log();
        self.give_metrics();
        if let Some(numbers) = self.outputs.numbers.clone() {
            self.tell(&ToEngine::NodeMetrics(numbers));
        }
        // What was asked of a link that is gone.
        for (token, aliases) in self.closes.waiting.clone() {
            self.tell(&ToEngine::CloseAliases { token, aliases });
        }
    }

    /// A message that the engine must get cannot be sent.
    fn misbehaved(&mut self, why: String) {
        self.link = None;
        self.inputs.push_back(Input::Misbehaved { why });
    }

    pub(super) fn tell(&mut self, message: &ToEngine) {
        self.tell_with(message, Vec::new());
    }

    fn tell_with(&mut self, message: &ToEngine, descriptors: Vec<OwnedFd>) {
        let Some(link) = &self.link else { return };
        let began = Instant::now();
        let result = match encode(message, MAX_TO_ENGINE) {
            Ok(frame) => {
                if frame.len() >= LARGE_FRAME {
                    debug!(bytes = frame.len(), took = ?began.elapsed(), "a large message to the engine was encoded");
                }
                link.frames.try_send((frame, descriptors)).map_err(|_| "it does not read what it is sent".to_owned())
            }
            Err(e) => return error!("a message to the engine cannot be written: {e}"),
        };
        if let Err(why) = result {
            self.misbehaved(why);
        }
    }

    pub(super) fn send_snapshot(&mut self) {
        if let Some(snapshot) = self.latest.clone() {
            self.tell(&ToEngine::Snapshot(snapshot));
        }
    }

    /// Hands a caller's connection over. False: no engine serves.
    pub(super) fn attend(&mut self, query: Query, connection: OwnedFd) -> bool {
        if !self.machine.serves() {
            return false;
        }
        self.tell_with(&ToEngine::Attend(query), vec![connection]);
        self.link.is_some()
    }

    /// Opens the access log again under its name, after it was renamed. Where that fails, the old file is written on.
    pub(super) fn reopen(&mut self) {
        match open_log(&self.supervision.access_log, self.supervision.access_log_sample) {
            Ok(log) => {
                info!("the access log is opened again");
                self.outputs.log = log;
                self.view.send_modify(|view| view.log_error = None);
                self.give_log();
            }
            Err(e) => {
                let why = format!("the access log cannot be opened again: {e}; the old file is written on");
                error!("{why}");
                self.view.send_modify(|view| view.log_error = Some(why));
            }
        }
    }

    fn give_log(&mut self) {
        let given = match &self.outputs.log {
            None => Ok((None, Vec::new())),
            Some((log, fd)) => fd.try_clone().map(|fd| (Some(*log), vec![fd])),
        };
        match given {
            Ok((log, descriptors)) => self.tell_with(&ToEngine::AccessLog(log), descriptors),
            Err(e) => self.misbehaved(format!("no descriptors are left: {e}")),
        }
    }

    /// Gives the engine the metrics' socket, unless it has it.
    pub(super) fn give_metrics(&mut self) {
        let waits = self.outputs.metrics_tried.is_some_and(|tried| tried.elapsed() < METRICS_RETRY);
        if self.link.is_none() || self.outputs.metrics_given || waits {
            return;
        }
        match self.outputs.metrics.listener() {
            Ok(listener) => {
                self.outputs.metrics_given = true;
                self.outputs.metrics_tried = None;
                self.view.send_if_modified(|view| view.metrics_error.take().is_some());
                self.tell_with(&ToEngine::Metrics(listener.is_some()), listener.into_iter().collect());
            }
            Err(why) => {
                self.outputs.metrics_tried = Some(Instant::now());
                warn!("{why}");
                self.view.send_modify(|view| view.metrics_error = Some(why));
            }
        }
    }
}
