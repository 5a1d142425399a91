//! `brattice preflight`: whether this host meets the requirements, what other software works on its network, what would
//! be attached, and whether a packet gets through.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use brattice_control::attachments::{Rests, Wishes, decide, paired};
use brattice_control::ranges::{Known, Origins, Ranges};
use brattice_control::settings;
use brattice_control::state::{State, StateDirectory};
use brattice_loader::coexistence::{self, Verdict};
use brattice_loader::interfaces::inventory;
use brattice_loader::interfaces::places::look;
use brattice_loader::preflight::{host, no_other_instance, overlaps, probe_alone};
use brattice_loader::probe::Check;
use brattice_loader::{Error, Ipv6, Ipv6Ranges, Options};
use brattice_model::Model;
use brattice_wire::api::{Answer, ProbeView, Request};
use brattice_wire::words::counted;
use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value, json};

use super::documents::check;
use crate::arguments::{Format, NodeArguments, PreflightArguments};
use crate::output::{self, Look, Table, Tone, colours, paint, print_as};
use crate::{Failure, Outcome, client, escape, users};

pub(crate) fn run(arguments: &PreflightArguments) -> Outcome {
    super::need_root("preflight")?;
    super::runtime()?.block_on(all(arguments))
}

async fn all(arguments: &PreflightArguments) -> Outcome {
    let mut out = Out { format: arguments.output, sections: Map::new() };
    let state = StateDirectory::existing(&arguments.node.state_dir).peek();
    let ipv6 = settings::ipv6_ranges(arguments.node.vip6_range, arguments.node.alias6_range);
    let running = client::is_there(&arguments.run_dir);
    // What keeps Brattice from serving, though the host is fine.
    let mut obstacles: Vec<String> = Vec::new();
    // What else can go wrong here, the checks of the host explain.
    if !running
        && let Err(other @ (Error::OtherInstance { .. } | Error::OtherNamespace { .. })) =
            no_other_instance(&arguments.bpffs).await
    {
        if !arguments.no_probe {
            return Err(Failure::new(other));
        }
        obstacles.push(other.to_string());
    }
    let model = match check(&arguments.policies, &arguments.node, &state, &BTreeMap::new()) {
        Ok(checked) => {
            if checked.errors() > 0 {
                let errors = counted(checked.errors() as u64, "error");
                let directory = arguments.policies.display();
                obstacles.push(format!("{errors} in the documents: `brattice validate {directory}` shows them"));
            }
            Ok(checked.linked.model)
        }
        Err(e) => {
            obstacles.push("no documents can be read".to_owned());
            Err(e.text)
        }
    };
    let cidrs = cidrs(model.as_deref().ok());
    let (vip, alias, origins) = ranges(&arguments.node, &state, &cidrs).await?;
    let mut fits = true;
    Ranges { vip, alias, ipv6 }.check(&origins).map_err(|e| Failure::new(e).code(2))?;
    let options = options(arguments, vip, alias, ipv6);
    options.check().map_err(|e| Failure::new(e).code(2))?;

    let mut checks = host(&arguments.bpffs, vip, ipv6);
    if !running {
        let user = engine_user(arguments);
        if !user.ok {
            obstacles.push("the engine's user is missing".to_owned());
        }
        checks.push(user);
    }
    fits &= show_checks(&checks, &mut out);
    show_neighbours(&mut out).await?;
    if let Err(text) = &model {
        out.heading("documents");
        out.print(&format!("{}\n", escape::text(text)));
        out.section("documents", json!({"error": text}));
    }
    fits &= show_overlaps(&options, &cidrs, &mut out).await?;
    show_interfaces(model.as_deref().ok(), &mut out).await?;
    if !arguments.no_probe {
        fits &= show_probe(arguments, options, running, &mut out).await;
    }
    let (text, tone) = verdict(fits, &obstacles);
    out.print(&format!("\n{}\n", paint(&escape::cell(&text), tone, colours())));
    out.section("obstacles", json!(obstacles));
    let fits = fits && obstacles.is_empty();
    out.finish(fits);
    Ok(ExitCode::from(u8::from(!fits)))
}

