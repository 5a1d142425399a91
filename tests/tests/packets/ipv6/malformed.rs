//! Headers that are cut off, or that lie: those that only IPv6 has.

use brattice_abi::DropReason;
use brattice_tests::packets::{
    frame6::{Extension, Frame6},
    node::{Context, Hook},
};

use super::scene::*;
use crate::{
    family::{Family as _, V6},
    malformed::frames,
    scene::{ACK, TCP, drops, takes},
};

/// The same cuts made by the payload length, in a frame that holds it all.
#[test]
fn every_payload_length() {
    let mut node = node();
    for (frame, headers) in frames::<V6>() {
        let whole = frame.build().len() - V6::FIXED;
        for length in 0..whole + 20 {
            let frame = frame.clone().with(|f| f.payload_length = Some(length as u16));
            if length > whole {
                drops(&mut node, Hook::Ingress, &frame.build(), DropReason::Malformed);
            } else if length < headers - V6::FIXED {
                drops(&mut node, Hook::Ingress, &frame.build(), DropReason::Truncated);
            } else {
                takes(&mut node, &frame);
            }
        }
    }
}

/// An extension header longer than what is there, each kind.
///
/// packets.md ipv6 30
#[test]
fn extension_headers_beyond_the_packet() {
    let mut node = node();
    for number in [0, 43, 51, 60] {
        let mut bytes = vec![0; 7];
        (bytes[0], bytes[1]) = (255, 2);
        let frame = to_vip(ACK).behind(&[Extension { number, bytes }]);
        drops(&mut node, Hook::Ingress, &frame.build(), DropReason::Truncated);
        takes(&mut node, &to_vip(ACK).behind(&[Extension::options(60, 1)]));
    }
}

/// The event names the protocol behind the extension headers.
#[test]
fn an_event_tells_the_protocol_that_was_found() {
    let mut node = node();
    let frame = Frame6::tcp((STRANGER6, 1), (VIP6, 80), ACK, b"").behind(&[Extension::options(60, 1)]);
    node.run(Hook::Ingress, &frame.build(), Context::default());
    let events = node.events();
    assert_eq!((events.len(), events[0].protocol), (1, TCP));
}
