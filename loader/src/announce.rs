//! Announces to a workload the MAC that answers for VIPs.
//!
//! What it asked before `workload_ingress` was attached was not answered, and a stack asks again only after a second (RFC
//! 4861, 10; Linux' `retrans_time_ms`). An answer that comes by itself lets go at once what waits for it. A stack that
//! did not ask does not note it down.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use brattice_abi as abi;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::{Error, Result};

const BROADCAST: [u8; 6] = [0xff; 6];

/// Sends announcements, in the network namespace in which it was made.
///
/// It is kept: to close such a socket takes a grace period of RCU, about 10 ms.
#[derive(Debug)]
pub struct Announcer(OwnedFd);

impl Announcer {
    /// Opens a socket that sends frames, and receives none (its protocol is 0).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None);
        socket.map(Self).map_err(|e| Error::io("opening a socket to announce VIPs")(e.into()))
    }

    /// Sends a workload an answer for each of these VIPs of the families that it has addresses of, out of its host-side
    /// interface; how many. An unknown MAC is all zero.
    ///
    /// # Errors
    /// When the kernel refuses to send.
    pub fn announce(&self, ifindex: u32, mac: [u8; 6], addresses: &[IpAddr], vips: &[IpAddr]) -> Result<usize> {
        let to = if mac == [0; 6] { BROADCAST } else { mac };
        let own4 = addresses.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None });
        let own6 = addresses.iter().find_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None });
        let frames = vips.iter().filter_map(|vip| match vip {
            IpAddr::V4(vip) => own4.map(|own| reply(*vip, own, to)),
            IpAddr::V6(vip) => own6.map(|own| advertisement(*vip, own, to)),
        });
        let mut sent = 0;
        for frame in frames {
            match self.send(ifindex, &frame) {
                Ok(()) => sent += 1,
                // It is gone or down, or its queue is full: the rest waits until it is asked for again.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::ENOBUFS | libc::EAGAIN)
                    ) =>
                {
                    break;
                }
                Err(error) => return Err(Error::io(format!("announcing VIPs to interface {ifindex}"))(error)),
            }
        }
        Ok(sent)
    }

    #[allow(unsafe_code)]
    fn send(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).expect("it is 17"),
            sll_protocol: 0,
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: frame and address live through the call, and their sizes are given. (rustix has no such address.)
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                std::ptr::from_ref(&address).cast(),
                libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("it is 20"),
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn ethernet(to: [u8; 6], ethertype: u16) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend(abi::VIRTUAL_MAC);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// An ARP reply (RFC 826), as `workload_ingress` answers.
fn reply(vip: Ipv4Addr, own: Ipv4Addr, to: [u8; 6]) -> Vec<u8> {
    let mut frame = ethernet(to, 0x0806);
    // Ethernet, IPv4, their lengths, reply.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(abi::VIRTUAL_MAC);
    frame.extend(vip.octets());
    frame.extend(to);
    frame.extend(own.octets());
    frame
}

/// A neighbour advertisement (RFC 4861, 4.4), unsolicited, that overrides what is known.
fn advertisement(vip: Ipv6Addr, own: Ipv6Addr, to: [u8; 6]) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(vip.octets());
    // The target's link address.
    message.extend([2, 1]);
    message.extend(abi::VIRTUAL_MAC);
    let length = u8::try_from(message.len()).expect("an advertisement has 32 bytes");
    let mut pseudo = [vip.octets(), own.octets()].concat();
    pseudo.extend([0, 0, 0, length, 0, 0, 0, 58]);
    let sum = checksum(&[pseudo, message.clone()].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(to, 0x86dd);
    frame.extend([0x60, 0, 0, 0, 0, length, 58, 255]);
    frame.extend(vip.octets());
    frame.extend(own.octets());
    frame.extend(message);
    frame
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("the second sum carries nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_the_standards_say() {
        let to = [2, 0, 0, 0, 0, 9];
        let arp = reply([169, 254, 64, 40].into(), [10, 0, 0, 10].into(), to);
        assert_eq!(arp.len(), 42);
        assert_eq!((&arp[..6], &arp[6..12], &arp[12..14]), (&to[..], &abi::VIRTUAL_MAC[..], &[8, 6][..]));
        assert_eq!(
            (&arp[20..22], &arp[28..32], &arp[38..42]),
            (&[0, 2][..], &[169, 254, 64, 40][..], &[10, 0, 0, 10][..])
        );
        let (vip, own) = ("fd00:a9fe::40".parse::<Ipv6Addr>(), "fd10::10".parse::<Ipv6Addr>());
        let (vip, own) = (vip.expect("an address"), own.expect("an address"));
        let ndp = advertisement(vip, own, to);
        assert_eq!((ndp.len(), ndp[21], ndp[54]), (86, 255, 136));
        // The sum over all that it covers, its own field included, is 0.
        let mut covered = ndp[22..54].to_vec();
        covered.extend([0, 0, 0, 32, 0, 0, 0, 58]);
        covered.extend(&ndp[54..]);
        assert_eq!(checksum(&covered), 0);
    }
}
