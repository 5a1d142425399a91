//! `vip_listener`, and what `BPF_PROG_TEST_RUN` cannot show of the others: real sockets, redirects and offloads, in two
//! namespaces. "Refused" means that the client got a RST at once.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use brattice_abi::{
    Counter, DropReason, LISTENER_TCP, MODE_BYPASS, MODE_DETACH, SLOT_DNS_TCP, SLOT_DNS_UDP, SLOT_HTTP, SLOT_TCP,
    SWITCH_ALL, SWITCH_SERVICE, SWITCH_WORKLOAD,
};
use brattice_tests::packets::frame::Frame;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    frames::send_frame,
    scene::{ALIAS, DNS_VIP, ENGINE, REAL, SYN, TARGET_PORT, TCP, UDP, VIP, WORKLOAD},
    world::{NODE, World, in_world, mac, sh, stack_counter},
};

pub(crate) const SERVICE: u32 = 9;
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// A listening socket of the engine, not blocking.
fn listener(port: u16) -> TcpListener {
    let listener = TcpListener::bind(at(ENGINE, port)).expect("the VIP range is local");
    listener.set_nonblocking(true).expect("a socket can");
    listener
}

/// A connection from a listener's queue, within [`PATIENCE`].
#[track_caller]
pub(crate) fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(false).expect("a socket can");
                stream.set_read_timeout(Some(PATIENCE)).expect("a socket can");
                return (stream, peer);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(e) => panic!("nobody connected: {e}"),
        }
    }
}

/// Connects from the workload.
pub(crate) fn connect(world: &World, address: impl Into<IpAddr>, port: u16) -> std::io::Result<TcpStream> {
    let to = at(address, port);
    world.workload(move || TcpStream::connect_timeout(&to, PATIENCE))
}

#[track_caller]
pub(crate) fn refused<T>(result: std::io::Result<T>) {
    match result {
        Ok(_) => panic!("connected"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionRefused, "{e}"),
    }
}

/// A service on VIP:80 with one worker.
fn with_service(world: &mut World) -> TcpListener {
    let listener = listener(15001);
    world.node.add_service(VIP, 80, SERVICE);
    world.node.set_socket(SLOT_HTTP, &listener);
    world.node.set_socket(SLOT_HTTP + 1, &listener);
    listener
}

/// The service answers from its VIP to the workload's alias, and data goes both ways.
#[track_caller]
fn reached(world: &World, listener: &TcpListener) {
    reached_at(world, listener, VIP, ALIAS);
}

/// The same at a VIP, by an alias.
#[track_caller]
pub(crate) fn reached_at(world: &World, listener: &TcpListener, vip: impl Into<IpAddr>, alias: impl Into<IpAddr>) {
    let vip = vip.into();
    let mut client = connect(world, vip, 80).expect("the service is reached");
    let (mut server, peer) = accept(listener);
    assert_eq!(peer, at(alias, client.local_addr().expect("connected").port()), "the caller is its alias");
    assert_eq!(server.local_addr().expect("connected"), at(vip, 80));
    client.set_read_timeout(Some(PATIENCE)).expect("a socket can");
    client.write_all(b"ping").expect("sent");
    let mut buffer = [0; 4];
    server.read_exact(&mut buffer).expect("received");
    server.write_all(b"pong").expect("sent");
    client.read_exact(&mut buffer).expect("received");
    assert_eq!(&buffer, b"pong");
}

/// packets.md vip 10: VIP and port of a service, from an attached workload | a worker's listener | `ToEngine`
#[test]
fn a_service_is_reached_through_its_vip() {
    in_world(|world| {
        let listener = with_service(world);
        reached(world, &listener);
        assert_eq!(world.node.counted(Counter::ToEngine), 1);
        assert!(world.node.counted(Counter::FromWorkload) >= 4, "{:?}", world.node.all_counted());
        assert!(world.node.counted(Counter::ArpAnswered) >= 1);
        assert_eq!(world.node.half_open(WORKLOAD).map(|c| c.count), Some(0), "the handshake was finished");
    });
}

