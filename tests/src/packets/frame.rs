//! A small packet builder that can also build what no stack would send.

use std::net::Ipv4Addr;

/// What follows the IP header.
#[derive(Clone, Debug)]
pub enum Payload {
    /// TCP with flags, options (padded to 4 bytes) and data.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Low byte of the flags, as in RFC 9293: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        flags: u8,
        /// Header options; the length must be a multiple of 4, 40 at most.
        options: Vec<u8>,
        /// What is sent.
        data: Vec<u8>,
    },
    /// UDP; `checksum: false` sends 0, which means none.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Compute one?
        checksum: bool,
        /// What is sent.
        data: Vec<u8>,
    },
    /// Bytes as they are, under the given protocol number.
    Raw(u8, Vec<u8>),
}

impl Payload {
    pub(super) fn protocol(&self) -> u8 {
        match self {
            Self::Tcp { .. } => 6,
            Self::Udp { .. } => 17,
            Self::Raw(protocol, _) => *protocol,
        }
    }

    /// TCP, UDP or other bytes with their checksum, which covers the addresses (both, in any order) and may be made wrong.
    /// The pseudo headers of IPv4 and IPv6 differ in nothing that a sum shows.
    pub(super) fn segment(&self, addresses: &[u8], checksum_error: u16) -> Vec<u8> {
        let (mut bytes, checksum_at) = match self {
            Payload::Tcp { source, destination, flags, options, data } => {
                let mut b = Vec::new();
                b.extend(source.to_be_bytes());
                b.extend(destination.to_be_bytes());
                b.extend(0x0102_0304u32.to_be_bytes());
                b.extend(0x0506_0708u32.to_be_bytes());
                b.push(((20 + options.len() as u8) / 4) << 4);
                b.push(*flags);
                b.extend(0xfafau16.to_be_bytes());
                b.extend([0; 4]);
                b.extend(options);
                b.extend(data);
                (b, Some(16))
            }
            Payload::Udp { source, destination, checksum, data } => {
                let mut b = Vec::new();
                b.extend(source.to_be_bytes());
                b.extend(destination.to_be_bytes());
                b.extend((8 + data.len() as u16).to_be_bytes());
                b.extend([0; 2]);
                b.extend(data);
                (b, checksum.then_some(6))
            }
            Payload::Raw(_, bytes) => (bytes.clone(), None),
        };
        if let Some(at) = checksum_at {
            let mut pseudo = Vec::new();
            pseudo.extend(addresses);
            pseudo.extend([0, self.protocol()]);
            pseudo.extend((bytes.len() as u16).to_be_bytes());
            let mut checksum = !sum(&bytes, sum(&pseudo, 0));
            if checksum == 0 && at == 6 {
                checksum = 0xffff;
            }
            let checksum = checksum.wrapping_add(checksum_error);
            bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }
}

/// An Ethernet frame with an IPv4 packet. Fields are public so that a test can spoil any of them.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Destination MAC.
    pub to: [u8; 6],
    /// Source MAC.
    pub from: [u8; 6],
    /// What the frame says it holds.
    pub ethertype: u16,
    /// IP version field.
    pub version: u8,
    /// IHL field, if it is to lie.
    pub ihl: Option<u8>,
    /// IP identification.
    pub id: u16,
    /// Flags and fragment offset, as on the wire.
    pub fragment: u16,
    /// Total length field, if it is to lie.
    pub total_length: Option<u16>,
    /// IP source.
    pub source: Ipv4Addr,
    /// IP destination.
    pub destination: Ipv4Addr,
    /// IP options: a multiple of 4 bytes, 40 at most.
    pub options: Vec<u8>,
    /// What the packet carries.
    pub payload: Payload,
    /// Added to the IP checksum, to make it wrong.
    pub ip_checksum_error: u16,
    /// Added to the TCP or UDP checksum, to make it wrong.
    pub l4_checksum_error: u16,
    /// Bytes after the IP packet, as Ethernet pads short frames.
    pub padding: usize,
}

/// MAC of the sender in every frame.
pub const SENDER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xaa];
/// MAC the sender addresses.
pub const RECEIVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xbb];

/// RFC 1071: ones' complement sum of 16-bit words.
pub(super) fn sum(bytes: &[u8], start: u16) -> u16 {
    let mut sum = start;
    for word in bytes.chunks(2) {
        let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
        let (added, carry) = sum.overflowing_add(word);
        sum = added + u16::from(carry);
    }
    sum
}