/// The last line. `fits`: the host itself; `obstacles`: what else is to be done first.
fn verdict(fits: bool, obstacles: &[String]) -> (String, Tone) {
    match (fits, obstacles) {
        (true, []) => ("this host fits".to_owned(), Tone::Good),
        (true, _) => (format!("this host fits, but not everything is ready: {}", obstacles.join("; ")), Tone::Bad),
        (false, []) => ("this host does not fit yet".to_owned(), Tone::Bad),
        (false, _) => (format!("this host does not fit yet; also, {}", obstacles.join("; ")), Tone::Bad),
    }
}

/// Tables are printed as they come, JSON at the end.
struct Out {
    format: Format,
    sections: Map<String, Value>,
}

impl Out {
    fn print(&self, text: &str) {
        if matches!(self.format, Format::Table | Format::Wide) {
            output::print_prose(text, self.format == Format::Wide);
        }
    }

    fn table(&self, table: &Table) {
        self.print(&table.render(Look::of_stdout(self.format == Format::Wide)));
    }

    fn heading(&self, name: &str) {
        self.print(&format!("\n{}\n", paint(name, Tone::Faint, colours())));
    }

    fn section(&mut self, name: &str, value: Value) {
        self.sections.insert(name.to_owned(), value);
    }

    fn finish(mut self, fits: bool) {
        if matches!(self.format, Format::Json | Format::Yaml) {
            self.section("fits", json!(fits));
            print_as(self.format, &Value::Object(self.sections));
        }
    }
}

fn cidrs(model: Option<&Model>) -> Vec<(String, IpNet)> {
    let vpcs = model.iter().flat_map(|model| &model.vpcs);
    vpcs.flat_map(|vpc| vpc.cidrs.iter().map(|cidr| (format!("VPC {}", vpc.name), *cidr))).collect()
}

/// The ranges in force, or those that the agent would choose at its first start, and where they come from. Where no candidate is
/// free, the first, whose collisions are then shown.
async fn ranges(
    node: &NodeArguments,
    state: &State,
    cidrs: &[(String, IpNet)],
) -> Result<(Ipv4Net, Ipv4Net, Origins), Failure> {
    let mut origins = node.range_origins.clone();
    let kept = Known { vip: state.vip_range, alias: state.alias_range };
    let file = StateDirectory::existing(&node.state_dir).state_file();
    let known = Known { vip: node.vip_range, alias: node.alias_range }.or_kept(kept, &file, &mut origins);
    let (vip, alias) = known.or_free(cidrs).await.map_err(Failure::new)?.or_usual();
    Ok((vip, alias, origins))
}

/// Shows other network software on this host, what that means, and what to do. None of it makes the host unfit by
/// itself: real conflicts are found by the probe, and interfaces are refused one by one.
async fn show_neighbours(out: &mut Out) -> Result<(), Failure> {
    let facts = coexistence::gather(Path::new("/")).await.map_err(Failure::new)?;
    let findings = coexistence::detect(&facts);
    out.heading("neighbours");
    if findings.is_empty() {
        out.print("no other program was found on this host's network\n");
    }
    for finding in &findings {
        let tone = match finding.verdict {
            Verdict::Works => Tone::Good,
            Verdict::WorksBut => Tone::Warning,
            Verdict::Refused => Tone::Bad,
        };
        let verdict = paint(finding.verdict.text(), tone, colours());
        out.print(&format!("{}: {verdict}: {}\n", finding.name, finding.means));
        out.print(&format!("  seen: {}\n", escape::cell(&finding.evidence.join("; "))));
        if !finding.fix.is_empty() {
            out.print(&format!("  do: {}\n", finding.fix));
        }
    }
    for unread in &facts.unread {
        out.print(&format!("{}\n", paint(&escape::cell(&format!("not read: {unread}")), Tone::Warning, colours())));
    }
    let list: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "name": finding.name,
                "verdict": finding.verdict.word(),
                "means": finding.means,
                "fix": (!finding.fix.is_empty()).then_some(finding.fix),
                "evidence": finding.evidence,
            })
        })
        .collect();
    out.section("neighbours", json!(list));
    out.section("unread", json!(facts.unread));
    Ok(())
}

fn engine_user(arguments: &PreflightArguments) -> Check {
    let name = arguments.engine_user.as_deref().unwrap_or(settings::ENGINE_USER);
    let (ok, found, fix) = match users::engine_user(name) {
        Ok((uid, _)) => (true, format!("user {uid}"), None),
        Err(e) => (false, "missing".to_owned(), Some(e.text)),
    };
    // The agent says the same and does not start; the host itself is fine.
    Check { name: "engine user", ok, required: false, found, fix }
}

