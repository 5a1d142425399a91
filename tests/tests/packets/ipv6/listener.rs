//! `vip_listener`, and real stacks at both ends: sockets, neighbour discovery, redirects and offloads.

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    thread,
    time::Duration,
};

use brattice_abi::{
    Counter, DropReason, MODE_DETACH, SLOT_DNS_TCP, SLOT_DNS_UDP6, SLOT_HTTP, SWITCH_WORKLOAD, VIRTUAL_MAC,
};
use brattice_tests::packets::frame6::Frame6;
use socket2::{Domain, Protocol, Socket, Type};

use super::scene::*;
use crate::{
    frames::send_frame,
    listener::{PATIENCE, SERVICE, accept, at, bulk_to, connect, reached_at, refused, wait_until},
    scene::{SYN, TARGET_PORT, TCP, UDP, WORKLOAD},
    world::{NODE6, World, in_world, mac, sh},
};

/// A node with IPv6.
fn in_world6(test: impl FnOnce(&mut World) + Send + 'static) {
    in_world(|world| {
        world.add_ipv6(REAL6, ALIAS6);
        test(world);
    });
}

/// A socket bound to an address that a `local` route makes the node's: without `IPV6_FREEBIND` the kernel wants it on an
/// interface.
fn bound(kind: Type, address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV6, kind, None).expect("a socket");
    socket.set_freebind_v6(true).expect("a socket can");
    socket.bind(&address.into()).expect("a local address");
    socket
}

/// A listening socket of the engine, not blocking.
fn listener(port: u16) -> TcpListener {
    let socket = bound(Type::STREAM, at(ENGINE6, port));
    socket.listen(1024).expect("a socket can");
    socket.set_nonblocking(true).expect("a socket can");
    socket.into()
}

/// A service on VIP:80 with one worker.
fn with_service(world: &mut World) -> TcpListener {
    let listener = listener(15001);
    world.node.add_service(VIP6, 80, SERVICE);
    world.node.set_socket(SLOT_HTTP, &listener);
    world.node.set_socket(SLOT_HTTP + 1, &listener);
    listener
}

#[track_caller]
fn reached(world: &World, listener: &TcpListener) {
    reached_at(world, listener, VIP6, ALIAS6);
}

#[test]
fn a_service_is_reached_through_its_vip() {
    in_world6(|world| {
        let listener = with_service(world);
        reached(world, &listener);
        assert_eq!(world.node.counted(Counter::ToEngine), 1);
        assert!(world.node.counted(Counter::NdpAnswered) >= 1, "{:?}", world.node.all_counted());
        assert_eq!(world.node.half_open(WORKLOAD).map(|c| c.count), Some(0), "the handshake was finished");
        let neighbours = world.workload(|| {
            let output = std::process::Command::new("ip").args(["-6", "neigh", "show", "dev", "eth0"]).output();
            String::from_utf8(output.expect("ip is installed").stdout).expect("ip prints text")
        });
        let virtual_mac = VIRTUAL_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let line = neighbours.lines().find(|line| line.starts_with(&VIP6.to_string()));
        assert!(line.is_some_and(|line| line.contains(&virtual_mac)), "{neighbours}");
    });
}

/// Duplicate address detection of a workload's kernel finds that a VIP is taken.
///
/// packets.md ipv6 150
#[test]
fn a_workload_cannot_have_a_vip() {
    in_world6(|world| {
        let listener = with_service(world);
        let state = |address: Ipv6Addr| {
            move || {
                let output = std::process::Command::new("ip").args(["-6", "addr", "show", "dev", "eth0"]).output();
                let text = String::from_utf8(output.expect("ip is installed").stdout).expect("ip prints text");
                text.lines().find(|line| line.contains(&format!("{address}/"))).map(str::to_owned)
            }
        };
        let own = Ipv6Addr::from_bits(REAL6.to_bits() + 1);
        world.workload(move || {
            sh("sysctl -q -w net.ipv6.conf.eth0.accept_dad=1");
            sh(&format!("ip -6 addr add {VIP6}/128 dev eth0"));
            sh(&format!("ip -6 addr add {own}/128 dev eth0"));
        });
        wait_until(|| world.workload(state(VIP6)).is_none_or(|line| line.contains("dadfailed")));
        wait_until(|| world.workload(state(own)).is_some_and(|line| !line.contains("tentative")));
        world.workload(|| sh(&format!("ip -6 addr del {VIP6}/128 dev eth0")));
        reached(world, &listener);
    });
}

