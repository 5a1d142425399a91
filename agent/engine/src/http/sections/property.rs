//! Header sections in any frames, and any cut of the bytes.

use proptest::prelude::*;

use super::*;
use crate::http::hpack::model::{Model, requests};

/// Most bytes of a section as it was decoded.
const MOST: usize = 60 * 1024;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A section in frames of these sizes, the first with padding and a priority where it is told to.
fn section(stream: u32, mut block: &[u8], sizes: &[usize], padding: Option<u8>, priority: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sizes = sizes.iter().chain(std::iter::repeat(&12_000));
    let mut kind = HEADERS;
    loop {
        let count = block.len().min(*sizes.next().unwrap());
        let (piece, rest) = block.split_at(count);
        block = rest;
        let ends = if block.is_empty() { END_HEADERS } else { 0 };
        if kind == HEADERS {
            let mut payload = Vec::new();
            payload.extend(padding);
            payload.extend_from_slice(if priority { &[0; PRIORITY_FIELDS] } else { &[] });
            payload.extend_from_slice(piece);
            payload.extend(vec![b'#'; padding.unwrap_or(0).into()]);
            let flags = if padding.is_some() { PADDED } else { 0 } | if priority { PRIORITY } else { 0 };
            bytes.extend(frame(HEADERS, flags | ends, stream, &payload));
        } else {
            bytes.extend(frame(CONTINUATION, ends, stream, piece));
        }
        kind = CONTINUATION;
        if block.is_empty() {
            return bytes;
        }
    }
}

/// Gives bytes in pieces of these sizes, as [`Sections::scan`] asks for it: how many were passed on, whether all were sound,
/// and the most that was held back.
fn scan(bytes: &[u8], cuts: &[usize]) -> (usize, bool, usize) {
    let mut sections = Sections::new(MOST);
    let (mut passed, mut given, mut held) = (0, 0, 0);
    let mut cuts = cuts.iter().chain(std::iter::repeat(&LONGEST));
    while given < bytes.len() {
        given = bytes.len().min(given + cuts.next().unwrap());
        let (count, sound) = sections.scan(&bytes[passed..given]);
        passed += count;
        held = held.max(given - passed);
        if sound.is_err() {
            return (passed, false, held);
        }
    }
    (passed, true, held)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A request without a fragment passes, one with it does not, nor anything behind it.
    #[test]
    fn requests_pass_in_any_frames_and_cuts(
        requests in requests(),
        sizes in prop::collection::vec(0..3_000_usize, 0..6),
        padding in prop::option::of(any::<u8>()),
        priority: bool,
        cuts in prop::collection::vec(1..2_000_usize, 0..40),
    ) {
        let mut model = Model::default();
        let mut bytes = frame(SETTINGS, 0, 0, &[]);
        let mut sound = None;
        for (number, request) in requests.iter().enumerate() {
            let stream = u32::try_from(number).unwrap() * 2 + 1;
            if request.iter().any(|((name, value), _)| name == b":path" && value.contains(&b'#')) {
                sound = sound.or(Some(bytes.len()));
            }
            bytes.extend(section(stream, &model.write(request), &sizes, padding, priority));
            bytes.extend(frame(0, 1, stream, b"body"));
        }
        let (passed, all, held) = scan(&bytes, &cuts);
        prop_assert_eq!((passed, all), (sound.unwrap_or(bytes.len()), sound.is_none()));
        prop_assert!(held <= 2 * MOST + 2 * LONGEST + HEADER, "{} bytes were held", held);
    }

    /// Any bytes, and frames of any kind, are passed on or refused the same way in any cut; what is held is bounded.
    #[test]
    fn any_frames_are_passed_or_refused(
        frames in prop::collection::vec((0..12_u8, any::<u8>(), 0..6_u32, prop::collection::vec(any::<u8>(), 0..300)), 0..40),
        tail in prop::collection::vec(any::<u8>(), 0..2_000),
        settings: bool,
        cuts in prop::collection::vec(1..500_usize, 0..40),
    ) {
        let mut bytes = if settings { frame(SETTINGS, 0, 0, &[]) } else { Vec::new() };
        bytes.extend(frames.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)));
        bytes.extend(tail);
        let (whole, cut) = (scan(&bytes, &[usize::MAX >> 1]), scan(&bytes, &cuts));
        prop_assert_eq!((whole.0, whole.1), (cut.0, cut.1));
        prop_assert!(cut.2 <= 2 * MOST + 2 * LONGEST + HEADER);
    }
}
