//! `brattice policy test`: what the policies of a directory decide about written cases and recorded requests, and where
//! that differs from what was expected or recorded.
//!
//! As in the engine, a policy counts where `authType` is `AWS_IAM`.

mod cases;
mod logs;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use brattice_control::state::StateDirectory;
use brattice_wire::words::counted;
use serde_json::json;

use super::documents::check;
use crate::arguments::{Format, PolicyTestArguments};
use crate::output::{Tone, colours, paint, print_as, print_prose};
use crate::{Failure, Outcome, escape};
use world::{Call, Verdict, World};

/// Longest file of cases, bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// One thing to decide and what should come of it.
struct Case {
    /// Its name, or where it stands.
    title: String,
    /// The call, or why it cannot be decided about.
    call: Result<Call, Undecided>,
    expected: Expected,
}

/// Why nothing can be decided.
enum Undecided {
    /// The case is wrong.
    Wrong(String),
    /// The log line does not say enough.
    Skipped(String),
}

/// What should come of a case.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    allow: bool,
    /// The level that refuses, as `authDeniedReason` has it.
    level: Option<String>,
    /// The id of what refuses.
    by: Option<String>,
}

/// The result of a case.
enum Answer {
    /// As expected.
    Same(Verdict),
    Differs(Verdict),
    Wrong(String),
    Skipped(String),
}

pub(crate) fn test(arguments: &PolicyTestArguments) -> Outcome {
    let state = StateDirectory::existing(&arguments.node.state_dir).peek();
    let checked = check(&arguments.directory, &arguments.node, &state, &BTreeMap::new())?;
    let errors = checked.errors();
    if errors > 0 {
        return Err(Failure::new(format!(
            "{} in {}, so nothing is decided by it; `brattice validate` shows them",
            counted(errors as u64, "error"),
            arguments.directory.display()
        )));
    }
    let world = World::new(&checked.linked.model).map_err(Failure::new)?;
    let mut results: Vec<(Case, Answer)> = Vec::new();
    for path in &arguments.cases {
        let found = if is_yaml(path) { cases::read(path, &world)? } else { logs::read(path, &world)? };
        results.extend(found.into_iter().map(|case| {
            let result = decide(&world, &case);
            (case, result)
        }));
    }
    match arguments.output {
        format @ (Format::Json | Format::Yaml) => print_as(format, &json(&results)),
        format => print_prose(&table(&results, colours()), format == Format::Wide),
    }
    if counts(&results)[..3] == [0, 0, 0] {
        eprintln!("nothing was decided: every case was skipped");
    }
    Ok(ExitCode::from(u8::from(!is_good(&results))))
}

/// Whether something was decided, and nothing differs or is wrong.
fn is_good(results: &[(Case, Answer)]) -> bool {
    let [same, differ, wrong, _] = counts(results);
    same > 0 && differ == 0 && wrong == 0
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn decide(world: &World<'_>, case: &Case) -> Answer {
    let call = match &case.call {
        Ok(call) => call,
        Err(Undecided::Wrong(why)) => return Answer::Wrong(why.clone()),
        Err(Undecided::Skipped(why)) => return Answer::Skipped(why.clone()),
    };
    let verdict = match world.decide(call) {
        Ok(verdict) => verdict,
        Err(why) => return Answer::Wrong(why),
    };
    let expected = &case.expected;
    let same = expected.allow == verdict.denial.is_none()
        && expected.level.as_ref().is_none_or(|level| verdict.denial.as_ref().is_some_and(|own| own.level == *level))
        && expected.by.as_ref().is_none_or(|by| verdict.denial.as_ref().is_some_and(|own| own.id == *by));
    if same { Answer::Same(verdict) } else { Answer::Differs(verdict) }
}

fn expected_text(expected: &Expected) -> String {
    if expected.allow {
        return "allow".into();
    }
    let parts = [expected.level.as_deref(), expected.by.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "deny".into() } else { format!("deny ({})", parts.join(", ")) }
}

fn verdict_text(verdict: &Verdict) -> String {
    let word = match &verdict.denial {
        None => "allow".into(),
        Some(denial) => format!("deny ({}, {})", denial.level, denial.id),
    };
    match &verdict.audited {
        Some(audited) => format!("{word}; in audit mode: deny ({}, {})", audited.level, audited.id),
        None => word,
    }
}

/// How many cases were as expected, differed, were wrong, were skipped.
fn counts(results: &[(Case, Answer)]) -> [usize; 4] {
    let mut counts = [0; 4];
    for (_, result) in results {
        counts[match result {
            Answer::Same(_) => 0,
            Answer::Differs(_) => 1,
            Answer::Wrong(_) => 2,
            Answer::Skipped(_) => 3,
        }] += 1;
    }
    counts
}

fn table(results: &[(Case, Answer)], colours: bool) -> String {
    let mut out = String::new();
    for (case, result) in results {
        let title = escape::text(&case.title);
        let (word, tone, text, more) = match result {
            Answer::Same(verdict) => ("ok", Tone::Good, verdict_text(verdict), &[][..]),
            Answer::Differs(verdict) => {
                let text = format!("expected {}, is {}", expected_text(&case.expected), verdict_text(verdict));
                ("DIFFERS", Tone::Bad, text, &verdict.why[..])
            }
            Answer::Wrong(why) => ("WRONG", Tone::Bad, why.clone(), &[][..]),
            Answer::Skipped(why) => ("skipped", Tone::Warning, why.clone(), &[][..]),
        };
        out.push_str(&format!("{}  {title}: {}\n", paint(&format!("{word:<7}"), tone, colours), escape::text(&text)));
        for line in more {
            out.push_str(&format!("         {}\n", escape::text(line)));
        }
    }
    let [same, differ, wrong, skipped] = counts(results);
    out.push_str(&format!(
        "{} cases: {same} as expected, {differ} differ, {wrong} wrong, {skipped} skipped\n",
        results.len()
    ));
    out
}

fn json(results: &[(Case, Answer)]) -> serde_json::Value {
    let denial = |denial: &Option<world::Refusal>| {
        denial.as_ref().map(|denial| json!({"authDeniedReason": denial.level, "by": denial.id}))
    };
    let cases: Vec<serde_json::Value> = results
        .iter()
        .map(|(case, result)| {
            let (word, verdict, text) = match result {
                Answer::Same(verdict) => ("same", Some(verdict), None),
                Answer::Differs(verdict) => ("differs", Some(verdict), None),
                Answer::Wrong(why) => ("wrong", None, Some(why)),
                Answer::Skipped(why) => ("skipped", None, Some(why)),
            };
            json!({
                "case": case.title,
                "result": word,
                "expected": expected_text(&case.expected),
                "allowed": verdict.map(|verdict| verdict.denial.is_none()),
                "denial": verdict.and_then(|verdict| denial(&verdict.denial)),
                "audited": verdict.and_then(|verdict| denial(&verdict.audited)),
                "why": verdict.map(|verdict| &verdict.why),
                "message": text,
            })
        })
        .collect();
    let [same, differ, wrong, skipped] = counts(results);
    json!({"cases": cases, "same": same, "differ": differ, "wrong": wrong, "skipped": skipped})
}
