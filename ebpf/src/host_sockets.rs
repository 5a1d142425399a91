//! `host_connect4`, `host_sendmsg4`, `host_bind4` and their kin for IPv6: what processes of this host begin.
//!
//! They sit at the root of the cgroups, so they are asked for every process of the machine: what is neither the engine's nor
//! meant for a VIP, or happens in another network namespace, is left alone after a look or two.

use aya_ebpf::{
    bindings::{bpf_sock_addr, sockaddr},
    helpers::generated::{bpf_bind, bpf_get_current_uid_gid, bpf_get_netns_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use brattice_abi::{Address, Config, HostSocket};

use crate::{
    config, host_identity,
    maps::HOST_SOCKETS,
    reach::{self, Wish},
};

/// The call goes on.
pub(crate) const ALLOW: i32 = 1;
/// The call fails with `EPERM`.
const REFUSE: i32 = 0;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// connect(2) of an IPv4 socket, TCP and UDP.
#[cgroup_sock_addr(connect4)]
pub fn host_connect4(ctx: SockAddrContext) -> i32 {
    begin(&ctx, Call(ctx.sock_addr).ip4(), Begun::Connect4)
}

/// connect(2) of an IPv6 socket, also to an IPv4-mapped address.
#[cgroup_sock_addr(connect6)]
pub fn host_connect6(ctx: SockAddrContext) -> i32 {
    begin(&ctx, Call(ctx.sock_addr).ip6(), Begun::Connect6)
}

/// sendmsg(2) with an address, of an IPv4 UDP socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn host_sendmsg4(ctx: SockAddrContext) -> i32 {
    begin(&ctx, Call(ctx.sock_addr).ip4(), Begun::Send4)
}

/// sendmsg(2) with an address, of an IPv6 UDP socket; to an IPv4-mapped address it is `host_sendmsg4`'s.
#[cgroup_sock_addr(sendmsg6)]
pub fn host_sendmsg6(ctx: SockAddrContext) -> i32 {
    begin(&ctx, Call(ctx.sock_addr).ip6(), Begun::Send6)
}

/// bind(2) of an IPv4 socket: only the engine is asked about.
#[cgroup_sock_addr(bind4)]
pub fn host_bind4(ctx: SockAddrContext) -> i32 {
    bind(&ctx, Call(ctx.sock_addr).ip4())
}

/// bind(2) of an IPv6 socket.
#[cgroup_sock_addr(bind6)]
pub fn host_bind6(ctx: SockAddrContext) -> i32 {
    bind(&ctx, Call(ctx.sock_addr).ip6())
}

/// What a process begins.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Begun {
    Connect4,
    Connect6,
    Send4,
    Send6,
}

#[inline(always)]
fn begin(ctx: &SockAddrContext, to: Address, begun: Begun) -> i32 {
    let Some(config) = config::get() else { return ALLOW };
    let uid = current_uid();
    if uid == config.engine_uid {
        if !here(ctx, config) {
            return ALLOW;
        }
        let call = Call(ctx.sock_addr);
        let wish = Wish { to, port: call.port(), protocol: call.protocol(), begun };
        return if reach::may(&call, config, &wish) { ALLOW } else { REFUSE };
    }
    if host_identity::is_vip(config, &to) && here(ctx, config) {
        call_as(ctx, &to, uid, begun);
    }
    ALLOW
}

