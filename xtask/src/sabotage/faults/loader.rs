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
        search: "route.table == route::TABLE_MAIN && route.gateway == Some(GATEWAY.into()),",
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
        search: "        if routes::ensure(&mut socket, &routes::vip(self.options.vip, loopback))? {",
        replace: "        if !serving && routes::ensure(&mut socket, &routes::vip(self.options.vip, loopback))? {",
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
        search: "ip saddr {alias} ip daddr {vip} counter drop;",
        replace: "ip saddr {alias} ip daddr {vip} counter;",
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
        name: "moved-interface",
        means: "a program on an interface that left the namespace counts as attached here",
        file: "loader/src/links.rs",
        search: ".is_ok_and(|programs| programs.contains(&program_id))",
        replace: ".is_ok()",
        tests: &[kernel("pins::an_interface_in_another_namespace_is_let_go_even_where_its_index_is_taken_anew")],
    },
    Fault {
        name: "unpinnable",
        means: "pins are written wherever their path leads",
        file: "loader/src/datapath.rs",
        search: "        self.pins.check()?;\n",
        replace: "",
        tests: &[kernel("pins::without_its_file_system_the_data_path_works_on_and_is_pinned_when_it_is_back")],
    },
    Fault {
        name: "pins-unheard",
        means: "a removed pin is not told",
        file: "loader/src/pin_watch.rs",
        search: "told |= only.is_none() || only == event.name;",
        replace: "told |= only.is_some() && only == event.name;",
        tests: &[kernel("pins::a_removed_pin_is_told_and_put_back")],
    },
    Fault {
        name: "astray",
        means: "what comes by brattice0 may be forwarded",
        file: "loader/src/nft.rs",
        search: "iifname \\\"{DEVICE}\\\" counter drop;",
        replace: "iifname \\\"lo\\\" counter drop;",
        tests: &[test("brattice-tests", "together", "mended::what_is_removed_under_load_is_mended_and_nothing_strays")],
    },
    Fault {
        name: "namespace-symlink",
        means: "a symlink to a namespace is followed",
        file: "loader/src/interfaces/places.rs",
        search: "OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC",
        replace: "OFlag::O_PATH | OFlag::O_CLOEXEC",
        tests: &[kernel("places::a_path_leads_to_a_namespace_or_is_told_for_what_it_is")],
    },
    Fault {
        name: "cgroup-events",
        means: "processes that enter a cgroup are not told",
        file: "loader/src/interfaces/place_watch.rs",
        search: "told |= !file || telling;",
        replace: "told |= !file && telling;",
        tests: &[kernel("places::processes_of_a_cgroup_lead_to_their_namespace_by_event")],
    },
];
