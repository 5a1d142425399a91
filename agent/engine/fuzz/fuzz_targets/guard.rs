//! Any bytes of an HTTP/1 client: no panic, the same verdict however the bytes are cut, and the parser behind waits for no more
//! of a head that was passed on: it takes it, or refuses it (a target that is no UTF-8, for one). `cargo +nightly fuzz run guard fuzz/corpus/guard fuzz/seeds/guard` in `agent/engine`.

#![no_main]

use std::rc::Rc;

use brattice_engine::http::{
    guard::{Bounds, Guard, SpareHead},
    refusal::Refusal,
};
use libfuzzer_sys::fuzz_target;

const BOUNDS: Bounds = Bounds { bytes: 1024, fields: 16 };

/// What a connection's bytes come to, given in pieces of this many bytes.
struct Seen {
    accepted: usize,
    refused: Option<Refusal>,
    heads: u64,
    /// Where the heads that were passed on begin.
    starts: Vec<usize>,
}

fn feed(input: &[u8], piece: usize) -> Seen {
    let mut guard = Guard::new(BOUNDS, &Rc::<SpareHead>::default());
    let mut seen = Seen { accepted: 0, refused: None, heads: 0, starts: Vec::new() };
    let mut end = 0;
    while end < input.len() {
        end = (end + piece).min(input.len());
        loop {
            let (in_head, before) = (guard.in_head(), guard.heads());
            let scan = guard.scan(&input[seen.accepted..end]);
            assert!(scan.accepted <= end - seen.accepted, "more than there was");
            if in_head && guard.heads() > before {
                seen.starts.push(seen.accepted);
            }
            seen.accepted += scan.accepted;
            seen.heads = guard.heads();
            if let Some(refused) = scan.refused {
                assert!(!scan.more);
                seen.refused = Some(refused);
                return seen;
            }
            // An offer is answered with HTTP.
            let offered = guard.offered();
            guard.go_on();
            if !scan.more && !offered {
                break;
            }
        }
    }
    seen
}

fuzz_target!(|input: &[u8]| {
    let whole = feed(input, input.len().max(1));
    for piece in [1, 7] {
        let cut = feed(input, piece);
        let verdict = |seen: &Seen| (seen.accepted, seen.refused.is_some(), seen.heads);
        // What is said to be wrong may be another thing that is wrong as well.
        assert_eq!(verdict(&cut), verdict(&whole), "cut by {piece}");
    }
    for start in whole.starts {
        let mut fields = [httparse::EMPTY_HEADER; BOUNDS.fields];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(&input[start..whole.accepted]);
        assert!(parsed.is_err() || parsed.is_ok_and(|status| status.is_complete()), "the parser waits for more");
    }
});
