//! VLAN tags. One with VLAN id 0 only gives a priority (IEEE 802.1Q, 9.6): the stack takes it off, one after the other of either
//! ethertype, and then looks at the packet as if it had come without; here or, over a bridge, at a neighbour's. So such a packet
//! is looked at as what it becomes. What is not taken gets its tags back.
//!
//! The kernel has taken the first tag off the frame and put it aside before a program sees it (`__sk_buff.vlan_present`).

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_skb_vlan_pop, bpf_skb_vlan_push},
    programs::TcContext,
};
use brattice_abi::{DropReason, MAX_TAGS};

use crate::{
    packet::{
        ETH_LEN, ETH_P_8021AD, ETH_P_8021Q, TCX_DROP, TCX_NEXT, frame_len, ifindex, protocol, vlan, vlan_proto,
        vlan_tci,
    },
    report::{self, Program, Seen},
};

/// Tags in the order in which they were taken off, 5 bits each, the last one lowest: a bit for the ethertype, then priority and
/// drop eligibility. Above them a 1.
type Tags = u32;

/// No tag was taken off.
const NONE: Tags = 1;
const TAG_BITS: u32 = 5;
const OF_8021AD: u32 = 16;
/// The bit in which the two ethertypes differ, in network order.
const BIT_OF_8021AD: u32 = 15;
const _: () = assert!(ETH_P_8021AD >> BIT_OF_8021AD & 1 == 1 && ETH_P_8021Q >> BIT_OF_8021AD & 1 == 0);
/// Priority and drop eligibility, above the id, of tag control information.
const PRIORITY_SHIFT: u32 = 12;
const ID: u32 = 0xfff;
/// What [`strip`] says instead of tags.
const ANOTHER_NETWORK: u32 = 0;
const TOO_MANY: u32 = u32::MAX;
const FAILED: u32 = u32::MAX - 1;

const _: () = assert!(MAX_TAGS * TAG_BITS + 1 < u32::BITS);

/// What was taken off, and how it is put back.
pub(crate) struct Taken {
    /// The verifier must not know how many there are: it would follow all that comes between once for each number. So they are
    /// mixed with the length of the frame, which it does not know and which is the same when they are put back.
    hidden: u32,
}

impl Taken {
    /// Takes off all tags, if all have VLAN id 0. Otherwise the verdict.
    #[inline(always)]
    pub(crate) fn off(ctx: &TcContext) -> Result<Self, i32> {
        let mut tags = NONE;
        // guard: priority-tags
        if vlan(ctx) != 0 || is_tag(protocol(ctx)) {
            tags = strip(ctx.skb.skb);
            let reason = match tags {
                ANOTHER_NETWORK => return Err(TCX_NEXT),
                // guard: too-many-tags
                TOO_MANY => Some(DropReason::TooManyTags),
                FAILED => Some(DropReason::HelperFailed),
                _ => None,
            };
            if let Some(reason) = reason {
                return Err(drop(ctx, reason));
            }
        }
        Ok(Self { hidden: tags ^ frame_len(ctx) })
    }

    /// `TCX_NEXT`, with all tags in their place again.
    #[inline(always)]
    pub(crate) fn put_back(self, ctx: &TcContext) -> i32 {
        let tags = self.hidden ^ frame_len(ctx);
        if tags == NONE || put_back(ctx.skb.skb, tags) == TCX_NEXT {
            return TCX_NEXT;
        }
        drop(ctx, DropReason::HelperFailed)
    }
}

#[inline(always)]
fn is_tag(ethertype: u32) -> bool {
    ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD
}

fn drop(ctx: &TcContext, reason: DropReason) -> i32 {
    report::dropped(Program::WorkloadIngress, reason, ifindex(ctx), &Seen::NOTHING);
    TCX_DROP
}

/// Takes tags off, until there is none. One of another network: none is taken off.
#[inline(never)]
fn strip(skb: *mut __sk_buff) -> Tags {
    let ctx = TcContext::new(skb);
    let mut tags = NONE;
    for _ in 0..MAX_TAGS {
        let (ethertype, control) = if vlan(&ctx) != 0 {
            (vlan_proto(&ctx), vlan_tci(&ctx))
        } else if is_tag(protocol(&ctx)) {
            // Cut off: the stack drops it.
            let Ok(control) = ctx.load::<u16>(ETH_LEN as usize) else { return ANOTHER_NETWORK };
            (protocol(&ctx), u16::from_be(control) as u32)
        } else {
            return tags;
        };
        // guard: other-vlan
        if control & ID != 0 {
            return if put_back(skb, tags) == TCX_NEXT { ANOTHER_NETWORK } else { FAILED };
        }
        // SAFETY: the context is valid while the program runs.
        if unsafe { bpf_skb_vlan_pop(skb) } != 0 {
            return FAILED;
        }
        // Without a branch, or the verifier would go all ways in which tags can follow each other.
        let kind = ethertype >> BIT_OF_8021AD & 1;
        let kind = kind * OF_8021AD;
        tags = tags << TAG_BITS | kind | control >> PRIORITY_SHIFT & (OF_8021AD - 1);
    }
    if vlan(&ctx) == 0 && !is_tag(protocol(&ctx)) {
        return tags;
    }
    TOO_MANY
}

/// Puts tags back, the last one that was taken off first.
#[inline(never)]
fn put_back(skb: *mut __sk_buff, tags: Tags) -> i32 {
    let mut left = tags;
    for _ in 0..MAX_TAGS {
        if left <= NONE {
            break;
        }
        let ethertype = if left & OF_8021AD != 0 { ETH_P_8021AD } else { ETH_P_8021Q };
        let control = (left & (OF_8021AD - 1)) << PRIORITY_SHIFT;
        // SAFETY: the context is valid while the program runs.
        if unsafe { bpf_skb_vlan_push(skb, ethertype as u16, control as u16) } != 0 {
            // Half of its tags is another packet than the one that came.
            return TCX_DROP;
        }
        left >>= TAG_BITS;
    }
    TCX_NEXT
}
