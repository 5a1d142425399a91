//! Destroying TCP connections by their peer (`SOCK_DESTROY` of socket diagnosis).

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::netlink::{Family, Message, Socket};
use crate::{Error, Result};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// `INET_DIAG_REQ_BYTECODE`.
const BYTECODE: u16 = 1;
/// `INET_DIAG_BC_D_COND`: compare the peer's address.
const D_COND: u8 = 8;
/// Bytes of `struct inet_diag_sockid`.
const ID: usize = 48;
/// Bytes of `struct inet_diag_req_v2` before its id.
const BEFORE_ID: usize = 8;
/// Offset of the id in `struct inet_diag_msg`.
const ID_IN_ANSWER: usize = 4;
/// All states but LISTEN (10) and CLOSE (7).
const CONNECTED: u32 = !(1 << 10 | 1 << 7);

/// `struct inet_diag_req_v2`.
fn request(family: u8, states: u32, id: &[u8]) -> Vec<u8> {
    let mut request = vec![family, u8::try_from(libc::IPPROTO_TCP).unwrap_or(6), 0, 0];
    request.extend_from_slice(&states.to_ne_bytes());
    request.extend_from_slice(id);
    request
}

/// `INET_DIAG_REQ_BYTECODE` that accepts sockets whose peer has this address, on any port.
fn peer_is(family: u8, address: &[u8]) -> Vec<u8> {
    // struct inet_diag_bc_op, then struct inet_diag_hostcond with the address.
    let length = u8::try_from(4 + 8 + address.len()).unwrap_or(u8::MAX);
    let mut code = vec![D_COND, length];
    // Where to go on if it does not match: behind the end, which rejects.
    code.extend_from_slice(&(u16::from(length) + 4).to_ne_bytes());
    code.push(family);
    code.push(u8::try_from(address.len() * 8).unwrap_or(0));
    code.extend_from_slice(&[0, 0]);
    code.extend_from_slice(&(-1_i32).to_ne_bytes());
    code.extend_from_slice(address);
    code
}

/// Destroys every TCP connection of this network namespace whose peer is `address`: established ones are reset, half-open
/// and TIME-WAIT ones forgotten. Returns how many. The alias is then free of connections that a successor could inherit.
///
/// # Errors
/// When the kernel cannot (built without `CONFIG_INET_DIAG_DESTROY`).
pub fn destroy(address: IpAddr) -> Result<usize> {
    let mut destroyed = 0;
    let mut socket = Socket::open(Family::SockDiag).map_err(Error::netlink("opening a socket diagnosis socket"))?;
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let mut forms = vec![(family, bytes)];
    // An IPv6 socket may hold an IPv4 peer.
    if let IpAddr::V4(v4) = address {
        forms.push((libc::AF_INET6, v4.to_ipv6_mapped().octets().to_vec()));
    }
    for (family, bytes) in forms {
        let family = u8::try_from(family).unwrap_or(0);
        let dump = Message::new(SOCK_DIAG_BY_FAMILY, &request(family, CONNECTED, &[0; ID]))
            .attribute(BYTECODE, &peer_is(family, &bytes));
        let ids = socket
            .dump(&dump, |ids, kind, payload| {
                if kind == SOCK_DIAG_BY_FAMILY
                    && let Some(id) = payload.get(ID_IN_ANSWER..ID_IN_ANSWER + ID)
                {
                    ids.push((payload[0], id.to_vec()));
                }
            })
            .map_err(Error::netlink(format!("listing the connections of {address}")))?;
        for (family, id) in ids {
            match socket.acknowledged(Message::new(SOCK_DESTROY, &request(family, u32::MAX, &id))) {
                Ok(()) => destroyed += 1,
                // It ended by itself.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(Error::netlink(format!("destroying a connection of {address}"))(error)),
            }
        }
    }
    Ok(destroyed)
}

/// Whether this kernel can destroy sockets.
#[must_use]
pub fn destroy_supported() -> bool {
    let Ok(mut socket) = Socket::open(Family::SockDiag) else { return false };
    // A connection that cannot exist: port 0 of the discard address.
    let mut id = [0; ID];
    id[4..8].copy_from_slice(&Ipv4Addr::new(192, 0, 2, 1).octets());
    id[20..24].copy_from_slice(&Ipv4Addr::new(192, 0, 2, 2).octets());
    let family = u8::try_from(libc::AF_INET).unwrap_or(0);
    let answer: io::Result<()> = socket.acknowledged(Message::new(SOCK_DESTROY, &request(family, u32::MAX, &id)));
    answer.is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT))
}

const _: () = assert!(BEFORE_ID == 8);
