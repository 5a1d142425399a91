//! `brattice preflight`: does this host fit, what would be attached, and does a packet get through.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use brattice_control::attachments::{Wishes, decide, paired};
use brattice_control::settings;
use brattice_control::state::StateDirectory;
use brattice_loader::Options;
use brattice_loader::interfaces::inventory;
use brattice_loader::interfaces::places::look;
use brattice_loader::preflight::{host, overlaps, probe_alone};
use brattice_loader::probe::Check;
use brattice_model::Model;
use brattice_wire::api::{Answer, ProbeView, Request};
use ipnet::{IpNet, Ipv4Net};

use super::documents::{check, node_ranges};
use crate::arguments::PreflightArguments;
use crate::output::{Table, Tone, colours, paint, print};
use crate::{Failure, Outcome, client, escape, users};

pub(crate) fn run(arguments: &PreflightArguments) -> Outcome {
    super::need_root("preflight")?;
    super::runtime()?.block_on(all(arguments))
}

async fn all(arguments: &PreflightArguments) -> Outcome {
    let state = StateDirectory::existing(&arguments.node.state_dir).peek();
    let (vip, alias) = node_ranges(&arguments.node, &state);
    let running = client::is_there(&arguments.run_dir);
    let mut fits = true;

    let mut checks = host(&arguments.bpffs, vip);
    if !running {
        checks.push(engine_user(arguments));
    }
    fits &= show_checks(&checks);

    let model = match check(&arguments.policies, &arguments.node, &state, &BTreeMap::new()) {
        Ok(checked) => Some(checked.linked.model),
        Err(e) => {
            heading("documents");
            print(&format!("{}\n", escape::text(&e.text)));
            None
        }
    };
    fits &= show_overlaps(vip, alias, model.as_ref()).await?;
    show_interfaces(model.as_ref()).await?;
    if !arguments.no_probe {
        fits &= show_probe(arguments, vip, alias, running).await;
    }
    let verdict = if fits {
        paint("this host fits", Tone::Good, colours())
    } else {
        paint("this host does not fit yet", Tone::Bad, colours())
    };
    print(&format!("\n{verdict}\n"));
    Ok(ExitCode::from(u8::from(!fits)))
}

fn heading(name: &str) {
    print(&format!("\n{}\n", paint(name, Tone::Faint, colours())));
}

fn engine_user(arguments: &PreflightArguments) -> Check {
    let name = arguments.engine_user.as_deref().unwrap_or(settings::ENGINE_USER);
    let (ok, found, mend) = match users::engine_user(name) {
        Ok((uid, _)) => (true, format!("user {uid}"), None),
        Err(e) => (false, "missing".to_owned(), Some(e.text)),
    };
    // The agent says the same and does not start; the host itself is fine.
    Check { name: "engine user", ok, required: false, found, mend }
}

fn show_checks(checks: &[Check]) -> bool {
    let mut table = Table::new(&["CHECK", "", "FOUND", "WHAT TO DO"]);
    for check in checks {
        let (word, tone) = match (check.ok, check.required) {
            (true, _) => ("ok", Tone::Good),
            (false, false) => ("warning", Tone::Warning),
            (false, true) => ("MISSING", Tone::Bad),
        };
        let mend = check.mend.as_deref().filter(|_| !check.ok).unwrap_or("");
        table.row(&[(check.name, Tone::Plain), (word, tone), (&check.found, Tone::Plain), (mend, Tone::Plain)]);
    }
    print(&table.render(colours()));
    checks.iter().all(|check| check.ok || !check.required)
}

async fn show_overlaps(vip: Ipv4Net, alias: Ipv4Net, model: Option<&Model>) -> Result<bool, Failure> {
    let cidrs: Vec<(String, IpNet)> = model
        .iter()
        .flat_map(|model| &model.vpcs)
        .flat_map(|vpc| vpc.cidrs.iter().map(|cidr| (format!("VPC {}", vpc.name), *cidr)))
        .collect();
    let found = overlaps(vip, alias, &cidrs).await.map_err(Failure::new)?;
    heading("ranges");
    print(&format!("VIPs {vip}, aliases {alias}\n"));
    for overlap in &found {
        let tone = if overlap.serious { Tone::Bad } else { Tone::Plain };
        let verdict = if overlap.serious {
            "collides; choose another range (--vip-range, --alias-range)"
        } else {
            "contains it, and loses to its longer prefix: harmless"
        };
        let line = format!("{} range {}: {} ({}) {verdict}", overlap.pool, overlap.range, overlap.net, overlap.with);
        print(&format!("{}\n", paint(&escape::cell(&line), tone, colours())));
    }
    Ok(!found.iter().any(|overlap| overlap.serious))
}

