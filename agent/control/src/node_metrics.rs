//! The agent's own numbers, for the engine to serve beside its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use brattice_sources::owners::OwnerState;
use brattice_wire::api::Mode;
use brattice_wire::records::NodeMetrics;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use crate::api::problems::Problems;
use crate::api::views;
use crate::engine::outputs::MetricsAddress;
use crate::picture::Picture;

/// How often what is cheap to count is counted.
const LOOK: Duration = Duration::from_secs(1);
/// The numbers are sent at least this often, and when something happened that is no traffic.
const EVERY: Duration = Duration::from_secs(5);

/// Sends the numbers until the agent ends.
pub(crate) async fn report(pictures: watch::Receiver<Arc<Picture>>) {
    let mut second = interval(LOOK);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported: Option<(Instant, NodeMetrics)> = None;
    while pictures.has_changed().is_ok() {
        second.tick().await;
        let picture = pictures.borrow().clone();
        if picture.settings.metrics == MetricsAddress::None {
            return;
        }
        // Both look at the kernel, which blocks for a moment.
        let (engine, before) = (picture.engine.clone(), reported.clone());
        let looked = spawn_blocking(move || {
            let counted = counted(&picture);
            is_news(before.as_ref(), &counted).then(|| looked(&picture, counted))
        });
        match looked.await {
            Ok(Some(numbers)) => {
                engine.node_metrics(numbers.clone()).await;
                reported = Some((Instant::now(), numbers));
            }
            Ok(None) => {}
            Err(e) => error!(error = %e, "the agent's own numbers cannot be counted, which is a fault of Brattice"),
        }
    }
}

fn is_news(reported: Option<&(Instant, NodeMetrics)>, now: &NodeMetrics) -> bool {
    reported.is_none_or(|(when, reported)| {
        when.elapsed() >= EVERY
            || (&reported.drops, &reported.repairs, &reported.tables, reported.engine_restarts)
                != (&now.drops, &now.repairs, &now.tables, now.engine_restarts)
    })
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
