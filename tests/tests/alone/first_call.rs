//! How long a new workload waits for its first call.

use std::{
    io::{ErrorKind, Write as _},
    net::SocketAddr,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use brattice_tests::{
    client::Connection,
    lab::{GATEWAY, Lab, Namespace, Retail, VIP_RANGE, Wiring},
};

/// From the moment at which a workload can send to its first answer.
const AT_MOST: Duration = Duration::from_millis(50);
/// Half of them may be slower: the machine does other things, too.
const ROUNDS: u8 = 9;
/// What no round may take: a SYN or a question that is lost is sent again after a second.
const LOST: Duration = Duration::from_millis(700);
/// As often, for a machine that was busy for a while.
const SETS: u8 = 3;

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

const BRIDGE: &str = "brfresh";

/// Workloads that are made at the same time.
const SEVERAL: u8 = 8;
/// From the moment at which each can send to its first answer, for half of them. All are made on the same two processors.
const SEVERAL_AT_MOST: Duration = Duration::from_millis(150);

fn several_at_once(retail: &Retail, wiring: Wiring<'_>) {
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
fn first_calls(retail: &Retail, wiring: Wiring<'_>, workload: impl Fn(u8) -> u8) {
    let vip = retail.orders();
    let mut measured = Vec::new();
    for set in 0..SETS {
        let numbers = set * ROUNDS..(set + 1) * ROUNDS;
        let mut rounds: Vec<First> =
            numbers.map(|round| first_call(&retail.lab, round, workload(round), wiring, vip)).collect();
        rounds.sort_by_key(|round| round.waited);
        println!("{wiring:?}: {rounds:?}");
        if let Some(lost) = rounds.iter().find(|round| round.waited > LOST) {
            panic!("{wiring:?}: something was lost, and sent again: {lost:?} of {rounds:?}");
        }
        if rounds[usize::from(ROUNDS / 2)].waited <= AT_MOST {
            return;
        }
        measured.push(rounds);
    }
    panic!("{wiring:?}: half of the first calls of each set took over {AT_MOST:?}: {measured:?}");
}

/// Makes a workload as a container runtime does, all in a burst, while its process calls already.
fn first_call(lab: &Lab, round: u8, workload: u8, wiring: Wiring<'_>, vip: SocketAddr) -> First {
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
        Wiring::Routed => {
            outside += &format!("addr add {GATEWAY}/32 dev {interface}\nroute add {address}/32 dev {interface}\n");
            inside += &format!("route add default via {GATEWAY} dev eth0 onlink\n");
        }
    }
    inside += &format!("route add {VIP_RANGE} dev eth0\n");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| namespace.enter(|| call_until_answered(vip)));
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
