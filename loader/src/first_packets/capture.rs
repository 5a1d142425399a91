//! What an interface receives for VIPs, kept unread in the receive buffer of sockets of its own.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use ipnet::IpNet;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt};

use crate::socket_option;

/// Longest frame that is kept, bytes.
const MAX_FRAME: u32 = 2048;
/// Receive buffer of each socket, bytes, as the kernel counts them: some 20 short frames. It drops what is more.
const BUFFER: usize = 16 * 1024;
/// Bytes of `struct virtio_net_hdr`, which is before each frame (`PACKET_VNET_HDR`).
const HEADER: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `PACKET_VNET_HDR`.
const PACKET_VNET_HDR: libc::c_int = 15;
/// Where the destination is in a frame, of either family.
const DESTINATION4: u32 = 30;
const DESTINATION6: u32 = 38;
/// `SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`: whether a tag was taken off the frame.
const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;

/// A socket per range of VIPs.
#[derive(Debug)]
pub(super) struct Capture(Vec<OwnedFd>);

impl Capture {
    /// Begins with the first frame after the interface comes up, if it is not up yet.
    ///
    /// The sockets are for one protocol, so they come after the interface's ingress programs: what those take is not kept.
    pub(super) fn open(ifindex: u32, vips: &[IpNet]) -> io::Result<Self> {
        vips.iter().map(|range| open(ifindex, range)).collect::<io::Result<_>>().map(Self)
    }

