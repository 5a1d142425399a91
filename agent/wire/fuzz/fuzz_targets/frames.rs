//! Any bytes as frames between agent and engine, and as a request to the agent: no panic, and what is read is written and read
//! again as the same. `cargo +nightly fuzz run frames fuzz/corpus/frames fuzz/seeds/frames` in `agent/wire`.

#![no_main]

use brattice_wire::{
    api::{Answer, Request},
    engine::{FromEngine, MAX_FROM_ENGINE, MAX_TO_ENGINE, ToEngine, body_length, decode, encode},
};
use libfuzzer_sys::fuzz_target;
use std::fmt::Debug;

/// Behind its length, as the other side reads it.
fn again<T: serde::Serialize + serde::de::DeserializeOwned + Debug>(body: &[u8], limit: usize) {
    let Ok(message) = decode::<T>(body) else { return };
    let Ok(frame) = encode(&message, limit) else { return };
    let (prefix, body) = frame.split_first_chunk::<4>().expect("a frame begins with its length");
    assert_eq!(body_length(*prefix, limit).expect("it was written"), body.len());
    let read = decode::<T>(body).expect("it was written");
    assert_eq!(format!("{read:?}"), format!("{message:?}"));
}

fuzz_target!(|bytes: &[u8]| {
    again::<FromEngine>(bytes, MAX_FROM_ENGINE);
    again::<ToEngine>(bytes, MAX_TO_ENGINE);
    let Some(prefix) = bytes.first_chunk::<4>() else { return };
    assert!(body_length(*prefix, MAX_FROM_ENGINE).is_ok_and(|length| length <= MAX_FROM_ENGINE) || prefix != &[0; 4]);
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let text = serde_json::to_vec(&request).expect("it was read");
        let read = serde_json::from_slice::<Request>(&text).expect("it was written");
        assert_eq!(format!("{read:?}"), format!("{request:?}"));
    }
    let _ = serde_json::from_slice::<Answer>(bytes);
});
