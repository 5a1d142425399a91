//! How long a message is (RFC 9112, 6): one decision, from what its fields say, collected while they are read.

use crate::{
    BadResponse, Known, Refusal, Version,
    known::same,
    list::members,
    octets::{length, trim},
};

/// What ends the body of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    #[default]
    None,
    /// This many bytes; 0 where a length of 0 is said.
    Length(u64),
    /// The last chunk, and trailers.
    Chunked,
    /// The end of the connection. Of responses only.
    UntilClose,
}

impl BodyLength {
    /// Whether no byte of a body comes.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// What the `Connection` fields of a message say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `upgrade`.
    pub upgrade: bool,
    /// Something else: fields that belong to this connection only.
    pub others: bool,
}

/// What the fields of a message say about its framing, and about the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `Connection`.
    pub connection: ConnectionOptions,
    /// `Upgrade` is there.
    pub upgrade: bool,
    /// `Expect: 100-continue` is there.
    pub expects_continue: bool,
    /// `TE: trailers` is there.
    pub takes_trailers: bool,
    hosts: u8,
    length: Length,
    coding: Coding,
}

/// `Content-Length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Absent,
    Known(u64),
    Malformed,
    Two,
}

/// `Transfer-Encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Absent,
    Chunked,
    Other,
}

impl Facts {
    /// Looks at a field of a request.
    pub(crate) fn of_request(&mut self, name: Known, value: &[u8]) -> Result<(), Refusal> {
        match name {
            Known::ContentLength => {
                if self.length != Length::Absent {
                    return Err(Refusal::Malformed("there are several content lengths"));
                }
                let length = length(value).ok_or(Refusal::Malformed("the content length is malformed"))?;
                self.length = Length::Known(length);
            }
            Known::TransferEncoding => {
                if self.coding != Coding::Absent || !same(value, b"chunked") {
                    return Err(Refusal::Malformed("the transfer encoding is not exactly chunked"));
                }
                self.coding = Coding::Chunked;
            }
            Known::Host => self.hosts = self.hosts.saturating_add(1),
            Known::Expect => self.expects_continue |= same(value, b"100-continue"),
            Known::Te => self.takes_trailers |= members(value).any(|coding| same(coding, b"trailers")),
            _ => self.of_connection(name, value),
        }
        Ok(())
    }

    /// Looks at a field of a response; what contradicts another one is decided about at the end, by the status.
    pub(crate) fn of_response(&mut self, name: Known, value: &[u8]) {
        match name {
            Known::ContentLength => {
                // The same length several times, also in one field, is one length (RFC 9112, 6.3).
                for item in value.split(|byte| *byte == b',') {
                    self.length = match (self.length, length(trim(item))) {
                        (Length::Malformed, _) | (_, None) => Length::Malformed,
                        (Length::Absent, Some(length)) => Length::Known(length),
                        (Length::Known(known), Some(length)) if known == length => Length::Known(known),
                        _ => Length::Two,
                    };
                }
            }
            Known::TransferEncoding => {
                let only = self.coding == Coding::Absent && same(value, b"chunked");
                self.coding = if only { Coding::Chunked } else { Coding::Other };
            }
            _ => self.of_connection(name, value),
        }
    }

    fn of_connection(&mut self, name: Known, value: &[u8]) {
        match name {
            Known::Connection => {
                let options = &mut self.connection;
                // As nearly every client has it.
                if same(value, b"keep-alive") {
                    options.keep_alive = true;
                    return;
                }
                for option in members(value) {
                    match option.len() {
                        5 if same(option, b"close") => options.close = true,
                        10 if same(option, b"keep-alive") => options.keep_alive = true,
                        7 if same(option, b"upgrade") => options.upgrade = true,
                        _ => options.others = true,
                    }
                }
            }
            Known::Upgrade => self.upgrade = true,
            _ => {}
        }
    }

    /// The body of a request (RFC 9112, 6.3), at the end of its head.
    pub(crate) fn request_body(&self, version: Version) -> Result<BodyLength, Refusal> {
        // guard: length-and-chunked
        if self.coding == Coding::Chunked && self.length != Length::Absent {
            return Err(Refusal::Malformed("there are a transfer encoding and a content length"));
        }
        if self.coding == Coding::Chunked && version == Version::Http10 {
            return Err(Refusal::Malformed("HTTP/1.0 has no transfer encoding"));
        }
        if self.hosts > 1 || self.hosts == 0 && version == Version::Http11 {
            return Err(Refusal::Malformed("there is not exactly one Host field"));
        }
        Ok(match (self.coding, self.length) {
            (Coding::Chunked, _) => BodyLength::Chunked,
            (_, Length::Known(length)) => BodyLength::Length(length),
            _ => BodyLength::None,
        })
    }

    /// The body of a response to a request of method `HEAD` or another one (RFC 9112, 6.3).
    pub(crate) fn response_body(
        &self,
        version: Version,
        status: u16,
        to_head: bool,
    ) -> Result<BodyLength, BadResponse> {
        if self.coding == Coding::Other || self.coding == Coding::Chunked && version == Version::Http10 {
            let text = "the target's answer has a transfer encoding that it was not asked for";
            return Err(BadResponse::Framing(text));
        }
        if self.coding == Coding::Chunked && self.length != Length::Absent {
            // Chunks overrule a length (RFC 9112, 6.3), but another reader may follow that.
            return Err(BadResponse::Framing("the target's answer has a transfer encoding and a content length"));
        }
        if status < 200 || status == 204 {
            return Ok(BodyLength::None);
        }
        if self.coding == Coding::Absent {
            match self.length {
                Length::Malformed => {
                    return Err(BadResponse::Framing("the target's answer has a malformed content length"));
                }
                Length::Two => return Err(BadResponse::Framing("the target's answer has two content lengths")),
                Length::Absent | Length::Known(_) => {}
            }
        }
        Ok(match (self.coding, self.length) {
            _ if to_head || status == 304 => BodyLength::None,
            (Coding::Chunked, _) => BodyLength::Chunked,
            (_, Length::Known(length)) => BodyLength::Length(length),
            _ => BodyLength::UntilClose,
        })
    }

    /// The length that a response says: of the body that comes, or that would come to another method than `HEAD`.
    pub fn said_length(&self) -> Option<u64> {
        match (self.coding, self.length) {
            (Coding::Absent, Length::Known(length)) => Some(length),
            _ => None,
        }
    }
}

/// Fields that [`Facts`] looks at.
pub(crate) const FRAMING: crate::known::KnownSet = crate::known::KnownSet::of(&[
    Known::Connection,
    Known::ContentLength,
    Known::Expect,
    Known::Host,
    Known::Te,
    Known::TransferEncoding,
    Known::Upgrade,
]);
