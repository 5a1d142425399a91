//! Nothing exposed: what the routes alone would open.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use brattice_tests::{
    lab::{ALIAS_RANGE, ENGINE_UID, Lab, Namespace, Output, Retail, VIP_RANGE, Wiring, output, probe, wait_until},
    server::{BANNER, Server, WildcardServices},
};
use nix::{sys::signal::Signal, sys::signal::kill};

/// What a host may run. 80 is also the port of the service: its VIP must show the service, never the daemon.
const PORTS: [u16; 20] =
    [21, 22, 23, 25, 80, 111, 123, 161, 443, 631, 2049, 2222, 2375, 3306, 5432, 6379, 6443, 8080, 9100, 10250];
const SHORT: Duration = Duration::from_millis(400);

/// Addresses in the VIP range: source of host processes, an engine source, DNS, the service, an unused one, the last.
fn vips(service: Ipv4Addr) -> Vec<Ipv4Addr> {
    let mut all: Vec<Ipv4Addr> = ["169.254.64.0", "169.254.64.3", "169.254.64.17", "169.254.70.1", "169.254.79.255"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    all.push(service);
    all
}

/// Tries every port on every address by TCP and UDP from inside; the daemons' banners it got.
fn banners(from: &Namespace, addresses: &[Ipv4Addr]) -> Vec<String> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = addresses
            .iter()
            .map(|address| {
                scope.spawn(move || {
                    from.enter_this_thread();
                    let mut got = Vec::new();
                    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                    socket.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
                    for port in PORTS {
                        let to = SocketAddr::from((*address, port));
                        if let Ok(mut stream) = TcpStream::connect_timeout(&to, SHORT) {
                            let _ = stream.set_read_timeout(Some(SHORT));
                            let mut text = [0; BANNER.len()];
                            if stream.read_exact(&mut text).is_ok() && text == BANNER {
                                got.push(format!("tcp {to}"));
                            }
                        }
                        let _ = socket.send_to(b"hello", to);
                        let mut text = [0; 100];
                        if socket.recv_from(&mut text).is_ok_and(|(length, _)| &text[..length] == BANNER) {
                            got.push(format!("udp {to}"));
                        }
                    }
                    got
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn daemons_of_the_host_are_unreachable_through_any_vip() {
    let mut retail = Retail::prepare(&brattice_tests::lab::service(&brattice_tests::lab::forward(1, 0)));
    let daemons = WildcardServices::start(&retail.lab.node, &PORTS);
    let neighbour = retail.lab.neighbour();
    neighbour.ip(&format!("route add {VIP_RANGE} via 192.168.77.1"));
    retail.lab.node.sh("sysctl -qw net.ipv4.ip_forward=1");
    // Of no VPC, so never attached.
    let stranger = retail.lab.workload("other1", "10.9.0.10", Wiring::Routed);
    retail.lab.start_agent();
    let vip = retail.orders();
    let SocketAddr::V4(service) = vip else { panic!("an IPv4 VIP") };
    let all = vips(*service.ip());
    let places = [
        ("an attached workload", &retail.blue.namespace),
        ("an interface not attached", &stranger.namespace),
        ("a neighbour host", &neighbour),
    ];

    // The daemons are there, for clients that call the node by an address of its own.
    assert_eq!(banners(&retail.blue.namespace, &[Ipv4Addr::new(10, 0, 0, 1)]).len(), 2 * PORTS.len());
    assert_eq!(banners(&stranger.namespace, &[Ipv4Addr::new(10, 0, 0, 1)]).len(), 2 * PORTS.len());
    assert_eq!(banners(&neighbour, &[Ipv4Addr::new(192, 168, 77, 1)]).len(), 2 * PORTS.len());
    let before = daemons.hits();
    for (who, from) in places {
        let got = banners(from, &all);
        assert!(got.is_empty(), "{who} reached {got:?}");
    }
    assert_eq!(daemons.hits(), before, "nothing reached a daemon");
    assert_eq!(
        retail.blue.http(vip).unwrap().nonce("n").unwrap().server(),
        "v1",
        "port 80 of the VIP is the service's"
    );
    for from in [&stranger.namespace, &neighbour] {
        assert!(
            from.enter(|| TcpStream::connect_timeout(&vip, SHORT)).is_err(),
            "the service itself is for workloads only"
        );
    }
    let drops = retail.lab.status().drops;
    assert!(drops["NoListener"] > 0 && drops["UnattestedPeer"] > 0, "{drops:?}");

    // With agent and engine killed.
    let engine = retail.lab.engine_pid();
    retail.lab.agent().kill();
    kill(engine, Signal::SIGKILL).unwrap();
    wait_until("the engine is gone", Duration::from_secs(5), || !PathBuf::from(format!("/proc/{engine}/exe")).exists());
    for (who, from) in places {
        let got = banners(from, &all);
        assert!(got.is_empty(), "with agent and engine dead, {who} reached {got:?}");
    }
    assert_eq!(daemons.hits(), before);
    assert!(retail.blue.connect_within(vip, Duration::from_secs(2)).is_err(), "refused, not answered");
    retail.lab.start_agent();
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}

/// Any process may bind the engine's own ports: taken, they neither keep the engine from serving nor bring that process
/// a call.
#[test]
fn whoever_has_the_engines_ports_gains_nothing() {
    let mut retail = Retail::prepare(&brattice_tests::lab::service(&brattice_tests::lab::forward(1, 0)));
    let ports = [15_001, 15_002, 15_053, 15_101, 15_102];
    let squatters = WildcardServices::start(&retail.lab.node, &ports);
    retail.lab.start_agent();
    assert!(retail.lab.log().contains("the port is in use by another process"), "they were in the way");
    let vip = retail.orders();
    for number in 0..20 {
        assert_eq!(retail.blue.http(vip).unwrap().nonce(&format!("{number}")).unwrap().server(), "v1");
    }
    assert_eq!(retail.blue.dig(&["orders.shop.internal", "A", "+tcp"]).0, "NOERROR");
    for port in ports {
        let source = SocketAddr::from(([169, 254, 64, 1], port));
        assert!(retail.blue.connect_within(source, SHORT).is_err(), "{source} is nobody's to call");
    }
    assert_eq!(squatters.hits(), 0);
    let own = SocketAddr::from(([10, 0, 0, 1], ports[0]));
    assert!(retail.blue.connect_within(own, SHORT).is_ok(), "at the node's own address they are reached");
}

/// Runs `probe` in the node as another user.
fn probe_as(lab: &Lab, uid: u32, words: &[&str]) -> Output {
    output(&mut probe_command(lab, uid, words))
}

fn probe_command(lab: &Lab, uid: u32, words: &[&str]) -> Command {
    lab.as_user(uid, uid, lab.node.command(&probe()).args(words))
}

#[test]
fn a_host_user_gets_nothing_through_vips_and_aliases() {
    let retail = Retail::start();
    let node = &retail.lab.node;
    let other = Server::start(&retail.green.namespace, "other", 8081);
    let alias = retail.lab.alias("green1", retail.green.address);
    let vip = retail.orders();
    let user = 65_000;
    let target = format!("{alias}:8080");
    let drops = |reason: &str| retail.lab.drops(reason);

    // The engine's user, from an engine source, to a registered target: the way that is open.
    let open = probe_as(&retail.lab, ENGINE_UID, &["tcp", "169.254.64.1:0", &target]);
    assert!(open.ok() && open.stdout.contains("200"), "the positive control: {}", open.text());
    let reached = retail.v1.counters.connections();

    // Every other way is closed, and each is counted under its reason.
    let cases: [(&str, u32, &str, String, &str); 6] = [
        ("a user from a bound VIP", user, "169.254.64.1:0", target.clone(), "NotEngine"),
        ("root from a bound VIP", 0, "169.254.64.1:0", target.clone(), "NotEngine"),
        ("the engine from no source of its own", ENGINE_UID, "169.254.70.1:0", target.clone(), "EngineBind"),
        ("the engine to what is no target", ENGINE_UID, "169.254.64.1:0", format!("{alias}:8081"), "EngineReach"),
        ("the engine to nobody's alias", ENGINE_UID, "169.254.64.1:0", "100.127.255.254:8080".into(), "EngineReach"),
        ("a user from a loopback address", user, "127.0.0.1:0", target.clone(), "SourceNotVip"),
    ];
    for (who, uid, from, to, reason) in cases {
        let before = drops(reason);
        let tried = probe_as(&retail.lab, uid, &["tcp", from, &to]);
        assert!(!tried.ok(), "{who}: {}", tried.text());
        if reason != "SourceNotVip" {
            wait_until(&format!("{who} is counted as {reason}"), Duration::from_secs(3), || drops(reason) > before);
        }
    }
    assert_eq!(retail.v1.counters.connections(), reached, "nothing reached the target");
    assert_eq!(other.counters.connections(), 0);

    // UDP to an alias.
    let listening = |port: u16| {
        let at = format!("0.0.0.0:{port}");
        let mut command = retail.green.namespace.command(&probe());
        command.args(["listen-udp", &at, "1500"]).stdout(Stdio::piped()).spawn().unwrap()
    };
    let waiting = listening(9_000);
    std::thread::sleep(Duration::from_millis(200));
    let before = drops("NotEngine");
    probe_as(&retail.lab, user, &["udp", "169.254.64.1:0", &format!("{alias}:9000")]);
    wait_until("UDP of a user is counted", Duration::from_secs(3), || drops("NotEngine") > before);
    let result = waiting.wait_with_output().unwrap();
    assert!(!result.status.success(), "a datagram arrived: {}", String::from_utf8_lossy(&result.stdout));

    // A user with a listener on a VIP.
    let free = "169.254.70.1:7777";
    let mut thief = probe_command(&retail.lab, user, &["listen", free, "2500"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..3 {
        assert!(retail.blue.connect_within(free.parse().unwrap(), SHORT).is_err());
    }
    assert!(!thief.wait().unwrap().success(), "a workload reached a host user through a VIP");
    // (Listening there works as such: a workload reaches the same program by the node's own address.)
    let honest =
        probe_command(&retail.lab, user, &["listen", "10.0.0.1:7777", "3000"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_until("the node's own address answers", Duration::from_secs(3), || {
        retail.blue.connect_within("10.0.0.1:7777".parse().unwrap(), SHORT).is_ok()
    });
    assert!(honest.wait_with_output().unwrap().status.success());

    // A host process that calls a service.
    let before = drops("UnattestedHost");
    let refused = node.enter(|| TcpStream::connect_timeout(&vip, SHORT));
    assert!(refused.is_err(), "a host process was let in");
    wait_until("it is counted", Duration::from_secs(3), || drops("UnattestedHost") > before);
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn a_second_host_with_routes_to_our_ranges_gets_nothing() {
    let retail = Retail::start();
    let neighbour = retail.lab.neighbour();
    let node = &retail.lab.node;
    node.sh("sysctl -qw net.ipv4.ip_forward=1");
    neighbour.ip(&format!("route add {VIP_RANGE} via 192.168.77.1"));
    neighbour.ip(&format!("route add {ALIAS_RANGE} via 192.168.77.1"));
    neighbour.ip("route add 10.0.0.10/32 via 192.168.77.1");
    let alias = retail.lab.alias("green1", retail.green.address);
    let blue_server = Server::start(&retail.blue.namespace, "blue", 8080);
    let connect = |to: SocketAddr| neighbour.enter(|| TcpStream::connect_timeout(&to, SHORT));

    // The node forwards: the neighbour reaches a routed workload by its real address.
    let mut open = connect("10.0.0.10:8080".parse().unwrap()).expect("forwarding works");
    open.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    wait_until("the request arrived", Duration::from_secs(2), || blue_server.counters.requests() == 1);

    let before = retail.v1.counters.connections();
    assert!(connect(SocketAddr::from((alias, 8080))).is_err(), "the target's alias from another host");
    retail.lab.dropped("Forwarded", 1);
    assert!(connect(retail.orders()).is_err(), "the listener from another host");
    retail.lab.dropped("UnattestedPeer", 1);
    // Also with a source inside our ranges.
    neighbour.ip("addr add 169.254.64.1/32 dev lo");
    let forged = neighbour.run(&[&probe(), "tcp", "169.254.64.1:0", &format!("{alias}:8080")]);
    assert!(!forged.ok(), "{}", forged.text());
    assert_eq!(retail.v1.counters.connections(), before, "nothing reached the target");
    assert_eq!(retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");
}

#[test]
fn a_workload_cannot_reach_aliases_nor_lend_addresses() {
    let retail = Retail::start();
    let alias = retail.lab.alias("green1", retail.green.address);
    let vip = retail.orders();
    retail.lab.node.sh("sysctl -qw net.ipv4.ip_forward=1");
    let tried = |from: &str, to: &str| retail.blue.namespace.run(&[&probe(), "tcp", from, to]);

    let control = tried("10.0.0.10:0", &vip.to_string());
    assert!(control.ok(), "its own address is fine: {}", control.text());
    let reached = retail.v1.counters.connections();

    assert!(!tried("10.0.0.10:0", &format!("{alias}:8080")).ok());
    retail.lab.dropped("ToAlias", 1);
    // An address outside the VPC's CIDR is never discovered as its own.
    retail.blue.namespace.ip("addr add 10.1.0.99/32 dev lo");
    assert!(!tried("10.1.0.99:0", &vip.to_string()).ok());
    retail.lab.dropped("SpoofedSource", 1);
    retail.blue.namespace.ip("addr add 169.254.70.9/32 dev lo");
    assert!(!tried("169.254.70.9:0", "10.0.0.1:22").ok());
    retail.lab.dropped("FromReserved", 1);
    let before = retail.lab.drops("SpoofedSource") + retail.lab.drops("FromReserved");
    retail.blue.namespace.ip(&format!("addr add {alias}/32 dev lo"));
    assert!(!tried(&format!("{alias}:0"), &vip.to_string()).ok(), "another's alias as source");
    wait_until("it is counted", Duration::from_secs(3), || {
        retail.lab.drops("SpoofedSource") + retail.lab.drops("FromReserved") > before
    });
    assert_eq!(retail.v1.counters.connections(), reached);
    let control = tried("10.0.0.10:0", &vip.to_string());
    assert!(control.ok(), "its own address still is: {}", control.text());
}
