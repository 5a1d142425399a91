//! Headers that are cut off, or that lie.

use brattice_abi::{Counter, DropReason};
use brattice_tests::packets::{
    frame::{Frame, Payload},
    node::{Context, Hook},
};

use crate::{
    family::{Family, V4, families},
    scene::*,
};

families!(frames_cut_at_every_byte, frames_to_a_workload_cut_at_every_byte, another_version, tcp_data_offset);

/// Frames, and where their headers end.
pub(crate) fn frames<F: Family>() -> [(F::Frame, usize); 4] {
    let udp = F::udp((F::REAL, 9), (F::VIP, 80), b"0123456789");
    let tcp = F::tcp((F::REAL, 40001), (F::VIP, 80), ACK, b"0123456789").changed(|f| {
        if let Payload::Tcp { options, .. } = f.payload {
            *options = vec![1; 12];
        }
    });
    let (long_udp, between) = F::lengthened(udp.clone());
    let (long_tcp, _) = F::lengthened(tcp.clone());
    [(udp, F::FIXED + 8), (long_udp, F::FIXED + between + 8), (tcp, F::FIXED + 32), (long_tcp, F::FIXED + between + 32)]
}

/// Frames cut after every byte: without a destination not ours; within a header `Truncated`; within the payload
/// shorter than the length field promises; whole taken.
///
/// packets.md ingress 530: frame cut within IP options, TCP or UDP header | dropped | `Truncated`
/// packets.md ingress 540: frame cut within the payload (shorter than its total length) | dropped | `Malformed`
/// packets.md ipv6 30: cut within one, or one that ends behind the packet | dropped | `Truncated`
fn frames_cut_at_every_byte<F: Family>() {
    let mut node = F::node();
    for (frame, headers) in frames::<F>() {
        let bytes = frame.bytes();
        for len in 14..bytes.len() {
            let cut = &bytes[..len];
            if len < F::FIXED {
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

/// The same at the other end: the engine's host sends nothing of the kind, but nothing of the kind gets through.
///
/// packets.md egress 210: header or payload cut off | dropped | `Truncated`, `Malformed`
fn frames_to_a_workload_cut_at_every_byte<F: Family>() {
    let mut node = F::node();
    let (frame, between) = F::lengthened(F::to_target(ACK));
    let bytes = frame.bytes();
    for len in F::FIXED..bytes.len() {
        let reason = if len < F::FIXED + between + 20 { DropReason::Truncated } else { DropReason::Malformed };
        drops(&mut node, Hook::Egress, &bytes[..len], reason);
    }
    delivers(&mut node, &frame);
}

/// packets.md ingress 590: IP version not that of the ethertype | dropped; to other addresses passes | `Malformed`
fn another_version<F: Family>() {
    let mut node = F::node();
    for version in (0..16).filter(|v| *v != F::VERSION) {
        let bad = |frame: F::Frame| frame.changed(|f| *f.version = version).bytes();
        drops(&mut node, Hook::Ingress, &bad(F::to_vip(ACK)), DropReason::Malformed);
        drops(&mut node, Hook::Egress, &bad(F::to_target(ACK)), DropReason::Malformed);
        passes(&mut node, Hook::Ingress, &bad(F::udp((F::REAL, 1), (F::STRANGER, 80), b"")));
    }
    takes(&mut node, &F::to_vip(ACK));
}

/// packets.md ingress 600: TCP data offset below 5; beyond the packet | dropped | `Malformed`; `Truncated`
fn tcp_data_offset<F: Family>() {
    let plain = F::tcp((F::REAL, 9), (F::VIP, 80), ACK, &[1; 20]);
    for (frame, between) in [(plain.clone(), 0), F::lengthened(plain)] {
        let mut node = F::node();
        // 20 bytes of header, 20 of data: offsets up to 10 words lie within the packet.
        for offset in 0..16u8 {
            let mut bytes = frame.bytes();
            bytes[F::FIXED + between + 12] = offset << 4;
            match offset {
                0..5 => drops(&mut node, Hook::Ingress, &bytes, DropReason::Malformed),
                5..=10 => {
                    assert_eq!(node.run(Hook::Ingress, &bytes, Context::default()).verdict, 7, "offset {offset}");
                }
                _ => drops(&mut node, Hook::Ingress, &bytes, DropReason::Truncated),
            }
        }
        assert_eq!(node.counted(Counter::FromWorkload), 6);
    }
}

/// The same cuts made by the total length, in a frame that holds it all.
///
/// packets.md ingress 550: total length within a TCP or UDP header | dropped | `Truncated`
/// packets.md ingress 560: total length below the IP header or above the frame | dropped | `Malformed`
#[test]
fn every_total_length() {
    let mut node = node();
    for (frame, headers) in frames::<V4>() {
        let whole = frame.build().len() - 14;
        let ip_header = 20 + frame.options.len();
        for total in 0..whole + 20 {
            let frame = frame.clone().with(|f| f.total_length = Some(total as u16));
            if total < ip_header || total > whole {
                drops(&mut node, Hook::Ingress, &frame.build(), DropReason::Malformed);
            } else if total < headers - 14 {
                drops(&mut node, Hook::Ingress, &frame.build(), DropReason::Truncated);
            } else {
                takes(&mut node, &frame);
            }
        }
    }
}

/// packets.md ingress 570: IHL below 5 | dropped; to other addresses passes | `Malformed`
#[test]
fn ihl_below_5() {
    let mut node = node();
    for ihl in 0..5 {
        drops(&mut node, Hook::Ingress, &to_vip(ACK).with(|f| f.ihl = Some(ihl)).build(), DropReason::Malformed);
        drops(&mut node, Hook::Egress, &to_target(ACK).with(|f| f.ihl = Some(ihl)).build(), DropReason::Malformed);
        let foreign = Frame::tcp((REAL, 1), (STRANGER, 80), ACK, b"").with(|f| f.ihl = Some(ihl));
        passes(&mut node, Hook::Ingress, &foreign.build());
    }
    takes(&mut node, &to_vip(ACK));
}

/// A header longer than what is there.
///
/// packets.md ingress 580: IHL beyond the frame | dropped | `Truncated`
#[test]
fn ihl_beyond_the_frame() {
    let mut node = node();
    let frame = Frame::raw(REAL, VIP, UDP, &[0; 8]).with(|f| f.ihl = Some(15));
    drops(&mut node, Hook::Ingress, &frame.build(), DropReason::Truncated);
    takes(&mut node, &Frame::raw(REAL, VIP, UDP, &[0, 9, 0, 80, 0, 8, 0, 0]));
}

/// UDP's own length is the receiver's to judge: it changes no byte that is translated.
///
/// packets.md ingress 420: UDP length field that lies | taken; the receiver drops it | `FromWorkload`
#[test]
fn a_udp_length_that_lies_is_left_to_the_receiver() {
    let mut node = node();
    for length in [0u16, 7, 9, 0xffff] {
        let mut bytes = Frame::udp((REAL, 9), (VIP, 80), b"data").build();
        bytes[38..40].copy_from_slice(&length.to_be_bytes());
        let outcome = node.run(Hook::Ingress, &bytes, Context::default());
        assert_eq!(outcome.verdict, 7);
        assert_eq!(outcome.frame[38..40], length.to_be_bytes());
    }
}
