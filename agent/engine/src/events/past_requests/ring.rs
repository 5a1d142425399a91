//! The latest requests of a worker, in a buffer of fixed size.

use std::collections::VecDeque;

/// Requests that a worker remembers ...
pub(crate) const MOST_REMEMBERED: usize = 4_096;
/// ... and the bytes that they may take, so that callers with long texts shorten its memory and not the node's. Pages
/// that are never written cost nothing.
pub(crate) const REMEMBERED_BYTES: usize = 8 * 1024 * 1024;

/// A remembered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered<'a> {
    /// Rises by one with each.
    pub(crate) number: u64,
    /// When it ended, ms since 1970.
    pub(crate) ended_ms: u64,
    /// A [`brattice_wire::records::Past`], as postcard.
    pub(crate) past: &'a [u8],
    /// Its line in the access log, with the newline; empty: it has none (yet).
    pub(crate) line: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    ended_ms: u64,
    connection: u64,
    /// Of the request id.
    hash: u64,
    at: usize,
    past: usize,
    line: usize,
}

impl Entry {
    fn end(&self) -> usize {
        self.at + self.past + self.line
    }
}

/// The requests.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes: Box<[u8]>,
    entries: VecDeque<Entry>,
    next: u64,
}

impl Default for Ring {
    fn default() -> Self {
        Self::new(REMEMBERED_BYTES, MOST_REMEMBERED)
    }
}

impl Ring {
    fn new(bytes: usize, most: usize) -> Self {
        Self { bytes: vec![0; bytes].into(), entries: VecDeque::with_capacity(most), next: 0 }
    }

    /// Number of the next one.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Remembers a request in the place of the oldest ones; one that is longer than the whole buffer, not at all.
    pub(crate) fn push(&mut self, ended_ms: u64, connection: u64, request_id: &[u8], past: &[u8], line: &[u8]) {
        let number = self.next;
        self.next += 1;
        let length = past.len() + line.len();
        if length > self.bytes.len() {
            return;
        }
        let full = self.entries.len() == self.entries.capacity();
        if full {
            self.entries.pop_front();
        }
        let mut at = self.entries.back().map_or(0, Entry::end);
        if at + length > self.bytes.len() {
            // Those behind the newest are the oldest.
            while self.entries.front().is_some_and(|oldest| oldest.at >= at) {
                self.entries.pop_front();
            }
            at = 0;
        }
        // By where they begin: an empty one among them must not shield those that follow it.
        while self.entries.front().is_some_and(|oldest| (at..at + length).contains(&oldest.at)) {
            self.entries.pop_front();
        }
        let place = &mut self.bytes[at..at + length];
        place[..past.len()].copy_from_slice(past);
        place[past.len()..].copy_from_slice(line);
        let hash = hash(request_id);
        self.entries.push_back(Entry { number, ended_ms, connection, hash, at, past: past.len(), line: line.len() });
    }

    /// Newest first.
    pub(crate) fn newest(&self) -> impl Iterator<Item = Remembered<'_>> {
        self.entries.iter().rev().map(|entry| self.show(entry))
    }

    /// What may be the request with this id, newest first; another one may have the same hash.
    pub(crate) fn by_id(&self, request_id: &[u8]) -> impl Iterator<Item = Remembered<'_>> {
        let hash = hash(request_id);
        self.entries.iter().rev().filter(move |entry| entry.hash == hash).map(|entry| self.show(entry))
    }

    /// The requests of a connection, newest first.
    pub(crate) fn by_connection(&self, connection: u64) -> impl Iterator<Item = Remembered<'_>> {
        self.entries.iter().rev().filter(move |entry| entry.connection == connection).map(|entry| self.show(entry))
    }

    fn show(&self, entry: &Entry) -> Remembered<'_> {
        let (past, line) = self.bytes[entry.at..entry.end()].split_at(entry.past);
        Remembered { number: entry.number, ended_ms: entry.ended_ms, past, line }
    }
}

fn hash(request_id: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = brattice_router::hash::FastHasher::default();
    hasher.write(request_id);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let mut ring = Ring::new(100, 4);
        for n in 0..10_u8 {
            ring.push(n.into(), u64::from(n % 2), &[n], &[n; 3], &[n; 4]);
        }
        let numbers: Vec<u64> = ring.newest().map(|entry| entry.number).collect();
        let most = ring.entries.capacity() as u64;
        assert_eq!(numbers, (10 - most..10).rev().collect::<Vec<_>>());
        assert_eq!(ring.by_id(&[8]).next().unwrap().line, [8; 4]);
        assert_eq!(ring.by_id(&[1]).next(), None, "forgotten");
        assert_eq!(ring.by_connection(1).next().unwrap().past, [9; 3]);
        assert_eq!(ring.by_connection(7).next(), None);
    }

    #[test]
    fn what_is_too_long_is_not_remembered() {
        let mut ring = Ring::new(10, 4);
        ring.push(0, 0, b"a", &[1; 5], &[]);
        ring.push(0, 0, b"b", &[2; 6], &[2; 5]);
        assert_eq!(ring.newest().map(|entry| entry.number).collect::<Vec<_>>(), [0]);
        ring.push(0, 0, b"c", &[3; 10], &[]);
        assert_eq!(ring.newest().map(|entry| entry.past.to_vec()).collect::<Vec<_>>(), [vec![3; 10]]);
        assert_eq!(ring.next(), 3);
    }

    #[test]
    fn an_empty_request_shields_nothing() {
        let mut ring = Ring::new(100, 8);
        ring.push(0, 0, b"a", &[], &[]);
        ring.push(0, 0, b"b", &[1; 28], &[]);
        ring.push(0, 0, b"c", &[2; 47], &[]);
        ring.push(0, 0, b"d", &[3; 26], &[]);
        let left: Vec<_> = ring.newest().map(|entry| (entry.number, entry.past.to_vec())).collect();
        assert_eq!(left, [(3, vec![3; 26]), (2, vec![2; 47])]);
    }

    proptest! {
        /// Whatever is still there is what was put there, and the newest always is.
        #[test]
        fn nothing_is_torn(lengths in prop::collection::vec((0_usize..40, 0_usize..40), 1..200)) {
            let mut ring = Ring::new(100, 8);
            for (n, (past, line)) in lengths.iter().enumerate() {
                let byte = n as u8;
                ring.push(n as u64, 0, &[byte], &vec![byte; *past], &vec![byte; *line]);
                let mut expected = n as u64;
                for entry in ring.newest() {
                    prop_assert_eq!(entry.number, expected, "without gaps");
                    let (past, line) = lengths[expected as usize];
                    prop_assert_eq!(entry.past, &vec![expected as u8; past][..]);
                    prop_assert_eq!(entry.line, &vec![expected as u8; line][..]);
                    expected = expected.wrapping_sub(1);
                }
                prop_assert!(expected != n as u64, "the newest is there");
            }
        }
    }
}
