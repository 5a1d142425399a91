//! `brattice flows`.

use std::path::Path;

use brattice_wire::api::Request;
use brattice_wire::records::{Flow, Notice};
use brattice_wire::words::{is_address, is_workload};

use super::ask::listed;
use super::watch::show;
use crate::arguments::FlowsArguments;
use crate::client::{Line, Lines, read_as};
use crate::names::{Known, is_named, is_of_account, without_dot};
use crate::output::{Look, Table, Tone};
use crate::{Failure, Outcome, duration, escape};

pub(crate) fn run(arguments: &FlowsArguments) -> Outcome {
    let since = arguments.since.as_deref().map(duration::seconds).transpose();
    let since = since.map_err(|why| Failure::new(format!("--since: {why}")).code(2))?.map(|seconds| seconds * 1_000);
    let list = &arguments.list;
    show(list.watch, || {
        let (all, left_out) = ask(&list.run_dir)?;
        let open = all.len();
        if let Some(id) = arguments.ids.iter().find(|id| all.iter().all(|flow| flow.id != **id)) {
            return Err(Failure::new(format!(
                "no open connection has the id {id}; `brattice flows` lists those there are"
            )));
        }
        let flows: Vec<Flow> = all.into_iter().filter(|flow| fits(flow, arguments, since)).collect();
        if left_out > 0 {
            eprintln!("{left_out} more connections are not shown: there are too many");
        }
        if flows.is_empty() && !list.watch {
            nothing(arguments, open).into_iter().for_each(|why| eprintln!("{}", escape::text(&why)));
            list.tell_account(true);
        }
        let shown = |flows: &[Flow], look: Look| match flows {
            [] if open > 0 => String::new(),
            flows => table(flows, look),
        };
        Ok((listed(list, arguments.ids.len() == 1, &flows, |flow| flow.id.to_string(), shown), 0))
    })
}

/// Why nothing fits the filters; none: nothing is open, or another says it.
fn nothing(arguments: &FlowsArguments, open: usize) -> Option<String> {
    let names = [&arguments.service, &arguments.caller, &arguments.vpc, &arguments.target];
    if names.iter().all(|name| name.is_none()) && arguments.since.is_none() {
        return None;
    }
    let known = Known::ask(&arguments.list.run_dir);
    let why = [
        arguments.service.as_deref().and_then(|name| known.no_service(name)),
        arguments.caller.as_deref().and_then(|name| known.no_workload(name)),
        arguments.vpc.as_deref().and_then(|name| known.no_vpc(name)),
        arguments.target.as_deref().and_then(|name| known.no_workload(name)),
    ];
    let why: Vec<String> = why.into_iter().flatten().collect();
    match why.is_empty() {
        false => Some(why.join("\n")),
        true if open == 0 || arguments.list.account.is_some() => None,
        true => Some(format!("none of {open} open connections is like that")),
    }
}

/// All connections, oldest first, and how many the engine left out.
fn ask(run_dir: &Path) -> Result<(Vec<Flow>, u64), Failure> {
    let mut lines = Lines::ask(run_dir, &Request::Flows)?;
    let (mut flows, mut left_out) = (Vec::new(), 0);
    while let Some(line) = lines.next()? {
        match line {
            Line::Row(row) => flows.push(read_as::<Flow>(&row)?),
            Line::Notice(Notice::LeftOut { rows }) => left_out += rows,
            Line::Notice(_) => {}
        }
    }
    flows.sort_by_key(|flow| (flow.since_ms, flow.id));
    Ok((flows, left_out))
}

fn fits(flow: &Flow, arguments: &FlowsArguments, since: Option<u64>) -> bool {
    let wanted = |filter: &Option<String>, fits: &dyn Fn(&str) -> bool| filter.as_deref().is_none_or(fits);
    (arguments.ids.is_empty() || arguments.ids.contains(&flow.id))
        && since.is_none_or(|since| flow.age_ms <= since)
        && wanted(&arguments.list.account, &|name| {
            flow.service.as_deref().is_some_and(|service| is_of_account(service, name))
                || is_of_account(&flow.source_vpc, name)
        })
        && wanted(&arguments.service, &|name| {
            let name = without_dot(name);
            flow.service.as_deref().is_some_and(|service| is_named(service, name))
        })
        && wanted(&arguments.vpc, &|name| is_named(&flow.source_vpc, name))
        && wanted(&arguments.caller, &|name| {
            is_workload(name, &flow.source_vpc, &flow.source_workload)
                || flow.alias.to_string() == name
                || is_address(name, &flow.source_vpc, &flow.source.ip().to_string())
                || flow.source.to_string() == name
        })
        && wanted(&arguments.target, &|name| {
            let vpc = flow.target_vpc.as_deref().unwrap_or_default();
            flow.target_workload.as_deref().is_some_and(|workload| is_workload(name, vpc, workload))
                || flow
                    .target
                    .is_some_and(|target| target.to_string() == name || is_address(name, vpc, &target.ip().to_string()))
        })
}

fn table(flows: &[Flow], look: Look) -> String {
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
    ])
    .only_wide(&["PROTOCOL", "FROM", "ALIAS", "FROM VPC", "RULE", "TO", "TO VPC", "LATEST REQUEST"]);
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
    table.render(look)
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
    use serde_json::json;

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
            (&["--caller", "platform/blue/web"], true),
            (&["--caller", "platform/web"], true),
            (&["--caller", "blue/10.0.0.10"], true),
            (&["--caller", "green/10.0.0.10"], false),
            (&["--vpc", "blue"], true),
            (&["--vpc", "green"], false),
            (&["--target", "10.0.0.10:8080"], true),
            (&["--target", "web"], false),
            (&["--service", "orders", "--vpc", "green"], false),
            (&["--account", "shop"], true),
            (&["7"], true),
            (&["8", "9"], false),
            (&["-n", "platform"], true),
            (&["--namespace", "rival"], false),
            (&["--since", "2m"], true),
            (&["--since", "60s"], false),
        ] {
            let arguments = arguments(words);
            let since = arguments.since.as_deref().map(|text| duration::seconds(text).unwrap() * 1_000);
            assert_eq!(fits(&flow(), &arguments, since), fitting, "{words:?}");
        }
    }

    #[test]
    fn a_row_says_everything_and_nothing_reaches_the_terminal() {
        let shown = table(&[flow()], Look { wide: true, ..Look::default() });
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
        assert_eq!(table(&[], Look::default()), "no connection is open\n");
    }

    #[test]
    fn sizes_and_ages_are_short() {
        assert_eq!([0, 1_023, 1_024, 5 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "5.0 MiB"]);
        assert_eq!([5, 1_000, 200_000, 8_000_000, 900_000_000].map(age), ["5ms", "1s", "3m", "2h", "10d"]);
    }
}
