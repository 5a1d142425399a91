//! When which resolver is asked: the next one joins after a short wait, or at once when one fails. Each resolver
//! that was asked may still answer until the question's time is over.
//!
//! No clock and no socket: the times are given, and the next step is returned.

use std::time::Duration;

use tokio::time::Instant;

/// How long a resolver has the question for itself, before the next one is asked as well.
pub const HEAD_START: Duration = Duration::from_millis(200);
/// How long all of them together have: less than the five seconds after which a stub resolver asks again.
pub const PATIENCE: Duration = Duration::from_millis(4_500);
/// How long silent resolvers have, once all are asked and one has said that it cannot answer.
pub const AFTER_FAILURE: Duration = Duration::from_millis(1_500);
/// When a resolver that has not answered is asked again, counted from its first time: a datagram may get lost.
pub const AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_millis(1_500), Duration::from_secs(3)];

/// One question on its way to the resolvers. These are numbered in the order in which they are asked.
#[derive(Debug)]
pub struct Race {
    resolvers: Vec<Resolver>,
    /// How many are asked without waiting.
    together: usize,
    asked: usize,
    /// When the next one is asked.
    next: Instant,
    end: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolver {
    Unasked,
    /// It may still answer.
    Asked {
        since: Instant,
        /// How many times of [`AGAIN`] are over.
        again: usize,
    },
    /// It cannot answer.
    Out,
}

/// The step to take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this one, for the first time.
    Ask(usize),
    /// Send the question to this one again.
    AskAgain(usize),
    /// Wait for an answer, until then.
    Wait(Instant),
    /// No resolver will answer.
    GiveUp,
}

impl Race {
    /// Between this many resolvers, of which the first `together` are asked at once.
    pub fn new(resolvers: usize, together: usize, now: Instant) -> Self {
        Self {
            resolvers: vec![Resolver::Unasked; resolvers],
            together: together.max(1),
            asked: 0,
            next: now,
            end: now + PATIENCE,
        }
    }

    /// The step to take now; asked again after each step, and when the time of a [`Step::Wait`] is over.
    pub fn step(&mut self, now: Instant) -> Step {
        if now >= self.end {
            return Step::GiveUp;
        }
        if self.asked < self.resolvers.len() && now >= self.next {
            let place = self.asked;
            self.resolvers[place] = Resolver::Asked { since: now, again: 0 };
            self.asked += 1;
            if self.asked >= self.together {
                self.next = now + HEAD_START;
            }
            self.hasten(now);
            return Step::Ask(place);
        }
        let mut wake = self.end;
        if self.asked < self.resolvers.len() {
            wake = wake.min(self.next);
        }
        for (place, resolver) in self.resolvers.iter_mut().enumerate() {
            let Resolver::Asked { since, again } = resolver else { continue };
            let Some(after) = AGAIN.get(*again) else { continue };
            if now >= *since + *after {
                *again += 1;
                return Step::AskAgain(place);
            }
            wake = wake.min(*since + *after);
        }
        let over = self.asked == self.resolvers.len() && self.resolvers.iter().all(|one| *one == Resolver::Out);
        if over { Step::GiveUp } else { Step::Wait(wake) }
    }

    /// This one cannot answer: perhaps the next one can, at once.
    pub fn failed(&mut self, place: usize, now: Instant) {
        if let Some(resolver) = self.resolvers.get_mut(place) {
            *resolver = Resolver::Out;
        }
        self.next = self.next.min(now);
        self.hasten(now);
    }

    /// This one's answer is not used any more.
    pub fn forget(&mut self, place: usize) {
        if let Some(resolver) = self.resolvers.get_mut(place) {
            *resolver = Resolver::Out;
        }
    }

    /// Once all have been asked and one has failed, there is an answer, if a bad one: the others get less time.
    fn hasten(&mut self, now: Instant) {
        if self.asked == self.resolvers.len() && self.resolvers.contains(&Resolver::Out) {
            self.end = self.end.min(now + AFTER_FAILURE);
        }
    }

