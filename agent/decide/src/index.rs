//! Indexes into a snapshot.

/// The place of a service in the snapshot. Not its number on the node, see [`crate::Service::number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceIndex(u32);

impl ServiceIndex {
    /// Of a service at this place of a list.
    pub(crate) fn new(position: usize) -> Self {
        Self(bounded(position))
    }

    /// As the snapshot refers to it.
    pub const fn of(index: u32) -> Self {
        Self(index)
    }

    pub(crate) const fn position(self) -> usize {
        self.0 as usize
    }
}

/// The place of a workload in the snapshot. Not its number on the node, see [`crate::Caller::number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadIndex(u32);

impl WorkloadIndex {
    /// Of a workload at this place of a list.
    pub fn new(position: usize) -> Self {
        Self(bounded(position))
    }

    /// The place.
    pub const fn position(self) -> usize {
        self.0 as usize
    }
}

fn bounded(position: usize) -> u32 {
    u32::try_from(position).expect("a snapshot of four billion entries does not fit into a frame")
}
