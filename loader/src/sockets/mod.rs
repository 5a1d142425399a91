//! Sockets that the agent makes for the engine, and the ones it destroys.

mod destroy;

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use nix::unistd::{Gid, Uid, fchown};

use crate::{Error, Result};

pub use destroy::{destroy, destroy_supported};

fn bound(address: SocketAddr, kind: SockType, what: &str) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let failed = |error: nix::Error| Error::io(format!("setting up {what}"))(error.into());
    let socket = socket(family, kind, flags, None).map_err(|e| Error::io(format!("making {what}"))(e.into()))?;
    // The address need not be there yet: the VIP route may come later, or go for a moment.
    setsockopt(&socket, sockopt::IpFreebind, &true).map_err(failed)?;
    if let SocketAddr::V6(v6) = address {
        // Another default of the host's must not take one family away.
        setsockopt(&socket, sockopt::Ipv6V6Only, &v6.ip().to_ipv4_mapped().is_none()).map_err(failed)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .map_err(|e| Error::io(format!("binding {what} to {address}"))(e.into()))?;
    Ok(socket)
}

/// Whether this kernel makes IPv6 sockets; also where IPv6 is turned off on all interfaces.
#[must_use]
pub fn ipv6_supported() -> bool {
    socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).is_ok()
}

/// A listening TCP socket for a slot: reachable only through `vip_listener`, never with `SO_REUSEPORT` (which would
/// override its choice). One at an IPv4-mapped address (`::ffff:169.254.64.1`) is bound as one at the IPv4 address is,
/// and can be chosen for callers of both families. `backlog` is cut by `net.core.somaxconn` at this moment.
///
/// # Errors
/// When the address is in use or the kernel refuses.
pub fn listener(address: SocketAddr, backlog: u32) -> Result<OwnedFd> {
    let socket = bound(address, SockType::Stream, "a listening socket")?;
    let backlog = i32::try_from(backlog).ok().and_then(|b| Backlog::new(b).ok()).unwrap_or(Backlog::MAXCONN);
    listen(&socket, backlog).map_err(|e| Error::io(format!("listening on {address}"))(e.into()))?;
    Ok(socket)
}

/// The DNS UDP socket, bound to the VIP itself so that plain answers come from there, and owned by the engine's user:
/// `workload_egress` lets UDP pass only from that user, and looks at the socket's owner.
///
/// # Errors
/// When the address is in use (a name server of the host listens on 0.0.0.0:53 or [::]:53), or the kernel refuses.
pub fn dns_udp(address: SocketAddr, uid: u32) -> Result<OwnedFd> {
    let socket = bound(address, SockType::Datagram, "the DNS socket")?;
    own(&socket, uid)?;
    Ok(socket)
}

/// Makes a socket a user's, as `bpf_get_socket_uid` sees it.
///
/// # Errors
/// Without the privilege.
pub fn own(socket: impl AsFd, uid: u32) -> Result<()> {
    fchown(socket.as_fd(), Some(Uid::from_raw(uid)), None::<Gid>)
        .map_err(|e| Error::io(format!("giving a socket to user {uid}"))(e.into()))
}
