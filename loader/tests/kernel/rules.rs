//! Rules and routes of others, such as a VPN's: ours are found first, and where they are not, that is reported.

use brattice_loader::{Datapath, cleanup};

use crate::testbed::{Testbed, sh, testbed};

/// An address of each range of `Testbed::options6`, and one of neither: alias, VIP, other.
const FAMILIES: [(&str, [&str; 3]); 2] = [
    ("-4", ["100.127.3.4", "169.254.64.40", "203.0.113.9"]),
    ("-6", ["fd00:64::3:4", "fd00:a9fe::40", "2001:db8:77::9"]),
];

/// A device with a default route of its own in table 52, as Tailscale makes it for an exit node.
fn vpn() {
    sh("ip link add tun9 type veth peer name tun8 && ip link set tun9 up && ip link set tun8 up");
    sh("ip address add 100.101.102.103/32 dev tun9 && ip -6 address add 2001:db8:9::1/64 dev tun9 nodad");
    for (family, _) in FAMILIES {
        sh(&format!("ip {family} route add default dev tun9 table 52"));
    }
}

/// The way that the kernel says, or why there is none.
fn way(family: &str, question: &str) -> String {
    sh(&format!("ip {family} route get {question} 2>&1 || true"))
}

async fn start(testbed: &Testbed) -> Datapath {
    Datapath::start(testbed.options6()).await.unwrap()
}

/// Each with what undoes it; `{}` is the family.
const LEADS_AWAY: [(&str, &str); 7] = [
    ("ip {} rule add pref 5270 lookup 52", "ip {} rule del pref 5270"),
    ("ip {} rule add pref 1 lookup 52", "ip {} rule del pref 1"),
    ("ip {} rule add pref 10 uidrange 0-4294967294 lookup 52", "ip {} rule del pref 10"),
    ("ip {} rule add pref 11 iif brattice0 lookup 52", "ip {} rule del pref 11"),
    (
        "ip {} rule add pref 20 lookup main suppress_prefixlength 0; ip {} rule add pref 21 not fwmark 0xca6c lookup 52",
        "ip {} rule del pref 20; ip {} rule del pref 21",
    ),
    ("ip {} rule add pref 7 prohibit", "ip {} rule del pref 7"),
    // As for VRFs: the table `local` is asked last.
    (
        "ip {} rule add pref 32765 lookup local; ip {} rule del pref 0; ip {} rule add pref 1000 lookup 52",
        "ip {} rule add pref 0 lookup local; ip {} rule del pref 32765; ip {} rule del pref 1000",
    ),
];

#[test]
fn our_routes_are_found_first_whatever_rules_others_add() {
    testbed(async |testbed: Testbed| {
        vpn();
        let datapath = start(&testbed).await;
        assert_eq!(datapath.detours().unwrap(), Vec::<String>::new());
        let rules = || sh("ip -4 rule; ip -6 rule");
        let untouched = rules();
        for (away, back) in LEADS_AWAY {
            for (family, [alias, vip, other]) in FAMILIES {
                let before = way(family, other);
                sh(&away.replace("{}", family));
                let repaired = datapath.repair().await.unwrap();
                let moved = away.contains("del pref 0");
                assert_eq!(repaired, if moved { vec!["rules"] } else { vec![] }, "{away}");
                // The rule is no empty word: others' packets follow it.
                if !away.contains("iif") {
                    assert_ne!(way(family, other), before, "{away}: control");
                }
                let to_alias = way(family, alias);
                assert!(to_alias.contains("dev brattice0"), "{away}: {to_alias}");
                let to_vip = way(family, &format!("{vip} from {alias} iif brattice0"));
                assert!(to_vip.contains("local"), "{away}: {to_vip}");
                assert_eq!(datapath.detours().unwrap(), Vec::<String>::new(), "{away}");
                let footprint = datapath.footprint().join("\n");
                assert_eq!(footprint.contains("rule 0: to "), moved, "{away}: {footprint}");
                sh(&back.replace("{}", family));
                assert_eq!(datapath.repair().await.unwrap(), if moved { vec!["rules"] } else { vec![] }, "{back}");
                assert_eq!(rules(), untouched, "{back}: no rule of ours is left");
            }
        }
    });
}

