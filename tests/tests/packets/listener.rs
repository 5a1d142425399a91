//! `vip_listener`, and what `BPF_PROG_TEST_RUN` cannot show of the others: real sockets, redirects and offloads, in two
//! namespaces. "Refused" means that the client got a RST at once.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use brattice_abi::{
    Counter, DropReason, LISTENER_TCP, MODE_BYPASS, MODE_DETACH, SLOT_DNS_TCP, SLOT_HTTP, SLOT_TCP, SWITCH_ALL,
    SWITCH_SERVICE, SWITCH_WORKLOAD, VIRTUAL_MAC,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    family::{Family, V4, V6, families},
    frames::send_frame,
    ipv6::scene::{REAL6, VIP6},
    scene::{ACK, Packet, SYN, TARGET_PORT, TCP, UDP, VIP, WORKLOAD},
    sockets::{PATIENCE, SERVICE, accept, at, connect, listener, reached, refused, wait_until, with_service},
    world::{World, in_world, in_world_of, mac, output, sh},
};

families!(
    a_service_is_reached_through_its_vip,
    host_daemons_are_not_reached_through_a_vip,
    a_host_process_is_reset,
    an_alias_from_another_interface_is_refused,
    a_peer_that_is_no_alias_is_refused,
    without_an_engine_clients_are_reset,
    switches_reset_or_relay_new_connections,
    a_tcp_listener_is_served_as_tcp,
    a_reuseport_group_does_not_choose_again,
    the_less_loaded_worker_gets_more,
    dns_answers_from_its_vip,
    only_the_engine_reaches_a_target,
    a_syn_of_a_packet_socket_is_dropped,
    frames_without_a_whole_ip_header_are_left_to_the_stack,
    bulk_arrives_whole_with_and_without_offloads,
    tagged_frames_are_left_to_the_stack,
);

/// packets.md vip 10: VIP and port of a service, from an attached workload | a worker's listener | `ToEngine`
fn a_service_is_reached_through_its_vip<F: Family>() {
    in_world_of::<F>(|world| {
        let listener = with_service::<F>(world);
        reached::<F>(world, &listener);
        assert_eq!(world.node.counted(Counter::ToEngine), 1);
        assert!(world.node.counted(Counter::FromWorkload) >= 4, "{:?}", world.node.all_counted());
        assert!(world.node.counted(F::MAC_OF_VIP) >= 1, "{:?}", world.node.all_counted());
        assert_eq!(world.node.half_open(WORKLOAD).map(|c| c.count), Some(0), "the handshake was finished");
        let neighbours = world.workload(|| output("ip neigh show dev eth0"));
        let virtual_mac = VIRTUAL_MAC.map(|byte| format!("{byte:02x}")).join(":");
        let vip: IpAddr = F::VIP.into();
        let line = neighbours.lines().find(|line| line.split_whitespace().next() == Some(&vip.to_string()));
        assert!(line.is_some_and(|line| line.contains(&virtual_mac)), "{neighbours}");
    });
}

