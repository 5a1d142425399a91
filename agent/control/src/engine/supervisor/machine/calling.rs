//! The connection to a running engine: called where there is no link yet or it broke, pinged while there is one.
//! An engine that cannot be reached, so that it learns of no revocation, is replaced within a bounded time.

use super::*;
use crate::engine::supervisor::times::{AGAIN, HEARTBEAT, RELINK, STRAY_PAUSE};
use brattice_wire::engine::PING;

impl Machine {
    pub(super) fn connected(&mut self) {
        if let Some(engine) = self.engine_mut() {
            engine.link = Link::Up { looks: 0, awaited: false };
        }
    }

    /// Its end is about to be noticed, or it answers a call.
    pub(super) fn link_lost(&mut self, now: Instant) {
        if let Some(engine) = self.engine_mut()
            && matches!(engine.link, Link::Up { .. } | Link::Greeting)
        {
            engine.link = Link::Lost { since: now, call_at: now };
        }
    }

    pub(super) fn call_when_due(&mut self, now: Instant) {
        let lost = match self.engine().map(|engine| &engine.link) {
            Some(Link::Lost { since, call_at }) => Some((*since, *call_at)),
            _ => None,
        };
        let call_at = match (&self.state, lost) {
            (State::Adopting { call_at, .. }, _) => *call_at,
            (_, Some((since, _))) if now >= since + RELINK => {
                return self.kill("its link is closed, and it does not accept a new one".to_owned());
            }
            (_, Some((_, call_at))) => call_at,
            (_, None) => return,
        };
        if now >= call_at && !self.calling {
            self.calling = true;
            self.act(Action::Call);
        }
    }

    /// The result of a call.
    pub(super) fn called(&mut self, answer: Answer, now: Instant) {
        self.calling = false;
        match &mut self.state {
            State::Adopting { call_at, .. } => *call_at = now + AGAIN,
            _ => {
                if let Some(Engine { link: Link::Lost { call_at, .. }, .. }) = self.engine_mut() {
                    *call_at = now + AGAIN;
                }
            }
        }
        let link = self.engine().map(|engine| (engine.pid, engine.link.clone()));
        match (answer, link) {
            // An answer that is not needed any more.
            (_, Some((_, Link::Up { .. }))) => {}
            (Answer::NoListener { running: false }, _) if matches!(self.state, State::Adopting { .. }) => {
                self.not_adopted(now, now);
            }
            (Answer::NoListener { .. } | Answer::Unclear, _) => {}
            (Answer::Engine { pid, shown }, Some((own, Link::Lost { .. }))) if pid == own => match shown {
                Ok(_) => self.act(Action::Relink),
                Err(why) => self.kill(why),
            },
            (Answer::Engine { pid, .. }, Some((own, _))) if pid == own => {}
            (Answer::Engine { pid, shown }, None) if matches!(self.state, State::Adopting { .. }) => match shown {
                Ok(_) => self.act(Action::TakeOver(pid)),
                Err(why) => {
                    warn!(pid, "the running engine is replaced: {why}");
                    self.act(Action::KillStray(pid));
                    self.not_adopted(now + STRAY_PAUSE, now);
                }
            },
            // Of an earlier agent, and too late; or of an unknown process.
            (Answer::Engine { pid, .. }, _) => {
                warn!(pid, "a second engine runs; it is ended");
                self.act(Action::KillStray(pid));
            }
        }
    }

    /// No engine of an earlier agent is taken over: one of this agent is started then, unless the agent ends.
    pub(super) fn not_adopted(&mut self, start_at: Instant, now: Instant) {
        match self.state {
            State::Adopting { stop: Some(_), .. } => self.state = State::Ended,
            _ if start_at > now => self.state = State::Stopped { until: start_at },
            _ => self.spawn(now),
        }
    }

    pub(super) fn taken_over(&mut self, pid: u32, shown: Shown, now: Instant) {
        info!(pid, revision = shown.revision, "the running engine is taken over");
        let stop = match self.state {
            State::Adopting { stop, .. } => stop,
            _ => None,
        };
        let engine = Engine { applied: shown.revision, adopted: shown.revision, ..Engine::new(pid, now) };
        self.state = State::Starting(engine);
        self.relinked(shown, now);
        self.act(Action::Report(Event::Adopted(shown.revision)));
        if let Some(grace) = stop {
            self.stop(grace, now);
        }
    }

    /// The link to an engine that runs.
    pub(super) fn relinked(&mut self, shown: Shown, now: Instant) {
        self.budget.inherit(shown.halvings, now);
        self.connected();
        let Some(engine) = self.engine_mut() else { return };
        let news = engine.applied != shown.revision;
        engine.applied = shown.revision;
        engine.sent = engine.sent.max(shown.revision);
        if shown.revision > 0 {
            self.serve();
        }
        if news {
            self.act(Action::Report(Event::Applied(shown.revision)));
        }
        self.act(Action::Feed);
        if let State::Draining { kill_at: Some(kill_at), .. } = self.state {
            // It could not be told before; what is left of the time is.
            self.act(Action::Shutdown(kill_at.saturating_duration_since(now).saturating_sub(LATE)));
            return;
        }
        self.send_snapshot();
    }

    /// Pings a linked engine. Counted in looks, so that an agent that was stopped itself does not replace the engine.
    pub(super) fn check_link(&mut self) {
        let silent = self.settings.silent;
        let Some(Engine { link: Link::Up { looks: passed, awaited }, .. }) = self.engine_mut() else { return };
        *passed += 1;
        if !*awaited && looks(PING) <= *passed {
            (*passed, *awaited) = (0, true);
            self.act(Action::Ping);
        } else if *awaited && looks(silent) <= *passed {
            // guard: engine-silent
            self.kill("it does not answer pings".to_owned());
        }
    }

    pub(super) fn pong(&mut self) {
        match self.engine_mut() {
            Some(Engine { link: Link::Up { looks, awaited: awaited @ true }, .. }) => (*looks, *awaited) = (0, false),
            _ => self.kill("it answered a ping that the agent did not send".to_owned()),
        }
    }
}

/// How many looks a time is.
fn looks(time: Duration) -> u32 {
    let looks = time.as_millis().div_ceil(HEARTBEAT.as_millis());
    u32::try_from(looks).expect("it is a time of seconds or minutes").max(1)
}
