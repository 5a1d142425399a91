//! One request, from its head to the last byte of its answer; or one relayed connection.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

use brattice_decide::{Passed, Refusal};
use brattice_iam::Level;
use brattice_wire::records::{DeniedBy, FailureReason};
use http::{HeaderMap, HeaderValue, Request, header};

use super::{
    flow::Flow,
    json::{self, MOST_TEXT},
    names::Names,
    place::Named,
};
use crate::{auth::Revoked, http::head::Head};

/// Header values of a request that are remembered, bytes.
const MOST_FIELDS: usize = MOST_TEXT;
/// `␠␠HTTP/1.1␍␊` around method and target, and the empty line.
const REQUEST_LINE: usize = 14;
/// `HTTP/1.1␠200␠␍␊`, and the empty line.
const STATUS_LINE: usize = 17;
/// Texts of a request up to this size are kept for the next one.
const KEPT_BYTES: usize = 4 * 1024;

/// What is known of a request.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) flow: Rc<Flow>,
    pub(super) began: Instant,
    pub(super) http2: bool,
    pub(super) relayed: bool,
    /// Of the answer; 0: none.
    pub(crate) status: Cell<u16>,
    /// `grpc-status` of the answer.
    pub(super) grpc: Cell<Option<u32>>,
    pub(super) failure: Cell<Option<FailureReason>>,
    /// Bytes from the caller.
    pub(crate) received: Cell<u64>,
    /// Bytes to the caller.
    pub(crate) sent: Cell<u64>,
    pub(super) to_target: Cell<Option<Instant>>,
    pub(super) from_target: Cell<Option<Instant>>,
    pub(super) upgraded: Cell<bool>,
    pub(super) met: Cell<Met>,
    /// What it met, in the documents' words.
    pub(super) named: RefCell<Option<Rc<Named>>>,
    pub(super) known: Rc<RefCell<Known>>,
}

/// What a request met on its way; indices and numbers of one snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Met {
    /// Number of the service.
    pub(crate) service: Option<u32>,
    /// Index of the target group.
    pub(crate) group: Option<u32>,
    /// Index of the service network.
    pub(crate) network: Option<u32>,
    /// Real address and port of the target, its alias.
    pub(crate) target: Option<(SocketAddr, IpAddr)>,
    /// Which policy denied it.
    pub(crate) denied: Option<DeniedBy>,
}

/// Texts of a request, in buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Known {
    text: String,
    method: Range<usize>,
    raw_path: Range<usize>,
    path: Range<usize>,
    query: Range<usize>,
    host_field: Range<usize>,
    host: Range<usize>,
    agent: Range<usize>,
    request_id: Range<usize>,
    rule: Range<usize>,
    decision: Range<usize>,
    pub(super) cut: bool,
    fields: Vec<Field>,
    values: Vec<Range<usize>>,
}

#[derive(Debug)]
struct Field {
    name: Range<usize>,
    values: Option<Range<usize>>,
}

impl Known {
    /// Ready for another request; false: it grew too large to be kept.
    pub(super) fn clear(&mut self) -> bool {
        let Self { text, fields, values, .. } = std::mem::take(self);
        if text.capacity() > KEPT_BYTES || values.capacity() > KEPT_BYTES / 16 {
            return false;
        }
        *self = Self { text, fields, values, ..Self::default() };
        self.text.clear();
        self.fields.clear();
        self.values.clear();
        true
    }

    /// A copy, cut; bytes that are no UTF-8 are replaced.
    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let from = self.text.len();
        let cut = json::cut(bytes);
        self.cut |= cut.len() < bytes.len();
        if let Ok(text) = std::str::from_utf8(cut) {
            self.text.push_str(text);
            return from..self.text.len();
        }
        for chunk in cut.utf8_chunks() {
            self.text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.text.push('\u{fffd}');
            }
        }
        from..self.text.len()
    }

    pub(super) fn get(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    pub(super) fn method(&self) -> &str {
        self.get(&self.method)
    }

    /// As rules saw it, else as it came.
    pub(super) fn path(&self) -> &str {
        self.get(if self.path.is_empty() { &self.raw_path } else { &self.path })
    }

    pub(super) fn query(&self) -> &str {
        self.get(&self.query)
    }

    pub(super) fn host_field(&self) -> &str {
        self.get(&self.host_field)
    }

    pub(super) fn host(&self) -> &str {
        self.get(if self.host.is_empty() { &self.host_field } else { &self.host })
    }

    pub(super) fn agent(&self) -> &str {
        self.get(&self.agent)
    }

    pub(super) fn request_id(&self) -> &str {
        self.get(&self.request_id)
    }

    pub(super) fn rule(&self) -> &str {
        self.get(&self.rule)
    }

    pub(super) fn decision(&self) -> &str {
        self.get(&self.decision)
    }

    /// Names of the fields that were asked for, and where their values are; none: secret.
    pub(super) fn fields(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[Range<usize>]>)> {
        self.fields.iter().map(|field| {
            (self.get(&field.name), field.values.clone().map(|values| self.values.get(values).unwrap_or_default()))
        })
    }
}