    /// Those that were asked a head start ago or earlier and have not answered.
    pub fn silent(&self, now: Instant) -> impl Iterator<Item = usize> {
        let late = move |resolver: &Resolver| matches!(resolver, Resolver::Asked { since, .. } if now.duration_since(*since) >= HEAD_START);
        self.resolvers.iter().enumerate().filter(move |(_, resolver)| late(resolver)).map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a resolver does with a question.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Kind {
        Dead,
        /// Answers after this many ms, if it hears of the question: of this many datagrams the first are lost.
        Answers(u64, usize),
        /// Says after this many ms that it cannot answer.
        Fails(u64),
    }

    use Kind::{Answers, Dead, Fails};

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The resolver that answers and when, in a simulation of only these resolvers; and every step that was
    /// taken.
    fn play(kinds: &[Kind], together: usize) -> (Option<usize>, Duration, Vec<(Duration, Step)>) {
        let start = Instant::now();
        let mut now = start;
        let mut race = Race::new(kinds.len(), together, now);
        let mut heard = vec![0; kinds.len()];
        let mut coming: Vec<(Instant, usize, bool)> = Vec::new();
        let mut steps = Vec::new();
        loop {
            let step = race.step(now);
            steps.push((now - start, step));
            assert!(steps.len() < 100, "{steps:?}");
            match step {
                Step::Ask(place) | Step::AskAgain(place) => {
                    heard[place] += 1;
                    match kinds[place] {
                        Answers(after, lost) if heard[place] == lost + 1 => coming.push((now + ms(after), place, true)),
                        Fails(after) if heard[place] == 1 => coming.push((now + ms(after), place, false)),
                        _ => {}
                    }
                }
                Step::GiveUp => return (None, now - start, steps),
                Step::Wait(until) => {
                    assert!(until > now, "it waits for what is past: {steps:?}");
                    coming.sort_unstable_by_key(|(at, ..)| *at);
                    match coming.first().copied() {
                        Some((at, place, answer)) if at <= until => {
                            coming.remove(0);
                            now = now.max(at);
                            if answer {
                                return (Some(place), now - start, steps);
                            }
                            race.failed(place, now);
                        }
                        _ => now = until,
                    }
                }
            }
        }
    }

    fn result(kinds: &[Kind], together: usize) -> (Option<usize>, Duration) {
        let (who, when, _) = play(kinds, together);
        (who, when)
    }

    #[test]
    fn the_next_one_joins_after_a_short_wait_and_late_answers_count() {
        assert_eq!(result(&[Answers(20, 0), Answers(1, 0)], 1), (Some(0), ms(20)));
        assert_eq!(result(&[Dead, Answers(20, 0)], 1), (Some(1), ms(220)));
        assert_eq!(result(&[Dead, Dead, Dead, Answers(20, 0)], 1), (Some(3), ms(620)));
        // Slow, but the only one that knows.
        assert_eq!(result(&[Answers(2_000, 0), Dead], 1), (Some(0), ms(2_000)));
        assert_eq!(result(&[Answers(4_000, 0)], 1), (Some(0), ms(4_000)));
        assert_eq!(result(&[Answers(900, 0), Fails(10)], 1), (Some(0), ms(900)));
        // Both are slow: the first one wins.
        assert_eq!(result(&[Answers(900, 0), Answers(300, 0)], 1), (Some(1), ms(500)));
    }

    #[test]
    fn a_failure_is_followed_at_once() {
        assert_eq!(result(&[Fails(5), Answers(20, 0)], 1), (Some(1), ms(25)));
        assert_eq!(result(&[Fails(0), Fails(0), Fails(0), Answers(20, 0)], 1), (Some(3), ms(20)));
        assert_eq!(result(&[Fails(5), Fails(5)], 1), (None, ms(10)));
    }

    #[test]
    fn every_question_ends_within_its_deadline() {
        assert_eq!(result(&[Dead, Dead], 1), (None, PATIENCE));
        assert_eq!(result(&[Dead, Fails(5)], 1), (None, ms(205) + AFTER_FAILURE));
        assert_eq!(result(&[], 1), (None, ms(0)));
    }

    #[test]
    fn lost_datagrams_are_sent_again() {
        assert_eq!(result(&[Answers(20, 1)], 1), (Some(0), AGAIN[0] + ms(20)));
        assert_eq!(result(&[Answers(20, 3)], 1), (Some(0), AGAIN[2] + ms(20)));
        assert_eq!(result(&[Answers(20, 1), Answers(20, 0)], 1), (Some(1), ms(220)));
    }

    #[test]
    fn a_trial_costs_the_question_nothing() {
        assert_eq!(result(&[Dead, Answers(20, 0)], 2), (Some(1), ms(20)));
        assert_eq!(result(&[Dead, Dead, Answers(20, 0)], 2), (Some(2), ms(220)));
    }

    #[test]
    fn who_is_silent_is_named() {
        let start = Instant::now();
        let mut race = Race::new(2, 1, start);
        assert_eq!(race.step(start), Step::Ask(0));
        assert_eq!(race.silent(start + HEAD_START - ms(1)).count(), 0, "it still has time");
        assert_eq!(race.step(start + HEAD_START), Step::Ask(1));
        assert_eq!(race.silent(start + HEAD_START).collect::<Vec<_>>(), [0]);
        race.failed(0, start + HEAD_START);
        assert_eq!(race.silent(start + HEAD_START * 2).collect::<Vec<_>>(), [1], "who says something is not silent");
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Dead),
            (0_u64..6_000, 0_usize..5).prop_map(|(after, lost)| Answers(after, lost)),
            (0_u64..6_000).prop_map(Fails),
        ]
    }

    proptest! {
        /// A resolver that answers is never later than its turn, its losses and its own time, whatever the others do.
        #[test]
        fn one_good_resolver_is_enough(kinds in proptest::collection::vec(kind(), 1..5), together in 1_usize..3) {
            let (who, when, steps) = play(&kinds, together);
            prop_assert!(when <= PATIENCE);
            for (place, kind) in kinds.iter().enumerate() {
                let Answers(after, lost) = *kind else { continue };
                let turn = HEAD_START * u32::try_from(place).unwrap();
                let sent = match lost.checked_sub(1) {
                    None => Some(Duration::ZERO),
                    Some(lost) => AGAIN.get(lost).copied(),
                };
                let Some(sent) = sent else { continue };
                // With a failure of another, less time is left.
                let limit = if kinds.iter().any(|kind| matches!(kind, Fails(_))) { AFTER_FAILURE } else { PATIENCE };
                if turn + sent + ms(after) < limit {
                    prop_assert!(who.is_some() && when <= turn + sent + ms(after), "{steps:?}");
                }
            }
            // Each is asked once for the first time, in turn.
            let asked: Vec<_> = steps.iter().filter_map(|(_, step)| match step {
                Step::Ask(place) => Some(*place),
                _ => None,
            }).collect();
            prop_assert!(asked.iter().copied().eq(0..asked.len()));
        }
    }
}
