//! What an ICMP error of either family is, and the packet that it quotes.

use aya_ebpf::programs::TcContext;

use crate::{
    packet::{Checked, Header},
    rewrite::Place,
};

/// Bytes before the quoted packet.
pub(crate) const HEADER_LEN: u32 = 8;
/// Bytes of TCP or UDP that a quote must hold: both ports, and the sequence number (RFC 792; RFC 1122, 3.2.2).
pub(crate) const LEAST_QUOTED: u32 = 8;

/// ICMP of a family of IP.
pub(crate) trait Icmp: Header
where
    Self::Address: Place,
{
    /// Its protocol number.
    const PROTOCOL: u8;

    /// Is this type of message an error that one of our flows may cause? Not redirects, nor source quench.
    fn is_error(kind: u8) -> bool;

    /// The quoted header at an offset of the frame, and what it carries, of which `room` bytes are there: the start of a TCP
    /// or UDP packet. A later fragment, which has no ports, and an error about an error are none.
    fn quoted(ctx: &TcContext, offset: u32, room: u32) -> Option<(Self, Checked)>;
}

/// Is it an error that may be let through? The first fragment of one as well: the later ones are dropped, so it never
/// becomes whole.
#[inline(always)]
pub(crate) fn is_error<H>(ctx: &TcContext, checked: &Checked) -> bool
where
    H: Icmp,
    H::Address: Place,
{
    checked.protocol == H::PROTOCOL
        && checked.first
        && ctx.load::<u8>(checked.l4_offset as usize).is_ok_and(H::is_error)
}