/// No wildcard socket of the host is reached through a VIP, whatever the port, of either family.
#[test]
fn host_daemons_are_not_reached_through_a_vip() {
    in_world6(|world| {
        let listener = with_service(world);
        let ports = [81, 22, 8080];
        let daemons = ports.map(|p| TcpListener::bind(at(Ipv6Addr::UNSPECIFIED, p)).expect("free in a new namespace"));
        let wildcard_udp = UdpSocket::bind(at(Ipv6Addr::UNSPECIFIED, 5000)).expect("free");
        wildcard_udp.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket can");
        for port in ports {
            for vip in [VIP6, ENGINE6, DNS_VIP6] {
                refused(connect(world, vip, port));
            }
            // A socket of both families is not reached through an IPv4 VIP either.
            refused(connect(world, crate::scene::VIP, port));
            drop(connect(world, NODE6, port).expect("the daemon is reached at the node's own address"));
        }
        assert_eq!(world.node.dropped(DropReason::NoListener), 12);
        drop(daemons);

        let send = |to| {
            move || {
                UdpSocket::bind(at(REAL6, 6000)).and_then(|s| s.send_to(b"hello", at(to, 5000))).expect("sent");
            }
        };
        let mut buffer = [0; 16];
        world.workload(send(VIP6));
        assert!(wildcard_udp.recv(&mut buffer).is_err(), "a datagram to a VIP reached a wildcard socket");
        assert_eq!(world.node.dropped(DropReason::NoListener), 13);
        world.workload(send(NODE6));
        assert_eq!(wildcard_udp.recv(&mut buffer).expect("the control"), 5);
        reached(world, &listener);
    });
}

#[test]
fn a_host_process_is_reset() {
    in_world6(|world| {
        let listener = with_service(world);
        let daemon = TcpListener::bind(at(Ipv6Addr::UNSPECIFIED, 81)).expect("free");
        refused(TcpStream::connect(at(VIP6, 80)));
        refused(TcpStream::connect(at(VIP6, 81)));
        // From a VIP it bound itself, too.
        refused(bound(Type::STREAM, at(VIP6, 0)).connect(&at(VIP6, 80).into()));
        assert_eq!(world.node.dropped(DropReason::UnattestedHost), 3);
        drop(TcpStream::connect(at(NODE6, 81)).expect("the control"));
        drop(daemon);
        reached(world, &listener);
    });
}

/// An address of the alias range proves nothing by itself, `brattice0` alone neither.
#[test]
fn a_peer_must_be_an_alias_and_come_by_brattice0() {
    in_world6(|world| {
        let listener = with_service(world);
        let syn = |from, to: [u8; 6]| Frame6::tcp((from, 40000), (VIP6, 80), SYN, b"").with(|f| f.to = to).build();
        sh("ip link add x0 type veth peer name x1");
        sh("ip link set x0 up");
        sh("ip link set x1 up");
        let (x0, brattice0) = (mac("x0"), mac("brattice0"));
        wait_until(|| {
            send_frame("x1", &syn(ALIAS6, x0));
            world.node.dropped(DropReason::UnattestedPeer) > 0
        });
        let before = world.node.dropped(DropReason::UnattestedPeer);
        let not_given = Ipv6Addr::from_bits(ALIAS6.to_bits() + 1);
        wait_until(|| {
            send_frame("brattice1", &syn(not_given, brattice0));
            world.node.dropped(DropReason::UnattestedPeer) > before
        });
        assert_eq!(world.node.counted(Counter::ToEngine), 0);
        listener.accept().expect_err("nobody came");
        wait_until(|| {
            send_frame("brattice1", &syn(ALIAS6, brattice0));
            world.node.counted(Counter::ToEngine) > 0
        });
    });
}

