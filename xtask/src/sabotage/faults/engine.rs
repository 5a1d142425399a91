//! In the engine and its router.

use super::{Fault, Test, test, unit};

/// A test over loopback, with clients and targets of its own.
const fn http(name: &'static str) -> Test {
    test("brattice-engine", "http", name)
}

/// A test of the engine as a process.
const fn process(name: &'static str) -> Test {
    test("brattice-engine", "process", name)
}

/// A property of the router.
const fn router(name: &'static str) -> Test {
    test("brattice-router", "router", name)
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "rule-priority",
        means: "the highest priority number wins",
        file: "agent/router/src/router.rs",
        search: "order.sort_by_key(|index| rules[*index].priority);",
        replace: "order.sort_by_key(|index| u16::MAX - rules[*index].priority);",
        tests: &[router("lowest_priority_wins_whatever_the_order")],
    },
    Fault {
        name: "weight-ignored",
        means: "every target group with a weight gets the same share",
        file: "agent/router/src/shares.rs",
        search: "weight: i64::from(*weight), owed: 0",
        replace: "weight: i64::from(*weight).min(1), owed: 0",
        tests: &[
            router("shares_stay_within_one"),
            http("weights::shares_are_exact_to_one_after_any_number_of_requests"),
        ],
    },
    Fault {
        name: "service-ignores-vpc",
        means: "the service table ignores the caller's VPC",
        file: "agent/engine/src/state.rs",
        search: "        let services = self.vpcs.get(vpc as usize)?.vips.get(&vip)?;\n        let host =",
        replace: "        let services = self.vpcs.get(vpc as usize).and(self.vpcs.iter().find_map(|vpc| vpc.vips.get(&vip)))?;\n        let host =",
        tests: &[http("identity::two_vpcs_with_the_same_vip_and_host_never_meet")],
    },
    Fault {
        name: "relay-ignores-vpc",
        means: "a bypassed connection reaches what its VPC may not see",
        file: "agent/engine/src/state.rs",
        search: "let [index] = self.vpcs.get(vpc as usize)?.vips.get(&vip)?.as_slice() else",
        replace: "let [index] = self.vpcs.get(vpc as usize).and(self.vpcs.iter().find_map(|vpc| vpc.vips.get(&vip)))?.as_slice() else",
        tests: &[process("relaying::who_may_not_see_is_reset")],
    },
    Fault {
        name: "unknown-host",
        means: "any host means the only service of a VIP",
        file: "agent/engine/src/state.rs",
        search: "service.names.iter().find(|name| name.eq_ignore_ascii_case(host))?",
        replace: "service.names.iter().find(|name| name.eq_ignore_ascii_case(host)).or(service.names.first())?",
        tests: &[http("identity::unknown_and_invisible_services_are_the_same_bytes")],
    },
    Fault {
        name: "pool-ignores-service",
        means: "services share connections to a target",
        file: "agent/engine/src/http/service.rs",
        search: "service: service.number,",
        replace: "service: service.number.min(0),",
        tests: &[http("pools::services_never_share_a_connection")],
    },
    Fault {
        name: "closed-alias-lives",
        means: "connections outlive the alias",
        file: "agent/engine/src/tasks.rs",
        search: "alias == closed && generation <= closed_generation",
        replace: "alias == closed && generation < closed_generation",
        tests: &[
            unit("brattice-engine", "tasks::tests::only_the_named_generations_are_closed"),
            http("pools::closing_an_alias_closes_everything_with_it"),
        ],
    },
    Fault {
        name: "connection-limit",
        means: "a workload's connections are not limited",
        file: "agent/engine/src/http/client.rs",
        search: "caller.usage.take(Use::Connection, local.limits().connections_per_workload)",
        replace: "caller.usage.take(Use::Connection, u32::MAX)",
        tests: &[http("bounds::connections_of_a_workload")],
    },
    Fault {
        name: "header-strip",
        means: "clients may send x-amzn-lattice-*",
        file: "agent/engine/src/http/headers.rs",
        search: "begins(name, b\"x-amzn-lattice\")",
        replace: "begins(name, b\"x-amzn-lattice--\")",
        tests: &[http("fields::nobody_but_us_says_these")],
    },
    Fault {
        name: "header-spelling",
        means: "an underscore hides a header from being removed",
        file: "agent/engine/src/http/headers.rs",
        search: "a == b || *b == b'-' && !a.is_ascii_alphanumeric()",
        replace: "a == b",
        tests: &[http("fields::nobody_but_us_says_these")],
    },
    Fault {
        name: "trailer-strip",
        means: "trailers keep what headers lose",
        file: "agent/engine/src/http/headers.rs",
        search: "    clean(trailers, message);\n",
        replace: "    let _ = message;\n",
        tests: &[http("exchange::trailers_pass_both_ways_and_ours_do_not")],
    },
    Fault {
        name: "forwarded-for",
        means: "what a client claims in x-forwarded-for is kept",
        file: "agent/engine/src/http/headers.rs",
        search: "if journey.forwarded == ForwardedHeaders::Append {",
        replace: "if true || journey.forwarded == ForwardedHeaders::Append {",
        tests: &[http("fields::who_is_said_as_the_listener_says")],
    },
    Fault {
        name: "length-and-chunked",
        means: "Content-Length beside Transfer-Encoding passes",
        file: "agent/engine/src/http/fields.rs",
        search: "        if self.chunked && self.length.is_some() {",
        replace: "        if false && self.chunked && self.length.is_some() {",
        tests: &[http("smuggling::bad_requests_are_refused_and_the_connection_with_them")],
    },
    Fault {
        name: "bare-lf",
        means: "a line may end with LF alone",
        file: "agent/engine/src/http/guard.rs",
        search: "let Some(line) = line.strip_suffix(b\"\\r\") else {",
        replace: "let Some(line) = line.strip_suffix(b\"\\r\").or(Some(line)) else {",
        tests: &[http("smuggling::bad_requests_are_refused_and_the_connection_with_them")],
    },
    Fault {
        name: "dns-own-ranges",
        means: "a resolver's answers may point into our ranges",
        file: "agent/engine/src/dns/forward.rs",
        search: "        RData::A(address) => is_own(dns, address.0.into()),\n",
        replace: "        RData::A(_) => false,\n",
        tests: &[process("dns::answers_into_our_ranges_are_removed")],
    },
    Fault {
        name: "dns-invisible",
        means: "names that the asker may not see are answered",
        file: "agent/engine/src/state.rs",
        search: ".find(|index| visible.binary_search(index).is_ok())?",
        replace: ".find(|index| visible.binary_search(index).is_ok() || true)?",
        tests: &[process("dns::names_are_those_of_the_asking_vpc")],
    },
    Fault {
        name: "dns-forged",
        means: "an answer with any id is taken",
        file: "agent/engine/src/dns/forward.rs",
        search: "    if bytes.get(..2)? != id.to_be_bytes() {",
        replace: "    if false && bytes.get(..2)? != id.to_be_bytes() {",
        tests: &[process("dns::forged_answers_are_ignored")],
    },
    Fault {
        name: "seccomp",
        means: "the system call filter is not installed",
        file: "agent/engine/src/sandbox/mod.rs",
        search: "    seccomp::install()?;\n",
        replace: "    let _ = seccomp::install;\n",
        tests: &[process("sandbox::calls_beyond_need_fail")],
    },
    Fault {
        name: "landlock",
        means: "the filesystem and network rules are not installed",
        file: "agent/engine/src/sandbox/mod.rs",
        search: "    let missing = landlock::restrict()?;\n",
        replace: "    let _ = landlock::restrict;\n    let missing = Vec::new();\n",
        tests: &[process("sandbox::calls_beyond_need_fail")],
    },
    Fault {
        name: "bounding-set",
        means: "the capability bounding set is kept",
        file: "agent/engine/src/sandbox/mod.rs",
        search: "    caps::drop_bounding_set()?;\n",
        replace: "    let _ = caps::drop_bounding_set;\n",
        tests: &[process("sandbox::everything_is_given_up")],
    },
    Fault {
        name: "engine-descriptors",
        means: "the engine takes any descriptor for the one it needs",
        file: "agent/engine/src/process.rs",
        search: "    if found != kind || listens != listening {",
        replace: "    if false && (found != kind || listens != listening) {",
        tests: &[process("lifecycle::wrong_descriptors_do_not_start_it")],
    },
    Fault {
        name: "engine-obeys-anybody",
        means: "the engine obeys whoever holds its socket",
        file: "agent/engine/src/link.rs",
        search: "    if peer.uid() != 0 {",
        replace: "    if false && peer.uid() != 0 {",
        tests: &[process("lifecycle::obeys_root_only")],
    },
];
