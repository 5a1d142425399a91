//! Frames of a workload's choice, and a TCP client made of them.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use brattice_tests::{
    client::HOST,
    lab::{DNS_VIP, Workload},
    packets::{
        frame::{Arp, Frame, Payload},
        frame6::Frame6,
    },
    raw::{PacketSocket, checksum, mac},
};

pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// The MAC that answers for VIPs.
pub(super) const VIRTUAL_MAC: [u8; 6] = [0x02, 0x42, 0x52, 0x41, 0x54, 0x01];
/// How long what must come is waited for: a busy machine delays packets and commands by seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// How long what must not come is waited for. What comes at all comes at once.
pub(super) const SHORT: Duration = Duration::from_millis(50);
/// Source ports of the made-up client; the kernel's RSTs from them are kept in.
const PORTS: std::ops::Range<u16> = 50_000..60_000;

/// A TCP segment that was seen.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: u8,
    pub(super) data: Vec<u8>,
}

impl Segment {
    /// The bytes behind the IP header.
    fn build(&self) -> Vec<u8> {
        let mut b = self.from.port().to_be_bytes().to_vec();
        b.extend(self.to.port().to_be_bytes());
        b.extend(self.sequence.to_be_bytes());
        b.extend(self.acknowledgment.to_be_bytes());
        b.extend([0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        b.extend(&self.data);
        let mut pseudo = octets(self.from.ip());
        pseudo.extend(octets(self.to.ip()));
        pseudo.extend([0, 6]);
        pseudo.extend(u16::try_from(b.len()).unwrap().to_be_bytes());
        pseudo.extend(&b);
        let sum = checksum(&pseudo, 0);
        b[16..18].copy_from_slice(&sum.to_be_bytes());
        b
    }

    /// Of a frame, if it holds one behind an IPv4 header or right behind an IPv6 one.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let (from, to, tcp): (IpAddr, IpAddr, _) = match frame.get(12..14)? {
            [0x08, 0] if *frame.get(23)? == 6 => {
                let end = 14 + usize::from(u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?]));
                let at = |range| frame.get(range).and_then(|b: &[u8]| <[u8; 4]>::try_from(b).ok());
                let header = 14 + usize::from(frame[14] & 15) * 4;
                (at(26..30)?.into(), at(30..34)?.into(), frame.get(header..end)?)
            }
            [0x86, 0xdd] if *frame.get(20)? == 6 => {
                let end = 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
                let at = |range| frame.get(range).and_then(|b: &[u8]| <[u8; 16]>::try_from(b).ok());
                (at(22..38)?.into(), at(38..54)?.into(), frame.get(54..end)?)
            }
            _ => return None,
        };
        let word = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
        let ports = word(0)?;
        Some(Self {
            from: (from, (ports >> 16) as u16).into(),
            to: (to, ports as u16).into(),
            sequence: word(4)?,
            acknowledgment: word(8)?,
            flags: *tcp.get(13)?,
            data: tcp.get(usize::from(tcp[12] >> 4) * 4..)?.to_vec(),
        })
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A TCP packet without data as payload of [`Sender::frame`].
pub(super) fn tcp(source: u16, destination: u16, flags: u8) -> Payload {
    Payload::Tcp { source, destination, flags, options: Vec::new(), data: Vec::new() }
}

/// A UDP datagram as payload of [`Sender::frame`].
pub(super) fn udp(source: u16, destination: u16, data: &[u8]) -> Payload {
    Payload::Udp { source, destination, checksum: true, data: data.to_vec() }
}

/// Root in a workload's namespace.
pub(super) struct Sender {
    socket: PacketSocket,
    /// MAC of its interface.
    pub(super) mac: [u8; 6],
    port: Cell<u16>,
}

impl Sender {
    /// On the interface of a workload.
    pub(super) fn of(workload: &Workload) -> Self {
        let namespace = &workload.namespace;
        // The kernel knows nothing of the connections that are made up here, and would reset them.
        namespace.sh("nft add table inet silent");
        namespace.sh("nft add chain inet silent out { type filter hook output priority 0 ; }");
        let ports = format!("{}-{}", PORTS.start, PORTS.end - 1);
        namespace.sh(&format!("nft add rule inet silent out tcp sport {ports} tcp flags rst drop"));
        Self {
            socket: PacketSocket::open(namespace, "eth0"),
            mac: mac(namespace, "eth0"),
            port: Cell::new(PORTS.start),
        }
    }

    /// A port of the made-up client that was not used yet.
    pub(super) fn port(&self) -> u16 {
        self.port.set(self.port.get() + 1);
        assert!(PORTS.contains(&self.port.get()), "more connections than ports");
        self.port.get()
    }

