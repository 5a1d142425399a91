//! `tests/SABOTAGE.md`: the faults for people. A test keeps it equal to the list that is run.

use std::fmt::Write;

use super::faults;

/// The page's text.
fn page() -> String {
    let mut page = String::from(
        "# Faults and the tests that notice them\n\n\
         `cargo xtask test --sabotage` (as root) copies the tree to `target/sabotage`, builds it with one of these faults \
         at a time, and expects at least one of the tests named beside it to fail. `--fault TEXT` takes only those with \
         TEXT in their name. The list itself is `xtask/src/sabotage/faults/`.\n\n\
         | Fault | What goes wrong | In | Tests, tried in this order |\n| --- | --- | --- | --- |\n",
    );
    for fault in faults::all() {
        let tests: Vec<String> = fault.tests.iter().map(|test| format!("`{test}`")).collect();
        let _ = writeln!(page, "| {} | {} | `{}` | {} |", fault.name, fault.means, fault.file, tests.join("<br>"));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::{super::faults::Program, *};
    use crate::paths;

    /// All sources of a folder, as one text.
    fn sources(folder: &Path) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(folder).expect("a folder of the tree") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                text += &sources(&path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(&path).expect("a source");
            }
        }
        text
    }

    fn folder(package: &str) -> PathBuf {
        paths::root().join(match package {
            "brattice-loader" => "loader",
            "brattice-tests" => "tests",
            "brattice-cli" => "agent/cli",
            "brattice-control" => "agent/control",
            "brattice-engine" => "agent/engine",
            "brattice-iam" => "agent/iam",
            "brattice-model" => "agent/model",
            "brattice-router" => "agent/router",
            "brattice-sources" => "agent/sources",
            "brattice-wire" => "agent/wire",
            other => panic!("the folder of package {other} is not known here"),
        })
    }

    #[test]
    fn every_fault_follows_the_source() {
        let mut names = BTreeSet::new();
        for fault in faults::all() {
            assert!(names.insert(fault.name), "{} is there twice", fault.name);
            assert!(!fault.tests.is_empty() && fault.search != fault.replace, "{}", fault.name);
            let text = fs::read_to_string(paths::root().join(fault.file)).expect(fault.file);
            let found = text.matches(fault.search).count();
            assert_eq!(found, 1, "{}: places in {} with its text", fault.name, fault.file);
            for test in fault.tests {
                let (Program::Unit(package) | Program::Of(package, _)) = test.program;
                let function = format!("fn {}(", test.name.rsplit("::").next().unwrap_or_default());
                assert!(sources(&folder(package)).contains(&function), "{}: no `{function}` in {package}", fault.name);
            }
        }
    }

    /// `BRATTICE_BLESS=1 cargo test -p xtask` writes the page.
    #[test]
    fn the_page_tells_the_same() {
        let path = paths::root().join("tests/SABOTAGE.md");
        if std::env::var_os("BRATTICE_BLESS").is_some() {
            fs::write(&path, page()).expect("the page is written");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == page(), "{} differs; `BRATTICE_BLESS=1 cargo test -p xtask` writes it", path.display());
    }
}
