//! A workload with root in its namespace sends what it likes. The numbered list of attacks is also SECURITY.md's.

mod connections;
mod destinations;
mod floods;
mod headers;
mod icmp;
mod link;
mod race;
mod scene;
mod sender;
mod sources;

use std::{
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use brattice_abi::DropReason;

use self::scene::Scene;

/// One attack. Its number is its place in [`ATTACKS`], from 1.
struct Attack {
    /// What the attacker does.
    what: &'static str,
    /// What happens to it; names in backticks are the drop reasons that are counted, and no others are.
    outcome: &'static str,
    /// Name of its function.
    name: &'static str,
    run: fn(&Scene),
}

macro_rules! attacks {
    ($($module:ident::$name:ident: $what:literal => $outcome:literal;)*) => {
        &[$(Attack {
            what: $what,
            outcome: $outcome,
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: $module::$name,
        }),*]
    };
}

/// The last one leaves the attacker locked out.
const ATTACKS: &[Attack] = attacks! {
    sources::address_of_no_workload: "sends from an address that no workload has" => "`SpoofedSource`";
    sources::a_neighbours_address: "sends from its neighbour's address" => "`SpoofedSource`";
    sources::a_neighbours_address_on_its_own_interface: "gives its interface its neighbour's address" => "`SpoofedSource`; `brattice workloads` says `AddressConflict`";
    sources::an_alias: "sends from an alias, another's or its own" => "`FromReserved`";
    sources::a_vip: "sends from a VIP: a service's, the engine's, that of DNS" => "`FromReserved`";
    sources::anothers_mac: "sends with its neighbour's MAC" => "served under its own identity; the neighbour gets nothing";
    destinations::the_alias_of_another: "sends to another's alias" => "`ToAlias`";
    destinations::its_own_alias: "sends to its own alias" => "`ToAlias`";
    destinations::the_engines_own_sockets: "sends to the engine's addresses and ports, also by the MAC of `brattice0`" => "`NoListener`";
    destinations::daemons_of_the_host: "calls daemons of the host through a VIP" => "`NoListener`";
    destinations::other_protocols: "pings a VIP, sends tunnels and SCTP to it" => "`UnsupportedProtocol`";
    connections::segments_into_them: "sends RST, ACK and data with the right numbers into its neighbour's connection, also behind tags of VLAN 0" => "`SpoofedSource`, `FromReserved`";
    link::arp_for_a_vip: "announces a VIP's address as its own by ARP" => "answered; the neighbour's calls do not go through it";
    link::arp_for_a_neighbour: "announces its neighbour's address and uses its MAC" => "calls to the neighbour's service still reach the neighbour";
    link::advertisements_of_a_vip: "advertises a VIP's address as its own by NDP, also behind tags of VLAN 0" => "`FromReserved` from the VIP; otherwise the neighbour's calls do not go through it";
    link::router_advertisements: "gives the host a route into the alias range by a router advertisement" => "the route to aliases stays in use";
    link::vlan_tags: "hides packets in VLAN tags" => "other VLAN ids: not taken; VLAN id 0 (priority only): handled as without tags (`SpoofedSource`, `FromReserved`, `ToAlias`); more than six tags: `TooManyTags`";
    icmp::errors_to_a_vip: "sends ICMP errors about others' packets to a VIP" => "`IcmpForeign`, `IcmpQuote`, `UnsupportedProtocol`, `FromReserved`";
    icmp::errors_to_the_host: "sends ICMP errors about packets to aliases to the host, whole and in fragments" => "dropped by the nftables table";
    headers::source_routes: "sends IPv4 source route options" => "`SourceRouted`";
    headers::routing_headers: "sends IPv6 routing headers" => "`SourceRouted`";
    headers::too_many_headers: "sends too many IPv6 headers, in a wrong order, cut off" => "`TooManyHeaders`, `Malformed`, `Truncated`";
    headers::fragments: "cuts TCP headers into fragments, overlaps fragments" => "`Truncated`, `Malformed`; overlapping fragments are never reassembled";
    race::before_attachment: "sends before its interface is attached" => "`UnattestedPeer`; from an alias dropped by the nftables table";
    floods::datagrams: "floods a VIP with datagrams" => "`NoListener`; others' calls go on";
    floods::half_open_connections: "floods a VIP with SYNs, also with ACKs of made-up numbers" => "`HalfOpenLimit`; others' calls and its open connections go on";
};

/// The reasons that an outcome names.
fn reasons(outcome: &str) -> BTreeSet<&str> {
    let names: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    outcome.split('`').filter(|word| names.contains(word)).collect()
}

/// packets.md vip 80: ICMP error or redirect to the host, by another interface than `brattice0`, about a packet to an
///   alias | dropped by the nftables table: no router sees such packets | the rule's own
#[test]
fn each_attack_is_counted_by_its_reason_and_reaches_no_target() {
    let scene = Scene::start();
    let mut failed = Vec::new();
    for attack in ATTACKS {
        let before = scene.drops();
        let done = catch_unwind(AssertUnwindSafe(|| {
            (attack.run)(&scene);
            let after = scene.drops();
            let risen = after.iter().filter(|(name, count)| before.get(*name) != Some(count));
            let risen: BTreeSet<&str> = risen.map(|(name, _)| name.as_str()).collect();
            assert_eq!(risen, reasons(attack.outcome), "reasons of {}", attack.name);
        }));
        if done.is_err() {
            failed.push(attack.name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn the_list_is_that_of_the_page() {
    let page = "../SECURITY.md";
    let page = fs::read_to_string(page).unwrap();
    let shown: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| # |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let expected: Vec<String> = ATTACKS
        .iter()
        .enumerate()
        .map(|(number, attack)| {
            format!("| {} | {} | {} | `{}` |", number + 1, attack.what, attack.outcome, attack.name)
        })
        .collect();
    assert_eq!(shown, expected, "the table of SECURITY.md");
}
