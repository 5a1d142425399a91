//! The page of metrics; docs/observability.md has the list.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use brattice_wire::{
    engine::Stats,
    records::{FailureReason, NodeMetrics},
};

use super::text::{Kind, Page};
use crate::events::metrics::{
    count::Count,
    series::{BUCKETS_MS, Row, Series},
};

/// Classes of answers, in the order of [`Row::responses`].
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Levels of policies, in the order of [`Row::denied`].
const LEVELS: [&str; 3] = ["service", "network", "identity"];

/// A family whose samples are made of a `T` each: name, kind, help, value.
type ValueFamily<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);
/// A family of a list's counts: name, the list's label, help, the list.
type ListFamily<'a> = (&'static str, &'static str, &'static str, &'a [(String, u64)]);

/// The page. `failures` are in the order of [`FailureReason::ALL`]; `node` is what the agent reported last, and when.
pub(crate) fn page(
    stats: &Stats,
    failures: &[u64; FailureReason::ALL.len()],
    series: &[Arc<Series>],
    node: Option<&(SystemTime, NodeMetrics)>,
) -> String {
    let mut page = Page::default();
    services(&mut page, series);
    engine(&mut page, stats, failures, node.map(|(_, node)| node));
    if let Some((arrived, node)) = node {
        agent(&mut page, *arrived, node);
    }
    page.finish()
}

fn labels(series: &Series) -> [(&str, &str); 4] {
    let labels = &series.labels;
    [
        ("service", &*labels.service),
        ("listener", &*labels.listener),
        ("target_group", &*labels.target_group),
        ("vpc", &*labels.vpc),
    ]
}

fn services(page: &mut Page, all: &[Arc<Series>]) {
    let requests = |series: &Series| series.sum(|row| row.responses.iter().map(Count::get).sum());
    let served: Vec<_> = all.iter().filter(|series| requests(series) > 0).collect();
    let name = "brattice_requests_total";
    page.family(name, Kind::Counter, "Requests that have ended.");
    for series in &served {
        page.sample(name, "", &labels(series), requests(series));
    }
    let name = "brattice_responses_total";
    page.family(
        name,
        Kind::Counter,
        "Requests that have ended, by class of the response's status; none: without a response.",
    );
    for series in &served {
        for (n, class) in CLASSES.iter().enumerate() {
            let [a, b, c, d] = labels(series);
            page.sample(name, "", &[a, b, c, d, ("class", class)], series.sum(|row| row.responses[n].get()));
        }
    }
    let name = "brattice_denied_total";
    page.family(name, Kind::Counter, "Requests that policies denied or ended, by the level of the policy.");
    for series in &served {
        for (n, level) in LEVELS.iter().enumerate() {
            let count = series.sum(|row| row.denied[n].get());
            if count > 0 {
                let [a, b, c, d] = labels(series);
                page.sample(name, "", &[a, b, c, d, ("level", level)], count);
            }
        }
    }
    let name = "brattice_request_duration_seconds";
    page.family(name, Kind::Histogram, "Time from a request's header section to the last byte of its response.");
    for series in &served {
        let [a, b, c, d] = labels(series);
        let mut below = 0;
        for n in 0..=BUCKETS_MS.len() {
            below += series.sum(|row| row.durations[n].get());
            let bound = BUCKETS_MS.get(n).map_or_else(|| "+Inf".to_owned(), |ms| seconds(*ms * 1_000).to_string());
            page.sample(name, "_bucket", &[a, b, c, d, ("le", &bound)], below);
        }
        page.sample(name, "_sum", &[a, b, c, d], seconds(series.sum(|row| row.duration_us.get())));
        page.sample(name, "_count", &[a, b, c, d], below);
    }
    let each: [ValueFamily<Row>; 4] = [
        (
            "brattice_received_bytes_total",
            Kind::Counter,
            "Bytes from callers: heads and bodies of requests that have ended, what was relayed.",
            |row| row.received.get(),
        ),
        (
            "brattice_sent_bytes_total",
            Kind::Counter,
            "Bytes to callers: responses to requests that have ended, what was relayed.",
            |row| row.sent.get(),
        ),
        (
            "brattice_connections_total",
            Kind::Counter,
            "Connections of callers. Target groups are those of relayed ones only.",
            |row| row.connections.get(),
        ),
        ("brattice_connections_open", Kind::Gauge, "Connections of callers that are open now.", |row| row.open.get()),
    ];
    for (name, kind, help, value) in each {
        page.family(name, kind, help);
        let connections = name.contains("connections");
        for series in all {
            let connected = series.sum(|row| row.connections.get()) > 0;
            if connected || !connections && requests(series) > 0 {
                page.sample(name, "", &labels(series), series.sum(value));
            }
        }
    }
}