impl Frame {
    fn new(source: Ipv4Addr, destination: Ipv4Addr, payload: Payload) -> Self {
        Self {
            to: RECEIVER_MAC,
            from: SENDER_MAC,
            ethertype: 0x0800,
            version: 4,
            ihl: None,
            id: 0x1234,
            fragment: 0,
            total_length: None,
            source,
            destination,
            options: Vec::new(),
            payload,
            ip_checksum_error: 0,
            l4_checksum_error: 0,
            padding: 0,
        }
    }

    /// A TCP packet without options.
    pub fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: u8, data: &[u8]) -> Self {
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
    pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), data: &[u8]) -> Self {
        let payload =
            Payload::Udp { source: source.1, destination: destination.1, checksum: true, data: data.to_vec() };
        Self::new(source.0, destination.0, payload)
    }

    /// A packet of any protocol.
    pub fn raw(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, bytes: &[u8]) -> Self {
        Self::new(source, destination, Payload::Raw(protocol, bytes.to_vec()))
    }

    /// The same with something changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn segment(&self) -> Vec<u8> {
        self.payload.segment(&[self.source.octets(), self.destination.octets()].concat(), self.l4_checksum_error)
    }

    fn packet(&self, segment: &[u8], fragment: u16) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut b = Vec::new();
        b.extend(self.to);
        b.extend(self.from);
        b.extend(self.ethertype.to_be_bytes());
        b.push(self.version << 4 | self.ihl.unwrap_or((header / 4) as u8));
        b.push(0);
        b.extend(self.total_length.unwrap_or((header + segment.len()) as u16).to_be_bytes());
        b.extend(self.id.to_be_bytes());
        b.extend(fragment.to_be_bytes());
        b.extend([64, self.payload.protocol(), 0, 0]);
        b.extend(self.source.octets());
        b.extend(self.destination.octets());
        b.extend(&self.options);
        let checksum = (!sum(&b[14..14 + header], 0)).wrapping_add(self.ip_checksum_error);
        b[24..26].copy_from_slice(&checksum.to_be_bytes());
        b.extend(segment);
        b.extend(std::iter::repeat_n(0x5a, self.padding));
        b
    }

    /// The bytes of the frame.
    pub fn build(&self) -> Vec<u8> {
        self.packet(&self.segment(), self.fragment)
    }

    /// The frame as fragments with at most `size` bytes of payload each (a multiple of 8).
    ///
    /// # Panics
    /// If `size` is not a multiple of 8, or 0.
    pub fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        assert!(size > 0 && size.is_multiple_of(8), "fragments are cut at multiples of 8 bytes");
        let segment = self.segment();
        let pieces = segment.len().div_ceil(size);
        segment
            .chunks(size)
            .enumerate()
            .map(|(i, piece)| {
                let more = if i + 1 < pieces { 0x2000 } else { 0 };
                self.packet(piece, more | (i * size / 8) as u16)
            })
            .collect()
    }
}

/// An ARP message for IPv4 over Ethernet.
#[derive(Clone, Debug)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// The sender.
    pub sender: ([u8; 6], Ipv4Addr),
    /// The target address.
    pub target: ([u8; 6], Ipv4Addr),
    /// Destination MAC of the frame.
    pub to: [u8; 6],
    /// Hardware type, 1 for Ethernet.
    pub hardware: u16,
    /// Protocol type, 0x0800 for IPv4.
    pub protocol: u16,
    /// Length of hardware addresses, 6.
    pub hardware_len: u8,
    /// Length of protocol addresses, 4.
    pub protocol_len: u8,
}

impl Arp {
    /// A broadcast request.
    pub fn request(sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self {
            operation: 1,
            sender: (SENDER_MAC, sender),
            target: ([0; 6], target),
            to: [0xff; 6],
            hardware: 1,
            protocol: 0x0800,
            hardware_len: 6,
            protocol_len: 4,
        }
    }

    /// The same with something changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The bytes of the frame; the frame's source MAC is the sender's.
    pub fn build(&self) -> Vec<u8> {
        let mut b = Vec::new();
        b.extend(self.to);
        b.extend(self.sender.0);
        b.extend(0x0806u16.to_be_bytes());
        b.extend(self.hardware.to_be_bytes());
        b.extend(self.protocol.to_be_bytes());
        b.extend([self.hardware_len, self.protocol_len]);
        b.extend(self.operation.to_be_bytes());
        b.extend(self.sender.0);
        b.extend(self.sender.1.octets());
        b.extend(self.target.0);
        b.extend(self.target.1.octets());
        b
    }
}
