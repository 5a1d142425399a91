//! Turns: how much of what a peer sent is dealt with before other tasks of the thread have theirs.
//!
//! tokio's budget counts operations on sockets. One of them can bring thousands of frames or interim responses, and a
//! parser deals with all of them before it asks for more. So what is read is counted here, and a reader whose turn is used
//! up says `Pending` once. Its task is woken when the runtime has looked at all sockets: one that wakes itself would be
//! back at once, up to 61 times before others' sockets are looked at.

use std::{
    pin::pin,
    task::{Context, Poll},
};

/// Most that a turn may cost. A byte costs 1, and a piece (a frame, a head) [`PIECE`] more: about a millisecond at most.
pub(crate) const TURN: usize = 64 * 1024;
/// Cost of handling a piece beyond its bytes.
pub(crate) const PIECE: usize = 64;
/// Pieces that a request is worth.
pub(crate) const REQUEST: usize = 64;

/// The present turn of one reader.
#[derive(Debug, Default)]
pub(crate) struct Turn(usize);

impl Turn {
    /// Ready while something is left of the turn; else it starts again after others had theirs.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // guard: turn
        if self.0 < TURN {
            return Poll::Ready(());
        }
        self.0 = 0;
        pin!(tokio::task::yield_now()).poll(cx)
    }

    /// So much was read.
    pub(crate) fn spend(&mut self, bytes: usize, pieces: usize) {
        self.0 = self.0.saturating_add(bytes.saturating_add(pieces.saturating_mul(PIECE)));
    }

    /// The peer had nothing more: the turn has ended by itself.
    pub(crate) fn end(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_turn_that_is_used_up_lets_others_go_first() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut turn = Turn::default();
        turn.spend(TURN - 1, 0);
        assert!(turn.poll(cx).is_ready());
        turn.spend(1, 0);
        assert!(turn.poll(cx).is_pending());
        assert!(turn.poll(cx).is_ready(), "a new one");
        turn.spend(0, TURN / PIECE);
        turn.end();
        assert!(turn.poll(cx).is_ready());
        turn.spend(9, TURN / PIECE);
        assert!(turn.poll(cx).is_pending());
    }
}
