//! ICMP and ICMPv6 errors about our flows, each test in both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use brattice_abi::{
    Counter, DropReason, MODE_DETACH, SWITCH_WORKLOAD, VIRTUAL_MAC, WORKLOAD_INTERCEPT_DNS, WORKLOAD_MAC_DOCUMENTED,
};
use brattice_tests::packets::{
    frame::Frame,
    icmp::{Error, Quote},
    node::{BRATTICE0_MAC, Context, Hook, IFINDEX, Node, TCX_DROP, TCX_REDIRECT, WORKLOAD_MAC},
};

use crate::scene::{
    ACK, ALIAS, DNS_VIP, ENGINE, REAL, STRANGER, TARGET_PORT, TCP, UDP, VIP, WORKLOAD, becomes, drops, passes_counting,
};

/// The addresses of a family.
#[derive(Clone, Copy)]
struct Family {
    real: IpAddr,
    alias: IpAddr,
    /// Of another workload behind the same interface.
    neighbour: IpAddr,
    neighbours_alias: IpAddr,
    /// Of a workload behind another interface.
    elsewhere: IpAddr,
    engine: IpAddr,
    vip: IpAddr,
    router: IpAddr,
    icmp: u8,
}

const V4: Family = Family {
    real: IpAddr::V4(REAL),
    alias: IpAddr::V4(ALIAS),
    neighbour: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11)),
    neighbours_alias: IpAddr::V4(Ipv4Addr::new(100, 127, 0, 3)),
    elsewhere: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 12)),
    engine: IpAddr::V4(ENGINE),
    vip: IpAddr::V4(VIP),
    router: IpAddr::V4(STRANGER),
    icmp: 1,
};

const V6: Family = Family {
    real: IpAddr::V6(Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0x10)),
    alias: IpAddr::V6(Ipv6Addr::new(0xfd00, 0x647f, 0x4000, 0, 0, 0, 0, 2)),
    neighbour: IpAddr::V6(Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0x11)),
    neighbours_alias: IpAddr::V6(Ipv6Addr::new(0xfd00, 0x647f, 0x4000, 0, 0, 0, 0, 3)),
    elsewhere: IpAddr::V6(Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0x12)),
    engine: IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0x4000, 1, 0, 0, 0, 1)),
    vip: IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0x4000, 1, 0x8000, 0, 0, 0x20)),
    router: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    icmp: 58,
};

const FAMILIES: [Family; 2] = [V4, V6];

fn node() -> Node {
    let mut node = Node::new();
    for f in FAMILIES {
        node.add_workload(IFINDEX, f.real, f.alias, WORKLOAD, 0);
        node.add_workload(IFINDEX, f.neighbour, f.neighbours_alias, WORKLOAD + 1, 0);
        node.add_workload(IFINDEX + 1, f.elsewhere, f.router, WORKLOAD + 2, 0);
        node.add_target(f.alias, TARGET_PORT, TCP);
        node.add_target(f.alias, TARGET_PORT, UDP);
    }
    node
}

impl Family {
    /// What the engine sent to the workload, as the workload saw it.
    fn received(&self, protocol: u8) -> Quote {
        Quote::new((self.engine, 33000), (self.real, TARGET_PORT), protocol)
    }

    /// What the workload sent to a service, as the host's stack saw it.
    fn sent(&self, protocol: u8) -> Quote {
        Quote::new((self.alias, 40001), (self.vip, 80), protocol)
    }

    /// Types of all errors.
    fn errors(&self) -> &'static [u8] {
        if self.icmp == 1 { &[3, 11, 12] } else { &[1, 2, 3, 4] }
    }
}

/// `workload_ingress` takes the error: both sources and the quoted destination are the alias then, and all sums are right.
#[track_caller]
fn taken(node: &mut Node, error: &Error, alias: IpAddr) {
    let expected = error.clone().with(|e| {
        e.to = BRATTICE0_MAC;
        e.source = alias;
        e.quote.destination = alias;
    });
    becomes(node, Hook::Ingress, &error.build(), Context::default(), &expected.build(), Counter::IcmpFromWorkload);
}

