//! `host_connect4`, `host_sendmsg4`, `host_bind4` and their kin for IPv6: what the engine begins.
//!
//! They sit at the root of the cgroups, so they are asked for every process of the machine: what is not the engine's (by its
//! user), or happens in another network namespace, is left alone after a look or two.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_current_uid_gid, bpf_get_netns_cookie},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};
use brattice_abi::{Address, Config};

use crate::{
    address::IPV4_MAPPED,
    config,
    reach::{self, Wish},
};

/// `AF_INET`.
const AF_INET: u32 = 2;
/// The call goes on.
const ALLOW: i32 = 1;
/// The call fails with `EPERM`.
const REFUSE: i32 = 0;

/// connect(2) of an IPv4 socket, TCP and UDP.
#[cgroup_sock_addr(connect4)]
pub fn host_connect4(ctx: SockAddrContext) -> i32 {
    begin(&ctx, Call(ctx.sock_addr).ip4(), false)
}

/// connect(2) of an IPv6 socket, also to an IPv4-mapped address.
#[cgroup_sock_addr(connect6)]
pub fn host_connect6(ctx: SockAddrContext) -> i32 {
    begin(&ctx, Call(ctx.sock_addr).ip6(), false)
}

/// sendmsg(2) with an address, of an IPv4 UDP socket.
#[cgroup_sock_addr(sendmsg4)]
pub fn host_sendmsg4(ctx: SockAddrContext) -> i32 {
    begin(&ctx, Call(ctx.sock_addr).ip4(), true)
}

/// sendmsg(2) with an address, of an IPv6 UDP socket; to an IPv4-mapped address it is `host_sendmsg4`'s.
#[cgroup_sock_addr(sendmsg6)]
pub fn host_sendmsg6(ctx: SockAddrContext) -> i32 {
    begin(&ctx, Call(ctx.sock_addr).ip6(), true)
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

#[inline(always)]
fn begin(ctx: &SockAddrContext, to: Address, sends: bool) -> i32 {
    let Some(config) = config::get() else { return ALLOW };
    if current_uid() != config.engine_uid || !here(ctx, config) {
        return ALLOW;
    }
    let call = Call(ctx.sock_addr);
    let wish = Wish { to, port: call.port(), protocol: call.protocol(), sends };
    if reach::may(&call, config, &wish) { ALLOW } else { REFUSE }
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
        Address::from_words([0, 0, IPV4_MAPPED, unsafe { (&raw const (*self.0).user_ip4).read_volatile() }])
    }

    #[inline(always)]
    fn ip6(&self) -> Address {
        // SAFETY: as in `ip4`. A word at a time, as the context gives it.
        let word = |i| unsafe { (&raw const (*self.0).user_ip6).cast::<u32>().add(i).read_volatile() };
        Address::from_words([word(0), word(1), word(2), word(3)])
    }

    /// Host order.
    #[inline(always)]
    fn port(&self) -> u16 {
        // SAFETY: as in `ip4`.
        u16::from_be(unsafe { (&raw const (*self.0).user_port).read_volatile() as u16 })
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        // SAFETY: as in `ip4`.
        unsafe { (&raw const (*self.0).protocol).read_volatile() as u8 }
    }

    /// What the socket is bound to: address and port (host order).
    #[inline(always)]
    pub(crate) fn source(&self) -> Option<(Address, u16)> {
        // SAFETY: as in `ip4`; the socket is there as long as the context.
        unsafe {
            let socket = (&raw const (*self.0).__bindgen_anon_1.sk).read_volatile();
            if socket.is_null() {
                return None;
            }
            // All that may be needed, read at once: of reads at the end of two arms the optimizer makes one, of a moved
            // pointer, which the verifier refuses.
            let port = (&raw const (*socket).src_port).read_volatile() as u16;
            let family = (&raw const (*socket).family).read_volatile();
            let ip4 = (&raw const (*socket).src_ip4).read_volatile();
            let word = |i| (&raw const (*socket).src_ip6).cast::<u32>().add(i).read_volatile();
            let ip6 = [word(0), word(1), word(2), word(3)];
            let words = if family == AF_INET { [0, 0, IPV4_MAPPED, ip4] } else { ip6 };
            Some((Address::from_words(words), port))
        }
    }
}
