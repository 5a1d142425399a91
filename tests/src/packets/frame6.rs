//! The same as [`super::frame`] for IPv6, and neighbour discovery.

use std::net::Ipv6Addr;

use super::frame::{Payload, RECEIVER_MAC, SENDER_MAC, sum};

/// An extension header.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Its number, which the header before it shows.
    pub number: u8,
    /// Its bytes but the first, which shows what follows.
    pub bytes: Vec<u8>,
}

impl Extension {
    /// Options of `units` times 8 bytes, all padding, under a number (0 hop-by-hop, 60 destination).
    ///
    /// # Panics
    /// Unless 1 to 256 units.
    pub fn options(number: u8, units: usize) -> Self {
        let mut bytes = vec![0; units * 8 - 1];
        bytes[0] = u8::try_from(units - 1).expect("256 units at most");
        // PadN of at most 255 bytes each, behind the length.
        let mut at = 1;
        while at < bytes.len() {
            let n = (bytes.len() - at).min(257);
            if n > 1 {
                (bytes[at], bytes[at + 1]) = (1, (n - 2) as u8);
            }
            at += n;
        }
        Self { number, bytes }
    }

    /// A routing header without addresses.
    pub fn routing(kind: u8, segments_left: u8) -> Self {
        Self { number: 43, bytes: vec![0, kind, segments_left, 0, 0, 0, 0] }
    }

    /// An authentication header with an integrity check value of `icv` bytes (a multiple of 4).
    pub fn authentication(icv: usize) -> Self {
        let mut bytes = vec![0xaa; 11 + icv];
        bytes[0] = ((12 + icv) / 4 - 2) as u8;
        Self { number: 51, bytes }
    }

    /// A fragment header; the offset in units of 8 bytes.
    pub fn fragment(offset: u16, more: bool) -> Self {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        Self { number: 44, bytes: vec![0, high, low, 1, 2, 3, 4] }
    }
}

/// An Ethernet frame with an IPv6 packet. Fields are public so that a test can spoil any of them.
#[derive(Clone, Debug)]
pub struct Frame6 {
    /// Destination MAC.
    pub to: [u8; 6],
    /// Source MAC.
    pub from: [u8; 6],
    /// What the frame says it holds.
    pub ethertype: u16,
    /// IP version field.
    pub version: u8,
    /// Traffic class and flow label: the lower 28 bits of the first word.
    pub class_flow: u32,
    /// Payload length field, if it is to lie.
    pub payload_length: Option<u16>,
    /// Hop limit.
    pub hop_limit: u8,
    /// IP source.
    pub source: Ipv6Addr,
    /// IP destination.
    pub destination: Ipv6Addr,
    /// Extension headers.
    pub extensions: Vec<Extension>,
    /// How many of them [`Frame6::fragments`] repeats in every fragment; the others are fragmented.
    pub repeated: usize,
    /// What the packet carries.
    pub payload: Payload,
    /// Added to the TCP or UDP checksum, to make it wrong.
    pub l4_checksum_error: u16,
    /// Bytes after the IP packet.
    pub padding: usize,
}

impl Frame6 {
    fn new(source: Ipv6Addr, destination: Ipv6Addr, payload: Payload) -> Self {
        Self {
            to: RECEIVER_MAC,
            from: SENDER_MAC,
            ethertype: 0x86dd,
            version: 6,
            class_flow: 0x0b8_54321,
            payload_length: None,
            hop_limit: 64,
            source,
            destination,
            extensions: Vec::new(),
            repeated: 0,
            payload,
            l4_checksum_error: 0,
            padding: 0,
        }
    }

    /// A TCP packet without options.
    pub fn tcp(source: (Ipv6Addr, u16), destination: (Ipv6Addr, u16), flags: u8, data: &[u8]) -> Self {
        let payload = Payload::Tcp {
            source: source.1,
            destination: destination.1,
            flags,
            options: Vec::new(),
            data: data.to_vec(),
        };
        Self::new(source.0, destination.0, payload)
    }

    /// A UDP packet with a checksum.
    pub fn udp(source: (Ipv6Addr, u16), destination: (Ipv6Addr, u16), data: &[u8]) -> Self {
        let payload =
            Payload::Udp { source: source.1, destination: destination.1, checksum: true, data: data.to_vec() };
        Self::new(source.0, destination.0, payload)
    }

    /// A packet of any protocol.
    pub fn raw(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, bytes: &[u8]) -> Self {
        Self::new(source, destination, Payload::Raw(protocol, bytes.to_vec()))
    }

    /// The same with something changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same with extension headers.
    #[must_use]
    pub fn behind(self, extensions: &[Extension]) -> Self {
        self.with(|f| f.extensions = extensions.to_vec())
    }

    /// Offset of TCP or UDP in the frame.
    pub fn l4_offset(&self) -> usize {
        14 + 40 + self.extensions.iter().map(|e| e.bytes.len() + 1).sum::<usize>()
    }

