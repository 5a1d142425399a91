//! The answers: assembled from what the kernel, the engine and the model say at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use brattice_abi::{Counter, DropReason, HALF_OPEN_WINDOW_NS};
use brattice_loader::preflight::{Leg, Report};
use brattice_loader::{Datapath, Ipv6};
use brattice_model::{Action, Association, Model, Service};
use brattice_wire::api::{
    Answer, AssociationView, CulpritView, EngineView, ErrorCode, Health, Ipv6View, LegsView, ProbeView, ProgramView,
    Ranges, ServiceView, Status, TargetGroupView, WorkloadView,
};
use brattice_wire::engine::Stats;

use crate::attachments::{Code, Decision, Refusal};
use crate::clock::boottime_ns;
use crate::engine::supervisor::oldest_heartbeat;
use crate::node::Node;
use crate::switches;

/// A heartbeat older than this is worth a line.
const OLD_HEARTBEAT: Duration = Duration::from_secs(2);
/// A table fuller than this is worth a line, percent.
const NEARLY_FULL: u64 = 90;

/// `brattice status`.
pub(crate) async fn status(node: &Node) -> Status {
    let mut problems = BTreeSet::new();
    let engine = engine(node).await;
    let owners = node.owners.views();
    for (owner, view) in owners.iter().filter(|(_, view)| view.state != "in-force") {
        problems.insert(format!(
            "documents of {owner} are {}: {}",
            view.state,
            view.errors.first().map_or("see below", |e| e)
        ));
    }
    if engine.state != "running" {
        problems.insert(format!("the engine is {}", engine.state));
    }
    {
        let view = node.engine.view.borrow();
        match &view.given_up {
            Some(why) => {
                let mend = "`brattice engine restart` or a change of the documents starts it again";
                problems.insert(format!("the engine: {why}; {mend}"));
            }
            None if engine.state != "running" => {
                problems.extend(view.last_error.iter().map(|error| format!("the engine: {error}")));
            }
            None => {}
        }
        problems.extend(view.log_error.iter().chain(&view.metrics_error).cloned());
    }
    if let Some(refused) = &node.refused {
        problems.insert(format!("the engine refused {refused}"));
    }
    if engine.heartbeat_age_ms.is_some_and(|age| age > OLD_HEARTBEAT.as_millis() as u64) && engine.state == "running" {
        problems.insert("a worker of the engine is late with its heartbeat".to_owned());
    }
    for missing in engine.stats.iter().flat_map(|stats| &stats.sandbox_missing) {
        problems.insert(format!("the engine's sandbox lacks {missing}"));
    }
    problems.extend(node.failures.iter().chain(&node.places.problem).cloned());
    problems.extend(node.unmended.iter().map(|why| format!("what vanished cannot be put back: {why}")));
    match node.datapath.astray() {
        Ok(found) => problems.extend(found),
        Err(e) => {
            problems.insert(format!("whether the kernel finds our routes cannot be asked: {e}"));
        }
    }
    for decision in node.decisions.iter().filter(|decision| !decision.refused.is_empty()) {
        // A document for what is not there (yet) is a wish, not a problem.
        let awaited = |refusal: &Refusal| matches!(refusal.code, Code::NoInterface | Code::NoCgroup);
        if !decision.refused.iter().all(awaited) {
            let reason = decision.reason().unwrap_or_default();
            problems.insert(format!("workload {} of {}: {reason}", decision.name, decision.vpc));
        }
    }

    let switches = switches::in_force(&node.datapath.maps.switches(), &node.names()).unwrap_or_else(|e| {
        problems.insert(format!("whether anything is bypassed or detached cannot be read: {e}"));
        Vec::new()
    });
    for switch in &switches {
        problems.insert(format!("{:?} of {:?} is switched on", switch.mode, switch.scope).to_lowercase());
    }
    let programs = match node.datapath.attached() {
        Ok(attached) => attached
            .into_iter()
            .map(|attachment| ProgramView {
                program: attachment.program.to_owned(),
                attached_to: attachment.attached_to,
                hook: attachment.hook.to_owned(),
                program_id: attachment.program_id,
                instructions: attachment.instructions,
                link_id: attachment.link_id,
            })
            .collect(),
        Err(e) => {
            problems.insert(format!("the kernel does not say what is attached: {e}"));
            Vec::new()
        }
    };
    for name in [brattice_abi::VIP_LISTENER, brattice_abi::WORKLOAD_EGRESS] {
        if !programs.iter().any(|view| view.program == name) {
            problems.insert(format!("{name} is not attached"));
        }
    }
    if !programs.iter().any(|view| view.program == brattice_abi::HOST_CONNECT4) {
        let why = "host_connect4 and its kin are not attached (is cgroup v2 mounted?): nothing keeps an engine that was \
                   taken over from the host's own services";
        problems.insert(why.to_owned());
    }
    let mut limits = limits(node);
    limits.extend(busiest(node, engine.stats.as_ref()));
    for (name, (used, limit)) in &limits {
        if *limit > 0 && used * 100 >= limit * NEARLY_FULL {
            problems.insert(format!("{name}: {used} of {limit} used"));
        }
    }
    let (drops, mut counters) = counters(node);
    let reset = node.engine.view.borrow().reset;
    if reset > 0 {
        counters.insert("ResetWhileDown".to_owned(), reset);
    }
    let health = match (engine.state.as_str(), problems.is_empty()) {
        ("down", _) => Health::Down,
        _ if !programs.iter().any(|view| view.program == brattice_abi::VIP_LISTENER) => Health::Down,
        (_, false) => Health::Degraded,
        (_, true) => Health::Ok,
    };
    let options = node.datapath.options();
    Status {
        health,
        problems: problems.into_iter().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: node.started.elapsed().as_secs(),
        revision: node.snapshot.revision,
        owners,
        engine,
        ranges: Ranges {
            vip: options.vip.to_string(),
            dns: node.model.dns_vip().to_string(),
            alias: options.alias.to_string(),
            ipv6: ipv6_view(node),
        },
        programs,
        footprint: node.datapath.footprint(),
        switches,
        drops,
        counters,
        limits,
        recent_drops: node.drops.lines(),
        repairs: node.repairs.clone(),
    }
}

