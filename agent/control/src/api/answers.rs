//! What happens to a request: the node's knowledge, gathered for the explanation.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use brattice_abi::HALF_OPEN_WINDOW_NS;
use brattice_explain::{Attached, AttachedState, Engine, EngineState, Facts, Refused, World};
use brattice_model::Model;
use brattice_wire::api::{Answer, ErrorCode, Subject};
use brattice_wire::engine::Stats;
use brattice_wire::explain::Question;
use brattice_wire::snapshot::{Snapshot, WorkloadNumber};

use crate::api::views::dead;
use crate::attachments::Decision;
use crate::clock::{boottime_ns, unix_seconds};
use crate::departed::{Departed, Fate};
use crate::picture::Picture;
use crate::switches;

/// What is asked.
pub(crate) enum Asked {
    /// `brattice route`.
    Route(Box<Question>),
    /// `brattice explain`.
    Explain(Box<Subject>),
}

/// A question with everything that its answer needs: it is answered aside, as that may take a while where a listener has
/// thousands of rules.
pub(crate) struct Inquiry {
    asked: Asked,
    model: Arc<Model>,
    snapshot: Arc<Snapshot>,
    facts: Result<Facts, String>,
    /// The engine's counts, if they are known.
    stats: Option<Stats>,
}

impl Inquiry {
    /// Gathers what the node knows now.
    pub(crate) fn new(picture: &Picture, asked: Asked, stats: Option<Stats>) -> Self {
        Self {
            asked,
            model: picture.inputs.model.clone(),
            snapshot: without_dead_targets(picture, stats.as_ref()),
            facts: facts(picture),
            stats,
        }
    }

    /// Answers, on a thread that may take its time.
    pub(crate) async fn answer(self) -> Answer {
        let Self { asked, model, snapshot, facts, stats } = self;
        let mut facts = match facts {
            Ok(facts) => facts,
            Err(message) => return Answer::Error { code: ErrorCode::Failed, message },
        };
        if let Some(stats) = stats {
            let [connections, requests, _] = stats.busiest;
            facts.busiest = vec![
                ("connections".to_owned(), connections, stats.most[0]),
                ("requests in flight".to_owned(), requests, stats.most[1]),
            ];
        }
        let decided = tokio::task::spawn_blocking(move || {
            let now = i64::try_from(unix_seconds()).expect("64 bits of seconds last 292 billion years");
            let world = World { model: &model, snapshot: &snapshot, facts: Some(&facts), now };
            match asked {
                Asked::Route(question) => brattice_explain::route(&world, &question),
                Asked::Explain(about) => brattice_explain::explain(&world, &about),
            }
        });
        match decided.await {
            Ok(Ok(explanation)) => Answer::Explained(Box::new(explanation)),
            Ok(Err(e)) => Answer::Error { code: ErrorCode::NotFound, message: e.to_string() },
            Err(e) => Answer::Error { code: ErrorCode::Failed, message: format!("the explanation failed: {e}") },
        }
    }
}

/// The snapshot without targets that cannot be connected to, as `brattice services` counts them.
fn without_dead_targets(picture: &Picture, stats: Option<&Stats>) -> Arc<Snapshot> {
    let dead = dead(picture, stats);
    if dead.is_empty() {
        return picture.planner.snapshot.clone();
    }
    let mut snapshot = Snapshot::clone(&picture.planner.snapshot);
    for group in &mut snapshot.target_groups {
        let place = group.vpc.and_then(|vpc| snapshot.vpcs.get(vpc.position()));
        let Some(vpc) = place else { continue };
        let is_dead = |address, port| dead.contains(&(vpc.name.as_str(), address, port));
        group.targets.retain(|target| !is_dead(target.address, target.port) && !is_dead(target.address, 0));
    }
    snapshot.into()
}

