//! The answers: assembled from what the kernel, the engine and the model say at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use brattice_abi::{Counter, DropReason, HALF_OPEN_WINDOW_NS};
use brattice_loader::preflight::{Leg, Report};
use brattice_loader::{Attachment, Datapath, Ipv6};
use brattice_model::{Action, Association, Model, Service};
use brattice_wire::api::{
    Answer, AssociationView, CulpritView, EngineView, ErrorCode, Ipv6View, LegsView, Mode, OwnerView, ProbeView,
    ProgramView, Ranges, Scope, ServiceView, Status, SwitchView, TargetGroupView, WorkloadView,
};
use brattice_wire::engine::Stats;
use brattice_wire::index::VpcIndex;

use super::problems::{Problems, places};
use super::unserved::unserved;
use crate::attachments::Decision;
use crate::clock::boottime_ns;
use crate::engine::supervisor::oldest_heartbeat;
use crate::picture::Picture;
use crate::switches;

/// `brattice status`.
pub(crate) fn status(picture: &Picture, stats: Option<Stats>) -> Status {
    let Looked { mut problems, engine, owners, programs, switches, limits } = look(picture, stats);
    let (drops, mut counters) = counters(picture, &mut problems);
    let reset = picture.engine.view.borrow().reset;
    if reset > 0 {
        counters.insert("ResetWhileDown".to_owned(), reset);
    }
    let options = picture.datapath.options();
    Status {
        health: problems.health(&engine, &programs),
        problems: problems.lines(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: picture.started.elapsed().as_secs(),
        revision: picture.planner.snapshot.revision,
        owners,
        engine,
        ranges: Ranges {
            vip: options.vip.to_string(),
            dns: picture.inputs.model.dns_vip().to_string(),
            alias: options.alias.to_string(),
            ipv6: ipv6_view(picture),
        },
        programs,
        footprint: picture.datapath.footprint(),
        switches,
        drops,
        counters,
        limits,
        recent_drops: picture.drops.lines(),
        repairs: BTreeMap::clone(&picture.repairs),
    }
}

/// A look at everything that may be wrong.
pub(crate) struct Looked {
    pub(crate) problems: Problems,
    pub(crate) engine: EngineView,
    pub(crate) owners: BTreeMap<String, OwnerView>,
    pub(crate) programs: Vec<ProgramView>,
    pub(crate) switches: Vec<SwitchView>,
    limits: BTreeMap<String, (u64, u64)>,
}

/// Looks; `stats` are the engine's counts, if it answered.
pub(crate) fn look(picture: &Picture, stats: Option<Stats>) -> Looked {
    let mut problems = Problems::default();
    let engine = engine(picture, stats, &mut problems);
    let owners = BTreeMap::clone(&picture.owners);
    problems.documents(&owners);
    problems.engine(picture, &engine);
    problems.workloads(picture);
    for text in unserved(&picture.planner.snapshot, &picture.inputs.model) {
        problems.add("targets", text);
    }
    let switches = switches::in_force(&picture.datapath.maps.switches(), &picture.names());
    let switches = problems.read("whether anything is bypassed or detached", switches).unwrap_or_default();
    let attached = problems.read("which programs are attached", picture.datapath.attached()).unwrap_or_default();
    let programs: Vec<ProgramView> = attached.into_iter().map(program).collect();
    problems.host(picture, &switches, &programs);
    let mut limits = limits(picture, &mut problems);
    limits.extend(busiest(picture, engine.stats.as_ref(), &mut problems));
    problems.bounds(&limits);
    Looked { problems, engine, owners, programs, switches, limits }
}

fn program(attachment: Attachment) -> ProgramView {
    ProgramView {
        program: attachment.program.to_owned(),
        attached_to: attachment.attached_to,
        hook: attachment.hook.to_owned(),
        program_id: attachment.program_id,
        instructions: attachment.instructions,
        link_id: attachment.link_id,
    }
}

fn ipv6_view(picture: &Picture) -> Ipv6View {
    let Some(ranges) = picture.datapath.options().ipv6 else {
        let unwanted = picture.settings.ipv6.is_none();
        let state = if unwanted { "not wanted (--vip6-range off)" } else { Ipv6::Absent.text() };
        return Ipv6View { state: state.to_owned(), ..Ipv6View::default() };
    };
    Ipv6View {
        state: picture.ipv6.text().to_owned(),
        vip: Some(ranges.vip.to_string()),
        dns: Some(ranges.at(brattice_abi::DNS_VIP_OFFSET).to_string()),
        alias: Some(ranges.alias.to_string()),
    }
}

fn engine(picture: &Picture, stats: Option<Stats>, problems: &mut Problems) -> EngineView {
    let view = picture.engine.view.borrow().clone();
    let states = picture.datapath.maps.worker_states(picture.settings.workers);
    let states = problems.read("the heartbeats of the engine's workers", states);
    let heartbeat = view.pid.and_then(|_| oldest_heartbeat(&states?));
    EngineView {
        state: view.state.to_owned(),
        pid: view.pid,
        restarts: view.restarts,
        // What is shown as applied is done in the kernel, too.
        revision: view.revision.min(picture.applied),
        heartbeat_age_ms: heartbeat
            .map(|age| u64::try_from(age.as_millis()).expect("it was counted in 64 bits of nanoseconds")),
        stats,
    }
}

/// Packets dropped by reason, those that happened; other counters. None where they cannot be read: a zero would be a lie, and
/// a counter reset to a database of metrics.
pub(crate) fn counters(picture: &Picture, problems: &mut Problems) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let Some(values) = problems.read("the counters of packets", picture.datapath.maps.counters()) else {
        return (BTreeMap::new(), BTreeMap::new());
    };
    let values: BTreeMap<u32, u64> = values.into_iter().collect();
    let value = |index: u32| values.get(&index).copied().unwrap_or(0);
    let drops =
        DropReason::ALL.iter().map(|reason| (reason.name().to_owned(), value(reason.index()))).filter(|(_, n)| *n > 0);
    let others = Counter::ALL.iter().map(|counter| (counter.name().to_owned(), value(counter.index())));
    (drops.collect(), others.collect())
}