/// A detached workload's packets come as they are: from no workload.
#[test]
fn a_detached_workload_is_reset() {
    in_world6(|world| {
        let listener = with_service(world);
        reached(world, &listener);
        world.node.switch(SWITCH_WORKLOAD, WORKLOAD, MODE_DETACH, 0);
        refused(connect(world, VIP6, 80));
        // And the last segments of the connection before.
        assert!(world.node.dropped(DropReason::UnattestedPeer) >= 1);
        world.node.unswitch(SWITCH_WORKLOAD, WORKLOAD);
        reached(world, &listener);
    });
}

/// Of two workers by hash of the caller's address and port: both get connections.
#[test]
fn both_workers_get_connections() {
    in_world6(|world| {
        let workers = [listener(15001), listener(15002)];
        world.node.add_service(VIP6, 80, SERVICE);
        world.node.set_socket(SLOT_HTTP, &workers[0]);
        world.node.set_socket(SLOT_HTTP + 1, &workers[1]);
        let clients: Vec<TcpStream> = (0..100).map(|_| connect(world, VIP6, 80).expect("reached")).collect();
        let shares = workers.map(|w| std::iter::from_fn(|| w.accept().ok()).count());
        assert_eq!(shares.iter().sum::<usize>(), clients.len());
        assert!(shares.iter().all(|n| *n > 20), "{shares:?}");
    });
}

/// DNS over UDP from the socket bound to its VIP, of the engine's user; and over TCP. Large ones in fragments.
#[test]
fn dns_answers_from_its_vip() {
    in_world6(|world| {
        world.node.add_dns_listener(DNS_VIP6, UDP);
        world.node.add_dns_listener(DNS_VIP6, TCP);
        let soon = Duration::from_millis(500);
        let ask = |world: &World, len: usize, patience| {
            world.workload(move || {
                let socket = UdpSocket::bind(at(REAL6, 0)).expect("own address");
                socket.set_read_timeout(Some(patience)).expect("a socket can");
                socket.connect(at(DNS_VIP6, 53)).expect("a route");
                let sent: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                socket.send(&sent).expect("sent");
                let mut buffer = [0; 65_536];
                socket.recv(&mut buffer).map(|n| buffer[..n] == sent)
            })
        };
        assert!(ask(world, 10, soon).is_err());
        wait_until(|| world.node.dropped(DropReason::EngineDown) == 1);

        let udp: UdpSocket = bound(Type::DGRAM, at(DNS_VIP6, 53)).into();
        let tcp = listener(15053);
        world.node.set_socket(SLOT_DNS_UDP6, &udp);
        world.node.set_socket(SLOT_DNS_TCP, &tcp);
        let server = udp.try_clone().expect("a socket can");
        let serve = thread::spawn(move || {
            let mut buffer = [0; 65_536];
            for _ in 0..4 {
                let (n, from) = server.recv_from(&mut buffer).expect("asked");
                assert_eq!(from.ip(), ALIAS6);
                server.send_to(&buffer[..n], from).expect("sent");
            }
        });
        for len in [10, 4000, 60_000] {
            assert!(
                ask(world, len, PATIENCE)
                    .unwrap_or_else(|e| panic!("{len} bytes: {e}; {:?}", world.node.all_counted()))
            );
        }
        // The answer of a socket that is not the engine's does not arrive.
        nix::unistd::fchown(udp.as_fd(), Some(4242.into()), None).expect("root may");
        assert!(ask(world, 10, soon).is_err());
        wait_until(|| world.node.dropped(DropReason::NotEngine) == 1);
        serve.join().expect("asked four times");

        let client = connect(world, DNS_VIP6, 53).expect("reached");
        let (server, peer) = accept(&tcp);
        assert_eq!(peer, at(ALIAS6, client.local_addr().expect("connected").port()));
        assert_eq!(server.local_addr().expect("connected"), at(DNS_VIP6, 53));
    });
}

