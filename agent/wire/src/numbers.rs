//! Numbers that the agent gives for longer than a snapshot lasts, each kind with its own type. All are sent and kept as the
//! bare `u32`. Positions in the lists of a snapshot are in [`crate::index`].

use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};

macro_rules! numbers {
    ($($(#[$documentation:meta])* $name:ident,)+) => {$(
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u32);

        impl $name {
            /// The number that was given.
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// As kernel maps and records have it.
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl Display for $name {
            fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    )+};
}

numbers! {
    /// The number of a service on this node: stable for as long as the service exists, never given twice; 0 stands for no
    /// service. The service's position in a snapshot is a [`ServiceIndex`](crate::index::ServiceIndex).
    ServiceNumber,
    /// The number of a workload on this node, the same for all its addresses and whenever it comes back under its name;
    /// never 0. The position of one of its addresses in a snapshot is a [`WorkloadIndex`](crate::index::WorkloadIndex).
    WorkloadNumber,
    /// How often aliases were given when an alias was given to its workload: no two holders of an alias have the same.
    AliasGeneration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_sent_and_kept_as_it_is() {
        let number = WorkloadNumber::new(300);
        assert_eq!(postcard::to_allocvec(&number).unwrap(), postcard::to_allocvec(&300u32).unwrap());
        assert_eq!(number.to_string(), "300");
    }
}
