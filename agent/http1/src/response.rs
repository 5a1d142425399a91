//! Heads of responses: as strict as for requests, but for what RFC 9112 has a proxy repair (5.1 and 5.2).

use crate::{
    BadResponse, BodyLength, Fields, FieldsView, Index, Limits, Name, Refusal, Version,
    framing::{FRAMING, Facts},
    index::Span,
    octets::value,
    section::{Bounds, Found, Section},
};

/// The change of the protocol: final, and behind it is no HTTP.
pub const SWITCHING_PROTOCOLS: u16 = 101;

/// A response's head, as offsets into the buffer that it was read from. Used again, it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The version that the target speaks.
    pub version: Version,
    /// The status, 100 to 999.
    pub status: u16,
    reason: Span,
    /// The body that comes.
    pub body: BodyLength,
    /// What the fields say about framing and connection.
    pub facts: Facts,
    fields: Index,
}

impl ResponseHead {
    /// With the buffer that it was read from.
    pub fn on<'a>(&'a self, bytes: &'a [u8]) -> Response<'a> {
        Response { head: self, bytes }
    }

    /// The fields' index.
    pub fn index(&self) -> &Index {
        &self.fields
    }

    /// Whether another response to the same request follows: 1xx, but for 101.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != SWITCHING_PROTOCOLS
    }

    /// Forgets everything but the room.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }
}

/// A response's head and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    head: &'a ResponseHead,
    bytes: &'a [u8],
}

impl<'a> Response<'a> {
    /// The fields.
    pub fn fields(self) -> Fields<'a> {
        self.head.fields.on(self.bytes)
    }

    /// The reason phrase; often empty.
    pub fn reason(self) -> &'a [u8] {
        self.head.reason.of(self.bytes)
    }
}

impl FieldsView for Response<'_> {
    fn each(&self, name: Name<'_>, found: &mut dyn FnMut(&[u8])) {
        Response::fields(*self).each(name, found);
    }

    fn fields(&self, found: &mut dyn FnMut(&[u8], &[u8])) {
        FieldsView::fields(&Response::fields(*self), found);
    }
}

/// Reads the heads of the responses to one request, interim ones first.
#[derive(Debug)]
pub struct ResponseReader {
    bounds: Bounds,
    empty_lines: usize,
    section: Section,
    skipped: usize,
    begun: bool,
    to_head: bool,
    /// Interim responses that may still come, and bytes of heads.
    interim: u32,
    bytes: usize,
}

impl ResponseReader {
    /// For the responses to a request; `to_head`: its method is `HEAD`, so that they have no body.
    pub fn new(limits: &Limits, to_head: bool) -> Self {
        Self {
            bounds: Bounds { bytes: limits.head_bytes, fields: limits.fields },
            empty_lines: limits.empty_lines,
            section: Section::default(),
            skipped: 0,
            begun: false,
            to_head,
            interim: limits.interim_responses,
            bytes: limits.interim_bytes.max(limits.head_bytes),
        }
    }

    /// Whether a part of the present head was read.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Reads on. `input` begins with the head's first byte each time; folded lines and blanks before a colon are repaired in it. When
    /// the head is complete, `head` describes it and the answer is its length; after an interim response, the reader is for the next
    /// one. `None`: the same bytes are wanted again, with more behind them.
    ///
    /// # Errors
    /// What is refused; the connection is not used again.
    pub fn read(&mut self, input: &mut [u8], head: &mut ResponseHead) -> Result<Option<usize>, BadResponse> {
        if !self.begun && !self.begin(input, head)? {
            return Ok(None);
        }
        loop {
            match self.section.next_repaired(input, self.bounds)? {
                Found::Incomplete => return Ok(None),
                Found::Field(field) => {
                    if let Some(known) = field.known.filter(|known| FRAMING.contains(*known)) {
                        head.facts.of_response(known, field.value.of(input));
                    }
                    if head.fields.len() >= self.bounds.fields {
                        return Err(BadResponse::TooLong);
                    }
                    head.fields.push(field);
                }
                Found::End(length) => return self.end(head, length).map(|()| Some(length)),
            }
        }
    }

    fn end(&mut self, head: &mut ResponseHead, length: usize) -> Result<(), BadResponse> {
        head.body = head.facts.response_body(head.version, head.status, self.to_head)?;
        (self.section, self.skipped, self.begun) = (Section::default(), 0, false);
        self.bytes = self.bytes.checked_sub(length).ok_or(BadResponse::TooManyInterim)?;
        if head.is_interim() {
            // guard: interim-responses
            self.interim = self.interim.checked_sub(1).ok_or(BadResponse::TooManyInterim)?;
        }
        Ok(())
    }

    /// Reads the status line, and empty lines before it; false: it is not complete.
    fn begin(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<bool, BadResponse> {
        head.clear();
        loop {
            let at = self.section.line;
            let start = input.get(at..).unwrap_or_default();
            // Of what is no HTTP/1 no end is waited for.
            let known = start.len().min(START.len());
            if start[..known] != START[..known] && !matches!(start[0], b'\r' | b'\n') {
                return Err(BadResponse::Malformed("this is not an HTTP response"));
            }
            let Some(end) = self.section.line_end(input, self.bounds)? else { return Ok(false) };
            let Some(line) = input[at..end].strip_suffix(b"\r") else {
                return Err(Refusal::Malformed("a line ends with LF alone").into());
            };
            self.section = Section::at(end + 1);
            if line.is_empty() {
                self.skipped += 1;
                if self.skipped > self.empty_lines {
                    return Err(BadResponse::Malformed("there is no status line"));
                }
                continue;
            }
            status_line(line, at, head).ok_or(BadResponse::Malformed("the status line is malformed"))?;
            self.begun = true;
            return Ok(true);
        }
    }
}

/// How each status line begins.
const START: &[u8] = b"HTTP/1.";

/// Reads a status line, which begins at `at`. The blank before an empty reason phrase may be missing, as many servers have it.
fn status_line(line: &[u8], at: usize, head: &mut ResponseHead) -> Option<()> {
    head.version = Version::read(line.get(..8)?)?;
    let [b' ', hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = line.get(8..12)? else { return None };
    head.status = [hundreds, tens, ones].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
    let reason = match &line[12..] {
        [] => line.len(),
        [b' ', reason @ ..] if value(reason) => 13,
        _ => return None,
    };
    head.reason = Span::new(at + reason..at + line.len());
    Some(())
}
