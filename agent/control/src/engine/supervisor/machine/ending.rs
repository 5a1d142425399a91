//! How an engine ends, and what follows: the next one at once or after a pause, or none.

use super::*;
use crate::engine::supervisor::times::{MEMORY_PAUSE, STABLE};

impl Machine {
    /// Ends an engine that misbehaves; its end is then handled like any other.
    pub(super) fn kill(&mut self, why: String) {
        let killed = match std::mem::replace(&mut self.state, State::Ended) {
            State::Starting(engine) | State::Running(engine) => {
                self.state = State::Failing(engine);
                true
            }
            State::HandingOver { old, kill_at } => {
                self.state = State::HandingOver { old, kill_at: None };
                kill_at.is_some()
            }
            State::Draining { engine, kill_at } => {
                self.state = State::Draining { engine, kill_at: None };
                kill_at.is_some()
            }
            other => {
                self.state = other;
                false
            }
        };
        if let Some(engine) = self.engine_mut() {
            engine.link = Link::Closed;
        }
        if killed {
            warn!(pid = self.pid(), "the engine is replaced: {why}");
            self.last_error = Some(why);
            self.act(Action::Kill);
        }
    }

    /// Replaces the engine: it finishes what is in flight, new connections wait for its successor.
    pub(super) fn restart(&mut self, grace: Duration, now: Instant) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Starting(old) | State::Running(old) => {
                info!("an operator restarts the engine");
                self.failures.forget();
                let connected = matches!(old.link, Link::Up { .. });
                self.state = State::HandingOver { old, kill_at: Some(now + grace + LATE) };
                if connected {
                    self.act(Action::Shutdown(grace));
                } else {
                    self.kill("it is restarted while it is not connected".to_owned());
                }
            }
            // Its end is no failure now, but what was asked for.
            State::Failing(old) => {
                self.failures.forget();
                self.state = State::HandingOver { old, kill_at: None };
            }
            // Between two tries: the next one is now.
            State::Stopped { .. } => {
                self.failures.forget();
                self.spawn(now);
            }
            other => {
                self.state = other;
                self.revive("an operator restarts it", now);
            }
        }
    }

    /// The agent ends, and the engine with it.
    pub(super) fn stop(&mut self, grace: Duration, now: Instant) {
        // An engine of an earlier agent may run: it is ended when it is found, or when it is replaced otherwise.
        if let State::Adopting { stop, .. } = &mut self.state {
            *stop = Some(grace);
            return;
        }
        let Some(engine) = self.engine().cloned() else {
            self.state = State::Ended;
            return;
        };
        let greeting = matches!(engine.link, Link::Greeting | Link::Waiting { .. });
        let connected = matches!(engine.link, Link::Up { .. });
        self.state = State::Draining { engine, kill_at: Some(now + grace + LATE) };
        if connected {
            self.act(Action::Shutdown(grace));
        } else if greeting {
            // It has no client yet, and cannot be told.
            self.kill("it is stopped before it was started".to_owned());
        }
    }

    pub(super) fn exited(&mut self, how: &str, for_memory: bool, now: Instant) {
        let Some(engine) = self.engine() else { return };
        let (pid, stable) = (engine.pid, engine.applied > 0 && now.duration_since(engine.since) >= STABLE);
        if self.clients == Clients::Served {
            self.clients = Clients::Waiting { since: now };
        }
        match std::mem::replace(&mut self.state, State::Stopped { until: now }) {
            State::Draining { .. } => {
                self.state = State::Ended;
                self.reset_clients(now);
            }
            State::HandingOver { .. } => {
                self.restarts += 1;
                info!(pid, how, "the engine ended; its successor is started");
                self.spawn(now);
            }
            State::Failing(_) => {
                self.restarts += 1;
                let why = self.last_error.clone().unwrap_or_else(|| format!("it ended: {how}"));
                self.failed(pid, how, &why, stable, now);
            }
            _ if for_memory => {
                self.restarts += 1;
                self.exited_for_memory(how, stable, now);
            }
            _ => {
                self.restarts += 1;
                let why = format!("it ended: {how}");
                self.last_error = Some(why.clone());
                self.failed(pid, how, &why, stable, now);
            }
        }
        self.act(Action::ReportDown);
    }

    fn failed(&mut self, pid: u32, how: &str, why: &str, stable: bool, now: Instant) {
        let next = self.failures.count(now, stable);
        warn!(pid, how, failures = self.failures.in_a_row(), "the engine ended");
        self.after_failure(next, why, now);
    }

    /// The kernel ended it for lack of memory: no failure, but its successor has smaller budgets.
    fn exited_for_memory(&mut self, how: &str, stable: bool, now: Instant) {
        let why = self.budget.halve(now);
        warn!(how, "the engine: {why}");
        self.last_error = Some(why);
        if stable {
            self.spawn(now);
        } else {
            self.state = State::Stopped { until: now + MEMORY_PAUSE };
        }
    }

    /// Another start, or none.
    pub(super) fn after_failure(&mut self, next: Next, why: &str, now: Instant) {
        match next {
            Next::After(Duration::ZERO) => self.spawn(now),
            Next::After(pause) => self.state = State::Stopped { until: now + pause },
            Next::StayDown => {
                let why = format!(
                    "it failed {MAX_FAILURES} times within {} s and stays down, latest: {why}",
                    FAILURE_WINDOW.as_secs()
                );
                error!("the engine: {why}. `brattice engine restart` or a change of the documents starts it again");
                self.state = State::GivenUp { why };
                // No engine will come: clients get an answer now.
                self.reset_clients(now);
            }
        }
    }
}