    fn segment(&self) -> Vec<u8> {
        self.payload.segment(&[self.source.octets(), self.destination.octets()].concat(), self.l4_checksum_error)
    }

    /// Extension headers as bytes, in front of a protocol. Returns the number of the first, too.
    fn chain(extensions: &[Extension], protocol: u8) -> (u8, Vec<u8>) {
        let mut bytes = Vec::new();
        for (i, extension) in extensions.iter().enumerate() {
            bytes.push(extensions.get(i + 1).map_or(protocol, |next| next.number));
            bytes.extend(&extension.bytes);
        }
        (extensions.first().map_or(protocol, |first| first.number), bytes)
    }

    fn packet(&self, extensions: &[Extension], protocol: u8, rest: &[u8]) -> Vec<u8> {
        let (next, chain) = Self::chain(extensions, protocol);
        let mut b = Vec::new();
        b.extend(self.to);
        b.extend(self.from);
        b.extend(self.ethertype.to_be_bytes());
        b.extend((u32::from(self.version) << 28 | self.class_flow).to_be_bytes());
        b.extend(self.payload_length.unwrap_or((chain.len() + rest.len()) as u16).to_be_bytes());
        b.extend([next, self.hop_limit]);
        b.extend(self.source.octets());
        b.extend(self.destination.octets());
        b.extend(chain);
        b.extend(rest);
        b.extend(std::iter::repeat_n(0x5a, self.padding));
        b
    }

    /// The bytes of the frame.
    pub fn build(&self) -> Vec<u8> {
        self.packet(&self.extensions, self.payload.protocol(), &self.segment())
    }

    /// The frame as fragments with at most `size` bytes behind the fragment header each (a multiple of 8).
    ///
    /// # Panics
    /// If `size` is not a multiple of 8, or 0.
    pub fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        assert!(size > 0 && size.is_multiple_of(8), "fragments are cut at multiples of 8 bytes");
        let (repeated, fragmented) = self.extensions.split_at(self.repeated);
        let (next, mut bytes) = Self::chain(fragmented, self.payload.protocol());
        bytes.extend(self.segment());
        let pieces = bytes.len().div_ceil(size);
        bytes
            .chunks(size)
            .enumerate()
            .map(|(i, piece)| {
                let fragment = Extension::fragment((i * size / 8) as u16, i + 1 < pieces);
                self.packet(&[repeated, &[fragment]].concat(), next, piece)
            })
            .collect()
    }
}

/// A neighbour solicitation, or another message of its form.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// 135 solicitation, 136 advertisement.
    pub kind: u8,
    /// 0.
    pub code: u8,
    /// Flags of an advertisement, in the upper bits.
    pub flags: u32,
    /// MACs of the frame.
    pub to: [u8; 6],
    /// Source MAC of the frame.
    pub from: [u8; 6],
    /// IP source.
    pub source: Ipv6Addr,
    /// IP destination.
    pub destination: Ipv6Addr,
    /// 255.
    pub hop_limit: u8,
    /// The address that is asked for, or that answers.
    pub target: Ipv6Addr,
    /// Options, each as on the wire.
    pub options: Vec<Vec<u8>>,
    /// Payload length, if it is to lie.
    pub payload_length: Option<u16>,
}

/// The multicast group in which an address is asked for (RFC 4291, 2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let o = target.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(o[13]), u16::from_be_bytes([o[14], o[15]]))
}

/// A link address option (RFC 4861, 4.6.1): 1 the source's, 2 the target's.
pub fn link_address(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

impl Neighbour {
    /// A multicast solicitation with the client's link address.
    pub fn solicitation(source: Ipv6Addr, target: Ipv6Addr) -> Self {
        let destination = solicited_node(target);
        let group = destination.octets();
        Self {
            kind: 135,
            code: 0,
            flags: 0,
            to: [0x33, 0x33, group[12], group[13], group[14], group[15]],
            from: SENDER_MAC,
            source,
            destination,
            hop_limit: 255,
            target,
            options: vec![link_address(1, SENDER_MAC)],
            payload_length: None,
        }
    }

    /// The same with something changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The bytes of the frame.
    pub fn build(&self) -> Vec<u8> {
        let mut message = vec![self.kind, self.code, 0, 0];
        message.extend(self.flags.to_be_bytes());
        message.extend(self.target.octets());
        message.extend(self.options.concat());
        let mut pseudo = [self.source.octets(), self.destination.octets()].concat();
        pseudo.extend([0, 58]);
        pseudo.extend((message.len() as u16).to_be_bytes());
        let checksum = !sum(&message, sum(&pseudo, 0));
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        Frame6::raw(self.source, self.destination, 58, &message)
            .with(|f| {
                (f.to, f.from, f.hop_limit) = (self.to, self.from, self.hop_limit);
                f.class_flow = 0;
                f.payload_length = self.payload_length;
            })
            .build()
    }
}
