//! Packets that are larger than their workload's MTU. A veth pair drops such a packet without an ICMP error. So this
//! program answers the sender (only the engine's sockets on this host get this far) as a router would: the packet
//! becomes an ICMP error about itself, from the alias, and goes back into `brattice0`. The stack remembers the MTU of
//! that alias.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::bpf_skb_change_tail,
    programs::TcContext,
};
use brattice_abi::{Config, Counter, DropReason, IPPROTO_TCP, VIRTUAL_MAC};

use crate::{
    address::Ip,
    config,
    icmp::message::Icmp,
    ipv4::{self, Ipv4},
    ipv6::{Ipv6, VERSION_6},
    maps::ALIASES,
    packet::{Checked, ETH_LEN, ETH_P_IP, Header, TCX_DROP, UDP_LEN, frame_len, gso_size, ifindex, protocol},
    report::{self, Program, Seen, count},
    rewrite,
};

/// Does it fit into this many bytes (0: not known)? Of a GSO packet each segment must.
#[inline(always)]
pub(crate) fn fits(ctx: &TcContext, checked: &Checked, mtu: u16) -> bool {
    let mtu = mtu as u32;
    if mtu == 0 || frame_len(ctx) - ETH_LEN <= mtu {
        return true;
    }
    let segment = gso_size(ctx);
    if segment == 0 {
        return false;
    }
    let header = if checked.protocol == IPPROTO_TCP {
        // The data offset, in words.
        ctx.load::<u8>((checked.l4_offset + 12) as usize).map_or(0, |o| (o >> 4) as u32) << 2
    } else {
        UDP_LEN
    };
    checked.l4_offset - ETH_LEN + header + segment <= mtu
}

/// An error that fits the family: "fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443, 3.2).
trait TooLarge: Header {
    /// As much of the packet as the stack needs to find the socket.
    type Quote;
    /// What stands before the quote: the IP and the ICMP header.
    type Start;

    /// About this packet, with all checksums; `quote` is the sum over the quote.
    fn error(&self, mtu: u16, quote: u32) -> Self::Start;
}

/// `workload_egress` goes on here with what does not fit ([`crate::packet::TOO_LARGE`]).
#[inline(always)]
pub(crate) fn answer(skb: *mut __sk_buff) -> i32 {
    if protocol(&TcContext::new(skb)) == ETH_P_IP { answer4(skb) } else { answer6(skb) }
}

#[inline(never)]
fn answer4(skb: *mut __sk_buff) -> i32 {
    answer_as::<Ipv4>(skb)
}

#[inline(never)]
fn answer6(skb: *mut __sk_buff) -> i32 {
    answer_as::<Ipv6>(skb)
}

#[inline(always)]
fn answer_as<H: TooLarge>(skb: *mut __sk_buff) -> i32 {
    let ctx = TcContext::new(skb);
    let mut seen = Seen::NOTHING;
    let verdict = match config::get() {
        Some(config) => become_error::<H>(&ctx, config, &mut seen),
        None => Err(DropReason::NotConfigured),
    };
    verdict.unwrap_or_else(|reason| {
        report::dropped(Program::WorkloadEgress, reason, ifindex(&ctx), &seen);
        TCX_DROP
    })
}

/// No error is sent about a later fragment (RFC 1122, 3.2.2): the first one is as large.
#[inline(always)]
fn become_error<H: TooLarge>(ctx: &TcContext, config: &Config, seen: &mut Seen) -> Result<i32, DropReason> {
    let header = H::load(ctx).ok_or(DropReason::Truncated)?;
    let to = header.destination().key();
    *seen = Seen { source: header.source().key(), destination: to, protocol: header.protocol(), ..Seen::NOTHING };
    if !header.check(ctx)?.first {
        return Err(DropReason::TooLarge);
    }
    // SAFETY: the value is only read; the agent replaces whole values.
    let mtu = unsafe { ALIASES.get(to) }.ok_or(DropReason::UnknownAlias)?.mtu;
    let mut quote: H::Quote = ctx.load(ETH_LEN as usize).map_err(|_| DropReason::HelperFailed)?;
    let start = header.error(mtu, rewrite::sum(&mut quote, 0));
    let quote_at = ETH_LEN as usize + size_of::<H::Start>();
    // SAFETY: the context is valid while the program runs.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, (quote_at + size_of::<H::Quote>()) as u32, 0) } != 0 {
        return Err(DropReason::HelperFailed);
    }
    ctx.store(ETH_LEN as usize, &start, BPF_F_RECOMPUTE_CSUM as u64).map_err(|_| DropReason::HelperFailed)?;
    ctx.store(quote_at, &quote, BPF_F_RECOMPUTE_CSUM as u64).map_err(|_| DropReason::HelperFailed)?;
    rewrite::macs(ctx, &[config.brattice0_mac, VIRTUAL_MAC])?;
    count(Counter::TooLargeAnswered);
    Ok(rewrite::redirect_in(config.brattice0))
}

/// The first 8 bytes of the ICMP message, as on the wire.
#[repr(C)]
#[derive(Clone, Copy)]
struct Message {
    kind: u8,
    code: u8,
    checksum: u16,
    /// ICMPv6: 32 bits, of which the upper are 0 here.
    unused: u16,
    mtu: u16,
}

const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;
const HOP_LIMIT: u8 = 64;

/// See [`TooLarge::Start`].
#[repr(C)]
#[derive(Clone, Copy)]
struct Start<H> {
    header: H,
    message: Message,
}

const _: () = assert!(size_of::<Start<Ipv4>>() == 20 + 8 && size_of::<Start<Ipv6>>() == 40 + 8);

impl TooLarge for Ipv4 {
    /// The longest header, and 8 bytes. Whatever is larger than an MTU has as many (RFC 791: 68 is the least).
    type Quote = [u32; 17];
    type Start = Start<Self>;

    #[inline(always)]
    fn error(&self, mtu: u16, quote: u32) -> Start<Self> {
        const LEN: usize = size_of::<Start<Ipv4>>() + size_of::<<Ipv4 as TooLarge>::Quote>();
        let mut start = Start {
            header: ipv4::new(Self::PROTOCOL, LEN as u16, self.destination(), self.source()),
            message: Message {
                kind: UNREACHABLE,
                code: FRAGMENTATION_NEEDED,
                checksum: 0,
                unused: 0,
                mtu: mtu.to_be(),
            },
        };
        start.message.checksum = rewrite::checksum(&mut start.message, quote);
        start.header.checksum = rewrite::checksum(&mut start.header, 0);
        start
    }
}

impl TooLarge for Ipv6 {
    /// The header, room for a fragment header, and 16 bytes.
    type Quote = [u32; 16];
    type Start = Start<Self>;

    #[inline(always)]
    fn error(&self, mtu: u16, quote: u32) -> Start<Self> {
        const LEN: usize = size_of::<Message>() + size_of::<<Ipv6 as TooLarge>::Quote>();
        let mut start = Start {
            // First as the pseudo header, whose sum is the same: length, protocol and addresses, nothing else.
            header: Ipv6 {
                version_class_flow: 0,
                payload_length: (LEN as u16).to_be(),
                next_header: 0,
                hop_limit: Self::PROTOCOL,
                source: self.destination,
                destination: self.source,
            },
            message: Message { kind: PACKET_TOO_BIG, code: 0, checksum: 0, unused: 0, mtu: mtu.to_be() },
        };
        start.message.checksum = rewrite::checksum(&mut start, quote);
        start.header.version_class_flow = VERSION_6;
        (start.header.next_header, start.header.hop_limit) = (Self::PROTOCOL, HOP_LIMIT);
        start
    }
}