/// Fields as HTTP/1.1 writes them, in both versions: what HPACK makes of them is nobody's measure.
fn fields_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

impl Record {
    /// A request as it came.
    pub(super) fn new<B>(flow: Rc<Flow>, room: Rc<RefCell<Known>>, request: &Request<B>, began: Instant) -> Self {
        let mut known = room.borrow_mut();
        let (uri, headers) = (request.uri(), request.headers());
        known.method = known.copy(request.method().as_str().as_bytes());
        known.raw_path = known.copy(uri.path().as_bytes());
        known.query = known.copy(uri.query().unwrap_or_default().as_bytes());
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        let host = host.or_else(|| uri.authority().map(|authority| authority.as_str().as_bytes()));
        known.host_field = known.copy(host.unwrap_or_default());
        known.agent = known.copy(headers.get(header::USER_AGENT).map_or(b"", |value| value.as_bytes()));
        let http2 = request.version() == http::Version::HTTP_2;
        let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
        let size = request.method().as_str().len() + target + REQUEST_LINE + fields_size(headers);
        drop(known);
        Self::with(flow, room, began, http2, false, size as u64)
    }

    /// A request of which nothing is known.
    pub(super) fn unreadable(flow: Rc<Flow>, known: Rc<RefCell<Known>>, began: Instant) -> Self {
        Self::with(flow, known, began, false, false, 0)
    }

    /// A connection whose bytes are relayed.
    pub(super) fn relayed(flow: Rc<Flow>, known: Rc<RefCell<Known>>, began: Instant) -> Self {
        Self::with(flow, known, began, false, true, 0)
    }

    fn with(
        flow: Rc<Flow>,
        known: Rc<RefCell<Known>>,
        began: Instant,
        http2: bool,
        relayed: bool,
        received: u64,
    ) -> Self {
        Self {
            flow,
            began,
            http2,
            relayed,
            status: Cell::new(0),
            grpc: Cell::new(None),
            failure: Cell::new(None),
            received: Cell::new(received),
            sent: Cell::new(0),
            to_target: Cell::new(None),
            from_target: Cell::new(None),
            upgraded: Cell::new(false),
            met: Cell::default(),
            named: RefCell::default(),
            known,
        }
    }

    /// Its id.
    pub(crate) fn id(&self, id: &[u8]) {
        let mut known = self.known.borrow_mut();
        known.request_id = known.copy(id);
    }

    /// What it met so far.
    pub(crate) fn meet(&self, change: impl FnOnce(&mut Met)) {
        let mut met = self.met.get();
        change(&mut met);
        self.met.set(met);
    }

    /// It goes to this target: real address and port, alias.
    pub(crate) fn goes_to(&self, address: SocketAddr, alias: IpAddr) {
        self.meet(|met| met.target = Some((address, alias)));
        let last = &mut *self.flow.last.borrow_mut();
        (last.target, last.target_alias) = (Some(address), Some(alias));
    }

    /// Its head, as rules and policies see it. `service` is the number of the one that is called.
    pub(crate) fn head(&self, names: &Names, service: u32, head: &Head<'_>) {
        let (path, headers) = (&*head.path, head.headers);
        let known = &mut *self.known.borrow_mut();
        if path != known.get(&known.raw_path) {
            known.path = known.copy(path.as_bytes());
        }
        known.host = known.copy(head.host.as_bytes());
        let Some(listener) = names.service(service).and_then(|service| service.listener(self.flow.port)) else {
            return;
        };
        let mut room = MOST_FIELDS;
        for (name, secret) in &listener.asked {
            if !headers.contains_key(&**name) {
                continue;
            }
            let first = known.values.len();
            if !secret {
                for value in headers.get_all(&**name) {
                    let value = value.as_bytes();
                    if value.len() > room {
                        known.cut = true;
                        continue;
                    }
                    room -= value.len();
                    let value = known.copy(value);
                    known.values.push(value);
                }
            }
            let name = known.copy(name.as_bytes());
            let values = (!secret).then_some(first..known.values.len());
            known.fields.push(Field { name, values });
        }
    }