/// Fill of the bounded tables: used, limit. What cannot be read is left out.
pub(crate) fn limits(picture: &Picture, problems: &mut Problems) -> BTreeMap<String, (u64, u64)> {
    let (assigned, resting, vips) = picture.planner.state.vips.fill(picture.datapath.options().vip);
    let switches = picture.datapath.maps.switches();
    let half_open = picture.datapath.maps.half_open_counts();
    let mut limits = BTreeMap::from([
        ("aliases".to_owned(), picture.planner.aliases.fill()),
        ("vips".to_owned(), ((assigned + resting) as u64, u64::from(vips))),
    ]);
    if let Some(used) = problems.read("how many switches there are", switches.len()) {
        limits.insert("switches".to_owned(), (used as u64, u64::from(switches.capacity())));
    }
    if let Some(used) = problems.read("how many workloads have half-open connections", half_open.len()) {
        let name = "workloads with half-open connections".to_owned();
        limits.insert(name, (used as u64, u64::from(half_open.capacity())));
    }
    limits.extend(picture.held.fill.iter().map(|(name, fill)| ((*name).to_owned(), *fill)));
    limits
}

/// The bounds of workloads, each with the workload that has used most of it.
fn busiest(picture: &Picture, stats: Option<&Stats>, problems: &mut Problems) -> Vec<(String, (u64, u64))> {
    let options = picture.datapath.options();
    let oldest = boottime_ns().saturating_sub(HALF_OPEN_WINDOW_NS);
    let mut fill = Vec::new();
    let windows = picture.datapath.maps.half_open_counts().entries();
    if let Some(windows) = problems.read("how many half-open connections each workload has", windows) {
        let recent = windows.iter().filter(|(_, window)| window.window_ns >= oldest);
        let most = recent.map(|(_, window)| window.count.cast_signed().max(0).unsigned_abs()).max().unwrap_or(0);
        fill.push(("half-open", most, options.half_open_limit));
    }
    if let Some(stats) = stats {
        let names = ["connections", "requests", "DNS questions"];
        fill.extend(names.into_iter().enumerate().map(|(n, what)| (what, stats.busiest[n], stats.most[n])));
    }
    fill.into_iter()
        .map(|(what, used, limit)| (format!("{what} (busiest workload)"), (u64::from(used), u64::from(limit))))
        .chain(stats.into_iter().flat_map(of_the_engine))
        .collect()
}

