//! What is wrong with the node: a line each, with cause and remedy. `brattice status` shows them, the metrics count them by
//! kind; docs/observability.md has the kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use brattice_wire::api::{EngineView, Health, Mode, OwnerView, ProgramView, Scope, SwitchView};
use brattice_wire::engine::FailingTarget;
use brattice_wire::words::counted;

use crate::attachments::{Code, Refusal};
use crate::engine::outputs::LogDestination;
use crate::failing_targets::MANY_FAILURES;
use crate::picture::Picture;

/// A heartbeat older than this is reported.
const OLD_HEARTBEAT: Duration = Duration::from_secs(2);
/// A table fuller than this is reported, percent.
const NEARLY_FULL: u64 = 90;
/// Most failing targets named.
const MAX_TARGETS: usize = 16;
/// A file system with less room than this is full, bytes.
const FULL: u64 = 64 * 1024;

/// No line was lost for so long after others: what lost them is over. The engine counts every second.
const LOSS_OVER: Duration = Duration::from_secs(5);

/// Kinds of problems.
pub(crate) const KINDS: [&str; 14] = [
    "access-log",
    "bounds",
    "documents",
    "engine",
    "interfaces",
    "kernel",
    "metrics",
    "programs",
    "repairs",
    "routes",
    "state",
    "switches",
    "targets",
    "workloads",
];

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Problems(BTreeSet<(String, &'static str)>);

impl Problems {
    /// Adds one.
    pub(crate) fn add(&mut self, kind: &'static str, text: impl Into<String>) {
        debug_assert!(KINDS.contains(&kind), "{kind}");
        self.0.insert((text.into(), kind));
    }

    /// What was read of the kernel. A read that failed is a problem and no value: zero would pass for the truth.
    pub(crate) fn read<T>(&mut self, what: &str, read: Result<T, impl std::fmt::Display>) -> Option<T> {
        read.map_err(|e| {
            let remedy = "it is left out here; if it stays, `systemctl restart brattice` (connections live on)";
            self.add("kernel", format!("could not read {what}: {e}; {remedy}"));
        })
        .ok()
    }

    /// The lines.
    pub(crate) fn lines(self) -> Vec<String> {
        self.0.into_iter().map(|(text, _)| text).collect()
    }

    /// How many there are of each kind, every kind named.
    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        let count = |kind: &str| self.0.iter().filter(|(_, own)| *own == kind).count() as u64;
        KINDS.iter().map(|kind| ((*kind).to_owned(), count(kind))).collect()
    }

    /// How bad it is.
    pub(crate) fn health(&self, engine: &EngineView, programs: &[ProgramView]) -> Health {
        let listens = programs.iter().any(|view| view.program == brattice_abi::VIP_LISTENER);
        match (engine.state.as_str(), self.0.is_empty()) {
            ("down", _) => Health::Down,
            _ if !listens => Health::Down,
            (_, false) => Health::Degraded,
            (_, true) => Health::Ok,
        }
    }

    /// Of documents, by owner.
    pub(crate) fn documents(&mut self, owners: &BTreeMap<String, OwnerView>) {
        for (owner, view) in owners.iter().filter(|(_, view)| view.state != "in-force") {
            let why = view.errors.first().map_or("see below", |e| e);
            self.add("documents", format!("documents of {owner} are {}: {why}", view.state));
        }
    }

    /// About the engine, and what it reports.
    pub(crate) fn engine(&mut self, picture: &Picture, engine: &EngineView) {
        if engine.state != "running" {
            self.add("engine", format!("the engine is {}", engine.state));
        }
        {
            let view = picture.engine.view.borrow();
            match &view.given_up {
                Some(why) => {
                    let fix = "`brattice engine restart` or a change of the documents starts it again";
                    self.add("engine", format!("the engine: {why}; {fix}"));
                }
                None if engine.state != "running" => {
                    if let Some(error) = &view.last_error {
                        self.add("engine", format!("the engine: {error}"));
                    }
                }
                None => {}
            }
            if let Some(why) = &view.short_of_memory {
                self.add("engine", format!("the engine: {why}"));
            }
            if let Some(error) = &view.log_error {
                self.add("access-log", error);
            }
            if let Some(error) = &view.metrics_error {
                self.add("metrics", error);
            }
        }
        if let Some(refused) = &picture.refused {
            self.add("engine", format!("the engine refused {refused}"));
        } else if let Some(long) = picture.noticed.behind(Instant::now()) {
            let text = format!(
                "the engine serves revision {}, and {} is planned since {} s; is a worker stuck? `brattice engine restart` \
                 replaces it",
                engine.revision,
                picture.planner.snapshot.revision,
                long.as_secs()
            );
            self.add("engine", text);
        }
        let late = engine.heartbeat_age_ms.is_some_and(|age| u128::from(age) > OLD_HEARTBEAT.as_millis());
        if late && engine.state == "running" {
            self.add("engine", "a worker of the engine is late with its heartbeat");
        }
        for missing in engine.stats.iter().flat_map(|stats| &stats.sandbox_missing) {
            self.add("engine", format!("the engine's sandbox lacks {missing}"));
        }
        if let Some((lines, ago)) = picture.noticed.lost(Instant::now()) {
            let cause = log_cause(&picture.settings.access_log, ago);
            let were = if lines == 1 { "line of the access log was" } else { "lines of the access log were" };
            let text = format!("{lines} {were} lost, the latest {} s ago: {cause}", ago.as_secs());
            self.add("access-log", text);
        }
        let failing = engine.stats.iter().flat_map(|stats| &stats.failing);
        let failing: Vec<&FailingTarget> = failing.filter(|failing| failing.failures >= MANY_FAILURES).collect();
        self.targets(picture, &failing);
    }

    fn targets(&mut self, picture: &Picture, failing: &[&FailingTarget]) {
        let places = places(picture);
        for failing in failing.iter().take(MAX_TARGETS) {
            let FailingTarget { target, failures, seconds, why } = failing;
            // An alias that was given back a moment ago.
            let Some(name) = name_in(picture, &places, *target) else { continue };
            let text = format!(
                "{name} cannot be reached: {why}, {failures} times in a row, first {seconds} s ago. Is its server running, does \
                 it listen on this port and on all addresses, and is its link up?"
            );
            self.add("targets", text);
        }
        if failing.len() > MAX_TARGETS {
            let more = counted((failing.len() - MAX_TARGETS) as u64, "more target");
            self.add("targets", format!("{more} cannot be reached"));
        }
    }

    /// Of workloads and their interfaces.
    pub(crate) fn workloads(&mut self, picture: &Picture) {
        for decision in &picture.planner.decisions {
            // A document for what is not there (yet) is a wish, not a problem.
            let awaited = |refusal: &Refusal| matches!(refusal.code, Code::NoInterface | Code::NoCgroup);
            if !decision.refused.iter().all(awaited) {
                let reason = decision.reason().unwrap_or_default();
                self.add("workloads", format!("workload {} of {}: {reason}", decision.name, decision.vpc));
            }
        }
        for (name, vpc, interface) in picture.links_down() {
            let text = format!(
                "workload {name} of {vpc}: its interface {interface} or the other end of it is down, so nothing reaches it; \
                 `ip link set {interface} up`, and the other end inside the workload"
            );
            self.add("interfaces", text);
        }
        for renamed in picture.noticed.departures().renamed() {
            self.add("interfaces", format!("{}; {}", renamed.text(), renamed.remedy()));
        }
    }

    /// Of the host: what was refused, removed, switched.
    pub(crate) fn host(&mut self, picture: &Picture, switches: &[SwitchView], programs: &[ProgramView]) {
        for failure in picture.held.failures.iter() {
            self.add("kernel", failure);
        }
        for failure in picture.unsaved.iter().chain(picture.unkept.iter()) {
            self.add("state", failure);
        }
        if let Some(problem) = &picture.inputs.places.problem {
            self.add("workloads", problem);
        }
        if let Some(why) = &picture.unrepaired {
            self.add("repairs", format!("cannot restore what was removed: {why}"));
        }
        match picture.datapath.detours() {
            Ok(found) => found.into_iter().for_each(|text| self.add("routes", text)),
            Err(e) => self.add("kernel", format!("whether the kernel finds our routes cannot be asked: {e}")),
        }
        for (what, times) in picture.noticed.fights(Instant::now()) {
            let text = format!(
                "{what}: removed or changed {times} times within the last minute, and put back each time. Another program takes it \
                 for its own (a firewall or network manager, a CNI?): `nft monitor` and `ip monitor` show when, \
                 docs/coexistence.md how to keep it off"
            );
            self.add("repairs", text);
        }
        for switch in switches {
            self.add("switches", switched(switch));
        }
        for name in [brattice_abi::VIP_LISTENER, brattice_abi::WORKLOAD_EGRESS] {
            if !programs.iter().any(|view| view.program == name) {
                self.add("programs", format!("{name} is not attached"));
            }
        }
        if !programs.iter().any(|view| view.program == brattice_abi::HOST_CONNECT4) {
            let why = "host_connect4 and its kin are not attached (is cgroup v2 mounted?): nothing keeps an engine that was \
                       taken over from the host's own services";
            self.add("programs", why);
        }
    }

    /// Of bounds that are nearly reached.
    pub(crate) fn bounds(&mut self, limits: &BTreeMap<String, (u64, u64)>) {
        for (name, (used, limit)) in limits {
            if *limit > 0 && used * 100 >= limit * NEARLY_FULL {
                self.add("bounds", format!("{name}: {used} of {limit} used"));
            }
        }
    }
}

/// A target by alias and port in words, with its groups; none: nobody holds the alias.
pub(crate) fn target_name(picture: &Picture, target: SocketAddr) -> Option<String> {
    name_in(picture, &places(picture), target)
}

fn name_in(picture: &Picture, places: &BTreeMap<IpAddr, (&str, IpAddr)>, target: SocketAddr) -> Option<String> {
    let (vpc, address) = places.get(&target.ip())?;
    let groups: Vec<&str> = (picture.inputs.model.target_groups.iter())
        .filter(|group| group.vpc == *vpc && group.targets.contains(&(*address, target.port())))
        .map(|group| group.name.as_str())
        .collect();
    let groups = if groups.is_empty() { String::new() } else { format!(" of {}", groups.join(", ")) };
    Some(format!("target {address} port {}{groups} in {vpc}", target.port()))
}

/// The holder of an alias: (VPC, address).
pub(crate) fn places(picture: &Picture) -> BTreeMap<IpAddr, (&str, IpAddr)> {
    let place = |claim| Some((picture.planner.aliases.get(claim)?.alias, (claim.vpc.as_str(), claim.address)));
    picture.planner.aliases.claims().filter_map(place).collect()
}

/// Why lines are lost, or were until `ago`, and what to do.
fn log_cause(destination: &LogDestination, ago: Duration) -> String {
    match destination {
        LogDestination::File(path) => {
            let room = rustix::fs::statvfs(path).map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
            let path = path.display();
            match room {
                Ok(room) if room < FULL => format!("the file system of {path} is full; free space there"),
                _ if ago >= LOSS_OVER => format!(
                    "none since. The file system of {path} was full, or too slow (the log of the engine says which), and is not \
                     full now; nothing is to be done if that was put right"
                ),
                _ => format!(
                    "{path} does not take them, or too slowly (the log of the engine says which); look at its disk, log fewer \
                     with --access-log-sample, or name another file with --access-log and send SIGHUP"
                ),
            }
        }
        LogDestination::Stdout => {
            "the process that reads the agent's standard output is too slow; log fewer with --access-log-sample, or into a file"
                .to_owned()
        }
        LogDestination::None => "there is no access log any more".to_owned(),
    }
}

/// `bypass of service shop/orders is switched on for 60 s more: …`, with what it means and what ends it.
fn switched(switch: &SwitchView) -> String {
    let (mode, meaning) = match switch.mode {
        Mode::Bypass => ("bypass", "its new connections are relayed as plain TCP, without rules"),
        Mode::Detach => ("detach", "it is out of Brattice"),
    };
    let (about, flag) = match &switch.scope {
        Scope::All => ("everything".to_owned(), "--all".to_owned()),
        Scope::Workload(name) => (format!("workload {name}"), format!("--workload {name}")),
        Scope::Service(name) => (format!("service {name}"), format!("--service {name}")),
    };
    let left = match switch.seconds_left {
        Some(seconds) => format!("for {seconds} s more"),
        None => "until it is ended".to_owned(),
    };
    format!("{mode} of {about} is switched on {left}: {meaning}. `brattice {mode} {flag} --off` ends it")
}

#[cfg(test)]
mod tests {
    use brattice_wire::engine::Stats;

    use super::*;
    use crate::api::views::of_the_engine;

    #[test]
    fn every_kind_is_documented_and_counted() {
        let mut problems = Problems::default();
        problems.add("targets", "a");
        problems.add("targets", "b");
        problems.add("targets", "b");
        let counts = problems.counts();
        assert_eq!(counts.len(), KINDS.len());
        assert!(counts.contains(&("targets".into(), 2)) && counts.contains(&("engine".into(), 0)));
        let page = include_str!("../../../../docs/observability.md");
        let (_, section) = page.split_once("### Problems\n").expect("a section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let documented: Vec<&str> =
            section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(documented, KINDS);
    }

    #[test]
    fn a_read_that_failed_is_a_problem_and_no_value() {
        let mut problems = Problems::default();
        assert_eq!(problems.read("the counters", Ok::<_, String>(7)), Some(7));
        assert!(problems.counts().iter().all(|(_, count)| *count == 0), "control");
        assert_eq!(problems.read("the counters", Err::<u64, _>("EPERM")), None);
        assert!(problems.counts().contains(&("kernel".into(), 1)));
        let lines = problems.lines();
        assert!(lines[0].starts_with("could not read the counters: EPERM"), "{lines:?}");
    }

    #[test]
    fn a_full_file_system_is_told_from_a_slow_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        std::fs::write(&path, "").unwrap();
        let file = LogDestination::File(path);
        assert!(log_cause(&file, Duration::ZERO).contains("too slowly"));
        assert!(log_cause(&LogDestination::Stdout, Duration::ZERO).contains("too slow"));
        // A disk that was freed.
        let over = log_cause(&file, LOSS_OVER);
        assert!(over.starts_with("none since") && !over.contains("look at its disk"), "{over}");
    }

    #[test]
    fn a_switch_tells_how_long_it_lasts_and_what_ends_it() {
        let switch = |mode, scope, seconds_left| switched(&SwitchView { mode, scope, seconds_left });
        let orders = switch(Mode::Bypass, Scope::Service("shop/orders".into()), Some(42));
        assert!(orders.starts_with("bypass of service shop/orders is switched on for 42 s more: "), "{orders}");
        assert!(orders.ends_with("`brattice bypass --service shop/orders --off` ends it"), "{orders}");
        let web = switch(Mode::Detach, Scope::Workload("platform/blue/web".into()), None);
        assert!(web.contains("is switched on until it is ended: it is out of Brattice"), "{web}");
        assert!(web.ends_with("`brattice detach --workload platform/blue/web --off` ends it"), "{web}");
        assert!(switch(Mode::Detach, Scope::All, None).ends_with("`brattice detach --all --off` ends it"));
    }

    /// At nine of ten, which is before connections are refused.
    #[test]
    fn descriptors_that_run_out_are_a_problem_before_they_have_run_out() {
        let lines = |used, limit| {
            let stats = Stats { descriptors: [used, limit], ..Stats::default() };
            let mut problems = Problems::default();
            problems.bounds(&of_the_engine(&stats).into());
            problems.lines()
        };
        assert_eq!(lines(15_750, 17_500), ["descriptors of the engine: 15750 of 17500 used"]);
        assert_eq!(lines(15_749, 17_500), Vec::<String>::new());
        assert_eq!(lines(15_750, 0), Vec::<String>::new(), "without a bound");
    }
}
