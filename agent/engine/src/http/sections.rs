//! Reads an HTTP/2 client's frames before the HTTP/2 library does, and refuses what that forgives: a first frame that is not
//! SETTINGS (RFC 9113, 3.4), a fragment in `:path` (8.3.1), pseudo-header fields in trailers (8.1). Header sections are passed
//! on only when they are complete, and everything else as it comes.

#[cfg(test)]
mod property;

use super::hpack::Decoder;

/// Length of a frame's header (RFC 9113, 4.1).
const HEADER: usize = 9;
/// Longest payload that a client may send, as SETTINGS_MAX_FRAME_SIZE is not changed here.
const LONGEST: usize = 16 * 1024;
/// `HEADERS`.
const HEADERS: u8 = 1;
/// `SETTINGS`.
const SETTINGS: u8 = 4;
/// `CONTINUATION`.
const CONTINUATION: u8 = 9;
/// `END_HEADERS`, in `HEADERS` and `CONTINUATION`.
const END_HEADERS: u8 = 4;
/// `PADDED` and `PRIORITY`, in `HEADERS`.
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
/// Length of the fields of a priority.
const PRIORITY_FIELDS: usize = 5;

/// `DATA` of no stream, which is a connection error of type PROTOCOL_ERROR (RFC 9113, 6.1): given to the library in place of
/// what is refused, so that it says so to the client and ends the connection.
pub(super) const STAND_IN: &[u8] = &[0; HEADER];

/// Where the reader is.
#[derive(Debug)]
pub(super) struct Sections {
    /// Bytes of a header section that is not complete yet.
    most: usize,
    /// The first frame was SETTINGS.
    begun: bool,
    /// The highest stream of a request so far.
    last: u32,
    /// Bytes left of a frame that is passed on as it comes.
    payload: usize,
    /// Bytes of an incomplete header section that were looked at.
    walked: usize,
    decoder: Decoder,
}

/// The client's bytes are no HTTP/2 from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Sections {
    /// For a new connection, whose preface was read; `most`: bytes of a header section as it was decoded.
    pub(super) fn new(most: usize) -> Self {
        // What is compressed is hardly ever longer.
        let most = most.saturating_mul(2) + LONGEST;
        Self { most, begun: false, last: 0, payload: 0, walked: 0, decoder: Decoder::default() }
    }

    /// Reads on: how many bytes may be passed on. The others are to be given again, with more behind them, unless they are
    /// refused.
    pub(super) fn scan(&mut self, input: &[u8]) -> (usize, Result<(), Malformed>) {
        let mut at = 0;
        while at < input.len() {
            match self.step(&input[at..]) {
                Ok(0) => break,
                Ok(count) => at += count,
                Err(malformed) => return (at, Err(malformed)),
            }
        }
        (at, Ok(()))
    }

    /// Some of the input, which is not empty; 0: more is needed.
    fn step(&mut self, input: &[u8]) -> Result<usize, Malformed> {
        if self.payload > 0 {
            let count = self.payload.min(input.len());
            self.payload -= count;
            return Ok(count);
        }
        let Some(frame) = Frame::read(input) else { return Ok(0) };
        if !self.begun {
            if frame.kind != SETTINGS {
                return Err(Malformed);
            }
            self.begun = true;
        }
        if frame.kind == HEADERS && frame.length <= LONGEST {
            return self.section(input, frame);
        }
        // A frame that is too long, or out of place, is refused by the library.
        self.payload = frame.length;
        Ok(HEADER)
    }

    /// A header section, which `input` begins with: its length once all of it is there.
    fn section(&mut self, input: &[u8], first: Frame) -> Result<usize, Malformed> {
        let mut walked = self.walked.max(HEADER + first.length);
        let mut ended = self.walked == 0 && first.ends;
        while !ended {
            let Some(next) = input.get(walked..).and_then(Frame::read) else { break };
            if next.kind != CONTINUATION || next.stream != first.stream || next.length > LONGEST {
                return Err(Malformed);
            }
            walked += HEADER + next.length;
            ended = next.ends;
        }
        if walked > self.most {
            return Err(Malformed);
        }
        if !ended || input.len() < walked {
            // What is known of the last frame is read again.
            if !ended {
                self.walked = walked;
            }
            return Ok(0);
        }
        self.walked = 0;
        self.check(&input[..walked], first)?;
        Ok(walked)
    }

    fn check(&mut self, section: &[u8], first: Frame) -> Result<(), Malformed> {
        let fragment = first.fragment(&section[HEADER..HEADER + first.length]).ok_or(Malformed)?;
        let joined;
        let block = if first.ends {
            fragment
        } else {
            let mut all = fragment.to_vec();
            let mut rest = &section[HEADER + first.length..];
            while let Some(next) = Frame::read(rest) {
                all.extend_from_slice(&rest[HEADER..HEADER + next.length]);
                rest = &rest[HEADER + next.length..];
            }
            joined = all;
            &joined
        };
        // Streams of requests have growing numbers (RFC 9113, 5.1.1); a second section of one has the trailers.
        let trailers = first.stream <= self.last;
        self.last = self.last.max(first.stream);
        let mut sound = true;
        let read = self.decoder.read(block, |field| {
            // guard: fragment-and-pseudo-trailers
            sound &= !(field.has_fragment() || trailers && field.is_pseudo());
        });
        read.filter(|()| sound).ok_or(Malformed)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    /// `END_HEADERS`.
    ends: bool,
}

