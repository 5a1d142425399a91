//! A worker's records. Only its thread touches them.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use brattice_wire::records::{FailureReason, FlowProtocol, Past, Query};
use http::Request;
use slab::Slab;

use super::{
    ask::Ask,
    flow::{Flow, millis, replace},
    line,
    names::Names,
    outlets::{CHUNK_BYTES, Chunk, Outlets},
    past,
    place::{Place, Places},
    record::{Known, Record},
    ring::Ring,
    time::Wall,
};
use crate::{aliases::CallerId, ticker::Ticker};

/// Rooms for texts of requests that are kept for the next ones.
const KEPT_ROOMS: usize = 1_024;
/// Rows that a worker gives for one question about flows.
pub(crate) const MOST_FLOWS: usize = 4_096;
/// Ids of flows begin so many for each second since 1970, so that they are not given again after a restart.
const FLOWS_PER_SECOND: u64 = 4_096;
/// Where the worker stands in a flow's id; ids stay below 2^53, which every JSON reader can hold.
const WORKER_SHIFT: u32 = 46;

/// Lines that were not handed on yet.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    lines: u64,
    from: u64,
}

/// A worker's records.
#[derive(Debug)]
pub(crate) struct Book {
    worker: u32,
    outlets: Arc<Outlets>,
    #[allow(clippy::vec_box, reason = "a room moves into the record and back as one pointer")]
    rooms: RefCell<Vec<Rc<RefCell<Known>>>>,
    ring: RefCell<Ring>,
    line: RefCell<Vec<u8>>,
    past: RefCell<Vec<u8>>,
    log: RefCell<Lines>,
    told: RefCell<Lines>,
    sampled: Cell<u32>,
    places: RefCell<Places>,
    flows: RefCell<Slab<Rc<Flow>>>,
    next_flow: Cell<u64>,
    wall: Wall,
}