#[test]
fn what_comes_before_our_routes_all_the_same_is_named() {
    testbed(async |testbed: Testbed| {
        vpn();
        let datapath = start(&testbed).await;
        for (family, [alias, vip, _]) in FAMILIES {
            // Nothing can be put before this one.
            sh(&format!("ip {family} rule add pref 32765 lookup local && ip {family} rule add pref 0 lookup 52"));
            // The first with this priority goes: the kernel's own.
            sh(&format!("ip {family} rule del pref 0 lookup local"));
            datapath.repair().await.unwrap();
            let detours = datapath.detours().unwrap();
            assert_eq!(detours.len(), 2, "{detours:?}");
            for line in &detours {
                assert!(line.contains("by tun9") && line.contains("table 52, by rule 0"), "{line}");
            }
            sh(&format!("ip {family} rule del pref 0 lookup 52 && ip {family} rule add pref 0 lookup local"));
            sh(&format!("ip {family} rule del pref 32765"));
            datapath.repair().await.unwrap();
            assert_eq!(datapath.detours().unwrap(), Vec::<String>::new(), "control");

            // Parts of our ranges, where nothing is asked before them.
            for (part, what) in [(alias, "aliases"), (vip, "VIPs")] {
                for kind in ["", "blackhole "] {
                    let device = if kind.is_empty() { "dev tun9" } else { "" };
                    sh(&format!("ip {family} route add {kind}{part} {device} table local"));
                    let detours = datapath.detours().unwrap();
                    assert_eq!(detours.len(), 1, "{kind}{part}: {detours:?}");
                    assert!(detours[0].contains(part) && detours[0].contains(what), "{detours:?}");
                    assert_eq!(detours[0].contains("by tun9"), kind.is_empty(), "{detours:?}");
                    sh(&format!("ip {family} route del {kind}{part} {device} table local"));
                }
            }
            assert_eq!(datapath.detours().unwrap(), Vec::<String>::new(), "control");
        }
    });
}

#[test]
fn the_route_of_an_older_version_goes_and_cleanup_takes_rules_and_routes() {
    testbed(async |testbed: Testbed| {
        let before = sh("ip -4 rule; ip -6 rule; ip route show table all; ip -6 route show table all");
        drop(start(&testbed).await);
        let old = "ip route add 100.127.0.0/16 via 192.0.0.8 dev brattice0 onlink mtu 1500 proto 187";
        sh("ip route del 100.127.0.0/16 table local && true");
        sh(old);
        let datapath = start(&testbed).await;
        assert!(datapath.adopted());
        assert_eq!(datapath.steps(), ["alias-route"]);
        assert_eq!(sh("ip route show proto 187"), "", "none in the table main");
        let route = sh("ip route show table local proto 187");
        assert!(route.contains("100.127.0.0/16 via 192.0.0.8 dev brattice0") && route.contains("mtu 1500"), "{route}");
        // Also where the old one appears beside the new.
        sh(old);
        assert_eq!(datapath.repair().await.unwrap(), ["alias-route"]);
        assert_eq!(sh("ip route show proto 187"), "");

        for family in ["-4", "-6"] {
            sh(&format!("ip {family} rule add pref 32765 lookup local && ip {family} rule del pref 0"));
        }
        assert_eq!(datapath.repair().await.unwrap(), Vec::<&str>::new(), "it is first all the same");
        for family in ["-4", "-6"] {
            sh(&format!("ip {family} rule add pref 1000 lookup 52"));
        }
        assert_eq!(datapath.repair().await.unwrap(), ["rules"]);
        assert_eq!(sh("ip -4 rule; ip -6 rule").matches("from all to ").count(), 4);
        // One that was removed comes back.
        sh("ip rule del pref 0 to 100.127.0.0/16");
        assert_eq!(datapath.repair().await.unwrap(), ["rules"]);
        sh(old);
        drop(datapath);
        let removed = cleanup::run(&testbed.bpffs).await.unwrap().join("\n");
        assert_eq!(removed.matches("rule 0: to ").count(), 4, "{removed}");
        for family in ["-4", "-6"] {
            sh(&format!("ip {family} rule add pref 0 lookup local && ip {family} rule del pref 32765"));
            sh(&format!("ip {family} rule del pref 1000"));
        }
        assert_eq!(sh("ip -4 rule; ip -6 rule; ip route show table all; ip -6 route show table all"), before);
    });
}
