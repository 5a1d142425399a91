//! What a connected engine is told: its start, the outputs that were opened for it, snapshots, orders.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use brattice_wire::engine::{MAX_TO_ENGINE, ToEngine, encode};
use brattice_wire::records::Query;
use brattice_wire::snapshot::Snapshot;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Frame, Link, MAX_WAITING_FRAMES, Supervisor};
use crate::engine::link::{LinkError, Reader, send};
use crate::engine::outputs::open_log;

/// A metrics socket that cannot be made is tried again after this long.
const METRICS_RETRY: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Begins to read and write; a new engine is started, then every engine gets its outputs and the latest snapshot.
    pub(super) fn connect(&mut self, stream: Arc<UnixStream>, mut reader: Reader, first: Option<(ToEngine, OwnedFd)>) {
        self.links += 1;
        self.calls.linked();
        // What the one before sent is not held against this one.
        self.messages = (Instant::now(), 0);
        let number = self.links;
        let (frames, mut waiting) = mpsc::channel::<Frame>(MAX_WAITING_FRAMES);
        let incoming = self.incoming_out.clone();
        let failed = self.incoming_out.clone();
        let write = tokio::spawn(async move {
            while let Some((frame, descriptors)) = waiting.recv().await {
                let with: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
                if let Err(e) = send(&stream, &frame, &with).await {
                    let _ = failed.send((number, Err(LinkError::Io(e)))).await;
                    return;
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
        if let Some((first, door)) = first
            && let Some(sockets) = &self.sockets
        {
            match sockets.all().iter().map(BorrowedFd::try_clone_to_owned).collect::<Result<Vec<_>, _>>() {
                Ok(mut descriptors) => {
                    descriptors.push(door);
                    self.tell_with(&first, descriptors);
                }
                Err(e) => return self.kill(&format!("no descriptors are left: {e}")),
            }
        }
        self.give_log();
        self.give_metrics();
        if let Some(numbers) = self.numbers.clone() {
            self.tell(&ToEngine::NodeMetrics(numbers));
        }
        if let Some(snapshot) = self.latest.clone() {
            self.tell_snapshot(&snapshot);
        }
        // What was asked of a link that is gone.
        for (token, aliases) in self.closes.clone() {
            self.tell(&ToEngine::CloseAliases { token, aliases });
        }
    }

    pub(super) fn tell(&mut self, message: &ToEngine) {
        self.tell_with(message, Vec::new());
    }

    fn tell_with(&mut self, message: &ToEngine, descriptors: Vec<OwnedFd>) {
        let Some(link) = &self.link else { return };
        let result = match encode(message, MAX_TO_ENGINE) {
            Ok(frame) => {
                link.frames.try_send((frame, descriptors)).map_err(|_| "it does not read what it is sent".to_owned())
            }
            Err(e) => return error!("a message to the engine cannot be written: {e}"),
        };
        if let Err(why) = result {
            self.kill(&why);
        }
    }

    /// An engine takes equal numbers for equal snapshots: what an earlier agent may have numbered so is not told.
    pub(super) fn tell_snapshot(&mut self, snapshot: &Arc<Snapshot>) {
        if snapshot.revision <= self.adopted {
            return;
        }
        self.sent = self.sent.max(snapshot.revision);
        self.tell(&ToEngine::Snapshot(Box::new(Snapshot::clone(snapshot))));
    }

    /// Hands a caller's connection over. False: no engine serves.
    pub(super) fn attend(&mut self, query: Query, connection: OwnedFd) -> bool {
        if self.link.is_none() || self.applied == 0 {
            return false;
        }
        self.tell_with(&ToEngine::Attend(query), vec![connection]);
        self.link.is_some()
    }

    /// Somebody renamed the access log: opened again under its name. Where that fails, the old one is written on.
    pub(super) fn reopen(&mut self) {
        match open_log(&self.supervision.access_log, self.supervision.access_log_sample) {
            Ok(log) => {
                info!("the access log is opened again");
                self.log = log;
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
        let given = match &self.log {
            None => Ok((None, Vec::new())),
            Some((log, fd)) => fd.try_clone().map(|fd| (Some(*log), vec![fd])),
        };
        match given {
            Ok((log, descriptors)) => self.tell_with(&ToEngine::AccessLog(log), descriptors),
            Err(e) => self.kill(&format!("no descriptors are left: {e}")),
        }
    }

    /// Gives the engine the metrics' socket, unless it has it.
    pub(super) fn give_metrics(&mut self) {
        let waits = self.metrics_tried.is_some_and(|tried| tried.elapsed() < METRICS_RETRY);
        if self.link.is_none() || self.metrics_given || waits {
            return;
        }
        match self.metrics.listener() {
            Ok(listener) => {
                self.metrics_given = true;
                self.metrics_tried = None;
                self.view.send_if_modified(|view| view.metrics_error.take().is_some());
                self.tell_with(&ToEngine::Metrics(listener.is_some()), listener.into_iter().collect());
            }
            Err(why) => {
                self.metrics_tried = Some(Instant::now());
                warn!("{why}");
                self.view.send_modify(|view| view.metrics_error = Some(why));
            }
        }
    }
}