impl Book {
    /// Of a worker.
    pub(crate) fn new(outlets: Arc<Outlets>, worker: u32) -> Rc<Self> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let first =
            u64::from(worker) << WORKER_SHIFT | seconds.wrapping_mul(FLOWS_PER_SECOND) & ((1 << WORKER_SHIFT) - 1);
        Rc::new(Self {
            worker,
            outlets,
            rooms: RefCell::default(),
            ring: RefCell::default(),
            line: RefCell::default(),
            past: RefCell::default(),
            log: RefCell::default(),
            told: RefCell::default(),
            sampled: Cell::new(0),
            places: RefCell::default(),
            flows: RefCell::default(),
            next_flow: Cell::new(first),
            wall: Wall::default(),
        })
    }

    /// Hands lines on in time, for ever. `ticker`: of [`CHUNK_TIME`].
    pub(crate) async fn run(self: Rc<Self>, ticker: Ticker) {
        loop {
            ticker.tick().await;
            self.flush();
        }
    }

    // ---- connections

    /// A connection begins. `to`: the number of the service that it calls and the index of the target group that it is
    /// relayed to, as far as they are known.
    pub(crate) fn connected(
        &self,
        names: &Names,
        caller: CallerId,
        source_port: u16,
        called: (IpAddr, u16),
        to: (Option<u32>, Option<u32>),
    ) -> Rc<Flow> {
        let id = self.next_flow.get();
        self.next_flow.set(id + 1);
        let began = Instant::now();
        let (service, group) = to;
        let place = Place {
            alias: caller.alias(),
            generation: caller.generation(),
            port: called.1,
            service,
            group,
            network: None,
        };
        let named = self.places.borrow_mut().named(names, place, &self.outlets);
        let flow = Rc::new(Flow {
            id,
            key: Cell::new(0),
            began,
            since: self.wall.at(began),
            alias: caller.alias(),
            generation: caller.generation(),
            source_port,
            vip: called.0,
            port: called.1,
            protocol: Cell::new(FlowProtocol::Unknown),
            received: Cell::new(0),
            sent: Cell::new(0),
            requests: Cell::new(0),
            open: Cell::new(0),
            series: Arc::clone(&named.series),
            last: RefCell::default(),
        });
        let row = flow.series.row(self.worker);
        row.connections.add(1);
        row.open.add(1);
        flow.key.set(self.flows.borrow_mut().insert(Rc::clone(&flow)));
        flow
    }

    /// A connection has ended.
    pub(crate) fn disconnected(&self, flow: &Flow) {
        flow.series.row(self.worker).open.sub(1);
        self.flows.borrow_mut().try_remove(flow.key.get());
    }

    // ---- requests

    /// A request begins.
    pub(crate) fn begin<B>(&self, flow: &Rc<Flow>, request: &Request<B>) -> Record {
        flow.requests.set(flow.requests.get() + 1);
        flow.open.set(flow.open.get() + 1);
        Record::new(Rc::clone(flow), self.room(), request, Instant::now())
    }

    /// A request was answered with 400 before anybody here could read it.
    pub(crate) fn unreadable(&self, flow: &Rc<Flow>, names: &Names) {
        flow.requests.set(flow.requests.get() + 1);
        flow.open.set(flow.open.get() + 1);
        let record = Record::unreadable(Rc::clone(flow), self.room(), Instant::now());
        record.status.set(400);
        record.fail(FailureReason::ClientProtocolError);
        self.settle(&record, names);
        self.end(&record, true);
    }

    /// A connection is relayed unread.
    pub(crate) fn begin_relayed(&self, flow: &Rc<Flow>) -> Record {
        flow.open.set(flow.open.get() + 1);
        flow.protocol.set(FlowProtocol::Relayed);
        Record::relayed(Rc::clone(flow), self.room(), Instant::now())
    }

    /// Of a request that nobody holds any more, or a new one.
    fn room(&self) -> Rc<RefCell<Known>> {
        self.rooms.borrow_mut().pop().filter(|room| Rc::strong_count(room) == 1).unwrap_or_default()
    }

    /// What a request met is known by the names of the snapshot that it met it in.
    pub(crate) fn settle(&self, record: &Record, names: &Names) {
        let flow = &*record.flow;
        let met = record.met.get();
        let place = Place::of(flow.alias, flow.generation, flow.port, &met);
        let known = record.known.borrow();
        let last = &mut *flow.last.borrow_mut();
        // Most requests of a connection meet what the one before met.
        let same = last.named.as_ref().filter(|named| named.place == place && named.revision == names.revision);
        let named = match same {
            Some(named) => Rc::clone(named),
            None => self.places.borrow_mut().named(names, place, &self.outlets),
        };
        replace(&mut last.request_id, known.request_id());
        replace(&mut last.rule, known.rule());
        last.named = Some(Rc::clone(&named));
        (last.target, last.target_alias) = (met.target.map(|(address, _)| address), met.target.map(|(_, alias)| alias));
        *record.named.borrow_mut() = Some(named);
    }

    /// From now on the request is a connection of another protocol, or a relayed one, which may last: it is remembered
    /// already.
    pub(crate) fn lasting(&self, record: &Record) {
        if !record.relayed {
            record.flow.protocol.set(FlowProtocol::Upgraded);
            record.upgraded();
        }
        let now = Instant::now();
        let past = &mut *self.past.borrow_mut();
        let known = record.known.borrow();
        past.clear();
        past::write(past, record, &known, self.wall.at(record.began), None);
        let ended = millis(self.wall.at(now));
        self.ring.borrow_mut().push(ended, record.flow.id, known.request_id().as_bytes(), past, &[]);
    }

    /// A request has ended. `complete`: its answer was given whole.
    pub(crate) fn end(&self, record: &Record, complete: bool) {
        let end = Instant::now();
        let flow = &*record.flow;
        flow.open.set(flow.open.get().saturating_sub(1));
        if !complete {
            record.fail(FailureReason::ClientConnectionClosed);
        }
        let failure = record.failure.get();
        if let Some(reason) = failure {
            self.outlets.failures[reason as usize].fetch_add(1, Relaxed);
        }
        let status = record.status.get();
        let duration = record.duration(end);
        if let Some(named) = &*record.named.borrow() {
            let row = named.series.row(self.worker);
            row.moved(record.received.get(), record.sent.get());
            if !record.relayed {
                let denied = record.met.get().denied;
                // gRPC tells its denials with status 200.
                row.ended(if denied.is_some() && status != 0 { 403 } else { status }, duration);
                if let Some(level) = denied {
                    row.denied[level as usize].add(1);
                }
            }
        }
        let mut known = record.known.borrow_mut();
        let (line, past) = (&mut *self.line.borrow_mut(), &mut *self.past.borrow_mut());
        line.clear();
        let began = self.wall.at(record.began);
        line::write(line, record, &known, self.wall.text(began), end);
        past.clear();
        past::write(past, record, &known, began, Some(duration));
        let ended = millis(self.wall.at(end));
        let number = self.ring.borrow().next();
        self.ring.borrow_mut().push(ended, flow.id, known.request_id().as_bytes(), past, line);
        if self.outlets.logging() {
            // A denial is a failure, too.
            let sampled = failure.is_none() && status != 0 && status < 500 && !self.chosen();
            if sampled {
                self.outlets.lines[2].fetch_add(1, Relaxed);
            } else if self.log.borrow_mut().push(&self.outlets, line, number) {
                self.flush_log();
            }
        }
        if !self.outlets.followers.load().is_empty() && self.told.borrow_mut().push(&self.outlets, line, number) {
            self.flush_told();
        }
        line.shrink_to(CHUNK_BYTES);
        past.shrink_to(CHUNK_BYTES);
        let mut rooms = self.rooms.borrow_mut();
        if rooms.len() < KEPT_ROOMS && known.clear() {
            rooms.push(Rc::clone(&record.known));
        }
    }

    /// Whether sampling has this one logged.
    fn chosen(&self) -> bool {
        let turn = self.sampled.get();
        self.sampled.set(if turn + 1 >= self.outlets.sample() { 0 } else { turn + 1 });
        turn == 0
    }

    // ---- what leaves

    /// Hands on what there is.
    pub(crate) fn flush(&self) {
        if self.log.borrow().lines > 0 {
            self.flush_log();
        }
        if self.told.borrow().lines > 0 {
            self.flush_told();
        }
    }

    fn flush_log(&self) {
        let chunk = self.log.borrow_mut().take(self.worker);
        self.outlets.log_lines(chunk);
    }

    fn flush_told(&self) {
        let chunk = self.told.borrow_mut().take(self.worker);
        self.outlets.tell_followers(chunk);
    }

    // ---- questions

    /// Answers a question from outside.
    pub(crate) fn answer(&self, names: &Names, ask: &Ask) {
        match &ask.query {
            Query::Flows => {
                let now = Instant::now();
                let flows = self.flows.borrow();
                for (_, flow) in flows.iter().take(MOST_FLOWS) {
                    ask.row(&flow.row(names, now));
                }
                ask.left_out(flows.len().saturating_sub(MOST_FLOWS));
            }
            Query::Follow { backlog_lines } => {
                // Lines before this moment are the backlog, those after it are told.
                self.flush();
                let ring = self.ring.borrow();
                for past in ring.newest().filter(|past| !past.line.is_empty()).take(*backlog_lines as usize) {
                    ask.line(past.ended_ms, past.line);
                }
                ask.from(self.worker, ring.next());
            }
            Query::Recall { request_id } => {
                if let Some(past) = self.recall(request_id.as_bytes()) {
                    ask.row(&past);
                }
            }
            Query::RecallFlow { flow } => {
                let ring = self.ring.borrow();
                if let Some(past) = ring.by_flow(*flow).find_map(|entry| past::read(entry.past)) {
                    ask.row(&past);
                }
            }
        }
    }

    /// The latest request with this id.
    pub(super) fn recall(&self, request_id: &[u8]) -> Option<Past> {
        let ring = self.ring.borrow();
        let mut found = ring.by_id(request_id).filter_map(|entry| past::read(entry.past));
        found.find(|past| past.request_id.as_bytes() == request_id)
    }

    /// A new snapshot is in force.
    pub(crate) fn applied(&self, names: &Names) {
        self.places.borrow_mut().applied(names);
    }
}

