//! What is not for us passes untouched.

use std::{net::UdpSocket, time::Duration};

use brattice_tests::{
    foreign::{FOREIGN_PORT, ForeignProgram},
    lab::{Lab, NETWORK, NODE, Retail, Wiring, wait_until},
    raw::{PacketSocket, ipv4, mac, syn, udp},
};

/// A small generator (xorshift64*), so that the corpus is the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> usize {
        usize::try_from(self.next() % limit).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Frames from `source` to `destination` that do not concern Brattice, each with its number at the end.
fn corpus(destination: [u8; 6], source: [u8; 6], count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(0x1234_5678_9abc_def1);
    (0..count)
        .map(|number| {
            let from = [10, 0, random.next() as u8, random.next() as u8];
            // Near our ranges, but outside: 169.254.63.x, 169.254.80.x, 169.254.169.254, 100.126.x, 100.128.x.
            let to = match random.below(6) {
                0 => [169, 254, 63, 255],
                1 => [169, 254, 80, 0],
                2 => [169, 254, 169, 254],
                3 => [100, 126, 255, 255],
                4 => [100, 128, 0, 0],
                _ => [10, 0, random.next() as u8, random.next() as u8],
            };
            let length = random.below(1_200) + 60;
            let data = random.bytes(length);
            let mut frame = match random.below(9) {
                0 => ipv4(destination, source, from, to, 17, &udp(from, to, random.next() as u16, 53, &data)),
                1 => {
                    ipv4(destination, source, from, to, 6, &[syn(from, to, random.next() as u16, 80, 1), data].concat())
                }
                2 => ipv4(destination, source, from, to, random.next() as u8, &data),
                // A later fragment.
                3 => {
                    let mut frame = ipv4(destination, source, from, to, 17, &data);
                    frame[20..22].copy_from_slice(&[0x20, 0x10]);
                    frame
                }
                // Options, a wrong header checksum, a wrong version, a header length beyond the packet.
                4 => {
                    let mut frame = ipv4(destination, source, from, to, 6, &data);
                    frame[14] = [0x46, 0x4f, 0x65, 0x41][random.below(4)];
                    frame
                }
                // ARP for an address that is no VIP.
                5 => [
                    &destination[..],
                    &source,
                    &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1],
                    &source,
                    &from,
                    &[0; 6],
                    &to,
                    &data,
                ]
                .concat(),
                // IPv6, VLAN, and unknown types.
                6 => [&destination[..], &source, &[0x86, 0xdd, 0x60, 0, 0, 0], &data].concat(),
                7 => [&destination[..], &source, &[0x81, 0x00, 0x00, 0x05, 0x08, 0x00], &data].concat(),
                _ => [&destination[..], &source, &[0x88, random.next() as u8 | 1], &data].concat(),
            };
            frame.extend_from_slice(b"corpus");
            frame.extend_from_slice(&(number as u32).to_be_bytes());
            frame
        })
        .collect()
}

/// Sends the corpus from one port of a bridge; what comes out of another.
fn across(
    lab: &Lab,
    from: &brattice_tests::lab::Workload,
    to: &brattice_tests::lab::Workload,
) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let frames = corpus(mac(&to.namespace, "eth0"), mac(&from.namespace, "eth0"), 2_000);
    let (out, into) = (PacketSocket::open(&from.namespace, "eth0"), PacketSocket::open(&to.namespace, "eth0"));
    let mut arrived = Vec::new();
    let is_ours = |frame: &[u8]| frame.len() > 10 && frame[frame.len() - 10..].starts_with(b"corpus");
    for chunk in frames.chunks(50) {
        for frame in chunk {
            out.send(frame).unwrap();
        }
        let mut missing = chunk.len();
        while missing > 0 {
            let Some(frame) = into.receive(Duration::from_secs(2)) else { break };
            if is_ours(&frame) {
                arrived.push(frame);
                missing -= 1;
            }
        }
    }
    assert!(lab.node.run(&["ip", "link", "show", "brblue"]).ok());
    (frames, arrived)
}