impl Frame {
    fn read(input: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *input.first_chunk::<HEADER>()?;
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Self { length, kind, flags, stream, ends: flags & END_HEADERS != 0 })
    }

    /// What a payload of `HEADERS` has of the section (RFC 9113, 6.2).
    fn fragment(self, mut payload: &[u8]) -> Option<&[u8]> {
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            let (length, rest) = payload.split_first()?;
            (padding, payload) = (usize::from(*length), rest);
        }
        if self.flags & PRIORITY != 0 {
            payload = payload.get(PRIORITY_FIELDS..)?;
        }
        payload.get(..payload.len().checked_sub(padding)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    fn settings() -> Vec<u8> {
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])
    }

    /// Gives the bytes in two pieces: how many were passed on in all.
    fn passed(bytes: &[u8], cut: usize) -> (usize, Result<(), Malformed>) {
        let mut sections = Sections::new(1024);
        let (first, refused) = sections.scan(&bytes[..cut]);
        if refused.is_err() {
            return (first, refused);
        }
        let (second, refused) = sections.scan(&bytes[first..]);
        (first + second, refused)
    }

    const REQUEST: &[u8] = b"\x82\x86\x44\x02/a\x41\x01h";
    const SUM: &[u8] = b"\x00\x05x-sum\x011";

    #[test]
    fn what_is_sound_passes_in_any_cut() {
        let bytes = [
            settings(),
            frame(HEADERS, 0, 1, &REQUEST[..4]),
            frame(CONTINUATION, 0, 1, &REQUEST[4..5]),
            frame(CONTINUATION, END_HEADERS, 1, &REQUEST[5..]),
            frame(0, 0, 1, b"hello"),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 3, &[b"\x03\0\0\0\0\0", REQUEST, b"###"].concat()),
            frame(HEADERS, END_HEADERS | 1, 1, SUM),
            frame(6, 0, 0, b"pingpong"),
        ]
        .concat();
        for cut in 0..=bytes.len() {
            assert_eq!(passed(&bytes, cut), (bytes.len(), Ok(())), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_refused_is_not_passed_on_in_any_cut() {
        let request = frame(HEADERS, END_HEADERS, 1, REQUEST);
        for (before, refused) in [
            (vec![], frame(6, 0, 0, b"pingpong")),
            (vec![], request.clone()),
            (settings(), frame(HEADERS, END_HEADERS, 1, b"\x82\x86\x44\x04/a#b\x41\x01h")),
            (
                settings(),
                [frame(HEADERS, 0, 1, b"\x82\x86\x44\x04/a"), frame(CONTINUATION, END_HEADERS, 1, b"#b\x41\x01h")]
                    .concat(),
            ),
            ([settings(), request.clone()].concat(), frame(HEADERS, END_HEADERS | 1, 1, b"\x84")),
            ([settings(), request.clone()].concat(), frame(HEADERS, END_HEADERS | 1, 1, &[SUM, b"\x84"].concat())),
            (settings(), [frame(HEADERS, 0, 1, REQUEST), frame(6, 0, 0, b"pingpong")].concat()),
            (settings(), [frame(HEADERS, 0, 1, REQUEST), frame(CONTINUATION, END_HEADERS, 3, SUM)].concat()),
            (settings(), frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09\x82")),
            (settings(), frame(HEADERS, END_HEADERS, 1, b"\x80")),
        ] {
            let bytes = [&before[..], &refused].concat();
            for cut in 0..=bytes.len() {
                assert_eq!(passed(&bytes, cut), (before.len(), Err(Malformed)), "{refused:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_section_without_end_is_refused() {
        let mut sections = Sections::new(1024);
        let mut bytes = [settings(), frame(HEADERS, 0, 1, REQUEST)].concat();
        let mut refused = false;
        for _ in 0..10 {
            bytes.extend(frame(CONTINUATION, 0, 1, &[b'a'; 4_000]));
            let (count, scanned) = sections.scan(&bytes);
            bytes.drain(..count);
            refused |= scanned.is_err();
        }
        assert!(refused && bytes.len() < 50_000);
    }
}