impl Lines {
    /// One more; true: it is time to hand them on.
    fn push(&mut self, outlets: &Outlets, line: &[u8], number: u64) -> bool {
        if self.lines == 0 {
            self.from = number;
            if self.bytes.capacity() == 0 {
                self.bytes = outlets.buffer();
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr};

    use super::*;

    #[test]
    fn every_field_of_a_line_is_documented() {
        let page = include_str!("../../../../docs/observability.md");
        let (_, fields) = page.split_once("### Fields\n").unwrap();
        let (fields, _) = fields.split_once("\n### ").unwrap();
        let rows: Vec<&str> = fields.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let documented: BTreeSet<&str> = rows.iter().copied().collect();
        assert_eq!(rows.len(), documented.len(), "each once");
        let book = Book::new(Arc::new(Outlets::new(1)), 0);
        let names = Names::default();
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        let flow = book.connected(&names, CallerId::new(address, 0), 1, (address, 80), (None, None));
        book.unreadable(&flow, &names);
        let ring = book.ring.borrow();
        let line = std::str::from_utf8(ring.newest().next().unwrap().line).unwrap();
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        assert_eq!(object.keys().map(String::as_str).collect::<BTreeSet<_>>(), documented);
        for name in object.keys() {
            assert_eq!(line.matches(&format!("\"{name}\":")).count(), 1, "{name} in {line}");
        }
    }
}