fn facts(picture: &Picture) -> Result<Facts, String> {
    let view = picture.engine.view.borrow().clone();
    let refused = picture.refused.as_ref().map(|refused| format!("it refused {refused}"));
    let switches = switches::in_force(&picture.datapath.maps.switches(), &picture.names())
        .map_err(|e| format!("could not read whether anything is bypassed or detached: {e}"))?;
    Ok(Facts {
        engine: Engine {
            state: match view.state {
                "running" => EngineState::Running,
                "starting" => EngineState::Starting,
                _ => EngineState::Down,
            },
            // What is done in the kernel, too.
            revision: view.revision.min(picture.applied),
            error: refused.or(view.last_error),
        },
        attached: picture.planner.decisions.iter().map(|decision| attached(picture, decision)).collect(),
        departed: picture.noticed.departures().iter().map(departed).collect(),
        unselected: unselected(picture),
        switches,
        owners: BTreeMap::clone(&picture.owners),
        dropped: picture.drops.tallies(),
        half_open: half_open(picture)?,
        half_open_limit: picture.datapath.options().half_open_limit,
        limits: picture.settings.limits,
        busiest: Vec::new(),
    })
}

/// Connections that each workload began recently and that are not answered yet.
fn half_open(picture: &Picture) -> Result<BTreeMap<WorkloadNumber, u32>, String> {
    let oldest = boottime_ns().saturating_sub(HALF_OPEN_WINDOW_NS);
    let counts = (picture.datapath.maps.half_open_counts().entries())
        .map_err(|e| format!("could not read how many half-open connections each workload has: {e}"))?;
    let current = counts.into_iter().filter(|(_, window)| window.window_ns >= oldest);
    Ok(current
        .map(|(number, window)| (WorkloadNumber::new(number), window.count.cast_signed().max(0).unsigned_abs()))
        .collect())
}

fn departed(own: &Departed) -> brattice_explain::Departed {
    let renamed = match &own.fate {
        Fate::Renamed(to) => Some(to.clone()),
        Fate::Unselected | Fate::Gone => None,
    };
    brattice_explain::Departed {
        name: own.workload.clone(),
        vpc: own.vpc.clone(),
        interfaces: std::iter::once(own.interface.clone()).chain(renamed).collect(),
        addresses: own.addresses.clone(),
        text: own.text(),
        remedy: own.remedy(),
        seconds_ago: own.since.elapsed().as_secs(),
    }
}

/// Interfaces of the host that no document selects.
fn unselected(picture: &Picture) -> Vec<String> {
    let selected: HashSet<u32> = picture.planner.decisions.iter().map(|decision| decision.ifindex).collect();
    let others = picture.inputs.interfaces.iter().filter(|interface| !selected.contains(&interface.ifindex));
    others.map(|interface| interface.name.clone()).collect()
}

fn attached(picture: &Picture, decision: &Decision) -> Attached {
    let mut addresses: Vec<(IpAddr, Option<IpAddr>)> =
        decision.claims().map(|claim| (claim.address, picture.alias(decision, &claim))).collect();
    addresses.extend(decision.refused.iter().filter_map(|refusal| Some((refusal.address?, None))));
    let live = picture.is_attached(decision) && addresses.iter().any(|(_, alias)| alias.is_some());
    Attached {
        name: decision.name.clone(),
        documented: decision.documented,
        vpc: decision.vpc.clone(),
        interface: decision.interface.clone(),
        ifindex: decision.ifindex,
        namespace: decision.namespace.clone(),
        addresses,
        state: match (decision.attached() && !decision.attach_failed(), live) {
            (false, _) => AttachedState::Refused,
            (true, false) => AttachedState::Attaching,
            (true, true) => AttachedState::Attached,
        },
        refused: decision
            .refused
            .iter()
            .map(|refusal| Refused {
                address: refusal.address,
                code: refusal.code.to_string(),
                text: refusal.text.clone(),
            })
            .collect(),
        since: picture.planner.since.of(decision),
    }
}
