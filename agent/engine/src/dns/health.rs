//! Which resolvers are worth asking first: those that answer, in the order that the document gives them.
//!
//! No clock and no socket: the calling code passes the time in.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use tokio::time::Instant;

/// How long a resolver rests that did not answer once.
pub const FIRST_REST: Duration = Duration::from_secs(1);
/// How long it rests at most, however often it did not answer.
pub const LONGEST_REST: Duration = Duration::from_secs(60);

/// Resolvers that did not answer when they were asked last. All others are thought to answer.
#[derive(Debug, Default)]
pub struct Health(HashMap<SocketAddr, Rest>);

#[derive(Clone, Copy, Debug)]
struct Rest {
    failures: u32,
    until: Instant,
}

/// In which order the resolvers of a question are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Places in the list that was given, each once.
    pub places: Vec<usize>,
    /// The first one is asked to see whether it answers again. The second one is asked at the same time, so that the
    /// question does not pay for it.
    pub trial: bool,
}

impl Health {
    /// It answered.
    pub fn answered(&mut self, resolver: SocketAddr) {
        self.0.remove(&resolver);
    }

    /// It did not answer in time, or nothing listens there. Questions that were on their way when it began to rest show
    /// nothing new.
    pub fn silent(&mut self, resolver: SocketAddr, now: Instant) {
        let failures = match self.0.get(&resolver) {
            Some(rest) if now < rest.until => return,
            Some(rest) => rest.failures.saturating_add(1),
            None => 1,
        };
        self.0.insert(resolver, Rest { failures, until: now + pause(failures) });
    }

    /// The order for a question that is asked now. Of the resolvers whose rest is over one is tried, by this question
    /// alone.
    pub fn order(&mut self, resolvers: impl Iterator<Item = SocketAddr>, now: Instant) -> Order {
        let (mut good, mut rested, mut resting) = (Vec::new(), Vec::new(), Vec::new());
        for (place, resolver) in resolvers.enumerate() {
            match self.0.get(&resolver) {
                None => good.push(place),
                Some(rest) if now >= rest.until => rested.push((place, resolver)),
                Some(rest) => resting.push((rest.until, place)),
            }
        }
        resting.sort_unstable();
        let trial = !good.is_empty() && !rested.is_empty();
        let mut places = Vec::new();
        if trial {
            let (place, resolver) = rested.remove(0);
            places.push(place);
            // Until its answer is there, it is as if it had failed again.
            self.silent(resolver, now);
        }
        places.extend(good);
        places.extend(rested.into_iter().map(|(place, _)| place));
        places.extend(resting.into_iter().map(|(_, place)| place));
        Order { places, trial }
    }

    /// Forgets the resolvers that no VPC has any more.
    pub fn retain(&mut self, has: impl Fn(SocketAddr) -> bool) {
        self.0.retain(|resolver, _| has(*resolver));
    }
}

/// Doubles with each failure.
fn pause(failures: u32) -> Duration {
    FIRST_REST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 53).into()
    }

    fn order(health: &mut Health, now: Instant) -> (Vec<usize>, bool) {
        let Order { places, trial } = health.order((0..3).map(resolver), now);
        (places, trial)
    }

    #[test]
    fn who_does_not_answer_is_asked_last_and_tried_again_by_one_question() {
        let start = Instant::now();
        let mut health = Health::default();
        assert_eq!(order(&mut health, start), (vec![0, 1, 2], false));
        health.silent(resolver(0), start);
        assert_eq!(order(&mut health, start), (vec![1, 2, 0], false));
        let rested = start + FIRST_REST;
        assert_eq!(order(&mut health, rested - Duration::from_millis(1)), (vec![1, 2, 0], false));
        assert_eq!(order(&mut health, rested), (vec![0, 1, 2], true));
        assert_eq!(order(&mut health, rested), (vec![1, 2, 0], false), "one question tries it, no other");
        // Twice as long.
        assert_eq!(order(&mut health, rested + FIRST_REST * 2 - Duration::from_millis(1)), (vec![1, 2, 0], false));
        assert_eq!(order(&mut health, rested + FIRST_REST * 2), (vec![0, 1, 2], true));
        health.answered(resolver(0));
        assert_eq!(order(&mut health, rested + FIRST_REST * 2), (vec![0, 1, 2], false));
    }

    #[test]
    fn many_questions_at_once_count_once() {
        let start = Instant::now();
        let mut health = Health::default();
        for _ in 0..1_000 {
            health.silent(resolver(0), start);
        }
        assert_eq!(order(&mut health, start + FIRST_REST), (vec![0, 1, 2], true));
    }

    #[test]
    fn without_an_answering_resolver_all_are_asked_in_order_of_last_use() {
        let start = Instant::now();
        let mut health = Health::default();
        for (n, place) in [1, 2, 0].into_iter().enumerate() {
            health.silent(resolver(place), start + Duration::from_millis(n as u64));
        }
        assert_eq!(order(&mut health, start + Duration::from_millis(10)), (vec![1, 2, 0], false));
        assert_eq!(order(&mut health, start + FIRST_REST * 2), (vec![0, 1, 2], false), "nobody to ask beside");
    }

    #[test]
    fn rests_are_bounded_and_forgotten_with_the_resolver() {
        assert_eq!(
            (pause(1), pause(2), pause(7), pause(u32::MAX)),
            (FIRST_REST, FIRST_REST * 2, LONGEST_REST, LONGEST_REST)
        );
        let mut health = Health::default();
        health.silent(resolver(0), Instant::now());
        health.retain(|resolver| resolver.port() != 53);
        assert!(health.0.is_empty());
    }
}
