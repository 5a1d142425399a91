//! The machine without processes: inputs and times go in, states and actions come out.

use super::*;
use crate::engine::supervisor::memory::MOST_HALVINGS;
use crate::engine::supervisor::times::{ADOPTION, CANNOT_START_PAUSE, HEARTBEAT, STABLE, STUCK, UNANSWERED};
use brattice_wire::engine::PING;

const MS: Duration = Duration::from_millis(1);

/// A machine, its time, and what it had done last.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(adoption: bool) -> Self {
        let now = Instant::now();
        let settings = Settings { stuck: STUCK, silent: UNANSWERED };
        let mut machine = Machine::new(adoption.then(|| now + ADOPTION), settings, now);
        assert_eq!(machine.on(Input::Snapshot { revision: 1 }, now), []);
        Self { machine, now }
    }

    /// One that runs with revision 1 since now.
    fn running() -> Self {
        let mut bench = Self::new(false);
        assert_eq!(bench.on(Input::Due), [Action::Spawn]);
        bench.start(10);
        bench
    }

    fn on(&mut self, input: Input) -> Vec<Action> {
        self.machine.on(input, self.now)
    }

    /// The process that is to be spawned comes up and serves.
    fn start(&mut self, pid: u32) {
        assert_eq!(self.on(Input::Started { pid }), []);
        assert_eq!(self.on(Input::Hello), [Action::Begin]);
        assert_eq!(self.on(Input::Begun), [Action::Feed, Action::SendSnapshot]);
        let applied = self.on(Input::Applied { revision: 1 });
        assert_eq!(applied, [Action::FillSlots, Action::Report(Event::Applied(1))]);
        assert!(matches!(self.machine.state(), State::Running(_)));
    }

    fn exit(&mut self, for_memory: bool) -> Vec<Action> {
        self.on(Input::Exited { how: "signal: 9".to_owned(), for_memory })
    }

    /// Goes to the machine's deadline; says how far that was.
    fn wait(&mut self) -> (Duration, Vec<Action>) {
        let deadline = self.machine.deadline().expect("something is due");
        let waited = deadline.saturating_duration_since(self.now);
        self.now = self.now.max(deadline);
        (waited, self.on(Input::Due))
    }

    /// Looks so often; returns what was done, and after how many looks.
    fn look(&mut self, most: u32, oldest: Duration) -> Option<(u32, Vec<Action>)> {
        (1..=most).find_map(|n| {
            self.now += HEARTBEAT;
            let actions = self.on(Input::Look { oldest: Some(oldest) });
            (!actions.is_empty()).then_some((n, actions))
        })
    }

    fn view(&self) -> View {
        let mut view = View::default();
        self.machine.show(&mut view);
        view
    }

    #[track_caller]
    fn failed_because(&self, why: &str) {
        let view = self.view();
        assert!(view.last_error.as_ref().is_some_and(|error| error.contains(why)), "{view:?}");
    }
}

fn looks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / HEARTBEAT.as_millis()).unwrap()
}

fn shown(revision: u64) -> Shown {
    Shown { revision, halvings: 0 }
}

#[test]
fn a_start_leads_to_running() {
    let bench = Bench::running();
    let view = bench.view();
    assert_eq!((view.state, view.pid, view.revision, view.restarts), ("running", Some(10), 1, 0));
    assert_eq!(bench.machine.deadline(), None);
}