    /// The rule that it met.
    pub(crate) fn rule(&self, id: &str) {
        let mut known = self.known.borrow_mut();
        known.rule = known.copy(id.as_bytes());
    }

    /// It may pass.
    pub(crate) fn passed(&self, passed: &Passed) {
        self.meet(|met| met.network = passed.network);
        if let Some(audited) = &passed.audited {
            self.decision(audited);
        }
    }

    /// It may not.
    pub(crate) fn denied(&self, refusal: &Refusal) {
        let by = match refusal.level {
            Level::Identity => DeniedBy::Identity,
            Level::Network => DeniedBy::Network,
            Level::Service => DeniedBy::Service,
        };
        self.meet(|met| met.denied = Some(by));
        self.decision(&refusal.decision);
        self.fail(FailureReason::ClientAccessDenied);
    }

    /// It was let through, and is not any more.
    pub(crate) fn revoked(&self, revoked: &Revoked) {
        match revoked {
            Revoked::Denied(refusal) => self.denied(refusal),
            Revoked::Withdrawn | Revoked::Gone => {
                self.decision(revoked.why());
                self.fail(FailureReason::ClientAccessDenied);
            }
        }
    }

    fn decision(&self, id: &str) {
        let mut known = self.known.borrow_mut();
        known.decision = known.copy(id.as_bytes());
    }

    /// Why it is not served; the first reason counts.
    pub(crate) fn fail(&self, reason: FailureReason) {
        if self.failure.get().is_none() {
            self.failure.set(Some(reason));
        }
    }

    /// Whether it is known why it failed.
    pub(crate) fn failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Why an answer of ours with this status is no proper one, where nothing more precise is known.
    pub(crate) fn fail_by_status(&self, status: u16) {
        let reason = match status {
            400 | 413 | 414 | 431 | 501 => FailureReason::ClientProtocolError,
            408 => FailureReason::ConnectionDurationExceeded,
            502 => FailureReason::TargetProtocolError,
            503 => FailureReason::TargetConnectionError,
            504 => FailureReason::TargetDataTimeout,
            500.. => FailureReason::InternalError,
            _ => return,
        };
        self.fail(reason);
    }

    /// More bytes from the caller.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
    }

    /// More bytes to the caller.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    /// Bytes of another protocol from the caller.
    pub(crate) fn relayed_in(&self, bytes: usize) {
        self.received(bytes);
        self.flow.read(bytes);
    }

    /// Bytes of another protocol to the caller.
    pub(crate) fn relayed_out(&self, bytes: usize) {
        self.sent(bytes);
        self.flow.wrote(bytes);
    }

    /// The target has the whole request.
    pub(crate) fn reached_target(&self) {
        self.to_target.set(Some(Instant::now()));
    }

    /// The target had none of it.
    pub(crate) fn unreached(&self) {
        self.to_target.set(None);
    }

    /// The target's answer begins.
    pub(crate) fn target_answers(&self) {
        self.from_target.set(Some(Instant::now()));
    }

    /// The answer's head, as it is given to the caller.
    pub(crate) fn answer(&self, status: u16, headers: &HeaderMap) {
        self.status.set(status);
        self.sent(STATUS_LINE + fields_size(headers));
        self.trailers(headers);
    }

    /// Fields that may have `grpc-status`.
    pub(crate) fn trailers(&self, headers: &HeaderMap) {
        if let Some(value) = headers.get("grpc-status") {
            self.grpc.set(value.to_str().ok().and_then(|text| text.parse().ok()));
        }
    }

    /// The protocol was changed.
    pub(crate) fn upgraded(&self) {
        self.upgraded.set(true);
    }

    /// Duration until `end`.
    pub(super) fn duration(&self, end: Instant) -> Duration {
        end.saturating_duration_since(self.began)
    }
}
