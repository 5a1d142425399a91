//! How long a new workload waits for its first call.

use std::{
    io::{ErrorKind, Write as _},
    net::{SocketAddr, UdpSocket},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use brattice_tests::{
    client::Connection,
    lab::{DNS_VIP, GATEWAY, Lab, Namespace, Retail, VIP_RANGE},
};

/// From the moment at which a workload can send to its first answer.
const AT_MOST: Duration = Duration::from_millis(50);
/// Half of them may be slower: the machine does other things, too.
const ROUNDS: u8 = 9;
/// What no round may take: a SYN or a question that is lost is sent again after a second.
const LOST: Duration = Duration::from_millis(700);
/// As often, for a machine that was busy for a while.
const SETS: u8 = 3;

/// How a workload is wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wiring {
    /// A veth with a route, and the host's route back.
    Routed,
    /// A veth with a route, and none back: the addresses of its VPC are those of another one, say.
    OneWay,
    /// A port of this bridge.
    Bridged(&'static str),
}

/// What a client met that calls again and again from the start.
struct First {
    /// From the first attempt that left the workload to the answer.
    waited: Duration,
    /// Of that, after the connection was open.
    answering: Duration,
    /// Attempts until then that were refused.
    refused: u32,
}

impl std::fmt::Debug for First {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1?} ({:.1?} for the answer, {} refused)", self.waited, self.answering, self.refused)
    }
}

#[test]
fn a_routed_workloads_first_call_is_answered_at_once() {
    let retail = Retail::start();
    retail.lab.node.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0");
    first_calls(&retail, Wiring::Routed, |number| number);
}

/// What the host refuses of it goes nowhere, so a call before the attachment would be lost.
#[test]
fn a_routed_workload_to_which_the_host_has_no_route_is_answered_at_once() {
    let retail = Retail::start();
    retail.lab.node.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0");
    first_calls(&retail, Wiring::OneWay, |number| number);
}

#[test]
fn a_question_of_a_routed_workload_to_which_the_host_has_no_route_is_answered_at_once() {
    let retail = Retail::start();
    retail.lab.node.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0");
    answered_at_once("questions", |number| first(&retail.lab, number, number, Wiring::OneWay, ask_until_answered));
}

#[test]
fn a_bridged_workloads_first_call_is_answered_at_once() {
    let retail = bridged();
    // The stack says nothing of addresses that another interface has.
    retail.lab.node.sh("sysctl -qw net.ipv4.conf.all.arp_ignore=1");
    first_calls(&retail, Wiring::Bridged(BRIDGE), |number| number);
}

/// By itself, the stack answers ARP for every address of the host, with the MAC of a bridge that leads nowhere.
#[test]
fn a_bridged_workloads_first_call_is_answered_at_once_where_the_host_answers_for_all_its_addresses() {
    let retail = bridged();
    first_calls(&retail, Wiring::Bridged(BRIDGE), |number| number);
}

#[test]
fn a_bridged_workload_restarted_with_its_interface_name_is_answered_at_once() {
    let retail = bridged();
    first_calls(&retail, Wiring::Bridged(BRIDGE), |_| 0);
}

/// Each attachment takes the kernel a grace period of RCU, one after the other, so the last of eight waits longer than one alone.
#[test]
fn eight_bridged_workloads_at_once_are_answered_soon() {
    let retail = bridged();
    several_at_once(&retail, Wiring::Bridged(BRIDGE));
}

#[test]
fn eight_routed_workloads_at_once_are_answered_soon() {
    let retail = Retail::start();
    retail.lab.node.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0");
    several_at_once(&retail, Wiring::Routed);
}

#[test]
fn eight_routed_workloads_to_which_the_host_has_no_route_are_answered_soon() {
    let retail = Retail::start();
    retail.lab.node.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0");
    several_at_once(&retail, Wiring::OneWay);
}

const BRIDGE: &str = "brfresh";

/// Workloads that are made at the same time.
const SEVERAL: u8 = 8;
/// From the moment at which each can send to its first answer, for half of them. All are made on the same two processors.
const SEVERAL_AT_MOST: Duration = Duration::from_millis(150);

fn several_at_once(retail: &Retail, wiring: Wiring) {
    let vip = retail.orders();
    let mut told = Vec::new();
    for set in 0..SETS {
        let mut calls: Vec<First> = std::thread::scope(|scope| {
            let numbers = set * SEVERAL..(set + 1) * SEVERAL;
            let threads: Vec<_> = numbers
                .map(|number| scope.spawn(move || first_call(&retail.lab, number, number, wiring, vip)))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a workload")).collect()
        });
        calls.sort_by_key(|call| call.waited);
        println!("{SEVERAL} at once, {wiring:?}: {calls:?}");
        // Where many links come up at once on a busy machine, the kernel may bring one into use late: what is sent meanwhile is lost.
        if calls.iter().filter(|call| call.waited > LOST).count() <= 1
            && calls[usize::from(SEVERAL / 2)].waited <= SEVERAL_AT_MOST
        {
            return;
        }
        told.push(calls);
    }
    panic!("{wiring:?}: half of the first calls of each set took over {SEVERAL_AT_MOST:?}: {told:?}");
}