/// No wildcard socket of the host is reached through a VIP, whatever the port.
///
/// packets.md vip 20: VIP and port that no service has, though the host has a wildcard socket there | refused |
///   `NoListener`
#[test]
fn host_daemons_are_not_reached_through_a_vip() {
    in_world(|world| {
        let listener = with_service(world);
        let ports = [81, 22, 2222, 8080, 10250];
        let daemons = ports.map(|p| TcpListener::bind(at(Ipv4Addr::UNSPECIFIED, p)).expect("free in a new namespace"));
        let wildcard_udp = UdpSocket::bind(at(Ipv4Addr::UNSPECIFIED, 5000)).expect("free");
        wildcard_udp.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket can");
        for port in ports {
            for vip in [VIP, ENGINE, DNS_VIP, Ipv4Addr::new(169, 254, 79, 255)] {
                refused(connect(world, vip, port));
            }
            drop(connect(world, NODE, port).expect("the daemon is reached at the node's own address"));
        }
        assert_eq!(world.node.dropped(DropReason::NoListener), 20);
        drop(daemons);

        let mut buffer = [0; 16];
        let send = |to| {
            move || {
                UdpSocket::bind(at(REAL, 6000)).and_then(|s| s.send_to(b"hello", at(to, 5000))).expect("sent");
            }
        };
        world.workload(send(VIP));
        assert!(wildcard_udp.recv(&mut buffer).is_err(), "a datagram to a VIP reached a wildcard socket");
        assert_eq!(world.node.dropped(DropReason::NoListener), 21);
        world.workload(send(NODE));
        assert_eq!(wildcard_udp.recv(&mut buffer).expect("the control"), 5);
        reached(world, &listener);
    });
}

/// packets.md vip 30: from a host process that is no workload, also one that bound a VIP | refused | `UnattestedHost`
#[test]
fn a_host_process_is_reset() {
    in_world(|world| {
        let listener = with_service(world);
        let daemon = TcpListener::bind(at(Ipv4Addr::UNSPECIFIED, 81)).expect("free");
        refused(TcpStream::connect(at(VIP, 80)));
        refused(TcpStream::connect(at(VIP, 81)));
        // From a VIP it bound itself, too.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&at(VIP, 0).into()).expect("the range is local");
        refused(socket.connect(&at(VIP, 80).into()));
        assert_eq!(world.node.dropped(DropReason::UnattestedHost), 3);
        drop(TcpStream::connect(at(NODE, 81)).expect("the control"));
        drop(daemon);
        reached(world, &listener);
    });
}

/// An interface without our program: its VIP traffic reaches the node's stack, and is refused there.
///
/// packets.md vip 40: from an interface that is not attached | refused | `UnattestedPeer`
#[test]
fn an_interface_not_attached_is_reset() {
    in_world(|world| {
        let listener = with_service(world);
        sh("ip link add x0 type veth peer name x1");
        // A second workload, in the same namespace, by another interface.
        let tid = world.workload(|| nix::unistd::gettid().as_raw());
        sh(&format!("ip link set x1 netns {tid}"));
        sh("ip addr add 10.9.0.1/24 dev x0");
        sh("ip link set x0 up");
        world.workload(|| {
            sh("ip addr add 10.9.0.10/24 dev x1");
            sh("ip link set x1 up");
            sh("ip route add 169.254.64.33/32 via 10.9.0.1 src 10.9.0.10");
        });
        let vip = Ipv4Addr::new(169, 254, 64, 33);
        world.node.add_service(vip, 80, SERVICE);
        refused(connect(world, vip, 80));
        assert_eq!(world.node.dropped(DropReason::UnattestedPeer), 1);
        reached(world, &listener);
    });
}

/// An address of the alias range proves nothing by itself: where the packet came in does.
///
/// packets.md vip 50: … with an alias as source | refused; on a node, dropped by the nftables table before |
///   `UnattestedPeer`; the rule's own
#[test]
fn an_alias_from_another_interface_is_refused() {
    in_world(|world| {
        let listener = with_service(world);
        let syn = move |to: [u8; 6]| Frame::tcp((ALIAS, 40000), (VIP, 80), SYN, b"").with(|f| f.to = to).build();
        sh("ip link add x0 type veth peer name x1");
        sh("ip link set x0 up");
        sh("ip link set x1 up");
        let (x0, brattice0) = (mac("x0"), mac("brattice0"));
        // A way back, so that no reverse path filter comes first.
        sh("sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.x0.rp_filter=0");
        wait_until(|| {
            send_frame("x1", &syn(x0));
            world.node.dropped(DropReason::UnattestedPeer) > 0
        });
        assert_eq!(world.node.counted(Counter::ToEngine), 0);
        listener.accept().expect_err("nobody came");
        // The same packet, come in by brattice0.
        wait_until(|| {
            send_frame("brattice1", &syn(brattice0));
            world.node.counted(Counter::ToEngine) > 0
        });
    });
}

