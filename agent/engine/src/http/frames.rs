//! Follows the frames of HTTP/2, to know whether a header section is incomplete and how many frames carry nothing.

use crate::clock::Clock;

/// Length of a frame's header (RFC 9113, 4.1).
const HEADER: usize = 9;
/// What a client writes before its first frame (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `DATA`.
const DATA: u8 = 0;
/// `HEADERS`.
const HEADERS: u8 = 1;
/// `CONTINUATION`.
const CONTINUATION: u8 = 9;
/// `END_STREAM`, in `DATA` and `HEADERS`.
const END_STREAM: u8 = 1;
/// `END_HEADERS`, in `HEADERS` and `CONTINUATION`.
const END_HEADERS: u8 = 4;
/// `PADDED`, in `DATA`.
const PADDED: u8 = 8;
/// Longest padding with its length.
const PADDING: usize = 256;

/// Control frames for each frame of a message, of either side: window updates of stream and connection, a reset, a
/// priority.
const EACH: u32 = 4;
/// ... and one for each this many bytes of `DATA`: a client that reads in small pieces may return the window in small
/// pieces, for the stream and for the connection (Go's net/http2 does both every 4 KiB).
const BYTES: u32 = 512;
/// Control frames at once, in multiples of those that may come in a second.
const BURST: u32 = 4;

/// Where the reader is.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; HEADER],
    /// Bytes of `header` that were read.
    read: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: usize,
    /// A header section has begun and its last frame was not complete yet.
    open: bool,
    seen: Seen,
}

/// Frames that began since the last call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Parts of messages: `HEADERS`, and `DATA` with something in it.
    pub(crate) message: u32,
    /// All others.
    pub(crate) control: u32,
    /// `HEADERS`.
    pub(crate) headers: u32,
    /// Bytes in `DATA`.
    pub(crate) bytes: u32,
}

impl Seen {
    /// All of them.
    pub(crate) fn frames(self) -> usize {
        self.message.saturating_add(self.control) as usize
    }
}

/// Control frames that a peer may still send. Frames without a message cost it little and us much (RFC 9113, 10.5), so
/// they are earned by messages, and by time.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    per_second: u32,
    tick: u32,
}

impl Allowance {
    /// For a new connection.
    pub(crate) fn new(per_second: u32, clock: &Clock) -> Self {
        Self { left: per_second.saturating_mul(BURST), per_second, tick: clock.tick() }
    }

    /// What was written to the peer.
    pub(crate) fn earn(&mut self, seen: Seen) {
        let most = self.per_second.saturating_mul(BURST).saturating_mul(BURST);
        let more = seen.message.saturating_mul(EACH).saturating_add(seen.bytes / BYTES);
        self.left = self.left.saturating_add(more).min(most.max(self.left));
    }

    /// What the peer sent; false: it is too much.
    pub(crate) fn spend(&mut self, seen: Seen, clock: &Clock) -> bool {
        self.earn(seen);
        if seen.control == 0 {
            return true;
        }
        let ticks = clock.tick().wrapping_sub(self.tick);
        if ticks > 0 {
            self.tick = clock.tick();
            let passed = u128::from(ticks) * clock.period().as_millis();
            let more = u128::from(self.per_second) * passed / 1_000;
            let full = self.per_second.saturating_mul(BURST).max(self.left);
            // saturates: `full` is the bound.
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(full);
        }
        let left = self.left.checked_sub(seen.control);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

impl Frames {
    /// What a client writes: frames behind the preface (RFC 9113, 3.4).
    pub(crate) fn behind_preface() -> Self {
        Self { payload: PREFACE.len(), ..Self::default() }
    }

    /// What began since this was asked last.
    pub(crate) fn seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }

    /// Reads the first `count` bytes of what was to be written.
    pub(crate) fn scan_first<'a>(&mut self, mut count: usize, bufs: impl Iterator<Item = &'a [u8]>) {
        for buf in bufs {
            let taken = count.min(buf.len());
            self.scan(&buf[..taken]);
            count -= taken;
        }
    }

