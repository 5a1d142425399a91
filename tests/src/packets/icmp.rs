//! ICMP and ICMPv6 errors, with the packets they quote.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::frame::{RECEIVER_MAC, SENDER_MAC};

/// An ICMP or ICMPv6 message that quotes a packet, by the family of its addresses. Fields are public so that a test can
/// spoil any of them.
#[derive(Clone, Debug)]
pub struct Error {
    /// Destination MAC.
    pub to: [u8; 6],
    /// Source MAC.
    pub from: [u8; 6],
    /// The sender of the error.
    pub source: IpAddr,
    /// The sender of the packet that the error is about.
    pub destination: IpAddr,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The rest of the ICMP header: an MTU, a pointer.
    pub rest: u32,
    /// The packet it is about.
    pub quote: Quote,
    /// Bytes of the quote that are sent.
    pub quoted: usize,
    /// Flags and fragment offset of the IPv4 header, as on the wire.
    pub fragment: u16,
}

/// A packet, from its IP header on.
#[derive(Clone, Debug)]
pub struct Quote {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// IP version field, if it is to lie.
    pub version: Option<u8>,
    /// Flags and fragment offset, as in an IPv4 header.
    pub fragment: u16,
    /// IPv4 options, a multiple of 4 bytes; or IPv6 extension headers, the first of the number `extension`.
    pub options: Vec<u8>,
    /// Number of the first extension header; its own "next header" must be `protocol`.
    pub extension: Option<u8>,
    /// IP protocol number.
    pub protocol: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// RFC 1071, the other way round than the builder of frames: a wide sum, folded at the end.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum: u64 = parts
        .iter()
        .flat_map(|part| part.chunks(2))
        .map(|word| u64::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn header4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    len: usize,
    fragment: u16,
    options: &[u8],
) -> Vec<u8> {
    let mut b = vec![0x45 + (options.len() / 4) as u8, 0];
    b.extend(((20 + options.len() + len) as u16).to_be_bytes());
    b.extend([0x12, 0x34]);
    b.extend(fragment.to_be_bytes());
    b.extend([64, protocol, 0, 0]);
    b.extend(source.octets());
    b.extend(destination.octets());
    b.extend(options);
    let sum = checksum(&[&b]);
    b[10..12].copy_from_slice(&sum);
    b
}

fn header6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: usize) -> Vec<u8> {
    let mut b = vec![0x60, 0, 0, 0];
    b.extend((len as u16).to_be_bytes());
    b.extend([protocol, 64]);
    b.extend(source.octets());
    b.extend(destination.octets());
    b
}

impl Quote {
    /// The start of a TCP segment, or of a UDP datagram, with these ports and 20 bytes.
    pub fn new(source: (IpAddr, u16), destination: (IpAddr, u16), protocol: u8) -> Self {
        let mut payload = source.1.to_be_bytes().to_vec();
        payload.extend(destination.1.to_be_bytes());
        payload.extend([0, 20, 0xab, 0xcd, 1, 2, 3, 4, 0x50, 16, 9, 9, 0x77, 0x88, 0, 0]);
        Self {
            source: source.0,
            destination: destination.0,
            version: None,
            fragment: 0,
            options: Vec::new(),
            extension: None,
            protocol,
            payload,
        }
    }

    /// The bytes of the packet.
    ///
    /// # Panics
    /// If the addresses are of two families.
    pub fn build(&self) -> Vec<u8> {
        let mut b = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                header4(source, destination, self.protocol, self.payload.len(), self.fragment, &self.options)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let len = self.options.len() + self.payload.len();
                let mut b = header6(source, destination, self.extension.unwrap_or(self.protocol), len);
                b.extend(&self.options);
                b
            }
            _ => panic!("addresses of one family"),
        };
        if let Some(version) = self.version {
            b[0] = version << 4 | b[0] & 0x0f;
        }
        b.extend(&self.payload);
        b
    }
}

impl Error {
    /// "Fragmentation needed" or "packet too big" with an MTU of 1280, from the packet's destination.
    pub fn too_big(quote: Quote) -> Self {
        let (kind, code) = if quote.source.is_ipv4() { (3, 4) } else { (2, 0) };
        Self {
            to: RECEIVER_MAC,
            from: SENDER_MAC,
            source: quote.destination,
            destination: quote.source,
            kind,
            code,
            rest: 1280,
            quoted: usize::MAX,
            fragment: 0,
            quote,
        }
    }

    /// The same with something changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The bytes of the frame.
    ///
    /// # Panics
    /// If the addresses are of two families.
    pub fn build(&self) -> Vec<u8> {
        let mut message = vec![self.kind, self.code, 0, 0];
        message.extend(self.rest.to_be_bytes());
        message.extend(self.quote.build().into_iter().take(self.quoted));
        let mut b = self.to.to_vec();
        b.extend(self.from);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let sum = checksum(&[&message]);
                message[2..4].copy_from_slice(&sum);
                b.extend([0x08, 0]);
                b.extend(header4(source, destination, 1, message.len(), self.fragment, &[]));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let len = (message.len() as u32).to_be_bytes();
                let sum = checksum(&[&source.octets(), &destination.octets(), &len, &[0, 58], &message]);
                message[2..4].copy_from_slice(&sum);
                b.extend([0x86, 0xdd]);
                b.extend(header6(source, destination, 58, message.len()));
            }
            _ => panic!("addresses of one family"),
        }
        b.extend(message);
        b
    }
}