/// `workload_egress` delivers the error: its destination and the quoted source are the workload's own address then.
#[track_caller]
fn delivered(node: &mut Node, error: &Error, real: IpAddr) {
    let expected = error.clone().with(|e| {
        (e.to, e.from) = (WORKLOAD_MAC, VIRTUAL_MAC);
        e.destination = real;
        e.quote.source = real;
    });
    becomes(node, Hook::Egress, &error.build(), Context::default(), &expected.build(), Counter::IcmpToWorkload);
}

/// packets.md ingress 250: ICMP error (unreachable, time exceeded, parameter problem; ICMPv6: too big as well) to a
///   VIP, about a packet of that VIP to an address of the workload | taken: source and quoted destination become the
///   alias | `IcmpFromWorkload`
#[test]
fn every_error_of_a_workload_is_taken() {
    let mut node = node();
    for f in FAMILIES {
        for kind in f.errors() {
            for code in 0..16 {
                for protocol in [TCP, UDP] {
                    let error = Error::too_big(f.received(protocol)).with(|e| (e.kind, e.code) = (*kind, code));
                    taken(&mut node, &error, f.alias);
                }
            }
        }
        let about_an_answer = Quote::new((f.vip, 80), (f.real, 40001), TCP);
        taken(&mut node, &Error::too_big(about_an_answer), f.alias);
    }
}

/// A router in the workload's network has an address of its own; the engine gets its error as the workload's.
///
/// packets.md ingress 260: … from a router behind the interface | the same, whatever its source (not a VIP or alias:
///   `FromReserved`) | `IcmpFromWorkload`
#[test]
fn an_error_of_a_router_before_the_workload_is_taken() {
    let mut node = node();
    for f in FAMILIES {
        taken(&mut node, &Error::too_big(f.received(TCP)).with(|e| e.source = f.router), f.alias);
        taken(&mut node, &Error::too_big(f.received(TCP)).with(|e| e.source = f.neighbour), f.alias);
    }
}

/// packets.md ingress 200
#[test]
fn an_error_with_another_mac_than_the_documented_one_is_dropped() {
    let mut node = node();
    for f in FAMILIES {
        node.add_workload(IFINDEX, f.real, f.alias, WORKLOAD, WORKLOAD_MAC_DOCUMENTED);
        let error = Error::too_big(f.received(TCP));
        taken(&mut node, &error.clone().with(|e| e.from = WORKLOAD_MAC), f.alias);
        let other = error.with(|e| e.from = [2, 9, 9, 9, 9, 9]).build();
        drops(&mut node, Hook::Ingress, &other, DropReason::SpoofedSource);
    }
}

/// packets.md ingress 270: … about a packet to another's address, or that this VIP did not send | dropped |
///   `IcmpForeign`
#[test]
fn an_error_about_a_packet_of_another_workload_is_dropped() {
    let mut node = node();
    for f in FAMILIES {
        let good = Error::too_big(f.received(TCP));
        for destination in [f.elsewhere, f.router, f.alias, f.neighbours_alias, f.vip] {
            let error = good.clone().with(|e| e.quote.destination = destination);
            drops(&mut node, Hook::Ingress, &error.build(), DropReason::IcmpForeign);
        }
        // A host that did not send the packet must not get the error.
        for source in [f.vip, f.real, f.alias, f.router] {
            let error = good.clone().with(|e| e.quote.source = source);
            drops(&mut node, Hook::Ingress, &error.build(), DropReason::IcmpForeign);
        }
        taken(&mut node, &good, f.alias);
        // The neighbour's is the neighbour's.
        taken(&mut node, &good.with(|e| e.quote.destination = f.neighbour), f.neighbours_alias);
    }
}

