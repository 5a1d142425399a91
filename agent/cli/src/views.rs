//! The agent's answers as text for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use brattice_wire::api::{Health, Mode, Scope, ServiceView, Status, SwitchView, TargetGroupView, WorkloadView};

use brattice_wire::words::counted;

use crate::escape::{cell, text};
use crate::output::{Look, Table, Tone, paint};

/// `brattice status`.
pub(crate) fn status(status: &Status, look: Look) -> String {
    let (mut out, colours) = (String::new(), look.colours);
    let (word, tone) = match status.health {
        Health::Ok => ("ok", Tone::Good),
        Health::Degraded => ("degraded", Tone::Warning),
        Health::Down => ("DOWN", Tone::Bad),
    };
    for switch in &status.switches {
        out.push_str(&paint(&switch_line(switch), Tone::Bad, colours));
        out.push('\n');
    }
    line(&mut out, "health", &paint(word, tone, colours));
    for problem in &status.problems {
        let _ = writeln!(out, "  {} {}", paint("!", tone, colours), text(problem).replace('\n', "\n    "));
    }
    let agent = format!(
        "brattice {}, process {}, up {}, revision {}",
        cell(&status.version),
        status.pid,
        elapsed(status.uptime_seconds),
        status.revision
    );
    line(&mut out, "agent", &agent);
    line(&mut out, "engine", &engine(status));
    let ranges = &status.ranges;
    line(
        &mut out,
        "ranges",
        &format!("VIPs {}, DNS {}, aliases {}", cell(&ranges.vip), cell(&ranges.dns), cell(&ranges.alias)),
    );
    let ipv6 = &ranges.ipv6;
    let ranges6 = ipv6
        .vip
        .as_ref()
        .zip(ipv6.dns.as_ref())
        .zip(ipv6.alias.as_ref())
        .map(|((vip, dns), alias)| format!("; VIPs {}, DNS {}, aliases {}", cell(vip), cell(dns), cell(alias)));
    line(&mut out, "IPv6", &format!("{}{}", cell(&ipv6.state), ranges6.unwrap_or_default()));

    section(&mut out, "documents", &owners(status), look);
    for (owner, view) in &status.owners {
        for error in &view.errors {
            let line = text(error).replace('\n', "\n    ");
            let _ = writeln!(out, "  {}", paint(&format!("{}: {line}", cell(owner)), Tone::Bad, colours));
        }
        for warning in &view.warnings {
            let line = text(warning).replace('\n', "\n    ");
            let _ = writeln!(out, "  {}", paint(&format!("{}: warning: {line}", cell(owner)), Tone::Warning, colours));
        }
    }
    let mut programs = Table::new(&["PROGRAM", "ATTACHED TO", "BY", "PROGRAM ID", "LINK ID", "INSTRUCTIONS"]);
    for view in &status.programs {
        let link = if view.link_id == 0 { "-".to_owned() } else { view.link_id.to_string() };
        let (program, instructions) = (view.program_id.to_string(), view.instructions.to_string());
        let row = [&view.program, &view.attached_to, &view.hook, &program, &link, &instructions];
        programs.row(&row.map(|text| (text, Tone::Plain)));
    }
    section(&mut out, "attached (as the kernel says)", &programs, look);
    heading(&mut out, "on this host", colours);
    for item in &status.footprint {
        let _ = writeln!(out, "{}", cell(item));
    }
    let mut limits = Table::new(&["LIMIT", "USED", "OF"]);
    for (name, (used, limit)) in &status.limits {
        let tone = if *limit > 0 && used * 10 >= limit * 9 { Tone::Bad } else { Tone::Plain };
        limits.row(&[(name.clone(), tone), (used.to_string(), tone), (limit.to_string(), tone)]);
    }
    section(&mut out, "limits", &limits, look);
    counts(&mut out, "dropped", &status.drops, colours);
    counts(&mut out, "counted", &status.counters, colours);
    counts(&mut out, "put back", &status.repairs, colours);
    if !status.recent_drops.is_empty() {
        heading(&mut out, "latest drops", colours);
        for drop in &status.recent_drops {
            let _ = writeln!(out, "{}", cell(drop));
        }
    }
    out
}

fn engine(status: &Status) -> String {
    let engine = &status.engine;
    let mut text = cell(&engine.state);
    if let Some(pid) = engine.pid {
        let _ = write!(text, ", process {pid}");
    }
    let _ = write!(text, ", revision {}, restarts {}", engine.revision, engine.restarts);
    if let Some(age) = engine.heartbeat_age_ms {
        let _ = write!(text, ", heartbeat {age} ms ago");
    }
    if let Some(stats) = &engine.stats {
        let [_, ok, redirects, client, server] = stats.responses;
        let _ = write!(
            text,
            "\n{:10}{} connections ({} open, {} relayed), {} requests ({} open)\n{:10}answers 2xx {ok}, 3xx {redirects}, 4xx {client}, 5xx {server}; {} refused, {} to unknown services, {} failed connects",
            "",
            stats.connections_accepted,
            stats.connections_open,
            stats.connections_relayed,
            stats.requests,
            stats.requests_open,
            "",
            stats.refused_requests,
            stats.unknown_service,
            stats.connect_errors,
        );
        let [own, forwarded, refused] = stats.dns;
        let _ = write!(text, "\n{:10}DNS: {own} answered, {forwarded} forwarded, {refused} refused", "");
        for (name, hits) in stats.limits_hit.iter().filter(|(_, hits)| *hits > 0) {
            let _ = write!(text, "\n{:10}limit {} hit {}", "", cell(name), counted(*hits, "time"));
        }
    }
    text
}

