//! In which rule a request meets.

use super::{Fault, Test, test};

/// A test of the router.
const fn router(file: &'static str, name: &'static str) -> Test {
    test("brattice-router", file, name)
}

const TABLE: Test = router("golden", "routes_as_the_table_says");
const NAIVE: Test = router("differential", "router_equals_naive");

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "rule-priority",
        means: "the highest priority number wins",
        file: "agent/router/src/order.rs",
        search: "order.sort_by_key(|index| rules[*index].priority),",
        replace: "order.sort_by_key(|index| u16::MAX - rules[*index].priority),",
        tests: &[router("router", "lowest_priority_wins_whatever_the_order"), TABLE],
    },
    Fault {
        name: "host-comes-last",
        means: "where the most specific rule wins, an exact host is not",
        file: "agent/router/src/order.rs",
        search: "Some(host) if host.kind == HostMatchKind::Exact => (0, Reverse(0)),",
        replace: "Some(host) if host.kind == HostMatchKind::Exact => (3, Reverse(0)),",
        tests: &[TABLE, NAIVE],
    },
    Fault {
        name: "regex-anywhere",
        means: "a regular expression need not match the whole value",
        file: "agent/router/src/pattern.rs",
        search: r#"r"\A(?:{pattern})\z""#,
        replace: r#"r"(?:{pattern})""#,
        tests: &[TABLE, NAIVE],
    },
    Fault {
        name: "regex-unbounded",
        means: "a regular expression may take any memory",
        file: "agent/router/src/pattern.rs",
        search: ".size_limit(MAX_REGEX_SIZE)",
        replace: ".size_limit(MAX_REGEX_SIZE << 10)",
        tests: &[TABLE],
    },
    Fault {
        name: "missing-header-never-matches",
        means: "an inverted condition wants the header field to be there",
        file: "agent/router/src/condition.rs",
        search: ".unwrap_or(false) != *invert",
        replace: ".is_some_and(|met| met != *invert)",
        tests: &[TABLE, NAIVE],
    },
    Fault {
        name: "first-field-only",
        means: "of several header fields of a name only the first is compared",
        file: "agent/router/src/field.rs",
        search: "if count <= 1 {",
        replace: "if count <= 1_000 {",
        tests: &[TABLE, NAIVE],
    },
    Fault {
        name: "path-cut",
        means: "a path that is cut at its end counts as unchanged, and is sent on as it came",
        file: "agent/router/src/path.rs",
        search: "None if self.same == self.raw.len() => Cow::Borrowed(self.raw),",
        replace: "None if self.same <= self.raw.len() => Cow::Borrowed(&self.raw[..self.same]),",
        tests: &[
            router("path", "a_normal_path_is_returned_as_it_is"),
            test("brattice-tests", "together", "normalisation::targets_get_the_path_that_rules_see"),
        ],
    },
    Fault {
        name: "hidden-dots",
        means: "a path may hide dot segments behind `%2F`",
        file: "agent/router/src/path.rs",
        search: "if hides_dots(written) {",
        replace: "if hides_dots(written) && written.is_empty() {",
        tests: &[router("path", "what_can_be_misunderstood_is_refused"), TABLE],
    },
    Fault {
        name: "encoded-dots",
        means: "`%2e%2e` is no dot segment",
        file: "agent/router/src/path.rs",
        search: "byte if is_unreserved(byte) =>",
        replace: "byte if is_unreserved(byte) && byte != b'.' =>",
        tests: &[router("path", "one_form_for_each_path"), TABLE],
    },
    Fault {
        name: "control-characters",
        means: "`%00` passes",
        file: "agent/router/src/path.rs",
        search: "0..b' ' | 0x7f => return Err(Refused::EncodedControl),",
        replace: "1..b' ' | 0x7f => return Err(Refused::EncodedControl),",
        tests: &[router("path", "what_can_be_misunderstood_is_refused"), TABLE],
    },
    Fault {
        name: "sticky-without-weight",
        means: "callers that stay are spread evenly, whatever the weights",
        file: "agent/router/src/sticky.rs",
        search: ".ln() / f64::from(*weight)",
        replace: ".ln()",
        tests: &[router("router", "keys_are_spread_by_weight")],
    },
    Fault {
        name: "shadow-unsound",
        means: "a prefix by segment is said to take all that begins with its characters",
        file: "agent/router/src/shadow.rs",
        search: "Place::Segments => !(end && place == Place::Start),",
        replace: "Place::Segments => true,",
        tests: &[router("shadow", "equal_and_broader_rules_shadow"), router("differential", "shadows_are_sound")],
    },
];
