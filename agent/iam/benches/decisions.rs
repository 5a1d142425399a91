//! What a decision costs, by the number of statements: `cargo bench -p brattice-iam`. Plain, as the numbers are far apart:
//! the median of rounds, each long enough for the clock.

#![allow(clippy::unwrap_used)] // A panic in a benchmark is the report.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::Instant;

use brattice_iam::Scratch;
use common::{Line, Stands, Texts};

/// A policy with this many statements.
type Shape = fn(usize) -> String;

const ROUNDS: usize = 21;
const PER_ROUND: u32 = 2_000;

/// Statements that principals tell apart, and the last of which allows.
fn by_principal(count: usize) -> String {
    let statements = (0..count).map(|n| {
        format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":"{n:012}"}},"Action":"vpc-lattice-svcs:Invoke","Resource":"*"}}"#
        )
    });
    policy(&statements.collect::<Vec<_>>())
}

/// Statements about other actions, and one that allows.
fn by_action(count: usize) -> String {
    let mut statements = vec![
        r#"{"Effect":"Deny","Principal":"*","Action":"vpc-lattice-svcs:Connect","Resource":"*"}"#
            .to_owned();
        count - 1
    ];
    statements.push(r#"{"Effect":"Allow","Principal":"*","Action":"vpc-lattice-svcs:Invoke","Resource":"*"}"#.into());
    policy(&statements)
}

/// Statements that must all be looked at, by their resources.
fn by_resource(count: usize) -> String {
    let mut statements: Vec<String> = (0..count - 1)
        .map(|n| format!(r#"{{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*/admin/{n}"}}"#))
        .collect();
    statements.push(r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#.into());
    policy(&statements)
}

/// The same by a condition.
fn by_condition(count: usize) -> String {
    let mut statements: Vec<String> = (0..count - 1)
        .map(|n| {
            format!(r#"{{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{{"StringEquals":{{"aws:PrincipalTag/t":"{n}"}}}}}}"#)
        })
        .collect();
    statements.push(r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#.into());
    policy(&statements)
}

fn policy(statements: &[String]) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

/// Nanoseconds of a decision: median, least, most.
fn measure(service: String, line: &Line) -> [f64; 3] {
    let texts = Texts { networks: vec![Stands::Open], service: Stands::Policy(service, false), ..Texts::default() };
    let (policies, findings) = texts.compile();
    assert!(findings.iter().all(|finding| finding.contains("warning")), "{findings:?}");
    line.with(|request| {
        policies.with(|chain| {
            let mut scratch = Scratch::default();
            assert!(chain.decide(request, &mut scratch).is_allowed());
            let mut rounds: Vec<f64> = (0..ROUNDS)
                .map(|_| {
                    let started = Instant::now();
                    for _ in 0..PER_ROUND {
                        black_box(chain.decide(black_box(request), &mut scratch));
                    }
                    started.elapsed().as_secs_f64() * 1e9 / f64::from(PER_ROUND)
                })
                .collect();
            rounds.sort_by(f64::total_cmp);
            [rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]]
        })
    })
}

fn main() {
    println!("nanoseconds of a decision, median (least to most) of {ROUNDS} rounds");
    println!("{:<14}{:>12}  {:<26}", "told apart by", "statements", "ns");
    let shapes: [(&str, Shape); 4] =
        [("principal", by_principal), ("action", by_action), ("resource", by_resource), ("condition", by_condition)];
    for (name, shape) in shapes {
        for count in [1, 10, 100, 1_000] {
            // A policy is at most so long; what does not fit is measured with as many as fit.
            let count =
                (1..=count).rev().find(|count| shape(*count).len() <= brattice_iam::limits::MAX_POLICY_BYTES).unwrap();
            let line = Line::parse(&format!("GET /orders/1 caller=role:green!s@{:012} tag.t=x", count - 1));
            let [median, least, most] = measure(shape(count), &line);
            println!("{name:<14}{count:>12}  {median:.0} ({least:.0} to {most:.0})");
        }
    }
}
