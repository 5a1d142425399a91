//! What was read from a client and not consumed, and what it belongs to. Pure: who reads the socket puts bytes in.

use brattice_http1::{BodyLength, BodyReader, Index, Limits, Part, RequestHead, list};
use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use super::spare::HeadReader;
use crate::{
    http::{field_map, refusal::Refusal},
    read_size::{self, ReadSize},
};

/// Pieces that are shorter are joined with those behind them, up to so many bytes: a chunk of a byte costs as much as a long one.
const SMALL: usize = 2 * 1024;
const JOINED: usize = 8 * 1024;
/// Most bytes for which a read of a body has room.
const LARGEST_READ: usize = 64 * 1024;

/// The input of one connection.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// In the order they came.
    pub(super) bytes: BytesMut,
    /// The client sends no more.
    pub(super) ended: bool,
    body: State,
    /// Pieces that were dealt with and not counted as yet: chunks.
    pieces: usize,
}

/// The body of the present request.
#[derive(Debug, Default)]
enum State {
    /// There is none, or all of it was consumed.
    #[default]
    Whole,
    Incomplete(Box<Incomplete>),
    /// Its trailers are next, with which it ends.
    Trailers(Box<HeaderMap>),
    /// A refusal is next: what came before was good.
    Refusal(Refusal),
    /// It is malformed: nothing behind it is read.
    Refused,
}

#[derive(Debug)]
struct Incomplete {
    reader: BodyReader,
    trailers: Index,
    expects: Expects,
    /// Somebody may still read it.
    held: bool,
    /// Bytes of the next read.
    read: ReadSize,
}

/// `Expect: 100-continue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    /// It was not said, or is answered.
    Nothing,
    /// The client waits.
    Continue,
    /// The body is wanted: the client is to be told.
    Wanted,
}

/// What comes next of a body.
#[derive(Debug)]
pub(super) enum Next {
    /// Data, or the trailers, with which the body ends.
    Frame(Frame<Bytes>),
    /// The body has ended.
    End,
    /// More bytes are needed.
    More,
}