/// With a bridge on which the host has no address, and the kernel's own settings of ARP.
fn bridged() -> Retail {
    let retail = Retail::start();
    retail.lab.node.ip(&format!("link add {BRIDGE} type bridge"));
    retail.lab.node.ip(&format!("link set {BRIDGE} up"));
    retail
}

/// `workload` gives each round a number, which is in interface name and address: the same again is a restart.
fn first_calls(retail: &Retail, wiring: Wiring, workload: impl Fn(u8) -> u8) {
    let vip = retail.orders();
    let call = |round| first_call(&retail.lab, round, workload(round), wiring, vip);
    answered_at_once(&format!("{wiring:?}"), call);
}

/// Half of the rounds of a set are answered at once, and none is lost. `one` is given a round's number.
fn answered_at_once(what: &str, one: impl Fn(u8) -> First) {
    let mut measured = Vec::new();
    for set in 0..SETS {
        let mut rounds: Vec<First> = (set * ROUNDS..(set + 1) * ROUNDS).map(&one).collect();
        rounds.sort_by_key(|round| round.waited);
        println!("{what}: {rounds:?}");
        if let Some(lost) = rounds.iter().find(|round| round.waited > LOST) {
            panic!("{what}: something was lost, and sent again: {lost:?} of {rounds:?}");
        }
        if rounds[usize::from(ROUNDS / 2)].waited <= AT_MOST {
            return;
        }
        measured.push(rounds);
    }
    panic!("{what}: half of the first calls of each set took over {AT_MOST:?}: {measured:?}");
}

fn first_call(lab: &Lab, round: u8, workload: u8, wiring: Wiring, vip: SocketAddr) -> First {
    first(lab, round, workload, wiring, || call_until_answered(vip))
}

/// Makes a workload as a container runtime does, all in a burst, while its process calls already.
fn first(lab: &Lab, round: u8, workload: u8, wiring: Wiring, client: impl FnOnce() -> First + Send) -> First {
    let interface = format!("bluef{workload}");
    let address = format!("10.0.1.{}", workload + 1);
    // The one before a restart goes, if there is one.
    let _ = lab.node.run(&["ip", "link", "delete", &interface]);
    let namespace = Namespace::create(&format!("{}-first{round}", lab.id));
    let mut outside =
        format!("link add {interface} type veth peer name eth0 netns {}\nlink set {interface} up\n", namespace.name);
    let mut inside = format!("link set eth0 up\naddr add {address}/16 dev eth0\n");
    match wiring {
        Wiring::Bridged(bridge) => outside += &format!("link set {interface} master {bridge}\n"),
        Wiring::Routed | Wiring::OneWay => {
            outside += &format!("addr add {GATEWAY}/32 dev {interface}\n");
            if wiring == Wiring::Routed {
                outside += &format!("route add {address}/32 dev {interface}\n");
            }
            inside += &format!("route add default via {GATEWAY} dev eth0 onlink\n");
        }
    }
    inside += &format!("route add {VIP_RANGE} dev eth0\n");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| namespace.enter(client));
        batch(&lab.node, &outside);
        batch(&namespace, &inside);
        client.join().expect("the client")
    })
}

/// Calls until there is an answer.
fn call_until_answered(vip: SocketAddr) -> First {
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut left, mut refused) = (None, 0);
    loop {
        let began = Instant::now();
        assert!(began < deadline, "no call was answered; {refused} were refused");
        match std::net::TcpStream::connect_timeout(&vip, Duration::from_secs(5)) {
            Ok(stream) => {
                let open = Instant::now();
                Connection::new(stream).nonce("first").expect("an answer");
                return First { waited: left.unwrap_or(began).elapsed(), answering: open.elapsed(), refused };
            }
            // It has no route yet: nothing was sent.
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                left.get_or_insert(began);
                refused += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Asks for the address of `orders.shop.internal` until there is an answer; a question that got none is not asked again.
fn ask_until_answered() -> First {
    let mut question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in ["orders", "shop", "internal"] {
        question.push(u8::try_from(label.len()).expect("a short label"));
        question.extend(label.as_bytes());
    }
    // The end of the name; A; IN.
    question.extend([0, 0, 1, 0, 1]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut left, mut refused) = (None, 0);
    loop {
        let began = Instant::now();
        assert!(began < deadline, "no question was answered; {refused} were refused");
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        // A resolver's usual patience.
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        let asked = socket.connect((DNS_VIP, 53)).and_then(|()| socket.send(&question));
        match asked.and_then(|_| socket.recv(&mut [0; 512])) {
            Ok(length) => {
                assert!(length > question.len(), "an answer");
                let waited = left.unwrap_or(began).elapsed();
                return First { waited, answering: began.elapsed(), refused };
            }
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable => {}
            Err(error) => {
                left.get_or_insert(began);
                refused += u32::from(error.kind() == ErrorKind::ConnectionRefused);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Several `ip` commands by one process, one right after the other.
fn batch(namespace: &Namespace, lines: &str) {
    let mut ip = Command::new("ip")
        .args(["-n", &namespace.name, "-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("iproute2 is installed");
    ip.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    assert!(ip.wait().expect("it ends").success(), "{lines}");
}
