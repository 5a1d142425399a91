//! Follows the frames of an HTTP/2 target, for what the HTTP library does not tell: how long a header section it takes, and
//! whether it takes more requests.

use std::{cell::Cell, rc::Rc};

use super::write_stall::WriteStall;

/// Length of a frame's header (RFC 9113, 4.1).
const HEADER: usize = 9;
/// Length of a setting (RFC 9113, 6.5.1).
const SETTING: usize = 6;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Length of the last stream's number in `GOAWAY` (RFC 9113, 6.8).
const LAST_STREAM: usize = 4;
/// Of `SETTINGS`.
const ACK: u8 = 1;
/// `SETTINGS_MAX_HEADER_LIST_SIZE`.
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// What a target is taken to accept until it says something else: what most do.
const HEADER_LIST: usize = 16 * 1024;

/// What is known of a target's connection.
#[derive(Debug)]
pub(crate) struct PeerState {
    header_list: Cell<usize>,
    /// Streams up to this one may have been processed; there will be no others.
    last_stream: Cell<Option<u32>>,
    /// Whether its socket has room for what waits for it.
    pub(crate) write_stall: WriteStall,
}

impl Default for PeerState {
    fn default() -> Self {
        Self { header_list: Cell::new(HEADER_LIST), last_stream: Cell::new(None), write_stall: WriteStall::default() }
    }
}

impl PeerState {
    /// Most bytes of a header section, as RFC 9113, 6.5.2 counts them.
    pub(crate) fn header_list(&self) -> usize {
        self.header_list.get()
    }

    /// It takes no new requests (RFC 9113, 6.8).
    pub(crate) fn is_draining(&self) -> bool {
        self.last_stream.get().is_some()
    }

    /// How many requests it has processed, or may have, if it takes no new ones. Those are odd streams, from 1.
    pub(crate) fn processed(&self) -> Option<u32> {
        self.last_stream.get().map(|last| last.div_ceil(2))
    }
}

/// Where the reader is.
#[derive(Debug)]
pub(crate) struct PeerReader {
    state: Rc<PeerState>,
    /// The first `SETTINGS` came.
    greeted: bool,
    header: [u8; HEADER],
    /// Bytes of `header` that were read.
    read: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: usize,
    /// The present setting, or the beginning of a GOAWAY.
    field: [u8; SETTING],
    /// Bytes of `field` that were read.
    known: usize,
}

impl PeerReader {
    /// What is reported about the peer.
    pub(crate) fn state(&self) -> &PeerState {
        &self.state
    }

    pub(crate) fn new(state: Rc<PeerState>) -> Self {
        Self { state, greeted: false, header: [0; HEADER], read: 0, payload: 0, field: [0; SETTING], known: 0 }
    }

    /// Reads on.
    pub(crate) fn scan(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            if self.payload > 0 {
                let (piece, rest) = input.split_at(self.payload.min(input.len()));
                self.payload -= piece.len();
                input = rest;
                if self.is_settings() {
                    self.settings(piece);
                } else if self.is_goaway() {
                    self.goaway(piece);
                }
            } else {
                let count = (HEADER - self.read).min(input.len());
                self.header[self.read..self.read + count].copy_from_slice(&input[..count]);
                self.read += count;
                input = &input[count..];
                if self.read == HEADER {
                    self.begun();
                }
            }
        }
    }

    /// A frame's header was read.
    fn begun(&mut self) {
        let [high, middle, low, kind, ..] = self.header;
        self.read = 0;
        self.known = 0;
        self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if kind == GOAWAY && !self.state.is_draining() {
            // It says which ones in a moment.
            self.state.last_stream.set(Some(u32::MAX >> 1));
        }
        if self.is_settings() && !self.greeted {
            self.greeted = true;
            // Not limited unless this frame says so.
            self.state.header_list.set(usize::MAX);
        }
    }

    fn is_goaway(&self) -> bool {
        let [_, _, _, kind, ..] = self.header;
        kind == GOAWAY
    }

    /// A piece of a `GOAWAY` frame's payload, which begins with the last stream.
    fn goaway(&mut self, piece: &[u8]) {
        for byte in piece.iter().take(LAST_STREAM - self.known) {
            self.field[self.known] = *byte;
            self.known += 1;
            if self.known == LAST_STREAM {
                let [a, b, c, d, ..] = self.field;
                let last = u32::from_be_bytes([a, b, c, d]) & (u32::MAX >> 1);
                // A later frame may only say less.
                let before = self.state.last_stream.get().unwrap_or(u32::MAX);
                self.state.last_stream.set(Some(before.min(last)));
            }
        }
    }

    fn is_settings(&self) -> bool {
        let [_, _, _, kind, flags, ..] = self.header;
        kind == SETTINGS && flags & ACK == 0
    }

    /// A piece of a `SETTINGS` frame's payload.
    fn settings(&mut self, piece: &[u8]) {
        for byte in piece {
            self.field[self.known] = *byte;
            self.known += 1;
            if self.known == SETTING {
                self.known = 0;
                let [high, low, value @ ..] = self.field;
                if u16::from_be_bytes([high, low]) == MAX_HEADER_LIST_SIZE {
                    let value = u32::from_be_bytes(value);
                    // saturates: no header section is that long.
                    self.state.header_list.set(usize::try_from(value).unwrap_or(usize::MAX));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    }

    fn setting(id: u8, value: u32) -> Vec<u8> {
        [&[0, id][..], &value.to_be_bytes()].concat()
    }

    #[test]
    fn settings_and_goaway_are_seen_in_any_cut() {
        let settings = frame(SETTINGS, 0, &[setting(3, 100), setting(6, 8_000), setting(4, 70_000)].concat());
        // A header section's payload that looks like settings, and an acknowledgement.
        let others = [frame(1, 4, &setting(6, 1)), frame(SETTINGS, ACK, &[]), frame(0, 0, &[7; 40])].concat();
        let later = frame(SETTINGS, 0, &setting(6, 9_000));
        let bytes =
            [settings.clone(), others.clone(), later.clone(), frame(GOAWAY, 0, &[0, 0, 0, 7, 0, 0, 0, 0])].concat();
        for cut in 0..bytes.len() {
            let state = Rc::<PeerState>::default();
            let mut frames = PeerReader::new(Rc::clone(&state));
            frames.scan(&bytes[..cut]);
            let (first, second) = (settings.len(), settings.len() + others.len() + later.len());
            if cut < HEADER {
                assert_eq!(state.header_list(), HEADER_LIST, "cut at {cut}");
            } else if (first..second).contains(&cut) {
                assert_eq!(state.header_list(), 8_000, "cut at {cut}");
            }
            assert_eq!(state.is_draining(), cut >= second + HEADER, "cut at {cut}");
            frames.scan(&bytes[cut..]);
            assert_eq!((state.header_list(), state.processed()), (9_000, Some(4)), "cut at {cut}");
        }
    }

    #[test]
    fn a_target_without_the_setting_is_not_limited() {
        let state = Rc::<PeerState>::default();
        let mut frames = PeerReader::new(Rc::clone(&state));
        frames.scan(&frame(SETTINGS, 0, &setting(3, 100)));
        assert_eq!(state.header_list(), usize::MAX);
    }
}
