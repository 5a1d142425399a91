//! A line of the access log: Lattice's fields and ours, in no particular order. docs/observability.md says what is in each
//! and when it is absent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    flow::millis,
    json::{self, ABSENT},
    record::{Known, Record},
    time::iso,
};

/// Fields that are always absent: TLS is not spoken, certificates are not asked for.
const NEVER: &[u8] = br#""tlsVersion":"-","sslCipher":"-","serverNameIndication":"-","callerX509SubjectCN":"-","callerX509IssuerOU":"-","callerX509SANNameCN":"-","callerX509SANDNS":"-","callerX509SANURI":"-","#;

/// Writes the line of a request that has ended, with its newline. `since`: when it began, since 1970.
pub(super) fn write(out: &mut Vec<u8>, record: &Record, known: &Known, since: Duration, end: Instant) {
    let Line(out) = &mut Line(out);
    out.push(b'{');
    let mut line = Line(out);
    line.key("startTime");
    line.0.push(b'"');
    line.0.extend_from_slice(&iso(since.as_secs()));
    line.0.extend_from_slice(b"\",");
    line.text("requestId", known.request_id());
    line.text("requestMethod", known.method());
    line.text("requestPath", known.path());
    line.text("hostHeader", known.host_field());
    line.text("userAgent", known.agent());
    line.word("protocol", protocol(record));
    line.number("responseCode", Some(record.status.get()).filter(|status| *status > 0).map(u64::from));
    line.number("grpcResponseCode", record.grpc.get().map(u64::from));
    line.number("bytesReceived", Some(record.received.get()));
    line.number("bytesSent", Some(record.sent.get()));
    line.number("duration", Some(millis(record.duration(end))));
    line.number("requestToTargetDuration", record.to_target.get().map(|moment| millis(record.duration(moment))));
    let from_target = record.from_target.get();
    line.number("responseFromTargetDuration", from_target.map(|from| millis(end.saturating_duration_since(from))));
    line.key("sourceIpPort");
    json::endpoint(line.0, SocketAddr::new(known.source.unwrap_or(record.flow.alias), record.flow.source_port));
    line.0.push(b',');
    line.key("targetIpPort");
    match record.met.get().target {
        Some((address, _)) => json::endpoint(line.0, address),
        None => line.0.extend_from_slice(ABSENT.as_bytes()),
    }
    line.0.push(b',');
    line.word("failureReason", record.failure.get().map_or("", |reason| reason.as_str()));
    line.word("authDeniedReason", record.met.get().denied.map_or("", |by| by.as_str()));
    line.text("decisionId", known.decision());
    line.text("ruleId", known.rule());
    line.number("revision", Some(known.revision).filter(|revision| *revision > 0));
    line.number("flowId", Some(record.flow.id));
    line.0.extend_from_slice(NEVER);
    line.0.extend_from_slice(&known.json);
    // The last comma.
    if let Some(last) = line.0.last_mut() {
        *last = b'}';
    }
    line.0.push(b'\n');
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
    fn key(&mut self, name: &str) {
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.key(name);
        if text.is_empty() {
            self.0.extend_from_slice(ABSENT.as_bytes());
        } else {
            json::string(self.0, text.as_bytes());
        }
        self.0.push(b',');
    }

    /// Text of ours, which needs no escaping.
    fn word(&mut self, name: &str, word: &str) {
        self.key(name);
        self.0.push(b'"');
        self.0.extend_from_slice(if word.is_empty() { "-" } else { word }.as_bytes());
        self.0.extend_from_slice(b"\",");
    }

    fn number(&mut self, name: &str, number: Option<u64>) {
        self.key(name);
        match number {
            Some(number) => json::number(self.0, number),
            None => self.0.extend_from_slice(ABSENT.as_bytes()),
        }
        self.0.push(b',');
    }
}
