//! DNS over IPv6: a resolver that is reached by it, and answers that no datagram holds.

use std::net::{IpAddr, Ipv6Addr};

use brattice_tests::{
    lab::{DNS_VIP, DNS_VIP6, Workload},
    server::Resolver,
};

use super::{NODE, Six};

const ELSEWHERE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// A node whose VPCs blue and dual ask a resolver beside it that has an IPv6 address only.
fn with_resolver(names: &[(&str, &[IpAddr])]) -> (Six, Resolver) {
    let mut six = Six::prepare();
    let neighbour = six.lab.neighbour();
    neighbour.ip("addr del 192.168.77.2/24 dev eth0");
    six.lab.node.ip("addr add fd77::1/64 dev up0 nodad");
    neighbour.ip("addr add fd77::2/64 dev eth0 nodad");
    let resolver = Resolver::start(&neighbour, names);
    let mut node = NODE.to_owned();
    for vpc in ["blue", "dual"] {
        let wish = format!("attachments: [{{interface: \"{vpc}*\"}}]");
        node = node.replace(&wish, &format!("{wish}\n  dnsUpstreams: [\"fd77::2\"]"));
    }
    six.lab.write("node.yaml", &node);
    six.lab.start_agent();
    (six, resolver)
}

#[test]
fn other_names_come_from_a_resolver_of_ipv6_without_addresses_of_ours() {
    let orders: IpAddr = ELSEWHERE.into();
    let (vip, alias) = ("fd8b:2a77:1c51::8000:0:0:1", "fdc4:90e6:5b0d::9");
    let mapped = "::ffff:169.254.64.40";
    let ours = [vip, alias, mapped].map(|address| address.parse().unwrap());
    let rebind: Vec<IpAddr> = ours.into_iter().chain([orders]).collect();
    let (six, resolver) =
        with_resolver(&[("www.example", &[orders]), ("rebind.example", &rebind), ("orders.shop.internal", &[orders])]);
    let server = format!("@{DNS_VIP6}");
    let asked = |from: &Workload, name: &str, transport: &str| from.dig_at(&server, &[name, "AAAA", transport]);
    for transport in ["+notcp", "+tcp"] {
        for name in ["www.example", "rebind.example"] {
            let (status, answers) = asked(&six.blue, name, transport);
            assert_eq!((status.as_str(), answers.len()), ("NOERROR", 1), "{name} {transport}: {answers:?}");
            assert!(answers[0].ends_with(&ELSEWHERE.to_string()), "{name} {transport}: {answers:?}");
        }
        assert_eq!(asked(&six.blue, "missing.example", transport).0, "NXDOMAIN", "{transport}");
        // A VPC without a resolver gets no answer of another VPC's.
        assert_eq!(asked(&six.green, "www.example", transport).0, "NXDOMAIN", "{transport}");
    }
    let before = resolver.questions();
    let (_, answers) = asked(&six.blue, "orders.shop.internal", "+notcp");
    let own = six.lab.vip6("shop/orders", 80).ip().to_string();
    assert!(answers.len() == 1 && answers[0].ends_with(&own), "ours is asked first: {answers:?}");
    assert_eq!(resolver.questions(), before, "names of ours never leave the node");
    assert!(!six.lab.status().drops.contains_key("EngineReach"));
}

/// Whether the answer was cut, and how many records it has. A `+ignore` keeps dig from asking again over TCP.
fn asked(from: &Workload, server: IpAddr, words: &[&str]) -> (bool, usize) {
    let at = format!("@{server}");
    let mut line = vec!["dig", "+tries=2", "+time=4", "+noall", "+comments", "+answer", &at];
    line.extend_from_slice(words);
    let text = from.namespace.run(&line).stdout;
    let flags = text.lines().find_map(|line| line.split("flags:").nth(1)?.split(';').next()).unwrap_or_default();
    let records = text.lines().filter(|line| !line.starts_with(';') && line.contains("AAAA")).count();
    assert!(text.contains("status: NOERROR"), "{words:?} at {server}: {text}");
    (flags.split_whitespace().any(|flag| flag == "tc"), records)
}

/// Each record has 28 bytes.
#[test]
fn an_answer_too_long_for_a_datagram_is_cut_and_whole_over_tcp() {
    let many: Vec<IpAddr> =
        (0..60).map(|number| IpAddr::from(Ipv6Addr::from_bits(ELSEWHERE.to_bits() + number))).collect();
    let (six, _resolver) = with_resolver(&[("long.example", &many), ("fits.example", &many[..40])]);
    for (from, server) in
        [(&six.blue, IpAddr::from(DNS_VIP6)), (&six.dual, DNS_VIP6.into()), (&six.dual, DNS_VIP.into())]
    {
        let ask = |words: &[&str]| asked(from, server, words);
        let large = "+bufsize=4096";
        assert_eq!(ask(&["fits.example", "AAAA", "+notcp", "+ignore", large]), (false, 40), "{server}");
        assert_eq!(ask(&["long.example", "AAAA", "+notcp", "+ignore", large]), (true, 0), "{server}");
        assert_eq!(ask(&["long.example", "AAAA", "+tcp"]), (false, 60), "{server}");
        // As a resolver of a workload does by itself.
        assert_eq!(ask(&["long.example", "AAAA", large]), (false, 60), "{server}");
        // A client that takes less gets less.
        assert_eq!(ask(&["fits.example", "AAAA", "+notcp", "+ignore", "+bufsize=512"]), (true, 0), "{server}");
        assert_eq!(ask(&["fits.example", "AAAA", "+notcp", "+ignore", "+noedns"]), (true, 0), "{server}");
    }
}
