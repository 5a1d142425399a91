//! The agent's own numbers, for the engine to serve beside its own.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use brattice_wire::records::NodeMetrics;

use super::Node;
use crate::api::views;
use crate::engine::outputs::MetricsAddress;

/// The numbers are told at least this often while somebody may read them ...
const EVERY: Duration = Duration::from_secs(5);

/// What was told last.
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
        let numbers = self.own_numbers();
        let news = match &self.numbers.told {
            None => true,
            Some((when, told)) => {
                when.elapsed() >= EVERY
                    || (&told.drops, &told.repairs, &told.tables, told.engine_restarts)
                        != (&numbers.drops, &numbers.repairs, &numbers.tables, numbers.engine_restarts)
            }
        };
        if news {
            self.engine.node_metrics(numbers.clone()).await;
            self.numbers.told = Some((Instant::now(), numbers));
        }
    }

    fn own_numbers(&self) -> NodeMetrics {
        let (drops, counters) = views::counters(self);
        let started = SystemTime::now() - self.started.elapsed();
        NodeMetrics {
            drops: drops.into_iter().take(NodeMetrics::MOST).collect(),
            counters: counters.into_iter().take(NodeMetrics::MOST).collect(),
            repairs: self.repairs.clone().into_iter().take(NodeMetrics::MOST).collect(),
            tables: views::limits(self)
                .into_iter()
                .map(|(name, (used, limit))| (name, used, limit))
                .take(NodeMetrics::MOST)
                .collect(),
            engine_restarts: self.engine.view.borrow().restarts,
            agent_start_seconds: started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}
