//! Heads of requests.

use crate::{
    BodyLength, Fields, FieldsView, Index, Limits, Name, Refusal, RequestView, Version,
    framing::{FRAMING, Facts},
    index::Span,
    octets::{is_blank, is_target, is_token, token},
    section::{Bounds, Found, Section},
    target::{Form, Target},
};

/// A request's head, as offsets into the buffer that it was read from. Used again for the next request, it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    method: Span,
    /// The request target.
    pub target: Target,
    /// The version that the client speaks.
    pub version: Version,
    /// The body.
    pub body: BodyLength,
    /// What the fields say about framing and connection.
    pub facts: Facts,
    fields: Index,
}

impl RequestHead {
    /// With the buffer that it was read from.
    pub fn on<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        Request { head: self, bytes }
    }

    /// The fields' index.
    pub fn index(&self) -> &Index {
        &self.fields
    }

    /// Whether the client waits for `100 Continue` before it sends the body. HTTP/1.0 knows no interim responses (RFC 9110, 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.facts.expects_continue && self.version == Version::Http11 && !self.body.is_empty()
    }

    /// Whether the request offers another protocol, which only one of HTTP/1.1 without a body may do here: a body would stand between
    /// the request and the other protocol. Nothing behind it is HTTP until the offer is answered.
    pub fn offers_upgrade(&self) -> bool {
        self.facts.upgrade && self.version == Version::Http11 && self.body.is_empty()
    }

    /// Forgets everything but the room.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }
}

/// A request's head and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
}

/// What was checked to be UTF-8 when it was read; of another buffer, nothing.
fn text(span: Span, bytes: &[u8]) -> &str {
    std::str::from_utf8(span.of(bytes)).unwrap_or_default()
}

impl<'a> Request<'a> {
    /// The fields.
    pub fn fields(self) -> Fields<'a> {
        self.head.fields.on(self.bytes)
    }

    /// The request target as it came.
    pub fn target(self) -> &'a [u8] {
        self.head.target.whole.of(self.bytes)
    }

    /// The method.
    pub fn method_bytes(self) -> &'a [u8] {
        self.head.method.of(self.bytes)
    }

    /// The method, a token.
    pub fn method(self) -> &'a str {
        text(self.head.method, self.bytes)
    }

    /// The scheme of an absolute request target.
    pub fn scheme(self) -> Option<&'a str> {
        (self.head.target.form == Form::Absolute).then(|| text(self.head.target.scheme, self.bytes))
    }

    /// See [`RequestView::authority`].
    pub fn authority(self) -> Option<&'a str> {
        (self.head.target.form == Form::Absolute).then(|| text(self.head.target.authority, self.bytes))
    }

    /// See [`RequestView::path`].
    pub fn path(self) -> &'a str {
        let target = &self.head.target;
        if target.form == Form::Absolute && target.path.is_empty() { "/" } else { text(target.path, self.bytes) }
    }

    /// See [`RequestView::query`].
    pub fn query(self) -> Option<&'a str> {
        self.head.target.query.map(|query| text(query, self.bytes))
    }
}

impl FieldsView for Request<'_> {
    fn each(&self, name: Name<'_>, found: &mut dyn FnMut(&[u8])) {
        Request::fields(*self).each(name, found);
    }

    fn fields(&self, found: &mut dyn FnMut(&[u8], &[u8])) {
        FieldsView::fields(&Request::fields(*self), found);
    }
}

impl RequestView for Request<'_> {
    fn method(&self) -> &str {
        Request::method(*self)
    }

    fn path(&self) -> &str {
        Request::path(*self)
    }

    fn query(&self) -> Option<&str> {
        Request::query(*self)
    }

    fn authority(&self) -> Option<&str> {
        Request::authority(*self)
    }
}

/// Reads one head, in as many pieces as it comes.
#[derive(Debug)]
pub struct RequestReader {
    bounds: Bounds,
    empty_lines: usize,
    section: Section,
    /// Empty lines skipped.
    skipped: usize,
    begun: bool,
}

