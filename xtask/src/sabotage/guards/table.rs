//! All guards.

use super::{
    Guard, Operator,
    Operator::{Always, Default, Dropped, False, Never, Passed, True},
    Program, Test,
};

const fn guard(name: &'static str, means: &'static str, operator: Operator, tests: &'static [Test]) -> Guard {
    Guard { name, means, operator, tests }
}

const fn unit(folder: &'static str, name: &'static str) -> Test {
    Test { program: Program::Unit(folder), name }
}

const fn control(name: &'static str) -> Test {
    unit("agent/control", name)
}

const fn sources(name: &'static str) -> Test {
    unit("agent/sources", name)
}

const fn of(folder: &'static str, program: &'static str, name: &'static str) -> Test {
    Test { program: Program::Of(folder, program), name }
}

const fn packets(name: &'static str) -> Test {
    of("tests", "packets", name)
}

const fn together(name: &'static str) -> Test {
    of("tests", "together", name)
}

const fn kernel(name: &'static str) -> Test {
    of("loader", "kernel", name)
}

const fn http(name: &'static str) -> Test {
    of("agent/engine", "http", name)
}

const fn auth(name: &'static str) -> Test {
    of("agent/engine", "auth", name)
}

const fn process(name: &'static str) -> Test {
    of("agent/engine", "process", name)
}

