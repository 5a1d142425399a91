//! Packets that are not ours, of all kinds, the same on each run.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    frame::{Arp, Frame, Payload},
    frame6::{Extension, Frame6, Neighbour, solicited_node},
};

/// The seed that tests use, so that a packet can be found again by its number.
pub const SEED: u64 = 0x0062_7261_7474_6963;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.number() as u8
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.byte()).collect()
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn port(&mut self) -> u16 {
        const WELL_KNOWN: [u16; 6] = [53, 80, 443, 22, 4789, 5353];
        if self.chance(3) { WELL_KNOWN[self.below(WELL_KNOWN.len())] } else { self.number() as u16 }
    }

    /// An address outside the ranges that [`super::node::config`] names: near them as often as far away.
    fn address(&mut self) -> Ipv4Addr {
        loop {
            let address = match self.below(6) {
                0 => Ipv4Addr::new(169, 254, self.byte(), self.byte()),
                1 => Ipv4Addr::new(100, self.byte(), self.byte(), self.byte()),
                2 | 3 => Ipv4Addr::new(10, 0, 0, self.byte()),
                4 => Ipv4Addr::new(224 + self.byte() % 32, self.byte(), self.byte(), self.byte()),
                _ => Ipv4Addr::from(self.number() as u32),
            };
            if !is_ours(address) {
                return address;
            }
        }
    }
}

impl Random {
    /// The same for IPv6.
    fn address6(&mut self) -> Ipv6Addr {
        let config = super::node::config();
        let net = |net: brattice_abi::Address| Ipv6Addr::from(net.0).to_bits();
        loop {
            let low = u128::from(self.number());
            let bits = match self.below(6) {
                // One bit beside a range of ours.
                0 => net(config.vip_net6) ^ 1 << (64 + self.below(64)) | low,
                1 => net(config.alias_net6) ^ 1 << (80 + self.below(48)) | low,
                2 => 0xfd10 << 112 | low & 0xff,
                3 => 0xfe80 << 112 | low,
                4 => solicited_node(Ipv6Addr::from_bits(low)).to_bits(),
                _ => low << 64 | u128::from(self.number()),
            };
            let address = Ipv6Addr::from_bits(bits);
            if !is_ours6(address) {
                return address;
            }
        }
    }

    fn extension(&mut self) -> Extension {
        let mut extension = match self.below(6) {
            0 => Extension::options(0, 1 + self.below(3)),
            1 => Extension::options(60, 1 + self.below(6)),
            2 => Extension::routing(self.byte() & 7, self.byte() & 1),
            3 => Extension::authentication(self.below(4) * 4),
            4 => Extension::fragment(self.number() as u16 & 0x1f, self.chance(2)),
            _ => Extension::options(self.byte(), 1),
        };
        if self.chance(6) {
            extension.bytes[0] = self.byte();
        }
        extension
    }
}

/// In an IPv6 range of [`super::node::config`].
fn is_ours6(address: Ipv6Addr) -> bool {
    let config = super::node::config();
    let octets = address.octets();
    octets[..8] == config.vip_net6.0[..8] || octets[..6] == config.alias_net6.0[..6]
}

/// In a range of [`super::node::config`].
fn is_ours(address: Ipv4Addr) -> bool {
    let config = super::node::config();
    let address = u32::from(address);
    address & config.vip_mask == config.vip_net || address & config.alias_mask == config.alias_net
}

/// Does a finished frame name an address of ours where the programs look for one?
fn names_ours(frame: &[u8]) -> bool {
    let at = |i: usize| frame.get(i..i + 4).is_some_and(|b| is_ours(Ipv4Addr::new(b[0], b[1], b[2], b[3])));
    match frame.get(12..14) {
        Some([8, 0]) => at(26) || at(30),
        Some([8, 6]) => at(38),
        // Source, destination, and the target of a neighbour solicitation.
        Some([0x86, 0xdd]) => [22, 38, 62].into_iter().any(|i| {
            let octets: Option<[u8; 16]> = frame.get(i..i + 16).and_then(|b| b.try_into().ok());
            octets.is_some_and(|octets| is_ours6(octets.into()))
        }),
        _ => false,
    }
}