impl Input {
    /// These bytes have come.
    pub(super) fn of(bytes: BytesMut) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Looks for a head at the front; its length once all of it is there.
    ///
    /// # Errors
    /// What is refused, and with it the rest of the connection.
    pub(super) fn head(&self, reader: &mut HeadReader) -> Result<Option<usize>, Refusal> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        Ok(reader.reader.read(&self.bytes, &mut reader.head)?)
    }

    /// A head was read: its body is next.
    pub(super) fn begin(&mut self, head: &RequestHead, limits: &Limits) {
        if head.body.is_empty() {
            self.body = State::Whole;
            return;
        }
        let expects = if head.expects_continue() { Expects::Continue } else { Expects::Nothing };
        let reader = BodyReader::new(head.body, limits);
        let (held, read) = (true, ReadSize::up_to(LARGEST_READ));
        self.body = State::Incomplete(Box::new(Incomplete { reader, trailers: Index::default(), expects, held, read }));
    }

    /// Whether all of the present request was consumed.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.body, State::Whole)
    }

    /// Whether the body is malformed.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.body, State::Refused)
    }

    /// Whether some of the body is to come that nobody will read.
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(&self.body, State::Incomplete(body) if !body.held)
    }

    /// Nobody reads the body any more.
    pub(super) fn abandon(&mut self) {
        match &mut self.body {
            State::Incomplete(body) => body.held = false,
            State::Trailers(_) => self.body = State::Whole,
            State::Refusal(_) => self.body = State::Refused,
            State::Whole | State::Refused => {}
        }
    }

    /// The body is wanted; true: the client waits to be told so.
    pub(super) fn want(&mut self) -> bool {
        match &mut self.body {
            State::Incomplete(body) if body.expects == Expects::Continue => {
                body.expects = Expects::Wanted;
                true
            }
            _ => false,
        }
    }

    /// Whether the client is to be told, now, that its body is wanted; true once.
    pub(super) fn take_wanted(&mut self) -> bool {
        match &mut self.body {
            State::Incomplete(body) if body.expects == Expects::Wanted => {
                body.expects = Expects::Nothing;
                true
            }
            _ => false,
        }
    }

    /// What is next of the body.
    ///
    /// # Errors
    /// What is refused, once; from then on the body has ended.
    pub(super) fn next(&mut self) -> Result<Next, Refusal> {
        match std::mem::take(&mut self.body) {
            State::Whole => return Ok(Next::End),
            State::Trailers(trailers) => return Ok(Next::Frame(Frame::trailers(*trailers))),
            State::Refusal(refusal) => {
                self.body = State::Refused;
                return Err(refusal);
            }
            State::Refused => {
                self.body = State::Refused;
                return Ok(Next::End);
            }
            State::Incomplete(body) => self.body = State::Incomplete(body),
        }
        let Some(length) = self.data() else {
            return if matches!(self.body, State::Incomplete(_)) { Ok(Next::More) } else { self.next() };
        };
        let data = self.bytes.split_to(length);
        if length >= SMALL || self.bytes.is_empty() {
            self.settle();
            return Ok(Next::Frame(Frame::data(data.freeze())));
        }
        let mut joined = BytesMut::with_capacity((length + self.bytes.len()).min(JOINED));
        joined.extend_from_slice(&data);
        while joined.len() < JOINED
            && let Some(length) = self.data()
        {
            joined.extend_from_slice(&self.bytes[..length]);
            self.bytes.advance(length);
        }
        self.settle();
        Ok(Next::Frame(Frame::data(joined.freeze())))
    }

    /// Reads on to the next data, which is left at the front: how many bytes. `None`: more is needed, or the body has come to
    /// its end.
    fn data(&mut self) -> Option<usize> {
        loop {
            let State::Incomplete(body) = &mut self.body else { return None };
            match body.reader.next(&self.bytes, &mut body.trailers) {
                Ok(Part::More) => return None,
                Ok(Part::Data(length)) => return Some(length),
                Ok(Part::Framing { length, .. }) => {
                    self.pieces += 1;
                    self.bytes.advance(length);
                }
                Ok(Part::End(length)) => self.end(length),
                Err(refusal) => self.body = State::Refusal(refusal.into()),
            }
        }
    }

    /// The body ends with a trailer section of this length.
    fn end(&mut self, length: usize) {
        let State::Incomplete(body) = std::mem::take(&mut self.body) else { return };
        let section = self.bytes.split_to(length).freeze();
        if body.trailers.is_empty() {
            return;
        }
        let fields = field_map::fill(body.trailers.on(&section), &section, HeaderMap::new());
        self.body = fields.map_or(State::Refusal(Refusal::Headers), |trailers| State::Trailers(Box::new(trailers)));
    }

    /// After data: a body that has its length has ended.
    fn settle(&mut self) {
        if let State::Incomplete(body) = &self.body
            && body.reader.has_ended()
        {
            self.body = State::Whole;
        }
    }

    /// Bytes for which room is wanted before the next read of the body.
    pub(super) fn wanted(&self) -> usize {
        let State::Incomplete(body) = &self.body else { return read_size::FIRST };
        match usize::try_from(body.reader.left()) {
            Ok(left) if left > 0 => left.min(body.read.bytes()),
            _ => body.read.bytes(),
        }
    }

    /// A read of the body brought this many bytes, of so many that it could have: how many the next one is for.
    pub(super) fn brought(&mut self, count: usize, room: usize) {
        if let State::Incomplete(body) = &mut self.body {
            body.read.brought(count, room);
        }
    }

    /// Pieces that were dealt with since this was last asked.
    pub(super) fn take_pieces(&mut self) -> usize {
        std::mem::take(&mut self.pieces)
    }
}

