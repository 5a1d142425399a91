//! One connection of a client that speaks HTTP/1, request by request. The order is that of [`Conversation`].

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use brattice_http1::{
    Limits,
    conversation::{After, Conversation},
    write::CONTINUE,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONNECTION, response::Parts};
use http_body::{Body as _, Frame};

use super::{
    body::Body,
    head, input,
    output::Output,
    response::{Asked, BodyWriter, Known},
    socket::{ClientSocket, Read},
    spare::HeadReader,
};
use crate::http::{
    client_body::ClientBody,
    control::Verdict,
    refusal::Refusal,
    request::{self, Arrival},
    response_body::ResponseBody,
    session::Session,
    upgrade,
};

/// After a response to a request that was not read to its end, what the client still sends is thrown away for so long, or a reset
/// would overtake the response.
const LINGER: Duration = Duration::from_secs(1);
/// And no more than this many bytes.
const LINGER_BYTES: usize = 512 * 1024;

/// What comes of the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// A head of this many bytes.
    Head(usize),
    /// What is refused, and answered.
    Refused(Refusal),
    /// None.
    Nothing,
    /// None, and the client is gone.
    Gone,
}

/// What comes of a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// As the order of its messages says.
    After(After),
    /// It is closed at once: nothing that is sent would be understood.
    Broken,
}

/// Serves a connection to its end.
pub(crate) async fn serve(session: Rc<Session>, socket: Rc<ClientSocket>) {
    let open = Open(Rc::clone(&session), socket);
    let mut serving = pin!(requests(&session, &open.1));
    let control = &session.control;
    poll_fn(|cx| {
        control.park(cx);
        if control.verdict().closes() { Poll::Ready(()) } else { serving.as_mut().poll(cx) }
    })
    .await;
}

/// Closes the socket at the end, as decided.
struct Open(Rc<Session>, Rc<ClientSocket>);

impl Drop for Open {
    fn drop(&mut self) {
        if let Some((stream, _)) = self.1.take()
            && self.0.control.verdict().resets()
        {
            stream.reset_on_drop(true);
        }
    }
}

/// All requests. What only a request needs is in a box, which an idle connection does not have.
async fn requests(session: &Rc<Session>, socket: &Rc<ClientSocket>) {
    let mut connection = Connection::new(session, socket);
    loop {
        let came = poll_fn(|cx| connection.poll_head(cx)).await;
        let then = match came {
            Came::Head(_) | Came::Refused(_) => Box::pin(connection.exchange(came)).await,
            Came::Nothing => Then::After(After::Close { unread: false }),
            Came::Gone => Then::Broken,
        };
        match then {
            Then::After(After::Keep) => {}
            Then::After(After::Close { unread }) => return Box::pin(close(socket, unread)).await,
            Then::After(After::Switch) => return Box::pin(switch(session, socket)).await,
            Then::Broken => return,
        }
    }
}

/// Closes in order: no response is lost.
async fn close(socket: &ClientSocket, unread: bool) {
    if poll_fn(|cx| socket.poll_shutdown(cx)).await.is_err() || !unread {
        return;
    }
    let mut left = LINGER_BYTES;
    let discard = poll_fn(|cx| socket.poll_discard(&mut left, cx));
    // Over it: the client sends on.
    let _ = tokio::time::timeout(LINGER, discard).await;
}

/// Client and target have agreed on another protocol.
async fn switch(session: &Session, socket: &ClientSocket) {
    let upgrade = session.switched.take();
    if let (Some(upgrade), Some((stream, early))) = (upgrade, socket.take()) {
        upgrade::run((stream, early), *upgrade, &session.server.copier, &session.control).await;
    }
}

/// A connection between and during its requests.
struct Connection<'c> {
    session: &'c Rc<Session>,
    socket: &'c Rc<ClientSocket>,
    order: Conversation,
    /// While some of a head has come.
    reading: Option<Box<HeadReader>>,
}

/// A request that is being served.
struct Serving {
    asked: Asked,
    /// It offers another protocol.
    offers: bool,
    output: Output,
}

impl<'c> Connection<'c> {
    fn new(session: &'c Rc<Session>, socket: &'c Rc<ClientSocket>) -> Self {
        Self { session, socket, order: Conversation::default(), reading: None }
    }

    fn limits(&self) -> Limits {
        let limits = self.session.local().limits();
        Limits::requests(limits.header_bytes as usize, limits.headers as usize)
    }

    // ---- heads