    /// Reads on; the answer says whether a header section is incomplete now.
    pub(crate) fn scan(&mut self, mut input: &[u8]) -> bool {
        while !input.is_empty() {
            if self.payload > 0 {
                let count = self.payload.min(input.len());
                self.payload -= count;
                input = &input[count..];
                if self.payload == 0 {
                    self.ended();
                }
                continue;
            }
            let count = (HEADER - self.read).min(input.len());
            self.header[self.read..self.read + count].copy_from_slice(&input[..count]);
            self.read += count;
            input = &input[count..];
            if self.read == HEADER {
                self.read = 0;
                let [high, middle, low, kind, flags, ..] = self.header;
                self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.open |= matches!(kind, HEADERS | CONTINUATION);
                self.count(kind, flags);
                if self.payload == 0 {
                    self.ended();
                }
            }
        }
        self.open
    }

    fn count(&mut self, kind: u8, flags: u8) {
        let padding = if flags & PADDED == 0 { 0 } else { PADDING };
        let message = match kind {
            HEADERS => true,
            DATA => self.payload > padding || flags & END_STREAM != 0,
            _ => false,
        };
        let seen = &mut self.seen;
        let number = if message { &mut seen.message } else { &mut seen.control };
        *number = number.saturating_add(1);
        seen.headers = seen.headers.saturating_add((kind == HEADERS).into());
        if kind == DATA && message {
            // saturates: a payload has less than 2^24 bytes (RFC 9113, 4.1).
            let bytes = u32::try_from(self.payload.saturating_sub(padding)).unwrap_or(u32::MAX);
            seen.bytes = seen.bytes.saturating_add(bytes);
        }
    }

    fn ended(&mut self) {
        let [_, _, _, kind, flags, ..] = self.header;
        if matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0 {
            self.open = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER + usize::from(length), 7);
        frame
    }

    #[test]
    fn header_sections_are_followed_in_any_cut() {
        let bytes =
            [frame(4, 0, 6), frame(HEADERS, 0, 5), frame(CONTINUATION, END_HEADERS, 3), frame(0, 1, 9)].concat();
        for cut in 0..bytes.len() {
            let mut frames = Frames::default();
            let open = frames.scan(&bytes[..cut]);
            // Open from the moment the HEADERS frame's header was read until the CONTINUATION frame is complete.
            assert_eq!(open, (24..41).contains(&cut), "cut at {cut}");
            assert!(!frames.scan(&bytes[cut..]));
        }
    }

    #[test]
    fn frames_of_messages_are_told_from_others() {
        let message = [frame(HEADERS, 0, 5), frame(DATA, 0, 1), frame(DATA, END_STREAM, 0)];
        // SETTINGS, PRIORITY, PING, an unknown one, DATA with nothing, DATA with padding.
        let control = [
            frame(4, 0, 6),
            frame(2, 0, 5),
            frame(6, 0, 8),
            frame(99, 0, 0),
            frame(DATA, 0, 0),
            frame(DATA, PADDED, 9),
        ];
        let mut frames = Frames::default();
        frames.scan(&[message.concat(), control.concat()].concat());
        assert_eq!(frames.seen(), Seen { message: 3, control: 6, headers: 1, bytes: 1 });
        frames.scan(&[frame(3, 0, 4), frame(HEADERS, END_STREAM, 0)].concat());
        assert_eq!(frames.seen(), Seen { message: 1, control: 1, headers: 1, bytes: 0 });
        assert_eq!(frames.seen(), Seen::default());
    }

    #[test]
    fn control_frames_are_earned_by_messages_and_by_time() {
        let clock = Clock::new(&brattice_wire::engine::Limits::default());
        let mut allowance = Allowance::new(100, &clock);
        let seen = |message, control| Seen { message, control, ..Seen::default() };
        assert!(allowance.spend(seen(0, 400), &clock));
        assert!(!allowance.spend(seen(0, 1), &clock));
        assert!(allowance.spend(seen(1, 4), &clock), "earned by a message of the peer");
        allowance.earn(seen(2, 0));
        assert!(allowance.spend(seen(0, 8), &clock), "and by ours");
        assert!(!allowance.spend(seen(0, 1), &clock));
        for _ in 0..clock.ticks(1_000) {
            clock.advance();
        }
        assert!(allowance.spend(seen(0, 100), &clock));
        assert!(!allowance.spend(seen(0, 301), &clock));
        allowance.earn(Seen { bytes: 4 * BYTES, ..Seen::default() });
        assert!(allowance.spend(seen(0, 4), &clock), "earned by bytes");
        assert!(!allowance.spend(seen(0, 1), &clock));
        allowance.earn(seen(u32::MAX, 0));
        assert!(!allowance.spend(seen(0, 1_601), &clock), "not without end");
    }
}
