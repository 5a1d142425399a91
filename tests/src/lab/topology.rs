//! Workloads, bridges, neighbours.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use super::{DNS_VIP, DNS_VIP6, Lab, Namespace, VIP_RANGE, VIP6_RANGE, commands::Output};

/// How a workload's host-side interface is joined to the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wiring<'a> {
    /// A veth with an address of the node and a host route to the workload.
    Routed,
    /// A veth that is a port of this bridge.
    Bridged(&'a str),
}

/// A namespace with an address, wired to the node.
#[derive(Clone)]
pub struct Workload {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its host-side interface, in the node.
    pub interface: String,
    /// Its (first) address inside its VPC.
    pub address: IpAddr,
}

/// Address of the node on every routed veth and every bridge.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// As [`GATEWAY`], of IPv6; on routed veths only.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 1);

impl Lab {
    /// A workload whose host-side interface has this name, with this address of a /16 or (IPv6) /64, in a namespace of its
    /// own.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn workload(&self, interface: &str, address: &str, wiring: Wiring<'_>) -> Workload {
        let workload = self.unrouted_workload(interface, address, wiring);
        workload.route_vips(workload.address);
        workload
    }

    /// Gives a workload one more address, of the other family say, with a route to the VIP range of that.
    ///
    /// # Panics
    /// When it cannot be given.
    pub fn also(&self, workload: &Workload, address: &str, wiring: Wiring<'_>) {
        let address = address.parse().expect("an address");
        self.give(&workload.namespace, &workload.interface, address, wiring);
        workload.route_vips(address);
    }

    /// Like [`Lab::workload`], without a route to the VIP range.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn unrouted_workload(&self, interface: &str, address: &str, wiring: Wiring<'_>) -> Workload {
        let address: IpAddr = address.parse().expect("an address");
        let name = format!("{}-{interface}", self.id);
        let namespace = Namespace::create(&name);
        self.node.ip(&format!("link add {interface} type veth peer name eth0 netns {name}"));
        self.node.ip(&format!("link set {interface} up"));
        namespace.ip("link set eth0 up");
        if let Wiring::Bridged(bridge) = wiring {
            if !self.node.run(&["ip", "link", "show", bridge]).ok() {
                self.node.ip(&format!("link add {bridge} type bridge"));
                self.node.ip(&format!("link set {bridge} up"));
            }
            self.node.ip(&format!("link set {interface} master {bridge}"));
        }
        self.give(&namespace, interface, address, wiring);
        let dns: IpAddr = if address.is_ipv4() { DNS_VIP.into() } else { DNS_VIP6.into() };
        let folder = Path::new("/etc/netns").join(&name);
        fs::create_dir_all(&folder).expect("/etc/netns is writable");
        fs::write(folder.join("resolv.conf"), format!("nameserver {dns}\noptions timeout:2 attempts:2\n"))
            .expect("a file");
        Workload { namespace, interface: interface.to_owned(), address }
    }

    /// An address inside, and where it is routed the ways there and back.
    fn give(&self, namespace: &Namespace, interface: &str, address: IpAddr, wiring: Wiring<'_>) {
        // Addresses of IPv6 are usable at once: duplicate address detection is off.
        let (prefix, all, nodad, gateway): (_, _, _, IpAddr) = match address {
            IpAddr::V4(_) => (16, 32, "", GATEWAY.into()),
            IpAddr::V6(_) => (64, 128, "nodad", GATEWAY6.into()),
        };
        namespace.ip(&format!("addr add {address}/{prefix} dev eth0 {nodad}"));
        if wiring == Wiring::Routed {
            self.node.ip(&format!("addr add {gateway}/{all} dev {interface} {nodad}"));
            // Equal addresses: the interface index distinguishes the routes, the lowest wins for the host's own traffic.
            let index = self.ifindex(interface);
            self.node.ip(&format!("route add {address}/{all} dev {interface} metric {index}"));
            if address != gateway {
                namespace.ip(&format!("route add default via {gateway} dev eth0 onlink"));
            }
        }
    }

    /// A second host on a network of its own with the node: 192.168.77.1 (node, `up0`) and 192.168.77.2.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn neighbour(&self) -> Namespace {
        let name = format!("{}-neighbour", self.id);
        let namespace = Namespace::create(&name);
        self.node.ip(&format!("link add up0 type veth peer name eth0 netns {name}"));
        self.node.ip("addr add 192.168.77.1/24 dev up0");
        self.node.ip("link set up0 up");
        namespace.ip("addr add 192.168.77.2/24 dev eth0");
        namespace.ip("link set eth0 up");
        namespace
    }

    /// Index of an interface of the node.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn ifindex(&self, interface: &str) -> u32 {
        let line = self.node.ip(&format!("-o link show {interface}"));
        line.split(':')
            .next()
            .and_then(|number| number.trim().parse().ok())
            .expect("`ip -o link` begins with the index")
    }
}

impl Workload {
    /// The way to the VIPs of an address's family.
    fn route_vips(&self, family: IpAddr) {
        let range = if family.is_ipv4() { VIP_RANGE } else { VIP6_RANGE };
        self.namespace.ip(&format!("route add {range} dev eth0"));
    }

    /// Opens a TCP connection from inside, within 5 s.
    ///
    /// # Errors
    /// When it is refused or times out.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.connect_within(to, Duration::from_secs(5))
    }

    /// Opens a TCP connection from inside.
    ///
    /// # Errors
    /// When it is refused or times out.
    pub fn connect_within(&self, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        self.namespace.enter(|| TcpStream::connect_timeout(&to, limit))
    }

    /// Runs curl inside, by DNS name if the URL has one, silent, with 5 s at most; `-w` gives the status as last line.
    ///
    /// # Panics
    /// When curl is missing.
    #[track_caller]
    pub fn curl(&self, arguments: &[&str]) -> Output {
        let mut line = vec!["curl", "--silent", "--show-error", "--max-time", "5", "--write-out", "\n%{http_code}"];
        line.extend_from_slice(arguments);
        self.namespace.run_with_resolver(&line)
    }

    /// Status and body of `curl URL`; status 0 when there was no answer.
    #[track_caller]
    pub fn fetch(&self, arguments: &[&str]) -> (u16, String) {
        let output = self.curl(arguments);
        let (body, status) = output.stdout.rsplit_once('\n').unwrap_or(("", "0"));
        (status.trim().parse().unwrap_or(0), body.to_owned())
    }

    /// Runs dig against the DNS VIP; returns the answer's lines (`+short`), and its status word.
    #[track_caller]
    pub fn dig(&self, arguments: &[&str]) -> (String, Vec<String>) {
        let server = format!("@{DNS_VIP}");
        self.dig_at(&server, arguments)
    }

    /// Runs dig against a server (`@address`); returns its status word and the data of its answers.
    #[track_caller]
    pub fn dig_at(&self, server: &str, arguments: &[&str]) -> (String, Vec<String>) {
        let mut line = vec!["dig", "+tries=2", "+time=2", "+noall", "+comments", "+answer", server];
        line.extend_from_slice(arguments);
        let output = self.namespace.run(&line);
        let status = output
            .stdout
            .lines()
            .find_map(|line| line.split("status: ").nth(1)?.split(',').next())
            .unwrap_or("NO ANSWER")
            .to_owned();
        let answers = output
            .stdout
            .lines()
            .filter(|line| !line.starts_with(';') && !line.trim().is_empty())
            .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
            .collect();
        (status, answers)
    }
}
