//! What the engine may reach: registered targets and the endpoints it is configured with. Not the host's own services, not
//! its network, not the metadata service.

use brattice_abi::{Address, Config, DropReason, IPPROTO_UDP, TargetKey};

use crate::{
    address::{Ip, UNSPECIFIED, is_ipv4},
    call::Call,
    config::Ranges,
    intercept::DNS_PORT,
    maps::{ALIASES, TARGETS},
    report::{self, Program, Seen},
    switches,
};

/// What a process asks for.
pub(crate) struct Wish {
    pub(crate) to: Address,
    pub(crate) port: u16,
    pub(crate) protocol: u8,
    /// sendmsg(2), not connect(2).
    pub(crate) sends: bool,
}

/// Whether it may; else counted.
#[inline(always)]
pub(crate) fn may(call: &Call, config: &Config, wish: &Wish) -> bool {
    let target = TargetKey { alias: wish.to, port: wish.port, protocol: wish.protocol, pad: 0 };
    // SAFETY: only asked whether it is there.
    if unsafe { TARGETS.get(target) }.is_some() {
        // Packets to a workload are checked by `workload_egress`; those to a process of the host only here.
        // SAFETY: the value is only read.
        let host = unsafe { ALIASES.get(wish.to) }.filter(|alias| alias.ifindex == 0);
        let detached =
            host.is_some_and(|alias| switches::all_detached() || switches::workload_detached(alias.workload_id));
        return !detached || refuse(DropReason::Detached, wish);
    }
    // The DNS socket may answer any caller; other packets to a workload are judged by `workload_egress`.
    if wish.sends && wish.protocol == IPPROTO_UDP && from_dns(call, config) {
        // SAFETY: only asked whether it is there.
        let caller = unsafe { ALIASES.get(wish.to) }.is_some();
        return caller || refuse(DropReason::EngineReach, wish);
    }
    // guard: engine-reach
    refuse(DropReason::EngineReach, wish)
}

/// Whether the engine may bind it: its sources, and no address at all (which leaves the choice to the route).
#[inline(always)]
pub(crate) fn may_bind(config: &Config, address: &Address) -> bool {
    let source = if is_ipv4(address) {
        let number = <u32 as Ip>::of(address);
        number == 0 || config.is_engine_source(number)
    } else {
        address.is(UNSPECIFIED) || config.is_engine_source(*address)
    };
    // guard: engine-bind
    source || refuse(DropReason::EngineBind, &Wish { to: *address, port: 0, protocol: 0, sends: false })
}

/// Is it a DNS socket that sends? There is one of each family, bound to the DNS VIP.
#[inline(always)]
fn from_dns(call: &Call, config: &Config) -> bool {
    match call.source() {
        Some((address, DNS_PORT)) if is_ipv4(&address) => <u32 as Ip>::of(&address) == config.dns_vip(),
        Some((address, DNS_PORT)) => address.is(config.dns_vip()),
        _ => false,
    }
}

/// Counts; false.
#[inline(always)]
pub(crate) fn refuse(reason: DropReason, wish: &Wish) -> bool {
    let seen = Seen { destination: wish.to, destination_port: wish.port, protocol: wish.protocol, ..Seen::NOTHING };
    report::dropped(Program::HostSocket, reason, 0, &seen);
    false
}
