//! In the programs of the kernel: what only IPv6 has, or has in a file of its own.

use super::{Fault, Test, test};

/// A test by `BPF_PROG_TEST_RUN`, or of the programs between network namespaces.
const fn packets(name: &'static str) -> Test {
    test("brattice-tests", "packets", name)
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "ipv6-anti-spoof",
        means: "any IPv6 source is taken for the workload's",
        file: "ebpf/src/workload_ingress.rs",
        search: "let key = WorkloadKey { ifindex, address: source_key };",
        replace: "let mut words = source_key.words();\n    if words[0] != 0 {\n        words = [0x10fd, 0, 0, \
                  0x10000000];\n    }\n    let key = WorkloadKey { ifindex, address: \
                  brattice_abi::Address::from_words(words) };",
        tests: &[packets("ipv6::ingress::spoofed_source_is_dropped")],
    },
    Fault {
        name: "ipv6-checksum",
        means: "the checksum over IPv6 addresses is mended by nothing",
        file: "ebpf/src/rewrite.rs",
        search: "bpf_csum_diff(from.as_mut_ptr(), LEN, to.as_mut_ptr(), LEN, 0)",
        replace: "bpf_csum_diff(to.as_mut_ptr(), LEN, to.as_mut_ptr(), LEN, 0)",
        tests: &[packets("ipv6::ingress::any_length_of_payload_keeps_its_checksum")],
    },
    Fault {
        name: "ipv6-udp-zero",
        means: "UDP over IPv6 needs no checksum",
        file: "ebpf/src/ipv6.rs",
        search: "            needs_checksum: true,",
        replace: "            needs_checksum: false,",
        tests: &[packets("ipv6::ingress::udp_without_a_checksum_is_dropped")],
    },
    Fault {
        name: "ipv6-vip-range",
        means: "the IPv6 VIP range is half as long",
        file: "ebpf/src/config.rs",
        search: "        (a[0] ^ net[0]) | (a[1] ^ net[1]) == 0\n",
        replace: "        (a[0] ^ net[0]) | (a[1] ^ net[1]) | a[2] & 0x80 == 0\n",
        tests: &[packets("ipv6::ingress::tcp_to_a_vip_is_taken")],
    },
    Fault {
        name: "ipv6-alias-range",
        means: "the IPv6 alias range is a /64",
        file: "ebpf/src/config.rs",
        search: "from_ne_bytes([0xff, 0xff, 0, 0])",
        replace: "from_ne_bytes([0xff, 0xff, 0xff, 0xff])",
        tests: &[packets("ipv6::ingress::to_an_alias_is_dropped")],
    },
    Fault {
        name: "ipv6-engine-source",
        means: "engine sources are told by the last word alone",
        file: "ebpf/src/config.rs",
        search: " && a[2] == 0",
        replace: "",
        tests: &[packets("ipv6::egress::a_syn_from_a_vip_that_is_no_engine_source_is_dropped")],
    },
    Fault {
        name: "ipv6-unasked",
        means: "a node without IPv6 takes it",
        file: "ebpf/src/config.rs",
        search: "    config.vip_net6.words()[0] != 0",
        replace: "    config.ready != 0",
        tests: &[packets("ipv6::ingress::a_node_without_ipv6_leaves_it_alone")],
    },
    Fault {
        name: "ipv6-fall-through",
        means: "an IPv6 VIP falls through to the host",
        file: "ebpf/src/vip_listener.rs",
        search: "if !config::has_ipv6(config) || !config.is_vip(vip) {",
        replace: "if config.ready != 0 || !config::has_ipv6(config) || !config.is_vip(vip) {",
        tests: &[packets("ipv6::listener::host_daemons_are_not_reached_through_a_vip")],
    },
    Fault {
        name: "header-bound",
        means: "what has too many extension headers is judged by the last one read",
        file: "ebpf/src/ipv6.rs",
        search: "    TOO_MANY << REASON_SHIFT\n",
        replace: "    let _ = TOO_MANY;\n    (next as u64) << PROTOCOL_SHIFT | (fragment as u64) << OFFSET_SHIFT | len as u64\n",
        tests: &[packets("ipv6::headers::more_than_the_bound_are_dropped")],
    },
    Fault {
        name: "header-cut",
        means: "extension headers may end behind the packet",
        file: "ebpf/src/ipv6.rs",
        search: "        if len > payload {",
        replace: "        if len > payload && payload == u32::MAX {",
        tests: &[packets("ipv6::malformed::frames_cut_at_every_byte")],
    },
    Fault {
        name: "source-routed",
        means: "routing headers may name a way",
        file: "ebpf/src/ipv6.rs",
        search: "(kind == 0 || segments_left != 0)",
        replace: "(kind == 0 && segments_left == 77)",
        tests: &[packets("ipv6::headers::routing_headers_that_name_a_way_are_dropped")],
    },
    Fault {
        name: "late-hop-by-hop",
        means: "hop-by-hop options may be anywhere",
        file: "ebpf/src/ipv6.rs",
        search: "if next == HOP_BY_HOP && turn != 0 {",
        replace: "if next == HOP_BY_HOP && turn == 77 {",
        tests: &[packets("ipv6::headers::hop_by_hop_options_are_first_or_dropped")],
    },
    Fault {
        name: "ipv6-later-fragments",
        means: "every fragment is taken for the first",
        file: "ebpf/src/ipv6.rs",
        search: "            first: chain.fragment_offset == 0,",
        replace: "            first: true,",
        tests: &[packets("ipv6::fragments::each_of_a_udp_datagram_is_taken")],
    },
    Fault {
        name: "ipv6-fragment-user",
        means: "later fragments that hide their protocol are delivered, whoever sends them",
        file: "ebpf/src/workload_egress.rs",
        search: "None if checked.protocol != IPPROTO_TCP && ",
        replace: "None if checked.protocol == IPPROTO_UDP && ",
        tests: &[packets("ipv6::fragments::later_ones_of_others_are_not_delivered")],
    },
    Fault {
        name: "ndp-all",
        means: "neighbour solicitations are answered for any address",
        file: "ebpf/src/ndp.rs",
        search: " || !config.is_vip(message.target)",
        replace: "",
        tests: &[packets("ipv6::ndp::a_solicitation_for_another_address_passes")],
    },
    Fault {
        name: "ndp-hop-limit",
        means: "neighbour solicitations from afar are answered",
        file: "ebpf/src/ndp.rs",
        search: " || header.hop_limit != HOP_LIMIT",
        replace: "",
        tests: &[packets("ipv6::ndp::odd_solicitations_pass")],
    },
    Fault {
        name: "ndp-options",
        means: "neighbour solicitations with broken options are answered",
        file: "ebpf/src/ndp.rs",
        search: "    offset == payload\n",
        replace: "    true\n",
        tests: &[packets("ipv6::ndp::odd_solicitations_pass")],
    },
    Fault {
        name: "ndp-probe",
        means: "nobody learns that the VIP they want is taken",
        file: "ebpf/src/ndp.rs",
        search: "(ALL_NODES, ALL_NODES_MAC, OVERRIDE)",
        replace: "(UNSPECIFIED, ALL_NODES_MAC, OVERRIDE)",
        tests: &[packets("ipv6::listener::a_workload_cannot_have_a_vip")],
    },
    Fault {
        name: "ndp-checksum",
        means: "advertisements have no checksum",
        file: "ebpf/src/ndp.rs",
        search: "    answer.message.checksum = rewrite::checksum(&mut answer, 0);",
        replace: "    answer.message.checksum = rewrite::checksum(&mut answer, 0) & 0;",
        tests: &[packets("ipv6::ndp::a_solicitation_for_a_vip_is_answered")],
    },
];
