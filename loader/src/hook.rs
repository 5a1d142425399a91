//! How programs are attached to interfaces.

use crate::sys::{self, Side};

/// The kernel's way to run a classifier on an interface's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCX links, from 6.6 on: an ordered list, each program with a link of its own.
    Tcx,
    /// Filters of the `clsact` queueing discipline, on older kernels.
    Clsact,
}

impl Hook {
    /// The better one that this kernel has.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        // Interface 1 is lo, in every network namespace.
        if sys::query_tcx(1, Side::Ingress).is_ok() { Self::Tcx } else { Self::Clsact }
    }

    /// `TCX` or `clsact`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "TCX",
            Self::Clsact => "clsact",
        }
    }
}
