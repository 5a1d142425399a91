//! Cases that make no sense.

use super::{SERVICE, printed};

#[test]
fn a_case_that_makes_no_sense_is_told_with_the_line_of_its_field() {
    let case = "- name: a\n  from:\n    workload: web\n  to:\n    service: orders\n    port: 80\n  request:\n    path: /a\n  expect: allow\n";
    for (right, wrong, line) in [
        ("workload: web", "workload: wob", 3),
        ("service: orders", "service: order", 5),
        ("port: 80", "port: 81", 6),
        ("port: 80", "prot: 80", 6),
        ("path: /a", "path: a", 8),
        ("expect: allow", "expect: yes", 9),
        ("expect: allow", "expects: allow", 9),
        ("  expect: allow\n", "", 1),
    ] {
        assert!(case.contains(right), "{right}");
        let (lines, _) = printed(SERVICE, "cases.yaml", &case.replace(right, wrong));
        assert!(lines[0].starts_with(&format!("WRONG    cases.yaml:{line}: ")), "{wrong:?}: {lines:?}");
    }
    assert!(!printed(SERVICE, "cases.yaml", case).0[0].starts_with("WRONG"), "control");
}

#[test]
fn cases_that_make_no_sense_say_why() {
    let (lines, good) = printed(
        SERVICE,
        "cases.yaml",
        "- {from: {workload: wob}, to: {service: orders}, expect: allow}
- {from: {workload: web}, to: {service: order}, expect: allow}
- {from: {workload: web}, to: {service: orders, port: 81}, expect: allow}
- {from: {workload: web, vpc: red}, to: {service: orders}, expect: allow}
- {from: {workload: batch, role: reader}, to: {service: orders}, expect: allow}
- {from: {}, to: {service: orders}, expect: allow}
- {from: {workload: web}, to: {service: orders}, expect: yes}
- {from: {workload: web}, to: {service: orders}, expect: allow, level: Service}
- {from: {workload: web}, to: {service: orders}, expect: deny, level: Servize}
- {from: {workload: web}, to: {service: orders}, expects: deny}
- {from: {workload: web}, to: {service: orders}, request: {path: x}, expect: deny}
- {from: {workload: web}, to: {service: orders}, time: noon, expect: deny}
- x
",
    );
    let wrong = |line: usize, why: &str| format!("WRONG    cases.yaml:{line}: {why}");
    let fields = "there are name, from, to, request, time, tls, expect, level, by";
    let expected = vec![
        wrong(
            1,
            "there is no Workload document \"wob\"; did you mean web?; a workload that is found by its interface is in no \
             document: write its `vpc`, and perhaps its `address`",
        ),
        wrong(2, "there is no service \"order\"; did you mean shop/orders?"),
        wrong(3, "the service shop/orders has no listener on port 81; there is 80"),
        wrong(4, "the workload web is in the VPC platform/green"),
        wrong(5, "the role platform/reader does not trust this workload"),
        wrong(6, "from: say `workload` or `vpc`"),
        wrong(7, "expect is \"yes\"; it is `allow` or `deny`"),
        wrong(8, "level and by say what refuses, and the case expects `allow`"),
        wrong(9, "level is \"Servize\"; it is Identity, Network or Service"),
        wrong(10, &format!("unknown field \"expects\" in a case; did you mean expect?; {fields}")),
        wrong(11, "the path \"x\" does not begin with `/`"),
        wrong(12, "\"noon\" is no time; write it as 2026-01-31T10:00:00Z"),
        wrong(13, "a case is no mapping of names to values"),
        "13 cases: 0 as expected, 0 differ, 13 wrong, 0 skipped".to_owned(),
    ];
    assert_eq!((lines, good), (expected, false));
}
