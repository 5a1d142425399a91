//! What frames chunks (RFC 9112, 7.1): sizes, extensions, the ends of chunks.

use crate::{Refusal, limits::Limits, octets::is_value};

/// Follows the bytes between two chunks' data, byte by byte: each is looked at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    part: Part,
    /// Bytes of the line, digits, and the size, so far.
    line: usize,
    digits: usize,
    size: u64,
    /// Bytes that were looked at, the end of the chunk before included.
    pub(crate) seen: usize,
    /// There is an extension.
    pub(crate) extended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The CR and LF of the chunk before.
    Cr,
    Lf,
    Digits,
    Extension,
    LineLf,
}

impl Size {
    /// The size of the first chunk.
    pub(crate) fn first() -> Self {
        Self { part: Part::Digits, line: 0, digits: 0, size: 0, seen: 0, extended: false }
    }

    /// The end of a chunk and the size of the next one.
    pub(crate) fn next() -> Self {
        Self { part: Part::Cr, ..Self::first() }
    }

    /// Reads on; the size, once its line is complete.
    pub(crate) fn read(&mut self, input: &[u8], limits: &Limits) -> Result<Option<u64>, Refusal> {
        while let Some(byte) = input.get(self.seen) {
            self.seen += 1;
            if self.byte(*byte, limits)? {
                return Ok(Some(self.size));
            }
        }
        Ok(None)
    }

    /// One byte; true: it is the last one of the line.
    fn byte(&mut self, byte: u8, limits: &Limits) -> Result<bool, Refusal> {
        match (self.part, byte) {
            (Part::Cr, b'\r') => {
                self.part = Part::Lf;
                return Ok(false);
            }
            (Part::Lf, b'\n') => {
                self.part = Part::Digits;
                return Ok(false);
            }
            (Part::Cr | Part::Lf, _) => {
                return Err(Refusal::Malformed("a chunk does not end where its size says"));
            }
            _ => {}
        }
        self.line += 1;
        if self.line > limits.chunk_line {
            return Err(Refusal::Malformed("a chunk's extensions are too long"));
        }
        match (self.part, byte) {
            (Part::Digits, byte) if byte.is_ascii_hexdigit() => {
                self.digits += 1;
                if self.digits > limits.chunk_digits.min(DIGITS) {
                    return Err(Refusal::Malformed("a chunk's size has too many digits"));
                }
                self.size = self.size << 4 | u64::from(char::from(byte).to_digit(16).unwrap_or_default());
            }
            (Part::Digits, b';') if self.digits > 0 => {
                self.part = Part::Extension;
                self.extended = true;
            }
            (Part::Digits | Part::Extension, b'\r') if self.digits > 0 => self.part = Part::LineLf,
            (Part::Extension, byte) if is_value(byte) => {}
            (Part::LineLf, b'\n') => return Ok(true),
            _ => return Err(Refusal::Malformed("a chunk's size is malformed")),
        }
        Ok(false)
    }
}

/// Digits of a size that cannot exceed what a length may be.
const DIGITS: usize = 15;
