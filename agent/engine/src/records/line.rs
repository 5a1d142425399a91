//! A line of the access log: Lattice's fields and ours, in no particular order. docs/observability.md says what is in each
//! and when it is absent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    flow::millis,
    json::{self, ABSENT},
    record::{Known, Record},
};

/// Fields that are always absent: TLS is not spoken, certificates are not asked for.
const NEVER: &[u8; 184] = br#","tlsVersion":"-","sslCipher":"-","serverNameIndication":"-","callerX509SubjectCN":"-","callerX509IssuerOU":"-","callerX509SANNameCN":"-","callerX509SANDNS":"-","callerX509SANURI":"-","#;

/// Writes the line of a request that has ended, with its newline. `began`: when it began, as [`super::time::iso`] writes it.
pub(super) fn write(out: &mut Vec<u8>, record: &Record, known: &Known, began: [u8; 20], end: Instant) {
    let (met, named) = (record.met.get(), record.named.borrow());
    let named = named.as_deref();
    let mut line = Line(out);
    line.put(b"{\"startTime\":\"");
    line.put(&began);
    line.put(b"\",\"requestId\":");
    line.text(known.request_id());
    line.put(b",\"requestMethod\":");
    line.text(known.method());
    line.put(b",\"requestPath\":");
    line.text(known.path());
    line.put(b",\"hostHeader\":");
    line.text(known.host_field());
    line.put(b",\"userAgent\":");
    line.text(known.agent());
    line.put(b",\"protocol\":");
    line.word(protocol(record));
    line.put(b",\"responseCode\":");
    line.number(Some(record.status.get()).filter(|status| *status > 0).map(u64::from));
    line.put(b",\"grpcResponseCode\":");
    line.number(record.grpc.get().map(u64::from));
    line.put(b",\"bytesReceived\":");
    line.number(Some(record.received.get()));
    line.put(b",\"bytesSent\":");
    line.number(Some(record.sent.get()));
    line.put(b",\"duration\":");
    line.time(Some(record.duration(end)));
    line.put(b",\"requestToTargetDuration\":");
    line.time(record.to_target.get().map(|moment| record.duration(moment)));
    line.put(b",\"responseFromTargetDuration\":");
    line.time(record.from_target.get().map(|from| end.saturating_duration_since(from)));
    line.put(b",\"sourceIpPort\":");
    let source = named.and_then(|named| named.source).unwrap_or(record.flow.alias);
    json::endpoint(line.0, SocketAddr::new(source, record.flow.source_port));
    line.put(b",\"targetIpPort\":");
    match met.target {
        Some((address, _)) => json::endpoint(line.0, address),
        None => line.absent(),
    }
    line.put(b",\"failureReason\":");
    line.word(record.failure.get().map_or("", |reason| reason.as_str()));
    line.put(b",\"authDeniedReason\":");
    line.word(met.denied.map_or("", |by| by.as_str()));
    line.put(b",\"decisionId\":");
    line.text(known.decision());
    line.put(b",\"ruleId\":");
    line.text(known.rule());
    line.put(b",\"revision\":");
    line.number(named.map(|named| named.revision).filter(|revision| *revision > 0));
    line.put(b",\"flowId\":");
    line.number(Some(record.flow.id));
    line.put(NEVER);
    line.0.extend_from_slice(named.map_or(b"", |named| &named.json));
    // The last comma.
    if let Some(last) = line.0.last_mut() {
        *last = b'}';
    }
    line.put(b"\n");
}

fn protocol(record: &Record) -> &'static str {
    match record {
        Record { relayed: true, .. } => "TCP",
        Record { http2: true, .. } => "HTTP/2",
        Record { .. } => "HTTP/1.1",
    }
}

struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    /// Text of a length that the compiler knows: a line has forty of them, and calls for each would cost more than all else.
    #[inline(always)]
    fn put<const N: usize>(&mut self, text: &[u8; N]) {
        self.0.extend_from_slice(text);
    }

    fn absent(&mut self) {
        self.0.extend_from_slice(ABSENT.as_bytes());
    }

    fn text(&mut self, text: &str) {
        if text.is_empty() {
            self.absent();
        } else {
            json::string(self.0, text.as_bytes());
        }
    }

    /// Text of ours, which needs no escaping.
    fn word(&mut self, word: &str) {
        if word.is_empty() {
            self.absent();
        } else {
            self.put(b"\"");
            self.0.extend_from_slice(word.as_bytes());
            self.put(b"\"");
        }
    }

    fn number(&mut self, number: Option<u64>) {
        match number {
            Some(number) => json::number(self.0, number),
            None => self.absent(),
        }
    }

    /// Whole milliseconds.
    fn time(&mut self, time: Option<Duration>) {
        self.number(time.map(millis));
    }
}