fn ipv6_view(node: &Node) -> Ipv6View {
    let Some(ranges) = node.datapath.options().ipv6 else {
        let unwanted = node.settings.ipv6.is_none();
        let state = if unwanted { "not wanted (--vip6-range off)" } else { Ipv6::Absent.text() };
        return Ipv6View { state: state.to_owned(), ..Ipv6View::default() };
    };
    Ipv6View {
        state: node.ipv6.text().to_owned(),
        vip: Some(ranges.vip.to_string()),
        dns: Some(ranges.at(brattice_abi::DNS_VIP_OFFSET).to_string()),
        alias: Some(ranges.alias.to_string()),
    }
}

async fn engine(node: &Node) -> EngineView {
    let view = node.engine.view.borrow().clone();
    let states = node.datapath.maps.worker_states(node.settings.workers).unwrap_or_default();
    let heartbeat = view.pid.and_then(|_| oldest_heartbeat(&states));
    EngineView {
        state: view.state.to_owned(),
        pid: view.pid,
        restarts: view.restarts,
        // What is shown as applied is done in the kernel, too.
        revision: view.revision.min(node.applied),
        heartbeat_age_ms: heartbeat.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        stats: node.engine.asker().stats().await,
    }
}

/// Packets dropped by reason, those that happened; other counters.
pub(crate) fn counters(node: &Node) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let values: BTreeMap<u32, u64> = node.datapath.maps.counters().unwrap_or_default().into_iter().collect();
    let value = |index: u32| values.get(&index).copied().unwrap_or(0);
    let drops =
        DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), value(reason.index()))).filter(|(_, n)| *n > 0);
    let others = Counter::ALL.iter().map(|counter| (counter.name().to_owned(), value(counter.index())));
    (drops.collect(), others.collect())
}

/// Fill of the bounded tables: used, limit.
pub(crate) fn limits(node: &Node) -> BTreeMap<String, (u64, u64)> {
    let (assigned, resting, vips) = node.state.vips.fill(node.datapath.options().vip);
    let switches = node.datapath.maps.switches();
    let half_open = node.datapath.maps.half_open_counts();
    BTreeMap::from([
        ("aliases".to_owned(), node.aliases.fill()),
        ("vips".to_owned(), ((assigned + resting) as u64, u64::from(vips))),
        ("workloads".to_owned(), node.maps.workloads.fill()),
        ("targets".to_owned(), node.maps.targets.fill()),
        ("listeners".to_owned(), node.maps.listeners.fill()),
        ("switches".to_owned(), (switches.len().unwrap_or(0) as u64, u64::from(switches.capacity()))),
        (
            "workloads with half-open connections".to_owned(),
            (half_open.len().unwrap_or(0) as u64, u64::from(half_open.capacity())),
        ),
    ])
}

/// The bounds of a workload, filled by whichever has most of it.
fn busiest(node: &Node, stats: Option<&Stats>) -> Vec<(String, (u64, u64))> {
    let options = node.datapath.options();
    let oldest = boottime_ns().saturating_sub(HALF_OPEN_WINDOW_NS);
    let half_open = node.datapath.maps.half_open_counts().entries().unwrap_or_default();
    let half_open =
        half_open.iter().filter(|(_, window)| window.window_ns >= oldest).map(|(_, window)| window.count.cast_signed());
    let mut fill = vec![("half-open", half_open.max().unwrap_or(0).max(0).unsigned_abs(), options.half_open_limit)];
    if let Some(stats) = stats {
        let names = ["connections", "requests", "DNS questions"];
        fill.extend(names.into_iter().enumerate().map(|(n, what)| (what, stats.busiest[n], stats.most[n])));
    }
    fill.into_iter()
        .map(|(what, used, limit)| (format!("{what} (busiest workload)"), (u64::from(used), u64::from(limit))))
        .chain(stats.map(|stats| {
            let [used, most] = stats.descriptors;
            ("descriptors of the engine".to_owned(), (u64::from(used), u64::from(most)))
        }))
        .collect()
}