#[test]
fn a_crash_loop_pauses_and_ends() {
    let mut bench = Bench::running();
    bench.now += STABLE;
    // It served for a while: at once.
    assert_eq!(bench.exit(false), [Action::Spawn, Action::ReportDown]);
    let mut pauses = Vec::new();
    for pid in 11.. {
        bench.on(Input::Started { pid });
        let actions = bench.exit(false);
        if matches!(bench.machine.state(), State::GivenUp { .. }) {
            // Clients get an answer at once, if they were not before.
            assert!(actions.ends_with(&[Action::ResetWaiting, Action::ReportDown]), "{actions:?}");
            break;
        }
        let begun = bench.now;
        if !actions.contains(&Action::Spawn) {
            while !bench.wait().1.contains(&Action::Spawn) {}
        }
        pauses.push((bench.now - begun).as_millis());
    }
    assert_eq!(pauses, [0, 0, 100]);
    let view = bench.view();
    assert_eq!((view.state, view.pid, view.restarts), ("down", None, MAX_FAILURES as u64));
    assert!(view.given_up.unwrap().contains("5 times within 60 s"));
    // Later connections are reset, too; no engine is started.
    for _ in 0..10 {
        assert_eq!(bench.wait(), (GRACE, vec![Action::ResetWaiting]));
    }
    assert_eq!(bench.on(Input::Snapshot { revision: 2 }), []);
    assert_eq!(bench.on(Input::Revive), [Action::Spawn]);
    assert_eq!(bench.view().given_up, None);
    // With all its tries.
    bench.on(Input::Started { pid: 20 });
    assert!(bench.exit(false).contains(&Action::Spawn));
}

#[test]
fn clients_wait_for_a_successor_and_are_reset_without_one() {
    let mut bench = Bench::running();
    bench.exit(false);
    bench.on(Input::Started { pid: 11 });
    assert_eq!(bench.view().state, "starting");
    assert_eq!(bench.wait(), (GRACE, vec![Action::EmptySlots, Action::ResetWaiting]));
    assert!(bench.machine.slots_are_empty());
    bench.now += 50 * MS;
    bench.start(11);
    assert!(!bench.machine.slots_are_empty());
}

#[test]
fn an_end_for_want_of_memory_is_no_failure_and_makes_budgets_smaller() {
    let mut bench = Bench::running();
    for kills in 1..=MAX_FAILURES as u64 + 2 {
        bench.now += STABLE;
        assert_eq!(bench.exit(true), [Action::Spawn, Action::ReportDown]);
        assert_eq!(u64::from(bench.machine.halvings()), kills.min(MOST_HALVINGS.into()));
        let view = bench.view();
        assert_eq!((view.memory_kills, view.restarts, view.given_up), (kills, kills, None));
        let part = format!("1/{}", 1 << bench.machine.halvings());
        assert!(view.short_of_memory.is_some_and(|says| says.contains(&part)));
        bench.start(10);
    }
    // Too soon: not at once.
    assert_eq!(bench.exit(true), [Action::ReportDown]);
    assert_eq!(*bench.machine.state(), State::Stopped { until: bench.now + Duration::from_secs(1) });
    // Long after, all is as before.
    bench.now += Duration::from_secs(3600);
    bench.on(Input::Look { oldest: None });
    assert_eq!((bench.machine.halvings(), bench.view().short_of_memory), (0, None));
}

#[test]
fn a_stuck_worker_and_a_deaf_engine_are_replaced() {
    let mut bench = Bench::running();
    // Right after its start no heartbeat can be there. It answers a ping.
    assert_eq!(bench.look(looks(PING), STUCK * 2), Some((looks(PING), vec![Action::Ping])));
    assert_eq!(bench.on(Input::Pong), []);
    bench.now += STUCK;
    assert_eq!(bench.look(STUCK_LOOKS, STUCK + MS), Some((STUCK_LOOKS, vec![Action::Kill])));
    bench.failed_because("a worker is stuck");
    assert!(bench.exit(false).contains(&Action::Spawn));
    bench.failed_because("a worker is stuck");

    bench.start(11);
    assert_eq!(bench.look(looks(PING), Duration::ZERO), Some((looks(PING), vec![Action::Ping])));
    assert_eq!(bench.look(looks(UNANSWERED), Duration::ZERO), Some((looks(UNANSWERED), vec![Action::Kill])));
    bench.failed_because("it does not answer");
}

