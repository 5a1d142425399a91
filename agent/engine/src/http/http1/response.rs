//! Responses as they are written: the head, how the body ends (RFC 9112, 6), trailers. Pure.

use brattice_http1::{
    BodyLength, Version,
    body::{CHUNK_END, ChunkHead, LAST_CHUNK},
    reason, write,
};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING},
    response::Parts,
};

use super::{date::Date, output::Output};
use crate::http::{announced_trailers::AnnouncedTrailers, reason_phrase::ReasonPhrase};

/// The end of a chunk, and of its body.
const CHUNK_AND_BODY_END: &[u8] = b"\r\n0\r\n\r\n";
/// What a request says about its response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// It is a `HEAD`: there is no body.
    pub(super) head: bool,
    pub(super) version: Version,
    /// `TE: trailers`.
    pub(super) takes_trailers: bool,
}

/// What is known of a body before its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// It ends somewhere.
    Nothing,
}

/// The body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short;

/// How a body is written.
#[derive(Debug)]
pub(super) struct BodyWriter {
    length: BodyLength,
    /// Names of trailers that the head announces, for a client that takes them.
    announced: AnnouncedTrailers,
}

/// Whether a response to such a request may have a body.
fn may_have_body(asked: Asked, status: StatusCode) -> bool {
    !asked.head && !status.is_informational() && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The length that the head says.
fn said(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH).and_then(|value| brattice_router::fields::length(value.as_bytes()))
}

impl BodyWriter {
    /// For a response with this head.
    pub(super) fn new(parts: &Parts, asked: Asked, known: Known) -> Self {
        let length = match known {
            _ if !may_have_body(asked, parts.status) => BodyLength::None,
            Known::Empty => BodyLength::Length(0),
            Known::Length(length) => BodyLength::Length(length),
            Known::Nothing => match (said(&parts.headers), asked.version) {
                (Some(length), _) => BodyLength::Length(length),
                (None, Version::Http11) => BodyLength::Chunked,
                (None, Version::Http10) => BodyLength::UntilClose,
            },
        };
        let announced = if length == BodyLength::Chunked && asked.takes_trailers {
            AnnouncedTrailers::of(&parts.headers)
        } else {
            AnnouncedTrailers::default()
        };
        Self { length, announced }
    }

