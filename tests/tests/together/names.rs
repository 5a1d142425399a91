//! DNS: names of services, other names, interception.

use std::net::{IpAddr, Ipv4Addr};

use brattice_tests::{
    lab::{NODE, Retail, forward, service},
    server::Resolver,
};

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

/// packets.md host 20: … of the DNS socket to a workload's alias (an answer) | goes on | –
#[test]
fn names_resolve_only_for_vpcs_that_may_see_the_service() {
    let retail = Retail::start();
    let vip = retail.orders().ip().to_string();
    let names = retail.lab.service("shop/orders").names;
    // The names of its own first.
    assert_eq!(names[0], "orders.shop.internal");
    assert!(names[1].ends_with(".svc.brattice.internal") && names[1].starts_with("orders-"), "{names:?}");
    for name in &names {
        for transport in ["+notcp", "+tcp"] {
            let (status, answers) = retail.blue.dig(&[name, "A", transport]);
            assert_eq!((status.as_str(), answers.len()), ("NOERROR", 1), "{name} {transport}");
            let words: Vec<&str> = answers[0].split(' ').collect();
            assert!(words[0].parse::<u32>().unwrap() <= 30, "TTL of {}", answers[0]);
            assert_eq!(words[3], vip);
            assert_eq!(retail.red.dig(&[name, "A", transport]).0, "NXDOMAIN", "red asks for {name} {transport}");
        }
        // In any case; and without IPv6 it exists, but has no AAAA.
        assert_eq!(retail.blue.dig(&[&name.to_uppercase(), "A"]).0, "NOERROR");
        assert_eq!(retail.blue.dig(&[name, "AAAA"]), ("NOERROR".to_owned(), vec![]));
        assert_eq!(retail.blue.fetch(&[&format!("http://{name}/")]).0, 200, "curl by {name}");
    }
    assert_eq!(retail.blue.dig(&["nobody.svc.brattice.internal", "A"]).0, "NXDOMAIN");
}

/// packets.md host 10
#[test]
fn other_names_come_from_the_upstream_without_addresses_of_ours() {
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    let neighbour = retail.lab.neighbour();
    let ours = [Ipv4Addr::new(169, 254, 64, 40).into(), Ipv4Addr::new(100, 127, 0, 9).into(), ELSEWHERE];
    let upstream = Resolver::start(
        &neighbour,
        &[("www.example", &[ELSEWHERE]), ("rebind.example", &ours), ("orders.shop.internal", &[ELSEWHERE])],
    );
    retail.lab.write("node.yaml", &NODE.replace("serviceNetworks: [platform/retail]\n---\nkind: Vpc\nmetadata: {name: green}", "dnsUpstreams: [192.168.77.2]\n  serviceNetworks: [platform/retail]\n---\nkind: Vpc\nmetadata: {name: green}"));
    retail.lab.start_agent();
    for transport in ["+notcp", "+tcp"] {
        let (status, answers) = retail.blue.dig(&["www.example", "A", transport]);
        assert_eq!(
            (status.as_str(), answers.iter().any(|line| line.ends_with("203.0.113.7"))),
            ("NOERROR", true),
            "{transport}: {answers:?}"
        );
        let (_, answers) = retail.blue.dig(&["rebind.example", "A", transport]);
        assert_eq!(answers.len(), 1, "addresses of our ranges are removed: {answers:?}");
        assert!(answers[0].ends_with("203.0.113.7"), "{answers:?}");
    }
    assert_eq!(retail.blue.dig(&["missing.example", "A"]).0, "NXDOMAIN");
    let before = upstream.questions();
    let (_, answers) = retail.blue.dig(&["orders.shop.internal", "A"]);
    assert!(answers[0].ends_with(&retail.orders().ip().to_string()), "ours is asked first: {answers:?}");
    assert_eq!(upstream.questions(), before, "names of ours never leave the node");
    assert_eq!(retail.red.dig(&["www.example", "A"]).0, "NXDOMAIN", "red has no upstream");
}

#[test]
fn intercepted_port_53_answers_from_the_address_that_was_asked() {
    let documents = NODE
        .replace("attachments: [{interface: \"blue*\"}]", "attachments: [{interface: \"blue*\"}]\n  dns: intercept");
    let mut retail = Retail::prepare(&service(&forward(1, 0)));
    retail.lab.write("node.yaml", &documents);
    retail.lab.start_agent();
    let vip = retail.orders().ip().to_string();
    for transport in ["+notcp", "+tcp"] {
        // dig takes no answer from another address than it asked.
        let (status, answers) = retail.blue.dig_at("@198.51.100.1", &["orders.shop.internal", "A", transport]);
        assert_eq!((status.as_str(), answers.len()), ("NOERROR", 1), "{transport}: {answers:?}");
        assert!(answers[0].ends_with(&vip), "{transport}: {answers:?}");
        assert_eq!(
            retail.red.dig_at("@198.51.100.1", &["orders.shop.internal", "A", transport]).0,
            "NO ANSWER",
            "red is not intercepted"
        );
    }
    let (status, _) = retail.blue.dig(&["orders.shop.internal", "A"]);
    assert_eq!(status, "NOERROR", "the DNS VIP answers as well");
}

#[test]
fn many_questions_at_once_are_all_answered() {
    let retail = Retail::start();
    let vip = retail.orders().ip().to_string();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let (status, answers) = retail.blue.dig(&["orders.shop.internal", "A"]);
                    assert_eq!(status, "NOERROR");
                    assert!(answers[0].ends_with(&vip));
                }
            });
        }
    });
    let dns = retail.lab.status().engine.stats.unwrap().dns;
    assert!(dns[0] >= 80, "{dns:?}");
}
