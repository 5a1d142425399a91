//! Positions in the lists of a [`Snapshot`](crate::snapshot::Snapshot).
//!
//! Each list has its own type, so that a position in one is not taken for a position in another, or for a number that
//! lasts longer than a snapshot. All are sent as the bare `u32`.

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

macro_rules! indices {
    ($($(#[$documentation:meta])* $name:ident,)+) => {$(
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u32);

        impl $name {
            /// Of the entry at this position.
            ///
            /// # Panics
            /// When a list is so long that it fits into no frame.
            #[allow(clippy::cast_possible_truncation, reason = "checked on the line before")]
            pub const fn new(position: usize) -> Self {
                assert!(position <= u32::MAX as usize, "a list of four billion entries does not fit into a frame");
                Self(position as u32)
            }

            /// The position, from 0.
            pub const fn position(self) -> usize {
                self.0 as usize
            }
        }

        impl Display for $name {
            fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    )+};
}

indices! {
    /// The position of a VPC in [`Snapshot::vpcs`](crate::snapshot::Snapshot::vpcs).
    VpcIndex,
    /// The position of a workload's address in [`Snapshot::workloads`](crate::snapshot::Snapshot::workloads). Not the
    /// workload's number on the node.
    WorkloadIndex,
    /// The position of a service in [`Snapshot::services`](crate::snapshot::Snapshot::services). Not its
    /// [`ServiceNumber`](crate::snapshot::ServiceNumber).
    ServiceIndex,
    /// The position of a target group in [`Snapshot::target_groups`](crate::snapshot::Snapshot::target_groups).
    TargetGroupIndex,
    /// The position of a service network in [`Snapshot::networks`](crate::snapshot::Snapshot::networks).
    NetworkIndex,
    /// The position of a role in [`Snapshot::roles`](crate::snapshot::Snapshot::roles).
    RoleIndex,
    /// The position of a policy in [`Snapshot::policies`](crate::snapshot::Snapshot::policies).
    PolicyIndex,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_sent_as_the_number_that_it_holds() {
        let frame = |list: &[usize]| {
            postcard::to_allocvec(&list.iter().map(|position| VpcIndex::new(*position)).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(frame(&[0, 1, 300]), postcard::to_allocvec(&vec![0u32, 1, 300]).unwrap());
        let index: VpcIndex = postcard::from_bytes(&postcard::to_allocvec(&300u32).unwrap()).unwrap();
        assert_eq!((index.position(), index.to_string()), (300, "300".to_owned()));
    }
}