    /// Whether only the end of the connection ends the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.length == BodyLength::UntilClose
    }

    /// Writes the head. `connection`: what it says about that, but for a change of the protocol.
    pub(super) fn head(
        &self,
        out: &mut BytesMut,
        parts: &Parts,
        asked: Asked,
        connection: Option<&'static str>,
        date: &Date,
    ) {
        let (status, headers) = (parts.status, &parts.headers);
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        let phrase = parts.extensions.get::<ReasonPhrase>();
        let phrase = phrase.map_or_else(|| reason::phrase(status.as_u16()).as_bytes(), |phrase| &phrase.0[..]);
        let passes = |name: &HeaderName| match *name {
            // The length that another method would bring.
            CONTENT_LENGTH => asked.head,
            CONNECTION => switches,
            TRAILER => asked.version == Version::Http11,
            TRANSFER_ENCODING => false,
            _ => true,
        };
        let fields = headers.iter().filter(|(name, _)| passes(name));
        let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        let mut digits = Digits::default();
        let framing = match self.length {
            BodyLength::Length(length) => Some((CONTENT_LENGTH.as_str(), digits.of(length))),
            BodyLength::Chunked => Some((TRANSFER_ENCODING.as_str(), &b"chunked"[..])),
            BodyLength::None | BodyLength::UntilClose => None,
        };
        let connection = connection.filter(|_| !switches).map(|says| (CONNECTION.as_str(), says.as_bytes()));
        let own = framing.into_iter().chain(connection).map(|(name, value)| (name.as_bytes(), value));
        let line = (asked.version, status.as_u16(), phrase);
        let now = (!headers.contains_key(DATE)).then(|| date.now());
        let dated = now.as_ref().map(|now| (DATE.as_str().as_bytes(), &now[..]));
        write::response_of(out, line, fields.chain(own).chain(dated));
    }

    /// Writes a piece of the body. What is behind the length that was said is left out.
    pub(super) fn data(&mut self, mut data: Bytes, out: &mut Output) {
        match &mut self.length {
            BodyLength::None => {}
            BodyLength::UntilClose => out.put(data, b""),
            BodyLength::Length(left) => {
                // saturates: what is left is more than there is.
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                out.put(data, b"");
            }
            BodyLength::Chunked if data.is_empty() => {}
            BodyLength::Chunked => {
                out.joined().extend_from_slice(ChunkHead::new(data.len() as u64).as_bytes());
                out.put(data, CHUNK_END);
            }
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// When it is shorter than the head says.
    pub(super) fn end(&mut self, out: &mut Output) -> Result<(), Short> {
        match std::mem::take(&mut self.length) {
            BodyLength::Length(1..) => return Err(Short),
            BodyLength::Chunked => out.put_last(LAST_CHUNK, CHUNK_AND_BODY_END),
            BodyLength::None | BodyLength::Length(_) | BodyLength::UntilClose => {}
        }
        Ok(())
    }

    /// The body ends with these trailers; those that the head does not announce are left out.
    ///
    /// # Errors
    /// As [`BodyWriter::end`].
    pub(super) fn end_with(&mut self, trailers: &HeaderMap, out: &mut Output) -> Result<(), Short> {
        if self.length != BodyLength::Chunked || self.announced.passed(trailers).next().is_none() {
            return self.end(out);
        }
        write::last_chunk_of(out.joined(), self.announced.passed(trailers));
        self.length = BodyLength::None;
        Ok(())
    }
}

/// Room for a number.
#[derive(Debug, Default)]
struct Digits([u8; 20]);

impl Digits {
    fn of(&mut self, mut number: u64) -> &[u8] {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at] = b'0' + u8::try_from(number % 10).expect("a digit");
            number /= 10;
            if number == 0 {
                return &self.0[at..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Response};

    use super::*;

    const LONG: usize = 5_000;

    /// What is written of a response with these fields and pieces of a body; `Err`: it is cut.
    fn written(
        (status, fields): (u16, &[(&str, &str)]),
        asked: Asked,
        known: Known,
        pieces: &[&[u8]],
        trailers: &[(&'static str, &'static str)],
    ) -> Result<String, Short> {
        let mut response = Response::builder().status(status).header("date", "now");
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        let mut writer = BodyWriter::new(&parts, asked, known);
        let close = writer.ends_with_connection().then_some("close");
        let mut out = Output::default();
        writer.head(out.joined(), &parts, asked, close, &Date::default());
        let mut all = Vec::new();
        let flush = |out: &mut Output, all: &mut Vec<u8>| {
            while !out.is_empty() {
                let (slices, count) = out.slices();
                let before = all.len();
                slices[..count].iter().for_each(|slice| all.extend_from_slice(slice));
                out.wrote(all.len() - before);
            }
        };
        for piece in pieces {
            if !out.is_open() {
                flush(&mut out, &mut all);
            }
            writer.data(Bytes::copy_from_slice(piece), &mut out);
        }
        if trailers.is_empty() {
            writer.end(&mut out)?;
        } else {
            flush(&mut out, &mut all);
            let trailers =
                trailers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            writer.end_with(&trailers.collect(), &mut out)?;
        }
        flush(&mut out, &mut all);
        Ok(String::from_utf8(all).unwrap())
    }

    const GET: Asked = Asked { head: false, version: Version::Http11, takes_trailers: false };
    const HEAD: Asked = Asked { head: true, ..GET };
    const OLD: Asked = Asked { version: Version::Http10, ..GET };

    #[test]
    fn a_body_ends_as_its_version_and_status_have_it() {
        let length = &[("content-length", "5")][..];
        for (head, asked, known, pieces, expected) in [
            ((200, length), GET, Known::Length(5), &[&b"hello"[..]][..], "1 200 OK~date: now~content-length: 5~~hello"),
            ((200, &[]), GET, Known::Length(5), &[b"he", b"llo"], "1 200 OK~date: now~content-length: 5~~hello"),
            ((200, length), GET, Known::Nothing, &[b"hello more"], "1 200 OK~date: now~content-length: 5~~hello"),
            ((200, length), GET, Known::Empty, &[], "1 200 OK~date: now~content-length: 0~~"),
            (
                (200, &[]),
                GET,
                Known::Nothing,
                &[b"hello", b"", b"you"],
                "1 200 OK~date: now~transfer-encoding: chunked~~5~hello~3~you~0~~",
            ),
            ((200, &[]), OLD, Known::Nothing, &[b"hello"], "0 200 OK~date: now~connection: close~~hello"),
            ((200, &[]), OLD, Known::Length(2), &[b"ok"], "0 200 OK~date: now~content-length: 2~~ok"),
            ((200, length), HEAD, Known::Empty, &[], "1 200 OK~date: now~content-length: 5~~"),
            ((200, &[]), HEAD, Known::Nothing, &[], "1 200 OK~date: now~~"),
            ((204, length), GET, Known::Empty, &[], "1 204 No Content~date: now~~"),
            ((304, length), GET, Known::Empty, &[], "1 304 Not Modified~date: now~~"),
            ((299, &[]), GET, Known::Empty, &[], "1 299 ~date: now~content-length: 0~~"),
            (
                (101, &[("connection", "upgrade"), ("upgrade", "x")]),
                GET,
                Known::Empty,
                &[],
                "1 101 Switching Protocols~date: now~connection: upgrade~upgrade: x~~",
            ),
            (
                (200, &[("connection", "x"), ("transfer-encoding", "gzip"), ("a", "1"), ("a", "2")]),
                GET,
                Known::Empty,
                &[],
                "1 200 OK~date: now~a: 1~a: 2~content-length: 0~~",
            ),
        ] {
            let expected = format!("HTTP/1.{expected}").replace('~', "\r\n");
            assert_eq!(written(head, asked, known, pieces, &[]).as_deref(), Ok(&*expected), "{head:?} {known:?}");
        }
    }

    #[test]
    fn a_body_that_is_too_short_is_cut() {
        for pieces in [&[][..], &[&b"hell"[..]]] {
            assert_eq!(written((200, &[]), GET, Known::Length(5), pieces, &[]), Err(Short));
        }
    }

    #[test]
    fn a_long_chunk_is_whole_and_so_is_what_follows_it() {
        let long = vec![b'x'; LONG];
        let text = written((200, &[]), GET, Known::Nothing, &[b"a", &long, b"b"], &[]).unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let x = String::from_utf8(long).unwrap();
        assert_eq!(body, format!("1\r\na\r\n{LONG:x}\r\n{x}\r\n1\r\nb\r\n0\r\n\r\n"));
        let text = written((200, &[]), GET, Known::Nothing, &[x.as_bytes()], &[]).unwrap();
        assert!(text.ends_with("x\r\n0\r\n\r\n"));
    }

    #[test]
    fn trailers_reach_who_takes_them_if_they_are_announced() {
        let fields = &[("trailer", "x-sum, X-Other"), ("trailer", "content-type")][..];
        let sent = &[("x-sum", "1"), ("x-none", "2"), ("content-type", "3")][..];
        for (takes_trailers, known, end) in [
            (true, Known::Nothing, "1\r\na\r\n0\r\nx-sum: 1\r\n\r\n"),
            (false, Known::Nothing, "1\r\na\r\n0\r\n\r\n"),
            (true, Known::Length(1), "\r\n\r\na"),
        ] {
            let text = written((200, fields), Asked { takes_trailers, ..GET }, known, &[b"a"], sent).unwrap();
            assert!(text.ends_with(end), "{text}");
        }
        let text = written((200, &[]), Asked { takes_trailers: true, ..GET }, Known::Nothing, &[], sent).unwrap();
        assert!(text.ends_with("\r\n\r\n0\r\n\r\n"), "{text}");
    }
}
