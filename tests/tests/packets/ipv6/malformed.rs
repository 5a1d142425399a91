//! Headers that are cut off, or that lie.

use brattice_abi::DropReason;
use brattice_tests::packets::{
    frame::Payload,
    frame6::{Extension, Frame6},
    node::{Context, Hook},
};

use super::scene::*;
use crate::scene::{ACK, TCP, delivers, drops, passes, takes};

/// Ethernet and the fixed header: what must be there before anything is known.
const FIXED: usize = 14 + 40;

/// Frames, and where their headers end.
fn frames() -> [(Frame6, usize); 4] {
    let udp = Frame6::udp((REAL6, 9), (VIP6, 80), b"0123456789");
    let tcp = Frame6::tcp((REAL6, 40001), (VIP6, 80), ACK, b"0123456789").with(|f| {
        if let Payload::Tcp { options, .. } = &mut f.payload {
            *options = vec![1; 12];
        }
    });
    let extensions = [Extension::options(0, 1), Extension::authentication(12), Extension::options(60, 2)];
    let len = 8 + 24 + 16;
    [
        (udp.clone(), FIXED + 8),
        (udp.behind(&extensions), FIXED + len + 8),
        (tcp.clone(), FIXED + 32),
        (tcp.behind(&extensions), FIXED + len + 32),
    ]
}

/// Frames cut after every byte: without a destination not ours; within a header `Truncated`; within the payload
/// shorter than the payload length promises; whole taken.
///
/// packets.md ipv6 30: cut within one, or one that ends behind the packet | dropped | `Truncated`
#[test]
fn frames_cut_at_every_byte() {
    let mut node = node();
    for (frame, headers) in frames() {
        let bytes = frame.build();
        for len in 14..bytes.len() {
            let cut = &bytes[..len];
            if len < FIXED {
                // Newer kernels let BPF_PROG_TEST_RUN build no such packet; `listener` sends them over a veth.
                if node.try_run(Hook::Ingress, cut).is_some() {
                    passes(&mut node, Hook::Ingress, cut);
                }
            } else if len < headers {
                drops(&mut node, Hook::Ingress, cut, DropReason::Truncated);
            } else {
                drops(&mut node, Hook::Ingress, cut, DropReason::Malformed);
            }
        }
        takes(&mut node, &frame);
    }
}

/// The same cuts made by the payload length, in a frame that holds it all.
#[test]
fn every_payload_length() {
    let mut node = node();
    for (frame, headers) in frames() {
        let whole = frame.build().len() - FIXED;
        for length in 0..whole + 20 {
            let frame = frame.clone().with(|f| f.payload_length = Some(length as u16));
            if length > whole {
                drops(&mut node, Hook::Ingress, &frame.build(), DropReason::Malformed);
            } else if length < headers - FIXED {
                drops(&mut node, Hook::Ingress, &frame.build(), DropReason::Truncated);
            } else {
                takes(&mut node, &frame);
            }
        }
    }
}

/// The same at the other end.
#[test]
fn frames_to_a_workload_cut_at_every_byte() {
    let mut node = node();
    let frame = to_target(ACK).behind(&[Extension::options(60, 2)]);
    let bytes = frame.build();
    for len in FIXED..bytes.len() {
        let reason = if len < FIXED + 16 + 20 { DropReason::Truncated } else { DropReason::Malformed };
        drops(&mut node, Hook::Egress, &bytes[..len], reason);
    }
    delivers(&mut node, &frame);
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

#[test]
fn version_not_6() {
    let mut node = node();
    for version in (0..16).filter(|v| *v != 6) {
        let bad = |f: &mut Frame6| f.version = version;
        drops(&mut node, Hook::Ingress, &to_vip(ACK).with(bad).build(), DropReason::Malformed);
        drops(&mut node, Hook::Egress, &to_target(ACK).with(bad).build(), DropReason::Malformed);
        passes(&mut node, Hook::Ingress, &Frame6::udp((REAL6, 1), (STRANGER6, 80), b"").with(bad).build());
    }
    takes(&mut node, &to_vip(ACK));
}

#[test]
fn tcp_data_offset() {
    let mut node = node();
    // 20 bytes of header, 20 of data: offsets up to 10 words lie within the packet.
    for offset in 0..16u8 {
        let frame = Frame6::tcp((REAL6, 9), (VIP6, 80), ACK, &[1; 20]).behind(&[Extension::options(60, 1)]);
        let mut bytes = frame.build();
        bytes[frame.l4_offset() + 12] = offset << 4;
        match offset {
            0..5 => drops(&mut node, Hook::Ingress, &bytes, DropReason::Malformed),
            5..=10 => {
                assert_eq!(node.run(Hook::Ingress, &bytes, Context::default()).verdict, 7, "offset {offset}");
            }
            _ => drops(&mut node, Hook::Ingress, &bytes, DropReason::Truncated),
        }
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