fn owners(status: &Status) -> Table {
    let mut table = Table::new(&["OWNER", "STATE", "REVISION", "DOCUMENTS", "ERRORS"]);
    for (owner, view) in &status.owners {
        let tone = if view.state == "in-force" { Tone::Plain } else { Tone::Bad };
        let errors = if view.errors.is_empty() { String::new() } else { view.errors.len().to_string() };
        table.row(&[
            (owner.clone(), Tone::Plain),
            (view.state.clone(), tone),
            (view.revision.to_string(), Tone::Plain),
            (view.documents.to_string(), Tone::Plain),
            (errors, tone),
        ]);
    }
    table
}

/// A switch, as it is shown in red.
pub(crate) fn switch_line(switch: &SwitchView) -> String {
    let word = match switch.mode {
        Mode::Bypass => "BYPASS",
        Mode::Detach => "DETACHED",
    };
    let about = match &switch.scope {
        Scope::All => "everything".to_owned(),
        Scope::Workload(name) => format!("workload {}", cell(name)),
        Scope::Service(name) => format!("service {}", cell(name)),
    };
    match switch.seconds_left {
        Some(seconds) => format!("{word}: {about}, {} left", elapsed(seconds)),
        None => format!("{word}: {about}, until ended with --off"),
    }
}

/// `brattice services`.
pub(crate) fn services(services: &[ServiceView], look: Look) -> String {
    let head =
        ["SERVICE", "STATUS", "VIP", "IPV6 VIP", "LISTENERS", "TARGETS", "TARGET GROUPS", "NETWORKS", "NAMES", "FROM"];
    let mut table = Table::new(&head).only_wide(&["IPV6 VIP", "TARGET GROUPS", "NETWORKS", "FROM"]);
    for service in services {
        let networks = service.service_networks.iter().map(|association| match &association.failure {
            Some(failure) => format!("{} ({}: {failure})", association.service_network, association.status),
            None => association.service_network.clone(),
        });
        // The networks are shown with --wide only; a failed association is always shown.
        let failed = service.service_networks.iter().filter(|association| association.failure.is_some()).count();
        let status = match failed {
            0 => service.status.clone(),
            1 => format!("{}, 1 network failed", service.status),
            _ => format!("{}, {failed} networks failed", service.status),
        };
        let tone = match service.status.as_str() {
            "ACTIVE" if failed == 0 => Tone::Good,
            "ACTIVE" => Tone::Warning,
            _ => Tone::Bad,
        };
        let groups = &service.target_groups;
        let sum = |of: fn(&TargetGroupView) -> u32| groups.iter().map(|group| u64::from(of(group))).sum::<u64>();
        let targets = match groups[..] {
            [] => "-".to_owned(),
            _ => format!("{}/{}", sum(|group| group.reachable), sum(|group| group.configured)),
        };
        let groups = groups.iter().map(|group| format!("{} {}/{}", group.name, group.reachable, group.configured));
        let lacking = service.target_groups.iter().any(|group| group.reachable < group.configured);
        table.row(&[
            (service.name.clone(), Tone::Plain),
            (status, tone),
            (service.vip.clone(), Tone::Plain),
            (service.vip6.clone().unwrap_or_default(), Tone::Plain),
            (service.listeners.join(" "), Tone::Plain),
            (targets, if lacking { Tone::Warning } else { Tone::Plain }),
            (groups.collect::<Vec<_>>().join(", "), if lacking { Tone::Warning } else { Tone::Plain }),
            (networks.collect::<Vec<_>>().join(", "), Tone::Plain),
            (service.names.join(" "), Tone::Plain),
            (service.origin.clone(), Tone::Faint),
        ]);
    }
    table.render(look)
}

/// `brattice workloads`.
pub(crate) fn workloads(workloads: &[WorkloadView], look: Look) -> String {
    let head = ["WORKLOAD", "VPC", "INTERFACE", "NAMESPACE", "STATE", "ROLE", "ADDRESSES", "REASON"];
    let mut table = Table::new(&head).only_wide(&["NAMESPACE"]);
    for workload in workloads {
        let tone = match workload.state.as_str() {
            "attached" => Tone::Good,
            "refused" | "link-down" | "detached" => Tone::Bad,
            _ => Tone::Faint,
        };
        let addresses: Vec<String> =
            workload.addresses.iter().map(|(real, alias)| format!("{real} → {alias}")).collect();
        let of_host = workload.namespace.as_deref().is_some_and(|place| place.starts_with("cgroup "));
        let interface = if workload.interface.is_empty() && of_host { "(host)" } else { &workload.interface };
        table.row(&[
            (workload.name.as_str(), Tone::Plain),
            (&workload.vpc, Tone::Plain),
            (interface, Tone::Plain),
            (workload.namespace.as_deref().unwrap_or(""), Tone::Plain),
            (&workload.state, tone),
            (workload.role.as_deref().unwrap_or("-"), Tone::Plain),
            (&addresses.join(", "), Tone::Plain),
            (workload.reason.as_deref().unwrap_or(""), tone),
        ]);
    }
    table.render(look)
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{name:10}{value}");
}

fn heading(out: &mut String, name: &str, colours: bool) {
    let _ = writeln!(out, "\n{}", paint(name, Tone::Faint, colours));
}

fn section(out: &mut String, name: &str, table: &Table, look: Look) {
    heading(out, name, look.colours);
    out.push_str(&table.render(look));
}

fn counts(out: &mut String, name: &str, counts: &BTreeMap<String, u64>, colours: bool) {
    if counts.values().all(|count| *count == 0) {
        return;
    }
    heading(out, name, colours);
    for (what, count) in counts.iter().filter(|(_, count)| **count > 0) {
        let _ = writeln!(out, "{:24}{count}", cell(what));
    }
}

fn elapsed(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