/// The length of a body, where its head says it.
pub(super) fn exact(length: BodyLength) -> Option<u64> {
    match length {
        BodyLength::None => Some(0),
        BodyLength::Length(length) => Some(length),
        BodyLength::Chunked | BodyLength::UntilClose => None,
    }
}

/// Whether a list of field names has this one.
pub(super) fn names(list: &[u8], name: &str) -> bool {
    list::members(list).any(|member| member.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use brattice_http1::RequestReader;

    use super::{super::head, *};

    const LIMITS: Limits = Limits::requests(512, 8);

    /// What a connection's bytes come to, in the order they came.
    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Head(String),
        Data(Vec<u8>),
        Trailers(String),
        Refused(Refusal),
    }

    /// Everything that can be consumed. Requests follow each other as soon as the one before is whole.
    fn consume(input: &mut Input, reader: &mut HeadReader, seen: &mut Vec<Seen>) {
        loop {
            if matches!(seen.last(), Some(Seen::Refused(_))) {
                return;
            }
            if input.is_whole() {
                match input.head(reader) {
                    Ok(None) => return,
                    Err(refusal) => seen.push(Seen::Refused(refusal)),
                    Ok(Some(length)) => {
                        let head = input.bytes.split_to(length).freeze();
                        let request = head::request(&reader.head, &head, HeaderMap::new(), ()).unwrap();
                        seen.push(Seen::Head(format!("{} {}", request.method(), request.uri())));
                        input.begin(&reader.head, &LIMITS);
                    }
                }
                continue;
            }
            match input.next() {
                Err(refusal) => seen.push(Seen::Refused(refusal)),
                Ok(Next::More) => return,
                Ok(Next::End) => {}
                Ok(Next::Frame(frame)) => match (frame.data_ref(), seen.last_mut()) {
                    (Some(data), Some(Seen::Data(before))) => before.extend_from_slice(data),
                    (Some(data), _) => seen.push(Seen::Data(data.to_vec())),
                    (None, _) => seen.push(Seen::Trailers(format!("{:?}", frame.trailers_ref().unwrap()))),
                },
            }
        }
    }

    fn read<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<Seen> {
        let mut reader = HeadReader { reader: RequestReader::new(&LIMITS), head: RequestHead::default() };
        let (mut input, mut seen) = (Input::default(), Vec::new());
        for piece in pieces {
            input.bytes.extend_from_slice(piece);
            consume(&mut input, &mut reader, &mut seen);
        }
        seen
    }

    #[test]
    fn requests_are_the_same_in_any_cut() {
        let get = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        let post = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
        let chunks = "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (text, last) in [
            (format!("{get}{get}{post}{get}"), Seen::Head("GET /a".into())),
            (format!("{chunks}3\r\nhel\r\n2;x\r\nlo\r\n0\r\n\r\n{post}"), Seen::Data(b"hello".into())),
            (format!("{chunks}5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n{get}"), Seen::Head("GET /a".into())),
            (format!("{get}GET /b HTTP/1.1\nHost: h\r\n\r\n"), refused("a line ends with LF alone")),
            (format!("{post}{chunks}5\r\nhello!\r\n0\r\n\r\n"), refused("a chunk does not end where its size says")),
            (format!("{chunks}zz\r\n{get}"), refused("a chunk's size is malformed")),
            (format!("{chunks}0\r\nX : 1\r\n\r\n{get}"), refused("a trailer field is malformed")),
        ] {
            let whole = read([text.as_bytes()]);
            assert_eq!(whole.last(), Some(&last), "{text}");
            for cut in 0..text.len() {
                let (before, behind) = text.as_bytes().split_at(cut);
                assert_eq!(read([before, behind]), whole, "{text} cut at {cut}");
            }
            assert_eq!(read(text.as_bytes().chunks(1)), whole, "{text} byte by byte");
        }
    }

    fn refused(text: &'static str) -> Seen {
        Seen::Refused(Refusal::Malformed(text))
    }

    /// Frames of a body whose chunks have come at once: lengths of data, and whether trailers come.
    #[test]
    fn small_chunks_are_joined_and_large_ones_are_not_copied() {
        let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "x".repeat(length));
        for (chunks, expected) in [
            (chunk(1).repeat(100), vec![100]),
            (chunk(SMALL), vec![SMALL]),
            ([chunk(1), chunk(SMALL), chunk(1)].concat(), vec![SMALL + 2]),
            (chunk(1_000).repeat(20), vec![9_000, 9_000, 2_000]),
        ] {
            for trailer in ["", "X: 1\r\n"] {
                let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
                let text = format!("{head}{chunks}0\r\n{trailer}\r\n");
                let mut reader = HeadReader { reader: RequestReader::new(&LIMITS), head: RequestHead::default() };
                let mut input = Input::of(text.as_bytes().into());
                let length = input.head(&mut reader).unwrap().unwrap();
                input.bytes.advance(length);
                input.begin(&reader.head, &LIMITS);
                let (mut lengths, mut trailers) = (Vec::new(), false);
                while let Next::Frame(frame) = input.next().unwrap() {
                    trailers |= frame.is_trailers();
                    lengths.extend(frame.data_ref().map(Bytes::len));
                }
                assert_eq!((lengths, trailers), (expected.clone(), !trailer.is_empty()));
                assert!(input.is_whole() && input.bytes.is_empty());
            }
        }
    }

    #[test]
    fn a_client_is_told_once_that_its_body_is_wanted() {
        for (expect, told) in [("", false), ("Expect: 100-continue\r\n", true)] {
            let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{expect}Content-Length: 2\r\n\r\n");
            let mut reader = HeadReader { reader: RequestReader::new(&LIMITS), head: RequestHead::default() };
            let mut input = Input::of(text.as_bytes().into());
            let length = input.head(&mut reader).unwrap().unwrap();
            input.bytes.advance(length);
            input.begin(&reader.head, &LIMITS);
            assert!(!input.take_wanted(), "it is not wanted yet");
            assert_eq!([input.want(), input.want()], [told, false]);
            assert_eq!([input.take_wanted(), input.take_wanted()], [told, false]);
        }
    }

    #[test]
    fn a_read_is_for_what_is_left_and_grows_with_what_comes() {
        let mut reader = HeadReader { reader: RequestReader::new(&LIMITS), head: RequestHead::default() };
        for (field, least, most) in
            [("Content-Length: 10", 10, 10), ("Transfer-Encoding: chunked", read_size::FIRST, LARGEST_READ)]
        {
            let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n");
            let mut input = Input::of(text.as_bytes().into());
            input.head(&mut reader).unwrap().unwrap();
            input.begin(&reader.head, &LIMITS);
            assert_eq!(input.wanted(), least, "{field}");
            (0..9).for_each(|_| input.brought(usize::MAX, LARGEST_READ));
            assert_eq!(input.wanted(), most, "{field}");
            (0..9).for_each(|_| input.brought(1, LARGEST_READ));
            assert_eq!(input.wanted(), least, "{field}");
        }
    }

    #[test]
    fn a_body_that_nobody_reads_is_abandoned() {
        let mut reader = HeadReader { reader: RequestReader::new(&LIMITS), head: RequestHead::default() };
        let text = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n";
        let mut input = Input::of(text[..].into());
        input.abandon();
        assert!(input.is_whole() && !input.is_abandoned());
        let length = input.head(&mut reader).unwrap().unwrap();
        input.bytes.advance(length);
        input.begin(&reader.head, &LIMITS);
        assert!(!input.is_whole() && !input.is_abandoned());
        input.abandon();
        assert!(input.is_abandoned());
        input.bytes.extend_from_slice(b"ok");
        assert!(matches!(input.next(), Ok(Next::Frame(_))) && input.is_whole() && !input.is_abandoned());
    }
}
