//! Bytes that wait for the client's socket: heads and small pieces joined, one large piece as it came, and what follows it. Pure.

use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// A piece of a body that is shorter is joined with what is before it, bytes.
const SMALL: usize = 2 * 1024;
/// Joined bytes behind which no more are taken before they are written.
const FULL: usize = 16 * 1024;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Joined bytes, of which so many were written.
    joined: BytesMut,
    written: usize,
    large: Bytes,
    last: &'static [u8],
}

impl Output {
    /// Whether all was written.
    pub(super) fn is_empty(&self) -> bool {
        self.written == self.joined.len() && self.large.is_empty() && self.last.is_empty()
    }

    /// Whether more is taken now.
    pub(super) fn is_open(&self) -> bool {
        self.large.is_empty() && self.last.is_empty() && self.joined.len() < FULL
    }

    /// Whether a large piece waits: what ends the message may still be put behind it.
    pub(super) fn has_large(&self) -> bool {
        !self.large.is_empty()
    }

    /// Where bytes are joined.
    pub(super) fn joined(&mut self) -> &mut BytesMut {
        debug_assert!(self.large.is_empty() && self.last.is_empty(), "bytes keep their order");
        &mut self.joined
    }

    /// A piece of a body, and what is written behind it.
    pub(super) fn put(&mut self, piece: Bytes, last: &'static [u8]) {
        let joined = self.joined();
        if piece.len() < SMALL {
            joined.extend_from_slice(&piece);
            joined.extend_from_slice(last);
        } else {
            (self.large, self.last) = (piece, last);
        }
    }

    /// What follows all that there is, and ends the message: `last`, or `with_piece` in place of what was to follow a large piece.
    /// More is taken now, or a large piece waits.
    pub(super) fn put_last(&mut self, last: &'static [u8], with_piece: &'static [u8]) {
        if self.large.is_empty() {
            self.joined().extend_from_slice(last);
        } else {
            self.last = with_piece;
        }
    }

    /// What is to be written, at least one slice of them.
    pub(super) fn slices(&self) -> ([IoSlice<'_>; 3], usize) {
        let mut slices = [IoSlice::new(&[]); 3];
        let mut count = 0;
        for part in [&self.joined[self.written..], &self.large, self.last] {
            if !part.is_empty() {
                slices[count] = IoSlice::new(part);
                count += 1;
            }
        }
        (slices, count)
    }

    /// So many bytes were written.
    pub(super) fn wrote(&mut self, count: usize) {
        let joined = count.min(self.joined.len() - self.written);
        self.written += joined;
        if self.written == self.joined.len() {
            self.joined.clear();
            self.written = 0;
        }
        let large = (count - joined).min(self.large.len());
        self.large.advance(large);
        self.last = &self.last[count - joined - large..];
    }

    /// Takes a buffer to join bytes in, unless it has one.
    pub(super) fn lend(&mut self, buffer: impl FnOnce() -> BytesMut) {
        if self.joined.capacity() == 0 {
            self.joined = buffer();
        }
    }

    /// Gives the buffer back, unless bytes are in it.
    pub(super) fn give_back(&mut self) -> Option<BytesMut> {
        let free = self.joined.is_empty() && self.joined.capacity() > 0;
        free.then(|| std::mem::take(&mut self.joined))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes everything, so many bytes at once; what came out.
    fn drain(output: &mut Output, at_once: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !output.is_empty() {
            let (slices, count) = output.slices();
            let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            let written = all.len().min(at_once);
            out.extend_from_slice(&all[..written]);
            output.wrote(written);
        }
        assert!(output.is_open());
        out
    }

    #[test]
    fn bytes_keep_their_order_however_they_are_written() {
        let large = vec![b'x'; SMALL];
        for at_once in [1, 7, SMALL, usize::MAX] {
            let mut output = Output::default();
            output.joined().extend_from_slice(b"head");
            output.put(Bytes::from_static(b"small"), b"\r\n");
            assert!(output.is_open());
            output.put(large.clone().into(), b"\r\n");
            assert!(!output.is_open());
            output.put_last(b"end", b"\r\nend");
            let expected = [b"headsmall\r\n", &large[..], b"\r\nend"].concat();
            assert_eq!(drain(&mut output, at_once), expected, "{at_once} at once");
            output.put(Bytes::from_static(b"a"), b"");
            output.put_last(b"end", b"");
            assert_eq!(drain(&mut output, at_once), b"aend");
        }
    }

    #[test]
    fn no_more_is_joined_than_there_is_room_for() {
        let mut output = Output::default();
        let mut count = 0;
        while output.is_open() {
            output.put(Bytes::from(vec![7; SMALL - 1]), b"");
            count += SMALL - 1;
        }
        assert!((FULL..FULL + SMALL).contains(&count));
        assert!(output.give_back().is_none());
        drain(&mut output, 1_000);
        assert!(output.give_back().is_some() && output.give_back().is_none());
    }
}
