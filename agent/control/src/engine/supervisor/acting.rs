//! Carries out the machine's actions: processes, listening sockets in the kernel's slots, waiting connections.

use std::os::fd::OwnedFd;

use brattice_wire::engine::ToEngine;
use tokio::net::UnixStream;
use tracing::{error, info, warn};

use super::greeting::Origin;
use super::machine::{Action, Input};
use super::{Supervisor, grace_ms};
use crate::engine::handle::Event;
use crate::engine::process::{Process, Record};

impl Supervisor {
    pub(super) async fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn => self.spawn(),
            Action::Kill => {
                self.link = None;
                if let Some(process) = &self.process {
                    process.kill();
                }
            }
            Action::KillRecorded => self.kill_recorded(),
            Action::KillStray(pid) => self.kill_stray(pid),
            Action::Call => self.greet_called(),
            Action::Begin => self.begin(),
            Action::TakeOver(pid) => self.take_over(pid),
            Action::Relink => self.relink(),
            Action::Feed => self.feed(),
            Action::SendSnapshot => self.send_snapshot(),
            Action::Ping => self.tell(&ToEngine::Ping),
            Action::Shutdown(grace) => self.tell(&ToEngine::Shutdown { grace_ms: grace_ms(grace) }),
            Action::FillSlots => self.fill_slots(),
            Action::EmptySlots => self.empty_slots(),
            Action::ResetWaiting => self.reset_waiting(),
            Action::Report(event) => {
                // Before the event: its receiver looks at the view.
                self.show();
                let _ = self.events.send(event).await;
            }
            Action::ReportDown => {
                // A dead process has no connections.
                for (_, aliases) in std::mem::take(&mut self.closes.waiting) {
                    let _ = self.events.send(Event::Closed(aliases)).await;
                }
                let _ = self.events.send(Event::Down).await;
            }
        }
    }

    /// The process has ended.
    pub(super) async fn exited(&mut self, how: String) {
        self.process = None;
        self.link = None;
        self.greeted = None;
        for waiting in self.stats.drain(..) {
            let _ = waiting.send(None);
        }
        let for_memory = self.kills.more();
        self.take_in(Input::Exited { how, for_memory }).await;
    }

    fn spawn(&mut self) {
        if self.sockets.is_none() {
            match self.slots.sockets() {
                Ok(sockets) => self.sockets = Some(sockets),
                Err(e) => return self.cannot_start(format!("its sockets cannot be made: {e}")),
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
                let pid = process.pid;
                info!(pid, "engine started");
                self.greet(link, Origin::Started(pid));
                self.took(process);
                self.inputs.push_back(Input::Started { pid });
            }
            Err(e) => self.cannot_start(format!("{} cannot be started: {e}", self.supervision.program.display())),
        }
    }

    fn cannot_start(&mut self, why: String) {
        self.inputs.push_back(Input::CannotStart { why });
    }

    pub(super) fn took(&mut self, process: Process) {
        if let Some(record) = process.record()
            && let Err(e) = crate::state::write_json(&self.supervision.record, &record)
        {
            warn!(error = %e, "the engine's process cannot be recorded; a later agent cannot find it by its record");
        }
        self.kills.watch(process.pid, self.supervision.oom_events.as_deref());
        self.process = Some(process);
    }

    /// An earlier agent's engine did not answer: it ends, so that its addresses and sockets are free.
    fn kill_recorded(&self) {
        if let Some(process) = Record::read(&self.supervision.record).and_then(|r| r.running(self.supervision.uid)) {
            warn!(pid = process.pid, "the engine of an earlier agent does not answer; it is replaced");
            process.kill();
        }
    }

    fn fill_slots(&self) {
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
    }

    fn empty_slots(&self) {
        let Some(sockets) = &self.sockets else { return };
        warn!("no engine serves: new connections are reset until one does");
        for (slot, _) in sockets.slots() {
            if let Err(e) = self.slots.clear(slot) {
                error!(slot, "the slot cannot be emptied: {e}");
            }
        }
    }

    fn reset_waiting(&self) {
        self.outputs.drain_metrics();
        let Some(sockets) = &self.sockets else { return };
        let reset = sockets.drain();
        if reset > 0 {
            self.view.send_modify(|view| view.reset += reset as u64);
        }
    }
}