fn show_checks(checks: &[Check], out: &mut Out) -> bool {
    let mut table = Table::new(&["CHECK", "", "FOUND", "WHAT TO DO"]);
    for check in checks {
        let (word, tone) = match (check.ok, check.required) {
            (true, _) => ("ok", Tone::Good),
            (false, false) => ("warning", Tone::Warning),
            (false, true) => ("MISSING", Tone::Bad),
        };
        let fix = check.fix.as_deref().filter(|_| !check.ok).unwrap_or("");
        table.row(&[(check.name, Tone::Plain), (word, tone), (&check.found, Tone::Plain), (fix, Tone::Plain)]);
    }
    out.table(&table);
    let list: Vec<Value> = checks
        .iter()
        .map(|check| {
            let fix = check.fix.as_deref().filter(|_| !check.ok);
            json!({"name": check.name, "ok": check.ok, "required": check.required, "found": check.found, "fix": fix})
        })
        .collect();
    out.section("checks", json!(list));
    checks.iter().all(|check| check.ok || !check.required)
}

async fn show_overlaps(options: &Options, cidrs: &[(String, IpNet)], out: &mut Out) -> Result<bool, Failure> {
    let ranges = options.ranges();
    let found = overlaps(&ranges, cidrs).await.map_err(Failure::new)?;
    out.heading("ranges");
    let shown: Vec<String> = ranges.iter().map(|(name, range)| format!("{name} {range}")).collect();
    out.print(&format!("{}\n", shown.join(", ")));
    for overlap in &found {
        let tone = if overlap.serious { Tone::Bad } else { Tone::Plain };
        let verdict = if overlap.serious {
            "collides; choose another range (--vip-range, --alias-range, --vip6-range, --alias6-range)"
        } else {
            "contains it, and loses to its longer prefix: harmless"
        };
        let line = format!("{} range {}: {} ({}) {verdict}", overlap.pool, overlap.range, overlap.net, overlap.with);
        out.print(&format!("{}\n", paint(&escape::cell(&line), tone, colours())));
    }
    let list: Vec<Value> = found
        .iter()
        .map(|overlap| {
            json!({
                "pool": overlap.pool,
                "range": overlap.range,
                "net": overlap.net,
                "with": overlap.with,
                "serious": overlap.serious,
            })
        })
        .collect();
    out.section("ranges", json!({"vip": options.vip, "alias": options.alias, "overlaps": list}));
    Ok(!found.iter().any(|overlap| overlap.serious))
}

/// The exact list: what would be attached, what is refused and why, what no document selects.
async fn show_interfaces(model: Option<&Model>, out: &mut Out) -> Result<(), Failure> {
    let interfaces = inventory().await.map_err(Failure::new)?;
    let mut wishes = model.map(Wishes::of).unwrap_or_default();
    wishes.places = look(&wishes.asked(), &paired(&interfaces)).map_err(Failure::new)?;
    let decisions = decide(&interfaces, &wishes, &BTreeMap::new(), &Rests::default());
    let mut table = Table::new(&["INTERFACE", "", "VPC", "WORKLOAD", "ADDRESSES", "REASON"]);
    let mut list = Vec::new();
    let plain = |text: &str| (text.to_owned(), Tone::Plain);
    for decision in &decisions {
        let state = if decision.attached() { ("attach", Tone::Good) } else { ("refuse", Tone::Bad) };
        let addresses: Vec<String> = decision.addresses.iter().map(ToString::to_string).collect();
        table.row(&[
            plain(if decision.host.is_some() { "(host)" } else { &decision.interface }),
            (state.0.to_owned(), state.1),
            plain(&decision.vpc),
            plain(&decision.name),
            plain(&addresses.join(", ")),
            plain(&decision.reason().unwrap_or_default()),
        ]);
        let refused: Vec<Value> = decision
            .refused
            .iter()
            .map(|refusal| json!({"address": refusal.address, "code": refusal.code.to_string(), "text": refusal.text}))
            .collect();
        list.push(json!({
            "interface": decision.interface,
            "state": state.0,
            "vpc": decision.vpc,
            "workload": decision.name,
            "addresses": decision.addresses,
            "refused": refused,
        }));
    }
    let selected: BTreeSet<u32> = decisions.iter().map(|decision| decision.ifindex).collect();
    for interface in interfaces.iter().filter(|interface| !selected.contains(&interface.ifindex)) {
        table.row(&[
            plain(&interface.name),
            ("leave".to_owned(), Tone::Faint),
            plain(""),
            plain(""),
            plain(""),
            plain(if interface.ours { "Brattice's own" } else { "no document selects it" }),
        ]);
        list.push(json!({"interface": interface.name, "state": "leave"}));
    }
    out.section("interfaces", json!(list));
    out.heading("interfaces");
    out.table(&table);
    Ok(())
}

