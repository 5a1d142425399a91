//! The agent's own numbers, for the engine to serve beside its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use brattice_sources::owners::OwnerState;
use brattice_wire::api::Mode;
use brattice_wire::records::NodeMetrics;

use super::Node;
use crate::api::problems::Problems;
use crate::api::views;
use crate::engine::outputs::MetricsAddress;
use crate::picture::Picture;

/// The numbers are published at least this often while there is a reader ...
const EVERY: Duration = Duration::from_secs(5);

/// What was published last.
#[derive(Default)]
pub(super) struct Numbers {
    told: Option<(Instant, NodeMetrics)>,
}

impl Node {
    /// ... and once a second when something happened that is no traffic.
    pub(super) async fn push_numbers(&mut self) {
        if self.settings.metrics == MetricsAddress::None {
            return;
        }
        let picture = self.picture();
        let counted = counted(&picture);
        let news = match &self.numbers.told {
            None => true,
            Some((when, told)) => {
                when.elapsed() >= EVERY
                    || (&told.drops, &told.repairs, &told.tables, told.engine_restarts)
                        != (&counted.drops, &counted.repairs, &counted.tables, counted.engine_restarts)
            }
        };
        if news {
            let numbers = looked(&picture, counted);
            self.engine.node_metrics(numbers.clone()).await;
            self.numbers.told = Some((Instant::now(), numbers));
        }
    }
}

/// What is cheap to count.
fn counted(picture: &Picture) -> NodeMetrics {
    // What cannot be read is counted as a problem when everything is looked at.
    let mut unread = Problems::default();
    let (drops, counters) = views::counters(picture, &mut unread);
    NodeMetrics {
        drops: drops.into_iter().take(NodeMetrics::MOST).collect(),
        counters: counters.into_iter().take(NodeMetrics::MOST).collect(),
        repairs: BTreeMap::clone(&picture.repairs).into_iter().take(NodeMetrics::MOST).collect(),
        tables: views::limits(picture, &mut unread)
            .into_iter()
            .map(|(name, (used, limit))| (name, used, limit))
            .take(NodeMetrics::MOST)
            .collect(),
        engine_restarts: picture.engine.view.borrow().restarts,
        ..NodeMetrics::default()
    }
}

/// With what takes a look at everything.
fn looked(picture: &Picture, counted: NodeMetrics) -> NodeMetrics {
    let looked = views::look(picture, picture.noticed.stats());
    let mut owners: BTreeMap<&str, u64> = OwnerState::NAMES.iter().map(|state| (*state, 0)).collect();
    let mut not_in_force = Vec::new();
    for (owner, view) in &looked.owners {
        *owners.entry(view.state.as_str()).or_default() += 1;
        if view.state != OwnerState::InForce.name() {
            not_in_force.push((owner.clone(), view.state.clone()));
        }
    }
    not_in_force.truncate(NodeMetrics::MOST);
    let switched = |mode: Mode| looked.switches.iter().filter(|switch| switch.mode == mode).count() as u64;
    let started = SystemTime::now() - picture.started.elapsed();
    NodeMetrics {
        health: looked.problems.health(&looked.engine, &looked.programs) as u8,
        problems: looked.problems.counts(),
        owners: owners.into_iter().map(|(state, count)| (state.to_owned(), count)).collect(),
        not_in_force,
        switches: vec![("bypass".to_owned(), switched(Mode::Bypass)), ("detach".to_owned(), switched(Mode::Detach))],
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agent_start_seconds: started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        ..counted
    }
}
