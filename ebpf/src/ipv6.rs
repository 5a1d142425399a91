//! The fixed IPv6 header, the extension headers behind it, and their checks.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use brattice_abi::{Address, DropReason, MAX_EXTENSION_HEADERS};

use crate::{
    icmp::message::{Icmp, LEAST_QUOTED},
    packet::{Checked, ETH_LEN, Header, frame_len, gso_size, has_ports},
    protocols::{AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMPV6, ROUTING},
};

/// Bytes of the fixed header.
pub(crate) const LEN: u32 = 40;

/// The fixed header (RFC 8200, 3), as on the wire.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv6 {
    pub(crate) version_class_flow: u32,
    pub(crate) payload_length: u16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: Address,
    pub(crate) destination: Address,
}

const _: () = assert!(size_of::<Ipv6>() == LEN as usize);

/// Version 6, traffic class and flow label 0.
pub(crate) const VERSION_6: u32 = 0x6000_0000u32.to_be();

impl Ipv6 {
    #[inline(always)]
    pub(crate) fn is_version_6(&self) -> bool {
        self.version_class_flow & 0xf000_0000u32.to_be() == VERSION_6
    }

    /// Bytes behind the fixed header that its payload length promises, and that are there at most.
    #[inline(always)]
    pub(crate) fn payload(&self, ctx: &TcContext) -> (u32, u32) {
        let present = frame_len(ctx).wrapping_sub(ETH_LEN + LEN);
        let mut promised = u16::from_be(self.payload_length) as u32;
        if promised == 0 && gso_size(ctx) != 0 {
            // A GSO packet of more than 64 KiB has no payload length that 16 bits could hold (BIG TCP).
            promised = present;
        }
        (promised, if promised < present { promised } else { present })
    }
}

impl Header for Ipv6 {
    type Address = Address;

    #[inline(always)]
    fn load(ctx: &TcContext) -> Option<Self> {
        ctx.load(ETH_LEN as usize).ok()
    }

    #[inline(always)]
    fn source(&self) -> Address {
        self.source
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        self.destination
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.next_header
    }

    #[inline(always)]
    fn peek_destination_port(&self, ctx: &TcContext) -> u16 {
        if !self.is_version_6() {
            return 0;
        }
        let (_, payload) = self.payload(ctx);
        match Chain::walk(ctx, ETH_LEN, self.next_header, payload) {
            Ok(chain) if chain.fragment_offset == 0 && has_ports(chain.protocol) => {
                ctx.load::<u16>((ETH_LEN + LEN + chain.len + 2) as usize).map_or(0, u16::from_be)
            }
            _ => 0,
        }
    }

    #[inline(always)]
    fn check(&self, ctx: &TcContext) -> Result<Checked, DropReason> {
        if !self.is_version_6() {
            return Err(DropReason::Malformed);
        }
        let (promised, payload) = self.payload(ctx);
        let chain = Chain::walk(ctx, ETH_LEN, self.next_header, payload)?;
        let present = frame_len(ctx).wrapping_sub(ETH_LEN + LEN);
        Checked {
            protocol: chain.protocol,
            l4_offset: ETH_LEN + LEN + chain.len,
            payload: payload.wrapping_sub(chain.len),
            first: chain.fragment_offset == 0,
            whole: promised <= present,
            needs_checksum: true,
        }
        .with_room_for_ports(chain.fragment_offset)
    }
}

/// What the extension headers come to.
struct Chain {
    /// What follows them: TCP, UDP, another protocol; in a later fragment the first header of what was fragmented.
    protocol: u8,
    /// Their bytes.
    len: u32,
    /// In bytes.
    fragment_offset: u32,
}

/// The first 4 bytes of every extension header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Start {
    next_header: u8,
    /// Not for the fragment header.
    len: u8,
    /// Of the routing header: its type and segments left. Of the fragment header: offset and flags.
    rest: [u8; 2],
}

/// [`walk`] returns [`Chain`] and the reason of a failure in one number.
const REASON_SHIFT: u32 = 56;
const PROTOCOL_SHIFT: u32 = 48;
const OFFSET_SHIFT: u32 = 32;