    /// The frames, in the order in which they came. An error if the interface went down meanwhile: then it may be another one that has
    /// its index.
    pub(super) fn take(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        for socket in &self.0 {
            let mut buffer = [0; HEADER + MAX_FRAME as usize];
            loop {
                match recv(socket, &mut buffer, RecvFlags::empty()) {
                    Ok((_, length)) => frames.extend(whole(&buffer[..length])),
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(frames)
    }
}

fn open(ifindex: u32, range: &IpNet) -> io::Result<OwnedFd> {
    let protocol = u16::try_from(if range.addr().is_ipv4() { libc::ETH_P_IP } else { libc::ETH_P_IPV6 });
    let protocol = protocol.expect("both have 16 bits");
    // With no protocol yet: it receives nothing before the filter is there.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    let mut code = filter(range);
    let program =
        libc::sock_fprog { len: u16::try_from(code.len()).expect("a few instructions"), filter: code.as_mut_ptr() };
    socket_option::set(&socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)?;
    socket_option::set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
    bind(&socket, ifindex, protocol)?;
    // An interface that is down yet is no error; that it goes down later is.
    let _ = sockopt::socket_error(&socket)?;
    Ok(socket)
}

#[allow(unsafe_code)]
fn bind(socket: &OwnedFd, ifindex: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("it is 17"),
        sll_protocol: protocol.to_be(),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let size = libc::socklen_t::try_from(size_of_val(&address)).expect("it is 20");
    // SAFETY: the address lives through the call, and its size is given. (rustix has no such address.)
    let result = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Classic BPF: frames without a tag, not too long, whose destination is in the range.
fn filter(range: &IpNet) -> Vec<libc::sock_filter> {
    /// Loads: a word, a byte, the frame's length.
    const LOAD_WORD: u16 = 0x20;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_LENGTH: u16 = 0x80;
    const AND: u16 = 0x54;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    let (at, address, mask): (u32, Vec<u8>, Vec<u8>) = match range {
        IpNet::V4(net) => (DESTINATION4, net.network().octets().into(), net.netmask().octets().into()),
        IpNet::V6(net) => (DESTINATION6, net.network().octets().into(), net.netmask().octets().into()),
    };
    let plain = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // Where a jump goes is filled in below: on is the next one, elsewhere the last one, which refuses.
    let mut code = vec![plain(LOAD_BYTE, VLAN_TAG_PRESENT), plain(JUMP_EQUAL, 0)];
    code.extend([plain(LOAD_LENGTH, 0), plain(JUMP_GREATER, MAX_FRAME)]);
    for (word, offset) in (at..).step_by(4).zip(0..address.len() / 4).map(|(at, word)| (at, word * 4)) {
        let four = |bytes: &[u8]| u32::from_be_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"));
        if four(&mask) != 0 {
            code.extend([plain(LOAD_WORD, word), plain(AND, four(&mask)), plain(JUMP_EQUAL, four(&address))]);
        }
    }
    code.extend([plain(RETURN, MAX_FRAME), plain(RETURN, 0)]);
    let last = code.len() - 1;
    for (place, instruction) in code.iter_mut().enumerate() {
        let refuse = u8::try_from(last.saturating_sub(place + 1)).expect("a few instructions");
        match instruction.code {
            JUMP_EQUAL => instruction.jf = refuse,
            JUMP_GREATER => instruction.jt = refuse,
            _ => {}
        }
    }
    code
}

/// The frame behind its header, with the checksum that the sender's stack left to the device. `None`: several segments in one, or
/// not what the kernel gives.
fn whole(bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, frame) = bytes.split_at_checked(HEADER)?;
    let number = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
    let (flags, segments, start, offset) = (header[0], header[1], number(6), number(8));
    let mut frame = frame.to_vec();
    if segments != 0 {
        return None;
    }
    if flags & NEEDS_CHECKSUM != 0 {
        // The field holds the sum of what is not covered by the bytes from here on.
        let sum = checksum(frame.get(start..)?);
        frame.get_mut(start + offset..start + offset + 2)?.copy_from_slice(&sum.to_be_bytes());
    }
    Some(frame)
}

/// The Internet checksum (RFC 1071); never 0, which is "none" to UDP.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    // At most 1,024 words of 16 bits.
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !u16::try_from(sum).expect("folded to 16 bits") {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does. `tag`: whether a tag was taken off.
    fn keeps(range: &str, frame: &[u8], tag: bool) -> bool {
        let code = filter(&range.parse().expect("a range"));
        let (mut at, mut value) = (0, 0_u32);
        loop {
            let now = code[at];
            let place = now.k as usize;
            let jump = |met: bool| usize::from(if met { now.jt } else { now.jf });
            match now.code {
                0x30 => value = u32::from(tag),
                0x80 => value = u32::try_from(frame.len()).expect("short"),
                0x20 => match frame.get(place..place + 4) {
                    Some(word) => value = u32::from_be_bytes(word.try_into().expect("four bytes")),
                    None => return false,
                },
                0x54 => value &= now.k,
                0x15 => at += jump(value == now.k),
                0x25 => at += jump(value > now.k),
                0x06 => return now.k > 0,
                other => panic!("{other:#x}"),
            }
            at += 1;
        }
    }

    fn frame(at: u32, destination: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; at as usize];
        frame.extend(destination);
        frame.extend([0; 20]);
        frame
    }

    #[test]
    fn frames_for_vips_are_kept_and_no_others() {
        let range = "169.254.64.0/20";
        let to = |address: [u8; 4]| frame(DESTINATION4, &address);
        assert!(keeps(range, &to([169, 254, 64, 0]), false) && keeps(range, &to([169, 254, 79, 255]), false));
        for other in [[169, 254, 63, 255], [169, 254, 80, 0], [10, 0, 0, 1], [0; 4]] {
            assert!(!keeps(range, &to(other), false), "{other:?}");
        }
        assert!(!keeps(range, &to([169, 254, 64, 9]), true), "of another network");
        assert!(!keeps(range, &to([169, 254, 64, 9])[..32], false), "cut");
        let mut long = to([169, 254, 64, 9]);
        long.resize(2049, 0);
        assert!(!keeps(range, &long, false), "too long");
        assert!(keeps(range, &long[..2048], false));

        let range = "fd8b:2a77:1c51::/64";
        let to = |address: &str| frame(DESTINATION6, &address.parse::<std::net::Ipv6Addr>().expect("one").octets());
        assert!(keeps(range, &to("fd8b:2a77:1c51::11"), false) && keeps(range, &to("fd8b:2a77:1c51:0:f::"), false));
        assert!(!keeps(range, &to("fd8b:2a77:1c51:1::11"), false) && !keeps(range, &to("fe8b:2a77:1c51::11"), false));
    }

    #[test]
    fn the_checksum_that_was_left_to_the_device_is_made() {
        // RFC 1071, section 3: the sum of these bytes is ddf2.
        let covered = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        let mut bytes = vec![NEEDS_CHECKSUM, 0, 0, 0, 0, 0];
        bytes.extend([2_u16.to_ne_bytes(), 8_u16.to_ne_bytes()].concat());
        bytes.extend([9, 9]);
        bytes.extend(covered);
        bytes.extend([0, 0]);
        let frame = whole(&bytes).expect("a frame");
        assert_eq!(frame[..10], bytes[HEADER..HEADER + 10]);
        assert_eq!(frame[10..], [0x22, 0x0d]);
        // Complete already.
        bytes[0] = 0;
        assert_eq!(whole(&bytes).expect("a frame"), bytes[HEADER..]);
        // Several segments; a place outside of the frame; no header.
        bytes[1] = 1;
        assert_eq!(whole(&bytes), None);
        (bytes[0], bytes[1], bytes[8]) = (NEEDS_CHECKSUM, 0, 9);
        assert_eq!(whole(&bytes), None);
        assert_eq!(whole(&bytes[..9]), None);
        assert_eq!((checksum(&[0xff, 0xff]), checksum(&[1])), (0xffff, !0x0100));
    }
}
