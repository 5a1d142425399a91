//! A line of the access log: Lattice's fields and Brattice's, in no particular order. docs/observability.md says what is in each
//! and when it is absent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::events::{
    connection::millis,
    json::{self, ABSENT},
    request::RequestSpan,
};

/// Fields that are always absent: TLS is not spoken, certificates are not asked for.
const NEVER: &[u8; 184] = br#","tlsVersion":"-","sslCipher":"-","serverNameIndication":"-","callerX509SubjectCN":"-","callerX509IssuerOU":"-","callerX509SANNameCN":"-","callerX509SANDNS":"-","callerX509SANURI":"-","#;

/// Writes the line of a request that has ended, with its newline. `began`: when it began, as [`crate::events::time::iso`]
/// writes it.
pub(in crate::events) fn write(out: &mut Vec<u8>, request: &RequestSpan, began: [u8; 20], end: Instant) {
    let (texts, names) = (request.texts(), request.names());
    let names = names.as_deref();
    let mut line = Line(out);
    line.put(b"{\"startTime\":\"");
    line.put(&began);
    line.put(b"\",\"requestId\":");
    line.text(texts.request_id());
    line.put(b",\"requestMethod\":");
    line.text(texts.method());
    line.put(b",\"requestPath\":");
    line.text(texts.path());
    line.put(b",\"hostHeader\":");
    line.text(texts.host_field());
    line.put(b",\"userAgent\":");
    line.text(texts.agent());
    line.put(b",\"protocol\":");
    line.word(protocol(request));
    line.put(b",\"responseCode\":");
    line.number(Some(request.status()).filter(|status| *status > 0).map(u64::from));
    line.put(b",\"grpcResponseCode\":");
    line.number(request.grpc_status().map(u64::from));
    line.put(b",\"bytesReceived\":");
    line.number(Some(request.bytes_received()));
    line.put(b",\"bytesSent\":");
    line.number(Some(request.bytes_sent()));
    line.put(b",\"duration\":");
    line.time(Some(request.duration(end)));
    line.put(b",\"requestToTargetDuration\":");
    line.time(request.request_sent().map(|moment| request.duration(moment)));
    line.put(b",\"responseFromTargetDuration\":");
    line.time(request.response_received().map(|from| end.saturating_duration_since(from)));
    line.put(b",\"sourceIpPort\":");
    let source = names.and_then(|names| names.source).unwrap_or(request.connection.caller.alias());
    json::endpoint(line.0, SocketAddr::new(source, request.connection.called.source_port));
    line.put(b",\"targetIpPort\":");
    match request.route().target {
        Some((address, _)) => json::endpoint(line.0, address),
        None => line.absent(),
    }
    line.put(b",\"failureReason\":");
    line.word(request.failure().map_or("", |reason| reason.as_str()));
    line.put(b",\"authDeniedReason\":");
    line.word(request.denied_by().map_or("", |by| by.as_str()));
    line.put(b",\"decisionId\":");
    line.text(texts.decision());
    line.put(b",\"ruleId\":");
    line.text(texts.rule());
    line.put(b",\"revision\":");
    line.number(names.map(|names| names.revision).filter(|revision| *revision > 0));
    line.put(b",\"flowId\":");
    line.number(Some(request.connection.id));
    line.put(NEVER);
    line.0.extend_from_slice(names.map_or(b"", |names| &names.json));
    // The last comma.
    if let Some(last) = line.0.last_mut() {
        *last = b'}';
    }
    line.put(b"\n");
}

fn protocol(request: &RequestSpan) -> &'static str {
    match (request.is_tunnel(), request.is_http2()) {
        (true, _) => "TCP",
        (false, true) => "HTTP/2",
        (false, false) => "HTTP/1.1",
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

    /// Text that the engine makes, which needs no escaping.
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

    use brattice_wire::snapshot::AliasGeneration;

    use crate::{
        aliases::CallerId,
        events::{RequestEvent, connection::Called, names::Names, tests::for_tests},
    };

    #[test]
    fn every_field_of_a_line_is_documented() {
        let page = include_str!("../../../../../docs/observability.md");
        let (_, fields) = page.split_once("### Fields\n").unwrap();
        let (fields, _) = fields.split_once("\n### ").unwrap();
        let rows: Vec<&str> = fields.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let documented: BTreeSet<&str> = rows.iter().copied().collect();
        assert_eq!(rows.len(), documented.len(), "each once");
        let events = for_tests(&Arc::default());
        let address = Ipv4Addr::LOCALHOST.into();
        let (caller, called) =
            (CallerId::new(address, AliasGeneration::new(0)), Called { source_port: 1, vip: address, port: 80 });
        let connection = events.open_connection(&Names::default(), caller, called, (None, None));
        let request = events.begin_request(&connection, &http::Request::new(()));
        request.emit(RequestEvent::Decided { names: &Names::default() });
        request.end(true);
        let line = events.subscribers.past_requests.last_line();
        let line = std::str::from_utf8(&line).unwrap();
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        assert_eq!(object.keys().map(String::as_str).collect::<BTreeSet<_>>(), documented);
        for name in object.keys() {
            assert_eq!(line.matches(&format!("\"{name}\":")).count(), 1, "{name} in {line}");
        }
    }
}
