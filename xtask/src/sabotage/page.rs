//! `tests/SABOTAGE.md`: the guards for people.

use std::fmt::Write as _;

use super::guards::GUARDS;

/// The page, from the workspace's root.
pub(crate) const PAGE: &str = "tests/SABOTAGE.md";

/// Its text.
pub(crate) fn text() -> String {
    let mut page = String::from(
        "# Guards, and the tests that notice when one is missing\n\n\
         `cargo xtask test --sabotage` (as root) copies the tree to `target/sabotage`, puts a fault in the place of each of these \
         guards, builds it once, switches one fault on after the other (in eBPF, each is an object of its own), and expects each test \
         named beside it to fail. `--fault \
         TEXT` takes only guards with TEXT in their name or in that of their source file (`--fault ebpf/`). [SECURITY.md](../SECURITY.md) says what they hold off.\n\n\
         The list is `xtask/src/sabotage/guards/table.rs`; in the source, `// guard: NAME` stands above the code. This page is written by \
         `cargo xtask docs`.\n\n\
         | Guard | Without it | Fault | Tests |\n| --- | --- | --- | --- |\n",
    );
    for guard in GUARDS {
        let tests: Vec<String> = guard.tests.iter().map(|test| format!("`{test}`")).collect();
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", guard.name, guard.means, guard.operator, tests.join("<br>"));
    }
    page
}
