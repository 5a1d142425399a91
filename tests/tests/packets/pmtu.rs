//! Path-MTU discovery and unreachable ports, with the stacks of node and workload.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use brattice_abi::{Counter, DropReason};
use brattice_tests::packets::icmp::{Error, Quote};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    ipv6::scene::{ALIAS6, ENGINE6, REAL6, VIP6},
    scene::{ALIAS, ENGINE, REAL, TARGET_PORT, UDP, VIP},
    world::{Job, NODE6, World, in_world, namespace_thread, sh},
};

const PATIENCE: Duration = Duration::from_secs(10);

fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// A socket of the engine.
fn engine(kind: Type, from: impl Into<IpAddr>) -> Socket {
    let from = at(from, 0);
    let socket = Socket::new(Domain::for_address(from), kind, None).expect("a socket");
    if from.is_ipv6() {
        socket.set_freebind_v6(true).expect("a socket can");
    }
    socket.bind(&from.into()).expect("the VIP range is local");
    socket
}

/// Waits for a condition.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The MTU that the node's stack knows for the workload.
fn known_mtu(alias: impl Into<IpAddr>) -> u32 {
    let (alias, from) = match alias.into() {
        IpAddr::V4(alias) => (alias.to_string(), ENGINE.to_string()),
        IpAddr::V6(alias) => (alias.to_string(), ENGINE6.to_string()),
    };
    let output = std::process::Command::new("ip")
        .args(["route", "get", &alias, "from", &from])
        .output()
        .expect("ip is installed");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut words = text.split_whitespace();
    words.find(|w| *w == "mtu");
    words.next().and_then(|w| w.parse().ok()).unwrap_or(0)
}

/// A node with both families.
fn in_both(test: impl FnOnce(&mut World) + Send + 'static) {
    in_world(|world| {
        world.add_ipv6(REAL6, ALIAS6);
        // The kernel makes a new IPv6 address its own a moment later, and until then is silent.
        until("IPv6 comes up", || {
            let answer = world.workload(|| TcpStream::connect_timeout(&at(NODE6, 1), Duration::from_millis(100)));
            answer.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
        });
        test(world);
    });
}

/// A UDP packet to a VIP without a listener: the workload's socket gets the error.
///
/// packets.md egress 30
#[test]
fn an_unreachable_port_is_told_to_the_workload() {
    in_both(|world| {
        for (count, real, vip) in [(1, IpAddr::from(REAL), IpAddr::from(VIP)), (2, REAL6.into(), VIP6.into())] {
            let heard = world.workload(move || {
                let socket = UdpSocket::bind(at(real, 0)).expect("free");
                socket.connect(at(vip, 4000)).expect("there is a route");
                socket.set_read_timeout(Some(PATIENCE)).expect("a socket can");
                socket.send(b"anybody?").expect("sent");
                socket.recv(&mut [0; 16]).map_err(|e| e.kind())
            });
            assert_eq!(heard, Err(ErrorKind::ConnectionRefused), "{:?}", world.node.all_counted());
            assert_eq!(world.node.counted(Counter::IcmpToWorkload), count);
            assert_eq!(world.node.dropped(DropReason::NoListener), count);
        }
    });
}

/// The engine's datagram to a target without a listener: the engine's socket gets the error.
///
/// packets.md ingress 250
#[test]
fn an_unreachable_port_of_a_target_is_told_to_the_engine() {
    in_both(|world| {
        world.node.add_target(ALIAS, 4000, UDP);
        world.node.add_target(ALIAS6, 4000, UDP);
        for (count, from, alias) in [(1, IpAddr::from(ENGINE), IpAddr::from(ALIAS)), (2, ENGINE6.into(), ALIAS6.into())]
        {
            let socket = UdpSocket::from(engine(Type::DGRAM, from));
            socket.connect(at(alias, 4000)).expect("there is a route");
            socket.set_read_timeout(Some(PATIENCE)).expect("a socket can");
            socket.send(b"anybody?").expect("sent");
            let heard = socket.recv(&mut [0; 16]).map_err(|e| e.kind());
            assert_eq!(heard, Err(ErrorKind::ConnectionRefused), "{alias}: {:?}", world.node.all_counted());
            assert_eq!(world.node.counted(Counter::IcmpFromWorkload), count);
        }
    });
}

