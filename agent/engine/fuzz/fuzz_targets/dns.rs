//! Any bytes as a DNS question: no panic, what is said in return is a message about the same question, and fits.
//! `cargo +nightly fuzz run dns fuzz/corpus/dns fuzz/seeds/dns` in `agent/engine`.

#![no_main]

use brattice_engine::dns::question::{Triage, triage};
use hickory_proto::op::{Message, MessageType, ResponseCode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| match triage(bytes) {
    Triage::Drop => {}
    Triage::Refuse(answer) => {
        assert_eq!(answer[..2], bytes[..2], "another id");
        assert_ne!(answer[2] & 0x80, 0, "an answer is no question");
        assert!(Message::from_vec(&answer).is_ok(), "an answer can be read");
    }
    Triage::Ask(question) => {
        assert_eq!(question.id.to_be_bytes(), bytes[..2]);
        assert!(!question.name.bytes().any(|byte| byte.is_ascii_uppercase()), "{}", question.name);
        for code in [ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::ServFail] {
            let answer = question.answer(code);
            for over_udp in [true, false] {
                let Some(bytes) = question.encode(&answer, over_udp) else { continue };
                assert!(!over_udp || bytes.len() <= question.udp_limit());
                let read = Message::from_vec(&bytes).expect("an answer can be read");
                assert_eq!(read.metadata.message_type, MessageType::Response);
                assert_eq!((read.metadata.id, &read.queries), (question.id, &vec![question.query.clone()]));
            }
        }
    }
});