/// Sends real packets.
pub(crate) async fn probe(datapath: &Datapath) -> Answer {
    match brattice_loader::preflight::probe(datapath).await {
        Ok(report) => Answer::Probe(probe_view(&report)),
        Err(e) => Answer::Error { code: ErrorCode::Failed, message: e.to_string() },
    }
}

/// A probe's report, for people and programs.
pub fn probe_view(report: &Report) -> ProbeView {
    let failure = |leg: &Leg| match leg {
        Leg::Passed => None,
        Leg::Failed(why) => Some(why.clone()),
    };
    ProbeView {
        to_vip: failure(&report.to_vip),
        to_workload: failure(&report.to_workload),
        ipv6: report
            .to_vip6
            .as_ref()
            .zip(report.to_workload6.as_ref())
            .map(|(to_vip, to_workload)| LegsView { to_vip: failure(to_vip), to_workload: failure(to_workload) }),
        culprits: report
            .culprits
            .iter()
            .map(|culprit| CulpritView {
                place: format!(
                    "table {} {}, chain {} (hook {}): {}",
                    culprit.family, culprit.table, culprit.chain, culprit.hook, culprit.what
                ),
                mend: culprit.mend.clone(),
            })
            .collect(),
        hints: report.hints.clone(),
    }
}

/// `brattice services`.
pub(crate) fn services(node: &Node) -> Vec<ServiceView> {
    let model = &node.model;
    // What has an alias now, by (VPC, address).
    let live: BTreeSet<(&str, IpAddr)> =
        node.aliases.claims().map(|claim| (claim.vpc.as_str(), claim.address)).collect();
    model.services.iter().map(|service| service_view(model, service, &live)).collect()
}

fn service_view(model: &Model, service: &Service, live: &BTreeSet<(&str, IpAddr)>) -> ServiceView {
    let mut names = vec![service.generated_name.clone()];
    names.extend(service.domains.iter().cloned());
    let mut groups = BTreeSet::new();
    for listener in &service.listeners {
        for action in listener.rules.iter().map(|rule| &rule.action).chain([&listener.default_action]) {
            if let Action::Forward { groups: forward, .. } = action {
                groups.extend(forward.iter().map(|(name, _)| name.as_str()));
            }
        }
    }
    let groups = groups.into_iter().filter_map(|name| model.target_group(name)).map(|group| {
        let reachable =
            group.targets.iter().filter(|(address, _)| live.contains(&(group.vpc.as_str(), *address))).count();
        TargetGroupView {
            name: group.name.clone(),
            reachable: if group.status.is_active() { count(reachable) } else { 0 },
            configured: count(group.targets.len()),
        }
    });
    ServiceView {
        name: service.name.clone(),
        id: service.id.clone(),
        arn: service.arn.clone(),
        status: service.status.word().to_owned(),
        vip: service.vip.map(|vip| vip.to_string()).unwrap_or_default(),
        vip6: service.vip6.map(|vip| vip.to_string()),
        names,
        listeners: service.listeners.iter().map(|listener| format!("{}/HTTP", listener.port)).collect(),
        service_networks: model.associations_of_service(&service.name).map(association).collect(),
        target_groups: groups.collect(),
        origin: format!("{}:{}", service.origin.file, service.origin.line),
    }
}

fn association(association: &Association) -> AssociationView {
    AssociationView {
        service_network: association.network.clone(),
        status: association.status.word().to_owned(),
        failure: association.status.failure().map(|(code, message)| format!("{code}: {message}")),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// `brattice workloads`.
pub(crate) fn workloads(node: &Node) -> Vec<WorkloadView> {
    let mut views: Vec<WorkloadView> = node.decisions.iter().map(|decision| workload(node, decision)).collect();
    for (alias, claim) in node.aliases.leaving() {
        views.push(WorkloadView {
            name: String::new(),
            vpc: claim.map(|claim| claim.vpc.clone()).unwrap_or_default(),
            interface: String::new(),
            namespace: None,
            addresses: BTreeMap::from([(
                claim.map(|claim| claim.address.to_string()).unwrap_or_default(),
                alias.to_string(),
            )]),
            state: "quarantined".to_owned(),
            reason: Some(
                "its workload is gone; the alias is given again two minutes after its last connection was closed"
                    .to_owned(),
            ),
        });
    }
    views
}

fn workload(node: &Node, decision: &Decision) -> WorkloadView {
    let addresses: BTreeMap<String, String> = decision
        .claims()
        .filter_map(|claim| Some((claim.address.to_string(), node.alias(decision, &claim)?.to_string())))
        .collect();
    let failed = decision.refused.iter().any(|refusal| refusal.code == Code::AttachFailed);
    let state = match (decision.attached() && !failed, node.is_attached(decision) && !addresses.is_empty()) {
        (false, _) => "refused",
        (true, false) => "attaching",
        (true, true) => "attached",
    };
    WorkloadView {
        name: decision.name.clone(),
        vpc: decision.vpc.clone(),
        interface: decision.interface.clone(),
        namespace: decision.namespace.clone(),
        addresses,
        state: state.to_owned(),
        reason: decision.reason(),
    }
}
