//! Floods: one workload's must not be another's trouble.

use std::{
    fs,
    time::{Duration, Instant},
};

use brattice_tests::{
    client::Load,
    lab::{NODE, Retail, forward, service, wait_until},
    raw::{PacketSocket, ipv4, mac, syn},
};

/// The MAC that answers ARP for VIPs.
const VIRTUAL_MAC: [u8; 6] = [0x02, 0x42, 0x52, 0x41, 0x54, 0x01];

#[test]
fn a_syn_flood_is_bounded_and_others_do_not_notice() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    retail.lab.write("node.yaml", &format!("{NODE}  serviceNetworks: [platform/retail]\n"));
    retail.lab.start_agent();
    let vip = retail.orders();
    let std::net::IpAddr::V4(to) = vip.ip() else { panic!("an IPv4 VIP") };
    let engine = retail.lab.engine_pid();
    let memory = || {
        let text = fs::read_to_string(format!("/proc/{engine}/status")).unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse::<u64>()
            .unwrap()
    };
    // Remembered requests take their memory first: twice as many as the two workers remember.
    assert_eq!(Load::start(&retail.blue, vip, false, 16_384).wait().failed, 0);
    let before = memory();
    let socket = PacketSocket::open(&retail.red.namespace, "eth0");
    let own = mac(&retail.red.namespace, "eth0");
    // The kernel of the flooding namespace would answer SYN-ACKs with RST, and so close each at once.
    retail.red.namespace.sh("nft add table inet silent");
    retail.red.namespace.sh("nft add chain inet silent out { type filter hook output priority 0 ; }");
    retail.red.namespace.sh("nft add rule inet silent out tcp flags rst drop");
    let load = Load::start(&retail.blue, vip, false, u64::MAX);
    let start = Instant::now();
    let mut sent = 0_u32;
    while start.elapsed() < Duration::from_secs(4) {
        for _ in 0..64 {
            let port = 1_024 + (sent % 60_000) as u16;
            let segment = syn([10, 0, 0, 10], to.octets(), port, 80, sent);
            socket.send(&ipv4(VIRTUAL_MAC, own, [10, 0, 0, 10], to.octets(), 6, &segment)).unwrap();
            sent += 1;
        }
    }
    assert!(sent > 10_000, "a flood of {sent}");
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "the other workload's calls: {:?}", tally.errors);
    assert!(tally.good > 500, "{tally:?}");
    retail.lab.dropped("HalfOpenLimit", 5_000);
    let half_open = retail.lab.node.sh("ss -Htn state syn-recv").lines().count();
    assert!(half_open <= 300, "{half_open} half-open connections are held");
    assert!(memory().saturating_sub(before) < 16 * 1024, "the engine's memory");
    // The flooder itself works again once its half-open ones are forgotten.
    retail.red.namespace.sh("nft delete table inet silent");
    wait_until("the flooder may call again", Duration::from_secs(45), || {
        retail.red.connect_within(vip, Duration::from_secs(1)).is_ok()
    });
}

#[test]
fn spoofed_and_garbled_packets_are_counted_and_calls_go_on() {
    let retail = Retail::start();
    let vip = retail.orders();
    let std::net::IpAddr::V4(to) = vip.ip() else { panic!("an IPv4 VIP") };
    let socket = PacketSocket::open(&retail.blue.namespace, "eth0");
    let own = mac(&retail.blue.namespace, "eth0");
    for number in 0..500_u16 {
        let from = [10, 0, (number >> 8) as u8, 200_u8.wrapping_add(number as u8)];
        if from == [10, 0, 0, 10] {
            continue;
        }
        socket.send(&ipv4(VIRTUAL_MAC, own, from, to.octets(), 6, &syn(from, to.octets(), 5_000, 80, 1))).unwrap();
    }
    retail.lab.dropped("SpoofedSource", 400);
    // Cut at every byte, with every protocol.
    let whole = ipv4(VIRTUAL_MAC, own, [10, 0, 0, 10], to.octets(), 6, &syn([10, 0, 0, 10], to.octets(), 5_001, 80, 1));
    for length in 14..whole.len() {
        socket.send(&whole[..length]).unwrap();
    }
    for protocol in 0..=255 {
        if protocol != 6 && protocol != 17 {
            socket.send(&ipv4(VIRTUAL_MAC, own, [10, 0, 0, 10], to.octets(), protocol, &[0; 64])).unwrap();
        }
    }
    retail.lab.dropped("UnsupportedProtocol", 200);
    let drops = retail.lab.status().drops;
    assert!(
        drops.get("Truncated").copied().unwrap_or(0) + drops.get("Malformed").copied().unwrap_or(0) > 0,
        "{drops:?}"
    );
    assert!(!retail.lab.status().recent_drops.is_empty(), "samples are shown");
    assert_eq!(retail.blue.http(vip).unwrap().nonce("n").unwrap().server(), "v1");
}
