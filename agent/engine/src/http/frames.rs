//! Follows the frames of an HTTP/2 client, only to know whether a header section is incomplete.

/// Length of a frame's header (RFC 9113, 4.1).
const HEADER: usize = 9;
/// `HEADERS`.
const HEADERS: u8 = 1;
/// `CONTINUATION`.
const CONTINUATION: u8 = 9;
/// `END_HEADERS`, in both.
const END_HEADERS: u8 = 4;

/// Where the reader is.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER],
    /// Bytes of `header` that were read.
    read: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: usize,
    /// A header section has begun and its last frame was not complete yet.
    open: bool,
}

impl Frames {
    /// Reads on; the answer says whether a header section is incomplete now.
    pub(super) fn scan(&mut self, mut input: &[u8]) -> bool {
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
                let [high, middle, low, kind, ..] = self.header;
                self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.open |= matches!(kind, HEADERS | CONTINUATION);
                if self.payload == 0 {
                    self.ended();
                }
            }
        }
        self.open
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
}
