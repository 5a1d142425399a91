//! `vip_listener`: which socket answers a VIP.

use aya_ebpf::{
    bindings::{BPF_SK_LOOKUP_F_NO_REUSEPORT, bpf_sk_lookup},
    macros::sk_lookup,
    programs::SkLookupContext,
};
use brattice_abi::{
    Address, Config, Counter, DropReason, IPPROTO_TCP, IPPROTO_UDP, LISTENER_DNS, LISTENER_HTTP, LISTENER_TCP,
    ListenerKey, MAX_WORKERS, SLOT_DNS_TCP, SLOT_DNS_UDP, SLOT_DNS_UDP6, SLOT_HTTP, SLOT_TCP,
};

use crate::{
    address::Ip,
    config::{self, Ranges},
    maps::{ALIASES, LISTENERS, SOCKETS, WORKERS},
    report::{self, Program, Seen, count},
    switches,
};

/// `SK_PASS`: the kernel's choice, if the program made none; else the program's.
const SK_PASS: u32 = 1;
/// `SK_DROP`: no socket; TCP is answered with a RST.
const SK_DROP: u32 = 0;
/// `AF_INET`.
const AF_INET: u32 = 2;
/// `AF_INET6`.
const AF_INET6: u32 = 10;
/// Index of `lo`, in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
/// What the kernel answers for an empty slot.
const ENOENT: i32 = 2;

/// `sk_lookup` of the node: for a destination in the VIP range a listening socket of ours or none, for any source. So
/// no wildcard socket of the host is ever reached through a VIP. All other lookups are left alone.
#[sk_lookup]
pub fn vip_listener(ctx: SkLookupContext) -> u32 {
    // The VIP route is made after the configuration is written, so nothing of ours is looked up before.
    let Some(config) = config::get() else { return SK_PASS };
    let lookup = Lookup(ctx.lookup);
    // Read before the families part: of reads at the end of both arms the optimizer makes one, of a moved pointer, which
    // the verifier refuses.
    let remote = lookup.remote();
    let (source, destination) = match lookup.family() {
        AF_INET => {
            let vip = lookup.local();
            if !config.is_vip(vip) {
                return SK_PASS;
            }
            (remote.key(), vip.key())
        }
        AF_INET6 => {
            let vip = lookup.local6();
            if !config::has_ipv6(config) || !config.is_vip(vip) {
                return SK_PASS;
            }
            (lookup.remote6(), vip)
        }
        _ => return SK_PASS,
    };
    let seen = Seen {
        source,
        destination,
        source_port: lookup.remote_port(),
        destination_port: lookup.local_port(),
        protocol: lookup.protocol(),
    };
    match choose(&ctx, config, &lookup, &seen) {
        Ok(()) => {
            count(Counter::ToEngine);
            SK_PASS
        }
        Err(reason) => {
            report::dropped(Program::VipListener, reason, lookup.ingress_ifindex(), &seen);
            SK_DROP
        }
    }
}

#[inline(always)]
fn choose(ctx: &SkLookupContext, config: &Config, lookup: &Lookup, seen: &Seen) -> Result<(), DropReason> {
    // SAFETY: the value is only read; the agent replaces whole values.
    let caller = unsafe { ALIASES.get(seen.source) };
    let ifindex = lookup.ingress_ifindex();
    // guard: attested-interface
    let caller = if ifindex == config.brattice0 {
        // guard: unattested-peer
        caller.filter(|caller| caller.ifindex != 0).ok_or(DropReason::UnattestedPeer)?
    } else if ifindex == LOOPBACK {
        // guard: unattested-host
        let caller = caller.filter(|caller| caller.ifindex == 0).ok_or(DropReason::UnattestedHost)?;
        if switches::workload_detached(caller.workload_id) {
            return Err(DropReason::Detached);
        }
        caller
    } else {
        return Err(DropReason::UnattestedPeer);
    };
    let key = ListenerKey { vip: seen.destination, port: seen.destination_port, protocol: seen.protocol, pad: 0 };
    // guard: no-listener
    // SAFETY: as above.
    let listener = unsafe { LISTENERS.get(key) }.ok_or(DropReason::NoListener)?;
    let (kind, service) = (listener.kind, listener.service_id);
    if switches::all_detached() || (kind != LISTENER_DNS && switches::service_detached(service)) {
        return Err(DropReason::Detached);
    }
    match (kind, seen.protocol) {
        (LISTENER_DNS, IPPROTO_UDP) if lookup.family() == AF_INET6 => assign(ctx, SLOT_DNS_UDP6),
        (LISTENER_DNS, IPPROTO_UDP) => assign(ctx, SLOT_DNS_UDP),
        (LISTENER_DNS, IPPROTO_TCP) => assign(ctx, SLOT_DNS_TCP),
        (LISTENER_HTTP | LISTENER_TCP, IPPROTO_TCP) => {
            let bypassed = kind == LISTENER_HTTP && switches::bypassed(caller.workload_id, service);
            let base = if bypassed || kind == LISTENER_TCP { SLOT_TCP } else { SLOT_HTTP };
            let (worker, other) = workers(config, seen);
            match assign(ctx, base + worker) {
                // The slots of the workers are filled and emptied one after the other.
                Err(DropReason::EngineDown) => assign(ctx, base + other)?,
                result => result?,
            }
            if bypassed {
                count(Counter::Bypassed);
            }
            Ok(())
        }
        _ => Err(DropReason::NoListener),
    }
}

