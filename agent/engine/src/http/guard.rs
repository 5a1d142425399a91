//! The strict reader in front of the HTTP/1 parser.
//!
//! hyper and httparse forgive what RFC 9112 lets a recipient forgive: bare LF, `Transfer-Encoding` next to
//! `Content-Length`, white space in odd places. Two parsers in a row that forgive different things are how requests are
//! smuggled, so the guard refuses all of it before a parser sees it. It follows the framing of every message (head,
//! body by length, chunks, trailers), passes heads on only when they are complete, and everything else as it comes.

use super::{
    fields::{self, Fields},
    refusal::Refusal,
};

/// Longest line with a chunk's size and extensions, bytes.
const CHUNK_LINE: usize = 256;
/// Digits of a chunk's size: 15 hold any length below 2^60, far from the end of u64.
const CHUNK_DIGITS: usize = 15;
/// Heads passed on at once: a parser deals with all that it is given before others have their turn.
const HEADS: u64 = 8;
/// Empty lines before a request line that are skipped (RFC 9112, 2.2 asks for at least one).
const EMPTY_LINES: usize = 2;

/// How long and how many the header fields of a request, and its trailers, may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a header section, request line included; the same again for trailers.
    pub bytes: usize,
    /// Fields of a header section; the same again for trailers.
    pub fields: usize,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Guard {
    bounds: Bounds,
    phase: Phase,
    /// Heads passed on.
    heads: u64,
    /// The latest of them offers another protocol: what follows may be no HTTP.
    offered: bool,
}

#[derive(Debug)]
enum Phase {
    Head(Head),
    /// Bytes left of a body with a length.
    Length(u64),
    /// In the line before a chunk: bytes of it so far, digits so far, the size so far.
    Size {
        line: usize,
        digits: usize,
        size: u64,
        part: SizePart,
    },
    /// Bytes left of a chunk.
    Chunk(u64),
    /// After a chunk: CR, then LF.
    ChunkCr,
    ChunkLf,
    Trailers(Trailers),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SizePart {
    Digits,
    Extension,
    Lf,
}

/// A head that is not complete yet. Offsets count from its first byte.
#[derive(Debug, Default)]
struct Head {
    /// Where the first line begins that was not read yet.
    line: usize,
    /// From here on there may be an LF.
    searched: usize,
    /// Lines skipped before the request line.
    skipped: usize,
    begun: bool,
    fields: Fields,
}

#[derive(Debug, Default)]
struct Trailers {
    bytes: usize,
    fields: usize,
    part: TrailerPart,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum TrailerPart {
    #[default]
    Start,
    Name,
    Value,
    Lf,
    LastLf,
}

/// What became of the bytes given to [`Guard::scan`].
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// This many may be passed on.
    pub accepted: usize,
    /// What follows them may be passed on as well, after others had their turn: there are many heads.
    pub more: bool,
    /// What follows them is refused, and with it the rest of the connection.
    pub refused: Option<Refusal>,
}

impl Guard {
    /// For a new connection.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, phase: Phase::Head(Head::default()), heads: 0, offered: false }
    }

    /// Heads that were passed on.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte belongs to a head (also when some of it was seen already).
    pub fn in_head(&self) -> bool {
        matches!(self.phase, Phase::Head(_))
    }

    /// Whether the latest head offers another protocol (`Upgrade`). Nothing behind it is read until
    /// [`Guard::go_on`]: it is HTTP only if the offer is not taken.
    pub fn offered(&self) -> bool {
        self.offered
    }

    /// The offer was not taken: what follows is HTTP.
    pub fn go_on(&mut self) {
        self.offered = false;
    }

    /// Reads on. Bytes that were not accepted are to be given again, with more after them, unless they are refused.
    pub fn scan(&mut self, input: &[u8]) -> Scan {
        let mut at = 0;
        let last = self.heads + HEADS;
        while at < input.len() && !self.offered {
            if self.heads == last && self.in_head() {
                return Scan { accepted: at, more: true, refused: None };
            }
            match self.step(&input[at..]) {
                Ok(0) => break,
                Ok(count) => at += count,
                Err((count, refusal)) => return Scan { accepted: at + count, more: false, refused: Some(refusal) },
            }
        }
        Scan { accepted: at, more: false, refused: None }
    }

    /// Some of the input, which is not empty; 0: more is needed.
    fn step(&mut self, input: &[u8]) -> Result<usize, (usize, Refusal)> {
        match &mut self.phase {
            Phase::Head(head) => {
                let Some(length) = head.read(input, self.bounds).map_err(|refusal| (0, refusal))? else { return Ok(0) };
                self.heads += 1;
                self.offered = head.fields.offers();
                self.phase = match head.fields.length() {
                    _ if head.fields.chunked() => Phase::size(),
                    Some(length) if length > 0 => Phase::Length(length),
                    _ => Phase::Head(Head::default()),
                };
                Ok(length)
            }
            Phase::Length(left) => {
                let count = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                if *left == 0 {
                    self.phase = Phase::Head(Head::default());
                }
                Ok(count)
            }
            Phase::Chunk(left) => {
                let count = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                if *left == 0 {
                    self.phase = Phase::ChunkCr;
                }
                Ok(count)
            }
            _ => self.byte(input[0]).map(|()| 1).map_err(|what| (0, what)),
        }
    }

