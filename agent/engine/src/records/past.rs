//! What is remembered of a request: a [`Past`] in postcard's format, written byte by byte without making one. It is written
//! for every request and read for hardly any.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    time::Duration,
};

use brattice_wire::records::Past;

use super::{
    flow::millis,
    record::{Known, Record},
};

/// Writes one. `time`: when it began, since 1970; `duration`: none where it goes on.
pub(super) fn write(out: &mut Vec<u8>, record: &Record, known: &Known, time: Duration, duration: Option<Duration>) {
    let (flow, met, named) = (&*record.flow, record.met.get(), record.named.borrow());
    let named = named.as_deref();
    let mut past = Writer(out);
    // The fields of `Past` in their order; postcard has no names.
    past.text(known.request_id());
    past.number(flow.id);
    past.number(millis(time));
    past.maybe(duration, |past, duration| past.number(millis(duration)));
    past.number(named.map_or(0, |named| named.revision));
    past.address(flow.alias);
    past.number(flow.generation.into());
    past.text(named.map_or("", |named| &named.caller_vpc));
    past.text(named.map_or("", |named| &named.caller));
    past.address(flow.vip);
    past.number(flow.port.into());
    past.byte(record.http2.into());
    past.text(known.method());
    past.text(known.path());
    past.text(known.query());
    past.text(known.host());
    past.number(known.fields().len() as u64);
    for (name, values) in known.fields() {
        past.text(name);
        past.maybe(values, |past, values: &[Range<usize>]| {
            past.number(values.len() as u64);
            values.iter().for_each(|value| past.text(known.get(value)));
        });
    }
    past.byte(known.cut.into());
    past.given(named.map_or("", |named| &named.service));
    past.given(named.map_or("", |named| &named.listener));
    past.given(known.rule());
    past.given(named.map_or("", |named| &named.group));
    past.maybe(met.target, |past, (target, _)| past.endpoint(target));
    past.maybe(Some(record.status.get()).filter(|status| *status > 0), |past, status| past.number(status.into()));
    past.maybe(record.failure.get(), |past, failure| past.number(failure as u64));
    past.given(known.decision());
    past.maybe(met.denied, |past, by| past.number(by as u64));
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

    use brattice_wire::records::{DeniedBy, FailureReason};
    use http::Request;

    use super::*;
    use crate::records::{book::Book, names::Names, outlets::Outlets};

    /// What is written is what postcard makes of what is read.
    #[track_caller]
    fn written(record: &Record, duration: Option<Duration>) -> Past {
        let mut bytes = Vec::new();
        write(&mut bytes, record, &record.known.borrow(), Duration::from_millis(1 << 40), duration);
        let past = read(&bytes).unwrap();
        assert_eq!(postcard::to_allocvec(&past).unwrap(), bytes);
        past
    }

    #[test]
    fn postcard_reads_it() {
        let names = Names::default();
        let book = Book::new(Arc::new(Outlets::new(1)), 0);
        let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
        let flow = book.connected(
            &names,
            crate::aliases::CallerId::new(v6, u32::MAX),
            1,
            ([169, 254, 64, 32].into(), 65_535),
            (None, None),
        );
        let request = Request::get(format!("/{}?a", "p".repeat(300))).header("host", "grüße").body(()).unwrap();
        let record = book.begin(&flow, &request);
        record.id(b"r-1");
        let bare = written(&record, None);
        assert_eq!((bare.status, bare.failure, bare.target, bare.duration_ms), (None, None, None, None));
        assert_eq!((bare.alias, bare.generation, bare.port), (v6, u32::MAX, 65_535));
        book.settle(&record, &names);
        record.rule("default");
        for (target, by) in [("10.0.0.1:80", DeniedBy::Service), ("[::1]:65535", DeniedBy::Identity)] {
            for reason in FailureReason::ALL {
                record.status.set(503);
                record.failure.set(Some(reason));
                let target: SocketAddr = target.parse().unwrap();
                record.meet(|met| (met.target, met.denied) = (Some((target, v6)), Some(by)));
                let past = written(&record, Some(Duration::from_millis(127)));
                assert_eq!((past.failure, past.denied_by, past.target), (Some(reason), Some(by), Some(target)));
                assert_eq!((past.status, past.duration_ms, past.time_ms), (Some(503), Some(127), 1 << 40));
                assert_eq!((past.path.len(), &*past.query, past.rule.as_deref()), (301, "a", Some("default")));
            }
        }
        assert_eq!(Rc::strong_count(&flow), 3, "book, record and test");
    }
}
