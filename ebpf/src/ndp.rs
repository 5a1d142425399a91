//! Answers neighbour solicitations for VIPs (RFC 4861), so that a workload needs no more than a route that covers them.

use aya_ebpf::{bindings::BPF_F_RECOMPUTE_CSUM, helpers::generated::bpf_skb_change_tail, programs::TcContext};
use brattice_abi::{Address, Config, Counter, DropReason, VIRTUAL_MAC, WorkloadKey};

use crate::{
    address::{Ip, UNSPECIFIED},
    config::Ranges,
    ipv6::{self, Ipv6, VERSION_6},
    maps::WORKLOADS,
    packet::{ETH_LEN, TCX_NEXT, ifindex},
    protocols::ICMPV6,
    report::{Seen, count},
    rewrite, switches,
};

/// A solicitation or advertisement (RFC 4861, 4.3 and 4.4) without its options, as on the wire.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Message {
    kind: u8,
    code: u8,
    checksum: u16,
    /// Of an advertisement; a solicitation has none.
    flags: u32,
    target: Address,
}

const MESSAGE_LEN: u32 = size_of::<Message>() as u32;
const _: () = assert!(MESSAGE_LEN == 24);

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Flags of an advertisement: an answer to a solicitation, ...
const SOLICITED: u32 = 0x4000_0000u32.to_be();
/// ... which replaces what is known of the target.
const OVERRIDE: u32 = 0x2000_0000u32.to_be();
/// No router in between can have sent it (RFC 4861, 7.1.1).
const HOP_LIMIT: u8 = 255;
/// Options that are looked through; with more, nothing is answered.
const MAX_OPTIONS: u32 = 4;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// The answer behind the Ethernet header, as on the wire.
#[repr(C)]
#[derive(Clone, Copy)]
struct Answer {
    header: Ipv6,
    message: Message,
    option: [u8; 2],
    mac: [u8; 6],
}

const ANSWER_LEN: u32 = size_of::<Answer>() as u32;
const _: () = assert!(ANSWER_LEN == ipv6::LEN + MESSAGE_LEN + 8);

/// `ff02::1`, and its MAC (RFC 2464, 7).
const ALL_NODES: Address = Address([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// `ff02::1:ff00:0` and the last three bytes of an address (RFC 4291, 2.7.1).
#[inline(always)]
fn solicited_node(target: Address) -> Address {
    let last = target.words()[3] & u32::from_ne_bytes([0, 0xff, 0xff, 0xff]);
    Address::from_words([0xff02_0000u32.to_be(), 0, 1u32.to_be(), u32::from_ne_bytes([0xff, 0, 0, 0]) | last])
}

/// A solicitation for a VIP that RFC 4861, 7.1.1 calls valid, asked at the VIP itself or at its multicast group. Its checksum is
/// not looked at: it may have been left to the hardware, and nothing that is learnt from it outlives the answer.
#[inline(always)]
pub(crate) fn solicitation(ctx: &TcContext, config: &Config, header: &Ipv6) -> Option<Message> {
    if header.next_header != ICMPV6 || header.hop_limit != HOP_LIMIT || !header.is_version_6() {
        return None;
    }
    let (promised, payload) = header.payload(ctx);
    if promised != payload || payload < MESSAGE_LEN {
        return None;
    }
    let message: Message = ctx.load((ETH_LEN + ipv6::LEN) as usize).ok()?;
    if message.kind != SOLICITATION || message.code != 0 || !config.is_vip(message.target) {
        return None;
    }
    let probe = header.source.is(UNSPECIFIED);
    let group = header.destination.is(solicited_node(message.target));
    if !group && (probe || !header.destination.is(message.target)) {
        return None;
    }
    options_are_sound(ctx, payload, probe).then_some(message)
}

/// All end where the message does, which one of length 0 never does, and a probe tells no link address.
#[inline(always)]
fn options_are_sound(ctx: &TcContext, payload: u32, probe: bool) -> bool {
    let mut offset = MESSAGE_LEN;
    for _ in 0..MAX_OPTIONS {
        if offset == payload {
            return true;
        }
        let Ok([kind, units]) = ctx.load::<[u8; 2]>((ETH_LEN + ipv6::LEN + offset) as usize) else { return false };
        if probe && kind == SOURCE_LINK_LAYER_ADDRESS {
            return false;
        }
        offset += (units as u32) << 3;
    }
    offset == payload
}

/// Answers out of the same interface, to the link address that asked, so that a bridge behind it sees neither and learns
/// nothing. A probe (from `::`: a host wants to take the VIP) is answered to all nodes, which defends the VIP.
#[inline(always)]
pub(crate) fn answer(
    ctx: &TcContext,
    header: &Ipv6,
    solicitation: &Message,
    seen: &mut Seen,
) -> Result<i32, DropReason> {
    let ifindex = ifindex(ctx);
    (seen.source, seen.destination, seen.protocol) = (header.source, header.destination, ICMPV6);
    // SAFETY: the value is only read.
    let workload = unsafe { WORKLOADS.get(WorkloadKey { ifindex, address: header.source }) };
    if switches::all_detached() || workload.is_some_and(|w| switches::workload_detached(w.workload_id)) {
        count(Counter::DetachedPassed);
        return Ok(TCX_NEXT);
    }
    let (to, mac, flags) = if header.source.is(UNSPECIFIED) {
        (ALL_NODES, ALL_NODES_MAC, OVERRIDE)
    } else {
        let [_, asker]: [[u8; 6]; 2] = ctx.load(0).map_err(|_| DropReason::HelperFailed)?;
        (header.source, asker, SOLICITED | OVERRIDE)
    };
    let length = ((MESSAGE_LEN + 8) as u16).to_be();
    let mut answer = Answer {
        // First as the pseudo header, whose sum is the same: length, protocol and addresses, nothing else.
        header: Ipv6 {
            version_class_flow: 0,
            payload_length: length,
            next_header: 0,
            hop_limit: ICMPV6,
            source: solicitation.target,
            destination: to,
        },
        message: Message { kind: ADVERTISEMENT, code: 0, checksum: 0, flags, target: solicitation.target },
        option: [TARGET_LINK_LAYER_ADDRESS, 1],
        mac: VIRTUAL_MAC,
    };
    answer.message.checksum = rewrite::checksum(&mut answer, 0);
    answer.header.version_class_flow = VERSION_6;
    (answer.header.next_header, answer.header.hop_limit) = (ICMPV6, HOP_LIMIT);

    // SAFETY: the context is valid while the program runs.
    if unsafe { bpf_skb_change_tail(ctx.skb.skb, ETH_LEN + ANSWER_LEN, 0) } != 0 {
        return Err(DropReason::HelperFailed);
    }
    ctx.store(ETH_LEN as usize, &answer, BPF_F_RECOMPUTE_CSUM as u64).map_err(|_| DropReason::HelperFailed)?;
    rewrite::macs(ctx, &[mac, VIRTUAL_MAC])?;
    count(Counter::NdpAnswered);
    Ok(rewrite::redirect_out(ifindex))
}
