//! Bodies: which of the bytes that come are data, which frame it, and where it ends. And what frames a body that is written.

use crate::{
    BodyLength, Index, Limits, Refusal,
    chunked::Size,
    section::{Bounds, Found, Section},
};

/// What the bytes at the front of the input are. The caller takes them from the input before it asks again, but for
/// [`Part::More`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// So many bytes of the body, at least one.
    Data(usize),
    /// So many bytes that frame chunks: the end of a chunk, the size of the next one.
    Framing {
        /// Bytes, at least one.
        length: usize,
        /// They may be sent on as they are: digits and CR LF, without extensions.
        plain: bool,
    },
    /// Nothing can be said before more comes. What is there is shown again, with more behind it: at most a chunk's line, or the
    /// trailers so far.
    More,
    /// The body has ended; so many bytes of its trailer section go with it. From now on the answer is the same with no byte.
    End(usize),
}

/// Reads one body.
#[derive(Debug)]
pub struct BodyReader {
    limits: Limits,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Bytes left.
    Length(u64),
    Size(Size),
    /// Bytes left of a chunk.
    Chunk(u64),
    Trailers(Section),
    UntilClose,
    Ended,
}

impl BodyReader {
    /// For a body of this length.
    pub fn new(length: BodyLength, limits: &Limits) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Ended,
            BodyLength::Length(length) => State::Length(length),
            BodyLength::Chunked => State::Size(Size::first()),
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { limits: *limits, state }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Bytes of data that must come at least: of a length what is left of it, of chunks what is left of the present one.
    pub fn left(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Chunk(left) => left,
            _ => 0,
        }
    }

    /// Says what is at the front of `input`. The fields of the trailer section are put into `trailers`, as offsets from its first byte,
    /// with which `input` begins when the answer is [`Part::End`].
    ///
    /// # Errors
    /// What is refused, and with it the rest of the connection.
    pub fn next(&mut self, input: &[u8], trailers: &mut Index) -> Result<Part, Refusal> {
        match &mut self.state {
            State::Ended => Ok(Part::End(0)),
            _ if input.is_empty() => Ok(Part::More),
            State::UntilClose => Ok(Part::Data(input.len())),
            State::Length(left) => {
                let count = take(left, input);
                if *left == 0 {
                    self.state = State::Ended;
                }
                Ok(Part::Data(count))
            }
            State::Chunk(left) => {
                let count = take(left, input);
                if *left == 0 {
                    self.state = State::Size(Size::next());
                }
                Ok(Part::Data(count))
            }
            State::Size(size) => {
                let Some(chunk) = size.read(input, &self.limits)? else { return Ok(Part::More) };
                let (length, plain) = (size.seen, !size.extended);
                self.state = match chunk {
                    0 => {
                        trailers.clear();
                        State::Trailers(Section::default())
                    }
                    chunk => State::Chunk(chunk),
                };
                Ok(Part::Framing { length, plain })
            }
            State::Trailers(section) => {
                let bounds = Bounds { bytes: self.limits.trailer_bytes, fields: self.limits.trailer_fields };
                let Some(length) = read_trailers(section, input, bounds, trailers)? else { return Ok(Part::More) };
                self.state = State::Ended;
                Ok(Part::End(length))
            }
        }
    }

    /// The peer sends no more.
    ///
    /// # Errors
    /// When bytes of the body are missing.
    pub fn end_of_input(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::UntilClose | State::Ended => {
                self.state = State::Ended;
                Ok(())
            }
            _ => Err(Refusal::Malformed("the request ended before its body was complete")),
        }
    }
}

/// The bytes of `input` that are of what is left.
fn take(left: &mut u64, input: &[u8]) -> usize {
    // saturates: what is longer than memory is longer than the input.
    let count = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= count as u64;
    count
}

fn read_trailers(
    section: &mut Section,
    input: &[u8],
    bounds: Bounds,
    trailers: &mut Index,
) -> Result<Option<usize>, Refusal> {
    loop {
        let found = section.next(input, bounds).map_err(|refusal| match refusal {
            Refusal::Malformed(_) => Refusal::Malformed("a trailer field is malformed"),
            over => over,
        })?;
        match found {
            Found::Incomplete => return Ok(None),
            Found::End(length) => return Ok(Some(length)),
            Found::Field(_) if trailers.len() >= bounds.fields => return Err(Refusal::Headers),
            Found::Field(field) => trailers.push(field),
        }
    }
}

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The last chunk's size, before trailers.
pub const LAST_SIZE: &[u8] = b"0\r\n";
/// The end of a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The line before a chunk's data: its size.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    bytes: [u8; ChunkHead::ROOM],
    begin: usize,
}

impl ChunkHead {
    const ROOM: usize = 18;

    /// For so many bytes of data, at least one: a chunk of none ends the body.
    pub fn new(size: u64) -> Self {
        debug_assert!(size > 0, "an empty chunk is the last one");
        let mut head = Self { bytes: [0; Self::ROOM], begin: Self::ROOM - 2 };
        head.bytes[Self::ROOM - 2..].copy_from_slice(b"\r\n");
        let mut left = size;
        loop {
            head.begin -= 1;
            head.bytes[head.begin] = b"0123456789abcdef"[(left & 15) as usize];
            left >>= 4;
            if left == 0 {
                return head;
            }
        }
    }

    /// As it is written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hexadecimal() {
        for (size, line) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (u64::MAX, "ffffffffffffffff\r\n")] {
            assert_eq!(ChunkHead::new(size).as_bytes(), line.as_bytes());
        }
    }
}