impl RequestReader {
    /// For the next head.
    pub fn new(limits: &Limits) -> Self {
        Self {
            bounds: Bounds { bytes: limits.head_bytes, fields: limits.fields },
            empty_lines: limits.empty_lines,
            section: Section::default(),
            skipped: 0,
            begun: false,
        }
    }

    /// Whether the request line was read.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Reads on. `input` begins with the head's first byte each time. When the head is complete, `head` describes it, the answer is its
    /// length, and the reader is as new. `None`: the same bytes are wanted again, with more behind them.
    ///
    /// # Errors
    /// What is refused, and with it the rest of the connection. The same bytes are refused for the same reason however they were
    /// cut.
    pub fn read(&mut self, input: &[u8], head: &mut RequestHead) -> Result<Option<usize>, Refusal> {
        if !self.begun && !self.begin(input, head)? {
            return Ok(None);
        }
        loop {
            match self.section.next(input, self.bounds)? {
                Found::Incomplete => return Ok(None),
                Found::Field(field) => {
                    if let Some(known) = field.known.filter(|known| FRAMING.contains(*known)) {
                        head.facts.of_request(known, field.value.of(input))?;
                    }
                    if head.fields.len() >= self.bounds.fields {
                        return Err(Refusal::Headers);
                    }
                    head.fields.push(field);
                }
                Found::End(length) => {
                    head.body = head.facts.request_body(head.version)?;
                    (self.section, self.skipped, self.begun) = (Section::default(), 0, false);
                    return Ok(Some(length));
                }
            }
        }
    }

    /// Reads the request line, and empty lines before it; false: it is not complete.
    fn begin(&mut self, input: &[u8], head: &mut RequestHead) -> Result<bool, Refusal> {
        head.clear();
        loop {
            let at = self.section.line;
            // What is no HTTP/1 at all (a TLS hello, say) need not wait for an end of line.
            if input.get(at).is_some_and(|byte| !is_token(*byte) && !matches!(byte, b'\r' | b'\n')) {
                return Err(Refusal::Malformed("this is not an HTTP request"));
            }
            let Some(end) = self.section.line_end(input, self.bounds)? else { return Ok(false) };
            let line = &input[at..end];
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(Refusal::Malformed("a line ends with LF alone"));
            };
            self.section = Section::at(end + 1);
            if line.is_empty() {
                self.skipped += 1;
                if self.skipped > self.empty_lines {
                    return Err(Refusal::Malformed("there is no request line"));
                }
                continue;
            }
            request_line(&input[..end], at, head)?;
            self.begun = true;
            return Ok(true);
        }
    }
}

/// Reads the request line from `at` to the CR with which `input` ends.
fn request_line(input: &[u8], at: usize, head: &mut RequestHead) -> Result<(), Refusal> {
    let rest = &input[at..];
    let blank = rest.iter().position(|byte| !is_token(*byte)).unwrap_or(rest.len());
    let (method, begin) = (at..at + blank, at + blank + 1);
    if blank > 0 && input.get(begin - 1) == Some(&b' ') {
        head.method = Span::new(method.clone());
        let connect = &input[method] == b"CONNECT";
        if let Some((target, end)) = Target::read(input, begin, connect)
            && input.get(end) == Some(&b' ')
            && let Some(version) = input.get(end + 1..input.len() - 1).and_then(Version::read)
        {
            (head.target, head.version) = (target, version);
            return Ok(());
        }
    }
    Err(Refusal::Malformed(wrong(&rest[..rest.len() - 1])))
}

/// What is wrong with a request line.
fn wrong(line: &[u8]) -> &'static str {
    const LINE: &str = "the request line is malformed";
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return LINE;
    };
    if !token(method) || target.is_empty() || target.iter().any(|byte| !is_target(*byte) || is_blank(*byte)) {
        return LINE;
    }
    if Version::read(version).is_none() {
        return "this version of HTTP is not spoken here";
    }
    "the request target is malformed"
}
