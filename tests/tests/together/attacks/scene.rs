//! The node that is attacked, and what is asserted of every attack.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use brattice_abi::DropReason;
use brattice_tests::{
    client::Connection,
    lab::{Lab, NETWORK, NODE_OF_BOTH, Wiring, Workload, service_of, wait_until},
    raw::{PacketSocket, mac},
    server::Server,
};

use super::sender::{PATIENCE, SYN, Segment, Sender, host};

/// The service whose target is the server's IPv6 address. (Of its IPv4 address: `orders`.)
pub(super) const HOST6: &str = "orders6.shop.internal";
/// The service whose target is the attacker's neighbour.
pub(super) const PRICES: &str = "prices.shop.internal";
/// The attacker's addresses, and the server's in another VPC.
pub(super) const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub(super) const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0x10);
/// Its neighbour's.
pub(super) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
pub(super) const NEIGHBOUR6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0x11);
/// The node's on the attacker's bridge.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 1);
/// The first source addresses of the engine.
pub(super) const ENGINE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 64, 1)), IpAddr::V6(Ipv6Addr::new(0xfd8b, 0x2a77, 0x1c51, 0, 0, 0, 0, 1))];
/// The bridge of attacker and neighbour.
pub(super) const BRIDGE: &str = "brblue";

/// Packets to a workload, seen from inside.
pub(super) struct Watch {
    socket: PacketSocket,
    pub(super) mac: [u8; 6],
}

impl Watch {
    /// On the interface of a workload.
    pub(super) fn of(workload: &Workload) -> Self {
        Self { socket: PacketSocket::open(&workload.namespace, "eth0"), mac: mac(&workload.namespace, "eth0") }
    }

    /// IP packets that came to its MAC since the last time, but for neighbour discovery.
    pub(super) fn arrived(&self) -> Vec<Vec<u8>> {
        self.all().into_iter().filter(|frame| frame[..6] == self.mac && frame[6..12] != self.mac).collect()
    }

    /// IP packets in and out since the last time, but for neighbour discovery.
    pub(super) fn all(&self) -> Vec<Vec<u8>> {
        let mut frames = self.everything();
        frames.retain(|frame| {
            let icmpv6 = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] >= 130;
            matches!(frame[12..14], [0x08, 0] | [0x86, 0xdd]) && !icmpv6
        });
        frames
    }

    /// All frames in and out since the last time, less the tag that the kernel takes off first.
    pub(super) fn everything(&self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.socket.receive(Duration::from_millis(1))).collect()
    }

    /// Waits until nothing more comes: acknowledgments that were delayed.
    fn settle(&self) {
        while self.socket.receive(Duration::from_millis(60)).is_some() {}
    }
}

/// Whether this is the engine's end of a connection that it has kept, or an acknowledgment in it: a pool closes what is idle
/// at any time.
fn ends_or_acknowledges(frame: &[u8]) -> bool {
    Segment::of(frame).is_some_and(|segment| {
        ENGINE.contains(&segment.from.ip()) && segment.data.is_empty() && segment.flags & SYN == 0
    })
}

/// `blue1` attacks. `blue2` is its neighbour on the same bridge, calls, and serves `prices`. `green1` serves `orders` and
/// `orders6`; its addresses are the attacker's.
pub(super) struct Scene {
    // Dropped in this order: servers before the lab that holds their namespaces.
    pub(super) server: Server,
    pub(super) prices: Server,
    pub(super) sender: Sender,
    pub(super) watch: Watch,
    pub(super) neighbour_watch: Watch,
    pub(super) attacker: Workload,
    pub(super) neighbour: Workload,
    pub(super) green: Workload,
    /// Of `orders` and `orders6`.
    pub(super) vips: [SocketAddr; 2],
    /// Aliases of the server.
    pub(super) aliases: [IpAddr; 2],
    /// Aliases of the attacker.
    pub(super) own_aliases: [IpAddr; 2],
    pub(super) lab: Lab,
}

impl Scene {
    pub(super) fn start() -> Self {
        let mut lab = Lab::new();
        let both = |name: &str, address: &str, address6: &str, bridge: &str| {
            let workload = lab.workload(name, address, Wiring::Bridged(bridge));
            lab.also(&workload, address6, Wiring::Bridged(bridge));
            workload
        };
        let attacker = both("blue1", "10.0.0.10", "fd10::10", BRIDGE);
        let neighbour = both("blue2", "10.0.0.11", "fd10::11", BRIDGE);
        let green = both("green1", "10.0.0.10", "fd10::10", "brgreen");
        // As container runtimes leave a host: it forwards, and answers on the bridge.
        lab.node.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        lab.node.ip(&format!("addr add {GATEWAY}/16 dev {BRIDGE}"));
        lab.node.ip(&format!("addr add {GATEWAY6}/64 dev {BRIDGE} nodad"));
        let server = Server::start(&green.namespace, "orders", 8080);
        let prices = Server::start(&neighbour.namespace, "prices", 8080);
        lab.write("node.yaml", NODE_OF_BOTH);
        lab.write("accounts/platform/network.yaml", NETWORK);
        let services =
            [("orders", "green", "10.0.0.10"), ("orders6", "green", "fd10::10"), ("prices", "blue", "10.0.0.11")];
        let services: Vec<String> = services.iter().map(|(name, vpc, target)| service_of(name, vpc, target)).collect();
        lab.write("accounts/shop/services.yaml", &services.join("---"));
        lab.start_agent();
        let aliases_of = |interface: &str| {
            [lab.alias(interface, "10.0.0.10".parse::<IpAddr>().unwrap()), lab.alias(interface, IpAddr::from(OWN6))]
        };
        lab.alias("blue2", IpAddr::from(NEIGHBOUR));
        lab.alias("blue2", IpAddr::from(NEIGHBOUR6));
        let scene = Self {
            vips: [lab.vip("shop/orders", 80), lab.vip6("shop/orders6", 80)],
            aliases: aliases_of("green1"),
            own_aliases: aliases_of("blue1"),
            sender: Sender::of(&attacker),
            watch: Watch::of(&green),
            neighbour_watch: Watch::of(&neighbour),
            server,
            prices,
            attacker,
            neighbour,
            green,
            lab,
        };
        scene.honest();
        scene
    }

