//! Writes a request: its head, with the first part of its body, then the rest as it comes.

use std::{
    io::{self, Write},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use brattice_router::fields;
use bytes::{Buf, Bytes};
use http::{
    HeaderMap,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    request::Parts,
};
use http_body::{Body, Frame};

use super::{super::target_error::TargetError, socket::Socket};
use crate::http::{announced_trailers::AnnouncedTrailers, request_body::RequestBody};

/// Bytes of a head for which room is kept.
const KEPT: usize = 4 * 1024;

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is no body, or this many bytes are left of it.
    Length(u64),
    Chunked,
}

/// A request that is being written.
pub(super) struct Upload<B = RequestBody> {
    socket: Rc<Socket>,
    framing: Framing,
    /// The trailers that its head announces.
    announced: AnnouncedTrailers,
    /// `None`: it was written to its end.
    body: Option<B>,
    /// The body has no more frames.
    ended: bool,
    /// The target takes no more bytes; what is still written is thrown away. A target that closes with bytes unread has its kernel
    /// reset the connection, often right behind a response, which can still be read. So it is the reader who learns that the
    /// connection has ended.
    pub(super) deaf: bool,
    /// Text to be written first: the head, the line of a chunk, trailers.
    text: Vec<u8>,
    written: usize,
    /// Then data, ...
    data: Bytes,
    /// ... then what ends a chunk, and perhaps the body.
    end: &'static [u8],
}