/// `brattice0` alone proves nothing either: the peer must be an alias that was given.
#[test]
fn a_peer_that_is_no_alias_is_refused() {
    in_world(|world| {
        let listener = with_service(world);
        let brattice0 = mac("brattice0");
        let syn = |from| Frame::tcp((from, 40000), (VIP, 80), SYN, b"").with(|f| f.to = brattice0).build();
        sh("sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.brattice0.rp_filter=0");
        let not_given = Ipv4Addr::from_bits(ALIAS.to_bits() + 1);
        wait_until(|| {
            send_frame("brattice1", &syn(not_given));
            world.node.dropped(DropReason::UnattestedPeer) > 0
        });
        assert_eq!(world.node.counted(Counter::ToEngine), 0);
        listener.accept().expect_err("nobody came");
        wait_until(|| {
            send_frame("brattice1", &syn(ALIAS));
            world.node.counted(Counter::ToEngine) > 0
        });
    });
}

#[track_caller]
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "in vain");
        thread::sleep(Duration::from_millis(10));
    }
}

/// packets.md vip 90: the engine's socket is gone | refused; while one of two workers has one, it takes all |
///   `EngineDown`
#[test]
fn without_an_engine_clients_are_reset() {
    in_world(|world| {
        let listener = with_service(world);
        reached(world, &listener);
        // One worker's slot is enough.
        world.node.clear_socket(SLOT_HTTP);
        for _ in 0..8 {
            reached(world, &listener);
        }
        world.node.clear_socket(SLOT_HTTP + 1);
        refused(connect(world, VIP, 80));
        assert_eq!(world.node.dropped(DropReason::EngineDown), 1);
        world.node.set_socket(SLOT_HTTP, &listener);
        world.node.set_socket(SLOT_HTTP + 1, &listener);
        reached(world, &listener);
        // A closed socket leaves its slots by itself.
        drop(listener);
        refused(connect(world, VIP, 80));
        assert_eq!(world.node.dropped(DropReason::EngineDown), 2);
    });
}

/// packets.md ingress 690
/// packets.md vip 100: service detached | refused | `Detached`
/// packets.md vip 110: bypass: workload, service or all | the worker's relay | `ToEngine`, `Bypassed`
#[test]
fn switches_reset_or_relay_new_connections() {
    in_world(|world| {
        let http = with_service(world);
        let relay = listener(15101);
        world.node.set_socket(SLOT_TCP, &relay);
        world.node.set_socket(SLOT_TCP + 1, &relay);
        reached(world, &http);
        for (scope, id) in [(SWITCH_SERVICE, SERVICE), (SWITCH_WORKLOAD, WORKLOAD), (SWITCH_ALL, 0)] {
            world.node.switch(scope, id, MODE_BYPASS, 0);
            reached(world, &relay);
            world.node.switch(scope, id, MODE_BYPASS, 1);
            reached(world, &http);
            world.node.unswitch(scope, id);
        }
        assert_eq!(world.node.counted(Counter::Bypassed), 3);

        world.node.switch(SWITCH_SERVICE, SERVICE, MODE_DETACH, 0);
        refused(connect(world, VIP, 80));
        assert_eq!(world.node.dropped(DropReason::Detached), 1);
        world.node.unswitch(SWITCH_SERVICE, SERVICE);
        world.node.switch(SWITCH_SERVICE, SERVICE + 1, MODE_DETACH, 0);
        reached(world, &http);

        // A detached workload's packets come as they are: from no workload.
        world.node.switch(SWITCH_WORKLOAD, WORKLOAD, MODE_DETACH, 0);
        refused(connect(world, VIP, 80));
        assert_eq!(world.node.dropped(DropReason::UnattestedPeer), 1);
        world.node.unswitch(SWITCH_WORKLOAD, WORKLOAD);
        reached(world, &http);
    });
}

