//! In who may call what: identity, enforcement, revocation.

use super::{Fault, Test, test, unit};

/// A test over loopback, with clients and targets of its own.
const fn auth(name: &'static str) -> Test {
    test("brattice-engine", "auth", name)
}

/// A test of decisions without sockets.
const fn decided(name: &'static str) -> Test {
    test("brattice-engine", "authorize", name)
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "authorize-skipped",
        means: "no request is refused by a policy",
        file: "agent/engine/src/auth/authorize.rs",
        search: "if let Some(denial) = decision.denial {",
        replace: "if let Some(denial) = decision.denial.filter(|_| false) {",
        tests: &[
            decided("every_level_is_asked"),
            auth("enforced::each_request_of_a_kept_connection_is_decided"),
            auth("property::no_request_reaches_a_target_that_the_definition_denies"),
        ],
    },
    Fault {
        name: "decision-outlives-revision",
        means: "a connection keeps its decision when the policies change",
        file: "agent/engine/src/auth/authorize.rs",
        search: "if known.edition != guards.edition() || known.parties != Some(*parties) {",
        replace: "if known.parties != Some(*parties) {",
        tests: &[
            decided("connections_remember_only_what_requests_cannot_change"),
            auth("enforced::a_new_revision_counts_from_the_next_request_of_a_kept_connection"),
        ],
    },
    Fault {
        name: "decision-for-all-paths",
        means: "the first request of a connection decides for all",
        file: "agent/engine/src/auth/authorize.rs",
        search: "known.decision = Some(decision).filter(|_| known.per_connection);",
        replace: "known.decision = Some(decision);",
        tests: &[
            decided("connections_remember_only_what_requests_cannot_change"),
            auth("enforced::http2_streams_are_decided_one_by_one"),
        ],
    },
    Fault {
        name: "network-level-ignored",
        means: "the policies of service networks are not asked",
        file: "agent/engine/src/auth/guards.rs",
        search: "guard: self.guard(network.stands, &network.name) })",
        replace: "guard: iam::Guard::Open })",
        tests: &[
            decided("every_level_is_asked"),
            auth("property::no_request_reaches_a_target_that_the_definition_denies"),
        ],
    },
    Fault {
        name: "one-identity-for-all",
        means: "every caller is taken for the first workload",
        file: "agent/engine/src/http/decide.rs",
        search: "auth::Parties { workload: caller.index,",
        replace: "auth::Parties { workload: caller.index.min(0),",
        tests: &[auth("enforced::each_request_of_a_kept_connection_is_decided")],
    },
    Fault {
        name: "nothing-is-reviewed",
        means: "what is open stays open, whatever the new policies say",
        file: "agent/engine/src/worker.rs",
        search: "auth::review(&local, &relay);",
        replace: "let _ = auth::review;",
        tests: &[
            auth("revoked::upgraded_connections_of_the_denied_are_closed"),
            auth("revoked::kept_http1_connections_of_the_denied_are_closed"),
        ],
    },
    Fault {
        name: "withdrawn-lives-on",
        means: "what is open outlives the association",
        file: "agent/engine/src/auth/review.rs",
        search: "        return Some(Revoked::Withdrawn);",
        replace: "        return None;",
        tests: &[auth("revoked::association_and_service_that_go_take_what_is_open_with_them")],
    },
    Fault {
        name: "review-forgets-fields",
        means: "header fields of what is open are not known to a new policy",
        file: "agent/engine/src/auth/facts.rs",
        search: "            if own.eq_ignore_ascii_case(name) {",
        replace: "            if false && own.eq_ignore_ascii_case(name) {",
        tests: &[
            unit("brattice-engine", "auth::facts::tests::a_copy_says_what_the_request_says"),
            auth("revoked::header_values_are_known_that_no_policy_asked_for_when_they_came"),
        ],
    },
    Fault {
        name: "bypass-passes-policies",
        means: "a bypass relays past policies",
        file: "agent/engine/src/downstream/tcp.rs",
        search: "if !state.guards.relayable(&called) {",
        replace: "if false && !state.guards.relayable(&called) {",
        tests: &[auth("relayed::services_with_policies_are_not_relayed_and_open_connections_end")],
    },
    Fault {
        name: "tag-says-another",
        means: "a semicolon in a tag is not escaped",
        file: "agent/engine/src/auth/said.rs",
        search: "            ';' | '\\\\' => {",
        replace: "            '\\0' => {",
        tests: &[unit("brattice-engine", "auth::said::tests::no_tag_can_say_another_one")],
    },
];