fn engine(page: &mut Page, stats: &Stats, failures: &[u64; FailureReason::ALL.len()], node: Option<&NodeMetrics>) {
    let name = "brattice_request_failures_total";
    page.family(name, Kind::Counter, "Requests that were not served, by reason (failureReason of the access log).");
    for (reason, count) in FailureReason::ALL.iter().zip(failures) {
        page.sample(name, "", &[("reason", reason.as_str())], count);
    }
    let name = "brattice_build_info";
    page.family(name, Kind::Gauge, "1; the labels say which version of each component runs.");
    page.sample(name, "", &[("component", "engine"), ("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Some(node) = node {
        page.sample(name, "", &[("component", "agent"), ("version", &node.version)], 1);
    }
    let name = "brattice_targets_failing";
    let help = "Targets that could not be connected to within the last minute.";
    page.single(name, Kind::Gauge, help, stats.failing.len());
    page.single("brattice_engine_revision", Kind::Gauge, "Revision in force.", stats.revision);
    let name = "brattice_engine_connections_total";
    page.single(name, Kind::Counter, "Connections accepted from all callers.", stats.connections_accepted);
    page.single("brattice_engine_connections_open", Kind::Gauge, "Connections open now.", stats.connections_open);
    let name = "brattice_engine_connections_relayed_total";
    page.single(name, Kind::Counter, "Connections relayed as TCP because of a bypass.", stats.connections_relayed);
    page.single("brattice_engine_requests_total", Kind::Counter, "Requests whose head was read.", stats.requests);
    page.single("brattice_engine_requests_open", Kind::Gauge, "Requests in flight.", stats.requests_open);
    let name = "brattice_engine_refused_requests_total";
    page.single(name, Kind::Counter, "Requests refused as malformed or smuggling.", stats.refused_requests);
    let name = "brattice_engine_unknown_service_total";
    page.single(name, Kind::Counter, "Requests for services that their callers do not see.", stats.unknown_service);
    let name = "brattice_engine_unknown_peers_total";
    page.single(name, Kind::Counter, "Connections from unknown callers, reset.", stats.unknown_peers);
    let name = "brattice_engine_denied_total";
    page.family(name, Kind::Counter, "Requests that policies refused, by the level of the policy.");
    for (level, count) in ["identity", "network", "service"].iter().zip(stats.denied) {
        page.sample(name, "", &[("level", level)], count);
    }
    let name = "brattice_engine_revoked_total";
    page.family(name, Kind::Counter, "Requests and connections that were ended because they are no longer allowed.");
    for (what, count) in ["requests", "connections"].iter().zip(stats.revoked) {
        page.sample(name, "", &[("what", what)], count);
    }
    let name = "brattice_engine_unrelayed_total";
    page.single(name, Kind::Counter, "Bypassed connections reset because of policies.", stats.unrelayed);
    let name = "brattice_engine_connect_errors_total";
    page.single(name, Kind::Counter, "Connects to targets that failed.", stats.connect_errors);
    let name = "brattice_engine_limit_hits_total";
    page.family(name, Kind::Counter, "Times a limit was reached.");
    for (limit, count) in &stats.limits_hit {
        page.sample(name, "", &[("limit", limit)], count);
    }
    let [used, most] = stats.memory;
    let name = "brattice_engine_traffic_bytes";
    page.single(name, Kind::Gauge, "Memory that connections, requests and bodies can hold at most.", used);
    let name = "brattice_engine_traffic_bytes_limit";
    page.single(name, Kind::Gauge, "Limit of that memory; 0: no limit.", most);
    let [used, most] = stats.descriptors;
    page.single("brattice_engine_descriptors", Kind::Gauge, "File descriptors in use.", used);
    let name = "brattice_engine_descriptors_limit";
    page.single(name, Kind::Gauge, "File descriptors that may be in use, without the reserve; 0: no limit.", most);
    let name = "brattice_dns_questions_total";
    page.family(name, Kind::Counter, "DNS questions.");
    for (result, count) in ["answered", "forwarded", "refused"].iter().zip(stats.dns) {
        page.sample(name, "", &[("result", result)], count);
    }
    let name = "brattice_access_log_lines_total";
    page.family(name, Kind::Counter, "Lines of the access log.");
    for (result, count) in ["written", "dropped", "sampled_out"].iter().zip(stats.log_lines) {
        page.sample(name, "", &[("result", result)], count);
    }
    let name = "brattice_metrics_overflow_total";
    page.single(
        name,
        Kind::Counter,
        "Times that a new series was over the limit; its values are added to _other.",
        stats.metrics_overflow,
    );
}

fn agent(page: &mut Page, arrived: SystemTime, node: &NodeMetrics) {
    // First of them: it says whether the others are still true.
    let name = "brattice_agent_last_update_time_seconds";
    let help = "When the agent last reported its values, seconds since 1970.";
    page.single(name, Kind::Gauge, help, arrived.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    let lists: [ListFamily<'_>; 3] = [
        ("brattice_kernel_drops_total", "reason", "Packets dropped by the kernel programs.", &node.drops),
        ("brattice_kernel_packets_total", "counter", "Other counts of the kernel programs.", &node.counters),
        ("brattice_repairs_total", "what", "Objects of Brattice on the host that were restored.", &node.repairs),
    ];
    for (name, label, help, list) in lists {
        page.family(name, Kind::Counter, help);
        for (text, count) in list.iter().take(NodeMetrics::MOST) {
            page.sample(name, "", &[(label, text)], count);
        }
    }
    let tables: [ValueFamily<(String, u64, u64)>; 2] = [
        ("brattice_table_used", Kind::Gauge, "Entries of a bounded table.", |table| table.1),
        ("brattice_table_limit", Kind::Gauge, "Capacity of a bounded table, in entries.", |table| table.2),
    ];
    for (name, kind, help, value) in tables {
        page.family(name, kind, help);
        for table in node.tables.iter().take(NodeMetrics::MOST) {
            page.sample(name, "", &[("table", &table.0)], value(table));
        }
    }
    page.single("brattice_health", Kind::Gauge, "As `brattice status` exits: 0 ok, 1 degraded, 2 down.", node.health);
    let gauges: [ListFamily<'_>; 3] = [
        ("brattice_problems", "kind", "What `brattice status` finds wrong.", &node.problems),
        ("brattice_owners", "state", "Owners of documents by the state of what is on disk.", &node.owners),
        ("brattice_switches", "mode", "Switches in force.", &node.switches),
    ];
    for (name, label, help, list) in gauges {
        page.family(name, Kind::Gauge, help);
        for (text, count) in list.iter().take(NodeMetrics::MOST) {
            page.sample(name, "", &[(label, text)], count);
        }
    }
    let name = "brattice_documents_not_in_force";
    page.family(name, Kind::Gauge, "1 for an owner whose documents on disk are not in force, and why.");
    for (owner, state) in node.not_in_force.iter().take(NodeMetrics::MOST) {
        page.sample(name, "", &[("owner", owner), ("state", state)], 1);
    }
    let name = "brattice_engine_restarts_total";
    page.single(name, Kind::Counter, "Replacements of the engine since the agent's start.", node.engine_restarts);
    let name = "brattice_agent_start_time_seconds";
    page.single(name, Kind::Gauge, "When the agent started, seconds since 1970.", node.agent_start_seconds);
}

#[allow(clippy::cast_precision_loss, reason = "as a float is what the format has")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::events::metrics::series::{Labels, Registry};

    const DOCUMENTED: &str = include_str!("../../../../docs/observability.md");

    /// With something in every family.
    fn full() -> String {
        let registry = Registry::new(1);
        let labels = Labels {
            service: "shop/or\"ders\\".into(),
            listener: "http\n80".into(),
            target_group: "shop/v1".into(),
            vpc: "platform/blue".into(),
        };
        let series = registry.series(&labels);
        for (status, ms) in [(200, 3), (404, 3), (503, 70_000), (0, 1)] {
            series.row(0).ended(status, Duration::from_millis(ms));
            series.row(0).moved(10, 20);
        }
        series.row(0).denied[1].set(2);
        series.row(0).connections.set(1);
        let one = || vec![("a \"thing\"".to_owned(), 1)];
        let node = NodeMetrics {
            drops: one(),
            counters: one(),
            repairs: one(),
            tables: vec![("aliases".into(), 1, 2)],
            problems: one(),
            owners: one(),
            switches: one(),
            not_in_force: vec![("shop".into(), "invalid".into())],
            ..NodeMetrics::default()
        };
        let stats = Stats { limits_hit: one(), ..Stats::default() };
        page(
            &stats,
            &[0; FailureReason::ALL.len()],
            &registry.all(),
            Some(&(UNIX_EPOCH + Duration::from_secs(1_769_854_830), node)),
        )
    }

    #[test]
    fn every_metric_and_reason_is_documented() {
        let page = full();
        let served: BTreeSet<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let row = |start: &'static str| {
            DOCUMENTED
                .lines()
                .filter_map(move |line| line.strip_prefix("| `")?.split('`').next())
                .filter(move |name| name.starts_with(start))
        };
        assert_eq!(served, row("brattice_").collect());
        let (_, reasons) = DOCUMENTED.split_once("### failureReason\n").unwrap();
        let (reasons, _) = reasons.split_once("\n## ").unwrap();
        let reasons = reasons.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(reasons.collect::<Vec<_>>(), FailureReason::ALL.map(FailureReason::as_str));
        let buckets = BUCKETS_MS.map(|ms| seconds(ms * 1_000).to_string()).join(", ");
        assert!(DOCUMENTED.contains(&format!("| histogram: {buckets} |")), "{buckets}");
    }

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let page = full();
        let mut families = BTreeSet::new();
        let mut family = ("", "");
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(families.insert(name), "{name} comes twice");
                assert!(
                    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !text.is_empty(),
                    "{line}"
                );
                let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).expect("its type follows");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                family = (name, kind);
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            let suffix = name.strip_prefix(family.0).unwrap_or_else(|| panic!("{line} after {}", family.0));
            assert!(suffix.is_empty() != (family.1 == "histogram"), "{line}");
            assert!(labels.ends_with('}'), "{line}");
        }
        let labels = r#"service="shop/or\"ders\\",listener="http\n80",target_group="shop/v1",vpc="platform/blue""#;
        for expected in [
            format!("brattice_requests_total{{{labels}}} 4\n"),
            format!("brattice_responses_total{{{labels},class=\"none\"}} 1\n"),
            format!("brattice_responses_total{{{labels},class=\"5xx\"}} 1\n"),
            format!("brattice_request_duration_seconds_bucket{{{labels},le=\"0.001\"}} 1\n"),
            format!("brattice_request_duration_seconds_bucket{{{labels},le=\"0.005\"}} 3\n"),
            format!("brattice_request_duration_seconds_bucket{{{labels},le=\"60\"}} 3\n"),
            format!("brattice_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 4\n"),
            format!("brattice_request_duration_seconds_count{{{labels}}} 4\n"),
            format!("brattice_request_duration_seconds_sum{{{labels}}} 70.007\n"),
            format!("brattice_denied_total{{{labels},level=\"network\"}} 2\n"),
            "brattice_documents_not_in_force{owner=\"shop\",state=\"invalid\"} 1\n".to_owned(),
            "brattice_agent_last_update_time_seconds 1769854830\n".to_owned(),
            "brattice_problems{kind=\"a \\\"thing\\\"\"} 1\n".to_owned(),
            "brattice_repairs_total{what=\"a \\\"thing\\\"\"} 1\n".to_owned(),
        ] {
            assert!(page.contains(&format!("\n{expected}")), "{expected} is not in {page}");
        }
    }
}
