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
        file: "agent/engine/src/http/decide.rs",
        search: "service: service.number,",
        replace: "service: service.number.min(0),",
        tests: &[http("pools::services_never_share_a_connection")],
    },
    Fault {
        name: "path-as-it-came",
        means: "rules are asked about the path as it came",
        file: "agent/engine/src/http/decide.rs",
        search: "let Ok(path) = path::normalize(request.uri().path()) else {",
        replace: "let Ok(path) = path::normalize(request.uri().path()).map(|_| Cow::Borrowed(request.uri().path())) else {",
        tests: &[http("normalise::a_rule_for_a_place_cannot_be_walked_around")],
    },
    Fault {
        name: "path-sent-as-it-came",
        means: "another path is sent on than was matched",
        file: "agent/engine/src/http/decide.rs",
        search: "let target = match &path {",
        replace: "let target = match &Cow::Borrowed(path.as_ref()) {",
        tests: &[http("normalise::paths_go_on_as_they_are_matched")],
    },
    Fault {
        name: "rules-see-everything",
        means: "rules and policies are asked about fields that do not pass",
        file: "agent/engine/src/http/decide.rs",
        search: "    headers::clean_request(request.headers_mut());\n",
        replace: "    let _ = headers::clean_request;\n",
        tests: &[http("routing::rules_see_only_what_passes")],
    },
    Fault {
        name: "filter-speaks-for-us",
        means: "a rule may write the fields that tell who calls",
        file: "agent/engine/src/http/filters.rs",
        search: "own if headers::is_ours(&own) =>",
        replace: "own if false && headers::is_ours(&own) =>",
        tests: &[http("filters::filters_that_would_speak_for_us_are_refused")],
    },
    Fault {
        name: "head-length",
        means: "the answer to HEAD does not say the length of the body",
        file: "agent/engine/src/http/answer.rs",
        search: "if head && length > 0 {",
        replace: "if false && head && length > 0 {",
        tests: &[http("filters::fixed_responses_have_status_fields_and_body")],
    },
    Fault {
        name: "sticky-to-nothing",
        means: "a cookie keeps its caller at a group without weight",
        file: "agent/engine/src/http/sticky.rs",
        search: "is_some_and(|weight| *weight > 0)",
        replace: "is_some()",
        tests: &[http("sticky::a_cookie_holds_while_its_group_has_weight_and_targets")],
    },
    Fault {
        name: "sticky-source-without-vpc",
        means: "workloads of two VPCs with one address always stick to the same group",
        file: "agent/router/src/sticky.rs",
        search: "length: address.len() + vpc.len()",
        replace: "length: address.len()",
        tests: &[
            unit("brattice-router", "sticky::tests::callers_differ_by_vpc_and_address"),
            http("sticky::a_source_keeps_its_workload"),
        ],
    },
    Fault {
        name: "upgrade-to-http",
        means: "h2c and its like are offered to targets",
        file: "agent/router/src/fields.rs",
        search: "is_protocol(protocol) && !is_http(protocol)",
        replace: "is_protocol(protocol)",
        tests: &[
            unit("brattice-engine", "http::upgrade::tests::http_is_never_offered"),
            http("upgrades::http_is_never_offered_again"),
        ],
    },
    Fault {
        name: "upgrade-not-offered",
        means: "a target may change to a protocol that nobody offered",
        file: "agent/engine/src/http/upgrade.rs",
        search: "if protocols.all(known) {",
        replace: "if true || protocols.all(known) {",
        tests: &[http("upgrades::a_change_that_was_not_offered_is_502")],
    },
    Fault {
        name: "upgrade-read-on",
        means: "what follows an offer is read as HTTP before it is answered",
        file: "agent/engine/src/http/guard.rs",
        search: "while at < input.len() && !self.offered {",
        replace: "while at < input.len() {",
        tests: &[http("upgrades::nothing_behind_an_offer_is_read_before_its_answer")],
    },
    Fault {
        name: "upgrade-with-a-body",
        means: "a request with a body may offer another protocol",
        file: "agent/engine/src/http/fields.rs",
        search: "self.upgrade && !self.version_10 && !self.chunked && self.length.unwrap_or_default() == 0",
        replace: "self.upgrade && !self.version_10",
        tests: &[http("upgrades::what_is_no_offer_passes_as_a_request")],
    },
    Fault {
        name: "upgrade-ends-in-order",
        means: "an upgraded connection that is cut off looks finished",
        file: "agent/engine/src/http/upgrade.rs",
        search: "    control.reset.set(true);\n",
        replace: "    control.reset.set(false);\n",
        tests: &[http("upgrades::closing_an_alias_ends_both_sides")],
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
        file: "agent/router/src/fields.rs",
        search: "begins(name, b\"x-amzn-lattice\")",
        replace: "begins(name, b\"x-amzn-lattice--\")",
        tests: &[http("fields::nobody_but_us_says_these")],
    },
    Fault {
        name: "header-spelling",
        means: "an underscore hides a header from being removed",
        file: "agent/router/src/fields.rs",
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
