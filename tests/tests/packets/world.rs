//! A node and a workload in two network namespaces of their own, joined by a veth pair, with all three programs
//! attached. Both namespaces belong to threads only: they go away with them, also when a test fails.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::Command,
    sync::mpsc::{Sender, channel},
    thread,
    time::{Duration, Instant},
};

use brattice_abi::Config;
use brattice_tests::packets::node::{Hook, Node, config};
use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

use crate::{
    family::Family,
    scene::{ALIAS, REAL, TARGET_PORT, TCP, WORKLOAD},
};

/// The node's own address on the link to the workload.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The same for IPv6.
pub(crate) const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 1);

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// See the module.
pub(crate) struct World {
    /// Programs and maps.
    pub(crate) node: Node,
    config: Config,
    workload: Sender<Job>,
}

/// Runs a command line in the calling thread's namespace.
#[track_caller]
pub(crate) fn sh(line: &str) {
    output(line);
}

/// The same, and returns what the program printed.
#[track_caller]
pub(crate) fn output(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().expect("the program is installed");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("programs print text")
}

/// A thread in a new network namespace that runs what it is sent. Returns its thread id.
pub(crate) fn namespace_thread() -> (Sender<Job>, i32) {
    let (send, jobs) = channel::<Job>();
    let (send_id, id) = channel();
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (needs root)");
        send_id.send(gettid().as_raw()).expect("the test waits");
        jobs.into_iter().for_each(|job| job());
    });
    (send, id.recv().expect("the thread starts"))
}

/// Runs a test in a new world of the family, on the node's side. The thread's namespace is the node's.
pub(crate) fn in_world_of<F: Family>(test: impl FnOnce(&mut World) + Send + 'static) {
    in_world(|world| {
        F::add_to(world);
        test(world);
    });
}

/// The same with IPv4 alone.
pub(crate) fn in_world(test: impl FnOnce(&mut World) + Send + 'static) {
    let node = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (needs root)");
        test(&mut World::build());
    });
    if let Err(panic) = node.join() {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    /// The order of start is that of the loader.
    fn build() -> Self {
        let (workload, tid) = namespace_thread();
        sh("ip link set lo up");
        sh("ip link add brattice0 type veth peer name brattice1");
        for device in ["brattice0", "brattice1"] {
            sh(&format!("ip link set {device} arp off addrgenmode none up"));
        }
        sh(&format!("ip link add w0 type veth peer name eth0 netns {tid}"));
        sh("ip addr add 10.0.0.1/24 dev w0");
        sh("ip link set w0 up");

        let mut node = Node::unconfigured();
        let mut config = config();
        config.brattice0 = if_nametoindex("brattice0").expect("just made");
        config.brattice0_mac = mac("brattice0");
        config.half_open_limit = 10_000;
        node.configure(config);
        node.attach_vip_listener();
        sh("ip route add 100.127.0.0/16 via 192.0.0.8 dev brattice0 onlink");
        node.attach(Hook::Egress, "brattice0");
        sh("ip route add local 169.254.64.0/20 dev lo src 169.254.64.0");
        node.attach(Hook::Ingress, "w0");

        let mut world = Self { node, config, workload };
        world.workload(|| {
            sh("ip link set lo up");
            sh("ip addr add 10.0.0.10/24 dev eth0");
            sh("ip link set eth0 up");
            sh("ip route add 169.254.64.0/20 dev eth0");
        });
        let mac = world.workload(|| mac("eth0"));
        let w0 = if_nametoindex("w0").expect("just made");
        world.node.add_workload_at(w0, REAL, ALIAS, WORKLOAD, 0, mac);
        world.node.add_target(ALIAS, TARGET_PORT, TCP);
        world.wait_for_the_link();
        world
    }

    /// A new link drops packets until the kernel has seen it come up.
    fn wait_for_the_link(&self) {
        let start = Instant::now();
        loop {
            let answer =
                self.workload(|| TcpStream::connect_timeout(&SocketAddr::from((NODE, 1)), Duration::from_millis(100)));
            match answer {
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => return,
                _ => assert!(start.elapsed() < Duration::from_secs(10), "the link does not come up: {answer:?}"),
            }
        }
    }

    /// Gives node and workload IPv6 as well: [`NODE6`], and the workload's `real` with its `alias`, which is a target.
    pub(crate) fn add_ipv6(&mut self, real: Ipv6Addr, alias: Ipv6Addr) {
        let [vip_net, alias_net] = [self.config.vip_net6, self.config.alias_net6].map(|net| Ipv6Addr::from(net.0));
        sh(&format!("ip -6 addr add {NODE6}/64 dev w0 nodad"));
        sh(&format!("ip -6 route add {alias_net}/48 via fe80::1 dev brattice0 onlink"));
        sh(&format!("ip -6 route add local {vip_net}/64 dev lo"));
        self.workload(move || {
            sh(&format!("ip -6 addr add {real}/64 dev eth0 nodad"));
            sh(&format!("ip -6 route add {vip_net}/64 dev eth0 src {real}"));
        });
        let mac = self.workload(|| mac("eth0"));
        let w0 = if_nametoindex("w0").expect("there");
        self.node.add_workload_at(w0, real, alias, WORKLOAD, 0, mac);
        self.node.add_target(alias, TARGET_PORT, TCP);
    }

    /// Changes the configuration.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.node.configure(self.config);
    }

    /// Runs something in the workload's namespace.
    pub(crate) fn workload<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (send_result, result) = channel();
        let job: Job = Box::new(move || {
            // There is no receiver when the test has failed.
            let _ = send_result.send(job());
        });
        self.workload.send(job).expect("the workload's thread runs");
        result.recv().expect("the workload's job ends without a panic")
    }
}

/// MAC of an interface of the calling thread's namespace.
pub(crate) fn mac(interface: &str) -> [u8; 6] {
    let output = Command::new("ip").args(["-j", "link", "show", interface]).output().expect("ip is installed");
    let text = String::from_utf8(output.stdout).expect("ip prints text");
    let start = text.find("\"address\":\"").expect("a link has an address") + 11;
    let mut mac = [0; 6];
    for (byte, hex) in mac.iter_mut().zip(text[start..start + 17].split(':')) {
        *byte = u8::from_str_radix(hex, 16).expect("ip prints hexadecimal");
    }
    mac
}

/// A counter of the calling thread's network stack from /proc/net/netstat or /proc/net/snmp: `IpExt`, `InTruncatedPkts`.
pub(crate) fn stack_counter(group: &str, name: &str) -> u64 {
    let text = ["netstat", "snmp"]
        .map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).expect("the kernel counts"))
        .concat();
    let mut lines = text.lines().filter(|l| l.split(':').next() == Some(group));
    let names = lines.next().expect("names of the group");
    let values = lines.next().expect("values of the group");
    names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(n, _)| *n == name)
        .and_then(|(_, v)| v.parse().ok())
        .expect("the group has the counter")
}

/// A counter of the calling thread's network stack from /proc/net/snmp6.
pub(crate) fn stack_counter6(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp6").expect("the kernel counts");
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name)).expect("the counter");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}
