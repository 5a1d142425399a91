//! `brattice route`: which rule a request meets, by the agent or by documents alone. What `brattice explain` shares with it
//! is here, too.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use brattice_control::ranges::Origins;
use brattice_control::state::StateDirectory;
use brattice_explain::{Documents, Error, World};
use brattice_wire::api::{Answer, Request};
use brattice_wire::explain::{Explanation, Outcome, Question};
use brattice_wire::words::counted;
use serde_json::json;

use super::documents::check;
use crate::arguments::{BasisArguments, Format, NodeArguments, RequestArguments, RouteArguments};
use crate::output::{Tone, colours, paint, print_as, print_prose};
use crate::{Failure, client, escape};

/// Nothing can be said.
const UNKNOWN: u8 = 2;

pub(crate) fn run(arguments: &RouteArguments) -> crate::Outcome {
    let question = question(&arguments.from, &arguments.service, &arguments.request)?;
    let explanation = match &arguments.basis.policies {
        Some(directory) => {
            by_documents(directory, &arguments.basis, |world| brattice_explain::route(world, &question))?
        }
        None => by_agent(&arguments.basis, &Request::Route(Box::new(question)))?,
    };
    show(&explanation, arguments.basis.output, brattice_explain::render_route)
}

/// The request that the words mean.
pub(super) fn question(from: &str, service: &str, request: &RequestArguments) -> Result<Question, Failure> {
    let header = |text: &String| {
        let (name, value) = text.split_once(':').ok_or_else(|| {
            Failure::new(format!("--header {text:?}: write name and value with a colon, such as x-team:red"))
                .code(UNKNOWN)
        })?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    Ok(Question {
        from: from.to_owned(),
        service: service.to_owned(),
        method: method(&request.method),
        path: request.path.clone(),
        host: request.host.clone(),
        port: request.port,
        headers: request.headers.iter().map(header).collect::<Result<_, Failure>>()?,
    })
}

/// Methods that are registered; clients write them so, and servers and policies compare them as they are written.
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// A method as clients send it. `post` is taken as `POST`: methods are case-sensitive (RFC 9110, 9.1).
fn method(typed: &str) -> String {
    let upper = typed.to_ascii_uppercase();
    if METHODS.contains(&upper.as_str()) { upper } else { typed.to_owned() }
}

/// Asks the agent.
pub(super) fn by_agent(basis: &BasisArguments, request: &Request) -> Result<Explanation, Failure> {
    match client::ask(&basis.run_dir, request).map_err(|failure| failure.code(UNKNOWN))? {
        Answer::Explained(explanation) => Ok(*explanation),
        _ => Err(super::ask::unexpected().code(UNKNOWN)),
    }
}

/// Decides by the documents of a directory.
pub(super) fn by_documents(
    directory: &Path,
    basis: &BasisArguments,
    decide: impl FnOnce(&World<'_>) -> Result<Explanation, Error>,
) -> Result<Explanation, Failure> {
    let state = StateDirectory::existing(&basis.state_dir).peek();
    let node = NodeArguments {
        vip_range: basis.vip_range,
        alias_range: basis.alias_range,
        vip6_range: basis.vip6_range,
        alias6_range: basis.alias6_range,
        dns_suffix: basis.dns_suffix.clone(),
        state_dir: basis.state_dir.clone(),
        range_origins: Origins::default(),
    };
    let checked = check(directory, &node, &state, &BTreeMap::new()).map_err(|failure| failure.code(UNKNOWN))?;
    let errors = checked.errors();
    if errors > 0 {
        let text = format!(
            "{} in {}, so nothing is decided by it; `brattice validate` shows them",
            counted(errors as u64, "error"),
            directory.display()
        );
        return Err(Failure::new(text).code(UNKNOWN));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let documents = Documents::new(&checked.linked.model);
    let world = documents.world(i64::try_from(now).expect("64 bits of seconds last 292 billion years"));
    decide(&world).map_err(|e| Failure::new(e).code(UNKNOWN))
}

/// Prints an explanation; the exit code says what happens to the request.
pub(super) fn show(
    explanation: &Explanation,
    format: Format,
    render: impl FnOnce(&Explanation) -> String,
) -> crate::Outcome {
    match format {
        Format::Json | Format::Yaml => print_as(format, &json!(explanation)),
        Format::Table | Format::Wide => {
            let text = painted(&escape::text(&render(explanation)), explanation.outcome, colours());
            print_prose(&text, format == Format::Wide);
        }
    }
    Ok(ExitCode::from(explanation.outcome.exit_code()))
}

/// The verdict in its colour, headings faint.
fn painted(text: &str, outcome: Outcome, colours: bool) -> String {
    let tone = match outcome {
        Outcome::Allowed => Tone::Good,
        Outcome::Denied | Outcome::Unreachable => Tone::Bad,
        Outcome::Unknown => Tone::Warning,
    };
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.lines().enumerate() {
        match number {
            0 => {
                let (word, rest) = line.split_at(line.find(':').unwrap_or(0));
                out.push_str(&paint(word, tone, colours));
                out.push_str(rest);
            }
            _ if line.starts_with(' ') => out.push_str(line),
            _ => out.push_str(&paint(line, Tone::Faint, colours)),
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_typed_in_any_case_and_others_are_left_alone() {
        assert_eq!(["post", "Get", "POST", "purge", "PURGE"].map(method), ["POST", "GET", "POST", "purge", "PURGE"]);
    }
}
