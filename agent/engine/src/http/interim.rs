//! Follows what an HTTP/1 target sends before its final response, to bound it: hyper takes interim responses (1xx) without
//! end, and deals with all that it has read before it reads on.

/// Bytes of interim responses and of the final response's head, together.
const MOST_BYTES: usize = 256 * 1024;
/// Where a status line (RFC 9112, 4) has its status code.
const CODE: std::ops::Range<usize> = 9..12;

/// A target sends interim responses without end.
#[derive(Debug, thiserror::Error)]
#[error("the target sent too many interim responses")]
pub(crate) struct TooMany;

/// State until the final response.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// A request waits for its final response.
    waits: bool,
    /// This many interim responses may still come.
    left: u32,
    /// Bytes of all heads so far.
    bytes: usize,
    /// Bytes of the present head's first line so far, and its beginning.
    begun: usize,
    start: [u8; CODE.end],
    /// Bytes of the present line so far, CR not counted.
    line: usize,
}

impl Heads {
    /// A request is sent; at most this many interim responses may come.
    pub(crate) fn begin(&mut self, most: u32) {
        *self = Self { waits: true, left: most, ..Self::default() };
    }

    /// Whether a final response is waited for.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Reads on; the answer is how many interim responses ended in the input.
    ///
    /// # Errors
    /// When it is one more than may come, or all of it is too long.
    pub(crate) fn scan(&mut self, mut input: &[u8]) -> Result<usize, TooMany> {
        let mut ended = 0;
        while self.waits && !input.is_empty() {
            let end = memchr::memchr(b'\n', input);
            self.grow(&input[..end.unwrap_or(input.len())]);
            if self.bytes > MOST_BYTES {
                return Err(TooMany);
            }
            let Some(end) = end else { break };
            input = &input[end + 1..];
            self.bytes += 1;
            // Empty lines before a status line are skipped, as hyper does.
            if std::mem::take(&mut self.line) == 0 && self.begun > 0 {
                self.begun = 0;
                if !self.interim() {
                    self.waits = false;
                } else {
                    ended += 1;
                    // guard: interim-responses
                    self.left = self.left.checked_sub(1).ok_or(TooMany)?;
                }
            }
        }
        Ok(ended)
    }

    fn grow(&mut self, piece: &[u8]) {
        self.bytes += piece.len();
        self.line += piece.len() - usize::from(piece.last() == Some(&b'\r'));
        if self.line == 0 {
            return;
        }
        let count = piece.len().min(CODE.end.saturating_sub(self.begun));
        self.start[self.begun..self.begun + count].copy_from_slice(&piece[..count]);
        self.begun += count;
    }

    /// Whether the head that has ended is an interim response; 101 ends HTTP.
    fn interim(&self) -> bool {
        let code = &self.start[CODE];
        code[0] == b'1' && code != b"101"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINT: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";

    fn heads(most: u32) -> Heads {
        let mut heads = Heads::default();
        heads.begin(most);
        heads
    }

    #[test]
    fn interim_responses_are_counted_in_any_cut() {
        let bytes =
            [b"\r\n", HINT, HINT, b"HTTP/1.1 100\n\n", b"HTTP/1.1 200 OK\r\na: b\r\n\r\nHTTP/1.1 103 x\r\n\r\n"]
                .concat();
        for cut in 0..bytes.len() {
            let mut three = heads(3);
            let counted = three.scan(&bytes[..cut]).unwrap() + three.scan(&bytes[cut..]).unwrap();
            assert_eq!(counted, 3, "cut at {cut}: a body is no interim response");
            assert!(!three.waits());
            let mut two = heads(2);
            assert!(two.scan(&bytes[..cut]).and_then(|_| two.scan(&bytes[cut..])).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_change_of_the_protocol_is_final() {
        let mut none = heads(0);
        assert_eq!(none.scan(b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 103 x\r\n\r\n").unwrap(), 0);
    }

    #[test]
    fn heads_without_end_are_refused() {
        for piece in [&b"\r\n"[..], b"HTTP/1.1 103 x\r\na: b\r\n", b"x"] {
            let mut endless = heads(u32::MAX);
            let mut read = 0;
            while endless.scan(piece).is_ok() {
                read += piece.len();
                assert!(read <= MOST_BYTES);
            }
        }
    }
}
