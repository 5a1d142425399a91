//! Whether a request that got no response is sent again. Pure: the attempt loop passes in how each attempt ended.

/// Attempts that a request has in all, whatever becomes of them.
const ATTEMPTS: u32 = 128;
/// Times that a request is sent in all, if endpoints say each time that they did nothing with it, nor with others on the same
/// connection.
const REFUSALS: u32 = 8;
/// Times that it is sent so to the same endpoint while its group has another one that was not tried.
const REFUSALS_HERE: u32 = 2;

/// The outcome of an attempt that brought no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No connection to the endpoint could be made, or it is taken away.
    NotConnected,
    /// The request cannot be sent at all: its caller has no connection left, or the endpoint takes no header section of
    /// that length.
    NotSendable,
    /// The connection ended before a byte of the request was sent.
    Unsent,
    /// The endpoint did nothing with the request: its stream is beyond the last one of a GOAWAY, or was refused
    /// (`REFUSED_STREAM`), or had not begun when the connection ended (RFC 9113, 6.8 and 8.7).
    Unprocessed,
    /// The connection ended before a byte of a response came. `reused`: it was kept from an earlier request, so that the
    /// endpoint may have closed it for having idled.
    Closed {
        /// See above.
        reused: bool,
    },
    /// Whatever else: the endpoint may have begun to carry it out.
    Failed,
}

/// The facts about the request that decide whether there is another attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// A target may see its method twice (RFC 9110, 9.2.2).
    pub(super) idempotent: bool,
    /// It has a body.
    pub(super) body: bool,
    /// Its body ended before its end: the client is gone, or sent too much.
    pub(super) broken: bool,
}

impl Sent {
    /// Whether it does no harm if the endpoint gets it twice.
    pub(super) fn is_repeatable(&self) -> bool {
        self.idempotent && !self.body
    }
}

/// The attempts of a request so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    /// In all.
    all: u32,
    /// At the present endpoint.
    pub(super) here: u32,
    /// Those of which the endpoint carried out no request of their connection.
    refused: u32,
    /// Of these, those at the present endpoint.
    refused_here: u32,
    /// Requests that the endpoint took on a connection before it closed it, where it took some; the next connection is
    /// left before that.
    pub(super) places: Option<u32>,
}

impl Attempts {
    /// One more has ended. `took`: requests that the endpoint took on its connection, where it said so.
    pub(super) fn ended(&mut self, took: Option<u32>) {
        self.all += 1;
        self.here += 1;
        match took {
            Some(took) if took > 0 => self.places = Some(took),
            _ => {
                self.refused += 1;
                self.refused_here += 1;
            }
        }
    }

    /// The next one is at another endpoint.
    pub(super) fn elsewhere(&mut self) {
        (self.here, self.refused_here, self.places) = (0, 0, None);
    }
}

/// Where the next attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// None: the client gets the error.
    No,
    /// Another attempt at the same endpoint, over another connection.
    SameEndpoint,
    /// An attempt at the next endpoint.
    NextEndpoint,
}

