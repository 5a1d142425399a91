//! Socket diagnosis: finding and destroying TCP connections by their peer.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{DefaultNla, Emitable, NetlinkSerializable, Parseable};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, SOCK_DIAG_BY_FAMILY, SockDiagDestroy, SockDiagMessage};

use super::Socket;

/// `INET_DIAG_REQ_BYTECODE`.
const BYTECODE: u16 = 1;
/// `INET_DIAG_BC_D_COND`: compare the peer's address.
const PEER_ADDRESS: u8 = 8;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;

/// A connection, as the kernel identifies it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    family: u8,
    id: SocketId,
}

impl Connection {
    /// One between port 0 of two documentation addresses, which cannot exist.
    pub(crate) fn impossible() -> Self {
        let mut id = SocketId::new_v4();
        id.source_address = Ipv4Addr::new(192, 0, 2, 1).into();
        id.destination_address = Ipv4Addr::new(192, 0, 2, 2).into();
        Self { family: AF_INET, id }
    }

    /// Destroys it: an established one is reset. `ENOENT`: there is none (any more).
    pub(crate) fn destroy(self, socket: &mut Socket) -> io::Result<()> {
        let request = SockDiagMessage::InetRequest(request(self.family, StateFlags::all(), self.id));
        socket.acknowledged(SockDiagDestroy::new(request), 0)
    }
}

fn request(family: u8, states: StateFlags, socket_id: SocketId) -> InetRequest {
    InetRequest { family, protocol: TCP, extensions: ExtensionFlags::empty(), states, socket_id }
}

/// A dump of the sockets that a filter accepts; the crate's own request has no attributes.
#[derive(Clone)]
struct FilteredRequest {
    request: InetRequest,
    filter: DefaultNla,
}

impl NetlinkSerializable for FilteredRequest {
    fn message_type(&self) -> u16 {
        SOCK_DIAG_BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        self.request.buffer_len() + self.filter.buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (request, filter) = buffer.split_at_mut(self.request.buffer_len());
        self.request.emit(request);
        self.filter.emit(filter);
    }
}

/// `INET_DIAG_REQ_BYTECODE` that accepts sockets whose peer has this address, on any port.
fn peer_is(family: u8, address: &[u8]) -> DefaultNla {
    // struct inet_diag_bc_op, then struct inet_diag_hostcond with the address.
    let bytes = |n: usize| u8::try_from(n).expect("an address has at most 16 bytes");
    let length = bytes(4 + 8 + address.len());
    let mut code = vec![PEER_ADDRESS, length];
    // Where to go on if it does not match: behind the end, which rejects.
    code.extend_from_slice(&(u16::from(length) + 4).to_ne_bytes());
    code.extend_from_slice(&[family, bytes(address.len() * 8), 0, 0]);
    code.extend_from_slice(&(-1_i32).to_ne_bytes());
    code.extend_from_slice(address);
    DefaultNla::new(BYTECODE, code)
}

/// All TCP connections of this network namespace whose peer has this address, half-open and TIME-WAIT ones included, but no
/// listening sockets. An IPv4 peer is also found behind IPv6 sockets.
pub(crate) fn connections_of(socket: &mut Socket, peer: IpAddr) -> io::Result<Vec<Connection>> {
    let forms = match peer {
        IpAddr::V4(v4) => {
            vec![(AF_INET, v4.octets().to_vec()), (AF_INET6, v4.to_ipv6_mapped().octets().to_vec())]
        }
        IpAddr::V6(v6) => vec![(AF_INET6, v6.octets().to_vec())],
    };
    // The kernel has states that the crate does not name: NEW_SYN_RECV, of a connection that is not accepted yet.
    let connected = StateFlags::from_bits_retain(!(StateFlags::LISTEN | StateFlags::CLOSE).bits());
    let mut all = Vec::new();
    for (family, address) in forms {
        let dump = FilteredRequest {
            request: request(family, connected.clone(), SocketId::new_v6()),
            filter: peer_is(family, &address),
        };
        all.extend(socket.dump(&dump, |found, kind, payload| {
            if kind == SOCK_DIAG_BY_FAMILY
                && let Ok(header) = InetResponseHeader::parse(payload)
            {
                found.push(Connection { family: header.family, id: header.socket_id });
            }
        })?);
    }
    Ok(all)
}