/// No wildcard socket of the host is reached through a VIP, whatever the port.
///
/// packets.md vip 20: VIP and port that no service has, though the host has a wildcard socket there | refused |
///   `NoListener`
fn host_daemons_are_not_reached_through_a_vip<F: Family>() {
    in_world_of::<F>(|world| {
        let listener = with_service::<F>(world);
        let ports = [81, 22, 2222, 8080, 10250];
        let vips = [F::VIP, F::ENGINE, F::DNS_VIP, F::vips()[1]].map(Into::<IpAddr>::into);
        // A socket of both families is not reached through a VIP of the other family either.
        let vips: HashSet<IpAddr> = vips.into_iter().chain([VIP.into()]).collect();
        let expected = (ports.len() * vips.len()) as u64;
        let daemons = ports.map(|p| TcpListener::bind(at(F::UNSPECIFIED, p)).expect("free in a new namespace"));
        let wildcard_udp = UdpSocket::bind(at(F::UNSPECIFIED, 5000)).expect("free");
        wildcard_udp.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket can");
        for port in ports {
            for vip in &vips {
                refused(connect(world, *vip, port));
            }
            drop(connect(world, F::NODE, port).expect("the daemon is reached at the node's own address"));
        }
        assert_eq!(world.node.dropped(DropReason::NoListener), expected);
        drop(daemons);

        let mut buffer = [0; 16];
        let send = |to| {
            move || {
                UdpSocket::bind(at(F::REAL, 6000)).and_then(|s| s.send_to(b"hello", at(to, 5000))).expect("sent");
            }
        };
        world.workload(send(F::VIP));
        assert!(wildcard_udp.recv(&mut buffer).is_err(), "a datagram to a VIP reached a wildcard socket");
        assert_eq!(world.node.dropped(DropReason::NoListener), expected + 1);
        world.workload(send(F::NODE));
        assert_eq!(wildcard_udp.recv(&mut buffer).expect("the control"), 5);
        reached::<F>(world, &listener);
    });
}

/// packets.md vip 30: from a host process that is no workload, also one that bound a VIP | refused | `UnattestedHost`
fn a_host_process_is_reset<F: Family>() {
    in_world_of::<F>(|world| {
        let listener = with_service::<F>(world);
        let daemon = TcpListener::bind(at(F::UNSPECIFIED, 81)).expect("free");
        refused(TcpStream::connect(at(F::VIP, 80)));
        refused(TcpStream::connect(at(F::VIP, 81)));
        // From a VIP it bound itself, too.
        refused(F::bound(Type::STREAM, at(F::VIP, 0), false).connect(&at(F::VIP, 80).into()));
        assert_eq!(world.node.dropped(DropReason::UnattestedHost), 3);
        drop(TcpStream::connect(at(F::NODE, 81)).expect("the control"));
        drop(daemon);
        reached::<F>(world, &listener);
    });
}

/// An interface without our program: its VIP traffic reaches the node's stack, and is refused there.
///
/// packets.md vip 40: from an interface that is not attached | refused | `UnattestedPeer`
#[test]
fn an_interface_not_attached_is_reset() {
    in_world(|world| {
        let listener = with_service::<V4>(world);
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
        reached::<V4>(world, &listener);
    });
}

