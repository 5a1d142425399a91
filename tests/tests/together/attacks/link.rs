//! Below IP: ARP, neighbour discovery and VLAN tags on a bridge that attacker and neighbour share. What a workload does to its
//! neighbours by them is the bridge's affair, but service traffic does not ask it.

use std::net::{IpAddr, Ipv6Addr};

use brattice_abi::DropReason::{FromReserved, SpoofedSource, ToAlias, TooManyTags};
use brattice_tests::{
    lab::wait_until,
    packets::{
        frame::Arp,
        frame6::{Frame6, Neighbour, link_address},
    },
    raw::{PacketSocket, mac},
};

use super::{
    scene::{BRIDGE, GATEWAY, NEIGHBOUR, NEIGHBOUR6, OWN, OWN6, Scene},
    sender::{PATIENCE, SHORT, Segment, VIRTUAL_MAC, host, udp},
};

/// `02:00:...`, as `ip` and `bridge` write it.
fn shown(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Repeats a forged announcement until the neighbour believes that the attacker's MAC is this address's.
fn poison(scene: &Scene, address: IpAddr, lie: &[u8]) {
    scene.neighbour.namespace.sh("sysctl -qw net.ipv4.neigh.eth0.locktime=0");
    wait_until("the neighbour believes it", PATIENCE, || {
        scene.sender.send(lie);
        scene.neighbour.namespace.ip(&format!("neigh show {address}")).contains(&shown(scene.sender.mac))
    });
}

/// The neighbour calls the service while it takes the attacker for it; the attacker sees nothing of the call.
fn called_past_the_attacker(scene: &Scene, vip: std::net::SocketAddr) {
    let watch = super::scene::Watch::of(&scene.attacker);
    scene.neighbour_calls(vip);
    // The attacker's own connections of earlier go on: half-open ones are answered again and again.
    let neighbour = [IpAddr::from(NEIGHBOUR), IpAddr::from(NEIGHBOUR6)];
    let of_neighbour = |s: &Segment| neighbour.contains(&s.from.ip()) || neighbour.contains(&s.to.ip());
    let seen: Vec<Segment> = watch.all().iter().filter_map(|frame| Segment::of(frame)).filter(of_neighbour).collect();
    assert!(seen.is_empty(), "the attacker saw {seen:?}");
}

/// Announcements and answers that give a VIP the attacker's MAC.
pub(super) fn arp_for_a_vip(scene: &Scene) {
    let vip = scene.vips[0];
    let IpAddr::V4(address) = vip.ip() else { panic!("{vip}") };
    scene.neighbour_calls(vip);
    scene.refused(&[], || {
        // An announcement asks, so it is answered: the VIP is defended.
        let announcement = Arp::request(address, address).with(|arp| arp.sender.0 = scene.sender.mac);
        scene.sender.send(&announcement.build());
        let defended = scene.sender.receive(PATIENCE, |frame| {
            (frame[12..14] == [0x08, 0x06] && frame[20..22] == [0, 2] && frame[28..32] == address.octets())
                .then(|| frame[22..28].to_vec())
        });
        assert_eq!(defended.as_deref(), Some(&VIRTUAL_MAC[..]));
        let answer = Arp::request(address, NEIGHBOUR).with(|arp| {
            arp.operation = 2;
            arp.sender.0 = scene.sender.mac;
            (arp.target.0, arp.to) = (scene.neighbour_watch.mac, scene.neighbour_watch.mac);
        });
        poison(scene, vip.ip(), &answer.build());
    });
    called_past_the_attacker(scene, vip);
    scene.neighbour.namespace.ip(&format!("neigh del {address} dev eth0"));
}

/// Announces the neighbour's address, and sends frames with its MAC, which the bridge learns: calls to the neighbour's
/// service still reach the neighbour.
pub(super) fn arp_for_a_neighbour(scene: &Scene) {
    scene.neighbour_serves();
    scene.refused(&[], || {
        let announcement = Arp::request(NEIGHBOUR, NEIGHBOUR).with(|arp| arp.sender.0 = scene.sender.mac);
        // The host takes announcements of addresses that it knows.
        let known = shown(scene.neighbour_watch.mac);
        scene.lab.node.ip(&format!("neigh replace {NEIGHBOUR} lladdr {known} dev {BRIDGE} nud stale"));
        scene.lab.node.sh(&format!("sysctl -qw net.ipv4.neigh.{BRIDGE}.locktime=0"));
        wait_until("the host believes it", PATIENCE, || {
            scene.sender.send(&announcement.build());
            scene.lab.node.ip(&format!("neigh show {NEIGHBOUR}")).contains(&shown(scene.sender.mac))
        });
        let stolen = Arp::request(OWN, OWN).with(|arp| arp.sender.0 = scene.neighbour_watch.mac);
        bridge_learns(scene, "blue1", || scene.sender.send(&stolen.build()));
    });
    scene.neighbour_serves();
    scene.neighbour_calls(scene.vips[0]);
    scene.lab.node.ip(&format!("neigh flush dev {BRIDGE}"));
    // The bridge sees none of the neighbour's service traffic: it learns the right port again from its other frames.
    let socket = PacketSocket::open(&scene.neighbour.namespace, "eth0");
    let own = Arp::request(NEIGHBOUR, GATEWAY).with(|arp| arp.sender.0 = scene.neighbour_watch.mac);
    bridge_learns(scene, "blue2", || socket.send(&own.build()).unwrap());
}

/// Repeats a frame with the neighbour's MAC until the bridge believes that it is behind this port.
fn bridge_learns(scene: &Scene, port: &str, send: impl Fn()) {
    let mac = shown(scene.neighbour_watch.mac);
    wait_until(&format!("the bridge believes that {mac} is behind {port}"), PATIENCE, || {
        send();
        let entries = scene.lab.node.sh(&format!("bridge fdb show br {BRIDGE}"));
        entries.lines().any(|line| line.starts_with(&mac) && line.contains(port))
    });
}

/// An unsolicited advertisement to the neighbour.
fn advertisement(scene: &Scene, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    Neighbour::solicitation(source, target)
        .with(|n| {
            n.kind = 136;
            // Override.
            n.flags = 0x2000_0000;
            (n.to, n.from) = (scene.neighbour_watch.mac, scene.sender.mac);
            n.destination = NEIGHBOUR6;
            n.options = vec![link_address(2, scene.sender.mac)];
        })
        .build()
}

/// Unsolicited advertisements that give a VIP the attacker's MAC, from its own address and from the VIP's.
pub(super) fn advertisements_of_a_vip(scene: &Scene) {
    let vip = scene.vips[1];
    let IpAddr::V6(address) = vip.ip() else { panic!("{vip}") };
    scene.neighbour_calls(vip);
    scene.refused(&[(FromReserved, 1 + PRIORITY.len() as u64)], || {
        scene.sender.send(&advertisement(scene, address, address));
        for tags in PRIORITY {
            let mut frame = advertisement(scene, address, address);
            tagged(&mut frame, tags);
            scene.sender.send(&frame);
        }
    });
    assert!(
        !scene.neighbour.namespace.ip(&format!("neigh show {address}")).contains(&shown(scene.sender.mac)),
        "the neighbour heard nothing of it"
    );
    // Known anew: it is told only of what it knows.
    scene.neighbour_calls(vip);
    scene.refused(&[], || poison(scene, vip.ip(), &advertisement(scene, OWN6, address)));
    called_past_the_attacker(scene, vip);
    scene.neighbour.namespace.ip(&format!("neigh del {address} dev eth0"));
}

/// A router advertisement that gives the host routes: one to an unused range, one into the range of the aliases. It
/// believes the advertisement, and goes on to find its workloads.
pub(super) fn router_advertisements(scene: &Scene) {
    let node = &scene.lab.node;
    let IpAddr::V6(alias) = scene.aliases[1] else { panic!("an IPv6 alias") };
    let nobody: Ipv6Addr = "2001:db8:77::".parse().unwrap();
    // A host that takes its own routes from advertisements, even if it forwards.
    node.sh(&format!("sysctl -qw net.ipv6.conf.{BRIDGE}.accept_ra=2"));
    let all_nodes: Ipv6Addr = "ff02::1".parse().unwrap();
    let router: Ipv6Addr = "fe80::bad".parse().unwrap();
    // RFC 4861, 4.2 and 4.6.2: a router of no time, two prefixes on the link.
    let mut message = vec![134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (prefix, length) in [(nobody, 64), (alias, 128)] {
        message.extend([3, 4, length, 0x80]);
        message.extend([0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
        message.extend(prefix.octets());
    }
    let mut pseudo = [router.octets(), all_nodes.octets()].concat();
    pseudo.extend([0, 58]);
    pseudo.extend((message.len() as u16).to_be_bytes());
    pseudo.extend(&message);
    let sum = brattice_tests::raw::checksum(&pseudo, 0);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let frame = Frame6::raw(router, all_nodes, 58, &message).with(|f| {
        (f.to, f.from, f.hop_limit) = ([0x33, 0x33, 0, 0, 0, 1], scene.sender.mac, 255);
    });
    scene.sender.send(&frame.build());
    wait_until("the host believes it", PATIENCE, || node.ip(&format!("-6 route show {nobody}/64")).contains(BRIDGE));
    let way = node.ip(&format!("-6 route get {alias} from fd8b:2a77:1c51::1"));
    assert!(way.contains("dev brattice0"), "the way to an alias: {way}");
    scene.refused(&[], || {});
    node.sh(&format!("sysctl -qw net.ipv6.conf.{BRIDGE}.accept_ra=0"));
    node.ip(&format!("-6 route flush dev {BRIDGE} proto kernel root {nobody}/64"));
}

/// Tags, the outermost first: ethertype, and VLAN id with priority.
type Tags = &'static [(u16, u16)];

/// Puts tags into a frame.
pub(super) fn tagged(frame: &mut Vec<u8>, tags: &[(u16, u16)]) {
    let tags = tags.iter().flat_map(|(ethertype, control)| [ethertype.to_be_bytes(), control.to_be_bytes()].concat());
    frame.splice(12..12, tags.collect::<Vec<u8>>());
}

const Q: u16 = 0x8100;
const AD: u16 = 0x88a8;

/// Tags of VLAN id 0 only give a priority. Every stack takes them off, here and behind the bridge, and looks at what is left.
pub(super) const PRIORITY: [Tags; 4] = [&[(Q, 0)], &[(AD, 0)], &[(Q, 0xe000), (Q, 0)], &[(AD, 0), (Q, 0x2000)]];

/// Sends tagged frames to VIPs, to the host and to the neighbour: those of another VLAN are not taken; those with a
/// priority tag alone are handled as without it.
pub(super) fn vlan_tags(scene: &Scene) {
    const MARK: &[u8] = b"behind a tag";
    let bridge = mac(&scene.lab.node, BRIDGE);
    let neighbour = scene.neighbour_watch.mac;
    scene.refused(&[], || {
        for family in scene.families() {
            let frames: [(Tags, [u8; 6]); 4] =
                [(&[(Q, 7)], VIRTUAL_MAC), (&[(Q, 7)], bridge), (&[(AD, 7)], bridge), (&[(Q, 0), (Q, 7)], bridge)];
            for (tags, to) in frames {
                let answer = scene.sender.handshake(SHORT, family.own, family.vip, |frame| {
                    frame[..6].copy_from_slice(&to);
                    tagged(frame, tags);
                });
                assert!(answer.is_none(), "{tags:04x?}: {answer:?}");
            }
        }
    });
    let each = 2 * PRIORITY.len() as u64;
    scene.neighbour_watch.everything();
    scene.refused(&[(SpoofedSource, each), (FromReserved, 4 * each), (ToAlias, each), (TooManyTags, 2)], || {
        for family in scene.families() {
            let (vip, lie) = (family.vip.ip(), || udp(53, 4_000, MARK));
            for tags in PRIORITY {
                for (from, to, mac) in [
                    (family.neighbour, vip, bridge),
                    (vip, family.neighbour, neighbour),
                    (family.alias, family.neighbour, neighbour),
                    // With an alias as source it would be a segment of that alias' connection.
                    (family.alias, vip, bridge),
                    (family.own_alias, vip, bridge),
                    (family.own, family.alias, bridge),
                ] {
                    let mut frame = scene.sender.frame(from, to, lie());
                    frame[..6].copy_from_slice(&mac);
                    tagged(&mut frame, tags);
                    scene.sender.send(&frame);
                }
            }
            let mut frame = scene.sender.frame(vip, family.neighbour, lie());
            frame[..6].copy_from_slice(&neighbour);
            tagged(&mut frame, &[(Q, 0); 7]);
            scene.sender.send(&frame);
        }
        assert!(scene.sender.receive(SHORT, |_| None::<()>).is_none());
    });
    let seen = scene.neighbour_watch.everything();
    let forged = seen.iter().filter(|frame| frame.windows(MARK.len()).any(|part| part == MARK)).count();
    assert_eq!(forged, 0, "the neighbour saw what came from a VIP");
    // What is honest is served; and to the neighbour itself it goes on.
    let mut honest = Vec::new();
    for family in scene.families() {
        for tags in PRIORITY {
            scene.sender.call(family.own, family.vip, host(family.vip), |frame| tagged(frame, tags)).unwrap();
            let mark = [MARK, &[b'0' + honest.len() as u8]].concat();
            let mut frame = scene.sender.frame(family.own, family.neighbour, udp(9, 9, &mark));
            frame[..6].copy_from_slice(&neighbour);
            tagged(&mut frame, tags);
            honest.push((mark, frame));
        }
    }
    wait_until("the neighbour sees what is its own", PATIENCE, || {
        honest.iter().for_each(|(_, frame)| scene.sender.send(frame));
        scene.sender.fence(OWN);
        let seen = scene.neighbour_watch.everything();
        honest.retain(|(mark, _)| !seen.iter().any(|frame| frame.windows(mark.len()).any(|part| part == mark)));
        honest.is_empty()
    });
}
