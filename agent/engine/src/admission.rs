//! Whether a workload may have one more connection, request or large body. A refusal is the [`Limit`] that was
//! reached; the calling code emits the event.

use std::{rc::Rc, sync::Arc};

use crate::{
    descriptors,
    events::{Events, WorkerEvent},
    limits::{Limit, Taken, Usage, Use},
    memory,
    state::Shared,
};

impl Shared {
    /// Whether only the descriptors that are kept are left.
    pub fn crowded(&self) -> bool {
        let [used, most] = self.descriptors();
        most > 0 && used >= most
    }

    /// A place for a connection of a workload.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn admit(&self, usage: &Arc<Usage>) -> Result<Taken, Limit> {
        // guard: descriptor-share
        if usage.open(Use::Connection) >= descriptors::FEW && self.crowded() {
            return Err(Limit::Descriptors);
        }
        self.admit_bytes(usage, memory::CONNECTION)?;
        usage.take(Use::Connection, self.limits.connections_per_workload).ok_or(Limit::ConnectionsPerWorkload)
    }

    /// Whether a workload may have this many bytes more.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn admit_bytes(&self, usage: &Usage, more: u64) -> Result<(), Limit> {
        let limits = &self.limits;
        let own = usage.bytes() + more;
        // guard: memory-share
        if limits.bytes_per_workload > 0 && own > limits.bytes_per_workload {
            return Err(Limit::BytesPerWorkload);
        }
        let all = limits.memory_bytes;
        // Workloads that use little are not checked: that saves adding up all workers' counts.
        if all > 0 && own > all / memory::FEW && self.bytes() + more > all {
            return Err(Limit::MemoryBytes);
        }
        Ok(())
    }

    /// A place for a large body of a workload's.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn admit_transfer(&self, usage: &Arc<Usage>, events: &Rc<Events>) -> Result<Transfer, Limit> {
        self.admit_bytes(usage, memory::TRANSFER)?;
        let taken = usage.take(Use::Transfer, u32::MAX).ok_or(Limit::BytesPerWorkload)?;
        events.emit(WorkerEvent::TransferBegan);
        Ok(Transfer { _taken: taken, events: Rc::clone(events) })
    }
}

/// A large body on its way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Transfer {
    _taken: Taken,
    events: Rc<Events>,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.events.emit(WorkerEvent::TransferEnded);
    }
}

/// An open socket towards a target, until it is dropped.
#[derive(Debug)]
pub(crate) struct UpstreamSocket(Rc<Events>);

impl UpstreamSocket {
    pub(crate) fn new(events: &Rc<Events>) -> Self {
        events.emit(WorkerEvent::UpstreamOpened);
        Self(Rc::clone(events))
    }
}

impl Drop for UpstreamSocket {
    fn drop(&mut self) {
        self.0.emit(WorkerEvent::UpstreamClosed);
    }
}
