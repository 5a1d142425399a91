//! Documents and the findings about them, line by line. Each case of `golden.txt` is a file that is added to (or
//! replaces one of) the world below, and the findings about it.
//!
//! `BRATTICE_BLESS=1 cargo test -p brattice-model --test golden` writes the current output into the table; read the
//! difference before committing it.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod world;

use std::fmt::Write as _;

const TABLE: &str = include_str!("golden.txt");

struct Case {
    title: String,
    path: String,
    text: String,
    expected: Vec<String>,
}

/// `=== title`, `--- path`, the file, `>>>`, the findings.
fn cases() -> Vec<Case> {
    let table = TABLE.split_once("\n=== ").expect("the table has cases").1;
    table
        .split("\n=== ")
        .map(|case| {
            let (title, rest) = case.split_once("\n--- ").expect("a path after the title");
            let (path, rest) = rest.split_once('\n').expect("a file after the path");
            let (text, expected) = rest.split_once(">>>\n").expect("findings after the file");
            Case {
                title: title.into(),
                path: path.into(),
                text: text.into(),
                expected: expected.lines().filter(|line| !line.is_empty()).map(Into::into).collect(),
            }
        })
        .collect()
}

fn findings(case: &Case) -> Vec<String> {
    let mut sources = world::sources();
    sources.retain(|source| source.path != case.path);
    // Written with escapes, as editors eat what is meant.
    let text = case.text.replace("\\x1b", "\u{1b}").replace("\\t", "\t");
    sources.push(brattice_model::Source { path: case.path.clone(), text });
    let outcome = world::read(&sources, &brattice_model::VipState::default(), 0);
    let warning = |line: String| format!("warning: {line}");
    let errors = outcome.errors.iter().map(ToString::to_string);
    errors.chain(outcome.warnings.iter().map(ToString::to_string).map(warning)).collect()
}

#[test]
fn says_what_is_wrong_where_and_what_was_meant() {
    let cases = cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    if std::env::var_os("BRATTICE_BLESS").is_some() {
        let mut table = TABLE.split_once("\n=== ").expect("the table has cases").0.to_owned();
        for case in &cases {
            write!(table, "\n=== {}\n--- {}\n{}>>>\n", case.title, case.path, case.text).unwrap();
            for line in findings(case) {
                writeln!(table, "{line}").unwrap();
            }
        }
        std::fs::write("tests/golden.txt", table).unwrap();
        return;
    }
    let mut wrong = String::new();
    for case in &cases {
        let found = findings(case);
        if found != case.expected {
            writeln!(wrong, "{}:\n  expected {:#?}\n  found {found:#?}", case.title, case.expected).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_good_world_has_no_findings() {
    let outcome = world::read(&world::sources(), &brattice_model::VipState::default(), 0);
    assert!(outcome.errors.is_empty() && outcome.warnings.is_empty(), "{:?} {:?}", outcome.errors, outcome.warnings);
}
