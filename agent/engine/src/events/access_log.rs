//! The subscriber that writes the access log. It only collects lines: the log thread and followers get them in chunks.
//!
//! - [`line`]: a line. [`output`]: where lines go. [`writer`]: the log thread.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{RequestEvent, Subscriber, past_requests::PastRequests, request::RequestSpan};

pub(super) mod line;
pub mod output;
pub mod writer;

use output::{CHUNK_BYTES, Chunk, LogOutput};

/// A worker's part of the access log.
pub(crate) struct AccessLog {
    worker: u32,
    output: Arc<LogOutput>,
    /// Has the line of the request that ended last.
    past_requests: Rc<PastRequests>,
    to_log: RefCell<Lines>,
    to_followers: RefCell<Lines>,
    /// Requests since the one that sampling chose last.
    sampled: Cell<u32>,
}

/// Lines that were not handed on yet.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    lines: u64,
    from: u64,
}

impl AccessLog {
    pub(super) fn new(output: &Arc<LogOutput>, past_requests: &Rc<PastRequests>, worker: u32) -> Self {
        Self {
            worker,
            output: Arc::clone(output),
            past_requests: Rc::clone(past_requests),
            to_log: RefCell::default(),
            to_followers: RefCell::default(),
            sampled: Cell::default(),
        }
    }

    /// The worker that writes the lines.
    pub(super) fn worker(&self) -> u32 {
        self.worker
    }

    /// Hands on the lines that are collected.
    pub(super) fn flush(&self) {
        if self.to_log.borrow().lines > 0 {
            self.flush_log();
        }
        if self.to_followers.borrow().lines > 0 {
            self.flush_followers();
        }
    }

    fn ended(&self, request: &RequestSpan) {
        let line = self.past_requests.last_line();
        // It was remembered just now.
        let number = self.past_requests.next() - 1;
        if self.output.logging() {
            // A denial is a failure, too.
            let served = request.failure().is_none() && request.status() != 0 && request.status() < 500;
            if served && !self.chosen() {
                self.output.lines[2].fetch_add(1, Relaxed);
            } else if self.to_log.borrow_mut().push(&self.output, &line, number) {
                self.flush_log();
            }
        }
        if !self.output.followers.load().is_empty() && self.to_followers.borrow_mut().push(&self.output, &line, number)
        {
            self.flush_followers();
        }
    }

    /// Whether sampling has this one logged.
    fn chosen(&self) -> bool {
        let turn = self.sampled.get();
        self.sampled.set(if turn + 1 >= self.output.sample() { 0 } else { turn + 1 });
        turn == 0
    }

    fn flush_log(&self) {
        let chunk = self.to_log.borrow_mut().take(self.worker);
        self.output.log_lines(chunk);
    }

    fn flush_followers(&self) {
        let chunk = self.to_followers.borrow_mut().take(self.worker);
        self.output.send_to_followers(chunk);
    }
}

impl Subscriber for AccessLog {
    #[inline]
    fn on_request(&self, request: &RequestSpan, event: &RequestEvent<'_>) {
        if let RequestEvent::Ended { .. } = event {
            self.ended(request);
        }
    }
}

impl Lines {
    /// One more; true: it is time to hand them on.
    fn push(&mut self, output: &LogOutput, line: &[u8], number: u64) -> bool {
        if self.lines == 0 {
            self.from = number;
            if self.bytes.capacity() == 0 {
                self.bytes = output.buffer();
            }
        }
        self.bytes.extend_from_slice(line);
        self.lines += 1;
        self.bytes.len() >= CHUNK_BYTES
    }

    fn take(&mut self, worker: u32) -> Chunk {
        let Self { bytes, lines, from } = std::mem::take(self);
        Chunk { worker, from, lines, bytes }
    }
}
