//! The subscriber that remembers a worker's latest requests, for `explain` and for the backlog of `logs`.
//!
//! - [`encoding`]: what is remembered of a request. [`ring`]: where, in a fixed number of bytes.

use std::{
    cell::{Ref, RefCell},
    time::{Duration, Instant},
};

use brattice_wire::records::Past;

use super::{
    RequestEvent, Subscriber,
    access_log::{line, output::CHUNK_BYTES},
    connection::millis,
    request::RequestSpan,
    time::WallClock,
};
use crate::queries::question::Question;

mod encoding;
mod ring;

use ring::Ring;

/// A worker's latest requests, with their lines of the access log.
#[derive(Debug, Default)]
pub(crate) struct PastRequests {
    ring: RefCell<Ring>,
    line: RefCell<Vec<u8>>,
    encoded: RefCell<Vec<u8>>,
    clock: WallClock,
}

impl PastRequests {
    /// Number of the next request that is remembered.
    pub(super) fn next(&self) -> u64 {
        self.ring.borrow().next()
    }

    /// The line of the request that ended last, with its newline.
    pub(super) fn last_line(&self) -> Ref<'_, [u8]> {
        Ref::map(self.line.borrow(), Vec::as_slice)
    }

    /// Answers with the latest lines, newest first. The number of the first request that is not among them.
    pub(super) fn backlog(&self, lines: u32, question: &Question) -> u64 {
        let ring = self.ring.borrow();
        for past in ring.newest().filter(|past| !past.line.is_empty()).take(lines as usize) {
            question.line(past.ended_ms, past.line);
        }
        ring.next()
    }

    /// The latest request with this id.
    pub(super) fn recall(&self, request_id: &[u8]) -> Option<Past> {
        let ring = self.ring.borrow();
        let mut found = ring.by_id(request_id).filter_map(|entry| encoding::read(entry.past));
        found.find(|past| past.request_id.as_bytes() == request_id)
    }

    /// The latest request of a connection.
    pub(super) fn recall_of_connection(&self, connection: u64) -> Option<Past> {
        self.ring.borrow().by_connection(connection).find_map(|entry| encoding::read(entry.past))
    }

    /// The request goes on, maybe for long: it can be explained already, and has no line yet.
    fn remember_open(&self, request: &RequestSpan) {
        let now = Instant::now();
        let encoded = &mut *self.encoded.borrow_mut();
        self.encode(encoded, request, self.clock.at(request.began), None);
        self.push(request, now, encoded, &[]);
    }

    fn remember(&self, request: &RequestSpan, end: Instant) {
        let (line, encoded) = (&mut *self.line.borrow_mut(), &mut *self.encoded.borrow_mut());
        let began = self.clock.at(request.began);
        line.clear();
        line.shrink_to(CHUNK_BYTES);
        line::write(line, request, self.clock.text(began), end);
        self.encode(encoded, request, began, Some(request.duration(end)));
        self.push(request, end, encoded, line);
    }

    fn encode(&self, out: &mut Vec<u8>, request: &RequestSpan, began: Duration, duration: Option<Duration>) {
        out.clear();
        out.shrink_to(CHUNK_BYTES);
        encoding::write(out, request, began, duration);
    }

    fn push(&self, request: &RequestSpan, at: Instant, encoded: &[u8], line: &[u8]) {
        let ended = millis(self.clock.at(at));
        let texts = request.texts();
        self.ring.borrow_mut().push(ended, request.connection.id, texts.request_id().as_bytes(), encoded, line);
    }
}

impl Subscriber for PastRequests {
    #[inline]
    fn on_request(&self, request: &RequestSpan, event: &RequestEvent<'_>) {
        match event {
            RequestEvent::Upgraded | RequestEvent::TunnelOpened => self.remember_open(request),
            RequestEvent::Ended { at, .. } => self.remember(request, *at),
            _ => {}
        }
    }
}
