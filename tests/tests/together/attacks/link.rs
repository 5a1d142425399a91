//! Below IP: ARP, neighbour discovery and VLAN tags on a bridge that attacker and neighbour share. What a workload does to its
//! neighbours by them is the bridge's affair, but service traffic does not ask it.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use brattice_abi::DropReason::{FromReserved, UnattestedPeer};
use brattice_tests::{
    lab::wait_until,
    packets::{
        frame::Arp,
        frame6::{Frame6, Neighbour, link_address},
    },
    raw::mac,
};

use super::{
    scene::{BRIDGE, NEIGHBOUR, NEIGHBOUR6, OWN, OWN6, Scene},
    sender::{SHORT, SYN, Segment, VIRTUAL_MAC, tcp},
};

const PATIENCE: Duration = Duration::from_secs(5);

/// `02:00:...`, as `ip` and `bridge` write it.
fn shown(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Repeats a lie until the neighbour believes that the attacker's MAC is this address's.
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
    let seen: Vec<Segment> = watch.all().iter().filter_map(|frame| Segment::of(frame)).collect();
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

/// Announcements of the neighbour's address, and frames with its MAC, which the bridge learns: who calls the neighbour's service
/// gets the neighbour.
pub(super) fn arp_for_a_neighbour(scene: &Scene) {
    scene.neighbour_serves();
    scene.refused(&[], || {
        let announcement = Arp::request(NEIGHBOUR, NEIGHBOUR).with(|arp| arp.sender.0 = scene.sender.mac);
        // The host believes who announces an address that it knows.
        let known = shown(scene.neighbour_watch.mac);
        scene.lab.node.ip(&format!("neigh replace {NEIGHBOUR} lladdr {known} dev {BRIDGE} nud stale"));
        scene.lab.node.sh(&format!("sysctl -qw net.ipv4.neigh.{BRIDGE}.locktime=0"));
        wait_until("the host believes it", PATIENCE, || {
            scene.sender.send(&announcement.build());
            scene.lab.node.ip(&format!("neigh show {NEIGHBOUR}")).contains(&shown(scene.sender.mac))
        });
        let stolen = scene.neighbour_watch.mac;
        wait_until("the bridge believes it", PATIENCE, || {
            let frame = Arp::request(OWN, OWN).with(|arp| arp.sender.0 = stolen).build();
            scene.sender.send(&frame);
            let entries = scene.lab.node.sh(&format!("bridge fdb show br {BRIDGE}"));
            entries.lines().any(|line| line.starts_with(&shown(stolen)) && line.contains("blue1"))
        });
    });
    scene.neighbour_serves();
    scene.neighbour_calls(scene.vips[0]);
    scene.lab.node.ip(&format!("neigh flush dev {BRIDGE}"));
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
    scene.refused(&[(FromReserved, 1)], || scene.sender.send(&advertisement(scene, address, address)));
    assert!(
        !scene.neighbour.namespace.ip(&format!("neigh show {address}")).contains(&shown(scene.sender.mac)),
        "the neighbour heard nothing of it"
    );
    scene.refused(&[], || poison(scene, vip.ip(), &advertisement(scene, OWN6, address)));
    called_past_the_attacker(scene, vip);
    scene.neighbour.namespace.ip(&format!("neigh del {address} dev eth0"));
}

/// A router advertisement that gives the host routes: one to a range of nobody, one into the range of the aliases. It believes
/// the advertisement, and goes on to find its workloads.
pub(super) fn router_advertisements(scene: &Scene) {
    let node = &scene.lab.node;
    let IpAddr::V6(alias) = scene.aliases[1] else { panic!("an IPv6 alias") };
    let nobody: Ipv6Addr = "2001:db8:77::".parse().unwrap();
    // A host that takes its own routes from advertisements, whoever forwards by it.
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

/// Puts a tag into a frame.
fn tagged(frame: &mut Vec<u8>, vlan: u16) {
    let tag = [[0x81, 0], vlan.to_be_bytes()].concat();
    frame.splice(12..12, tag);
}

/// Tagged frames, to whoever answers for VIPs and to the host. A tag of VLAN 0 is none to the stack, so what is in there comes
/// by the bridge: an interface that is nobody's.
pub(super) fn vlan_tags(scene: &Scene) {
    let bridge = mac(&scene.lab.node, BRIDGE);
    let refused = |frame: &mut Vec<u8>, vlan: u16, to: [u8; 6]| {
        frame[..6].copy_from_slice(&to);
        tagged(frame, vlan);
    };
    scene.refused(&[], || {
        for family in scene.families() {
            for (vlan, to) in [(7, VIRTUAL_MAC), (7, bridge), (0, VIRTUAL_MAC)] {
                let answer = scene.sender.handshake(family.own, family.vip, |frame| refused(frame, vlan, to));
                assert!(answer.is_none(), "VLAN {vlan}: {answer:?}");
            }
        }
    });
    scene.refused(&[(UnattestedPeer, 2)], || {
        for family in scene.families() {
            let answer = scene.sender.handshake(family.own, family.vip, |frame| refused(frame, 0, bridge));
            assert!(answer.is_none(), "{answer:?}");
        }
    });
    // With an alias as source it would be somebody's segment.
    scene.guarded_against(4, || {
        for family in scene.families() {
            for alias in [family.alias, family.own_alias] {
                let mut frame = scene.sender.frame(alias, family.vip.ip(), tcp(4_000, 80, SYN));
                refused(&mut frame, 0, bridge);
                scene.sender.send(&frame);
            }
        }
        assert!(scene.sender.receive(SHORT, |_| None::<()>).is_none());
    });
}
