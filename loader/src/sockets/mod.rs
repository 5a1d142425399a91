//! Sockets that the agent makes for the engine, and the ones it destroys.

mod destroy;

use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
};
use nix::unistd::{Gid, Uid, fchown};

use crate::{Error, Result};

pub use destroy::{destroy, destroy_supported};

fn bound(address: SocketAddrV4, kind: SockType, what: &str) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket =
        socket(AddressFamily::Inet, kind, flags, None).map_err(|e| Error::io(format!("making {what}"))(e.into()))?;
    // The address need not be there yet: the VIP route may come later, or go for a moment.
    setsockopt(&socket, sockopt::IpFreebind, &true).map_err(|e| Error::io(format!("setting up {what}"))(e.into()))?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(address))
        .map_err(|e| Error::io(format!("binding {what} to {address}"))(e.into()))?;
    Ok(socket)
}

/// A listening TCP socket for a slot: reachable only through `vip_listener`, never with `SO_REUSEPORT` (which would
/// override its choice). `backlog` is cut by `net.core.somaxconn` at this moment.
///
/// # Errors
/// When the address is in use or the kernel refuses.
pub fn listener(address: SocketAddrV4, backlog: u32) -> Result<OwnedFd> {
    let socket = bound(address, SockType::Stream, "a listening socket")?;
    let backlog = i32::try_from(backlog).ok().and_then(|b| Backlog::new(b).ok()).unwrap_or(Backlog::MAXCONN);
    listen(&socket, backlog).map_err(|e| Error::io(format!("listening on {address}"))(e.into()))?;
    Ok(socket)
}

/// The DNS UDP socket, bound to the VIP itself so that plain answers come from there, and owned by the engine's user:
/// `workload_egress` lets UDP pass only from that user, and looks at the socket's owner.
///
/// # Errors
/// When the address is in use (a name server of the host listens on 0.0.0.0:53), or the kernel refuses.
pub fn dns_udp(address: SocketAddrV4, uid: u32) -> Result<OwnedFd> {
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