/// The step after an attempt. `attempts` counts it already; `others`: there is an endpoint that was not tried.
pub(super) fn retry(outcome: Outcome, sent: &Sent, attempts: &Attempts, others: bool) -> Retry {
    if sent.broken || attempts.all >= ATTEMPTS {
        return Retry::No;
    }
    match outcome {
        Outcome::NotConnected if others => Retry::NextEndpoint,
        Outcome::Unsent | Outcome::Unprocessed if attempts.refused < REFUSALS => {
            if others && attempts.refused_here >= REFUSALS_HERE { Retry::NextEndpoint } else { Retry::SameEndpoint }
        }
        Outcome::Closed { reused: true } if sent.is_repeatable() && attempts.refused < REFUSALS => Retry::SameEndpoint,
        _ => Retry::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Sent = Sent { idempotent: true, body: false, broken: false };
    const POST: Sent = Sent { idempotent: false, body: true, broken: false };
    const ALL: [Outcome; 7] = [
        Outcome::NotConnected,
        Outcome::NotSendable,
        Outcome::Unsent,
        Outcome::Unprocessed,
        Outcome::Closed { reused: true },
        Outcome::Closed { reused: false },
        Outcome::Failed,
    ];

    fn after(outcome: Outcome, sent: &Sent, took: &[Option<u32>], others: bool) -> Retry {
        let mut attempts = Attempts::default();
        took.iter().for_each(|took| attempts.ended(*took));
        retry(outcome, sent, &attempts, others)
    }

    #[test]
    fn a_request_is_sent_again_only_if_that_does_no_harm() {
        use Retry::{NextEndpoint, No, SameEndpoint};
        let decided = |sent: &Sent| ALL.map(|outcome| after(outcome, sent, &[None], true));
        assert_eq!(decided(&GET), [NextEndpoint, No, SameEndpoint, SameEndpoint, SameEndpoint, No, No], "GET");
        for (sent, name) in [
            (POST, "POST with a body"),
            (Sent { body: true, ..GET }, "PUT with a body"),
            (Sent { idempotent: false, ..GET }, "POST without a body"),
        ] {
            assert_eq!(decided(&sent), [NextEndpoint, No, SameEndpoint, SameEndpoint, No, No, No], "{name}");
        }
    }

    #[test]
    fn a_body_that_broke_is_sent_nowhere() {
        for outcome in ALL {
            assert_eq!(after(outcome, &Sent { broken: true, ..GET }, &[None], true), Retry::No, "{outcome:?}");
        }
    }

    #[test]
    fn who_refuses_everything_is_not_asked_for_ever() {
        let refusals = REFUSALS as usize;
        for outcome in [Outcome::Unsent, Outcome::Unprocessed, Outcome::Closed { reused: true }] {
            assert_eq!(after(outcome, &GET, &vec![None; refusals - 1], false), Retry::SameEndpoint, "{outcome:?}");
            assert_eq!(after(outcome, &GET, &vec![None; refusals], false), Retry::No, "{outcome:?}");
            assert_eq!(after(outcome, &GET, &vec![Some(0); refusals], false), Retry::No, "{outcome:?}");
            assert_eq!(
                after(outcome, &GET, &vec![Some(3); refusals], false),
                Retry::SameEndpoint,
                "others got through"
            );
        }
        assert_eq!(after(Outcome::Unprocessed, &GET, &vec![Some(1); ATTEMPTS as usize], false), Retry::No);
    }

    #[test]
    fn an_endpoint_that_refuses_twice_is_left_for_another_one() {
        use Retry::{NextEndpoint, No, SameEndpoint};
        for outcome in [Outcome::Unsent, Outcome::Unprocessed] {
            assert_eq!(
                after(outcome, &POST, &[None], true),
                SameEndpoint,
                "{outcome:?}: once may be the connection's fault"
            );
            assert_eq!(after(outcome, &POST, &[None; 2], true), NextEndpoint, "{outcome:?}");
            assert_eq!(after(outcome, &POST, &[None; 2], false), SameEndpoint, "{outcome:?}: there is no other one");
            assert_eq!(after(outcome, &POST, &[Some(3); 2], true), SameEndpoint, "{outcome:?}: it takes others");
            let all = vec![None; REFUSALS as usize];
            assert_eq!(after(outcome, &POST, &all, true), No, "{outcome:?}: the bound is for all endpoints together");
        }
        assert_eq!(after(Outcome::NotConnected, &GET, &[None], false), No);
    }

    #[test]
    fn another_endpoint_is_begun_with_anew() {
        let mut attempts = Attempts::default();
        attempts.ended(Some(7));
        attempts.ended(None);
        assert_eq!((attempts.here, attempts.refused_here, attempts.places), (2, 1, Some(7)));
        attempts.elsewhere();
        assert_eq!((attempts.here, attempts.refused_here, attempts.places), (0, 0, None));
        assert_eq!((attempts.all, attempts.refused), (2, 1));
    }
}