/// Duplicate address detection of a workload's kernel finds that a VIP is taken.
///
/// packets.md ipv6 150
#[test]
fn a_workload_cannot_have_a_vip() {
    in_world_of::<V6>(|world| {
        let listener = with_service::<V6>(world);
        let state = |address: Ipv6Addr| {
            move || {
                let text = output("ip -6 addr show dev eth0");
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
        reached::<V6>(world, &listener);
    });
}

/// An address of the alias range proves nothing by itself: where the packet came in does.
///
/// packets.md vip 50: … with an alias as source | refused; on a node, dropped by the nftables table before |
///   `UnattestedPeer`; the rule's own
fn an_alias_from_another_interface_is_refused<F: Family>() {
    in_world_of::<F>(|world| {
        let listener = with_service::<F>(world);
        let syn = move |to: [u8; 6]| F::tcp((F::ALIAS, 40000), (F::VIP, 80), SYN, b"").changed(|p| *p.to = to).bytes();
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
fn a_peer_that_is_no_alias_is_refused<F: Family>() {
    in_world_of::<F>(|world| {
        let listener = with_service::<F>(world);
        let brattice0 = mac("brattice0");
        let syn = |from| F::tcp((from, 40000), (F::VIP, 80), SYN, b"").changed(|p| *p.to = brattice0).bytes();
        sh("sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.brattice0.rp_filter=0");
        let not_given = F::OTHER_ALIAS;
        wait_until(|| {
            send_frame("brattice1", &syn(not_given));
            world.node.dropped(DropReason::UnattestedPeer) > 0
        });
        assert_eq!(world.node.counted(Counter::ToEngine), 0);
        listener.accept().expect_err("nobody came");
        wait_until(|| {
            send_frame("brattice1", &syn(F::ALIAS));
            world.node.counted(Counter::ToEngine) > 0
        });
    });
}

/// packets.md vip 90: the engine's socket is gone | refused; while one of two workers has one, it takes all |
///   `EngineDown`
fn without_an_engine_clients_are_reset<F: Family>() {
    in_world_of::<F>(|world| {
        let listener = with_service::<F>(world);
        reached::<F>(world, &listener);
        // One worker's slot is enough.
        world.node.clear_socket(SLOT_HTTP);
        for _ in 0..8 {
            reached::<F>(world, &listener);
        }
        world.node.clear_socket(SLOT_HTTP + 1);
        refused(connect(world, F::VIP, 80));
        assert_eq!(world.node.dropped(DropReason::EngineDown), 1);
        world.node.set_socket(SLOT_HTTP, &listener);
        world.node.set_socket(SLOT_HTTP + 1, &listener);
        reached::<F>(world, &listener);
        // A closed socket leaves its slots by itself.
        drop(listener);
        refused(connect(world, F::VIP, 80));
        assert_eq!(world.node.dropped(DropReason::EngineDown), 2);
    });
}

/// packets.md ingress 690
/// packets.md vip 100: service detached | refused | `Detached`
/// packets.md vip 110: bypass: workload, service or all | the worker's relay | `ToEngine`, `Bypassed`
fn switches_reset_or_relay_new_connections<F: Family>() {
    in_world_of::<F>(|world| {
        let http = with_service::<F>(world);
        let relay = listener::<F>(15101);
        world.node.set_socket(SLOT_TCP, &relay);
        world.node.set_socket(SLOT_TCP + 1, &relay);
        reached::<F>(world, &http);
        for (scope, id) in [(SWITCH_SERVICE, SERVICE), (SWITCH_WORKLOAD, WORKLOAD), (SWITCH_ALL, 0)] {
            world.node.switch(scope, id, MODE_BYPASS, 0);
            reached::<F>(world, &relay);
            world.node.switch(scope, id, MODE_BYPASS, 1);
            reached::<F>(world, &http);
            world.node.unswitch(scope, id);
        }
        assert_eq!(world.node.counted(Counter::Bypassed), 3);

        world.node.switch(SWITCH_SERVICE, SERVICE, MODE_DETACH, 0);
        refused(connect(world, F::VIP, 80));
        assert_eq!(world.node.dropped(DropReason::Detached), 1);
        world.node.unswitch(SWITCH_SERVICE, SERVICE);
        world.node.switch(SWITCH_SERVICE, SERVICE + 1, MODE_DETACH, 0);
        reached::<F>(world, &http);

        // A detached workload's packets come as they are: from no workload.
        world.node.switch(SWITCH_WORKLOAD, WORKLOAD, MODE_DETACH, 0);
        refused(connect(world, F::VIP, 80));
        let refusals = world.node.dropped(DropReason::UnattestedPeer);
        // Over IPv6 the last segments of the connection before are refused as well.
        assert!(refusals == 1 || F::VERSION == 6 && refusals > 1, "{refusals}");
        world.node.unswitch(SWITCH_WORKLOAD, WORKLOAD);
        reached::<F>(world, &http);
    });
}

fn a_tcp_listener_is_served_as_tcp<F: Family>() {
    in_world_of::<F>(|world| {
        let http = with_service::<F>(world);
        let tcp = listener::<F>(15101);
        world.node.set_socket(SLOT_TCP, &tcp);
        world.node.set_socket(SLOT_TCP + 1, &tcp);
        reached::<F>(world, &http);
        world.node.add_listener(F::VIP, 80, LISTENER_TCP, SERVICE);
        reached::<F>(world, &tcp);
        world.node.switch(SWITCH_SERVICE, SERVICE, MODE_BYPASS, 0);
        reached::<F>(world, &tcp);
        assert_eq!(world.node.counted(Counter::Bypassed), 0, "it needs none");
        world.node.switch(SWITCH_SERVICE, SERVICE, MODE_DETACH, 0);
        refused(connect(world, F::VIP, 80));
        assert_eq!(world.node.dropped(DropReason::Detached), 1);
    });
}

/// A reuseport group of which only one member is in the slot: that one gets all.
///
/// packets.md vip 120: the listener is in a reuseport group | the slot's member all the same | `ToEngine`
fn a_reuseport_group_does_not_choose_again<F: Family>() {
    in_world_of::<F>(|world| {
        let group: Vec<TcpListener> = (0..2)
            .map(|_| {
                let socket = F::bound(Type::STREAM, at(F::ENGINE, 15001), true);
                socket.listen(64).expect("a socket can");
                socket.set_nonblocking(true).expect("a socket can");
                socket.into()
            })
            .collect();
        world.node.add_service(F::VIP, 80, SERVICE);
        world.node.set_socket(SLOT_HTTP, &group[0]);
        world.node.set_socket(SLOT_HTTP + 1, &group[0]);
        for _ in 0..32 {
            reached::<F>(world, &group[0]);
        }
        assert!(group[1].accept().is_err(), "the other member got a connection");
    });
}

/// Of two workers by hash the one with fewer connections.
///
/// packets.md vip 10
fn the_less_loaded_worker_gets_more<F: Family>() {
    in_world_of::<F>(|world| {
        let workers = [listener::<F>(15001), listener::<F>(15002)];
        world.node.add_service(F::VIP, 80, SERVICE);
        world.node.set_socket(SLOT_HTTP, &workers[0]);
        world.node.set_socket(SLOT_HTTP + 1, &workers[1]);
        let shares = |world: &World| {
            let mut shares = [0; 2];
            let mut clients = Vec::new();
            for _ in 0..200 {
                clients.push(connect(world, F::VIP, 80).expect("reached"));
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
fn dns_answers_from_its_vip<F: Family>() {
    in_world_of::<F>(|world| {
        world.node.add_dns_listener(F::DNS_VIP, UDP);
        world.node.add_dns_listener(F::DNS_VIP, TCP);
        let soon = Duration::from_millis(500);
        let ask = |world: &World, len: usize, patience| {
            world.workload(move || {
                let socket = UdpSocket::bind(at(F::REAL, 0)).expect("own address");
                socket.set_read_timeout(Some(patience)).expect("a socket can");
                socket.connect(at(F::DNS_VIP, 53)).expect("a route");
                let sent: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                socket.send(&sent).expect("sent");
                let mut buffer = [0; 65_536];
                socket.recv(&mut buffer).map(|n| buffer[..n] == sent)
            })
        };
        assert!(ask(world, 10, soon).is_err());
        wait_until(|| world.node.dropped(DropReason::EngineDown) == 1);

        let udp: UdpSocket = F::bound(Type::DGRAM, at(F::DNS_VIP, 53), false).into();
        let tcp = listener::<F>(15053);
        world.node.set_socket(F::SLOT_DNS_UDP, &udp);
        world.node.set_socket(SLOT_DNS_TCP, &tcp);
        let server = udp.try_clone().expect("a socket can");
        let serve = thread::spawn(move || {
            let mut buffer = [0; 65_536];
            for _ in 0..4 {
                let (n, from) = server.recv_from(&mut buffer).expect("asked");
                assert_eq!(from.ip(), Into::<IpAddr>::into(F::ALIAS));
                server.send_to(&buffer[..n], from).expect("sent");
            }
        });
        for len in [10, 4000, 60_000] {
            let same = ask(world, len, PATIENCE);
            assert!(same.unwrap_or_else(|e| panic!("{len} bytes: {e}; {:?}", world.node.all_counted())));
        }
        // The answer of a socket that is not the engine's does not arrive.
        nix::unistd::fchown(udp.as_fd(), Some(4242.into()), None).expect("root may");
        assert!(ask(world, 10, soon).is_err());
        wait_until(|| world.node.dropped(DropReason::NotEngine) == 1);
        serve.join().expect("asked four times");

        let client = connect(world, F::DNS_VIP, 53).expect("reached");
        let (server, peer) = accept(&tcp);
        assert_eq!(peer, at(F::ALIAS, client.local_addr().expect("connected").port()));
        assert_eq!(server.local_addr().expect("connected"), at(F::DNS_VIP, 53));
    });
}

/// Connects from the node to the workload's alias as `uid`, from `source` if given.
fn call_target<F: Family>(uid: u32, source: Option<F::Address>, port: u16) -> std::io::Result<TcpStream> {
    let socket = match source {
        Some(source) => F::bound(Type::STREAM, at(source, 0), false),
        None => Socket::new(Domain::for_address(at(F::ALIAS, port)), Type::STREAM, Some(Protocol::TCP))?,
    };
    nix::unistd::fchown(socket.as_fd(), Some(uid.into()), None)?;
    socket.connect_timeout(&at(F::ALIAS, port).into(), Duration::from_millis(400))?;
    Ok(socket.into())
}

/// Only the engine reaches a workload by its alias, from its sources, at registered ports.
fn only_the_engine_reaches_a_target<F: Family>() {
    in_world_of::<F>(|world| {
        let (target, other) = world.workload(|| {
            (
                TcpListener::bind(at(F::REAL, TARGET_PORT)).expect("own address"),
                TcpListener::bind(at(F::REAL, 81)).expect("own address"),
            )
        });
        target.set_nonblocking(true).expect("a socket can");
        let engine = || call_target::<F>(0, Some(F::ENGINE), TARGET_PORT);
        let mut client = engine().unwrap_or_else(|e| panic!("the target: {e}; {:?}", world.node.all_counted()));
        let (mut server, peer) = accept(&target);
        assert_eq!(peer.ip(), Into::<IpAddr>::into(F::ENGINE), "the target sees an engine source");
        client.write_all(b"ping").expect("sent");
        let mut buffer = [0; 4];
        server.read_exact(&mut buffer).expect("received");
        assert_eq!(&buffer, b"ping");

        let denied = |result: std::io::Result<TcpStream>, reason| {
            assert!(result.is_err(), "{reason:?}: connected");
            assert!(world.node.dropped(reason) >= 1, "{reason:?}: {:?}", world.node.all_counted());
        };
        denied(call_target::<F>(4242, Some(F::ENGINE), TARGET_PORT), DropReason::NotEngine);
        denied(call_target::<F>(0, Some(F::VIP), TARGET_PORT), DropReason::NotEngineSource);
        denied(call_target::<F>(0, Some(F::ENGINE), 81), DropReason::NotTarget);
        denied(call_target::<F>(0, None, TARGET_PORT), DropReason::SourceNotVip);
        denied(call_target::<F>(0, Some(F::NODE), TARGET_PORT), DropReason::SourceNotVip);
        target.accept().expect_err("nobody else came");
        other.set_nonblocking(true).expect("a socket can");
        other.accept().expect_err("nobody else came");
        drop(engine().expect("the engine reaches its target"));

        // UDP of others.
        let udp = world.workload(|| UdpSocket::bind(at(F::REAL, 82)).expect("own address"));
        udp.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket can");
        let sender: UdpSocket = F::bound(Type::DGRAM, at(F::ENGINE, 0), false).into();
        nix::unistd::fchown(sender.as_fd(), Some(4242.into()), None).expect("root may");
        world.node.add_target(F::ALIAS, 82, UDP);
        let before = world.node.dropped(DropReason::NotEngine);
        // The sender may get an error that the packet was dropped.
        let _ = sender.send_to(b"x", at(F::ALIAS, 82));
        udp.recv(&mut [0; 8]).expect_err("nothing arrives");
        assert_eq!(world.node.dropped(DropReason::NotEngine), before + 1);
        nix::unistd::fchown(sender.as_fd(), Some(0.into()), None).expect("root may");
        sender.send_to(b"x", at(F::ALIAS, 82)).expect("sent");
        assert_eq!(udp.recv(&mut [0; 8]).expect("the control"), 1);
    });
}

/// Frames that a host process puts onto `brattice0` itself: its user is asked as for any other.
///
/// packets.md egress 120: … put onto `brattice0` by a packet socket | dropped | `NotEngine`
fn a_syn_of_a_packet_socket_is_dropped<F: Family>() {
    in_world_of::<F>(|world| {
        world.configure(|c| c.engine_uid = 4242);
        let syn = F::tcp((F::ENGINE, 40000), (F::ALIAS, TARGET_PORT), SYN, b"").bytes();
        send_frame("brattice0", &syn);
        assert_eq!(world.node.dropped(DropReason::NotEngine), 1, "{:?}", world.node.all_counted());
        let ack = F::tcp((F::ENGINE, 40000), (F::ALIAS, TARGET_PORT), ACK, b"").bytes();
        send_frame("brattice0", &ack);
        assert_eq!(world.node.counted(Counter::ToWorkload), 1);
    });
}

/// Frames too short for their fixed header, which `BPF_PROG_TEST_RUN` cannot build: the stack gets them.
///
/// packets.md ingress 80: frame without a whole fixed IP header | passes (no destination is known); the stack drops
///   it | –
fn frames_without_a_whole_ip_header_are_left_to_the_stack<F: Family>() {
    in_world_of::<F>(|world| {
        let before = F::headers_refused();
        let w0 = mac("w0");
        let frame = F::udp((F::REAL, 1), (F::VIP, 2), b"").changed(|p| *p.to = w0).bytes();
        world.workload(move || (15..F::FIXED).for_each(|len| send_frame("eth0", &frame[..len])));
        assert_eq!(F::headers_refused() - before, (F::FIXED - 15) as u64, "the stack did not see all of them");
        assert_eq!(world.node.counted(Counter::FromWorkload), 0);
        assert!(DropReason::ALL.iter().all(|r| world.node.dropped(*r) == 0), "{:?}", world.node.all_counted());
    });
}

/// Bulk both ways with checksum offload and GSO on and off at the workload: large non-linear packets.
///
/// packets.md ingress 450: partial checksums, non-linear packets, offloads on and off | taken | `FromWorkload`
fn bulk_arrives_whole_with_and_without_offloads<F: Family>() {
    in_world_of::<F>(|world| {
        let listener = with_service::<F>(world);
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
            let mut client = connect(world, F::VIP, 80).expect("reached");
            let (mut server, _) = accept(&listener);
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
    });
}

/// On a real link the kernel takes a tag off the frame before our program sees it; it is tagged all the same.
///
/// packets.md ingress 30
fn tagged_frames_are_left_to_the_stack<F: Family>() {
    in_world_of::<F>(|world| {
        let w0 = mac("w0");
        let plain = F::tcp((F::REAL, 40000), (F::VIP, 80), SYN, b"").changed(|p| *p.to = w0).bytes();
        let tagged = [&plain[..12], &[0x81, 0x00, 0, 5], &plain[12..]].concat();
        world.workload(move || send_frame("eth0", &tagged));
        assert_eq!(world.node.counted(Counter::FromWorkload), 0, "a tagged frame was taken");
        assert!(DropReason::ALL.iter().all(|r| world.node.dropped(*r) == 0), "{:?}", world.node.all_counted());
        world.workload(move || send_frame("eth0", &plain));
        assert_eq!(world.node.counted(Counter::FromWorkload), 1);
    });
}