/// The bounds of the whole engine.
pub(super) fn of_the_engine(stats: &Stats) -> [(String, (u64, u64)); 3] {
    let rows = [
        ("descriptors of the engine", stats.descriptors.map(u64::from)),
        ("bytes for traffic", stats.memory),
        ("bytes for traffic (busiest workload)", stats.busiest_memory),
    ];
    rows.map(|(name, [used, most])| (name.to_owned(), (used, most)))
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
                fix: culprit.fix.clone(),
            })
            .collect(),
        hints: report.hints.clone(),
    }
}

/// `brattice services`; `stats` are the engine's counts, if it answered.
pub(crate) fn services(picture: &Picture, stats: Option<&Stats>) -> Vec<ServiceView> {
    let model = &picture.inputs.model;
    let live: BTreeSet<(&str, IpAddr)> =
        picture.planner.aliases.claims().map(|claim| (claim.vpc.as_str(), claim.address)).collect();
    let reachable = Reachable { live, dead: dead(picture, stats) };
    model.services.iter().map(|service| service_view(model, service, &reachable)).collect()
}

/// Which targets can be reached.
struct Reachable<'a> {
    /// What has an alias now, by (VPC, address).
    live: BTreeSet<(&'a str, IpAddr)>,
    /// What cannot be connected to all the same, by (VPC, address, port); port 0: at none.
    dead: BTreeSet<(&'a str, IpAddr, u16)>,
}

impl Reachable<'_> {
    fn has(&self, vpc: &str, address: IpAddr, port: u16) -> bool {
        self.live.contains(&(vpc, address)) && ![port, 0].iter().any(|port| self.dead.contains(&(vpc, address, *port)))
    }
}

/// Targets that failed recently, and workloads whose link is down. `stats` are the counts that `brattice status` would
/// show now: all views count the same targets.
pub(crate) fn dead<'p>(picture: &'p Picture, stats: Option<&Stats>) -> BTreeSet<(&'p str, IpAddr, u16)> {
    let places = places(picture);
    let failing = stats.into_iter().flat_map(|stats| &stats.failing).filter_map(|failing| {
        let (vpc, address) = *places.get(&failing.target.ip())?;
        Some((vpc, address, failing.target.port()))
    });
    let down: BTreeSet<&str> = picture.links_down().into_iter().map(|(_, _, interface)| interface).collect();
    let down = picture.planner.decisions.iter().filter(|decision| down.contains(decision.interface.as_str()));
    let down = down.flat_map(|decision| decision.addresses.iter().map(|address| (decision.vpc.as_str(), *address, 0)));
    failing.chain(down).collect()
}

