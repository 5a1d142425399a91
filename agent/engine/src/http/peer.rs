//! Follows the frames of an HTTP/2 target, for what the HTTP library does not tell: how long a header section it takes, and
//! whether it takes more requests.

use std::{cell::Cell, rc::Rc};

/// Length of a frame's header (RFC 9113, 4.1).
const HEADER: usize = 9;
/// Length of a setting (RFC 9113, 6.5.1).
const SETTING: usize = 6;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Of `SETTINGS`.
const ACK: u8 = 1;
/// `SETTINGS_MAX_HEADER_LIST_SIZE`.
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// What a target is taken to accept until it says something else: what most do.
const HEADER_LIST: usize = 16 * 1024;

/// What a target told of its connection.
#[derive(Debug)]
pub(crate) struct PeerState {
    header_list: Cell<usize>,
    leaving: Cell<bool>,
}

impl Default for PeerState {
    fn default() -> Self {
        Self { header_list: Cell::new(HEADER_LIST), leaving: Cell::new(false) }
    }
}

impl PeerState {
    /// Most bytes of a header section, as RFC 9113, 6.5.2 counts them.
    pub(crate) fn header_list(&self) -> usize {
        self.header_list.get()
    }

    /// It takes no new requests.
    pub(crate) fn leaving(&self) -> bool {
        self.leaving.get()
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
    setting: [u8; SETTING],
    /// Bytes of `setting` that were read.
    known: usize,
}

impl PeerReader {
    pub(crate) fn new(state: Rc<PeerState>) -> Self {
        Self { state, greeted: false, header: [0; HEADER], read: 0, payload: 0, setting: [0; SETTING], known: 0 }
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
        if kind == GOAWAY {
            self.state.leaving.set(true);
        }
        if self.is_settings() && !self.greeted {
            self.greeted = true;
            // Not limited unless this frame says so.
            self.state.header_list.set(usize::MAX);
        }
    }

    fn is_settings(&self) -> bool {
        let [_, _, _, kind, flags, ..] = self.header;
        kind == SETTINGS && flags & ACK == 0
    }

    /// A piece of a `SETTINGS` frame's payload.
    fn settings(&mut self, piece: &[u8]) {
        for byte in piece {
            self.setting[self.known] = *byte;
            self.known += 1;
            if self.known == SETTING {
                self.known = 0;
                let [high, low, value @ ..] = self.setting;
                if u16::from_be_bytes([high, low]) == MAX_HEADER_LIST_SIZE {
                    let value = u32::from_be_bytes(value);
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
        let bytes = [settings.clone(), others.clone(), later.clone(), frame(GOAWAY, 0, &[0; 8])].concat();
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
            assert_eq!(state.leaving(), cut >= second + HEADER, "cut at {cut}");
            frames.scan(&bytes[cut..]);
            assert_eq!((state.header_list(), state.leaving()), (9_000, true), "cut at {cut}");
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