    /// Waits for the next head.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        let control = &self.session.control;
        loop {
            let begun = !self.socket.is_empty();
            if begun {
                ready!(self.socket.poll_turn(cx));
                match self.look() {
                    Ok(None) => {}
                    Ok(Some(length)) => return Poll::Ready(self.came(Came::Head(length))),
                    Err(refusal) => return Poll::Ready(self.came(Came::Refused(refusal))),
                }
            }
            match control.verdict() {
                Verdict::Serve => {}
                Verdict::HeaderTimeout if begun => {
                    return Poll::Ready(self.came(Came::Refused(Refusal::HeaderTimeout)));
                }
                // What has begun is served.
                _ if begun => {}
                _ => return Poll::Ready(Came::Nothing),
            }
            if begun {
                control.header_section_begun(self.session.local().clock.tick());
            }
            match ready!(self.socket.poll_read(cx)) {
                Read::Some => {}
                Read::End => return Poll::Ready(self.came(Came::Nothing)),
                Read::Broken => return Poll::Ready(self.came(Came::Gone)),
            }
        }
    }

    /// Looks for a whole head in what has come.
    fn look(&mut self) -> Result<Option<usize>, Refusal> {
        let limits = self.limits();
        let reading = self.reading.get_or_insert_with(|| self.session.server.spare.reader(&limits));
        self.socket.head(reading)
    }

    fn came(&self, came: Came) -> Came {
        self.session.control.header_section_ended();
        came
    }

    /// The request of what came.
    fn begin(&mut self, came: Came) -> (Request<ClientBody>, Arrival, Serving) {
        let (session, socket) = (self.session, self.socket);
        let refused = match came {
            Came::Head(length) => match self.request(length) {
                Ok(begun) => return begun,
                Err(refusal) => Some(refusal),
            },
            Came::Refused(refusal) => Some(refusal),
            Came::Nothing | Came::Gone => None,
        };
        self.reading = None;
        self.order.refuse();
        socket.discard();
        let mut request = Request::new(ClientBody::Empty);
        *request.headers_mut() = session.server.spare.fields();
        let serving = Serving { asked: Asked::default(), offers: false, output: Output::default() };
        (request, Arrival { refused, offers_upgrade: false }, serving)
    }

    fn request(&mut self, length: usize) -> Result<(Request<ClientBody>, Arrival, Serving), Refusal> {
        let limits = self.limits();
        let spare = &self.session.server.spare;
        let reading = self.reading.take().unwrap_or_else(|| spare.reader(&limits));
        let head = &reading.head;
        let (bytes, number) = self.socket.take_head(length, head, &limits);
        let asked = Asked {
            head: head.on(&bytes).method_bytes() == b"HEAD",
            version: head.version,
            takes_trailers: head.facts.takes_trailers,
        };
        let body = if head.body.is_empty() {
            ClientBody::Empty
        } else {
            ClientBody::Http1(Body::new(self.socket, number, input::exact(head.body)))
        };
        let request = head::request(head, &bytes, spare.fields(), body)?;
        self.order.head(head);
        let offers = head.offers_upgrade();
        spare.give_reader(reading);
        let arrival = Arrival { refused: None, offers_upgrade: offers };
        Ok((request, arrival, Serving { asked, offers, output: Output::default() }))
    }

    // ---- requests

    /// Serves a request, and answers it.
    async fn exchange(&mut self, came: Came) -> Then {
        let (request, arrival, mut serving) = self.begin(came);
        let response = {
            let mut served = pin!(request::serve(Rc::clone(self.session), request, arrival));
            poll_fn(|cx| match served.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(response.ok()),
                // The client is gone: nobody waits for the response.
                Poll::Pending => self.poll_client(&mut serving, cx).map(|()| None),
            })
            .await
        };
        let Some(response) = response else { return Then::Broken };
        self.respond(response, serving).await
    }

    /// While a request is served: sends what precedes its response. Ready when the client is gone.
    fn poll_client(&self, serving: &mut Serving, cx: &mut Context<'_>) -> Poll<()> {
        let control = &self.session.control;
        control.interim.park(cx);
        let output = &mut serving.output;
        loop {
            if self.socket.input(input::Input::take_wanted) {
                output.joined().extend_from_slice(CONTINUE);
            }
            if output.is_empty()
                && let Some(interim) = control.interim.next()
            {
                output.joined().extend_from_slice(&interim);
            }
            if output.is_empty() {
                break;
            }
            match self.socket.poll_write(output, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.socket.poll_gone(serving.offers, cx)
    }

    /// Writes a response, and says what follows it.
    async fn respond(&mut self, response: Response<ResponseBody>, serving: Serving) -> Then {
        let Serving { asked, output, .. } = serving;
        let (parts, body) = response.into_parts();
        poll_fn(|cx| {
            self.settle(cx);
            Poll::Ready(())
        })
        .await;
        let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        let mut responding = self.begin_response(parts, body, asked, output);
        let written = poll_fn(|cx| responding.poll(self.session, self.socket, switches, cx)).await;
        drop(responding);
        if written == Written::Broken {
            return Then::Broken;
        }
        // Nobody needs the rest of the request.
        self.socket.input(input::Input::abandon);
        poll_fn(|cx| {
            self.settle(cx);
            Poll::Ready(())
        })
        .await;
        match self.order.responded() {
            // What the client has sent already would have the kernel reset the connection.
            After::Close { unread } => {
                let unread = self.socket.input(|input| !input.ended && (unread || !input.bytes.is_empty()));
                Then::After(After::Close { unread })
            }
            after => Then::After(after),
        }
    }

    /// Notes how much of the request was read. What nobody reads any more is, if it is there.
    fn settle(&mut self, cx: &mut Context<'_>) {
        if self.socket.input(|input| input.is_abandoned()) {
            self.socket.drain_body(cx);
        }
        let (whole, lost) = self.socket.input(|input| (input.is_whole(), input.is_refused() || input.is_abandoned()));
        if whole {
            self.order.body_ended();
        } else if lost {
            self.order.refuse();
        }
    }

    fn begin_response(&mut self, parts: Parts, body: ResponseBody, asked: Asked, mut output: Output) -> Responding {
        let (control, spare) = (&self.session.control, &self.session.server.spare);
        let known = match body.size_hint().exact() {
            _ if body.is_end_stream() => Known::Empty,
            Some(length) => Known::Length(length),
            None => Known::Nothing,
        };
        let writer = BodyWriter::new(&parts, asked, known);
        if control.verdict() > Verdict::Serve {
            self.order.drain();
        }
        let closes = parts.headers.get_all(CONNECTION).iter().any(|value| input::names(value.as_bytes(), "close"));
        let says = self.order.respond(closes || writer.ends_with_connection());
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            self.order.switch();
        }
        output.lend(|| spare.output());
        // Informational responses go before it (RFC 9110, 15.2).
        while let Some(interim) = control.interim.next() {
            output.joined().extend_from_slice(&interim);
        }
        writer.head(output.joined(), &parts, asked, says, &spare.date);
        spare.give_fields(parts.headers);
        Responding { output, writer, body: Some(body), ahead: None, waits: false, failed: false }
    }
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// The client has all of it, or will.
    Whole,
    /// It is cut, or the client is gone.
    Broken,
}