fn service_view(model: &Model, service: &Service, live: &Reachable<'_>) -> ServiceView {
    // Those that its owner chose first.
    let mut names = service.domains.clone();
    names.push(service.generated_name.clone());
    let mut groups = BTreeSet::new();
    for listener in &service.listeners {
        for action in listener.rules.iter().map(|rule| &rule.action).chain([&listener.default_action]) {
            if let Action::Forward { groups: forward, .. } = action {
                groups.extend(forward.iter().map(|(name, _)| name.as_str()));
            }
        }
    }
    let groups = groups.into_iter().filter_map(|name| model.target_group(name)).map(|group| {
        let reachable = group.targets.iter().filter(|(address, port)| live.has(&group.vpc, *address, *port)).count();
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
        labels: service.labels.clone(),
        listeners: service.listeners.iter().map(|listener| format!("{}/HTTP", listener.port)).collect(),
        service_networks: model.associations_of_service(&service.name).map(association).collect(),
        target_groups: groups.collect(),
        origin: service.origin.to_string(),
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
    u32::try_from(n).expect("what documents have is bounded far below (model/limits.rs)")
}

/// `brattice workloads`.
pub(crate) fn workloads(picture: &Picture) -> Vec<WorkloadView> {
    let mut views: Vec<WorkloadView> =
        picture.planner.decisions.iter().map(|decision| workload(picture, decision)).collect();
    let down: BTreeSet<&str> = picture.links_down().into_iter().map(|(_, _, interface)| interface).collect();
    let (switches, unread) = match switches::in_force(&picture.datapath.maps.switches(), &picture.names()) {
        Ok(switches) => (switches, None),
        Err(e) => (Vec::new(), Some(format!("could not read whether it is detached: {e}"))),
    };
    let detached: Vec<&Scope> =
        switches.iter().filter(|switch| switch.mode == Mode::Detach).map(|switch| &switch.scope).collect();
    for view in views.iter_mut().filter(|view| view.state == "attached") {
        let of_this = |scope: &&Scope| match scope {
            Scope::All => true,
            Scope::Workload(name) => *name == format!("{}/{}", view.vpc, view.name),
            Scope::Service(_) => false,
        };
        if detached.iter().any(of_this) {
            view.state = "detached".to_owned();
            view.reason =
                Some("an operator detached it: its packets are not intercepted (brattice detach --off)".to_owned());
        } else if !view.interface.is_empty() && down.contains(view.interface.as_str()) {
            view.state = "link-down".to_owned();
            view.reason = Some("its interface or the other end of it is down, so nothing reaches it".to_owned());
        } else {
            view.reason = view.reason.take().or_else(|| unread.clone());
        }
    }
    for (alias, claim) in picture.planner.aliases.leaving() {
        views.push(WorkloadView {
            name: String::new(),
            vpc: claim.map(|claim| claim.vpc.clone()).unwrap_or_default(),
            interface: String::new(),
            namespace: None,
            addresses: BTreeMap::from([(
                claim.map(|claim| claim.address.to_string()).unwrap_or_default(),
                alias.to_string(),
            )]),
            role: None,
            labels: BTreeMap::new(),
            state: "quarantined".to_owned(),
            reason: Some(
                "its workload is gone; the alias is given again two minutes after its last connection was closed"
                    .to_owned(),
            ),
        });
    }
    views
}

/// The role that a workload calls as, as planned.
fn role(picture: &Picture, decision: &Decision) -> Option<String> {
    let snapshot = &picture.planner.snapshot;
    let of_vpc = |vpc: VpcIndex| snapshot.vpcs.get(vpc.position()).map(|vpc| vpc.name.as_str());
    let planned =
        snapshot.workloads.iter().find(|own| own.name == decision.name && of_vpc(own.vpc) == Some(&decision.vpc))?;
    snapshot.roles.get(planned.role?.position()).map(|role| role.name.clone())
}

/// The labels of its document.
fn labels(picture: &Picture, decision: &Decision) -> BTreeMap<String, String> {
    let mut documents = picture.inputs.model.workloads.iter();
    let own = documents.find(|own| own.name == decision.name && own.vpc == decision.vpc);
    own.filter(|_| decision.documented).map(|own| own.labels.clone()).unwrap_or_default()
}

fn workload(picture: &Picture, decision: &Decision) -> WorkloadView {
    let addresses: BTreeMap<String, String> = decision
        .claims()
        .filter_map(|claim| Some((claim.address.to_string(), picture.alias(decision, &claim)?.to_string())))
        .collect();
    let state = match (
        decision.attached() && !decision.attach_failed(),
        picture.is_attached(decision) && !addresses.is_empty(),
    ) {
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
        role: role(picture, decision),
        labels: labels(picture, decision),
        state: state.to_owned(),
        reason: decision.reason(),
    }
}