    /// A frame to the MAC that answers for VIPs.
    pub(super) fn frame(&self, from: IpAddr, to: IpAddr, payload: Payload) -> Vec<u8> {
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Frame::raw(from, to, 0, &[])
                .with(|f| (f.payload, f.to, f.from) = (payload, VIRTUAL_MAC, self.mac))
                .build(),
            (IpAddr::V6(from), IpAddr::V6(to)) => Frame6::raw(from, to, 0, &[])
                .with(|f| (f.payload, f.to, f.from) = (payload, VIRTUAL_MAC, self.mac))
                .build(),
            _ => panic!("{from} and {to} are of two families"),
        }
    }

    /// Sends a frame as it is.
    pub(super) fn send(&self, frame: &[u8]) {
        self.socket.send(frame).unwrap();
    }

    /// Sends a segment.
    pub(super) fn send_segment(&self, segment: &Segment, change: impl Fn(&mut Vec<u8>)) {
        let mut frame = self.frame(segment.from.ip(), segment.to.ip(), Payload::Raw(6, segment.build()));
        change(&mut frame);
        self.send(&frame);
    }

    /// The next frame that is `wanted`, if it comes in time; others are passed over.
    pub(super) fn receive<T>(&self, limit: Duration, wanted: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + limit;
        loop {
            let frame = self.socket.receive(deadline.saturating_duration_since(Instant::now()))?;
            // Its own frames are seen as well.
            if frame[6..12] != self.mac
                && let Some(found) = wanted(&frame)
            {
                return Some(found);
            }
        }
    }

    /// Waits until everything that was sent before has been judged: asks for a VIP's MAC twice, as what is taken is queued
    /// once more.
    pub(super) fn fence(&self, own: Ipv4Addr) {
        for _ in 0..2 {
            let asked = Arp::request(own, DNS_VIP).with(|arp| arp.sender.0 = self.mac);
            self.send(&asked.build());
            let answered = self.receive(PATIENCE, |frame| {
                (frame[12..14] == [0x08, 0x06] && frame[20..22] == [0, 2] && frame[28..32] == DNS_VIP.octets())
                    .then_some(())
            });
            assert!(answered.is_some(), "ARP for a VIP is answered");
        }
    }

    /// The SYN-ACK that answers a SYN within `limit`: [`PATIENCE`] where one must come, [`SHORT`] where none may. The
    /// SYN's frame may be changed.
    pub(super) fn handshake(
        &self,
        limit: Duration,
        from: IpAddr,
        to: SocketAddr,
        change: impl Fn(&mut Vec<u8>),
    ) -> Option<Segment> {
        let from = SocketAddr::new(from, self.port());
        let syn = Segment { from, to, sequence: 1_000, acknowledgment: 0, flags: SYN, data: Vec::new() };
        self.send_segment(&syn, change);
        self.receive(limit, |frame| {
            Segment::of(frame).filter(|s| (s.from, s.to) == (to, from) && s.flags & (SYN | ACK) == SYN | ACK)
        })
    }

    /// A whole request by frames of its own, each of which may be changed: the answer's head.
    ///
    /// # Errors
    /// With what did not come.
    pub(super) fn call(
        &self,
        from: IpAddr,
        to: SocketAddr,
        host: &str,
        change: impl Fn(&mut Vec<u8>),
    ) -> Result<String, String> {
        let answer = self.handshake(PATIENCE, from, to, &change).ok_or("no SYN-ACK")?;
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes();
        let mut next = Segment {
            from: answer.to,
            to,
            sequence: 1_001,
            acknowledgment: answer.sequence.wrapping_add(1),
            flags: ACK | PSH,
            data: request,
        };
        self.send_segment(&next, &change);
        let response = self
            .receive(PATIENCE, |frame| {
                Segment::of(frame).filter(|s| (s.from, s.to) == (to, answer.to) && !s.data.is_empty())
            })
            .ok_or("no answer")?;
        next.sequence += next.data.len() as u32;
        next.acknowledgment = response.sequence.wrapping_add(response.data.len() as u32);
        (next.flags, next.data) = (ACK | RST, Vec::new());
        self.send_segment(&next, &change);
        let text = String::from_utf8_lossy(&response.data).into_owned();
        if text.starts_with("HTTP/1.1 200") { Ok(text) } else { Err(text) }
    }
}

/// Calls [`HOST`] in the service of one family.
pub(super) fn host(vip: SocketAddr) -> &'static str {
    if vip.is_ipv4() { HOST } else { super::scene::HOST6 }
}
