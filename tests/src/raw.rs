//! Whole frames on an interface, in and out: for packets that no socket would send.
#![allow(unsafe_code)] // packet sockets have an address type that no safe wrapper makes

use std::{
    io,
    mem::{self, MaybeUninit},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::lab::Namespace;

/// All protocols (linux/if_ether.h), in network order where the kernel wants it.
const ETH_P_ALL: u16 = 3;

/// A packet socket on one interface.
pub struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// On an interface of a namespace.
    ///
    /// # Panics
    /// When there is no such interface.
    pub fn open(namespace: &Namespace, interface: &str) -> Self {
        namespace.enter(|| {
            let index = nix::net::if_::if_nametoindex(interface).unwrap_or_else(|error| panic!("{interface}: {error}"));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ETH_P_ALL.to_be()))))
                .expect("root may open packet sockets");
            // SAFETY: sockaddr_ll is plain data for which zeroes are valid, it is no longer than sockaddr_storage, and
            // the length given is its own.
            let ((), address) = unsafe {
                SockAddr::try_init(|storage, length| {
                    let link = storage.cast::<libc::sockaddr_ll>();
                    *link = mem::zeroed();
                    (*link).sll_family = libc::AF_PACKET as u16;
                    (*link).sll_protocol = ETH_P_ALL.to_be();
                    (*link).sll_ifindex = index as i32;
                    *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                    Ok(())
                })
            }
            .expect("nothing in it fails");
            socket.bind(&address).expect("an interface");
            socket.set_recv_buffer_size(8 << 20).expect("a buffer");
            Self { socket }
        })
    }

    /// Sends a frame, waiting while the queue is full.
    ///
    /// # Errors
    /// When the interface is down or the frame is too long.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(frame) {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next frame, within `limit`.
    pub fn receive(&self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 65_536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).expect("a socket");
            match self.socket.recv(&mut buffer) {
                // SAFETY: the kernel has written `length` bytes.
                Ok(length) => return Some(buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

/// MAC address of an interface of a namespace.
///
/// # Panics
/// When there is no such interface.
pub fn mac(namespace: &Namespace, interface: &str) -> [u8; 6] {
    let line = namespace.ip(&format!("-o link show {interface}"));
    let text = line
        .split("link/ether ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .expect("an Ethernet interface")
        .to_owned();
    let mut mac = [0; 6];
    for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16).expect("two digits");
    }
    mac
}

/// The Internet checksum (RFC 1071) of some bytes, continued from `sum`.
pub fn checksum(bytes: &[u8], sum: u32) -> u16 {
    let mut sum = sum;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An Ethernet frame with an IPv4 packet of this protocol; header checksum right.
pub fn ipv4(
    destination: [u8; 6],
    source: [u8; 6],
    from: [u8; 4],
    to: [u8; 4],
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(34 + payload.len());
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&[0x08, 0x00]);
    let length = u16::try_from(20 + payload.len()).expect("a packet of at most 64 KiB");
    let mut header = vec![0x45, 0, (length >> 8) as u8, length as u8, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0];
    header.extend_from_slice(&from);
    header.extend_from_slice(&to);
    let sum = checksum(&header, 0);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    frame
}

/// A TCP SYN as payload of [`ipv4`].
pub fn syn(from: [u8; 4], to: [u8; 4], source_port: u16, destination_port: u16, sequence: u32) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend_from_slice(&source_port.to_be_bytes());
    segment.extend_from_slice(&destination_port.to_be_bytes());
    segment.extend_from_slice(&sequence.to_be_bytes());
    segment.extend_from_slice(&[0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = pseudo_checksum(from, to, 6, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// A UDP datagram as payload of [`ipv4`].
pub fn udp(from: [u8; 4], to: [u8; 4], source_port: u16, destination_port: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + data.len());
    datagram.extend_from_slice(&source_port.to_be_bytes());
    datagram.extend_from_slice(&destination_port.to_be_bytes());
    datagram.extend_from_slice(&u16::try_from(8 + data.len()).expect("a datagram of at most 64 KiB").to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(data);
    let sum = pseudo_checksum(from, to, 17, &datagram);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

fn pseudo_checksum(from: [u8; 4], to: [u8; 4], protocol: u8, segment: &[u8]) -> u16 {
    let mut pseudo = Vec::with_capacity(12);
    pseudo.extend_from_slice(&from);
    pseudo.extend_from_slice(&to);
    pseudo.extend_from_slice(&[0, protocol]);
    pseudo.extend_from_slice(&u16::try_from(segment.len()).expect("a short segment").to_be_bytes());
    pseudo.extend_from_slice(segment);
    checksum(&pseudo, 0)
}
