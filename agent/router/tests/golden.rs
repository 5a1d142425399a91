//! Rules and requests, and which rule is taken. See the head of `golden.txt` for its form.
//!
//! `BRATTICE_BLESS=1 cargo test -p brattice-router --test golden` writes the current output into the table; read the
//! difference before committing it.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod common;

use std::fmt::Write as _;

use brattice_router::{Router, mismatch, passed_over, shadowed};
use brattice_wire::index::VpcIndex;
use brattice_wire::rules::{Precedence, Rule};
use common::{Asked, matches, rule};

const TABLE: &str = include_str!("golden.txt");

struct Case {
    title: String,
    /// All between the title and the answers.
    body: String,
    expected: String,
}

fn cases() -> Vec<Case> {
    let table = TABLE.split_once("\n=== ").expect("the table has cases").1;
    table
        .split("\n=== ")
        .map(|case| {
            let (title, rest) = case.split_once('\n').expect("a body after the title");
            let (body, expected) = rest.split_once(">>>\n").expect("answers after the body");
            Case { title: title.into(), body: body.into(), expected: expected.trim_end().into() }
        })
        .collect()
}

/// A line `name priority conditions...`.
fn parse_rule(line: &str) -> Rule {
    let (name, rest) = line.split_once(' ').expect("a priority after the name");
    let (priority, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    rule(name, priority.parse().expect("a number"), matches(rest))
}

/// The answers to a case, and of how many requests.
fn answers(case: &Case) -> (String, usize) {
    let mut precedence = Precedence::Priority;
    let (mut rules, mut requests) = (Vec::new(), Vec::new());
    let mut part = "";
    for line in case.body.lines().filter(|line| !line.is_empty()) {
        match (line, part) {
            ("@priority", _) => (precedence, part) = (Precedence::Priority, "rules"),
            ("@specific", _) => (precedence, part) = (Precedence::MostSpecific, "rules"),
            ("@requests" | "@explained", _) => part = line,
            (rule, "rules") => rules.push(parse_rule(rule)),
            (request, "@requests" | "@explained") => requests.push((request, part == "@explained")),
            _ => panic!("{}: what is {line}?", case.title),
        }
    }
    let mut out = String::new();
    for shadow in shadowed(precedence, &rules) {
        writeln!(out, "{} is never taken, because of {}", rules[shadow.rule].name, rules[shadow.by].name).unwrap();
    }
    let router = match Router::compile(precedence, &rules) {
        Ok(router) => router,
        Err(error) => {
            writeln!(out, "{error}").unwrap();
            return (out.trim_end().into(), 1);
        }
    };
    for (line, explained) in &requests {
        let asked = match Asked::parse(line) {
            Ok(asked) => asked,
            Err(refused) => {
                writeln!(out, "{line}: refused, {refused}").unwrap();
                continue;
            }
        };
        let taken = router.find(&asked);
        writeln!(out, "{line}: {}", taken.map_or("default", |index| &rules[index].name)).unwrap();
        let number = |vpc: VpcIndex| vpc.to_string();
        assert!(taken.is_none_or(|taken| mismatch(&rules[taken], &asked, &number).is_none()));
        for own in passed_over(precedence, &rules, taken, &asked, &number) {
            let failed = own.failed.expect("a rule that fits is taken");
            if *explained {
                let name = &rules[own.rule].name;
                writeln!(out, "  not {name}: {} wanted {}, found {}", failed.subject, failed.wanted, failed.found)
                    .unwrap();
            }
        }
    }
    (out.trim_end().into(), requests.len())
}

#[test]
fn routes_as_the_table_says() {
    let cases = cases();
    let found: Vec<(String, usize)> = cases.iter().map(answers).collect();
    let rows: usize = found.iter().map(|(_, count)| count).sum();
    assert!(rows >= 100, "{rows} requests");
    if std::env::var_os("BRATTICE_BLESS").is_some() {
        let mut table = TABLE.split_once("\n=== ").expect("the table has cases").0.to_owned();
        for (case, (found, _)) in cases.iter().zip(&found) {
            write!(table, "\n=== {}\n{}>>>\n{found}\n", case.title, case.body).unwrap();
        }
        std::fs::write("tests/golden.txt", table).unwrap();
        return;
    }
    let mut wrong = String::new();
    for (case, (found, _)) in cases.iter().zip(&found) {
        if *found != case.expected {
            writeln!(wrong, "{}:\n--- expected\n{}\n--- found\n{found}", case.title, case.expected).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
