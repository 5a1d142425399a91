//! `brattice logs`.

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use brattice_wire::api::Request;
use brattice_wire::records::{MAX_BACKLOG, Notice};
use brattice_wire::words::{counted, is_workload};
use serde_json::{Map, Value};

use crate::arguments::{Format, LogsArguments};
use crate::client::{Line, Lines, read_as};
use crate::names::{Known, is_named, is_of_account, without_dot};
use crate::output::{Tone, colours, paint, print_on, structured};
use crate::{Failure, Outcome, duration, escape};

/// Lines of the past without `--backlog`.
const BACKLOG: u32 = 100;
/// The same with `--follow`.
const BACKLOG_FOLLOWING: u32 = 10;

type Record = Map<String, Value>;

pub(crate) fn run(arguments: &LogsArguments) -> Outcome {
    let filter = Filter::of(arguments)?.resolved(&arguments.run_dir);
    let usual = if arguments.follow { BACKLOG_FOLLOWING } else { BACKLOG };
    let most = arguments.backlog.unwrap_or(if arguments.since.is_some() { MAX_BACKLOG } else { usual });
    // The latest that fit: a filter looks at all there are.
    let asked = if filter.chooses() && most > 0 { MAX_BACKLOG } else { most };
    let mut lines = Lines::ask(&arguments.run_dir, &Request::Logs { backlog: asked })?;
    let (mut following, mut seen) = (false, 0);
    let mut past = VecDeque::new();
    while !following || lines.wait()? {
        let Some(line) = lines.next()? else { break };
        match line {
            Line::Row(row) => {
                let record: Record = read_as(&row)?;
                seen += 1;
                if !filter.fits(&record) {
                    continue;
                }
                let shown = match arguments.output {
                    Format::Json => format!("{}\n", escape::json(&row)),
                    Format::Yaml => format!("---\n{}", structured(Format::Yaml, &Value::Object(record))),
                    Format::Table | Format::Wide => format!("{}\n", shown(&record, colours())),
                };
                if following {
                    if !print_on(&shown) {
                        break;
                    }
                    continue;
                }
                past.push_back(shown);
                if past.len() as u64 > u64::from(most) {
                    past.pop_front();
                }
            }
            Line::Notice(Notice::BacklogEnds) => {
                if past.is_empty() && most > 0 {
                    eprintln!("{}", escape::text(&nothing(arguments, seen)));
                }
                if !print_on(&past.drain(..).collect::<String>()) || !arguments.follow {
                    break;
                }
                lines.wait_for_ever()?;
                following = true;
            }
            Line::Notice(Notice::Lost { lines }) => {
                let (missing, are) = (counted(lines, "line"), if lines == 1 { "is" } else { "are" });
                eprintln!("{missing} {are} missing here: they came faster than they were read");
            }
            Line::Notice(_) => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why there is no line of the past.
fn nothing(arguments: &LogsArguments, seen: u64) -> String {
    let known = Known::ask(&arguments.run_dir);
    let why = [
        // A service may be named by what only the log knows, its ARN.
        arguments.service.as_deref().and_then(|name| known.no_service(name)),
        arguments.caller.as_deref().and_then(|name| known.no_workload(name)),
        arguments.account.as_deref().and_then(|name| known.no_account(name)),
    ];
    let why: Vec<String> = why.into_iter().flatten().collect();
    match (why.is_empty(), seen) {
        (false, _) => why.join("\n"),
        (true, 0) => "no request has ended yet".to_owned(),
        (true, _) => format!(
            "none of the latest {} is like that; the file of the access log has older ones",
            counted(seen, "line")
        ),
    }
}

/// Which lines are shown.
struct Filter<'a> {
    arguments: &'a LogsArguments,
    /// Digits that the status begins with.
    status: Option<String>,
    /// The earliest start, in seconds since 1970.
    since: Option<i64>,
    /// Workloads of the node that `--caller` means, with their VPCs.
    callers: Vec<(String, String)>,
}

impl<'a> Filter<'a> {
    fn of(arguments: &'a LogsArguments) -> Result<Self, Failure> {
        let status = arguments.status.as_deref().map(status_filter).transpose()?;
        let since = arguments.since.as_deref().map(duration::seconds).transpose();
        let since = since.map_err(|why| Failure::new(format!("--since: {why}")).code(2))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let since = since.map(|seconds| {
            i64::try_from(now.saturating_sub(seconds)).expect("64 bits of seconds last 292 billion years")
        });
        Ok(Self { arguments, status, since, callers: Vec::new() })
    }

    /// With the workloads that are meant by a VPC and a name, an interface or an alias, which no line has.
    fn resolved(mut self, run_dir: &Path) -> Self {
        if let Some(name) = &self.arguments.caller {
            self.callers = Known::ask(run_dir).workloads_named(name);
        }
        self
    }

    /// Whether any line may be left out.
    fn chooses(&self) -> bool {
        let LogsArguments { account, service, caller, denied, .. } = self.arguments;
        *denied || self.status.is_some() || account.is_some() || service.is_some() || caller.is_some()
    }

    fn fits(&self, record: &Record) -> bool {
        let arguments = self.arguments;
        let service = |name: &str| {
            let name = without_dot(name);
            let arn = text(record, "serviceArn");
            text(record, "serviceName").is_some_and(|service| is_named(service, name))
                || arn.is_some_and(|arn| is_named(arn, name))
        };
        let caller = |name: &str| {
            let address = text(record, "sourceIpPort").and_then(|source| source.rsplit_once(':')).map(|(ip, _)| ip);
            let attested = text(record, "attestedPrincipal");
            // `arn:…:workload/VPC/NAME`
            let vpc =
                attested.and_then(|arn| arn.split_once(":workload/")?.1.split_once('/')).map_or("", |(vpc, _)| vpc);
            let of = |own: &str| {
                let is =
                    |(known, workload): &(String, String)| known.rsplit('/').next() == Some(vpc) && workload == own;
                is_workload(name, vpc, own) || self.callers.iter().any(is)
            };
            text(record, "sourceWorkload").is_some_and(of)
                || address == Some(name)
                || [attested, text(record, "callerPrincipal")].contains(&Some(name))
        };
        let account = |name: &str| text(record, "serviceName").is_some_and(|service| is_of_account(service, name));
        let began =
            |since: i64| text(record, "startTime").and_then(brattice_iam::seconds).is_some_and(|start| start >= since);
        let status = |digits: &str| {
            // As in the metrics, what a policy denied is of class 4xx, for gRPC as well, which is answered 200.
            if digits.len() == 1 && text(record, "authDeniedReason").is_some() {
                return digits == "4";
            }
            number(record, "responseCode").is_some_and(|status| status.to_string().starts_with(digits))
        };
        self.since.is_none_or(began)
            && arguments.account.as_deref().is_none_or(account)
            && arguments.service.as_deref().is_none_or(service)
            && arguments.caller.as_deref().is_none_or(caller)
            && (!arguments.denied || text(record, "authDeniedReason").is_some())
            && self.status.as_deref().is_none_or(status)
    }
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

/// A line for people: time, result, caller, service, request.
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
            "attestedPrincipal": "arn:aws:vpc-lattice:local:111111111111:workload/blue/web", "callerPrincipal": "-", "authDeniedReason": "Service",
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
            (&["--workload", "arn:aws:vpc-lattice:local:111111111111:workload/blue/web"], true),
            (&["--caller", "blue/web"], true),
            (&["--caller", "green/web"], false),
            (&["--caller", "-"], false),
            (&["--denied"], true),
            (&["--status", "403"], true),
            (&["--status", "4xx"], true),
            (&["--status", "5xx"], false),
            (&["--denied", "--caller", "other"], false),
            (&["-n", "shop"], true),
            (&["--account", "platform"], false),
            (&["-f", "--since", "1m"], false),
        ] {
            let arguments = arguments(words);
            assert_eq!(Filter::of(&arguments).unwrap().fits(&record()), fitting, "{words:?}");
        }
        // A denied gRPC call.
        let mut grpc = record();
        grpc.insert("responseCode".into(), 200.into());
        for (status, fitting) in [("4xx", true), ("2xx", false), ("200", true), ("403", false)] {
            let arguments = arguments(&["--status", status]);
            assert_eq!(Filter::of(&arguments).unwrap().fits(&grpc), fitting, "{status}");
        }
        let mut passed = record();
        passed.insert("authDeniedReason".into(), "-".into());
        assert!(!Filter::of(&arguments(&["--denied"])).unwrap().fits(&passed));
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
