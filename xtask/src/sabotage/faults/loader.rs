//! In the loader.

use super::{Fault, Test, test};

/// A test against the kernel, in network namespaces of its own.
const fn kernel(name: &'static str) -> Test {
    test("brattice-loader", "kernel", name)
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "cleanup-route",
        means: "cleanup leaves the VIP route",
        file: "loader/src/cleanup.rs",
        search: "    drop_routes(&mut socket, route::LOCAL, &mut removed)?;\n",
        replace: "",
        tests: &[kernel("cleanup::cleanup_leaves_the_node_as_it_was")],
    },
    Fault {
        name: "cleanup-foreign-route",
        means: "cleanup removes a foreign route with our protocol number",
        file: "loader/src/routes.rs",
        search: "route.table == route::TABLE_MAIN && route.gateway == Some(gateway(route.destination)),",
        replace: "route.table == route::TABLE_MAIN,",
        tests: &[kernel("cleanup::cleanup_leaves_the_node_as_it_was")],
    },
    Fault {
        name: "cleanup-running",
        means: "cleanup does not look for a running agent",
        file: "loader/src/cleanup.rs",
        search: "    let lock = pins.lock()?;\n",
        replace: "    let lock = pins.lock().ok().flatten();\n",
        tests: &[kernel("cleanup::cleanup_leaves_the_node_as_it_was")],
    },
    Fault {
        name: "route-not-repaired",
        means: "a VIP route that vanishes is not put back",
        file: "loader/src/datapath.rs",
        search: "        if routes::ensure(&mut socket, &routes::vip(self.options.vip.into(), loopback))? {",
        replace: "        if !serving && routes::ensure(&mut socket, &routes::vip(self.options.vip.into(), loopback))? {",
        tests: &[kernel("start::what_vanishes_is_put_back_by_its_event")],
    },
    Fault {
        name: "route-before-listener",
        means: "the VIP route is there before vip_listener is attached",
        file: "loader/src/datapath.rs",
        search: "        if self.ensure_listener(state)? {\n",
        replace: "        let lo = routes::loopback(&mut socket)?;\n        \
                  if routes::ensure(&mut socket, &routes::vip(self.options.vip, lo))? {\n            \
                  done.push(\"vip-route\");\n        }\n        if self.ensure_listener(state)? {\n",
        tests: &[kernel("start::the_listener_is_attached_before_its_route")],
    },
    Fault {
        name: "notrack",
        means: "brattice0 is tracked",
        file: "loader/src/nft.rs",
        search: "iifname \\\"{DEVICE}\\\" notrack;\\n",
        replace: "iifname \\\"{DEVICE}\\\" accept;\\n",
        tests: &[
            kernel("start::a_start_puts_everything_there"),
            kernel("start::what_vanishes_is_put_back_by_its_event"),
        ],
    },
    Fault {
        name: "forged-segments",
        means: "packets from an alias reach connections from any interface",
        file: "loader/src/nft.rs",
        search: "{family} saddr {alias} {family} daddr {vip} counter drop;",
        replace: "{family} saddr {alias} {family} daddr {vip} counter;",
        tests: &[kernel("guard::packets_from_elsewhere_reach_no_connection")],
    },
    Fault {
        name: "other-protocols",
        means: "a VIP answers ICMP and the like on any interface",
        file: "loader/src/nft.rs",
        search: "meta l4proto != udp counter drop;",
        replace: "meta l4proto != udp counter;",
        tests: &[kernel("guard::packets_from_elsewhere_reach_no_connection")],
    },
    Fault {
        name: "waiting-poser",
        means: "a user of the host waits at the address of a service",
        file: "loader/src/nft.rs",
        search: "counter reject with tcp reset;",
        replace: "counter;",
        tests: &[kernel("guard::nobody_waits_at_the_address_of_a_service")],
    },
    Fault {
        name: "other-ranges",
        means: "a running data path with other ranges is adopted",
        file: "loader/src/datapath.rs",
        search: "        adopt::same_ranges(&maps, &options)?;\n",
        replace: "        let _ = adopt::same_ranges;\n",
        tests: &[kernel("start::other_ranges_than_the_running_ones_are_refused")],
    },
    Fault {
        name: "layout",
        means: "the schema's folder is not looked at",
        file: "loader/src/datapath.rs",
        search: "        pins.check()?;\n",
        replace: "",
        tests: &[kernel("start::pins_of_another_schema_are_refused_untouched")],
    },
    Fault {
        name: "dns-socket-owner",
        means: "the DNS socket stays root's",
        file: "loader/src/sockets/mod.rs",
        search: "    own(&socket, uid)?;\n",
        replace: "    let _ = uid;\n",
        tests: &[kernel("sockets::the_dns_socket_belongs_to_the_engine")],
    },
    Fault {
        name: "guards-ipv6",
        means: "the nftables table guards IPv4 alone",
        file: "loader/src/nft.rs",
        search: "all.extend(options.ipv6.map(|ipv6| Guarded {",
        replace: "all.extend(options.ipv6.filter(|_| false).map(|ipv6| Guarded {",
        tests: &[
            kernel("ipv6::packets_from_elsewhere_reach_no_connection"),
            kernel("ipv6::nobody_waits_at_the_address_of_a_service"),
        ],
    },
    Fault {
        name: "ipv6-off-and-on",
        means: "what IPv6 took with it when it was turned off is not put back",
        file: "loader/src/datapath.rs",
        search: "            if routes::ensure(&mut socket, &routes::vip(ipv6.vip.into(), loopback))? {",
        replace: "            if !serving && routes::ensure(&mut socket, &routes::vip(ipv6.vip.into(), loopback))? {",
        tests: &[kernel("ipv6::what_vanishes_is_put_back_by_its_event")],
    },
    Fault {
        name: "passing-addresses",
        means: "temporary, deprecated and duplicate IPv6 addresses are a workload's",
        file: "loader/src/interfaces/inventory.rs",
        search: "a.ifindex == ifindex && !a.passing",
        replace: "a.ifindex == ifindex",
        tests: &[kernel("ipv6::addresses_that_do_not_last_are_nobodys")],
    },
    Fault {
        name: "clsact-others",
        means: "cleanup takes a clsact that was there before",
        file: "loader/src/filters.rs",
        search: "    if made_here && left == 0 {",
        replace: "    if left == 0 {",
        tests: &[kernel("clsact::clsact_goes_only_if_it_was_made_here_and_nobody_uses_it")],
    },
    Fault {
        name: "clsact-used",
        means: "a clsact that somebody else uses goes with our filter",
        file: "loader/src/filters.rs",
        search: "    if made_here && left == 0 {",
        replace: "    if made_here {",
        tests: &[kernel("clsact::clsact_goes_only_if_it_was_made_here_and_nobody_uses_it")],
    },
    Fault {
        name: "filter-taken",
        means: "our filter is not the first where somebody has its place",
        file: "loader/src/filters.rs",
        search: "pub(crate) const PREFERENCE: u16 = 1;",
        replace: "pub(crate) const PREFERENCE: u16 = 3;",
        tests: &[
            kernel("clsact::filters_are_the_first_of_all_and_told_as_such"),
            kernel("clsact::a_place_that_somebody_has_is_refused_and_left_alone"),
        ],
    },
    Fault {
        name: "filter-unwatched",
        means: "nobody notices that a queueing discipline was removed",
        file: "loader/src/interfaces/watch.rs",
        search: "\n            | libc::RTM_DELQDISC\n            | libc::RTM_DELTFILTER",
        replace: "",
        tests: &[kernel("clsact::what_others_take_away_is_noticed_and_put_back")],
    },
    Fault {
        name: "filter-left",
        means: "cleanup leaves filters that no pin stands for",
        file: "loader/src/cleanup.rs",
        search: "    removed.extend(filters::sweep(&mut socket)?);\n",
        replace: "",
        tests: &[kernel("clsact::cleanup_takes_filters_and_our_clsact_and_nothing_else")],
    },
    Fault {
        name: "cni-filter-unseen",
        means: "programs in tc filters are not seen",
        file: "loader/src/interfaces/programs.rs",
        search: "    if filtered.contains(&ifindex) {\n",
        replace: "    if filtered.len() > 4096 {\n",
        tests: &[kernel("foreign::the_inventory_names_everybody_elses_programs_tcx_and_tc")],
    },
];
