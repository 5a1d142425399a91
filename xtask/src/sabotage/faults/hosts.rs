//! Processes of the host as workloads.

use super::{Fault, Test, test};

/// A test of them, end to end.
const fn hosts(name: &'static str) -> Test {
    test("brattice-tests", "together", name)
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "host-any-user",
        means: "a process of any user of the cgroup is the workload",
        file: "ebpf/src/host_identity.rs",
        search: "HOSTS.get(HostKey { cgroup, uid, pad: 0 })",
        replace: "HOSTS.get(HostKey { cgroup, uid: 4_033, pad: 0 })",
        tests: &[hosts("hosts::a_process_of_the_host_calls_as_the_workload_of_its_cgroup_and_user")],
    },
    Fault {
        name: "host-own-cgroup",
        means: "only the cgroup itself counts, not those below it",
        file: "ebpf/src/host_identity.rs",
        search: "        // SAFETY: the values are copied",
        replace: "        found = None;\n        // SAFETY: the values are copied",
        tests: &[hosts("hosts::a_process_of_the_host_calls_as_the_workload_of_its_cgroup_and_user")],
    },
    Fault {
        name: "host-binds-alias",
        means: "whoever binds an alias is its workload",
        file: "ebpf/src/host_sockets.rs",
        search: "reach::refuse(DropReason::HostBind, &wish)",
        replace: "{ let _ = DropReason::HostBind; true }",
        tests: &[hosts("hosts::nobody_gets_an_alias_by_other_means")],
    },
    Fault {
        name: "host-datagrams",
        means: "an unattested process may send datagrams to a VIP from an alias it names",
        file: "ebpf/src/host_sockets.rs",
        search: "None if wish.protocol == IPPROTO_UDP =>",
        replace: "None if wish.protocol == u8::MAX =>",
        tests: &[hosts("hosts::nobody_gets_an_alias_by_other_means")],
    },
    Fault {
        name: "host-alias-open",
        means: "any process of the host reaches another by its alias",
        file: "ebpf/src/host_sockets.rs",
        search: "let allowed = !of_host ||",
        replace: "let allowed = true || !of_host ||",
        tests: &[hosts("hosts::nobody_gets_an_alias_by_other_means")],
    },
    Fault {
        name: "host-unattested",
        means: "a call from lo needs no alias of the host",
        file: "ebpf/src/vip_listener.rs",
        search: "caller.filter(|caller| caller.ifindex == 0).ok_or(DropReason::UnattestedHost)?",
        replace: "caller.or_else(|| unsafe { ALIASES.get(seen.source) }).unwrap_or(&brattice_abi::Alias { address: brattice_abi::Address([0; 16]), ifindex: 0, workload_id: 0, mac: [0; 6], mtu: 0 })",
        tests: &[hosts("hosts::a_process_of_the_host_calls_as_the_workload_of_its_cgroup_and_user")],
    },
    Fault {
        name: "host-detached",
        means: "a detached process of the host calls on",
        file: "ebpf/src/vip_listener.rs",
        search: "if switches::workload_detached(caller.workload_id) {",
        replace: "if switches::workload_detached(u32::MAX) {",
        tests: &[hosts("hosts::a_process_of_the_host_is_a_target_and_is_reached_by_the_engine_alone")],
    },
    Fault {
        name: "host-target-detached",
        means: "a detached process of the host is called on",
        file: "ebpf/src/reach.rs",
        search: "return !detached || refuse(DropReason::Detached, wish);",
        replace: "return true || !detached || refuse(DropReason::Detached, wish);",
        tests: &[hosts("hosts::a_process_of_the_host_is_a_target_and_is_reached_by_the_engine_alone")],
    },
    Fault {
        name: "host-alias-world",
        means: "other hosts reach processes of the host by their aliases",
        file: "loader/src/nft.rs",
        search: "{family} daddr {alias} iif != \\\"lo\\\" counter drop",
        replace: "{family} daddr {alias} iif == \\\"lo\\\" counter drop",
        tests: &[hosts("hosts::a_process_of_the_host_is_a_target_and_is_reached_by_the_engine_alone")],
    },
    Fault {
        name: "host-address-gone",
        means: "an alias that somebody takes from brattice0 is not given back",
        file: "loader/src/datapath.rs",
        search: "if self.give_aliases(state, &mut socket, &device)? {",
        replace: "if false && self.give_aliases(state, &mut socket, &device)? {",
        tests: &[hosts("hosts::a_service_that_ends_is_let_go_and_one_that_starts_is_taken_up")],
    },
    Fault {
        name: "host-cgroup-kept",
        means: "the alias of a service that ended stays given",
        file: "agent/control/src/attachments/hosts.rs",
        search: "} else if processes.cgroups.is_empty() {",
        replace: "} else if processes.cgroups.len() == usize::MAX {",
        tests: &[hosts("hosts::a_service_that_ends_is_let_go_and_one_that_starts_is_taken_up")],
    },
];
