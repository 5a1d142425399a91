//! The lines of a request's head, one at a time.

use brattice_router::fields::{length, trim};

use super::refusal::Refusal;

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const TARGET: u8 = 4;

/// Classes of bytes: of a token (RFC 9110, 5.6.2), of a field value (5.5), of a request target: no fragment, which
/// a client keeps to itself; what else may not be there is looked at when path and query are known.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let mut of = 0;
        if b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            of |= TOKEN;
        }
        if b == b'\t' || b >= b' ' && b != 0x7f {
            of |= VALUE;
        }
        if b > b' ' && b != 0x7f && b != b'#' {
            of |= TARGET;
        }
        class[byte] = of;
        byte += 1;
    }
    class
};

/// Whether a byte may be part of a token: a method or a field name.
pub(super) fn is_token(byte: u8) -> bool {
    CLASS[usize::from(byte)] & TOKEN != 0
}

/// Whether a byte may be part of a field value: no control character but the tab.
pub(super) fn is_value(byte: u8) -> bool {
    CLASS[usize::from(byte)] & VALUE != 0
}

/// Whether a request can begin with this byte: a method, or an empty line before it.
pub(super) fn is_start(byte: u8) -> bool {
    is_token(byte) || byte == b'\r'
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|byte| CLASS[usize::from(*byte)] & class != 0)
}

/// What the lines so far say about the framing of the message.
#[derive(Debug, Default)]
pub(super) struct Fields {
    count: usize,
    version_10: bool,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Fields {
    /// Header fields so far.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// `Content-Length`.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// `Transfer-Encoding: chunked`.
    pub(super) fn chunked(&self) -> bool {
        self.chunked
    }

    /// Whether the request offers another protocol, which only one of HTTP/1.1 without a body may do here: a body would
    /// stand between the request and the other protocol.
    pub(super) fn offers(&self) -> bool {
        self.upgrade && !self.version_10 && !self.chunked && self.length.unwrap_or_default() == 0
    }

    /// The first line, without its end.
    pub(super) fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let malformed = Refusal::Malformed("the request line is malformed");
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed);
        };
        if method.is_empty() || !all(method, TOKEN) || target.is_empty() || !all(target, TARGET) {
            return Err(malformed);
        }
        match version {
            b"HTTP/1.1" => self.version_10 = false,
            b"HTTP/1.0" => self.version_10 = true,
            _ => return Err(Refusal::Malformed("this version of HTTP is not spoken here")),
        }
        Ok(())
    }

    /// A field line, without its end.
    pub(super) fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.count += 1;
        let Some(colon) = memchr::memchr(b':', line) else {
            return Err(Refusal::Malformed("a header field has no colon"));
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if matches!(line[0], b' ' | b'\t') {
            return Err(Refusal::Malformed("a header field is folded"));
        }
        if name.is_empty() || !all(name, TOKEN) {
            return Err(Refusal::Malformed("the name of a header field is malformed"));
        }
        if !all(value, VALUE) {
            return Err(Refusal::Malformed("the value of a header field has a control character"));
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::Malformed("there are several content lengths"));
                }
                self.length = Some(length(trim(value)).ok_or(Refusal::Malformed("the content length is malformed"))?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !trim(value).eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Malformed("the transfer encoding is not exactly chunked"));
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// The end of the head.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        // guard: length-and-chunked
        if self.chunked && self.length.is_some() {
            return Err(Refusal::Malformed("there are a transfer encoding and a content length"));
        }
        if self.chunked && self.version_10 {
            return Err(Refusal::Malformed("HTTP/1.0 has no transfer encoding"));
        }
        if self.hosts > 1 || self.hosts == 0 && !self.version_10 {
            return Err(Refusal::Malformed("there is not exactly one Host field"));
        }
        Ok(())
    }
}