/// packets.md ingress 260
#[test]
fn an_error_from_a_reserved_address_or_to_an_alias_is_dropped() {
    let mut node = node();
    for f in FAMILIES {
        for source in [f.vip, f.alias, f.neighbours_alias] {
            let error = Error::too_big(f.received(TCP)).with(|e| e.source = source);
            drops(&mut node, Hook::Ingress, &error.build(), DropReason::FromReserved);
        }
        let to_alias = Error::too_big(Quote::new((f.neighbours_alias, 80), (f.real, 40001), TCP));
        drops(&mut node, Hook::Ingress, &to_alias.build(), DropReason::ToAlias);
        taken(&mut node, &Error::too_big(f.received(TCP)), f.alias);
    }
}

/// packets.md ingress 240
#[test]
fn messages_that_are_no_errors_are_dropped() {
    let mut node = node();
    for f in FAMILIES {
        for kind in (0..=255).filter(|kind| !f.errors().contains(kind)) {
            let message = Error::too_big(f.received(TCP)).with(|e| e.kind = kind);
            drops(&mut node, Hook::Ingress, &message.build(), DropReason::UnsupportedProtocol);
            let message = Error::too_big(f.sent(TCP)).with(|e| e.kind = kind);
            drops(&mut node, Hook::Egress, &message.build(), DropReason::NotForWorkload);
        }
        taken(&mut node, &Error::too_big(f.received(TCP)), f.alias);
        delivered(&mut node, &Error::too_big(f.sent(TCP)), f.real);
    }
}

/// Makes a quote bad.
type Spoil = fn(&mut Quote);

/// packets.md ingress 280: … that quotes another protocol than TCP and UDP (an error about an error), a later fragment,
///   a malformed header, or fewer than 8 bytes behind it | dropped | `IcmpQuote`
#[test]
fn a_quote_that_is_no_start_of_tcp_or_udp_is_dropped() {
    let mut node = node();
    for f in FAMILIES {
        let spoilt: [(&str, Spoil); 5] = [
            ("an error about an error", |q| q.protocol = if q.source.is_ipv4() { 1 } else { 58 }),
            ("SCTP", |q| q.protocol = 132),
            ("a version of none", |q| q.version = Some(5)),
            ("a later fragment", |q| {
                q.fragment = 0x2001;
                if q.source.is_ipv6() {
                    (q.extension, q.options) = (Some(44), vec![q.protocol, 0, 0, 9, 0, 0, 0, 7]);
                }
            }),
            ("the other family's version", |q| q.version = Some(if q.source.is_ipv4() { 6 } else { 4 })),
        ];
        for (what, spoil) in spoilt {
            for (hook, quote) in [(Hook::Ingress, f.received(TCP)), (Hook::Egress, f.sent(TCP))] {
                println!("{what}");
                let error = Error::too_big(quote).with(|e| spoil(&mut e.quote));
                drops(&mut node, hook, &error.build(), DropReason::IcmpQuote);
            }
        }
        taken(&mut node, &Error::too_big(f.received(TCP)), f.alias);
        delivered(&mut node, &Error::too_big(f.sent(TCP)), f.real);
    }
}

/// packets.md ingress 290: … that quotes IP options, extension headers, a first fragment | taken | `IcmpFromWorkload`
#[test]
fn options_extension_headers_and_first_fragments_may_be_quoted() {
    let mut node = node();
    let first4 = |q: &mut Quote| (q.fragment, q.options) = (0x2000, vec![1; 40]);
    taken(&mut node, &Error::too_big(V4.received(UDP)).with(|e| first4(&mut e.quote)), V4.alias);
    delivered(&mut node, &Error::too_big(V4.sent(UDP)).with(|e| first4(&mut e.quote)), V4.real);
    for headers in [
        // Hop-by-hop with padding, destination options of 16 bytes, the first fragment's header.
        (0, vec![60, 0, 1, 4, 0, 0, 0, 0, 44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, UDP, 0, 0, 1, 0, 0, 0, 7]),
        (44, vec![UDP, 0, 0, 1, 0, 0, 0, 7]),
    ] {
        let with = |q: &mut Quote| (q.extension, q.options) = (Some(headers.0), headers.1.clone());
        taken(&mut node, &Error::too_big(V6.received(UDP)).with(|e| with(&mut e.quote)), V6.alias);
        delivered(&mut node, &Error::too_big(V6.sent(UDP)).with(|e| with(&mut e.quote)), V6.real);
    }
}

