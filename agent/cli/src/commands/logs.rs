//! `brattice logs`.

use std::process::ExitCode;

use brattice_wire::api::Request;
use brattice_wire::records::Notice;
use serde_json::{Map, Value};

use super::flows::is_named;
use crate::arguments::{Format, LogsArguments};
use crate::client::{Line, Lines, read_as};
use crate::output::{Tone, colours, paint, print_on};
use crate::{Failure, Outcome, escape};

/// Lines of the past without `--backlog`.
const BACKLOG: u32 = 100;
/// The same with `--follow`.
const BACKLOG_FOLLOWING: u32 = 10;

type Record = Map<String, Value>;

pub(crate) fn run(arguments: &LogsArguments) -> Outcome {
    let status = arguments.status.as_deref().map(status_filter).transpose()?;
    let backlog = arguments.backlog.unwrap_or(if arguments.follow { BACKLOG_FOLLOWING } else { BACKLOG });
    let mut lines = Lines::ask(&arguments.ask.run_dir, &Request::Logs { backlog })?;
    let mut following = false;
    while !following || lines.wait()? {
        let Some(line) = lines.next()? else { break };
        match line {
            Line::Row(row) => {
                let record: Record = read_as(&row)?;
                if !fits(&record, arguments, status.as_deref()) {
                    continue;
                }
                let shown = match arguments.ask.output {
                    Format::Json => escape::json(&row),
                    Format::Table => shown(&record, colours()),
                };
                if !print_on(&format!("{shown}\n")) {
                    break;
                }
            }
            Line::Notice(Notice::BacklogEnds) if arguments.follow => {
                lines.wait_for_ever()?;
                following = true;
            }
            Line::Notice(Notice::BacklogEnds) => break,
            Line::Notice(Notice::Lost { lines }) => {
                eprintln!("{lines} lines are missing here: they came faster than they were read");
            }
            Line::Notice(_) => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `404` or `4xx` as the digits that are given.
fn status_filter(text: &str) -> Result<String, Failure> {
    let digits = text.trim_end_matches(['x', 'X']);
    let good = text.len() == 3
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(digits.as_bytes()[0], b'1'..=b'5');
    if good {
        return Ok(digits.to_owned());
    }
    Err(Failure::new(format!("--status {text}: write a status such as 404, or a class such as 5xx")).code(2))
}

fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.get(name).and_then(Value::as_str).filter(|text| *text != "-")
}

fn number(record: &Record, name: &str) -> Option<u64> {
    record.get(name).and_then(Value::as_u64)
}

fn fits(record: &Record, arguments: &LogsArguments, status: Option<&str>) -> bool {
    let service = |name: &str| {
        let arn = text(record, "serviceArn");
        text(record, "serviceName").is_some_and(|service| is_named(service, name))
            || arn.is_some_and(|arn| is_named(arn, name))
    };
    let caller = |name: &str| {
        let address = text(record, "sourceIpPort").and_then(|source| source.rsplit_once(':')).map(|(ip, _)| ip);
        text(record, "sourceWorkload").is_some_and(|workload| is_named(workload, name))
            || address == Some(name)
            || [text(record, "attestedPrincipal"), text(record, "callerPrincipal")].contains(&Some(name))
    };
    arguments.service.as_deref().is_none_or(service)
        && arguments.caller.as_deref().is_none_or(caller)
        && (!arguments.denied || text(record, "authDeniedReason").is_some())
        && status.is_none_or(|digits| {
            number(record, "responseCode").is_some_and(|status| status.to_string().starts_with(digits))
        })
}

/// A line for people: when, what came of it, who asked whom for what.
fn shown(record: &Record, colours: bool) -> String {
    let cell = |name: &str| escape::cell(text(record, name).unwrap_or("-"));
    let denied = text(record, "authDeniedReason");
    let failure = text(record, "failureReason");
    let status = number(record, "responseCode");
    let tone = match status {
        _ if denied.is_some() || failure.is_some() => Tone::Bad,
        Some(500..) => Tone::Bad,
        Some(400..500) => Tone::Warning,
        _ => Tone::Good,
    };
    let status = status.map_or_else(|| "---".to_owned(), |status| status.to_string());
    let mut line = format!(
        "{} {} {} {} {}",
        paint(&cell("startTime"), Tone::Faint, colours),
        paint(&status, tone, colours),
        cell("requestMethod"),
        cell("requestPath"),
        paint(&cell("protocol"), Tone::Faint, colours),
    );
    line.push_str(&format!(
        "  {} ({}) -> {} ({})  {} ms, {} B in, {} B out",
        cell("sourceWorkload"),
        cell("sourceIpPort"),
        cell("serviceName"),
        cell("targetIpPort"),
        number(record, "duration").unwrap_or(0),
        number(record, "bytesReceived").unwrap_or(0),
        number(record, "bytesSent").unwrap_or(0),
    ));
    if let Some(by) = denied {
        line.push_str(&paint(&format!("  denied by {}: {}", by.to_lowercase(), cell("decisionId")), tone, colours));
    } else if failure.is_some() {
        line.push_str(&paint(&format!("  {}", cell("failureReason")), tone, colours));
    }
    line.push_str(&paint(&format!("  {}", cell("requestId")), Tone::Faint, colours));
    line
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::arguments::{Arguments, Verb};

    fn record() -> Record {
        let line = json!({
            "startTime": "2026-11-24T00:00:00Z", "requestId": "r-1", "requestMethod": "GET",
            "requestPath": "/a\u{1b}[31m", "protocol": "HTTP/1.1", "responseCode": 403, "duration": 3,
            "bytesReceived": 10, "bytesSent": 20, "sourceIpPort": "10.0.0.10:4711", "targetIpPort": "-",
            "sourceWorkload": "web", "serviceName": "shop/orders", "serviceArn": "arn:aws:x:service/svc-1",
            "attestedPrincipal": "arn:w", "callerPrincipal": "-", "authDeniedReason": "Service",
            "failureReason": "ClientAccessDenied", "decisionId": "a.yaml:7#b"
        });
        line.as_object().unwrap().clone()
    }

    fn arguments(words: &[&str]) -> LogsArguments {
        match Arguments::try_parse_from([&["brattice", "logs"], words].concat()).unwrap().verb {
            Verb::Logs(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn filters_choose() {
        for (words, fitting) in [
            (&[][..], true),
            (&["--service", "orders"], true),
            (&["--service", "svc-1"], true),
            (&["--service", "svc"], false),
            (&["--caller", "web"], true),
            (&["--caller", "10.0.0.10"], true),
            (&["--workload", "arn:w"], true),
            (&["--caller", "-"], false),
            (&["--denied"], true),
            (&["--status", "403"], true),
            (&["--status", "4xx"], true),
            (&["--status", "5xx"], false),
            (&["--denied", "--caller", "other"], false),
        ] {
            let arguments = arguments(words);
            let status = arguments.status.as_deref().map(|text| status_filter(text).unwrap());
            assert_eq!(fits(&record(), &arguments, status.as_deref()), fitting, "{words:?}");
        }
        let mut passed = record();
        passed.insert("authDeniedReason".into(), "-".into());
        assert!(!fits(&passed, &arguments(&["--denied"]), None));
        for wrong in ["", "4", "xxx", "9xx", "40x4", "abc"] {
            assert!(status_filter(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_says_who_asked_whom_and_why_not() {
        let line = shown(&record(), false);
        for word in ["403 GET /a", "web (10.0.0.10:4711) -> shop/orders", "denied by service: a.yaml:7#b", "r-1"] {
            assert!(line.contains(word), "{word} in {line}");
        }
        assert!(!line.contains('\u{1b}'), "{line:?}");
        assert!(shown(&record(), true).contains("\u{1b}[1;31m403"));
    }
}
