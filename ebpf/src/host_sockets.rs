//! `host_connect4`, `host_sendmsg4`, `host_bind4` and the same for IPv6: connections of the engine, and calls of host
//! processes to a VIP.
//!
//! They sit at the root of the cgroups, so they are asked for every process of the machine: what is not the engine's (by its
//! user) nor for an address of ours, or happens in another network namespace, is left alone after a look or two.
//!
//! A process that is a workload ([`crate::host_identity`]) calls from its alias, which is an address of `brattice0` that
//! no process can bind: so the source of a connection identifies the caller, and `vip_listener` needs nothing else.

use aya_ebpf::{
    bindings::sockaddr,
    helpers::generated::{bpf_bind, bpf_get_current_uid_gid, bpf_get_netns_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use brattice_abi::{Address, Config, DropReason, IPPROTO_UDP};

use crate::{
    address::{Ip, is_ipv4},
    call::{AF_INET, Call},
    config::{self, Ranges},
    host_identity,
    maps::ALIASES,
    reach::{self, Wish},
};

/// `AF_INET6`.
const AF_INET6: u16 = 10;
/// The call goes on.
const ALLOW: i32 = 1;
/// The call fails with `EPERM`.
const REFUSE: i32 = 0;

/// connect(2) of an IPv4 socket, TCP and UDP.
#[cgroup_sock_addr(connect4)]
pub fn host_connect4(ctx: SockAddrContext) -> i32 {
    let to = Call(ctx.sock_addr).ip4();
    match begin(&ctx, to, false) {
        Begun::Done(verdict) => verdict,
        Begun::From(alias) => {
            let bound = SocketAddress4 { family: AF_INET as u16, port: 0, address: alias.words()[3], zero: [0; 8] };
            // SAFETY: the context and a whole `sockaddr_in`.
            let result = unsafe {
                bpf_bind(ctx.sock_addr, (&raw const bound).cast_mut().cast::<sockaddr>(), size_of_val(&bound) as i32)
            };
            connected(&ctx, result, to)
        }
    }
}

/// connect(2) of an IPv6 socket, also to an IPv4-mapped address.
#[cgroup_sock_addr(connect6)]
pub fn host_connect6(ctx: SockAddrContext) -> i32 {
    let to = Call(ctx.sock_addr).ip6();
    match begin(&ctx, to, false) {
        Begun::Done(verdict) => verdict,
        Begun::From(alias) => {
            let bound = SocketAddress6 { family: AF_INET6, port: 0, flow: 0, address: alias.words(), scope: 0 };
            // SAFETY: the context and a whole `sockaddr_in6`.
            let result = unsafe {
                bpf_bind(ctx.sock_addr, (&raw const bound).cast_mut().cast::<sockaddr>(), size_of_val(&bound) as i32)
            };
            connected(&ctx, result, to)
        }
    }
}

/// sendmsg(2) with an address, of an IPv4 UDP socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn host_sendmsg4(ctx: SockAddrContext) -> i32 {
    match begin(&ctx, Call(ctx.sock_addr).ip4(), true) {
        Begun::Done(verdict) => verdict,
        Begun::From(alias) => {
            // SAFETY: the context is valid while the program runs; the verifier checks the offset. Volatile for the reason
            // given at `context_field!` in `packet.rs`.
            unsafe { (&raw mut (*ctx.sock_addr).msg_src_ip4).write_volatile(alias.words()[3]) };
            ALLOW
        }
    }
}

/// sendmsg(2) with an address, of an IPv6 UDP socket; to an IPv4-mapped address it is `host_sendmsg4`'s.
#[cgroup_sock_addr(sendmsg6)]
pub fn host_sendmsg6(ctx: SockAddrContext) -> i32 {
    match begin(&ctx, Call(ctx.sock_addr).ip6(), true) {
        Begun::Done(verdict) => verdict,
        Begun::From(alias) => {
            for (i, word) in alias.words().into_iter().enumerate() {
                // SAFETY: as in `host_sendmsg4`. A word at a time, as the context takes it.
                unsafe { (&raw mut (*ctx.sock_addr).msg_src_ip6).cast::<u32>().add(i).write_volatile(word) };
            }
            ALLOW
        }
    }
}

/// bind(2) of an IPv4 socket.
#[cgroup_sock_addr(bind4)]
pub fn host_bind4(ctx: SockAddrContext) -> i32 {
    bind(&ctx, Call(ctx.sock_addr).ip4())
}

/// bind(2) of an IPv6 socket.
#[cgroup_sock_addr(bind6)]
pub fn host_bind6(ctx: SockAddrContext) -> i32 {
    bind(&ctx, Call(ctx.sock_addr).ip6())
}

/// What happens to a call.
enum Begun {
    /// It is decided.
    Done(i32),
    /// A workload of the host calls a VIP: from its alias.
    From(Address),
}

#[inline(always)]
fn begin(ctx: &SockAddrContext, to: Address, sends: bool) -> Begun {
    let Some(config) = config::get() else { return Begun::Done(ALLOW) };
    let uid = current_uid();
    let (vip, alias) = ours(config, &to);
    if uid != config.engine_uid && !vip && !alias || !here(ctx, config) {
        return Begun::Done(ALLOW);
    }
    let call = Call(ctx.sock_addr);
    let wish = Wish { to, port: call.port(), protocol: call.protocol(), sends };
    if uid == config.engine_uid {
        return Begun::Done(if reach::may(&call, config, &wish) { ALLOW } else { REFUSE });
    }
    if alias {
        // An alias is no way in. What `workload_egress` sees, it counts.
        // SAFETY: the value is only read.
        let of_host = unsafe { ALIASES.get(to) }.is_some_and(|alias| alias.ifindex == 0);
        // guard: host-alias
        let allowed = !of_host || reach::refuse(DropReason::NotEngine, &wish);
        return Begun::Done(if allowed { ALLOW } else { REFUSE });
    }
    match host_identity::alias(uid, &to) {
        Some(alias) => Begun::From(alias),
        // guard: host-datagram
        // A datagram may yet name any address of the host as its source: another's alias.
        None if wish.protocol == IPPROTO_UDP => {
            reach::refuse(DropReason::UnattestedHost, &wish);
            Begun::Done(REFUSE)
        }
        // `vip_listener` answers with a RST, and counts.
        None => Begun::Done(ALLOW),
    }
}

/// After `bpf_bind`, which fails where the socket was bound before (and where the alias is no address of the host
/// because another process removed it): then it calls from an address that belongs to no workload.
#[inline(always)]
fn connected(ctx: &SockAddrContext, result: i64, to: Address) -> i32 {
    let call = Call(ctx.sock_addr);
    if result == 0 || call.protocol() != IPPROTO_UDP {
        return ALLOW;
    }
    let wish = Wish { to, port: call.port(), protocol: IPPROTO_UDP, sends: false };
    reach::refuse(DropReason::UnattestedHost, &wish);
    REFUSE
}

#[inline(always)]
fn bind(ctx: &SockAddrContext, address: Address) -> i32 {
    let Some(config) = config::get() else { return ALLOW };
    let engine = current_uid() == config.engine_uid;
    let (_, alias) = ours(config, &address);
    if !engine && !alias || !here(ctx, config) {
        return ALLOW;
    }
    let wish = Wish { to: address, port: 0, protocol: 0, sends: false };
    // guard: host-bind
    let allowed = if engine { reach::may_bind(config, &address) } else { reach::refuse(DropReason::HostBind, &wish) };
    if allowed { ALLOW } else { REFUSE }
}

/// Does an address lie in the VIP range, in the alias range?
#[inline(always)]
fn ours(config: &Config, address: &Address) -> (bool, bool) {
    if is_ipv4(address) {
        let number = <u32 as Ip>::of(address);
        (config.is_vip(number), config.is_alias(number))
    } else if config::has_ipv6(config) {
        (config.is_vip(*address), config.is_alias(*address))
    } else {
        (false, false)
    }
}

/// `struct sockaddr_in`.
#[repr(C)]
struct SocketAddress4 {
    family: u16,
    port: u16,
    address: u32,
    zero: [u8; 8],
}

/// `struct sockaddr_in6`.
#[repr(C)]
struct SocketAddress6 {
    family: u16,
    port: u16,
    flow: u32,
    address: [u32; 4],
    scope: u32,
}

#[inline(always)]
fn current_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { bpf_get_current_uid_gid() as u32 }
}

/// Is the socket in the node's network namespace?
#[inline(always)]
fn here(ctx: &SockAddrContext, config: &Config) -> bool {
    // SAFETY: the context is valid while the program runs.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    cookie == config.netns[0] as u64 | (config.netns[1] as u64) << 32
}
