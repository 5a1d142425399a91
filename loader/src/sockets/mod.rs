//! Sockets that the agent makes for the engine, and the ones it destroys.

mod destroy;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Uid, fchown};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::{Error, Result};

pub use destroy::{destroy, destroy_supported};

fn bound(address: SocketAddr, kind: SocketType, what: &str) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let failed = |error: Errno| Error::io(format!("setting up {what}"))(error.into());
    let socket = socket_with(family, kind, flags, None).map_err(|e| Error::io(format!("making {what}"))(e.into()))?;
    // The address need not be there yet: the VIP route may come later, or go for a moment.
    sockopt::set_ip_freebind(&socket, true).map_err(failed)?;
    if let SocketAddr::V6(v6) = address {
        // Another default of the host's must not take one family away.
        sockopt::set_ipv6_v6only(&socket, v6.ip().to_ipv4_mapped().is_none()).map_err(failed)?;
    }
    bind(&socket, &address).map_err(|e| Error::io(format!("binding {what} to {address}"))(e.into()))?;
    Ok(socket)
}

/// Whether this kernel makes IPv6 sockets; also where IPv6 is turned off on all interfaces.
#[must_use]
pub fn ipv6_supported() -> bool {
    socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None).is_ok()
}

/// A listening TCP socket for a slot: reachable only through `vip_listener`, never with `SO_REUSEPORT` (which would
/// override its choice). One at an IPv4-mapped address (`::ffff:169.254.64.1`) is bound as one at the IPv4 address is,
/// and can be chosen for callers of both families. `backlog` is cut by `net.core.somaxconn` at this moment.
///
/// # Errors
/// When the address is in use or the kernel refuses.
pub fn listener(address: SocketAddr, backlog: u32) -> Result<OwnedFd> {
    let socket = bound(address, SocketType::STREAM, "a listening socket")?;
    // saturates: the kernel cuts it in any case.
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    listen(&socket, backlog).map_err(|e| Error::io(format!("listening on {address}"))(e.into()))?;
    Ok(socket)
}

/// The DNS UDP socket, bound to the VIP itself so that plain answers come from there, and owned by the engine's user:
/// `workload_egress` lets UDP pass only from that user, and looks at the socket's owner.
///
/// # Errors
/// When the address is in use (a name server of the host listens on 0.0.0.0:53 or [::]:53), or the kernel refuses.
pub fn dns_udp(address: SocketAddr, uid: u32) -> Result<OwnedFd> {
    let socket = bound(address, SocketType::DGRAM, "the DNS socket")?;
    own(&socket, uid)?;
    Ok(socket)
}

/// Makes a socket a user's, as `bpf_get_socket_uid` sees it.
///
/// # Errors
/// Without the privilege.
pub fn own(socket: impl AsFd, uid: u32) -> Result<()> {
    fchown(socket.as_fd(), Some(Uid::from_raw(uid)), None)
        .map_err(|e| Error::io(format!("giving a socket to user {uid}"))(e.into()))
}