#[test]
fn a_tcp_listener_is_served_as_tcp() {
    in_world(|world| {
        let http = with_service(world);
        let tcp = listener(15101);
        world.node.set_socket(SLOT_TCP, &tcp);
        world.node.set_socket(SLOT_TCP + 1, &tcp);
        reached(world, &http);
        world.node.add_listener(VIP, 80, LISTENER_TCP, SERVICE);
        reached(world, &tcp);
        world.node.switch(SWITCH_SERVICE, SERVICE, MODE_BYPASS, 0);
        reached(world, &tcp);
        assert_eq!(world.node.counted(Counter::Bypassed), 0, "it needs none");
        world.node.switch(SWITCH_SERVICE, SERVICE, MODE_DETACH, 0);
        refused(connect(world, VIP, 80));
        assert_eq!(world.node.dropped(DropReason::Detached), 1);
    });
}

/// A reuseport group of which only one member is in the slot: that one gets all.
///
/// packets.md vip 120: the listener is in a reuseport group | the slot's member all the same | `ToEngine`
#[test]
fn a_reuseport_group_does_not_choose_again() {
    in_world(|world| {
        let group: Vec<TcpListener> = (0..2)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
                socket.set_reuse_port(true).expect("a socket can");
                socket.bind(&at(ENGINE, 15001).into()).expect("the range is local");
                socket.listen(64).expect("a socket can");
                socket.set_nonblocking(true).expect("a socket can");
                socket.into()
            })
            .collect();
        world.node.add_service(VIP, 80, SERVICE);
        world.node.set_socket(SLOT_HTTP, &group[0]);
        world.node.set_socket(SLOT_HTTP + 1, &group[0]);
        for _ in 0..32 {
            reached(world, &group[0]);
        }
        assert!(group[1].accept().is_err(), "the other member got a connection");
    });
}

/// Of two workers by hash the one with fewer connections.
///
/// packets.md vip 10
#[test]
fn the_less_loaded_worker_gets_more() {
    in_world(|world| {
        let workers = [listener(15001), listener(15002)];
        world.node.add_service(VIP, 80, SERVICE);
        world.node.set_socket(SLOT_HTTP, &workers[0]);
        world.node.set_socket(SLOT_HTTP + 1, &workers[1]);
        let shares = |world: &World| {
            let mut shares = [0; 2];
            let mut clients = Vec::new();
            for _ in 0..200 {
                clients.push(connect(world, VIP, 80).expect("reached"));
                let start = Instant::now();
                // Accepted one by one: the queues are shorter than that.
                while shares.iter().sum::<usize>() < clients.len() && start.elapsed() < PATIENCE {
                    for (share, worker) in shares.iter_mut().zip(&workers) {
                        *share += usize::from(worker.accept().is_ok());
                    }
                }
            }
            assert_eq!(shares.iter().sum::<usize>(), clients.len());
            shares
        };
        let even = shares(world);
        assert!(even.iter().all(|n| *n > 60), "no load reported: {even:?}");
        // Where the two choices differ (half of all), the idle one is taken.
        world.node.set_connections(0, 1000);
        let uneven = shares(world);
        assert!(uneven[1] > 120 && uneven[0] > 10, "worker 0 is loaded: {uneven:?}");
        // No number of workers is one.
        world.configure(|c| c.workers = 0);
        assert_eq!(shares(world), [200, 0]);
    });
}

/// DNS over UDP from the socket bound to its VIP, of the engine's user; and over TCP.
///
/// packets.md vip 130: DNS, UDP and TCP | the DNS sockets; answers leave from the DNS VIP | `ToEngine`
#[test]
fn dns_answers_from_its_vip() {
    in_world(|world| {
        world.node.add_dns_listener(DNS_VIP, UDP);
        world.node.add_dns_listener(DNS_VIP, TCP);
        let ask = |world: &World| {
            world.workload(|| {
                let socket = UdpSocket::bind(at(REAL, 0)).expect("own address");
                socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket can");
                socket.connect(at(DNS_VIP, 53)).expect("a route");
                socket.send(b"\x12\x34question").expect("sent");
                let mut buffer = [0; 64];
                socket.recv(&mut buffer).map(|n| buffer[..n].to_vec())
            })
        };
        assert!(ask(world).is_err());
        assert_eq!(world.node.dropped(DropReason::EngineDown), 1);

        let udp = UdpSocket::bind(at(DNS_VIP, 53)).expect("the range is local");
        let tcp = listener(15053);
        world.node.set_socket(SLOT_DNS_UDP, &udp);
        world.node.set_socket(SLOT_DNS_TCP, &tcp);
        let server = udp.try_clone().expect("a socket can");
        let serve = thread::spawn(move || {
            let mut buffer = [0; 64];
            for _ in 0..2 {
                let (n, from) = server.recv_from(&mut buffer).expect("asked");
                assert_eq!(from.ip(), ALIAS);
                server.send_to(&buffer[..n], from).expect("sent");
            }
        });
        assert_eq!(ask(world).expect("answered"), b"\x12\x34question");
        // The answer of a socket that is not the engine's does not arrive.
        nix::unistd::fchown(udp.as_fd(), Some(4242.into()), None).expect("root may");
        assert!(ask(world).is_err());
        assert_eq!(world.node.dropped(DropReason::NotEngine), 1);
        serve.join().expect("asked twice");

        let client = connect(world, DNS_VIP, 53).expect("reached");
        let (server, peer) = accept(&tcp);
        assert_eq!(peer, at(ALIAS, client.local_addr().expect("connected").port()));
        assert_eq!(server.local_addr().expect("connected"), at(DNS_VIP, 53));
    });
}