    /// Addresses of one family: the attacker's, its neighbour's, the service's, the server's alias, the attacker's alias.
    pub(super) fn families(&self) -> [Family; 2] {
        let own: [IpAddr; 2] = [OWN.into(), OWN6.into()];
        let neighbour: [IpAddr; 2] = [NEIGHBOUR.into(), NEIGHBOUR6.into()];
        [0, 1].map(|n| Family {
            own: own[n],
            neighbour: neighbour[n],
            vip: self.vips[n],
            alias: self.aliases[n],
            own_alias: self.own_aliases[n],
        })
    }

    /// The drop counters, but for what the host itself says on `brattice0`: it reports its multicast groups there.
    pub(super) fn drops(&self) -> BTreeMap<String, u64> {
        let mut drops = self.lab.status().drops;
        drops.remove(DropReason::NotForWorkload.name());
        drops
    }

    /// The attacker itself, with the same tool and fields of its own, reaches the server over both families.
    #[track_caller]
    pub(super) fn honest(&self) {
        for family in self.families() {
            let before = self.server.counters.requests();
            self.sender
                .call(family.own, family.vip, host(family.vip), |_| {})
                .unwrap_or_else(|error| panic!("the honest call to {}: {error}", family.vip));
            assert_eq!(self.server.counters.requests(), before + 1);
        }
    }

    /// What is sent is counted as exactly this, and the server sees nothing of it. Afterwards an honest call reaches it.
    #[track_caller]
    pub(super) fn refused(&self, expected: &[(DropReason, u64)], send: impl FnOnce()) {
        self.watch.settle();
        let before = self.drops();
        let counted = || -> BTreeMap<String, u64> {
            let now = self.drops();
            let rise = |(name, count): (&String, &u64)| {
                let more = count - before.get(name).copied().unwrap_or(0);
                (more > 0).then(|| (name.clone(), more))
            };
            now.iter().filter_map(rise).collect()
        };
        let expected: BTreeMap<String, u64> =
            expected.iter().map(|(reason, count)| (reason.name().to_owned(), *count)).collect();
        self.watch.arrived();
        send();
        self.sender.fence(OWN);
        let mut got = BTreeMap::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            got = counted();
            if got == expected {
                break;
            }
        }
        assert_eq!(got, expected, "drops");
        let mut seen = self.watch.arrived();
        seen.retain(|frame| !ends_or_acknowledges(frame));
        assert!(seen.is_empty(), "the server saw {seen:02x?}");
        assert_eq!(counted(), expected, "drops, a moment later");
        self.honest();
    }

    /// The neighbour calls a service, with the kernel's own stack.
    #[track_caller]
    pub(super) fn neighbour_calls(&self, vip: SocketAddr) {
        let before = self.server.counters.requests();
        self.neighbour_connects(vip).nonce("neighbour").unwrap();
        assert_eq!(self.server.counters.requests(), before + 1);
    }

    /// An open connection of the neighbour.
    #[track_caller]
    pub(super) fn neighbour_connects(&self, vip: SocketAddr) -> Connection {
        self.neighbour.http(vip).unwrap_or_else(|error| panic!("the neighbour's call: {error}")).with_host(host(vip))
    }

    /// Another workload calls the service of the attacker's neighbour.
    #[track_caller]
    pub(super) fn neighbour_serves(&self) {
        let before = self.prices.counters.requests();
        let vip = self.lab.vip("shop/prices", 80);
        assert_eq!(self.green.http(vip).unwrap().with_host(PRICES).nonce("n").unwrap().server(), "prices");
        assert_eq!(self.prices.counters.requests(), before + 1);
    }

    /// Packets that the nftables table's guard dropped.
    pub(super) fn guarded(&self) -> u64 {
        let text = self.lab.node.sh("nft -j list chain inet brattice guard");
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let rules = list["nftables"].as_array().unwrap();
        rules
            .iter()
            .filter_map(|item| item["rule"]["expr"].as_array())
            .flatten()
            .filter_map(|expression| expression["counter"]["packets"].as_u64())
            .sum()
    }

    /// [`Scene::refused`], by the nftables table.
    #[track_caller]
    pub(super) fn guarded_against(&self, count: u64, send: impl FnOnce()) {
        let before = self.guarded();
        self.refused(&[], send);
        wait_until("the guard counts it", PATIENCE, || self.guarded() >= before + count);
        assert_eq!(self.guarded(), before + count);
    }
}

/// See [`Scene::families`].
#[derive(Clone, Copy)]
pub(super) struct Family {
    pub(super) own: IpAddr,
    pub(super) neighbour: IpAddr,
    pub(super) vip: SocketAddr,
    pub(super) alias: IpAddr,
    pub(super) own_alias: IpAddr,
}