async fn show_probe(arguments: &PreflightArguments, options: Options, running: bool, out: &mut Out) -> bool {
    out.heading("probe");
    let report = if running { ask(&arguments.run_dir) } else { alone(options).await };
    let report = match report {
        Ok(report) => report,
        Err(e) => {
            let text = format!("the probe could not be made: {}", e.text);
            out.section("probe", json!({"error": text}));
            out.print(&format!("{}\n", paint(&escape::text(&text), Tone::Bad, colours())));
            return false;
        }
    };
    let mut legs = vec![("workload → VIP → engine", &report.to_vip), ("engine → workload", &report.to_workload)];
    if let Some(ipv6) = &report.ipv6 {
        legs.push(("workload → VIP → engine, IPv6", &ipv6.to_vip));
        legs.push(("engine → workload, IPv6", &ipv6.to_workload));
    }
    for (leg, failure) in legs {
        let (word, tone) = match failure {
            None => ("passed".to_owned(), Tone::Good),
            Some(why) => (format!("FAILED: {}", escape::cell(why)), Tone::Bad),
        };
        out.print(&format!("{leg}: {}\n", paint(&word, tone, colours())));
    }
    for culprit in &report.culprits {
        out.print(&format!(
            "eaten by {}\n  let it pass with:\n  {}\n",
            escape::cell(&culprit.place),
            escape::cell(&culprit.fix)
        ));
    }
    for hint in &report.hints {
        out.print(&format!("{}\n", escape::text(hint)));
    }
    out.section("probe", json!(report));
    report.passed()
}

fn ask(run_dir: &Path) -> Result<ProbeView, Failure> {
    match client::ask(run_dir, &Request::Probe)? {
        Answer::Probe(report) => Ok(report),
        _ => Err(super::ask::unexpected()),
    }
}

async fn alone(options: Options) -> Result<ProbeView, Failure> {
    let report = probe_alone(options).await.map_err(Failure::new)?;
    Ok(brattice_control::api::views::probe_view(&report))
}

/// What a data path would be started with.
fn options(arguments: &PreflightArguments, vip: Ipv4Net, alias: Ipv4Net, ipv6: Option<Ipv6Ranges>) -> Options {
    let name = arguments.engine_user.as_deref().unwrap_or(settings::ENGINE_USER);
    Options {
        bpffs: arguments.bpffs.clone(),
        vip,
        alias,
        ipv6: ipv6.filter(|_| brattice_loader::ipv6() != Ipv6::Absent),
        // Where the engine's user is not made yet, any unused id will do for the probe.
        engine_uid: users::engine_user(name).map_or(PROBE_UID, |(uid, _)| uid),
        workers: 1,
        half_open_limit: settings::HALF_OPEN_LIMIT,
        ebpf_log: brattice_loader::EbpfLog::Off,
    }
}

/// User id of the engine in a probe on a host without such a user.
const PROBE_UID: u32 = 64_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_on_which_nothing_is_to_be_done_simply_fits() {
        let obstacle = ["the engine's user is missing".to_owned()];
        assert_eq!(verdict(true, &[]), ("this host fits".to_owned(), Tone::Good));
        for (fits, obstacles) in [(true, &obstacle[..]), (false, &obstacle[..]), (false, &[])] {
            let (text, tone) = verdict(fits, obstacles);
            assert!(tone == Tone::Bad && text != "this host fits", "{text}");
            assert_eq!(text.contains("user is missing"), !obstacles.is_empty(), "{text}");
        }
    }
}
