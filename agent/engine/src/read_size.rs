//! How much is read at once of a body: more while each read is filled, so that a fast sender costs few system calls, and a slow one
//! little memory.

/// Bytes of a first read, and the least.
pub(crate) const FIRST: usize = 8 * 1024;

/// Bytes for which the next read has room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSize {
    bytes: usize,
    most: usize,
}

impl ReadSize {
    /// [`FIRST`]; never more than `most`.
    pub(crate) const fn up_to(most: usize) -> Self {
        Self { bytes: FIRST, most }
    }

    /// Bytes.
    pub(crate) const fn bytes(self) -> usize {
        self.bytes
    }

    /// A read brought this many bytes, of so many for which it had room.
    pub(crate) fn brought(&mut self, count: usize, room: usize) {
        self.bytes = match count {
            all if all >= room => (self.bytes * 2).min(self.most),
            few if few < room / 4 => (self.bytes / 2).max(FIRST),
            _ => self.bytes,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_grows_with_what_comes() {
        let mut size = ReadSize::up_to(4 * FIRST);
        let mut sizes = |count: usize| {
            size.brought(count, size.bytes());
            size.bytes() / FIRST
        };
        assert_eq!([sizes(FIRST), sizes(2 * FIRST), sizes(4 * FIRST)], [2, 4, 4], "filled");
        assert_eq!([sizes(4 * FIRST - 1), sizes(FIRST)], [4, 4], "not filled, and not a small part");
        assert_eq!([sizes(FIRST - 1), sizes(1), sizes(1)], [2, 1, 1]);
    }
}
