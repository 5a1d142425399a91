//! Headers that hide what follows them, or name a way of their own.

use std::{net::IpAddr, time::Duration};

use brattice_abi::DropReason::{Malformed, SourceRouted, TooManyHeaders, Truncated};
use brattice_tests::{
    lab::{DNS_VIP, DNS_VIP6},
    packets::{
        frame::Frame,
        frame6::{Extension, Frame6},
    },
};

use super::{
    scene::{OWN, OWN6, Scene},
    sender::{PATIENCE, SHORT, SYN, Segment, VIRTUAL_MAC, tcp, udp},
};

/// A SYN to the service over IPv6 behind extension headers.
fn behind(scene: &Scene, port: u16, extensions: &[Extension]) -> Vec<u8> {
    let IpAddr::V6(vip) = scene.vips[1].ip() else { panic!("{:?}", scene.vips) };
    Frame6::raw(OWN6, vip, 0, &[])
        .behind(extensions)
        .with(|f| (f.payload, f.to, f.from) = (tcp(port, 80, SYN), VIRTUAL_MAC, scene.sender.mac))
        .build()
}

/// Whether the service answers to a port within `limit`.
fn answered(scene: &Scene, limit: Duration, port: u16) -> bool {
    let answer = |s: &Segment| scene.vips.contains(&s.from) && s.to.port() == port;
    scene.sender.receive(limit, |frame| Segment::of(frame).filter(answer)).is_some()
}

/// IPv6 routing headers of type 0, and of type 4 with segments left: the next one would be the server's alias.
pub(super) fn routing_headers(scene: &Scene) {
    let IpAddr::V6(alias) = scene.aliases[1] else { panic!("{:?}", scene.aliases) };
    let way = |kind: u8| {
        let mut bytes = vec![2, kind, 1, 0, 0, 0, 0];
        bytes.extend(alias.octets());
        Extension { number: 43, bytes }
    };
    let port = scene.sender.port();
    scene.refused(&[(SourceRouted, 3)], || {
        for header in [way(0), way(4), Extension::routing(0, 0)] {
            scene.sender.send(&behind(scene, port, &[header]));
        }
        assert!(!answered(scene, SHORT, port));
    });
    // Carried, and nothing is left to go: the node's stack has the last word.
    scene.refused(&[], || scene.sender.send(&behind(scene, port, &[Extension::routing(4, 0)])));
}

/// One extension header more than is read; hop-by-hop options that are not the first; a header that ends behind the packet.
pub(super) fn too_many_headers(scene: &Scene) {
    let options = || Extension::options(60, 1);
    let port = scene.sender.port();
    let most = usize::try_from(brattice_abi::MAX_EXTENSION_HEADERS).unwrap();
    scene.refused(&[(TooManyHeaders, 1), (Malformed, 1), (Truncated, 1)], || {
        scene.sender.send(&behind(scene, port, &vec![options(); most + 1]));
        scene.sender.send(&behind(scene, port, &[options(), Extension::options(0, 1)]));
        let mut beyond = options();
        beyond.bytes[0] = 200;
        scene.sender.send(&behind(scene, port, &[beyond]));
        assert!(!answered(scene, SHORT, port));
    });
    let port = scene.sender.port();
    scene.sender.send(&behind(scene, port, &[Extension::options(0, 1), options()]));
    assert!(answered(scene, PATIENCE, port), "fewer of them, in their order, are carried along");
    let port = scene.sender.port();
    scene.sender.send(&behind(scene, port, &[Extension::fragment(0, false)]));
    assert!(answered(scene, PATIENCE, port), "and a fragment header without fragments");
}

