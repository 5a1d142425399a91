//! A worker's part of what all share: its counts, the bounds, its time. No lock, no atomics but the counts.

use std::{cell::Cell, rc::Rc, sync::Arc};

use brattice_wire::engine::Limits;

use crate::{clock::Clock, descriptors::Held, heartbeat::Slot, state::Shared, stats::Counts};

/// What everything on one worker's thread counts by and is bounded by.
pub(crate) struct Local {
    pub(crate) index: u32,
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Slot,
    pub(crate) clock: Rc<Clock>,
    /// Only the descriptors that are kept are left, as the sweeper saw it.
    pub(crate) crowded: Cell<bool>,
}

impl Local {
    pub(crate) fn new(shared: Arc<Shared>, index: u32, slot: Slot) -> Rc<Self> {
        let clock = Rc::new(Clock::new(&shared.limits));
        Rc::new(Self { index, shared, slot, clock, crowded: Cell::default() })
    }

    pub(crate) fn counts(&self) -> &Counts {
        self.shared.counts.worker(self.index)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Counts a socket towards a target.
    pub(crate) fn held(&self) -> Held {
        Held::new(&self.shared, self.index)
    }
}
