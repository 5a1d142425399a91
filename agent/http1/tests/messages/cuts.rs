//! However a message is cut, the same becomes of it.

use crate::{
    corpus::{requests, responses},
    harness::{self, Stream},
};

/// No cut, each single one, and every byte alone.
fn all_cuts(length: usize) -> impl Iterator<Item = Vec<usize>> {
    (1..length).map(|cut| vec![cut]).chain([Vec::new(), (1..length).collect()])
}

#[test]
fn requests_cut_anywhere_are_the_same() {
    for row in requests() {
        let bytes = row.bytes();
        for cuts in all_cuts(bytes.len()) {
            let became = harness::request(&mut Stream::new(&bytes, &cuts), &harness::REQUESTS);
            assert_eq!(became, row.becomes, "{:?} cut at {cuts:?}", row.comes);
        }
    }
}

#[test]
fn responses_cut_anywhere_are_the_same() {
    for row in responses() {
        let bytes = row.bytes();
        for cuts in all_cuts(bytes.len()) {
            let became = harness::response(&mut Stream::new(&bytes, &cuts), &harness::RESPONSES, row.to_head());
            assert_eq!(became, row.becomes, "{:?} cut at {cuts:?}", row.comes);
        }
    }
}
