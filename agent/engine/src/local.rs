//! A worker's part of what all share: its events, the bounds, its time. No lock, no atomics but the counts.

use std::{cell::Cell, rc::Rc, sync::Arc};

use brattice_wire::engine::Limits;

use crate::{admission::UpstreamSocket, clock::Clock, events::Events, heartbeat::Slot, state::Shared};

/// Events and bounds that everything on one worker's thread shares.
pub(crate) struct Local {
    pub(crate) index: u32,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: Rc<Events>,
    pub(crate) clock: Rc<Clock>,
    /// Only the descriptors that are kept are left, as the sweeper saw it.
    pub(crate) crowded: Cell<bool>,
}

impl Local {
    pub(crate) fn new(shared: Arc<Shared>, index: u32, slot: Slot) -> Rc<Self> {
        let events = Events::new(&shared.sinks(), slot, index);
        let clock = Rc::new(Clock::new(&shared.limits));
        Rc::new(Self { index, shared, events, clock, crowded: Cell::default() })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// A socket towards a target, as events tell of it; until it is dropped.
    pub(crate) fn upstream_socket(&self) -> UpstreamSocket {
        UpstreamSocket::new(&self.events)
    }
}