fn ipv4(random: &mut Random) -> Vec<u8> {
    let (source, destination) = (random.address(), random.address());
    let len = match random.below(3) {
        0 => random.below(20),
        1 => random.below(600),
        _ => random.below(1400),
    };
    let data = random.bytes(len);
    let mut frame = match random.below(4) {
        0 => Frame::tcp((source, random.port()), (destination, random.port()), random.byte(), &data),
        1 => Frame::udp((source, random.port()), (destination, random.port()), &data),
        2 => Frame::raw(source, destination, 1, &data),
        _ => Frame::raw(source, destination, random.byte(), &data),
    };
    frame.id = random.number() as u16;
    if random.chance(4) {
        frame.options = vec![1; random.below(11) * 4];
    }
    if random.chance(4) {
        frame.fragment = random.number() as u16 & 0x3fff;
    }
    if random.chance(8) {
        frame.ihl = Some(random.byte() & 0x0f);
    }
    if random.chance(8) {
        frame.version = random.byte() & 0x0f;
    }
    if random.chance(8) {
        frame.total_length = Some(random.number() as u16);
    }
    if random.chance(8) {
        frame.ip_checksum_error = random.number() as u16;
        frame.l4_checksum_error = random.number() as u16;
    }
    if random.chance(4)
        && let Payload::Udp { checksum, .. } = &mut frame.payload
    {
        *checksum = false;
    }
    if random.chance(8) {
        frame.padding = random.below(40);
    }
    let mut bytes = frame.build();
    if random.chance(6) {
        // Cut anywhere behind the Ethernet header and one byte more, so that something is left to carry.
        let keep = 15 + random.below(bytes.len() - 15);
        bytes.truncate(keep);
    }
    bytes
}

fn ipv6(random: &mut Random) -> Vec<u8> {
    let (source, destination) = (random.address6(), random.address6());
    let len = match random.below(3) {
        0 => random.below(20),
        1 => random.below(600),
        _ => random.below(1400),
    };
    let data = random.bytes(len);
    let mut frame = match random.below(5) {
        0 => Frame6::tcp((source, random.port()), (destination, random.port()), random.byte(), &data),
        1 => Frame6::udp((source, random.port()), (destination, random.port()), &data),
        2 => Frame6::raw(source, destination, 58, &data),
        3 => Frame6::raw(source, destination, random.byte(), &data),
        _ => return neighbour(random),
    };
    frame.extensions = (0..random.below(4)).map(|_| random.extension()).collect();
    frame.class_flow = random.number() as u32 >> 4;
    if random.chance(8) {
        frame.extensions = (0..random.below(12)).map(|_| random.extension()).collect();
    }
    if random.chance(8) {
        frame.version = random.byte() & 0x0f;
    }
    if random.chance(8) {
        frame.payload_length = Some(random.number() as u16);
    }
    if random.chance(8) {
        frame.l4_checksum_error = random.number() as u16;
    }
    if random.chance(4)
        && let Payload::Udp { checksum, .. } = &mut frame.payload
    {
        *checksum = false;
    }
    if random.chance(8) {
        frame.padding = random.below(40);
    }
    let mut bytes = frame.build();
    if random.chance(6) {
        let keep = 15 + random.below(bytes.len() - 15);
        bytes.truncate(keep);
    }
    bytes
}

fn neighbour(random: &mut Random) -> Vec<u8> {
    let mut neighbour = Neighbour::solicitation(random.address6(), random.address6());
    neighbour.kind = 133 + random.byte() % 5;
    if random.chance(3) {
        neighbour.destination = random.address6();
    }
    if random.chance(4) {
        neighbour.source = Ipv6Addr::UNSPECIFIED;
    }
    if random.chance(4) {
        neighbour.hop_limit = random.byte();
    }
    if random.chance(4) {
        neighbour.options = (0..random.below(6)).map(|_| random.bytes(8)).collect();
    }
    neighbour.build()
}

fn arp(random: &mut Random) -> Vec<u8> {
    let mut arp = Arp::request(random.address(), random.address());
    if random.chance(3) {
        arp.operation = random.byte().into();
    }
    if random.chance(5) {
        arp.hardware = random.number() as u16;
    }
    if random.chance(5) {
        arp.protocol_len = random.byte();
    }
    let mut bytes = arp.build();
    if random.chance(3) {
        bytes.extend(random.bytes(18));
    }
    bytes
}

fn other(random: &mut Random, ethertypes: &[u16]) -> Vec<u8> {
    let ethertype = ethertypes[random.below(ethertypes.len())];
    let mut bytes = random.bytes(12);
    // Neither a group address as source nor one of the bridge's own, so that a veth carries it.
    bytes[0] = 0x02;
    bytes[6] = 0x02;
    bytes.extend(ethertype.to_be_bytes());
    let len = 1 + random.below(1400);
    bytes.extend(random.bytes(len));
    bytes
}

/// `n` frames of 15 to 1514 bytes that are not ours: IPv4 and IPv6 whole, cut, fragmented and malformed, ARP, NDP, VLAN,
/// other ethertypes, noise. None names an address in the ranges of [`super::node::config`] where it would count.
pub fn foreign(seed: u64, n: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    let mut frames = Vec::with_capacity(n);
    while frames.len() < n {
        let mut frame = match random.below(14) {
            0..=4 => ipv4(&mut random),
            5 => arp(&mut random),
            6 => other(&mut random, &[0x86dd]),
            10..=13 => ipv6(&mut random),
            7 => other(&mut random, &[0x8100, 0x88a8]),
            8 => other(&mut random, &[0x88cc, 0x8863, 0x8847, 0x9000, 0x88b5]),
            _ => other(&mut random, &[0x0800, 0x0806]),
        };
        frame.truncate(1514);
        if !names_ours(&frame) {
            frames.push(frame);
        }
    }
    frames
}
