//! A guest in qemu behind a tap, beside a workload in a namespace: it calls and serves under the identity in its
//! document. As root; `cargo xtask test` runs it.
// A test's name says what it shows; in a test, a panic is the report.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{net::SocketAddr, path::Path, time::Duration};

use brattice_machine::{Guest, Initramfs, Kernel, Options, Ran};
use brattice_tests::{
    client::Connection,
    lab::{
        AgentOptions, DNS_VIP, Lab, NETWORK, NODE_OF_BOTH, VIP_RANGE, VIP6_RANGE, Wiring, Workload, service_of,
        wait_until,
    },
    server::{Server, hex, pattern_hash},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The guest as its document says it is.
const GUEST: &str = r#"
---
kind: Workload
metadata: {name: till}
spec:
  vpcIdentifier: platform/blue
  interface: tap0
  addresses: [10.0.0.60, "fd10::60"]
  macAddress: "52:54:00:12:34:56"
"#;
const MAC: &str = "52:54:00:12:34:56";
const OTHER_MAC: &str = "52:54:00:99:99:99";
/// Its addresses, by family.
const OWN: [&str; 2] = ["10.0.0.60", "fd10::60"];
/// curl's exit code.
const TIMED_OUT: i32 = 28;
/// Many segments of any size.
const LENGTH: u64 = 1 << 20;

/// `till`, a guest of VPC blue, serves `tills` and `tills6`; `green1`, of VPC green, serves `orders` and `orders6`. Each of
/// them calls the other's. The tap is a port of a bridge, as of virtual machine managers.
struct Scene {
    // Dropped in this order: guest and server before the lab that holds their namespaces.
    guest: Guest,
    server: Server,
    green: Workload,
    lab: Lab,
}

/// In a thread of the node's namespace, where the guest finds its tap. It ends with the thread that starts it.
fn with_guest(test: impl FnOnce(&mut Scene) + Send) {
    let mut lab = Lab::new();
    let green = lab.workload("green1", "10.0.0.10", Wiring::Routed);
    lab.also(&green, "fd10::10", Wiring::Routed);
    for line in [
        "link add brblue type bridge",
        "link set brblue up",
        "tuntap add dev tap0 mode tap",
        "link set tap0 master brblue up",
    ] {
        lab.node.ip(line);
    }
    let server = Server::start(&green.namespace, "orders", 8080);
    lab.write("node.yaml", &format!("{NODE_OF_BOTH}{GUEST}"));
    lab.write("accounts/platform/network.yaml", NETWORK);
    let services = [
        service_of("orders", "green", "10.0.0.10"),
        service_of("orders6", "green", "fd10::10"),
        service_of("tills", "blue", OWN[0]),
        service_of("tills6", "blue", OWN[1]),
    ];
    lab.write("accounts/shop/services.yaml", &services.join("---"));
    lab.start_agent_with(&AgentOptions::recording());
    // Here, as nothing can be fetched from within the node.
    let kernel = Kernel::of("6.12", Path::new("../target/kernels")).unwrap();
    let node = lab.node.clone();
    node.enter(|| {
        let guest = boot(&kernel);
        let mut scene = Scene { guest, server, green, lab };
        scene.set_up();
        test(&mut scene);
    });
}

fn boot(kernel: &Kernel) -> Guest {
    let mut files = Initramfs::new(kernel).unwrap();
    files.modules(&["virtio_pci", "virtio_net"]).unwrap();
    for program in ["ip", "curl"] {
        files.program(program).unwrap();
    }
    files.shell();
    let options = Options {
        memory: 512,
        tap: Some(("tap0".into(), MAC.into())),
        within: Duration::from_secs(150),
        ..Options::default()
    };
    let guest = Guest::start(kernel, &files, &options).unwrap();
    guest.ready().unwrap();
    guest
}

impl Scene {
    #[track_caller]
    fn run(&mut self, line: &str) -> Ran {
        self.guest.run(line).unwrap()
    }

    /// It must succeed.
    #[track_caller]
    fn sh(&mut self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "`{line}` in the guest: {}", ran.text);
        ran.text
    }

    /// Addresses, routes to the VIPs, names, a server of files.
    fn set_up(&mut self) {
        for line in [
            "ip link set eth0 up".to_owned(),
            format!("ip addr add {}/16 dev eth0", OWN[0]),
            format!("ip addr add {}/64 dev eth0 nodad", OWN[1]),
            format!("echo nameserver {DNS_VIP} >/etc/resolv.conf"),
            format!("mkdir /www && head -c {LENGTH} /dev/urandom >/www/stock"),
            "busybox httpd -p 8080 -h /www".to_owned(),
        ] {
            self.sh(&line);
        }
        for range in [VIP_RANGE, VIP6_RANGE] {
            self.sh(&format!("ip route add {range} dev eth0"));
        }
    }

    /// VIPs of a service by the family of its callers and, with the name that has it as target, of its target.
    fn vips(&self, name: &str) -> [(String, SocketAddr); 2] {
        let (four, six) = (name.to_owned(), format!("{name}6"));
        let vips = (self.lab.vip(&format!("shop/{four}"), 80), self.lab.vip6(&format!("shop/{six}"), 80));
        [(four, vips.0), (six, vips.1)]
    }

    /// Gives its card another link address.
    fn link_address(&mut self, mac: &str) {
        self.sh(&format!("ip link set eth0 address {mac}"));
        assert!(self.sh("ip link show eth0").contains(mac));
    }

    /// The guest calls `orders` over one family from an address, within this many seconds.
    #[track_caller]
    fn calls(&mut self, family: usize, from: &str, within: u32) -> Ran {
        let (name, vip) = self.vips("orders")[family].clone();
        self.run(&format!(
            "curl -sS -g --max-time {within} --interface {from} -H 'host: {name}.shop.internal' http://{vip}/"
        ))
    }

    /// A call is not answered, and its packets are counted as spoofed.
    #[track_caller]
    fn spoofs(&mut self, what: &str, family: usize, from: &str) {
        let before = self.lab.drops("SpoofedSource");
        let ran = self.calls(family, from, 3);
        assert_eq!(ran.code, TIMED_OUT, "{what}: {}", ran.text);
        wait_until(&format!("{what} is counted"), Duration::from_secs(3), || self.lab.drops("SpoofedSource") > before);
    }

    /// The guest calls over both families under its own identity, and is served.
    #[track_caller]
    fn honest(&mut self) {
        for (family, own) in OWN.into_iter().enumerate() {
            let ran = self.calls(family, own, 20);
            assert!(ran.code == 0 && ran.text.contains("\"orders\""), "{own}: {}", ran.text);
        }
    }
}