#[test]
fn a_lost_link_is_made_again_or_the_engine_is_replaced() {
    let mut bench = Bench::running();
    assert_eq!(bench.on(Input::LinkLost), []);
    assert!(!bench.machine.serves() && bench.machine.may_have_connections());
    assert_eq!(bench.wait(), (Duration::ZERO, vec![Action::Call]));
    assert_eq!(bench.on(Input::Called(Answer::Unclear)), []);
    assert_eq!(bench.wait().1, [Action::Call]);
    // What it applied meanwhile is news.
    bench.on(Input::Snapshot { revision: 2 });
    assert_eq!(bench.on(Input::Called(Answer::Engine { pid: 10, shown: Ok(shown(1)) })), [Action::Relink]);
    assert_eq!(bench.on(Input::Relinked(shown(1))), [Action::FillSlots, Action::Feed, Action::SendSnapshot]);
    assert!(bench.machine.serves());

    bench.on(Input::LinkLost);
    let begun = bench.now;
    loop {
        match bench.wait().1.as_slice() {
            [Action::Call] => assert_eq!(bench.on(Input::Called(Answer::NoListener { running: true })), []),
            actions => break assert_eq!(actions, [Action::Kill]),
        }
    }
    assert_eq!(bench.now - begun, RELINK);
    bench.failed_because("its link is closed");
    assert_eq!(bench.view().pid, Some(10), "until its end is seen");
    assert_eq!(bench.on(Input::LinkLost), [], "nobody calls it any more");
    assert_eq!(bench.machine.deadline(), None);
}

#[test]
fn an_earlier_agents_engine_is_taken_over_and_told_nothing_twice() {
    let mut bench = Bench::new(true);
    assert_eq!(bench.wait(), (Duration::ZERO, vec![Action::Call]));
    assert_eq!(bench.view().state, "starting");
    let answer = Answer::Engine { pid: 7, shown: Ok(shown(5)) };
    assert_eq!(bench.on(Input::Called(answer)), [Action::TakeOver(7)]);
    let actions = bench.on(Input::TakenOver { pid: 7, shown: Shown { revision: 5, halvings: 2 } });
    // Revision 1 may be another snapshot than the one that it had as such.
    assert_eq!(actions, [Action::FillSlots, Action::Feed, Action::Report(Event::Adopted(5))]);
    assert_eq!((bench.view().state, bench.view().revision, bench.machine.halvings()), ("running", 5, 2));
    assert_eq!(bench.on(Input::Snapshot { revision: 5 }), []);
    assert_eq!(bench.on(Input::Snapshot { revision: 6 }), [Action::SendSnapshot]);
}

#[test]
fn an_earlier_agents_engine_that_does_not_fit_or_answer_is_replaced() {
    let mut bench = Bench::new(true);
    bench.wait();
    let answer = Answer::Engine { pid: 7, shown: Err("it was started with other settings".to_owned()) };
    assert_eq!(bench.on(Input::Called(answer)), [Action::KillStray(7)]);
    assert_eq!(bench.wait().1, [Action::Spawn]);

    let mut bench = Bench::new(true);
    let begun = bench.now;
    loop {
        match bench.wait().1.as_slice() {
            [Action::Call] => assert_eq!(bench.on(Input::Called(Answer::NoListener { running: true })), []),
            actions => break assert_eq!(actions, [Action::KillRecorded, Action::Spawn]),
        }
    }
    assert_eq!(bench.now - begun, ADOPTION);
    // Too late.
    bench.start(8);
    bench.on(Input::LinkLost);
    let late = Answer::Engine { pid: 7, shown: Ok(shown(1)) };
    assert_eq!(bench.on(Input::Called(late)), [Action::KillStray(7)]);

    let mut bench = Bench::new(true);
    bench.wait();
    assert_eq!(bench.on(Input::Called(Answer::NoListener { running: false })), [Action::Spawn]);
}

