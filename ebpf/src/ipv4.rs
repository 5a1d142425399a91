//! The fixed IPv4 header and its checks.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use brattice_abi::{DropReason, IPPROTO_TCP, IPPROTO_UDP};

use crate::{
    icmp::message::{Icmp, LEAST_QUOTED},
    packet::{Checked, ETH_LEN, Header, frame_len, gso_size, has_ports},
    protocols::ICMP,
};

/// Least bytes of an IPv4 header.
const MIN_LEN: u32 = 20;

/// The fixed part of an IPv4 header (RFC 791, 3.1), as on the wire.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    total_length: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    pub(crate) checksum: u16,
    source: u32,
    destination: u32,
}

const _: () = assert!(size_of::<Ipv4>() == MIN_LEN as usize);

impl Ipv4 {
    /// Header length in bytes, 0 to 60.
    #[inline(always)]
    fn len(&self) -> u32 {
        ((self.version_ihl & 0x0f) as u32) << 2
    }

    /// Fragment offset in units of 8 bytes.
    #[inline(always)]
    fn fragment_offset(&self) -> u16 {
        u16::from_be(self.fragment) & 0x1fff
    }
}

impl Header for Ipv4 {
    type Address = u32;

    #[inline(always)]
    fn load(ctx: &TcContext) -> Option<Self> {
        ctx.load(ETH_LEN as usize).ok()
    }

    #[inline(always)]
    fn source(&self) -> u32 {
        u32::from_be(self.source)
    }

    #[inline(always)]
    fn destination(&self) -> u32 {
        u32::from_be(self.destination)
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn peek_destination_port(&self, ctx: &TcContext) -> u16 {
        let has_ports = self.protocol == IPPROTO_TCP || self.protocol == IPPROTO_UDP;
        if !has_ports || self.version_ihl >> 4 != 4 || self.len() < MIN_LEN || self.fragment_offset() != 0 {
            return 0;
        }
        ctx.load::<u16>((ETH_LEN + self.len() + 2) as usize).map_or(0, u16::from_be)
    }

    #[inline(always)]
    fn check(&self, ctx: &TcContext) -> Result<Checked, DropReason> {
        let present = frame_len(ctx).wrapping_sub(ETH_LEN);
        let header = self.len();
        if self.version_ihl >> 4 != 4 || header < MIN_LEN {
            return Err(DropReason::Malformed);
        }
        if header > present {
            return Err(DropReason::Truncated);
        }
        if header > MIN_LEN && source_routed(ctx.skb.skb, ETH_LEN + header) != 0 {
            return Err(DropReason::SourceRouted);
        }
        let mut total = u16::from_be(self.total_length) as u32;
        if total == 0 && gso_size(ctx) != 0 {
            // A GSO packet of more than 64 KiB has no total length that 16 bits could hold (BIG TCP).
            total = present;
        }
        if total < header {
            return Err(DropReason::Malformed);
        }
        Checked {
            protocol: self.protocol,
            l4_offset: ETH_LEN + header,
            payload: if total < present { total } else { present } - header,
            first: self.fragment_offset() == 0,
            whole: total <= present,
            needs_checksum: false,
        }
        .with_room_for_ports((self.fragment_offset() as u32) << 3)
    }
}

/// Most bytes of options.
const MAX_OPTIONS: u32 = 40;
/// Kinds of options (RFC 791, 3.1).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Whether there is an option that names a way, be it gone already: a stack that takes part sends its answers back by it. Behind
/// a malformed one nothing is looked for: the stack refuses the packet. Called rather than inlined because it has a loop.
#[inline(never)]
fn source_routed(skb: *mut __sk_buff, end: u32) -> u32 {
    let ctx = TcContext::new(skb);
    let mut offset = ETH_LEN + MIN_LEN;
    for _ in 0..MAX_OPTIONS {
        if offset >= end {
            return 0;
        }
        // The length of one without is the next one's kind; behind the last one there is TCP or UDP, or the frame is cut off.
        let Ok([kind, len]) = ctx.load::<[u8; 2]>(offset as usize) else { return 0 };
        if kind == END_OF_OPTIONS {
            return 0;
        }
        // guard: source-route
        if kind == LOOSE_SOURCE_ROUTE || kind == STRICT_SOURCE_ROUTE {
            return 1;
        }
        // Without a branch, or the verifier would go all ways in which options can follow each other.
        let alone = is_no_operation(kind);
        let step = alone | len as u32 & alone.wrapping_sub(1);
        if step < 2 - alone {
            return 0;
        }
        offset += step;
    }
    0
}

/// 1 or 0, of a kind above 0.
#[inline(always)]
fn is_no_operation(kind: u8) -> u32 {
    let mut kind = kind as u32;
    // SAFETY: a local variable. Volatile, so that no branch is made of what follows.
    unsafe {
        (&raw mut kind).write_volatile(kind);
        (&raw const kind).read_volatile().wrapping_sub(NO_OPERATION as u32 + 1) >> 31
    }
}

const UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

impl Icmp for Ipv4 {
    const PROTOCOL: u8 = ICMP;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        kind == UNREACHABLE || kind == TIME_EXCEEDED || kind == PARAMETER_PROBLEM
    }

    #[inline(always)]
    fn quoted(ctx: &TcContext, offset: u32, room: u32) -> Option<(Self, Checked)> {
        if room < MIN_LEN {
            return None;
        }
        let header: Self = ctx.load(offset as usize).ok()?;
        let len = header.len();
        if header.version_ihl >> 4 != 4
            || len < MIN_LEN
            || len + LEAST_QUOTED > room
            || !has_ports(header.protocol)
            || header.fragment_offset() != 0
        {
            return None;
        }
        let checked = Checked {
            protocol: header.protocol,
            l4_offset: offset + len,
            payload: room - len,
            first: true,
            whole: false,
            needs_checksum: false,
        };
        Some((header, checked))
    }
}

/// A header without options of a packet of this host; its checksum is still 0.
#[inline(always)]
pub(crate) fn new(protocol: u8, total_length: u16, source: u32, destination: u32) -> Ipv4 {
    Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: total_length.to_be(),
        id: 0,
        fragment: 0x4000u16.to_be(),
        ttl: 64,
        protocol,
        checksum: 0,
        source: source.to_be(),
        destination: destination.to_be(),
    }
}
