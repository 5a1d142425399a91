//! Table, markers, pages and tests are in step; faults are what they should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{
    fault,
    guards::{GUARDS, Operator},
    page, tree,
};
use crate::paths;

#[test]
fn every_guard_has_a_marker_and_every_marker_a_guard() {
    let mut marked = BTreeMap::new();
    for (name, bytes) in tree::files().expect("git lists the tree") {
        if tree::may_have_guards(&name) {
            for mark in fault::marks(&String::from_utf8(bytes).expect("a source")) {
                let before = marked.insert(mark.name.clone(), name.clone());
                assert_eq!(before, None, "guard {} is marked twice", mark.name);
            }
        }
    }
    let names: BTreeSet<&str> = GUARDS.iter().map(|guard| guard.name).collect();
    assert_eq!(names.len(), GUARDS.len(), "a guard is in the table twice");
    assert_eq!(marked.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
}

#[test]
fn faults_can_be_made_of_every_guard() {
    for (name, bytes) in tree::files().expect("git lists the tree") {
        let text = String::from_utf8(bytes).unwrap_or_default();
        if tree::may_have_guards(&name) && !fault::marks(&text).is_empty() {
            let faults = GUARDS.iter().map(|guard| (guard.name, (guard.operator, "on()".to_owned()))).collect();
            let planted = fault::plant(&text, &faults).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(syn::parse_file(&planted).is_ok(), "{name} with its faults is no Rust");
        }
    }
}

#[test]
fn every_named_test_exists() {
    let mut sources: BTreeMap<&str, String> = BTreeMap::new();
    for (name, bytes) in tree::files().expect("git lists the tree") {
        let mut folders = GUARDS.iter().flat_map(|guard| guard.tests).map(|test| test.program.folder());
        if let Some(folder) = folders.find(|folder| name.starts_with(&format!("{folder}/")) && name.ends_with(".rs")) {
            *sources.entry(folder).or_default() += &String::from_utf8_lossy(&bytes);
        }
    }
    for guard in GUARDS {
        assert!(!guard.tests.is_empty(), "{}", guard.name);
        for test in guard.tests {
            let function = format!("fn {}(", test.name.rsplit("::").next().unwrap_or_default());
            let folder = test.program.folder();
            let of_any_family = function.replace('(', "<F: Family>(");
            let found = sources[folder].contains(&function) || sources[folder].contains(&of_any_family);
            assert!(found, "{}: no `{function}` below {folder}", guard.name);
        }
    }
}

#[test]
fn security_md_names_every_guard() {
    let text = fs::read_to_string(paths::root().join("SECURITY.md")).expect("the page");
    let missing: Vec<&str> =
        GUARDS.iter().map(|guard| guard.name).filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "SECURITY.md does not name {}", missing.join(", "));
}

#[test]
fn the_page_tells_the_same() {
    let found = fs::read_to_string(paths::root().join(page::PAGE)).unwrap_or_default();
    assert!(found == page::text(), "{} is stale; `cargo xtask docs` writes it", page::PAGE);
}

/// What happens to a function's body with one guard.
fn planted(body: &str, operator: Operator) -> String {
    let text = format!("fn f() {{\n// guard: g\n// SAFETY: of what follows.\n{body}\n}}\n");
    let faults = BTreeMap::from([("g", (operator, "on()".to_owned()))]);
    let planted = fault::plant(&text, &faults).unwrap_or_else(|error| panic!("{body}: {error:#}"));
    syn::parse_file(&planted).unwrap_or_else(|error| panic!("{planted}: {error}"));
    planted.lines().skip(3).take_while(|line| *line != "}").collect::<Vec<_>>().join("\n")
}

#[test]
fn each_operator_changes_what_it_says() {
    for (body, operator, wanted) in [
        ("if a || b { c(); }", Operator::Never, "if !on() && (a || b) { c(); }"),
        ("if let Some(a) = b && c {}", Operator::Never, "if !on() && let Some(a) = b && c {}"),
        (
            "let a = if b == c { d()? } else { e };",
            Operator::Always,
            "let a = if on() || (b == c) { d()? } else { e };",
        ),
        ("a.find(|b| b.c())", Operator::Always, "a.find(|b| on() || (b.c()))"),
        ("(a < b).then_some(c)", Operator::Never, "(!on() && (a < b)).then_some(c)"),
        ("a || refuse(b)", Operator::True, "(on() || (a || refuse(b)))"),
        ("let a = if b { c } else { d };", Operator::True, "let a = (on() || (if b { c } else { d }));"),
        ("a != b && a != c", Operator::False, "(!on() && (a != b && a != c))"),
        ("install()?;", Operator::Dropped, "if !on() { install()?; }"),
        ("let a = b()?;", Operator::Default, "let a = if on() { Default::default() } else { b()? };"),
        (
            "let a = b.filter(|b| b.c).ok_or(E)?;",
            Operator::Passed,
            "let a = (match b.filter(|b| b.c).ok_or(E) { Ok(value) => value, Err(_) if on() => return Ok(Default::default()), \
             Err(error) => return Err(error.into()) });",
        ),
    ] {
        assert_eq!(planted(body, operator), wanted, "{operator}");
    }
}

#[test]
fn match_arms_can_be_guarded() {
    let arm = |arms: &str, operator| {
        let text = format!("fn f() {{ match a {{\n// guard: g\n{arms}\n}} }}\n");
        let faults = BTreeMap::from([("g", (operator, "on()".to_owned()))]);
        let planted = fault::plant(&text, &faults).expect("the arm is found");
        planted.lines().nth(2).expect("the arm").to_owned()
    };
    assert_eq!(arm("A if b > c => {}", Operator::Never), "A if !on() && (b > c) => {}");
    assert_eq!(arm("A if b > c => {}", Operator::Always), "A if on() || (b > c) => {}");
    assert_eq!(arm("A => Some(b),\n_ => None", Operator::Dropped), "A if !on() => Some(b),");
    assert_eq!(arm("A if b => c,\n_ => d", Operator::Dropped), "A if !on() && (b) => c,");
    assert_eq!(arm("A => return Err(b),\nB => {}", Operator::Dropped), "A => { if !on() { return Err(b) } },");
}

#[test]
fn a_guard_that_marks_nothing_is_an_error() {
    for (text, operator) in [
        ("// guard: g\nfn f() {}", Operator::Never),
        ("fn f() {\n// guard: g\na();\n}", Operator::Never),
        ("fn f() {\n// guard: g\nif let Some(a) = b {}\n}", Operator::Always),
        ("fn f() {\n// guard: other\nif a {}\n}", Operator::Never),
    ] {
        assert!(fault::plant(text, &BTreeMap::from([("g", (operator, "on()".to_owned()))])).is_err(), "{text}");
    }
}
