//! Verifies checksums the way a receiver does: the sum over everything, the field included, must be all ones
//! (RFC 1071). Done with plain remainders, so that a mistake here is not the mistake of the builder.

/// Sum of big-endian 16-bit words modulo 65535, which is what ones' complement addition comes to. An odd last byte is
/// the high half of a word.
fn remainder(bytes: &[u8]) -> u64 {
    bytes.iter().enumerate().map(|(i, b)| if i % 2 == 0 { u64::from(*b) * 256 } else { u64::from(*b) }).sum::<u64>()
        % 65535
}

/// Is the IPv4 header checksum of a frame right?
///
/// # Panics
/// If the frame does not hold the header that its IHL names.
pub fn ip_is_right(frame: &[u8]) -> bool {
    let len = usize::from(frame[14] & 0x0f) * 4;
    remainder(&frame[14..14 + len]) == 0
}

/// Is the TCP or UDP checksum of an unfragmented packet right? `None` for a UDP packet without one.
///
/// # Panics
/// If the frame is cut short or holds another protocol.
pub fn l4_is_right(frame: &[u8]) -> Option<bool> {
    let header = usize::from(frame[14] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let protocol = frame[23];
    let segment = &frame[14 + header..14 + total];
    match protocol {
        17 if segment[6..8] == [0, 0] => return None,
        6 | 17 => {}
        other => panic!("protocol {other} has no checksum known here"),
    }
    let pseudo = remainder(&frame[26..34]) + u64::from(protocol) + segment.len() as u64;
    Some((pseudo + remainder(segment)).is_multiple_of(65535))
}

/// Is the TCP or UDP checksum of an unfragmented IPv6 packet right, whose TCP or UDP header lies at an offset in the frame?
///
/// # Panics
/// If the frame is cut short.
pub fn l4_of_ipv6_is_right(frame: &[u8], offset: usize, protocol: u8) -> bool {
    let end = 14 + 40 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
    let segment = &frame[offset..end];
    let pseudo = remainder(&frame[22..54]) + u64::from(protocol) + segment.len() as u64;
    (pseudo + remainder(segment)).is_multiple_of(65535)
}

/// Is the checksum of an ICMPv6 message right that follows the fixed header?
///
/// # Panics
/// If the frame is cut short.
pub fn icmpv6_is_right(frame: &[u8]) -> bool {
    l4_of_ipv6_is_right(frame, 14 + 40, 58)
}