/// All of them: what workloads send, what reaches workloads, the host, the engine's sandbox, shares, HTTP, policies, the agent.
pub(in crate::sabotage) const GUARDS: &[Guard] = &[
    guard(
        "spoofed-source",
        "a workload sends from an address that is not its own",
        Passed,
        &[packets("ingress::ipv4::spoofed_source_is_dropped"), packets("ingress::ipv6::spoofed_source_is_dropped")],
    ),
    guard(
        "documented-mac",
        "a guest is served with any MAC",
        Always,
        &[packets("ingress::ipv4::another_mac_than_the_documented_one_is_dropped")],
    ),
    guard("to-alias", "workloads reach aliases", Never, &[packets("ingress::ipv4::to_an_alias_is_dropped")]),
    guard(
        "from-reserved",
        "workloads send from VIPs and aliases",
        Never,
        &[packets("ingress::ipv4::from_a_reserved_address_is_dropped")],
    ),
    guard(
        "other-protocols",
        "a VIP takes other protocols than TCP and UDP",
        Never,
        &[packets("ingress::ipv4::other_protocols_to_a_vip_are_dropped")],
    ),
    guard(
        "source-route",
        "IPv4 source route options are taken",
        Never,
        &[packets("ingress::source_routes_are_dropped")],
    ),
    guard(
        "routing-header",
        "IPv6 routing headers are taken",
        Never,
        &[packets("ipv6::headers::routing_headers_that_name_a_way_are_dropped")],
    ),
    guard(
        "headers-cut-off",
        "IPv6 extension headers end behind the packet",
        Never,
        &[packets("malformed::ipv6::frames_cut_at_every_byte")],
    ),
    guard(
        "overlapping-fragments",
        "a later fragment is put over a TCP header that was judged",
        Never,
        &[packets("fragments::ipv4::a_later_one_that_reaches_into_the_tcp_header_is_dropped")],
    ),
    guard(
        "icmp-foreign",
        "a workload sends ICMP errors about others' packets",
        Never,
        &[packets("icmp::an_error_about_a_packet_of_another_workload_is_dropped")],
    ),
    guard(
        "icmp-foreign-back",
        "a workload is told of ICMP errors about others' packets",
        Never,
        &[packets("icmp::an_error_of_the_host_about_a_packet_of_another_workload_is_dropped")],
    ),
    guard(
        "unanswered-limit",
        "half-open connections and intercepted DNS questions of a workload are not bounded",
        Never,
        &[
            packets("half_open::one_syn_too_many_is_dropped"),
            packets("half_open::a_flood_by_one_workload_evicts_no_connections_of_others"),
        ],
    ),
    guard(
        "intercept-limit",
        "a workload pushes others' DNS questions out of the table",
        Never,
        &[packets("dns::ipv4::a_flood_by_one_workload_evicts_no_questions_of_others")],
    ),
    guard(
        "priority-tags",
        "what is behind tags that only give a priority is not looked at",
        Never,
        &[packets("tags::priority_tags_hide_nothing")],
    ),
    guard(
        "other-vlan",
        "packets of another VLAN are taken",
        Never,
        &[packets("listener::ipv4::tagged_frames_are_left_to_the_stack"), packets("tags::priority_tags_hide_nothing")],
    ),
    guard(
        "too-many-tags",
        "what is behind too many tags passes unseen",
        Dropped,
        &[packets("tags::more_tags_than_are_looked_behind_are_dropped")],
    ),
    guard(
        "forwarded",
        "what the host forwards reaches workloads",
        Never,
        &[
            packets("egress::ipv4::what_was_forwarded_is_dropped"),
            packets("egress::ipv6::what_was_forwarded_is_dropped"),
        ],
    ),
    guard(
        "source-not-vip",
        "what comes from no VIP reaches workloads",
        Never,
        &[
            packets("egress::ipv4::a_source_outside_the_vip_range_is_dropped"),
            packets("egress::ipv6::a_source_outside_the_vip_range_is_dropped"),
        ],
    ),
    guard(
        "not-engine",
        "any user of the host reaches workloads",
        Never,
        &[
            packets("egress::ipv4::a_syn_of_another_user_is_dropped"),
            packets("egress::ipv6::a_syn_of_another_user_is_dropped"),
        ],
    ),
    guard(
        "not-engine-source",
        "any VIP reaches workloads",
        Never,
        &[
            packets("egress::ipv4::a_syn_from_a_vip_that_is_no_engine_source_is_dropped"),
            packets("egress::ipv6::a_syn_from_a_vip_that_is_no_engine_source_is_dropped"),
        ],
    ),
    guard(
        "not-target",
        "any port of a workload is reached",
        Never,
        &[
            packets("egress::ipv4::a_syn_to_what_is_no_target_is_dropped"),
            packets("egress::ipv6::a_syn_to_what_is_no_target_is_dropped"),
        ],
    ),
    guard(
        "fragment-of-engine",
        "later fragments of any user of the host reach workloads",
        Never,
        &[
            packets("fragments::ipv4::later_udp_ones_of_others_are_not_delivered"),
            packets("fragments::ipv6::later_udp_ones_of_others_are_not_delivered"),
        ],
    ),
    guard(
        "posing",
        "a user of the host answers for a service",
        False,
        &[packets("posing::a_host_user_does_not_answer_for_a_service")],
    ),
    guard(
        "attested-interface",
        "a VIP answers on any interface",
        Always,
        &[packets("listener::ipv4::an_alias_from_another_interface_is_refused")],
    ),
    guard(
        "unattested-peer",
        "a peer that is no alias gets past vip_listener",
        Passed,
        &[packets("listener::ipv4::a_peer_that_is_no_alias_is_refused")],
    ),
    guard(
        "no-listener",
        "a VIP without a listener falls through to the host",
        Passed,
        &[
            packets("listener::ipv4::host_daemons_are_not_reached_through_a_vip"),
            packets("listener::ipv6::host_daemons_are_not_reached_through_a_vip"),
        ],
    ),
    guard(
        "unattested-host",
        "a process of the host that is no workload gets past vip_listener",
        Passed,
        &[together("hosts::a_process_of_the_host_calls_as_the_workload_of_its_cgroup_and_user")],
    ),
    guard(
        "engine-reach",
        "the engine connects to any address",
        True,
        &[together("reach::the_engine_reaches_targets_and_nothing_else")],
    ),
    guard(
        "engine-bind",
        "the engine binds any address",
        True,
        &[together("reach::the_engine_reaches_targets_and_nothing_else")],
    ),
    guard(
        "host-alias",
        "any process of the host reaches another by its alias",
        True,
        &[together("hosts::an_alias_is_not_obtained_by_other_means")],
    ),
    guard(
        "host-datagram",
        "a process that is no workload sends datagrams to a VIP from an alias that it names",
        Never,
        &[together("hosts::an_alias_is_not_obtained_by_other_means")],
    ),
    guard(
        "host-bind",
        "a host process that binds an alias is taken for its workload",
        True,
        &[together("hosts::an_alias_is_not_obtained_by_other_means")],
    ),
    guard(
        "host-alias-from-outside",
        "other hosts reach processes of the host by their aliases",
        Dropped,
        &[together("hosts::a_process_of_the_host_is_a_target_and_is_reached_by_the_engine_alone")],
    ),
    guard(
        "segments-from-outside",
        "packets from an alias reach connections from any interface",
        Dropped,
        &[kernel("guard::packets_from_elsewhere_reach_no_connection")],
    ),
    guard(
        "other-protocols-from-outside",
        "a VIP answers ICMP and the like on any interface",
        Dropped,
        &[kernel("guard::packets_from_elsewhere_reach_no_connection")],
    ),
    guard(
        "icmp-about-aliases",
        "ICMP errors from anywhere teach the stack the MTU of an alias",
        Dropped,
        &[together("attacks::each_attack_is_counted_by_its_reason_and_reaches_no_target")],
    ),
    guard(
        "icmp-in-fragments",
        "an ICMP error about an alias passes in fragments that do not show what it is about",
        Dropped,
        &[kernel("guard::errors_about_aliases_are_dropped_whole_and_in_fragments_with_any_prefix")],
    ),
    guard(
        "waiting-poser",
        "a user of the host waits at the address of a service",
        Dropped,
        &[kernel("guard::a_socket_waiting_at_the_address_of_a_service_is_reset")],
    ),
    guard(
        "pins-of-root",
        "pins lie in a folder that others can change",
        Never,
        &[kernel("pins::in_a_folder_open_to_all_users_others_take_no_lock_and_make_no_folder")],
    ),
    guard(
        "bounding-set",
        "the engine keeps its capability bounding set",
        Dropped,
        &[process("sandbox::everything_is_given_up")],
    ),
    guard("landlock", "the engine opens files", Default, &[process("sandbox::calls_beyond_need_fail")]),
    guard(
        "seccomp",
        "the engine makes any system call, a Unix socket among others",
        Dropped,
        &[process("sandbox::calls_beyond_need_fail")],
    ),
    guard(
        "engine-obeys-root",
        "the engine obeys any process that connects to it",
        Never,
        &[process("lifecycle::obeys_root_only")],
    ),
    guard(
        "connection-limit",
        "a workload's connections and requests are not bounded",
        Never,
        &[http("bounds::connections_of_a_workload")],
    ),
    guard(
        "descriptor-share",
        "no descriptor is kept for workloads that have few",
        Never,
        &[http("bounds::descriptors_are_kept_for_others")],
    ),
    guard(
        "memory-share",
        "a workload holds as much memory as it likes",
        Never,
        &[process("budget::who_lets_downloads_stall_is_shed_and_others_lose_nothing")],
    ),
    guard(
        "turn",
        "a peer that sends small pieces keeps the worker for itself",
        Always,
        &[unit("agent/engine", "turn::tests::a_turn_that_is_used_up_lets_others_go_first")],
    ),
    guard(
        "interim-responses",
        "a target's interim responses have no end",
        Dropped,
        &[http("floods::interim_responses_without_end_are_a_bad_gateway")],
    ),
    guard(
        "control-frames",
        "an HTTP/2 client sends frames without a message for ever",
        Never,
        &[http("floods::control_frames_without_end_end_the_connection")],
    ),
    guard(
        "write-stall",
        "a client that reads nothing stays connected",
        Never,
        &[http("times::a_client_that_pipelines_and_reads_nothing_is_given_up")],
    ),
    guard(
        "requests-taken-back",
        "HTTP/2 requests taken back are not counted for the workload",
        Dropped,
        &[http("bounds::paced_resets_are_counted_over_all_connections")],
    ),
    guard(
        "fields-of-brattice",
        "callers write the fields that tell a target who calls",
        Dropped,
        &[http("fields::callers_cannot_set_the_fields_of_brattice")],
    ),
    guard(
        "trailers-of-brattice",
        "callers write those fields in trailers",
        Dropped,
        &[http("exchange::trailers_pass_both_ways_and_ours_do_not")],
    ),
    guard(
        "who-called",
        "policies believe the caller's x-forwarded-for",
        Dropped,
        &[auth("decided::who_called_cannot_be_made_up"), http("fields::who_is_said_as_the_listener_says")],
    ),
    guard(
        "blank-values",
        "blanks around a value lead past a policy",
        Never,
        &[
            auth("decided::blanks_lead_past_no_rule_and_no_policy"),
            auth("decided::rules_and_policies_see_what_targets_get"),
        ],
    ),
    guard(
        "blank-trailers",
        "blanks around a trailer's value are passed on",
        Never,
        &[auth("decided::blanks_in_trailers_are_refused")],
    ),
    guard(
        "cookie-parts",
        "policies see each part of a cookie alone",
        Never,
        &[auth("decided::a_cookie_in_parts_is_one_cookie"), http("fields::http2_clients_lose_the_same")],
    ),
    guard(
        "host-field",
        "HTTP/2 has no field `host` for policies",
        Never,
        &[auth("decided::the_host_is_a_field_in_every_version")],
    ),
    guard(
        "two-lengths",
        "a request has two lengths",
        Dropped,
        &[http("framing::a_length_reaches_the_target_once_or_not_at_all")],
    ),
    guard(
        "length-and-chunked",
        "a request has a length and a transfer coding",
        Never,
        &[http("smuggling::bad_requests_are_refused_and_the_connection_with_them")],
    ),
    guard(
        "fragment-and-pseudo-trailers",
        "a fragment hides a path, a trailer is a pseudo-header field",
        Dropped,
        &[
            unit("agent/engine", "http::sections::tests::what_is_refused_is_not_passed_on_in_any_cut"),
            http("requests::http2_requests_become_what_the_table_says"),
            http("requests::trailers_have_no_pseudo_header_fields"),
        ],
    ),
    guard(
        "associations",
        "associations that were refused let callers in",
        Always,
        &[of("agent/model", "plan", "a_vpc_sees_what_the_rules_say")],
    ),
    guard(
        "names-of-vpc",
        "DNS answers names that the caller's VPC may not see",
        Always,
        &[process("dns::names_are_those_of_the_asking_vpc")],
    ),
    guard(
        "policies",
        "no request is refused by a policy",
        Never,
        &[
            auth("enforced::each_request_of_a_kept_connection_is_decided"),
            auth("property::no_request_reaches_a_target_that_the_definition_denies"),
        ],
    ),
    guard(
        "policies-of-open",
        "what is open stays open, whatever new policies say",
        Dropped,
        &[
            auth("revoked::upgraded_connections_of_the_denied_are_closed"),
            auth("revoked::kept_http1_connections_of_the_denied_are_closed"),
        ],
    ),
    guard(
        "policies-of-bypass",
        "a bypass relays past policies",
        Never,
        &[auth("relayed::services_with_policies_are_not_relayed_and_open_connections_end")],
    ),
    guard(
        "symlink-out",
        "a symlink leads out of an account's folder",
        Default,
        &[sources("directory::walk::tests::symlinks_do_not_lead_out")],
    ),
    guard(
        "bytes-of-account",
        "an account's documents are as long as it likes",
        Never,
        &[sources("directory::walk::tests::too_many_bytes")],
    ),
    guard(
        "alias-share",
        "an interface takes as many aliases as it likes",
        Never,
        &[control("aliases::tests::an_interface_has_its_share_of_the_pool_and_no_more")],
    ),
    guard(
        "address-conflict",
        "a workload takes the address of another",
        Always,
        &[control("attachments::tests::the_later_claimant_is_refused")],
    ),
    guard(
        "address-rests",
        "a workload takes its neighbour's address as soon as that restarts",
        Always,
        &[
            control("attachments::rests::tests::a_rival_does_not_win_while_the_owner_is_away_for_a_moment"),
            together("problems::an_address_rests_for_its_owner_when_its_interface_is_away_for_a_moment"),
        ],
    ),
    guard(
        "api-engine",
        "the engine's user talks to the agent's API",
        Never,
        &[control("api::server::tests::users_and_groups")],
    ),
    guard(
        "api-root",
        "members of the group change what is in force",
        Always,
        &[control("api::server::tests::users_and_groups")],
    ),
    guard(
        "log-lines",
        "strangers have any number of lines logged",
        Always,
        &[
            unit("agent/wire", "rarely::tests::a_place_writes_so_many_lines_in_a_period_and_counts_the_rest"),
            control("api::server::tests::refused_callers_do_not_fill_the_log"),
        ],
    ),
    guard(
        "engine-claims",
        "what the engine claims is believed",
        Always,
        &[control("engine::supervisor::tests::a_hostile_engine_is_killed_and_replaced")],
    ),
    guard(
        "engine-silent",
        "an engine that answers nothing is left alone",
        Dropped,
        &[control("engine::supervisor::tests::an_engine_that_cannot_be_told_anything_is_replaced")],
    ),
    guard(
        "engine-sockets",
        "a running engine's sockets are not verified",
        Always,
        &[control("engine::supervisor::tests::a_running_engine_with_other_sockets_is_not_taken_over")],
    ),
];
