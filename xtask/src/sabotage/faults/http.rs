//! In what is made of a message before anybody decides about it, and of its length.

use super::{Fault, Test, test, unit};

/// A test over loopback, with clients and targets of its own.
const fn http(name: &'static str) -> Test {
    test("brattice-engine", "http", name)
}

/// The same with policies.
const fn auth(name: &'static str) -> Test {
    test("brattice-engine", "auth", name)
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "blank-values",
        means: "a value of HTTP/2 with blanks around it is decided on as it is",
        file: "agent/engine/src/http/canonical.rs",
        search: "if headers.values().any(has_blank_end) {",
        replace: "if headers.values().take(0).any(has_blank_end) {",
        tests: &[
            auth("decided::blanks_lead_past_no_rule_and_no_policy"),
            auth("decided::rules_and_policies_see_what_targets_get"),
        ],
    },
    Fault {
        name: "blank-trailers",
        means: "blanks around a trailer's value are passed on",
        file: "agent/engine/src/http/canonical.rs",
        search: "if trailers.values().any(has_blank_end) {",
        replace: "if trailers.values().take(0).any(has_blank_end) {",
        tests: &[auth("decided::blanks_in_trailers_are_refused")],
    },
    Fault {
        name: "cookie-parts",
        means: "each part of a cookie is decided on alone",
        file: "agent/engine/src/http/canonical.rs",
        search: "headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes)",
        replace: "headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).take(1)",
        tests: &[auth("decided::a_cookie_in_parts_is_one_cookie"), http("fields::http2_clients_lose_the_same")],
    },
    Fault {
        name: "host-field",
        means: "HTTP/2 has no field `host` for policies",
        file: "agent/engine/src/http/canonical.rs",
        search: "if headers.get(HOST).is_none_or(|field| field.as_bytes() != called.as_bytes()) {",
        replace: "if headers.get(HOST).is_some_and(|field| field.as_bytes() != called.as_bytes()) {",
        tests: &[auth("decided::the_host_is_a_field_in_every_version")],
    },
    Fault {
        name: "made-up-caller",
        means: "policies believe the client's x-forwarded-for",
        file: "agent/engine/src/http/decide.rs",
        search: "canonical::introduce(request.headers_mut(), shown,",
        replace: "canonical::introduce(&mut request.headers().clone(), shown,",
        tests: &[auth("decided::who_called_cannot_be_made_up"), http("fields::who_is_said_as_the_listener_says")],
    },
    Fault {
        name: "two-lengths",
        means: "a request may have its length twice",
        file: "agent/engine/src/http/framing.rs",
        search: "(Some(_), Some(_)) => return Err(\"there are several content lengths\"),",
        replace: "(Some(_), Some(_)) => {}",
        tests: &[http("framing::a_length_reaches_the_target_once_or_not_at_all")],
    },
    Fault {
        name: "length-beside-chunked",
        means: "a chunked response keeps its length",
        file: "agent/engine/src/http/framing.rs",
        search: "        headers.remove(TRANSFER_ENCODING);\n        headers.remove(CONTENT_LENGTH);",
        replace: "        headers.remove(TRANSFER_ENCODING);",
        tests: &[http("framing::what_a_target_says_twice_is_decided_once")],
    },
    Fault {
        name: "other-coding",
        means: "a response in another transfer coding is passed on as if it had none",
        file: "agent/engine/src/http/framing.rs",
        search: "if only.is_none() || codings.next().is_some() {",
        replace: "if only.is_none() && codings.next().is_some() {",
        tests: &[http("framing::what_a_target_says_twice_is_decided_once")],
    },
    Fault {
        name: "response-fields",
        means: "an HTTP/2 target may send any number of fields",
        file: "agent/engine/src/http/service.rs",
        search: "if fields > local.limits().headers as usize {",
        replace: "if fields == usize::MAX {",
        tests: &[http("framing::one_bound_of_fields_holds_in_both_directions")],
    },
    Fault {
        name: "half-closed",
        means: "a client that half-closes gets no answer",
        file: "agent/engine/src/http/io.rs",
        search: "if waits && whole && !self.control.gone.get() {",
        replace: "if waits && whole && self.control.gone.get() {",
        tests: &[http("old::simple_requests_are_answered_and_the_connection_closed")],
    },
    Fault {
        name: "gone-for-half-closed",
        means: "a client that is gone is waited for as one that half-closed",
        file: "agent/engine/src/http/client.rs",
        search: "                control.give_up();",
        replace: "                let _ = Control::give_up;",
        tests: &[http("old::a_client_that_is_gone_does_not_keep_its_target_busy")],
    },
    Fault {
        name: "no-host",
        means: "HTTP/1.0 without a host means nobody",
        file: "agent/engine/src/http/decide.rs",
        search: "None if request.version() == Version::HTTP_10 => state",
        replace: "None if request.version() == Version::HTTP_09 => state",
        tests: &[http("old::simple_requests_are_answered_and_the_connection_closed")],
    },
    Fault {
        name: "user-information",
        means: "a host may have user information",
        file: "agent/router/src/authority.rs",
        search: "b\"-._~!$&'()*+,;=\"",
        replace: "b\"-._~!$&'()*+,;=@\"",
        tests: &[unit("brattice-router", "authority::tests::hosts_lose_their_port")],
    },
    Fault {
        name: "any-star",
        means: "any method may ask about `*`",
        file: "agent/router/src/path.rs",
        search: "if raw == \"*\" && method != \"OPTIONS\" {",
        replace: "if raw == \"*\" && method.is_empty() {",
        tests: &[
            test("brattice-router", "path", "only_options_asks_about_a_star"),
            http("requests::http1_requests_become_what_the_table_says"),
        ],
    },
    Fault {
        name: "first-frame",
        means: "HTTP/2 may begin with any frame",
        file: "agent/engine/src/http/sections.rs",
        search: "if frame.kind != SETTINGS {",
        replace: "if frame.kind == CONTINUATION {",
        tests: &[http("requests::http2_begins_with_settings")],
    },
    Fault {
        name: "fragment",
        means: "a fragment in `:path` is cut off in silence",
        file: "agent/engine/src/http/sections.rs",
        search: "sound &= !(field.has_fragment() || trailers && field.is_pseudo());",
        replace: "sound &= !(trailers && field.is_pseudo());",
        tests: &[
            unit("brattice-engine", "http::sections::tests::what_is_refused_is_not_passed_on_in_any_cut"),
            http("requests::http2_requests_become_what_the_table_says"),
        ],
    },
    Fault {
        name: "pseudo-trailers",
        means: "pseudo-header fields in trailers are dropped in silence",
        file: "agent/engine/src/http/sections.rs",
        search: "let trailers = first.stream <= self.last;",
        replace: "let trailers = first.stream < self.last;",
        tests: &[http("requests::trailers_have_no_pseudo_header_fields")],
    },
];
