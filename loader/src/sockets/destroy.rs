//! Destroying TCP connections by their peer.

use std::net::IpAddr;

use crate::netlink::sock_diag::{self, Connection};
use crate::netlink::{Family, Socket};
use crate::{Error, Result};

/// Destroys every TCP connection of this network namespace whose peer is `address`: established ones are reset, half-open
/// and TIME-WAIT ones forgotten. Returns how many. The alias is then free of connections that a successor could inherit.
///
/// # Errors
/// When the kernel cannot (built without `CONFIG_INET_DIAG_DESTROY`).
pub fn destroy(address: IpAddr) -> Result<usize> {
    let mut destroyed = 0;
    let mut socket = Socket::open(Family::SockDiag).map_err(Error::netlink("opening a socket diagnosis socket"))?;
    let connections = sock_diag::connections_of(&mut socket, address)
        .map_err(Error::netlink(format!("listing the connections of {address}")))?;
    for connection in connections {
        match connection.destroy(&mut socket) {
            Ok(()) => destroyed += 1,
            // It ended by itself.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(Error::netlink(format!("destroying a connection of {address}"))(error)),
        }
    }
    Ok(destroyed)
}

/// Whether this kernel can destroy sockets.
#[must_use]
pub fn destroy_supported() -> bool {
    let Ok(mut socket) = Socket::open(Family::SockDiag) else { return false };
    let answer = Connection::impossible().destroy(&mut socket);
    answer.is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
}
