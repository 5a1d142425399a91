//! In the policy language, and in what is told of policies.

use super::{Fault, Test, test, unit};

/// Policies as people paste them.
const fn told(name: &'static str) -> Test {
    test("brattice-model", "reach", name)
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "not-principal-role",
        means: "NotPrincipal exempts every session of a role of which sessions are listed",
        file: "agent/iam/src/principal.rs",
        search: "if sessions.peek().is_some() {",
        replace: "if sessions.peek().is_some_and(|_| false) {",
        tests: &[
            test("brattice-iam", "golden", "decides_as_the_table_says"),
            test("brattice-iam", "differential", "decisions_follow_the_definition_and_explanations_the_decisions"),
        ],
    },
    Fault {
        name: "names-nothing-silent",
        means: "nothing is said of names that nobody and nothing has",
        file: "agent/model/src/link/mod.rs",
        search: "    reach::unreachable(&model, documents, settings.now, &mut warnings);",
        replace: "    let _ = reach::unreachable;",
        tests: &[told("what_names_nothing_is_told")],
    },
    Fault {
        name: "nothing-passes-silent",
        means: "nothing is said of a policy that lets nothing pass",
        file: "agent/iam/src/reach/search.rs",
        search: "if !passes && sure {",
        replace: "if !passes && sure && false {",
        tests: &[told("what_names_nothing_is_told")],
    },
    Fault {
        name: "remedy-any-method",
        means: "a remedy allows methods that were not asked about",
        file: "agent/iam/src/remedy.rs",
        search: "        equals(METHOD, http.method);",
        replace: "        let _ = METHOD;",
        tests: &[test("brattice-iam", "differential", "remedy::a_remedy_is_for_one_call_alone")],
    },
    Fault {
        name: "remedy-whole-denial",
        means: "a remedy exempts a caller from all of a Deny statement",
        file: "agent/iam/src/remedy.rs",
        search: "if !only(statement, &Key::RequestMethod) {",
        replace: "if false && !only(statement, &Key::RequestMethod) {",
        tests: &[test("brattice-iam", "differential", "remedy::a_remedy_is_for_one_call_alone")],
    },
    Fault {
        name: "strict-is-lenient",
        means: "validate --strict passes warnings",
        file: "agent/cli/src/commands/documents.rs",
        search: "if arguments.strict {",
        replace: "if arguments.strict && false {",
        tests: &[unit("brattice-cli", "commands::documents::tests::strict_takes_warnings_for_errors")],
    },
    Fault {
        name: "cases-refuse-nothing",
        means: "written cases may have names twice, anchors and aliases",
        file: "agent/cli/src/commands/policy/cases.rs",
        search: "if let Some(refusal) = first {",
        replace: "if let Some(refusal) = first.filter(|_| false) {",
        tests: &[unit("brattice-cli", "commands::policy::tests::what_documents_refuse_is_refused_in_cases")],
    },
];