/// Connects from the node to the workload's alias as `uid`, from `source` if given.
fn call_target(uid: u32, source: Option<Ipv4Addr>, port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    nix::unistd::fchown(socket.as_fd(), Some(uid.into()), None)?;
    if let Some(source) = source {
        socket.bind(&at(source, 0).into())?;
    }
    socket.connect_timeout(&at(ALIAS, port).into(), Duration::from_millis(400))?;
    Ok(socket.into())
}

/// Only the engine reaches a workload by its alias, from its sources, at registered ports.
#[test]
fn only_the_engine_reaches_a_target() {
    in_world(|world| {
        let (target, other) = world
            .workload(|| (TcpListener::bind(at(REAL, TARGET_PORT)).unwrap(), TcpListener::bind(at(REAL, 81)).unwrap()));
        target.set_nonblocking(true).expect("a socket can");
        let engine = || call_target(0, Some(ENGINE), TARGET_PORT);
        drop(engine().unwrap_or_else(|e| panic!("the engine's target: {e}; {:?}", world.node.all_counted())));
        assert_eq!(accept(&target).1.ip(), ENGINE, "the target sees an engine source");

        let denied = |result: std::io::Result<TcpStream>, reason| {
            assert!(result.is_err(), "{reason:?}: connected");
            assert!(world.node.dropped(reason) >= 1, "{reason:?}: {:?}", world.node.all_counted());
        };
        denied(call_target(4242, Some(ENGINE), TARGET_PORT), DropReason::NotEngine);
        denied(call_target(0, Some(VIP), TARGET_PORT), DropReason::NotEngineSource);
        denied(call_target(0, Some(ENGINE), 81), DropReason::NotTarget);
        denied(call_target(0, None, TARGET_PORT), DropReason::SourceNotVip);
        denied(call_target(0, Some(NODE), TARGET_PORT), DropReason::SourceNotVip);
        target.accept().expect_err("nobody else came");
        other.set_nonblocking(true).expect("a socket can");
        other.accept().expect_err("nobody else came");
        drop(engine().expect("the engine reaches its target"));

        // UDP of others.
        let udp = world.workload(|| UdpSocket::bind(at(REAL, 82)).unwrap());
        udp.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket can");
        let sender = UdpSocket::bind(at(ENGINE, 0)).expect("the range is local");
        nix::unistd::fchown(sender.as_fd(), Some(4242.into()), None).expect("root may");
        world.node.add_target(ALIAS, 82, UDP);
        let before = world.node.dropped(DropReason::NotEngine);
        // The sender may get an error that the packet was dropped.
        let _ = sender.send_to(b"x", at(ALIAS, 82));
        udp.recv(&mut [0; 8]).expect_err("nothing arrives");
        assert_eq!(world.node.dropped(DropReason::NotEngine), before + 1);
        nix::unistd::fchown(sender.as_fd(), Some(0.into()), None).expect("root may");
        sender.send_to(b"x", at(ALIAS, 82)).expect("sent");
        assert_eq!(udp.recv(&mut [0; 8]).expect("the control"), 1);
    });
}