/// 8 bytes of TCP or UDP are enough, and nothing less is.
///
/// packets.md ingress 280
#[test]
fn quotes_cut_at_every_byte() {
    let mut node = node();
    for f in FAMILIES {
        let header = if f.icmp == 1 { 20 } else { 40 };
        for quoted in 0..header + 20 {
            let from = Error::too_big(f.received(TCP)).with(|e| e.quoted = quoted);
            let to = Error::too_big(f.sent(TCP)).with(|e| e.quoted = quoted);
            if quoted < header + 8 {
                drops(&mut node, Hook::Ingress, &from.build(), DropReason::IcmpQuote);
                drops(&mut node, Hook::Egress, &to.build(), DropReason::IcmpQuote);
            } else {
                taken(&mut node, &from, f.alias);
                delivered(&mut node, &to, f.real);
            }
        }
    }
}

/// The IP header promises more than the frame holds.
///
/// packets.md ingress 300: … cut off | dropped | `Truncated`, `Malformed`
#[test]
fn frames_cut_at_every_byte_are_dropped() {
    let mut node = node();
    for f in FAMILIES {
        let header = if f.icmp == 1 { 34 } else { 54 };
        for (hook, error) in
            [(Hook::Ingress, Error::too_big(f.received(TCP))), (Hook::Egress, Error::too_big(f.sent(TCP)))]
        {
            let whole = error.build();
            for len in header + 1..whole.len() {
                let outcome = node.run(hook, &whole[..len], Context::default());
                assert_eq!(outcome.verdict, TCX_DROP, "{len} bytes");
                assert!(outcome.frame == whole[..len], "changed before it was dropped");
            }
            assert_eq!(node.counted(Counter::IcmpFromWorkload) + node.counted(Counter::IcmpToWorkload), 0);
            assert!(node.dropped(DropReason::Truncated) >= 7 && node.dropped(DropReason::Malformed) >= 40);
        }
        node = self::node();
        taken(&mut node, &Error::too_big(f.received(TCP)), f.alias);
        node = self::node();
    }
}

/// A later fragment of an error has nothing to judge it by.
///
/// packets.md ingress 310: … in fragments | the first is taken, later ones dropped: never becomes whole |
///   `UnsupportedProtocol`
#[test]
fn later_fragments_of_errors_are_dropped() {
    let mut node = node();
    let later = Error::too_big(V4.received(TCP)).with(|e| e.fragment = 1);
    drops(&mut node, Hook::Ingress, &later.build(), DropReason::UnsupportedProtocol);
    let later = Error::too_big(V4.sent(TCP)).with(|e| e.fragment = 1);
    drops(&mut node, Hook::Egress, &later.build(), DropReason::NotForWorkload);
    taken(&mut node, &Error::too_big(V4.received(TCP)), V4.alias);
    delivered(&mut node, &Error::too_big(V4.sent(TCP)), V4.real);
}