impl Chain {
    /// From the next header field of the fixed header at `offset`, within this many bytes behind it.
    #[inline(always)]
    fn walk(ctx: &TcContext, offset: u32, next_header: u8, payload: u32) -> Result<Self, DropReason> {
        let chain = walk(ctx.skb.skb, offset, next_header as u32, payload);
        match chain >> REASON_SHIFT {
            0 => Ok(Self {
                protocol: (chain >> PROTOCOL_SHIFT) as u8,
                len: chain as u32,
                fragment_offset: (chain >> OFFSET_SHIFT) as u32 & 0xfff8,
            }),
            TRUNCATED => Err(DropReason::Truncated),
            SOURCE_ROUTED => Err(DropReason::SourceRouted),
            MALFORMED => Err(DropReason::Malformed),
            _ => Err(DropReason::TooManyHeaders),
        }
    }
}

const TRUNCATED: u64 = DropReason::Truncated as u64;
const SOURCE_ROUTED: u64 = DropReason::SourceRouted as u64;
const MALFORMED: u64 = DropReason::Malformed as u64;
const TOO_MANY: u64 = DropReason::TooManyHeaders as u64;

/// Called rather than inlined: it has a loop, and is needed where foreign traffic is looked at
/// and where ours is checked. Its result is one word because a call can return no more.
#[inline(never)]
fn walk(skb: *mut __sk_buff, offset: u32, next_header: u32, payload: u32) -> u64 {
    let ctx = TcContext::new(skb);
    let mut next = next_header as u8;
    let mut len = 0u32;
    let mut fragment = 0u32;
    // One turn more than there may be headers: the last one only finds out that there is none.
    for turn in 0..=MAX_EXTENSION_HEADERS {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS)
            || fragment & 0xfff8 != 0
        {
            return (next as u64) << PROTOCOL_SHIFT | (fragment as u64) << OFFSET_SHIFT | len as u64;
        }
        // RFC 8200, 4.1: nowhere else.
        if next == HOP_BY_HOP && turn != 0 {
            return MALFORMED << REASON_SHIFT;
        }
        let Ok(start) = ctx.load::<Start>((offset + LEN + len) as usize) else { return TRUNCATED << REASON_SHIFT };
        let [kind, segments_left] = start.rest;
        // guard: routing-header
        if next == ROUTING && (kind == 0 || segments_left != 0) {
            return SOURCE_ROUTED << REASON_SHIFT;
        }
        len += match next {
            FRAGMENT => {
                fragment = u16::from_be_bytes(start.rest) as u32;
                8
            }
            AUTHENTICATION => (start.len as u32 + 2) << 2,
            _ => (start.len as u32 + 1) << 3,
        };
        // guard: headers-cut-off
        if len > payload {
            return TRUNCATED << REASON_SHIFT;
        }
        next = start.next_header;
    }
    TOO_MANY << REASON_SHIFT
}

impl Icmp for Ipv6 {
    const PROTOCOL: u8 = ICMPV6;

    /// All that RFC 4443, 2.1 numbers as errors and defines: unreachable, too big, time exceeded, parameter problem.
    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        kind >= 1 && kind <= 4
    }

    #[inline(always)]
    fn quoted(ctx: &TcContext, offset: u32, room: u32) -> Option<(Self, Checked)> {
        if room < LEN {
            return None;
        }
        let header: Self = ctx.load(offset as usize).ok()?;
        if !header.is_version_6() {
            return None;
        }
        let room = room - LEN;
        let chain = Chain::walk(ctx, offset, header.next_header, room).ok()?;
        if !has_ports(chain.protocol) || chain.fragment_offset != 0 || chain.len + LEAST_QUOTED > room {
            return None;
        }
        let checked = Checked {
            protocol: chain.protocol,
            l4_offset: offset + LEN + chain.len,
            payload: room - chain.len,
            first: true,
            whole: false,
            needs_checksum: false,
        };
        Some((header, checked))
    }
}