/// Frames that a host process puts onto `brattice0` itself: its user is asked as for any other.
///
/// packets.md egress 120: … put onto `brattice0` by a packet socket | dropped | `NotEngine`
#[test]
fn a_syn_of_a_packet_socket_is_dropped() {
    in_world(|world| {
        world.configure(|c| c.engine_uid = 4242);
        let syn = Frame::tcp((ENGINE, 40000), (ALIAS, TARGET_PORT), SYN, b"").build();
        send_frame("brattice0", &syn);
        assert_eq!(world.node.dropped(DropReason::NotEngine), 1, "{:?}", world.node.all_counted());
        let ack = Frame::tcp((ENGINE, 40000), (ALIAS, TARGET_PORT), crate::scene::ACK, b"").build();
        send_frame("brattice0", &ack);
        assert_eq!(world.node.counted(Counter::ToWorkload), 1);
    });
}

/// IPv4 frames too short for their fixed header, which `BPF_PROG_TEST_RUN` cannot build: the stack gets them.
///
/// packets.md ingress 80: frame without a whole fixed IPv4 header | passes (no destination is known); the stack drops
///   it | –
#[test]
fn frames_without_a_whole_ip_header_are_left_to_the_stack() {
    in_world(|world| {
        let before = stack_counter("Ip", "InHdrErrors") + stack_counter("IpExt", "InTruncatedPkts");
        let frame = Frame::udp((REAL, 1), (VIP, 2), b"").with(|f| f.to = [0xff; 6]).build();
        world.workload(move || (15..34).for_each(|len| send_frame("eth0", &frame[..len])));
        let after = stack_counter("Ip", "InHdrErrors") + stack_counter("IpExt", "InTruncatedPkts");
        assert_eq!(after - before, 19, "the stack did not see all of them");
        assert_eq!(world.node.counted(Counter::FromWorkload), 0);
        assert!(DropReason::ALL.iter().all(|r| world.node.dropped(*r) == 0), "{:?}", world.node.all_counted());
    });
}

/// Bulk both ways with checksum offload and GSO on and off at the workload: large non-linear packets.
///
/// packets.md ingress 450: partial checksums, non-linear packets, offloads on and off | taken | `FromWorkload`
#[test]
fn bulk_arrives_whole_with_and_without_offloads() {
    in_world(|world| {
        let listener = with_service(world);
        bulk_to(world, &listener, VIP.into());
    });
}

/// See above, to one VIP.
pub(crate) fn bulk_to(world: &mut World, listener: &TcpListener, vip: IpAddr) {
    let data: Vec<u8> = (0..16u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for offloads in ["on", "off"] {
        let side = move |device: &str| {
            sh(&format!(
                "ethtool -K {device} tx {offloads} rx {offloads} gso {offloads} tso {offloads} gro {offloads}"
            ));
        };
        side("w0");
        side("brattice0");
        world.workload(move || side("eth0"));
        let mut client = connect(world, vip, 80).expect("reached");
        let (mut server, _) = accept(listener);
        let (mine, theirs) = (data.clone(), data.clone());
        let echo = thread::spawn(move || {
            let mut got = vec![0; mine.len()];
            server.read_exact(&mut got).expect("all arrives");
            assert!(got == mine, "bytes from the workload differ");
            server.write_all(&mine).expect("sent");
        });
        client.write_all(&theirs).expect("sent");
        let mut got = vec![0; theirs.len()];
        client.set_read_timeout(Some(PATIENCE * 4)).expect("a socket can");
        client.read_exact(&mut got).expect("all arrives");
        assert!(got == theirs, "bytes to the workload differ");
        echo.join().expect("all arrived");
    }
    assert!(DropReason::ALL.iter().all(|r| world.node.dropped(*r) == 0), "{:?}", world.node.all_counted());
}

/// On a real link the kernel takes a tag off the frame before our program sees it; it is tagged all the same.
///
/// packets.md ingress 30
#[test]
fn tagged_frames_are_left_to_the_stack() {
    in_world(|world| {
        let w0 = mac("w0");
        let plain = Frame::tcp((REAL, 40000), (VIP, 80), SYN, b"").with(|f| f.to = w0).build();
        let tagged = [&plain[..12], &[0x81, 0x00, 0, 5], &plain[12..]].concat();
        world.workload(move || send_frame("eth0", &tagged));
        assert_eq!(world.node.counted(Counter::FromWorkload), 0, "a tagged frame was taken");
        assert!(DropReason::ALL.iter().all(|r| world.node.dropped(*r) == 0), "{:?}", world.node.all_counted());
        world.workload(move || send_frame("eth0", &plain));
        assert_eq!(world.node.counted(Counter::FromWorkload), 1);
    });
}
