//! `brattice flows`.

use std::process::ExitCode;
use std::time::Duration;

use brattice_wire::api::Request;
use brattice_wire::records::{Flow, Notice};
use serde_json::json;

use crate::arguments::{FlowsArguments, Format};
use crate::client::{Line, Lines, read_as};
use crate::output::{Table, Tone, colours, is_terminal, print_json, print_on};
use crate::{Failure, Outcome, escape};

/// How often `--watch` looks.
const AGAIN: Duration = Duration::from_secs(1);
/// Clears a terminal.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

pub(crate) fn run(arguments: &FlowsArguments) -> Outcome {
    loop {
        let (flows, left_out) = ask(arguments)?;
        let read = match arguments.ask.output {
            // One array per look, each on a line of its own.
            Format::Json if arguments.watch => print_on(&format!("{}\n", escape::json(&json!(flows).to_string()))),
            Format::Json => {
                print_json(&json!(flows));
                true
            }
            Format::Table => {
                let clear = if arguments.watch && is_terminal() { CLEAR } else { "" };
                print_on(&format!("{clear}{}", table(&flows, colours())))
            }
        };
        if left_out > 0 {
            eprintln!("{left_out} more connections are not shown: there are too many");
        }
        if !arguments.watch || !read {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(AGAIN);
    }
}

/// What fits the filters, oldest first, and how many connections the engine left out.
fn ask(arguments: &FlowsArguments) -> Result<(Vec<Flow>, u64), Failure> {
    let mut lines = Lines::ask(&arguments.ask.run_dir, &Request::Flows)?;
    let (mut flows, mut left_out) = (Vec::new(), 0);
    while let Some(line) = lines.next()? {
        match line {
            Line::Row(row) => flows.push(read_as::<Flow>(&row)?),
            Line::Notice(Notice::LeftOut { rows }) => left_out += rows,
            Line::Notice(_) => {}
        }
    }
    flows.retain(|flow| fits(flow, arguments));
    flows.sort_by_key(|flow| (flow.since_ms, flow.id));
    Ok((flows, left_out))
}

fn fits(flow: &Flow, arguments: &FlowsArguments) -> bool {
    let wanted = |filter: &Option<String>, fits: &dyn Fn(&str) -> bool| filter.as_deref().is_none_or(fits);
    wanted(&arguments.service, &|name| flow.service.as_deref().is_some_and(|service| is_named(service, name)))
        && wanted(&arguments.vpc, &|name| is_named(&flow.source_vpc, name))
        && wanted(&arguments.caller, &|name| {
            is_named(&flow.source_workload, name)
                || flow.alias.to_string() == name
                || flow.source.ip().to_string() == name
                || flow.source.to_string() == name
        })
        && wanted(&arguments.target, &|name| {
            flow.target_workload.as_deref().is_some_and(|workload| is_named(workload, name))
                || flow.target.is_some_and(|target| target.to_string() == name || target.ip().to_string() == name)
        })
}

/// Whether something with a name like `account/name` is meant by the whole of it or its last part.
pub(crate) fn is_named(whole: &str, name: &str) -> bool {
    whole == name || whole.rsplit_once('/').is_some_and(|(_, last)| last == name)
}

fn table(flows: &[Flow], colours: bool) -> String {
    if flows.is_empty() {
        return "no connection is open\n".to_owned();
    }
    let mut table = Table::new(&[
        "ID",
        "PROTOCOL",
        "CALLER",
        "FROM",
        "ALIAS",
        "FROM VPC",
        "SERVICE",
        "RULE",
        "TARGET",
        "TO",
        "TO VPC",
        "AGE",
        "IN",
        "OUT",
        "REQUESTS",
        "LATEST REQUEST",
    ]);
    let plain = |text: String| (text, Tone::Plain);
    let given = |text: &Option<String>| (text.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain);
    for flow in flows {
        table.row(&[
            (flow.id.to_string(), Tone::Faint),
            plain(flow.protocol.as_str().to_owned()),
            plain(if flow.source_workload.is_empty() { "-".to_owned() } else { flow.source_workload.clone() }),
            plain(flow.source.to_string()),
            (flow.alias.to_string(), Tone::Faint),
            plain(flow.source_vpc.clone()),
            given(&flow.service),
            given(&flow.rule),
            given(&flow.target_workload),
            plain(flow.target.map_or_else(|| "-".to_owned(), |target| target.to_string())),
            given(&flow.target_vpc),
            plain(age(flow.age_ms)),
            plain(bytes(flow.bytes_received)),
            plain(bytes(flow.bytes_sent)),
            plain(if flow.requests_open > 0 {
                format!("{} ({} open)", flow.requests, flow.requests_open)
            } else {
                flow.requests.to_string()
            }),
            (flow.request_id.clone().unwrap_or_else(|| "-".to_owned()), Tone::Faint),
        ]);
    }
    table.render(colours)
}

fn age(ms: u64) -> String {
    match ms / 1_000 {
        0 => format!("{ms}ms"),
        seconds @ 1..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}m", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", count / unit, count % unit * 10 / unit),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Verb};

    fn flow() -> Flow {
        serde_json::from_value(json!({
            "id": 7, "protocol": "HTTP/2", "source": "10.0.0.10:4711", "sourceVpc": "platform/blue",
            "sourceWorkload": "web", "alias": "100.127.0.1", "vip": "169.254.64.32:80", "service": "shop/orders",
            "listener": "http", "rule": "default", "targetGroup": "shop/orders", "target": "10.0.0.10:8080",
            "targetVpc": "platform/green", "targetWorkload": "clerk\u{1b}[31m", "sinceMs": 1, "ageMs": 61_000,
            "bytesReceived": 1_536, "bytesSent": 3, "requests": 5, "requestsOpen": 1, "requestId": "r-1"
        }))
        .unwrap()
    }

    fn arguments(words: &[&str]) -> FlowsArguments {
        match Arguments::try_parse_from([&["brattice", "flows"], words].concat()).unwrap().verb {
            Verb::Flows(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn filters_choose() {
        for (words, fitting) in [
            (&[][..], true),
            (&["--service", "orders"], true),
            (&["--service", "shop/orders"], true),
            (&["--service", "ders"], false),
            (&["--caller", "web"], true),
            (&["--workload", "100.127.0.1"], true),
            (&["--caller", "10.0.0.10"], true),
            (&["--caller", "10.0.0.11"], false),
            (&["--vpc", "blue"], true),
            (&["--vpc", "green"], false),
            (&["--target", "10.0.0.10:8080"], true),
            (&["--target", "web"], false),
            (&["--service", "orders", "--vpc", "green"], false),
        ] {
            assert_eq!(fits(&flow(), &arguments(words)), fitting, "{words:?}");
        }
    }

    #[test]
    fn a_row_says_everything_and_nothing_reaches_the_terminal() {
        let shown = table(&[flow()], false);
        for word in [
            "HTTP/2",
            "10.0.0.10:4711",
            "100.127.0.1",
            "web",
            "platform/blue",
            "shop/orders",
            "default",
            "clerk\\u{1b}[31m",
            "10.0.0.10:8080",
            "platform/green",
            "61s",
            "1.5 KiB",
            "3 B",
            "5 (1 open)",
            "r-1",
        ] {
            assert!(shown.contains(word), "{word} in {shown}");
        }
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert_eq!(table(&[], false), "no connection is open\n");
    }

    #[test]
    fn sizes_and_ages_are_short() {
        assert_eq!([0, 1_023, 1_024, 5 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "5.0 MiB"]);
        assert_eq!([5, 1_000, 200_000, 8_000_000, 900_000_000].map(age), ["5ms", "1s", "3m", "2h", "10d"]);
    }
}