/// packets.md egress 30: ICMP error of the host's stack (nobody listens at a UDP port, a firewall's reject) about a
///   packet of the workload to a VIP | delivered: destination and quoted source become the workload's address, a source
///   that is no VIP (ICMPv6) the VIP that was called; for an intercepted DNS question, source and quoted destination
///   the resolver asked | `IcmpToWorkload`
#[test]
fn every_error_of_the_host_is_delivered() {
    let mut node = node();
    for f in FAMILIES {
        for kind in f.errors() {
            for protocol in [TCP, UDP] {
                delivered(&mut node, &Error::too_big(f.sent(protocol)).with(|e| e.kind = *kind), f.real);
            }
        }
        // From an address of the host's: the workload gets the error from the VIP that it called.
        let host = Error::too_big(f.sent(TCP)).with(|e| e.source = f.router);
        let expected = host.clone().with(|e| {
            (e.to, e.from) = (WORKLOAD_MAC, VIRTUAL_MAC);
            (e.source, e.destination, e.quote.source) = (f.vip, f.real, f.real);
        });
        becomes(&mut node, Hook::Egress, &host.build(), Context::default(), &expected.build(), Counter::IcmpToWorkload);
        // From another address of ours than the one that was called.
        delivered(&mut node, &Error::too_big(f.sent(TCP)).with(|e| e.source = f.engine), f.real);
    }
}

/// packets.md egress 40: … about another's packet, or not to a VIP | dropped | `IcmpForeign`
#[test]
fn an_error_of_the_host_about_a_packet_of_another_workload_is_dropped() {
    let mut node = node();
    for f in FAMILIES {
        let good = Error::too_big(f.sent(TCP));
        for source in [f.neighbours_alias, f.real, f.vip] {
            drops(
                &mut node,
                Hook::Egress,
                &good.clone().with(|e| e.quote.source = source).build(),
                DropReason::IcmpForeign,
            );
        }
        for called in [f.router, f.neighbours_alias, f.alias] {
            let error = good.clone().with(|e| e.quote.destination = called);
            drops(&mut node, Hook::Egress, &error.build(), DropReason::IcmpForeign);
        }
        let unknown = good.clone().with(|e| e.destination = f.elsewhere);
        drops(&mut node, Hook::Egress, &unknown.build(), DropReason::UnknownAlias);
        delivered(&mut node, &good, f.real);
    }
}

/// packets.md ingress 320: … of a detached workload | passes | `DetachedPassed`
#[test]
fn a_detached_workloads_errors_are_left_alone() {
    let mut node = node();
    node.switch(SWITCH_WORKLOAD, WORKLOAD, MODE_DETACH, 0);
    for f in FAMILIES {
        let from = Error::too_big(f.received(TCP)).with(|e| e.source = f.router);
        passes_counting(&mut node, Hook::Ingress, &from.build(), &[Counter::DetachedPassed]);
        drops(&mut node, Hook::Egress, &Error::too_big(f.sent(TCP)).build(), DropReason::Detached);
    }
    node.unswitch(SWITCH_WORKLOAD, WORKLOAD);
    taken(&mut node, &Error::too_big(V4.received(TCP)).with(|e| e.source = V4.router), V4.alias);
    delivered(&mut node, &Error::too_big(V4.sent(TCP)), V4.real);
}

