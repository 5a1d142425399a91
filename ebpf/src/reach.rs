//! What the engine may reach: registered targets and the endpoints it is configured with. Not the host's own services, not
//! its network, not the metadata service.

use brattice_abi::{
    Address, Config, DNS_VIP_OFFSET, DropReason, ENGINE_SOURCES, FIRST_ENGINE_SOURCE, IPPROTO_UDP, TargetKey,
};

use crate::{
    config::Ranges,
    host_identity::{NONE, is_v4, same, words},
    host_sockets::{Begun, Call},
    intercept::DNS_PORT,
    maps::{ALIASES, TARGETS},
    report::{self, Program, Seen},
    switches,
};

/// What the engine asks for.
pub(crate) struct Wish {
    pub(crate) to: Address,
    pub(crate) port: u16,
    pub(crate) protocol: u8,
    pub(crate) begun: Begun,
}

/// Whether it may; else counted. A target that is a process of this host is reached where it listens.
#[inline(always)]
pub(crate) fn may(call: &Call, config: &Config, wish: &Wish) -> bool {
    // SAFETY: the value is only read; the agent replaces whole values.
    let alias = unsafe { ALIASES.get(wish.to) };
    let target = TargetKey { alias: wish.to, port: wish.port, protocol: wish.protocol, pad: 0 };
    // SAFETY: only asked whether it is there.
    if unsafe { TARGETS.get(target) }.is_some() {
        if let Some(alias) = alias
            && alias.ifindex == 0
        {
            if switches::all_detached() || switches::workload_detached(alias.workload_id) {
                return refuse(DropReason::Detached, wish);
            }
            call.redirect(wish.begun, &alias.address);
        }
        return true;
    }
    // The DNS socket answers whoever asked; what else it could say to a workload, `workload_egress` judges.
    let sends = wish.begun == Begun::Send4 || wish.begun == Begun::Send6;
    if sends && wish.protocol == IPPROTO_UDP && alias.is_some() && from_dns(call, config) {
        return true;
    }
    refuse(DropReason::EngineReach, wish)
}

/// Whether the engine may bind it: its sources, and no address at all (which leaves the choice to the route).
#[inline(always)]
pub(crate) fn may_bind(config: &Config, address: &Address) -> bool {
    let words = words(address);
    let offset = u32::from_be(words[3]);
    let unspecified = same(address, &NONE) || is_v4(address) && words[3] == 0;
    let source = if is_v4(address) {
        config.is_engine_source(offset)
    } else {
        let net = self::words(&config.vip_net6);
        net[0] != 0
            && (words[0] ^ net[0]) | (words[1] ^ net[1]) | words[2] == 0
            && offset.wrapping_sub(FIRST_ENGINE_SOURCE) < ENGINE_SOURCES
    };
    unspecified || source || refuse(DropReason::EngineBind, &Wish { to: *address, port: 0, protocol: 0, begun: Begun::Send4 })
}

/// Is it the DNS socket that sends? It is bound to the DNS VIP, of either family.
#[inline(always)]
fn from_dns(call: &Call, config: &Config) -> bool {
    // SAFETY: the context is valid while the program runs, and its socket with it; the verifier checks the offsets. Volatile
    // for the reason given at `context_field!` in `packet.rs`.
    unsafe {
        let socket = (&raw const (*call.0).__bindgen_anon_1.sk).read_volatile();
        if socket.is_null() || (&raw const (*socket).src_port).read_volatile() as u16 != DNS_PORT {
            return false;
        }
        if (&raw const (*socket).family).read_volatile() == 2 {
            return u32::from_be((&raw const (*socket).src_ip4).read_volatile()) == config.dns_vip();
        }
        let source = (&raw const (*socket).src_ip6).cast::<u32>();
        let net = words(&config.vip_net6);
        (source.read_volatile() ^ net[0])
            | (source.add(1).read_volatile() ^ net[1])
            | source.add(2).read_volatile()
            | (source.add(3).read_volatile() ^ DNS_VIP_OFFSET.to_be())
            == 0
    }
}

#[inline(always)]
fn refuse(reason: DropReason, wish: &Wish) -> bool {
    let destination = if is_v4(&wish.to) { u32::from_be(words(&wish.to)[3]) } else { 0 };
    let seen = Seen { destination, destination_port: wish.port, protocol: wish.protocol, ..Seen::NOTHING };
    report::dropped(Program::HostSocket, reason, 0, &seen);
    false
}
