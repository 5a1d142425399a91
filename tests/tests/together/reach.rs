//! What an engine that was taken over reaches: processes with its user and network namespace, without its seccomp filter.

use std::{
    net::{TcpListener, UdpSocket},
    time::Duration,
};

use brattice_tests::lab::{ENGINE_UID, Lab, Namespace, Output, Retail, output};

/// A user of the host without a workload.
const OTHER_UID: u32 = ENGINE_UID + 7;

/// Runs a line of Python as a user; it prints `done`, or the error.
fn attempt(namespace: &Namespace, uid: u32, line: &str) -> String {
    let program = format!(
        "import os, socket as s\n\
         os.setgroups([]); os.setresgid({uid}, {uid}, {uid}); os.setresuid({uid}, {uid}, {uid})\n\
         def tcp(to, family=s.AF_INET, source=None):\n\
         \x20   c = s.socket(family, s.SOCK_STREAM); c.settimeout(3)\n\
         \x20   if source: c.setsockopt(0, 24, 1); c.bind((source, 0))\n\
         \x20   c.connect(to)\n\
         def send(to, family=s.AF_INET): s.socket(family, s.SOCK_DGRAM).sendto(b'x', to)\n\
         def udp(to, family=s.AF_INET): s.socket(family, s.SOCK_DGRAM).connect(to)\n\
         def bind(to, family=s.AF_INET): s.socket(family, s.SOCK_STREAM).bind(to)\n\
         try:\n\
         \x20   {line}\n\
         \x20   print('done')\n\
         except OSError as e: print(e.strerror or e)\n"
    );
    let Output { stdout, stderr, .. } = output(namespace.command("python3").args(["-c", &program]));
    assert!(!stdout.is_empty(), "{line}: {stderr}");
    stdout.trim().to_owned()
}

/// What stands for the host's own services and its surroundings; held while they are called.
struct Surroundings {
    _tcp: Vec<TcpListener>,
    _udp: UdpSocket,
    places: Vec<(&'static str, String)>,
}

fn surroundings(lab: &Lab) -> Surroundings {
    lab.node.ip("addr add 169.254.169.254/32 dev lo");
    let listen = |namespace: &Namespace, address: &str| {
        namespace.enter(|| TcpListener::bind((address, 0))).unwrap_or_else(|error| panic!("{address}: {error}"))
    };
    let neighbour = lab.neighbour();
    let loopback = listen(&lab.node, "127.0.0.1");
    let loopback6 = listen(&lab.node, "::1");
    let metadata = listen(&lab.node, "169.254.169.254");
    let lan = listen(&neighbour, "192.168.77.2");
    let datagrams = lab.node.enter(|| UdpSocket::bind("127.0.0.1:0")).expect("a port");
    let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
    let udp = datagrams.local_addr().expect("bound").port();
    let places = vec![
        ("a loopback service", format!("tcp(('127.0.0.1', {}))", port(&loopback))),
        ("the same by an IPv4-mapped address", format!("tcp(('::ffff:127.0.0.1', {}), s.AF_INET6)", port(&loopback))),
        ("an IPv6 loopback service", format!("tcp(('::1', {}), s.AF_INET6)", port(&loopback6))),
        ("the metadata service", format!("tcp(('169.254.169.254', {}))", port(&metadata))),
        ("a host of the LAN", format!("tcp(('192.168.77.2', {}))", port(&lan))),
        ("a datagram", format!("send(('127.0.0.1', {udp}))")),
        ("a datagram by an IPv4-mapped address", format!("send(('::ffff:127.0.0.1', {udp}), s.AF_INET6)")),
        ("a datagram by IPv6", format!("send(('::1', {udp}), s.AF_INET6)")),
        ("a connected UDP socket", format!("udp(('127.0.0.1', {udp}))")),
        ("an address to bind", "bind(('127.0.0.1', 0))".to_owned()),
        ("an IPv6 address to bind", "bind(('::1', 0), s.AF_INET6)".to_owned()),
    ];
    Surroundings { _tcp: vec![loopback, loopback6, metadata, lan], _udp: datagrams, places }
}

/// packets.md host 10: connect or send to a registered target or a resolver of a VPC | goes on | –
/// packets.md host 30: … to anything else, of either family, IPv4-mapped as well | refused | `EngineReach`
/// packets.md host 40: bind to an engine source or to no address | goes on | –
/// packets.md host 50: bind to anything else | refused | `EngineBind`
#[test]
fn the_engine_reaches_targets_and_nothing_else() {
    let mut retail = Retail::start();
    let around = surroundings(&retail.lab);
    for (what, line) in &around.places {
        // The positive control: other users of the host reach it.
        assert_eq!(attempt(&retail.lab.node, OTHER_UID, line), "done", "{what}");
        assert_eq!(attempt(&retail.lab.node, ENGINE_UID, line), "Operation not permitted", "{what}");
    }
    assert_eq!(retail.lab.drops("EngineReach"), 9);
    assert_eq!(retail.lab.drops("EngineBind"), 2);
    // The same user in another namespace of the machine is no workload.
    assert_eq!(attempt(&retail.blue.namespace, ENGINE_UID, "bind(('127.0.0.1', 0))"), "done");

    // A registered target it does reach, from a source of its own; the port beside it not.
    let workloads = retail.lab.workloads();
    let alias = workloads
        .iter()
        .find(|workload| workload.interface == retail.green.interface)
        .and_then(|workload| workload.addresses.values().next().cloned())
        .expect("v1 has an alias");
    let to = |port: u16| format!("tcp(('{alias}', {port}), source='169.254.64.3')");
    assert_eq!(attempt(&retail.lab.node, ENGINE_UID, &to(8080)), "done");
    assert_eq!(attempt(&retail.lab.node, ENGINE_UID, &to(8081)), "Operation not permitted");
    assert_eq!(retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1", "and it works");

    // It holds without an agent, and with the next.
    retail.lab.agent().kill();
    let (what, line) = &around.places[0];
    assert_eq!(attempt(&retail.lab.node, ENGINE_UID, line), "Operation not permitted", "{what}");
    retail.lab.start_agent();
    assert_eq!(attempt(&retail.lab.node, ENGINE_UID, line), "Operation not permitted", "{what}");
    assert_eq!(retail.blue.http(retail.orders()).unwrap().nonce("n").unwrap().server(), "v1");

    // What was attached is reported, and removed with the rest.
    let status = retail.lab.brattice(&["status"]);
    assert!(status.stdout.contains("host_connect4"), "{}", status.text());
    retail.lab.agent().stop();
    assert!(retail.lab.cleanup().ok());
    brattice_tests::lab::wait_until("it is free again", Duration::from_secs(5), || {
        attempt(&retail.lab.node, ENGINE_UID, line) == "done"
    });
}