/// Sends an ICMP error through a raw socket of a user: the kernel's own errors carry a socket of root.
fn send_error_as(user: u32) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("a socket (needs root)");
    std::os::unix::fs::fchown(&socket, Some(user), Some(user)).expect("root may");
    socket.bind(&at(VIP, 0).into()).expect("the VIP range is local");
    let quote = Quote::new((ALIAS.into(), 40001), (VIP.into(), 80), UDP);
    let frame = Error::too_big(quote).with(|e| (e.code, e.rest) = (3, 0)).build();
    socket.send_to(&frame[34..], &at(ALIAS, 0).into()).expect("sent");
}

#[test]
fn an_error_of_a_host_user_is_dropped() {
    in_world(|world| {
        send_error_as(1234);
        until("dropped", || world.node.dropped(DropReason::NotEngine) == 1);
        assert_eq!(world.node.counted(Counter::IcmpToWorkload), 0);
        send_error_as(0);
        until("delivered", || world.node.counted(Counter::IcmpToWorkload) == 1);
    });
}

/// A datagram of the engine that is too large for the workload teaches the stack, and the next one is sent in fragments.
///
/// packets.md egress 50
#[test]
fn the_stack_learns_the_mtu_of_a_workload() {
    in_world(|world| {
        world.node.add_target(ALIAS, 4000, UDP);
        world.workload(|| sh("ip link set eth0 mtu 1280"));
        world.node.set_mtu(ALIAS, 1280);
        let receiver = world.workload(|| UdpSocket::bind(at(REAL, 4000)).expect("free"));
        receiver.set_read_timeout(Some(PATIENCE)).expect("a socket can");
        let socket = UdpSocket::bind(at(ENGINE, 0)).expect("the VIP range is local");
        socket.connect(at(ALIAS, 4000)).expect("there is a route");
        let data = vec![7; 1400];
        let mut buffer = vec![0; 2000];
        socket.send(&data[..1200]).expect("sent");
        assert_eq!(receiver.recv(&mut buffer).expect("fits"), 1200);
        assert_eq!(world.node.counted(Counter::TooLargeAnswered), 0);

        socket.send(&data).expect("sent: nothing is known yet");
        until("the MTU is known", || known_mtu(ALIAS) == 1280);
        assert_eq!(world.node.counted(Counter::TooLargeAnswered), 1);
        // The error waits at the socket.
        until("sent in fragments", || socket.send(&data).is_ok());
        assert_eq!(receiver.recv(&mut buffer).expect("arrives in fragments"), 1400);
        assert_eq!(world.node.counted(Counter::TooLargeAnswered), 1);
    });
}

/// `len` bytes that a mistake of order or place shows in.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251 + i / 65_537) as u8).collect()
}

/// 1 MiB each way between the engine and a server of the workload, over one connection.
fn both_ways(listener: TcpListener, from: impl Into<IpAddr>) {
    const LEN: usize = 1 << 20;
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the engine connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket can");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket can");
        let mut all = vec![0; LEN];
        stream.read_exact(&mut all).expect("all arrives");
        stream.write_all(&all).expect("all is sent");
    });
    let from = from.into();
    let to = if from.is_ipv4() { at(ALIAS, TARGET_PORT) } else { at(ALIAS6, TARGET_PORT) };
    let socket = engine(Type::STREAM, from);
    socket.connect_timeout(&to.into(), PATIENCE).expect("the target is reached");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket can");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket can");
    let data = pattern(LEN);
    stream.write_all(&data).expect("all is sent");
    let mut back = vec![0; LEN];
    stream.read_exact(&mut back).expect("all comes back");
    assert!(back == data, "what came back is not what was sent");
    server.join().expect("the server saw it all");
}