/// The exact list: what would be attached, what is refused and why, what nobody selects.
async fn show_interfaces(model: Option<&Model>) -> Result<(), Failure> {
    let interfaces = inventory().await.map_err(Failure::new)?;
    let mut wishes = model.map(Wishes::of).unwrap_or_default();
    wishes.places = look(&wishes.asked(), &paired(&interfaces)).map_err(Failure::new)?;
    let decisions = decide(&interfaces, &wishes, &BTreeMap::new());
    let mut table = Table::new(&["INTERFACE", "", "VPC", "WORKLOAD", "ADDRESSES", "REASON"]);
    let plain = |text: &str| (text.to_owned(), Tone::Plain);
    for decision in &decisions {
        let state = if decision.attached() { ("attach", Tone::Good) } else { ("refuse", Tone::Bad) };
        let addresses: Vec<String> = decision.addresses.iter().map(ToString::to_string).collect();
        table.row(&[
            plain(&decision.interface),
            (state.0.to_owned(), state.1),
            plain(&decision.vpc),
            plain(&decision.name),
            plain(&addresses.join(", ")),
            plain(&decision.reason().unwrap_or_default()),
        ]);
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
    }
    heading("interfaces");
    print(&table.render(colours()));
    Ok(())
}

async fn show_probe(arguments: &PreflightArguments, vip: Ipv4Net, alias: Ipv4Net, running: bool) -> bool {
    heading("probe");
    let report = if running { ask(&arguments.run_dir) } else { alone(arguments, vip, alias).await };
    let report = match report {
        Ok(report) => report,
        Err(e) => {
            let text = format!("the probe could not be made: {}", e.text);
            print(&format!("{}\n", paint(&escape::text(&text), Tone::Bad, colours())));
            return false;
        }
    };
    for (leg, failure) in [("workload → VIP → engine", &report.to_vip), ("engine → workload", &report.to_workload)]
    {
        let (word, tone) = match failure {
            None => ("passed".to_owned(), Tone::Good),
            Some(why) => (format!("FAILED: {}", escape::cell(why)), Tone::Bad),
        };
        print(&format!("{leg}: {}\n", paint(&word, tone, colours())));
    }
    for culprit in &report.culprits {
        print(&format!(
            "eaten by {}\n  let it pass with:\n  {}\n",
            escape::cell(&culprit.place),
            escape::cell(&culprit.mend)
        ));
    }
    for hint in &report.hints {
        print(&format!("{}\n", escape::text(hint)));
    }
    report.passed()
}

fn ask(run_dir: &Path) -> Result<ProbeView, Failure> {
    match client::ask(run_dir, &Request::Probe)? {
        Answer::Probe(report) => Ok(report),
        _ => Err(super::ask::unexpected()),
    }
}

async fn alone(arguments: &PreflightArguments, vip: Ipv4Net, alias: Ipv4Net) -> Result<ProbeView, Failure> {
    let name = arguments.engine_user.as_deref().unwrap_or(settings::ENGINE_USER);
    let options = Options {
        bpffs: arguments.bpffs.clone(),
        vip,
        alias,
        // Where the engine's user is not made yet, any other that is nobody's will do for the probe.
        engine_uid: users::engine_user(name).map_or(PROBE_UID, |(uid, _)| uid),
        workers: 1,
        half_open_limit: settings::HALF_OPEN_LIMIT,
    };
    let report = probe_alone(options).await.map_err(Failure::new)?;
    Ok(brattice_control::api::views::probe_view(&report))
}

/// Stands for the engine's user in a probe on a host without one.
const PROBE_UID: u32 = 64_999;