#[test]
fn an_operators_restart_hands_over_and_is_no_failure() {
    let mut bench = Bench::running();
    let grace = Duration::from_secs(2);
    for pid in 11..11 + MAX_FAILURES as u32 + 2 {
        assert_eq!(bench.on(Input::Restart { grace }), [Action::Shutdown(grace)]);
        assert!(matches!(bench.machine.state(), State::HandingOver { .. }));
        assert_eq!(bench.view().state, "running", "it finishes what is in flight");
        assert_eq!(bench.on(Input::Restart { grace }), [], "once is enough");
        assert_eq!(bench.exit(false), [Action::Spawn, Action::ReportDown]);
        bench.start(pid);
    }
    // One that does not finish is killed, which is no failure either.
    bench.on(Input::Restart { grace });
    assert_eq!(bench.wait(), (grace + LATE, vec![Action::Kill]));
    assert_eq!(bench.exit(false), [Action::Spawn, Action::ReportDown]);
    assert_eq!(bench.view().given_up, None);
    // One that cannot be reached is killed at once.
    bench.start(30);
    bench.on(Input::LinkLost);
    assert_eq!(bench.on(Input::Restart { grace }), [Action::Kill]);
}

#[test]
fn a_stop_drains_and_nothing_follows() {
    let mut bench = Bench::running();
    let grace = Duration::from_secs(2);
    assert_eq!(bench.on(Input::Stop { grace }), [Action::Shutdown(grace)]);
    assert_eq!(bench.exit(false), [Action::EmptySlots, Action::ResetWaiting, Action::ReportDown]);
    assert_eq!((bench.machine.state(), bench.view().restarts), (&State::Ended, 0));

    let mut bench = Bench::running();
    bench.on(Input::Stop { grace });
    assert_eq!(bench.wait(), (grace + LATE, vec![Action::Kill]));
    assert_eq!(bench.machine.deadline(), None, "once");
    bench.exit(false);
    assert_eq!(*bench.machine.state(), State::Ended);

    let mut bench = Bench::new(false);
    assert_eq!(bench.on(Input::Stop { grace }), []);
    assert_eq!(*bench.machine.state(), State::Ended, "there is nothing to stop");
}

#[test]
fn a_stop_ends_the_engine_of_an_earlier_agent_too() {
    let grace = Duration::from_secs(2);
    let adopting = || {
        let mut bench = Bench::new(true);
        assert_eq!(bench.wait(), (Duration::ZERO, vec![Action::Call]));
        assert_eq!(bench.on(Input::Stop { grace }), []);
        assert!(matches!(bench.machine.state(), State::Adopting { .. }), "{:?}", bench.machine.state());
        bench
    };
    // It answers: it finishes what is in flight.
    let mut bench = adopting();
    let answer = Answer::Engine { pid: 7, shown: Ok(shown(5)) };
    assert_eq!(bench.on(Input::Called(answer)), [Action::TakeOver(7)]);
    let actions = bench.on(Input::TakenOver { pid: 7, shown: shown(5) });
    assert_eq!(actions.last(), Some(&Action::Shutdown(grace)));
    assert!(!bench.exit(false).contains(&Action::Spawn));
    assert_eq!(*bench.machine.state(), State::Ended);
    // It cannot be used.
    let mut bench = adopting();
    let answer = Answer::Engine { pid: 7, shown: Err("it was started with other settings".to_owned()) };
    assert_eq!(bench.on(Input::Called(answer)), [Action::KillStray(7)]);
    assert_eq!(*bench.machine.state(), State::Ended);
    // It does not answer.
    let mut bench = adopting();
    let begun = bench.now;
    bench.on(Input::Called(Answer::Unclear));
    loop {
        match bench.wait().1.as_slice() {
            [Action::Call] => assert_eq!(bench.on(Input::Called(Answer::NoListener { running: true })), []),
            actions => break assert_eq!(actions, [Action::KillRecorded]),
        }
    }
    assert_eq!((bench.now - begun, bench.machine.state()), (ADOPTION, &State::Ended));
    // There is none.
    let mut bench = adopting();
    assert_eq!(bench.on(Input::Called(Answer::NoListener { running: false })), []);
    assert_eq!(*bench.machine.state(), State::Ended);
}