/// A server in the workload's namespace.
fn server(world: &World, real: impl Into<IpAddr> + Send + 'static) -> TcpListener {
    world.workload(|| TcpListener::bind(at(real, TARGET_PORT)).expect("free"))
}

/// Runs something in another namespace.
fn inside<T: Send + 'static>(namespace: &Sender<Job>, job: impl FnOnce() -> T + Send + 'static) -> T {
    let (send_result, result) = channel();
    let job: Job = Box::new(move || {
        // There is no receiver when the test has failed.
        let _ = send_result.send(job());
    });
    namespace.send(job).expect("the namespace's thread runs");
    result.recv().expect("the job ends without a panic")
}

/// node - router - client, with 1280 bytes between the last two. The client announces segments of 1460 bytes, so that
/// nothing but the router's errors shows it to the node.
///
/// packets.md ingress 260
#[test]
fn a_router_inside_the_workload_tells_of_a_smaller_mtu_behind_it() {
    in_world(|world| {
        let (client, tid) = namespace_thread();
        world.workload(move || {
            sh("sysctl -qw net.ipv4.ip_forward=1");
            sh("ip addr del 10.0.0.10/24 dev eth0");
            sh("ip addr add 10.0.0.2/24 dev eth0");
            // Its address left with the subnet's.
            sh("ip route replace 169.254.64.0/20 dev eth0");
            sh(&format!("ip link add inner mtu 1280 type veth peer name eth0 mtu 1280 netns {tid}"));
            sh("ip addr add 10.9.0.1/24 dev inner");
            sh("ip link set inner up");
            sh("ip route add 10.0.0.10/32 dev inner");
        });
        inside(&client, || {
            sh("ip link set lo up");
            sh("ip addr add 10.0.0.10/32 dev eth0");
            sh("ip link set eth0 up");
            sh("ip route add 10.9.0.1/32 dev eth0");
            sh("ip route add default via 10.9.0.1 dev eth0 advmss 1460");
        });
        world.node.set_mtu(ALIAS, 1500);
        both_ways(inside(&client, || TcpListener::bind(at(REAL, TARGET_PORT)).expect("free")), ENGINE);
        assert!(world.node.counted(Counter::IcmpFromWorkload) >= 1, "{:?}", world.node.all_counted());
        assert_eq!(world.node.counted(Counter::TooLargeAnswered), 0, "the first link takes 1500 bytes");
        assert_eq!(known_mtu(ALIAS), 1280);
    });
}

/// packets.md egress 50
#[test]
fn transfers_arrive_whole_whatever_the_mtu_and_the_offloads() {
    in_world(|world| {
        for offload in ["on", "off"] {
            sh(&format!("ethtool -K w0 tso {offload} gso {offload} gro {offload}"));
            let line = format!("ethtool -K eth0 tso {offload} gso {offload} gro {offload}");
            world.workload(move || sh(&line));
            for mtu in [1280, 1500, 9000] {
                sh(&format!("ip link set w0 mtu {mtu}"));
                world.workload(move || sh(&format!("ip link set eth0 mtu {mtu}")));
                world.node.set_mtu(ALIAS, mtu);
                both_ways(server(world, REAL), ENGINE);
            }
        }
    });
}

/// The workload announces more than reaches it, so that nothing but errors shows the MTU.
///
/// packets.md egress 50
#[test]
fn tcp_learns_a_smaller_mtu_than_was_announced() {
    in_both(|world| {
        world.node.set_mtu(ALIAS, 1000);
        both_ways(server(world, REAL), ENGINE);
        let answered = world.node.counted(Counter::TooLargeAnswered);
        assert!(answered >= 1, "{:?}", world.node.all_counted());
        assert_eq!(known_mtu(ALIAS), 1000);

        world.node.set_mtu(ALIAS6, 1300);
        both_ways(server(world, REAL6), ENGINE6);
        assert!(world.node.counted(Counter::TooLargeAnswered) > answered, "{:?}", world.node.all_counted());
        assert_eq!(known_mtu(ALIAS6), 1300);
    });
}