/// The last chunk, without trailers.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl<B: Body<Data = Bytes> + Unpin> Upload<B> {
    /// A request that begins; `text` is an empty buffer.
    pub(super) fn new(socket: &Rc<Socket>, parts: &Parts, body: B, mut text: Vec<u8>) -> Self {
        let said = parts.headers.get(CONTENT_LENGTH).and_then(|length| fields::length(length.as_bytes()));
        let known = said.or_else(|| body.size_hint().exact());
        let framing = match known {
            Some(length) if !parts.headers.contains_key(TRANSFER_ENCODING) => Framing::Length(length),
            _ => Framing::Chunked,
        };
        head(&mut text, parts, if said.is_none() { framing } else { Framing::Length(0) });
        let ended = framing == Framing::Length(0);
        let announced = match framing {
            Framing::Chunked => AnnouncedTrailers::of(&parts.headers),
            Framing::Length(_) => AnnouncedTrailers::default(),
        };
        let socket = Rc::clone(socket);
        Self {
            socket,
            framing,
            announced,
            body: Some(body),
            ended,
            deaf: false,
            text,
            written: 0,
            data: Bytes::new(),
            end: b"",
        }
    }

    /// The buffer, to be used again.
    pub(super) fn into_text(self) -> Vec<u8> {
        let mut text = self.text;
        text.clear();
        text.shrink_to(KEPT);
        text
    }

    /// Writes on; ready when all is written.
    ///
    /// # Errors
    /// When the request's body ends before its end, or the socket breaks in an unusual way.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TargetError>> {
        loop {
            let waits = self.poll_fill(cx)?.is_pending();
            if !self.is_flushed() {
                ready!(self.poll_write(cx))?;
                continue;
            }
            if self.ended {
                // Told that it is sent.
                self.body = None;
                return Poll::Ready(Ok(()));
            }
            if waits {
                return Poll::Pending;
            }
        }
    }

    fn is_flushed(&self) -> bool {
        self.written == self.text.len() && self.data.is_empty() && self.end.is_empty()
    }

    /// Takes the next frame of the body, once there is nothing left of the one before.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TargetError>> {
        let Some(body) = self.body.as_mut().filter(|_| !self.ended && self.data.is_empty() && self.end.is_empty())
        else {
            return Poll::Ready(Ok(()));
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if self.written == self.text.len() {
            self.text.clear();
            self.written = 0;
        }
        match frame {
            Some(Err(_)) => return Poll::Ready(Err(TargetError::Request)),
            Some(Ok(frame)) => {
                let last = body.is_end_stream();
                self.put(frame, last)?;
            }
            None => self.put_end(None)?,
        }
        Poll::Ready(Ok(()))
    }

    /// `last`: nothing follows the frame.
    fn put(&mut self, frame: Frame<Bytes>, last: bool) -> Result<(), TargetError> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.put_end(frame.trailers_ref()),
        };
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(TargetError::Request)?;
                self.data = data;
                if last {
                    self.put_end(None)?;
                }
            }
            Framing::Chunked => {
                if !data.is_empty() {
                    let _ = write!(self.text, "{:X}\r\n", data.len());
                    self.data = data;
                    self.end = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                } else if last {
                    self.text.extend_from_slice(LAST_CHUNK);
                }
                self.ended = last;
            }
        }
        Ok(())
    }

    fn put_end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), TargetError> {
        self.ended = true;
        match self.framing {
            Framing::Length(0) => {}
            Framing::Length(_) => return Err(TargetError::Request),
            Framing::Chunked => {
                self.text.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flat_map(|trailers| self.announced.passed(trailers)) {
                    put_field(&mut self.text, name, value);
                }
                self.text.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TargetError>> {
        let parts = [&self.text[self.written..], &self.data, self.end];
        let all: usize = parts.iter().map(|part| part.len()).sum();
        let count = if self.deaf {
            all
        } else {
            match ready!(self.socket.poll_write(cx, &parts.map(io::IoSlice::new))) {
                Ok(count) => count,
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.deaf = true;
                    all
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        };
        self.advance(count);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut count: usize) {
        let text = count.min(self.text.len() - self.written);
        self.written += text;
        count -= text;
        let data = count.min(self.data.len());
        self.data.advance(data);
        self.end = &self.end[count - data..];
    }
}

/// The head as RFC 9112 has it; `framing` where it is not in its fields.
fn head(text: &mut Vec<u8>, parts: &Parts, framing: Framing) {
    let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    for part in [parts.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    put_fields(text, &parts.headers);
    match framing {
        Framing::Length(0) => {}
        Framing::Length(length) => drop(write!(text, "content-length: {length}\r\n")),
        Framing::Chunked if parts.headers.contains_key(TRANSFER_ENCODING) => {}
        Framing::Chunked => text.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    text.extend_from_slice(b"\r\n");
}

fn put_fields(text: &mut Vec<u8>, fields: &HeaderMap) {
    fields.iter().for_each(|(name, value)| put_field(text, name.as_str().as_bytes(), value.as_bytes()));
}

fn put_field(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    [name, b": ", value, b"\r\n"].into_iter().for_each(|part| text.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, task::Waker};

    use http::{HeaderValue, Request};
    use http_body::SizeHint;

    use super::*;
    use crate::transport::Stream;

    /// Frames; `None` says that more come later.
    struct Frames(VecDeque<Option<Frame<Bytes>>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.pop_front() {
                Some(Some(frame)) => Poll::Ready(Some(Ok(frame))),
                Some(None) => Poll::Pending,
                None => Poll::Ready(None),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            if self.0.is_empty() { SizeHint::with_exact(0) } else { SizeHint::default() }
        }
    }

    fn data(text: &'static str) -> Option<Frame<Bytes>> {
        Some(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn trailers() -> Option<Frame<Bytes>> {
        let mut fields = HeaderMap::new();
        fields.append("x-sum", HeaderValue::from_static("1"));
        Some(Frame::trailers(fields))
    }

    /// What a target gets that reads `step` bytes at a time, and how the upload ends.
    fn sent(
        fields: &[(&'static str, &str)],
        frames: Vec<Option<Frame<Bytes>>>,
        step: usize,
    ) -> (String, Result<(), ()>) {
        let mut request = Request::post("/a?b");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let (ours, targets) = Stream::pair(step);
        let mut upload = Upload::new(&Rc::new(Socket::new(ours)), &parts, Frames(frames.into()), Vec::new());
        let (cx, mut got, mut piece) = (&mut Context::from_waker(Waker::noop()), Vec::new(), [0; 64]);
        loop {
            let polled = upload.poll(cx);
            while let Ok(count @ 1..) = targets.try_read(&mut piece) {
                got.extend_from_slice(&piece[..count]);
            }
            if let Poll::Ready(ended) = polled {
                assert!(ended.is_err() || upload.is_flushed());
                return (String::from_utf8(got).unwrap(), ended.map_err(|_| ()));
            }
        }
    }

    const START: &str = "POST /a?b HTTP/1.1\r\n";

    #[test]
    fn a_body_is_framed_as_its_fields_say() {
        let chunked = [("transfer-encoding", "chunked")];
        for step in [1, 3, 1_000] {
            for (fields, frames, rest) in [
                (&[("content-length", "0")][..], vec![], "content-length: 0\r\n\r\n"),
                (&[], vec![], "\r\n"),
                (&[("content-length", "5")], vec![data("hel"), None, data("lo")], "content-length: 5\r\n\r\nhello"),
                (&[("content-length", "5")], vec![data("hello"), trailers()], "content-length: 5\r\n\r\nhello"),
                (&[], vec![data("hi")], "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
                (&chunked, vec![], "transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
                (
                    &chunked,
                    vec![None, data("hi"), data(""), None, data("0123456789abcdef")],
                    "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
                ),
                (&chunked, vec![data("hi"), data("")], "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
                (&chunked, vec![data("hi"), trailers()], "transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
                (
                    &[chunked[0], ("trailer", "X-Sum")],
                    vec![data("hi"), trailers()],
                    "transfer-encoding: chunked\r\ntrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n",
                ),
            ] {
                let (got, ended) = sent(fields, frames, step);
                assert_eq!(
                    (got.as_str(), ended),
                    (&*format!("{START}{rest}"), Ok(())),
                    "{fields:?} in steps of {step}"
                );
            }
        }
    }

    #[test]
    fn a_body_of_another_length_than_said_is_not_complete() {
        for frames in [vec![data("hell")], vec![data("hello!")], vec![data("hell"), trailers()], vec![]] {
            let (got, ended) = sent(&[("content-length", "5")], frames, 1_000);
            assert!(ended.is_err(), "{got}");
            assert!(got.len() <= START.len() + "content-length: 5\r\n\r\nhello".len(), "{got}");
        }
    }

    #[test]
    fn a_target_that_takes_no_more_is_heard_to_the_end() {
        let (parts, ()) = Request::post("/").header("content-length", "5").body(()).unwrap().into_parts();
        let (ours, targets) = Stream::pair(1_000);
        targets.reset_on_drop(true);
        drop(targets);
        let frames = Frames(VecDeque::from([data("hello")]));
        let mut upload = Upload::new(&Rc::new(Socket::new(ours)), &parts, frames, Vec::new());
        assert!(matches!(upload.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(()))));
        assert!(upload.deaf);
    }
}
