//! Forged source addresses.

use std::{net::IpAddr, time::Duration};

use brattice_abi::DropReason::{FromReserved, SpoofedSource};
use brattice_tests::lab::{DNS_VIP, DNS_VIP6, SETTLE, wait_until};

use super::{
    link::{PRIORITY, tagged},
    scene::{ENGINE, OWN, OWN6, Scene},
    sender::{ACK, PATIENCE, SHORT, SYN, Segment, host, tcp, udp},
};

fn parse(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Each source sends a SYN, a segment without one, and a datagram to the service.
fn from_each(scene: &Scene, sources: [&[IpAddr]; 2]) {
    for (family, sources) in scene.families().into_iter().zip(sources) {
        for source in sources {
            for payload in [tcp(4_000, 80, SYN), tcp(4_000, 80, ACK), udp(4_000, 53, b"question")] {
                scene.sender.send(&scene.sender.frame(*source, family.vip.ip(), payload));
            }
        }
    }
}

/// An address of its VPC that no workload has, and one of no VPC.
pub(super) fn address_of_no_workload(scene: &Scene) {
    let nobody = [[parse("10.0.0.99"), parse("203.0.113.9")], [parse("fd10::99"), parse("2001:db8::9")]];
    scene.refused(&[(SpoofedSource, 12)], || from_each(scene, [&nobody[0], &nobody[1]]));
}

/// The address of a workload of the same VPC, which is on another interface.
pub(super) fn a_neighbours_address(scene: &Scene) {
    let [four, six] = scene.families();
    scene.refused(&[(SpoofedSource, 6)], || from_each(scene, [&[four.neighbour], &[six.neighbour]]));
}

/// The same, with the address on its interface, so that the agent finds it there and its kernel's sockets use it.
pub(super) fn a_neighbours_address_on_its_own_interface(scene: &Scene) {
    let attacker = &scene.attacker.namespace;
    for family in scene.families() {
        let (length, nodad) = if family.own.is_ipv4() { (32, "") } else { (128, "nodad") };
        let neighbour = family.neighbour;
        attacker.ip(&format!("addr add {neighbour}/{length} dev eth0 {nodad}"));
        wait_until("the agent has seen and refused it", SETTLE, || {
            let shown = scene.lab.brattice(&["workloads", "--output", "json"]).stdout;
            let text = format!("{neighbour} of VPC platform/blue belongs to blue2 already");
            shown.contains("AddressConflict") && shown.contains(&text)
        });
        // One SYN: with its answer missing, the next one would follow a second later.
        scene.refused(&[(SpoofedSource, 1)], || {
            let refused = attacker.enter(|| {
                let socket =
                    socket2::Socket::new(socket2::Domain::for_address(family.vip), socket2::Type::STREAM, None)?;
                socket.bind(&std::net::SocketAddr::new(neighbour, 0).into())?;
                socket.connect_timeout(&family.vip.into(), Duration::from_millis(300))
            });
            assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        });
        scene.neighbour_calls(family.vip);
        attacker.ip(&format!("addr del {neighbour}/{length} dev eth0"));
    }
    scene.neighbour_serves();
}

/// The alias of another workload, and its own.
pub(super) fn an_alias(scene: &Scene) {
    let [four, six] = scene.families();
    let sources = [[four.alias, four.own_alias], [six.alias, six.own_alias]];
    scene.refused(&[(FromReserved, 12)], || from_each(scene, [&sources[0], &sources[1]]));
}

/// A service, the engine and DNS, towards the service and towards a neighbour.
pub(super) fn a_vip(scene: &Scene) {
    let [four, six] = scene.families();
    let sources = [[four.vip.ip(), ENGINE[0], DNS_VIP.into()], [six.vip.ip(), ENGINE[1], DNS_VIP6.into()]];
    scene.neighbour_watch.arrived();
    // As they are, and behind tags that only give a priority.
    let stacks = [&[][..], PRIORITY[0], PRIORITY[3]];
    scene.refused(&[(FromReserved, 18 + 6 * stacks.len() as u64)], || {
        from_each(scene, [&sources[0], &sources[1]]);
        for (family, sources) in scene.families().into_iter().zip(sources) {
            for (source, tags) in sources.into_iter().flat_map(|source| stacks.map(|tags| (source, tags))) {
                let mut frame = scene.sender.frame(source, family.neighbour, tcp(80, 40_000, SYN | ACK));
                frame[..6].copy_from_slice(&scene.neighbour_watch.mac);
                tagged(&mut frame, tags);
                scene.sender.send(&frame);
            }
        }
    });
    // Its own connections of earlier may still end.
    let unasked = |frame: &Vec<u8>| Segment::of(frame).is_some_and(|s| s.to.port() == 40_000);
    assert!(!scene.neighbour_watch.arrived().iter().any(&unasked));
    // The way to the neighbour is open.
    let mut frame = scene.sender.frame(four.own, four.neighbour, tcp(80, 40_000, SYN | ACK));
    frame[..6].copy_from_slice(&scene.neighbour_watch.mac);
    scene.sender.send(&frame);
    wait_until("the neighbour gets it", PATIENCE, || scene.neighbour_watch.arrived().iter().any(&unasked));
}

/// Sends with its neighbour's MAC: it is served under its own identity, and the neighbour gets none of its responses.
pub(super) fn anothers_mac(scene: &Scene) {
    scene.refused(&[], || {
        let pose = |frame: &mut Vec<u8>| frame[6..12].copy_from_slice(&scene.neighbour_watch.mac);
        scene.neighbour_watch.arrived();
        for family in scene.families() {
            assert!(scene.sender.handshake(PATIENCE, family.own, family.vip, pose).is_some(), "taken as itself");
        }
        let to_attacker = |s: &Segment| [IpAddr::from(OWN), IpAddr::from(OWN6)].contains(&s.to.ip());
        let seen = scene.neighbour_watch.arrived();
        let seen: Vec<Segment> = seen.iter().filter_map(|f| Segment::of(f)).filter(to_attacker).collect();
        assert!(seen.is_empty(), "{seen:?}");
        assert!(scene.sender.receive(SHORT, |_| None::<()>).is_none());
    });
    for family in scene.families() {
        let pose = |frame: &mut Vec<u8>| frame[6..12].copy_from_slice(&scene.neighbour_watch.mac);
        let answer = scene.sender.call(family.own, family.vip, host(family.vip), pose).unwrap();
        let about = answer.split_once("\r\n\r\n").unwrap().1.to_ascii_lowercase();
        assert!(about.contains(&format!("\"{}\"", family.own)), "x-forwarded-for: {about}");
        scene.neighbour_calls(family.vip);
    }
}
