//! The strict reader in front of the HTTP/1 parser.
//!
//! hyper and httparse forgive what RFC 9112 lets a recipient forgive: bare LF, `Transfer-Encoding` next to
//! `Content-Length`, white space in odd places. Two parsers in a row that forgive different things are how requests are
//! smuggled, so the guard refuses all of it before a parser sees it. It follows the framing of every message as
//! [`brattice_http1`] reads it (its README says what is refused), and passes on what is complete: heads, lines with a chunk's
//! size, trailer sections; data as they come.

use std::{cell::RefCell, rc::Rc};

use brattice_http1::{BodyReader, Index, Limits, Part, RequestHead, RequestReader};

use super::refusal::Refusal;

/// Heads passed on at once: a parser deals with all that it is given before others have their turn.
const HEADS: u64 = 8;

/// How long and how many the header fields of a request, and its trailers, may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a header section, request line included; the same again for trailers.
    pub bytes: usize,
    /// Fields of a header section; the same again for trailers.
    pub fields: usize,
}

impl Bounds {
    fn limits(self) -> Limits {
        Limits::requests(self.bytes, self.fields)
    }
}

/// The room for a head that no connection of the worker is reading now: an idle connection keeps none.
#[derive(Debug, Default)]
pub struct SpareHead(RefCell<Option<Box<Reading>>>);

/// A head that is being read.
#[derive(Debug)]
struct Reading {
    reader: RequestReader,
    head: RequestHead,
}

/// A body that is being read.
#[derive(Debug)]
struct Body {
    reader: BodyReader,
    trailers: Index,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Guard {
    bounds: Bounds,
    spare: Rc<SpareHead>,
    phase: Phase,
    /// Heads passed on.
    heads: u64,
    /// The latest of them offers another protocol: what follows may be no HTTP.
    offered: bool,
}

#[derive(Debug)]
enum Phase {
    /// Nothing of the next head has come.
    Between,
    /// A head that is not complete.
    Head(Box<Reading>),
    /// A body.
    Body(Box<Body>),
}

/// What became of the bytes given to [`Guard::scan`].
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// This many may be passed on.
    pub accepted: usize,
    /// What follows them may be passed on as well, after others had their turn: there are many heads.
    pub more: bool,
    /// What follows them is refused, and with it the rest of the connection.
    pub refused: Option<Refusal>,
}

impl Guard {
    /// For a new connection of a worker with this room.
    pub fn new(bounds: Bounds, spare: &Rc<SpareHead>) -> Self {
        Self { bounds, spare: Rc::clone(spare), phase: Phase::Between, heads: 0, offered: false }
    }

    /// Heads that were passed on.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte belongs to a head (also when some of it was seen already).
    pub fn in_head(&self) -> bool {
        !matches!(self.phase, Phase::Body(_))
    }

    /// Whether the latest head offers another protocol (`Upgrade`). Nothing behind it is read until
    /// [`Guard::go_on`]: it is HTTP only if the offer is not taken.
    pub fn offered(&self) -> bool {
        self.offered
    }

    /// The offer was not taken: what follows is HTTP.
    pub fn go_on(&mut self) {
        self.offered = false;
    }

    /// Reads on. Bytes that were not accepted are to be given again, with more after them, unless they are refused.
    pub fn scan(&mut self, input: &[u8]) -> Scan {
        let mut at = 0;
        let last = self.heads + HEADS;
        while at < input.len() && !self.offered {
            if self.heads == last && self.in_head() {
                return Scan { accepted: at, more: true, refused: None };
            }
            match self.step(&input[at..]) {
                Ok(0) => break,
                Ok(count) => at += count,
                Err(refusal) => return Scan { accepted: at, more: false, refused: Some(refusal) },
            }
        }
        Scan { accepted: at, more: false, refused: None }
    }

    /// Some of the input, which is not empty; 0: more is needed.
    fn step(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let reading = match std::mem::replace(&mut self.phase, Phase::Between) {
            Phase::Body(body) => return self.body(body, input),
            Phase::Head(reading) => Some(reading),
            Phase::Between => self.spare.0.take(),
        };
        let limits = self.bounds.limits();
        let mut reading = reading
            .unwrap_or_else(|| Box::new(Reading { reader: RequestReader::new(&limits), head: RequestHead::default() }));
        let Some(length) = reading.reader.read(input, &mut reading.head)? else {
            self.phase = Phase::Head(reading);
            return Ok(0);
        };
        self.heads += 1;
        self.offered = reading.head.offers_upgrade();
        let body = reading.head.body;
        if !body.is_empty() {
            let reader = BodyReader::new(body, &limits);
            self.phase = Phase::Body(Box::new(Body { reader, trailers: Index::default() }));
        }
        self.spare.0.replace(Some(reading));
        Ok(length)
    }

    /// As [`Guard::step`], of a body. After a refusal it is still that body which is read.
    fn body(&mut self, mut body: Box<Body>, input: &[u8]) -> Result<usize, Refusal> {
        let part = body.reader.next(input, &mut body.trailers);
        if !body.reader.has_ended() {
            self.phase = Phase::Body(body);
        }
        Ok(match part? {
            Part::Data(length) | Part::Framing { length, .. } | Part::End(length) => length,
            Part::More => 0,
        })
    }
}