/// What is larger than the workload's MTU becomes an error about itself.
///
/// packets.md egress 50: larger than the workload's MTU, of a GSO packet each segment | becomes an ICMP error about
///   itself, from the alias, back into `brattice0`: the stack remembers the MTU of the alias | `TooLargeAnswered`
/// packets.md egress 60: … a later fragment | dropped: the first one was answered | `TooLarge`
#[test]
fn what_is_too_large_is_answered() {
    let mut node = node();
    node.set_mtu(ALIAS, 1280);
    let fits = Frame::tcp((ENGINE, 33000), (ALIAS, TARGET_PORT), ACK, &[7; 1280 - 40]);
    crate::scene::delivers(&mut node, &fits);
    let large = Frame::tcp((ENGINE, 33000), (ALIAS, TARGET_PORT), ACK, &[7; 1280 - 40 + 1]).build();
    let error = |frame: &[u8]| {
        let quote = &frame[14..14 + 68];
        let mut error = Error::too_big(Quote::new((V4.engine, 33000), (V4.alias, TARGET_PORT), TCP)).with(|e| {
            (e.to, e.from) = (BRATTICE0_MAC, VIRTUAL_MAC);
            e.quote.payload = quote[20..].to_vec();
        });
        error.fragment = 0x4000;
        let mut built = error.build();
        // The builder's quote has a length and an identification of its own.
        built[42..42 + 20].copy_from_slice(&quote[..20]);
        built[18..20].copy_from_slice(&[0, 0]);
        built
    };
    let outcome = node.run(Hook::Egress, &large, Context::default());
    assert_eq!((outcome.verdict, node.counted(Counter::TooLargeAnswered)), (7, 1), "{:?}", node.all_counted());
    let expected = error(&large);
    assert_eq!(outcome.frame.len(), 14 + 20 + 8 + 68);
    // Headers and quote, apart from the checksums, which the stack judges end to end (`pmtu`).
    assert_eq!(outcome.frame[..18], expected[..18]);
    assert_eq!(outcome.frame[20..24], [0x40, 0, 64, 1]);
    assert_eq!(outcome.frame[26..36], expected[26..36]);
    assert_eq!(outcome.frame[38..], expected[38..]);
    // Each segment of a GSO packet must fit.
    let gso = |size| Context { gso_segs: 2, gso_size: size, ..Context::default() };
    let two = Frame::tcp((ENGINE, 33000), (ALIAS, TARGET_PORT), ACK, &[7; 2480]);
    crate::scene::delivers_as(&mut node, &two.build(), gso(1240), &crate::scene::with_real(&two).build());
    assert_eq!(node.run(Hook::Egress, &two.build(), gso(1241)).frame.len(), outcome.frame.len());
    // Not known: nothing is too large.
    node.set_mtu(ALIAS, 0);
    crate::scene::delivers(&mut node, &Frame::tcp((ENGINE, 33000), (ALIAS, TARGET_PORT), ACK, &[7; 1280]));
    // A later fragment is dropped.
    node.set_mtu(ALIAS, 576);
    let fragments = Frame::udp((ENGINE, 33000), (ALIAS, TARGET_PORT), &[7; 2000]).fragments(1000);
    drops(&mut node, Hook::Egress, &fragments[1], DropReason::TooLarge);
}

/// A workload knows its intercepted question by the resolver that it asked.
#[test]
fn an_error_about_an_intercepted_question_names_the_resolver() {
    let mut node = node();
    node.add_workload(IFINDEX, REAL, ALIAS, WORKLOAD, WORKLOAD_INTERCEPT_DNS);
    let mut message = vec![0; 24];
    message[..2].copy_from_slice(&[0xab, 0xcd]);
    let question = Frame::udp((REAL, 40001), (STRANGER, 53), &message);
    assert_eq!(node.run(Hook::Ingress, &question.build(), Context::default()).verdict, TCX_REDIRECT);
    let about = |id: [u8; 2]| {
        let quote = Quote::new((V4.alias, 40001), (DNS_VIP.into(), 53), UDP);
        Error::too_big(quote).with(|e| {
            (e.kind, e.code, e.rest) = (3, 3, 0);
            e.quote.payload[8..10].copy_from_slice(&id);
        })
    };
    let asked = about([0xab, 0xcd]);
    let expected = asked.clone().with(|e| {
        (e.to, e.from) = (WORKLOAD_MAC, VIRTUAL_MAC);
        (e.source, e.destination) = (STRANGER.into(), V4.real);
        (e.quote.source, e.quote.destination) = (V4.real, STRANGER.into());
    });
    becomes(&mut node, Hook::Egress, &asked.build(), Context::default(), &expected.build(), Counter::IcmpToWorkload);
    // Of another question, or cut before the id: from the address that sent it.
    delivered(&mut node, &about([0, 1]), V4.real);
    delivered(&mut node, &asked.with(|e| e.quoted = 28), V4.real);
}