/// A response whose head is in the output.
struct Responding {
    output: Output,
    writer: BodyWriter,
    /// `None`: it has ended.
    body: Option<ResponseBody>,
    /// A frame that came while the output had no room for it.
    ahead: Option<Frame<Bytes>>,
    /// The next frame is awaited.
    waits: bool,
    /// The body ended before its end.
    failed: bool,
}

impl Responding {
    fn poll(
        &mut self,
        session: &Session,
        socket: &ClientSocket,
        switches: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Written> {
        let spare = &session.server.spare;
        loop {
            self.output.lend(|| spare.output());
            self.fill(cx);
            let written = socket.poll_write(&mut self.output, cx);
            if let Some(free) = self.output.give_back() {
                spare.give_output(free);
            }
            match written {
                Poll::Ready(Err(_)) => return Poll::Ready(Written::Broken),
                Poll::Ready(Ok(())) if self.failed => return Poll::Ready(Written::Broken),
                Poll::Ready(Ok(())) if self.body.is_none() => return Poll::Ready(Written::Whole),
                Poll::Ready(Ok(())) if !self.waits => {}
                _ if switches => return Poll::Pending,
                _ => return socket.poll_gone(false, cx).map(|()| Written::Broken),
            }
        }
    }

    /// Fills the output with what there is of the body.
    fn fill(&mut self, cx: &mut Context<'_>) {
        self.waits = false;
        while let Some(body) = &mut self.body {
            let open = self.output.is_open();
            if open && let Some(frame) = self.ahead.take() {
                self.put(frame);
                continue;
            }
            // One frame ahead of a large one, to know whether it is the end: that goes out with it.
            if self.ahead.is_some() || !open && !self.output.has_large() {
                return;
            }
            if body.is_end_stream() {
                return self.end();
            }
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => {
                    self.waits = true;
                    return;
                }
                Poll::Ready(None) => return self.end(),
                Poll::Ready(Some(Ok(frame))) if open => self.put(frame),
                Poll::Ready(Some(Ok(frame))) => self.ahead = Some(frame),
                Poll::Ready(Some(Err(_))) => {
                    (self.failed, self.body) = (true, None);
                    return;
                }
            }
        }
    }

    fn put(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.writer.data(data, &mut self.output),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                self.failed = self.writer.end_with(&trailers, &mut self.output).is_err();
                self.body = None;
            }
        }
    }

    fn end(&mut self) {
        self.failed = self.writer.end(&mut self.output).is_err();
        // It counts as complete before the client can have read it.
        self.body = None;
    }
}
