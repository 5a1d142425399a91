//! The MAC of a guest, where a document names it.

use aya_ebpf::programs::TcContext;
use brattice_abi::{DropReason, WORKLOAD_MAC_DOCUMENTED, Workload};

use crate::maps::ALIASES;

/// Offset of a frame's source MAC.
const SOURCE_MAC: usize = 6;

/// Whether the frame's MAC is the workload's, where a document names it.
#[inline(always)]
pub(crate) fn check(ctx: &TcContext, workload: &Workload) -> Result<(), DropReason> {
    // guard: documented-mac
    if workload.flags & WORKLOAD_MAC_DOCUMENTED == 0 {
        return Ok(());
    }
    // SAFETY: the value is only read; the agent replaces whole values.
    let alias = unsafe { ALIASES.get(workload.alias) }.ok_or(DropReason::SpoofedSource)?;
    let mac: [u8; 6] = ctx.load(SOURCE_MAC).map_err(|_| DropReason::Truncated)?;
    if mac == alias.mac { Ok(()) } else { Err(DropReason::SpoofedSource) }
}