/// Two workers by hash of the caller's address and port, the one with fewer connections first. A hash alone is fair
/// only for many connections; asking two and taking the better evens out few. Where both are the same, the second is
/// its neighbour, for when the first has no socket.
#[inline(always)]
fn workers(config: &Config, seen: &Seen) -> (u32, u32) {
    let n = if config.workers > MAX_WORKERS { MAX_WORKERS } else { config.workers } as u64;
    // Of IPv4 only the last word differs between callers.
    let [_, one, two, three] = seen.source.words();
    let source = u32::from_be(one ^ two ^ three);
    // Multiplication by odd constants, high half folded in: ports that follow one another part.
    let mut hash = ((source as u64) << 16 | seen.source_port as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    // Sixteen bits of it as a fraction of n: no division, and 0 for n = 0.
    let (one, two) = (((hash >> 48) * n >> 16) as u32, ((hash >> 32 & 0xffff) * n >> 16) as u32);
    if two == one {
        return (one, if one as u64 + 1 < n { one + 1 } else { 0 });
    }
    if connections(two) < connections(one) { (two, one) } else { (one, two) }
}

/// As the engine reports it.
#[inline(always)]
fn connections(worker: u32) -> u32 {
    match WORKERS.get_ptr(worker) {
        // SAFETY: the map's value is mapped and aligned; the engine writes the word while it is read.
        Some(state) => unsafe { (&raw const (*state).connections).read_volatile() },
        None => u32::MAX,
    }
}

/// The slot's socket answers. Reuseport groups must not choose again (they would override the slot).
#[inline(always)]
fn assign(ctx: &SkLookupContext, slot: u32) -> Result<(), DropReason> {
    SOCKETS
        .redirect_sk_lookup(ctx, slot, BPF_SK_LOOKUP_F_NO_REUSEPORT as u64)
        .map_err(|error| if error == -ENOENT { DropReason::EngineDown } else { DropReason::HelperFailed })
}

/// Reads the context. Volatile for the reason given at `context_field!` in `packet.rs`.
struct Lookup(*mut bpf_sk_lookup);

impl Lookup {
    #[inline(always)]
    fn family(&self) -> u32 {
        // SAFETY: the context is valid while the program runs; the verifier checks the offset. So below.
        unsafe { (&raw const (*self.0).family).read_volatile() }
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        // SAFETY: as in `family`.
        unsafe { (&raw const (*self.0).protocol).read_volatile() as u8 }
    }

    /// Host order.
    #[inline(always)]
    fn local(&self) -> u32 {
        // SAFETY: as in `family`.
        u32::from_be(unsafe { (&raw const (*self.0).local_ip4).read_volatile() })
    }

    #[inline(always)]
    fn local6(&self) -> Address {
        // SAFETY: as in `family`. A word at a time, as the context gives it.
        let word = |i| unsafe { (&raw const (*self.0).local_ip6).cast::<u32>().add(i).read_volatile() };
        Address::from_words([word(0), word(1), word(2), word(3)])
    }

    #[inline(always)]
    fn remote6(&self) -> Address {
        // SAFETY: as in `local6`.
        let word = |i| unsafe { (&raw const (*self.0).remote_ip6).cast::<u32>().add(i).read_volatile() };
        Address::from_words([word(0), word(1), word(2), word(3)])
    }

    /// Host order already in the context.
    #[inline(always)]
    fn local_port(&self) -> u16 {
        // SAFETY: as in `family`.
        unsafe { (&raw const (*self.0).local_port).read_volatile() as u16 }
    }

    /// Host order.
    #[inline(always)]
    fn remote(&self) -> u32 {
        // SAFETY: as in `family`.
        u32::from_be(unsafe { (&raw const (*self.0).remote_ip4).read_volatile() })
    }

    /// Host order.
    #[inline(always)]
    fn remote_port(&self) -> u16 {
        // SAFETY: as in `family`.
        u16::from_be(unsafe { (&raw const (*self.0).remote_port).read_volatile() })
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        // SAFETY: as in `family`.
        unsafe { (&raw const (*self.0).ingress_ifindex).read_volatile() }
    }
}
