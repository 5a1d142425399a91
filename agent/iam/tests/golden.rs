//! Policies and requests, and the findings about them. See the head of `golden.txt` for its form.
//!
//! `BRATTICE_BLESS=1 cargo test -p brattice-iam --test golden` writes the current output into the table; read the
//! difference before committing it.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

mod common;

use std::fmt::Write as _;

use brattice_iam::{Chain, Denial, Request, Scratch};
use common::{Line, Stands, Texts};

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

/// The answers to a case, and how many requests and findings it has.
fn answers(case: &Case) -> (String, usize) {
    let mut texts = Texts { networks: vec![Stands::Open], ..Texts::default() };
    let mut requests = Vec::new();
    let mut explained = false;
    for part in case.body.split("\n@").map(|part| part.strip_prefix('@').unwrap_or(part)) {
        let (head, text) = part.split_once('\n').unwrap_or((part, ""));
        let mut words = head.split(' ');
        let what = words.next().unwrap();
        let words: Vec<&str> = words.collect();
        let stands = if words.contains(&"missing") {
            Stands::Missing
        } else if words.contains(&"open") {
            Stands::Open
        } else {
            Stands::Policy(text.trim_end().to_owned(), words.contains(&"audit"))
        };
        match what {
            "identity" => texts.identity = stands,
            "network" if words.contains(&"none") => texts.networks.clear(),
            "network" if words.contains(&"second") => texts.networks.push(stands),
            "network" => texts.networks[0] = stands,
            "service" => texts.service = stands,
            "tcp-service" => (texts.service, texts.listeners) = (stands, Some((false, true))),
            "http-service" => (texts.service, texts.listeners) = (stands, Some((true, false))),
            "requests" => requests.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned)),
            "explained" => {
                explained = true;
                requests.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
            }
            other => panic!("{}: what is @{other}?", case.title),
        }
    }
    let (policies, findings) = texts.compile();
    let mut out = String::new();
    for finding in &findings {
        writeln!(out, "{finding}").unwrap();
    }
    if findings.iter().any(|finding| !finding.contains("warning: ")) {
        return (out.trim_end().into(), findings.len());
    }
    for request in &requests {
        let line = Line::parse(request);
        write!(out, "{request}: ").unwrap();
        line.with(|request| policies.with(|chain| answer(chain, request, explained, &texts, &mut out)));
    }
    (out.trim_end().into(), findings.len() + requests.len())
}

fn answer(chain: &Chain<'_>, request: &Request<'_>, explained: bool, texts: &Texts, out: &mut String) {
    let mut scratch = Scratch::default();
    let decision = chain.decide(request, &mut scratch);
    let explanation = chain.explain(request);
    assert_eq!(decision, explanation.decision);
    let word = |denial: &Denial| format!("{} {}", denial.level.denied_reason(), denial.id(chain));
    let audited = decision.audited.map_or(String::new(), |denial| format!(", audited {}", word(&denial)));
    match &decision.denial {
        None => {
            let by: Vec<String> =
                decision.statements.iter().map(|by| by.map_or("-".into(), |by| by.to_string())).collect();
            writeln!(out, "allow, by {}, network {}{audited}", by.join(" "), decision.network.unwrap()).unwrap();
        }
        Some(denial) => {
            writeln!(out, "deny, {} {}{audited}", decision.denied_reason().unwrap(), denial.id(chain)).unwrap();
        }
    }
    if let (Some(denial), true) = (decision.denial, explained) {
        writeln!(out, "  {}", denial.client_message(request)).unwrap();
        for level in &explanation.levels {
            for near in &level.near {
                for failed in &near.failed {
                    let at = format!("{}:{}", level.level.word(), near.place);
                    writeln!(out, "  near {at} {}: {failed}", near.sid.as_deref().unwrap_or("-")).unwrap();
                }
            }
        }
        for change in &explanation.remedy {
            for (number, line) in change.lines().iter().enumerate() {
                writeln!(out, "  {}{line}", if number == 0 { "remedy: " } else { "" }).unwrap();
            }
        }
    }
    // Whatever is printed as a remedy must be one.
    let remedied = texts.apply(&explanation.remedy).compile().0;
    remedied.with(|chain| assert!(chain.decide(request, &mut scratch).is_allowed(), "{:?}", explanation.remedy));
}

#[test]
fn decides_as_the_table_says() {
    let cases = cases();
    let found: Vec<(String, usize)> = cases.iter().map(answers).collect();
    let lines: usize = found.iter().map(|(_, count)| count).sum();
    assert!(lines >= 120, "{lines} requests and findings");
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