#[test]
fn two_thousand_packets_pass_byte_for_byte_in_order_with_and_without_us() {
    let mut lab = Lab::new();
    let a = lab.workload("blue1", "10.0.0.10", Wiring::Bridged("brblue"));
    let b = lab.workload("blue2", "10.0.0.11", Wiring::Bridged("brblue"));
    lab.write("node.yaml", NODE);
    lab.write("accounts/platform/network.yaml", NETWORK);
    // The node's bridges must not hand their packets to iptables, which cuts and drops odd ones.
    for family in ["ip", "ip6", "arp"] {
        lab.node.run(&["sysctl", "-qw", &format!("net.bridge.bridge-nf-call-{family}tables=0")]);
    }
    let (sent, without) = across(&lab, &a, &b);
    // A packet socket shows a frame without its VLAN tag.
    let sent: Vec<Vec<u8>> = sent
        .into_iter()
        .map(|frame| if frame[12..14] == [0x81, 0] { [&frame[..12], &frame[16..]].concat() } else { frame })
        .collect();
    let lost: Vec<String> = sent
        .iter()
        .filter(|frame| !without.contains(frame))
        .map(|frame| format!("{:02x?}", &frame[12..frame.len().min(40)]))
        .collect();
    assert!(lost.is_empty(), "the lab loses {} of them: {:#?}", lost.len(), &lost[..lost.len().min(20)]);
    assert!(sent == without, "the lab delivers them unchanged");
    lab.start_agent();
    lab.alias("blue1", a.address);
    lab.alias("blue2", b.address);
    let drops = lab.status().drops;
    let (_, with) = across(&lab, &a, &b);
    assert_eq!(with.len(), without.len());
    for (number, (before, after)) in without.iter().zip(&with).enumerate() {
        assert_eq!(before, after, "packet {number}");
    }
    assert_eq!(lab.status().drops, drops, "nothing was dropped");
}

#[test]
fn a_foreign_program_on_the_interface_goes_on_working() {
    let retail = Retail::start();
    let receiver = retail.lab.node.enter(|| {
        let sockets = [FOREIGN_PORT, FOREIGN_PORT + 1].map(|port| UdpSocket::bind(("10.0.0.1", port)).unwrap());
        for socket in &sockets {
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        }
        sockets
    });
    let sender = retail.blue.namespace.enter(|| UdpSocket::bind("10.0.0.10:0").unwrap());
    let arrives = |index: usize| {
        sender.send_to(b"hello", ("10.0.0.1", FOREIGN_PORT + u16::try_from(index).unwrap())).unwrap();
        receiver[index].recv_from(&mut [0; 100]).is_ok()
    };
    assert!(arrives(0) && arrives(1), "without it, both ports are open");
    let foreign = ForeignProgram::attach(&retail.lab.node, "blue1");
    assert!(!arrives(0), "the foreign program drops its port");
    assert!(arrives(1));
    assert_eq!(retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1", "and we work beside it");
    drop(foreign);
    wait_until("its port is open again", Duration::from_secs(3), || arrives(0));
}

#[test]
fn arp_for_a_vip_is_answered_and_a_probe_is_defended() {
    let retail = Retail::start();
    let socket = PacketSocket::open(&retail.blue.namespace, "eth0");
    let own = mac(&retail.blue.namespace, "eth0");
    for sender in [[10, 0, 0, 10], [0, 0, 0, 0]] {
        let request =
            [&[0xff; 6][..], &own, &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1], &own, &sender, &[0; 6], &[169, 254, 64, 99]]
                .concat();
        socket.send(&request).unwrap();
        let mut answered = None;
        for _ in 0..50 {
            let Some(frame) = socket.receive(Duration::from_secs(1)) else { break };
            if frame.len() >= 42
                && frame[12..14] == [8, 6]
                && frame[20..22] == [0, 2]
                && frame[28..32] == [169, 254, 64, 99]
            {
                answered = Some(frame);
                break;
            }
        }
        let frame = answered.unwrap_or_else(|| panic!("no answer to a request from {sender:?}"));
        assert_eq!(
            (&frame[..6], &frame[6..12], &frame[22..28]),
            (&own[..], &[0x02, 0x42, 0x52, 0x41, 0x54, 0x01][..], &[0x02, 0x42, 0x52, 0x41, 0x54, 0x01][..])
        );
    }
    // An address outside the range is left to its owner: there is none.
    let request = [
        &[0xff; 6][..],
        &own,
        &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1],
        &own,
        &[10, 0, 0, 10],
        &[0; 6],
        &[169, 254, 80, 1],
    ]
    .concat();
    socket.send(&request).unwrap();
    while let Some(frame) = socket.receive(Duration::from_millis(500)) {
        assert!(
            !(frame[12..14] == [8, 6] && frame.get(28..32) == Some(&[169, 254, 80, 1]) && frame[20..22] == [0, 2]),
            "an answer for 169.254.80.1"
        );
    }
}