/// A call to a VIP. A process that is a workload gets its alias as source; any other is refused by `vip_listener`, whatever
/// the source it shows.
#[inline(always)]
fn call_as(ctx: &SockAddrContext, to: &Address, uid: u32, begun: Begun) {
    let (alias, workload_id) = match host_identity::of_current(uid) {
        Some(host) => (if host_identity::is_v4(to) { host.alias } else { host.alias6 }, host.workload_id),
        None => (host_identity::NONE, 0),
    };
    let known = !host_identity::same(&alias, &host_identity::NONE);
    let mut socket = HostSocket { alias, workload_id };
    // SAFETY: the context is valid while the program runs, and its socket with it.
    let kept = unsafe {
        if known {
            HOST_SOCKETS.get_or_insert_ptr_mut(ctx, Some(&mut socket))
        } else {
            HOST_SOCKETS.get_ptr_mut(ctx)
        }
    };
    if kept.is_null() {
        return;
    }
    // Also where it is known no longer, or as another: a socket may change hands.
    // SAFETY: not null, and of this socket.
    unsafe { kept.write(socket) };
    if !known {
        return;
    }
    // A socket that has a port already cannot be given an address; it keeps what it has, and is refused if that is not
    // the alias.
    match begun {
        Begun::Connect4 => bind4(ctx, &alias),
        Begun::Connect6 => bind6(ctx, &alias),
        // SAFETY: the context is valid while the program runs; the verifier checks the offsets. So below.
        Begun::Send4 => unsafe {
            (&raw mut (*ctx.sock_addr).msg_src_ip4).write_volatile(host_identity::words(&alias)[3]);
        },
        Begun::Send6 => {
            let words = host_identity::words(&alias);
            // SAFETY: as above.
            unsafe {
                let source = (&raw mut (*ctx.sock_addr).msg_src_ip6).cast::<u32>();
                source.write_volatile(words[0]);
                source.add(1).write_volatile(words[1]);
                source.add(2).write_volatile(words[2]);
                source.add(3).write_volatile(words[3]);
            }
        }
    }
}

#[inline(always)]
fn bind4(ctx: &SockAddrContext, alias: &Address) {
    // struct sockaddr_in: family and port (0: any) in one word, address, padding.
    let mut address = [AF_INET, host_identity::words(alias)[3], 0, 0];
    bind_to(ctx, &mut address);
}

#[inline(always)]
fn bind6(ctx: &SockAddrContext, alias: &Address) {
    let words = host_identity::words(alias);
    // struct sockaddr_in6: family and port (0: any) in one word, flow label, address, scope.
    let mut address = [AF_INET6, 0, words[0], words[1], words[2], words[3], 0];
    bind_to(ctx, &mut address);
}

/// What is refused shows at `vip_listener`.
#[inline(always)]
fn bind_to<const N: usize>(ctx: &SockAddrContext, address: &mut [u32; N]) {
    // SAFETY: a whole address of the family it names, as long as is said.
    unsafe { bpf_bind(ctx.sock_addr, address.as_mut_ptr().cast::<sockaddr>(), (N * 4) as i32) };
}

#[inline(always)]
fn bind(ctx: &SockAddrContext, address: Address) -> i32 {
    let Some(config) = config::get() else { return ALLOW };
    if current_uid() != config.engine_uid || !here(ctx, config) || reach::may_bind(config, &address) {
        return ALLOW;
    }
    REFUSE
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

/// Reads the context. Volatile for the reason given at `context_field!` in `packet.rs`.
pub(crate) struct Call(pub(crate) *mut bpf_sock_addr);

impl Call {
    /// IPv4-mapped.
    #[inline(always)]
    fn ip4(&self) -> Address {
        // SAFETY: the context is valid while the program runs; the verifier checks the offset. So below.
        host_identity::from_words([0, 0, 0xffff_0000, unsafe { (&raw const (*self.0).user_ip4).read_volatile() }])
    }

    #[inline(always)]
    fn ip6(&self) -> Address {
        // SAFETY: as in `ip4`.
        unsafe {
            let words = (&raw const (*self.0).user_ip6).cast::<u32>();
            host_identity::from_words([
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
                words.add(3).read_volatile(),
            ])
        }
    }

    /// Host order.
    #[inline(always)]
    pub(crate) fn port(&self) -> u16 {
        // SAFETY: as in `ip4`.
        u16::from_be(unsafe { (&raw const (*self.0).user_port).read_volatile() as u16 })
    }

    #[inline(always)]
    pub(crate) fn protocol(&self) -> u8 {
        // SAFETY: as in `ip4`.
        unsafe { (&raw const (*self.0).protocol).read_volatile() as u8 }
    }

    /// Sends the call to this IPv4-mapped address instead.
    #[inline(always)]
    pub(crate) fn redirect(&self, begun: Begun, to: &Address) {
        let words = host_identity::words(to);
        // SAFETY: as in `ip4`.
        unsafe {
            if begun == Begun::Connect6 || begun == Begun::Send6 {
                let place = (&raw mut (*self.0).user_ip6).cast::<u32>();
                place.write_volatile(words[0]);
                place.add(1).write_volatile(words[1]);
                place.add(2).write_volatile(words[2]);
                place.add(3).write_volatile(words[3]);
            } else {
                (&raw mut (*self.0).user_ip4).write_volatile(words[3]);
            }
        }
    }
}