#[test]
fn a_stop_reaches_an_engine_that_is_not_connected() {
    let grace = Duration::from_secs(2);
    // It has not said hello: it has no client.
    let mut bench = Bench::new(false);
    bench.on(Input::Due);
    bench.on(Input::Started { pid: 10 });
    assert_eq!(bench.on(Input::Stop { grace }), [Action::Kill]);
    bench.exit(false);
    assert_eq!(*bench.machine.state(), State::Ended);
    // Its link is made again: it is told then, with what is left of the time.
    let mut bench = Bench::running();
    bench.on(Input::LinkLost);
    assert_eq!(bench.on(Input::Stop { grace }), []);
    bench.wait();
    bench.now += 500 * MS;
    assert_eq!(bench.on(Input::Called(Answer::Engine { pid: 10, shown: Ok(shown(1)) })), [Action::Relink]);
    let told = bench.on(Input::Relinked(shown(1)));
    assert_eq!(told.last(), Some(&Action::Shutdown(grace - 500 * MS)));
    assert!(!told.contains(&Action::SendSnapshot));
}

#[test]
fn an_engine_has_the_whole_time_to_start_from_the_first_snapshot_on() {
    let now = Instant::now();
    let machine = Machine::new(None, Settings { stuck: STUCK, silent: UNANSWERED }, now);
    let mut bench = Bench { machine, now };
    assert_eq!(bench.on(Input::Due), [Action::Spawn]);
    bench.on(Input::Started { pid: 10 });
    bench.on(Input::Hello);
    bench.on(Input::Begun);
    assert_eq!(bench.machine.deadline(), None, "there is nothing to apply");
    bench.now += START;
    assert_eq!(bench.on(Input::Snapshot { revision: 1 }), [Action::SendSnapshot]);
    assert_eq!(bench.on(Input::Due), [], "it has just got its first snapshot");
    // Later ones give it no more time.
    bench.now += 100 * MS;
    bench.on(Input::Snapshot { revision: 2 });
    assert_eq!(bench.wait(), (START - 100 * MS, vec![Action::Kill]));
}

#[test]
fn claims_of_an_engine_are_checked() {
    let refused = |revision| Input::Refused { revision, reason: "no".to_owned() };
    for claim in [Input::Applied { revision: 2 }, Input::Applied { revision: 0 }, Input::Pong, refused(2), refused(0)] {
        let mut bench = Bench::running();
        assert_eq!(bench.on(claim.clone()), [Action::Kill], "{claim:?}");
    }
    let mut bench = Bench::running();
    let reason = "no".to_owned();
    assert_eq!(bench.on(refused(1)), [Action::Report(Event::Refused { revision: 1, reason })]);
    assert_eq!(bench.on(refused(1)), [Action::Kill], "twice");
    assert_eq!(bench.on(Input::Applied { revision: 7 }), [], "it is killed already");
}

#[test]
fn an_engine_that_applies_nothing_or_cannot_be_started_is_replaced() {
    let mut bench = Bench::new(false);
    bench.on(Input::Due);
    assert_eq!(bench.on(Input::CannotStart { why: "no such file".to_owned() }), []);
    assert_eq!(bench.wait(), (CANNOT_START_PAUSE, vec![Action::Spawn]));
    bench.on(Input::Started { pid: 10 });
    bench.on(Input::Hello);
    // Its socket cannot be made: it waits, and is started later.
    assert_eq!(bench.on(Input::CannotBegin { why: "engine.sock".to_owned() }), []);
    assert_eq!(bench.wait(), (DOOR_RETRY, vec![Action::Begin]));
    assert_eq!(bench.on(Input::Begun), [Action::Feed, Action::SendSnapshot]);
    assert_eq!(bench.wait().1, [Action::Kill]);
    bench.failed_because("did not apply a snapshot in time");
}
