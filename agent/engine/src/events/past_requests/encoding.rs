//! What is remembered of a request: a [`Past`] in postcard's format, written byte by byte without making one. It is written
//! for every request and read for hardly any.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    time::Duration,
};

use brattice_wire::records::Past;

use crate::events::{connection::millis, request::RequestSpan};

/// Writes one. `time`: when it began, since 1970; `duration`: none where it goes on.
pub(super) fn write(out: &mut Vec<u8>, request: &RequestSpan, time: Duration, duration: Option<Duration>) {
    let (connection, route) = (&*request.connection, request.route());
    let (texts, names) = (request.texts(), request.names());
    let names = names.as_deref();
    let mut past = Writer(out);
    // The fields of `Past` in their order; postcard has no names.
    past.text(texts.request_id());
    past.number(connection.id);
    past.number(millis(time));
    past.maybe(duration, |past, duration| past.number(millis(duration)));
    past.number(names.map_or(0, |names| names.revision));
    past.address(connection.caller.alias());
    past.number(connection.caller.generation().get().into());
    past.text(names.map_or("", |names| &names.caller_vpc));
    past.text(names.map_or("", |names| &names.caller));
    past.address(connection.called.vip);
    past.number(connection.called.port.into());
    past.byte(request.is_http2().into());
    past.text(texts.method());
    past.text(texts.path());
    past.text(texts.query());
    past.text(texts.host());
    past.number(texts.fields().len() as u64);
    for (name, values) in texts.fields() {
        past.text(name);
        past.maybe(values, |past, values: &[Range<usize>]| {
            past.number(values.len() as u64);
            values.iter().for_each(|value| past.text(texts.get(value)));
        });
    }
    past.byte(texts.is_cut().into());
    past.given(names.map_or("", |names| &names.service));
    past.given(names.map_or("", |names| &names.listener));
    past.given(texts.rule());
    past.given(names.map_or("", |names| &names.group));
    past.maybe(route.target, |past, (target, _)| past.endpoint(target));
    past.maybe(Some(request.status()).filter(|status| *status > 0), |past, status| past.number(status.into()));
    past.maybe(request.failure(), |past, failure| past.number(failure as u64));
    past.given(texts.decision());
    past.maybe(request.denied_by(), |past, by| past.number(by as u64));
}

/// Reads one.
pub(super) fn read(past: &[u8]) -> Option<Past> {
    postcard::from_bytes(past).ok()
}

/// Writes what postcard's specification calls varint, string, option and tagged union.
struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Seven bits a byte, the lowest first; all but the last byte have the eighth.
    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// A text that is not empty, or none.
    fn given(&mut self, text: &str) {
        self.maybe(Some(text).filter(|text| !text.is_empty()), Self::text);
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                self.byte(0);
                self.0.extend_from_slice(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.byte(1);
                self.0.extend_from_slice(&v6.octets());
            }
        }
    }

    fn endpoint(&mut self, endpoint: SocketAddr) {
        self.address(endpoint.ip());
        self.number(endpoint.port().into());
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv6Addr, rc::Rc, sync::Arc};

    use brattice_decide::Refusal;
    use brattice_iam::Level;
    use brattice_wire::records::{DeniedBy, FailureReason};
    use brattice_wire::snapshot::AliasGeneration;
    use http::{HeaderMap, Request};

    use super::*;
    use crate::{
        aliases::CallerId,
        events::{RequestEvent, connection::Called, names::Names, tests::for_tests},
    };

    /// What is written is what postcard makes of what is read.
    #[track_caller]
    fn written(request: &RequestSpan, duration: Option<Duration>) -> Past {
        let mut bytes = Vec::new();
        write(&mut bytes, request, Duration::from_millis(1 << 40), duration);
        let past = read(&bytes).unwrap();
        assert_eq!(postcard::to_allocvec(&past).unwrap(), bytes);
        past
    }

    #[test]
    fn postcard_reads_it() {
        let names = Names::default();
        let events = for_tests(&Arc::default());
        let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
        let latest = AliasGeneration::new(u32::MAX);
        let called = Called { source_port: 1, vip: [169, 254, 64, 32].into(), port: 65_535 };
        let connection = events.open_connection(&names, CallerId::new(v6, latest), called, (None, None));
        let head = Request::get(format!("/{}?a", "p".repeat(300))).header("host", "grüße").body(()).unwrap();
        let begin = || {
            let request = events.begin_request(&connection, &head);
            request.emit(RequestEvent::Identified { id: b"r-1" });
            request
        };
        let request = begin();
        let bare = written(&request, None);
        assert_eq!((bare.status, bare.failure, bare.target, bare.duration_ms), (None, None, None, None));
        assert_eq!((bare.alias, bare.generation, bare.port), (v6, latest, 65_535));
        request.end(true);
        drop(request);
        for (target, level) in [("10.0.0.1:80", Level::Service), ("[::1]:65535", Level::Identity)] {
            for reason in FailureReason::ALL {
                let request = begin();
                let target: SocketAddr = target.parse().unwrap();
                request.emit(RequestEvent::Decided { names: &names });
                request.emit(RequestEvent::RuleMatched { id: "default" });
                request.emit(RequestEvent::TargetChosen { address: target, alias: v6 });
                request.emit(RequestEvent::Failed(reason));
                request.emit(RequestEvent::Denied(&refusal(level)));
                request.emit(RequestEvent::ResponseStarted { status: 503, headers: &HeaderMap::new() });
                let past = written(&request, Some(Duration::from_millis(127)));
                let by = if level == Level::Service { DeniedBy::Service } else { DeniedBy::Identity };
                assert_eq!((past.failure, past.denied_by, past.target), (Some(reason), Some(by), Some(target)));
                assert_eq!((past.status, past.duration_ms, past.time_ms), (Some(503), Some(127), 1 << 40));
                assert_eq!((past.path.len(), &*past.query, past.rule.as_deref()), (301, "a", Some("default")));
                request.end(true);
            }
        }
        assert_eq!(Rc::strong_count(&connection), 2, "the table of open connections and the test");
        connection.emit(crate::events::ConnectionEvent::Closed);
        assert_eq!(Rc::strong_count(&connection), 1);
    }

    fn refusal(level: Level) -> Refusal {
        Refusal { level, decision: "p-1".into(), text: String::new() }
    }
}
