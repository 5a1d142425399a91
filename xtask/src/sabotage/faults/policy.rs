//! In the policy language, and in what is told of policies.

use super::{Fault, test};

/// All of them.
pub(super) const FAULTS: &[Fault] = &[Fault {
    name: "not-principal-role",
    means: "NotPrincipal exempts every session of a role of which sessions are listed",
    file: "agent/iam/src/principal.rs",
    search: "if sessions.peek().is_some() {",
    replace: "if sessions.peek().is_some_and(|_| false) {",
    tests: &[
        test("brattice-iam", "golden", "decides_as_the_table_says"),
        test("brattice-iam", "differential", "decisions_follow_the_definition_and_explanations_the_decisions"),
    ],
}];