/// Connects from the node to the workload's alias as `uid`, from `source` if given.
fn call_target(uid: u32, source: Option<Ipv6Addr>, port: u16) -> std::io::Result<TcpStream> {
    let socket = match source {
        Some(source) => bound(Type::STREAM, at(source, 0)),
        None => Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?,
    };
    nix::unistd::fchown(socket.as_fd(), Some(uid.into()), None)?;
    socket.connect_timeout(&at(ALIAS6, port).into(), Duration::from_millis(400))?;
    Ok(socket.into())
}

/// Only the engine reaches a workload by its alias, from its sources, at registered ports.
#[test]
fn only_the_engine_reaches_a_target() {
    in_world6(|world| {
        let target = world.workload(|| TcpListener::bind(at(REAL6, TARGET_PORT)).expect("own address"));
        target.set_nonblocking(true).expect("a socket can");
        let engine = || call_target(0, Some(ENGINE6), TARGET_PORT);
        let mut client = engine().unwrap_or_else(|e| panic!("the target: {e}; {:?}", world.node.all_counted()));
        let (mut server, peer) = accept(&target);
        assert_eq!(peer.ip(), ENGINE6, "the target sees an engine source");
        client.write_all(b"ping").expect("sent");
        let mut buffer = [0; 4];
        server.read_exact(&mut buffer).expect("received");
        assert_eq!(&buffer, b"ping");

        let denied = |result: std::io::Result<TcpStream>, reason| {
            assert!(result.is_err(), "{reason:?}: connected");
            assert!(world.node.dropped(reason) >= 1, "{reason:?}: {:?}", world.node.all_counted());
        };
        denied(call_target(4242, Some(ENGINE6), TARGET_PORT), DropReason::NotEngine);
        denied(call_target(0, Some(VIP6), TARGET_PORT), DropReason::NotEngineSource);
        denied(call_target(0, Some(ENGINE6), 81), DropReason::NotTarget);
        denied(call_target(0, Some(NODE6), TARGET_PORT), DropReason::SourceNotVip);
        target.accept().expect_err("nobody else came");
        drop(engine().expect("the engine reaches its target"));
    });
}

/// Frames too short for their fixed header, which `BPF_PROG_TEST_RUN` cannot build: the stack gets them.
#[test]
fn frames_without_a_whole_ip_header_are_left_to_the_stack() {
    in_world6(|world| {
        let seen = || stack_counter6("Ip6InTruncatedPkts") + stack_counter6("Ip6InHdrErrors");
        let before = seen();
        let w0 = mac("w0");
        let frame = Frame6::udp((REAL6, 1), (VIP6, 2), b"").with(|f| f.to = w0).build();
        world.workload(move || (15..54).for_each(|len| send_frame("eth0", &frame[..len])));
        assert_eq!(seen() - before, 39, "the stack did not see all of them");
        assert_eq!(world.node.counted(Counter::FromWorkload), 0);
        assert!(DropReason::ALL.iter().all(|r| world.node.dropped(*r) == 0), "{:?}", world.node.all_counted());
    });
}

/// A counter of the calling thread's network stack from /proc/net/snmp6.
fn stack_counter6(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp6").expect("the kernel counts");
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name)).expect("the counter");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// Bulk both ways with checksum offload and GSO on and off at the workload: large non-linear packets.
#[test]
fn bulk_arrives_whole_with_and_without_offloads() {
    in_world6(|world| {
        let listener = with_service(world);
        bulk_to(world, &listener, VIP6.into());
    });
}
