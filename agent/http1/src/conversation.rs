//! The order of a client's connection: which bytes may be read next, and what follows a response. Requests may be pipelined; each
//! is answered before the next one is read.

use crate::{RequestHead, Version, persistence};

/// What the next bytes of the client are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A request's head.
    Head,
    /// The body of the present request.
    Body,
    /// The next request's head, or, where another protocol was offered, perhaps no HTTP. Nothing is read before the response is complete.
    Wait,
    /// Nothing: the connection ends after the response.
    Nothing,
    /// Another protocol.
    Switched,
}

/// What becomes of a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request is read.
    Keep,
    /// It is closed. `unread`: the client may be sending what nobody reads, so that a reset could overtake the response.
    Close {
        /// See above.
        unread: bool,
    },
    /// It carries another protocol.
    Switch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// None is read as yet.
    Awaited,
    /// Its head was read, its body not to the end.
    Body,
    /// It was read to the end.
    Whole,
    /// It is refused, and everything behind it.
    Refused,
}

/// One client connection, request by request.
#[derive(Debug)]
pub struct Conversation {
    request: Request,
    version: Version,
    keep: bool,
    switched: bool,
    draining: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        let (request, version) = (Request::Awaited, Version::Http11);
        Self { request, version, keep: true, switched: false, draining: false }
    }
}

impl Conversation {
    /// What the next bytes are.
    pub fn next(&self) -> Next {
        match self.request {
            _ if self.switched => Next::Switched,
            Request::Refused => Next::Nothing,
            Request::Awaited if self.keep => Next::Head,
            Request::Awaited => Next::Nothing,
            Request::Body => Next::Body,
            Request::Whole if self.keep => Next::Wait,
            Request::Whole => Next::Nothing,
        }
    }

    /// A head was read.
    pub fn head(&mut self, head: &RequestHead) {
        debug_assert_eq!(self.next(), Next::Head, "a head is read where one may come");
        self.request = if head.body.is_empty() { Request::Whole } else { Request::Body };
        self.version = head.version;
        self.keep = head.keeps() && !self.draining;
    }

    /// The body of the present request was read to its end.
    pub fn body_ended(&mut self) {
        if self.request == Request::Body {
            self.request = Request::Whole;
        }
    }

    /// What came is refused: it is answered, and nothing behind it is read.
    pub fn refuse(&mut self) {
        self.request = Request::Refused;
        self.keep = false;
    }

    /// The connection ends after the present response, or at once between requests.
    pub fn drain(&mut self) {
        self.draining = true;
        self.keep = false;
    }

    /// A final response begins: what its field `connection` says. `close`: it has an end only with the connection, or the connection
    /// is not wanted any more. A request that was not read to its end is not waited for.
    pub fn respond(&mut self, close: bool) -> Option<&'static str> {
        self.keep &= !close && matches!(self.request, Request::Whole | Request::Body);
        persistence::says(self.version, self.keep)
    }

    /// The response is 101: both sides speak another protocol behind it.
    pub fn switch(&mut self) {
        self.switched = true;
    }

    /// The response is complete.
    pub fn responded(&mut self) -> After {
        if self.switched {
            return After::Switch;
        }
        let whole = self.request == Request::Whole;
        if self.keep && whole {
            self.request = Request::Awaited;
            return After::Keep;
        }
        self.keep = false;
        let unread = matches!(self.request, Request::Body | Request::Refused);
        self.request = Request::Refused;
        After::Close { unread }
    }
}