/// A DNS question for `orders.shop.internal`.
fn question() -> Vec<u8> {
    let mut bytes = vec![0x42, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["orders", "shop", "internal"] {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// TCP headers in fragments, so that no ports can be read or other ones are put over them; of a DNS question, fragments that
/// overlap.
pub(super) fn fragments(scene: &Scene) {
    let pieces = |ip: IpAddr, payload, size| match ip {
        IpAddr::V4(ip) => Frame::raw(OWN, ip, 0, &[])
            .with(|f| (f.payload, f.to, f.from, f.id) = (payload, VIRTUAL_MAC, scene.sender.mac, scene.sender.port()))
            .fragments(size),
        IpAddr::V6(ip) => Frame6::raw(OWN6, ip, 0, &[])
            .with(|f| (f.payload, f.to, f.from) = (payload, VIRTUAL_MAC, scene.sender.mac))
            .fragments(size),
    };
    let port = scene.sender.port();
    scene.refused(&[(Truncated, 2), (Malformed, 4)], || {
        for family in scene.families() {
            for piece in pieces(family.vip.ip(), tcp(port, 80, SYN), 8) {
                scene.sender.send(&piece);
            }
        }
        assert!(!answered(scene, SHORT, port));
    });
    let dns: [IpAddr; 2] = [DNS_VIP.into(), DNS_VIP6.into()];
    let resolved = |limit: Duration, dns: IpAddr| {
        let from = |frame: &[u8]| match dns {
            IpAddr::V4(ip) => frame[12..14] == [0x08, 0] && frame[23] == 17 && frame[26..30] == ip.octets(),
            IpAddr::V6(ip) => frame[12..14] == [0x86, 0xdd] && frame[20] == 17 && frame[22..38] == ip.octets(),
        };
        scene.sender.receive(limit, |frame| from(frame).then_some(())).is_some()
    };
    for dns in dns {
        let whole = pieces(dns, udp(scene.sender.port(), 53, &question()), 16);
        for piece in &whole {
            scene.sender.send(piece);
        }
        assert!(resolved(PATIENCE, dns), "what fits together is answered");
    }
    scene.refused(&[], || {
        for dns in dns {
            let payload = udp(scene.sender.port(), 53, &question());
            let (mut whole, wide) = (pieces(dns, payload.clone(), 16), pieces(dns, payload, 24));
            if dns.is_ipv4() {
                // The same datagram.
                let id = whole[0][18..20].to_vec();
                whole.iter_mut().for_each(|piece| piece[18..20].copy_from_slice(&id));
            }
            let mut over = wide[1].clone();
            if dns.is_ipv4() {
                over[18..20].copy_from_slice(&whole[0][18..20]);
                // Its header's checksum, anew.
                over[24..26].copy_from_slice(&[0, 0]);
                let sum = brattice_tests::raw::checksum(&over[14..34], 0);
                over[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            scene.sender.send(&whole[0]);
            scene.sender.send(&over);
            for piece in &whole[1..] {
                scene.sender.send(piece);
            }
            assert!(!resolved(SHORT * 4, dns), "{dns}: fragments overlap");
        }
    });
}

/// IPv4 options that name a way: by the server's alias to the service, and by the service to an alias.
pub(super) fn source_routes(scene: &Scene) {
    let (IpAddr::V4(vip), IpAddr::V4(alias)) = (scene.vips[0].ip(), scene.aliases[0]) else { panic!("IPv4") };
    let frame = |port: u16, options: Vec<u8>| {
        Frame::raw(OWN, vip, 0, &[])
            .with(|f| (f.payload, f.to, f.from) = (tcp(port, 80, SYN), VIRTUAL_MAC, scene.sender.mac))
            .with(|f| f.options = options)
            .build()
    };
    // RFC 791, 3.1: kind, length, pointer, addresses. With the pointer behind the last one, the way has been gone, and answers
    // take it back.
    let route = |kind: u8, pointer: u8| [&[1, kind, 7, pointer][..], &alias.octets()].concat();
    let record = [&[1, 7, 7, 4][..], &[0; 4]].concat();
    // A host that takes part in it.
    let taking = |yes: u8| {
        let names = ["all", "brattice0"].map(|name| format!("net.ipv4.conf.{name}.accept_source_route={yes}"));
        scene.lab.node.sh(&format!("sysctl -qw {}", names.join(" ")));
    };
    taking(1);
    let port = scene.sender.port();
    scene.refused(&[(SourceRouted, 4)], || {
        for (kind, pointer) in [(131, 4), (137, 4), (131, 8), (137, 8)] {
            scene.sender.send(&frame(port, route(kind, pointer)));
        }
        assert!(!answered(scene, SHORT, port));
    });
    let port = scene.sender.port();
    scene.sender.send(&frame(port, record));
    assert!(answered(scene, PATIENCE, port), "an option that only asks for the way is carried along");
    taking(0);
}