    /// One byte of what frames chunks.
    fn byte(&mut self, byte: u8) -> Result<(), Refusal> {
        match &mut self.phase {
            Phase::Size { line, digits, size, part } => {
                *line += 1;
                if *line > CHUNK_LINE {
                    return Err(Refusal::Malformed("a chunk's extensions are too long"));
                }
                match (*part, byte) {
                    (SizePart::Digits, byte) if byte.is_ascii_hexdigit() => {
                        *digits += 1;
                        if *digits > CHUNK_DIGITS {
                            return Err(Refusal::Malformed("a chunk's size has too many digits"));
                        }
                        let value = char::from(byte).to_digit(16).unwrap_or_default();
                        *size = *size << 4 | u64::from(value);
                    }
                    (SizePart::Digits, b';') if *digits > 0 => *part = SizePart::Extension,
                    (SizePart::Digits | SizePart::Extension, b'\r') if *digits > 0 => *part = SizePart::Lf,
                    (SizePart::Extension, byte) if fields::is_value(byte) => {}
                    (SizePart::Lf, b'\n') => {
                        self.phase = match *size {
                            0 => Phase::Trailers(Trailers::default()),
                            size => Phase::Chunk(size),
                        };
                    }
                    _ => return Err(Refusal::Malformed("a chunk's size is malformed")),
                }
                Ok(())
            }
            Phase::ChunkCr if byte == b'\r' => {
                self.phase = Phase::ChunkLf;
                Ok(())
            }
            Phase::ChunkLf if byte == b'\n' => {
                self.phase = Phase::size();
                Ok(())
            }
            Phase::Trailers(trailers) => {
                if trailers.byte(byte, self.bounds)? {
                    self.phase = Phase::Head(Head::default());
                }
                Ok(())
            }
            _ => Err(Refusal::Malformed("a chunk does not end where its size says")),
        }
    }
}

impl Phase {
    fn size() -> Self {
        Self::Size { line: 0, digits: 0, size: 0, part: SizePart::Digits }
    }
}

impl Head {
    /// The length of the head once `input`, which begins with it, holds all of it.
    fn read(&mut self, input: &[u8], bounds: Bounds) -> Result<Option<usize>, Refusal> {
        loop {
            let Some(found) = memchr::memchr(b'\n', &input[self.searched..]) else {
                self.searched = input.len();
                if input.len() > bounds.bytes {
                    return Err(Refusal::HeaderBytes);
                }
                // What is no HTTP/1 at all (a TLS hello, say) need not wait for an end of line.
                if !self.begun && self.line < input.len() && !fields::is_start(input[self.line]) {
                    return Err(Refusal::Malformed("this is not an HTTP request"));
                }
                return Ok(None);
            };
            let end = self.searched + found;
            if end >= bounds.bytes {
                return Err(Refusal::HeaderBytes);
            }
            let line = &input[self.line..end];
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(Refusal::Malformed("a line ends with LF alone"));
            };
            self.line = end + 1;
            self.searched = self.line;
            match (line.is_empty(), self.begun) {
                (true, false) => {
                    self.skipped += 1;
                    if self.skipped > EMPTY_LINES {
                        return Err(Refusal::Malformed("there is no request line"));
                    }
                }
                (true, true) => {
                    self.fields.finish()?;
                    return Ok(Some(self.line));
                }
                (false, false) => {
                    self.fields.request_line(line)?;
                    self.begun = true;
                }
                (false, true) => {
                    self.fields.field(line)?;
                    if self.fields.count() > bounds.fields {
                        return Err(Refusal::Headers);
                    }
                }
            }
        }
    }
}

impl Trailers {
    /// One byte; true: that was the last one of the message.
    fn byte(&mut self, byte: u8, bounds: Bounds) -> Result<bool, Refusal> {
        self.bytes += 1;
        if self.bytes > bounds.bytes {
            return Err(Refusal::HeaderBytes);
        }
        self.part = match (self.part, byte) {
            (TrailerPart::Start, b'\r') => TrailerPart::LastLf,
            (TrailerPart::LastLf, b'\n') => return Ok(true),
            (TrailerPart::Start, byte) if fields::is_token(byte) => {
                self.fields += 1;
                if self.fields > bounds.fields {
                    return Err(Refusal::Headers);
                }
                TrailerPart::Name
            }
            (TrailerPart::Name, byte) if fields::is_token(byte) => TrailerPart::Name,
            (TrailerPart::Name, b':') => TrailerPart::Value,
            (TrailerPart::Value, b'\r') => TrailerPart::Lf,
            (TrailerPart::Value, byte) if fields::is_value(byte) => TrailerPart::Value,
            (TrailerPart::Lf, b'\n') => TrailerPart::Start,
            _ => return Err(Refusal::Malformed("a trailer field is malformed")),
        };
        Ok(false)
    }
}