fn sha256(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

#[test]
fn a_guest_calls_and_serves_as_who_it_is() {
    with_guest(|scene| {
        scene.honest();
        // By name, over the DNS VIP; what is large, with the offloads of its card.
        let up = "curl -sS --fail --max-time 60 --data-binary @/www/stock http://orders.shop.internal/hash";
        let stock = scene.sh("sha256sum /www/stock");
        let answer: Value = serde_json::from_str(&scene.sh(up)).unwrap();
        assert_eq!(answer["sha256"], sha256(&stock), "what it sent is what arrived");
        let down =
            scene.sh(&format!("curl -sS --fail --max-time 60 http://orders.shop.internal/bytes/{LENGTH} | sha256sum"));
        assert_eq!(sha256(&down), pattern_hash(LENGTH), "what was sent is what it got");
        // Its records say who called.
        for (family, own) in OWN.into_iter().enumerate() {
            let (name, vip) = scene.vips("orders")[family].clone();
            let id = format!("till-{family}");
            let line =
                format!("curl -sS -g --fail -H 'host: {name}.shop.internal' -H 'x-amzn-requestid: {id}' http://{vip}/");
            scene.sh(&line);
            let record = scene.lab.record(&id);
            assert_eq!(record["sourceWorkload"], "till", "{record}");
            let source: SocketAddr = record["sourceIpPort"].as_str().unwrap().parse().unwrap();
            assert_eq!(source.ip().to_string(), own, "{record}");
            let principal = record["attestedPrincipal"].as_str().unwrap();
            assert!(principal.contains("till"), "{record}");
            assert_eq!(record["serviceName"], format!("shop/{name}"), "{record}");
        }
        // Others call what it serves.
        for (family, (name, vip)) in scene.vips("tills").into_iter().enumerate() {
            let host = format!("{name}.shop.internal");
            let mut open: Connection = scene.green.http(vip).unwrap().with_host(&host);
            let answer = open.get("/stock", "").unwrap();
            assert_eq!((answer.status, answer.body.len() as u64), (200, LENGTH), "{name}");
            assert_eq!(hex(&Sha256::digest(&answer.body)), sha256(&stock), "{name}");
            let record = scene.lab.record(answer.header("x-amzn-requestid").unwrap());
            let target: SocketAddr = record["targetIpPort"].as_str().unwrap().parse().unwrap();
            assert_eq!((target.ip().to_string().as_str(), target.port()), (OWN[family], 8080), "{record}");
            assert_eq!(record["sourceWorkload"], "green1", "{record}");
        }
        let status = scene.lab.status();
        assert!(!status.drops.contains_key("SpoofedSource") && !status.drops.contains_key("Malformed"), "{status:?}");
    });
}

/// packets.md ingress 200
#[test]
fn packets_of_a_guest_with_another_source_are_dropped_and_counted() {
    with_guest(|scene| {
        scene.honest();
        let served = scene.server.counters.requests();
        // Another address of its VPC, which its document does not name.
        for (family, [address, rest]) in
            [["10.0.0.61", "/16 dev eth0"], ["fd10::61", "/64 dev eth0 nodad"]].into_iter().enumerate()
        {
            scene.sh(&format!("ip addr add {address}{rest}"));
            scene.spoofs(&format!("from {address}"), family, address);
        }
        assert_eq!(scene.server.counters.requests(), served);
        scene.honest();
        // Its own addresses, with another link address than its document names.
        let served = scene.server.counters.requests();
        scene.link_address(OTHER_MAC);
        for (family, own) in OWN.into_iter().enumerate() {
            scene.spoofs(&format!("{own} by another MAC"), family, own);
        }
        assert_eq!(scene.server.counters.requests(), served);
        scene.link_address(MAC);
        scene.honest();
    });
}
