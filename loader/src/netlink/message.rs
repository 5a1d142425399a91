//! Framing: a request's bytes, the messages of a datagram, the attributes of a message.
//!
//! A message is read attribute by attribute, not as a whole: one that the crates cannot read (a kernel or a driver newer
//! than they are) then costs itself, not the whole interface, route or rule.

use netlink_packet_core::{
    NLMSG_ALIGNTO, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlaBuffer,
    NlasIterator,
};

/// The bytes of a request.
pub(super) fn encode(request: impl NetlinkSerializable, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The messages of a datagram; ends at the first that does not fit.
pub(super) fn split(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    const ALIGNMENT: usize = NLMSG_ALIGNTO as usize;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(bytes).ok()?;
        let length = (message.length() as usize).next_multiple_of(ALIGNMENT);
        bytes = bytes.get(length..).unwrap_or(&[]);
        Some(message)
    })
}

/// The attributes behind a fixed header of `header` bytes; ends at the first that does not fit.
pub(crate) fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> + Clone {
    NlasIterator::new(payload.get(header..).unwrap_or(&[])).map_while(Result::ok)
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;

    /// Bytes of `struct ifinfomsg`.
    const LINK_HEADER: usize = 16;

    fn request() -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::IfName("eth0".to_owned()), LinkAttribute::Mtu(1500)];
        encode(RouteNetlinkMessage::GetLink(link), 5, 42)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = request();
        let twice = [bytes.clone(), bytes].concat();
        let messages: Vec<_> = split(&twice).collect();
        assert_eq!(messages.len(), 2);
        for message in messages {
            assert_eq!((message.message_type(), message.flags(), message.sequence_number()), (18, 5, 42));
            let values: Vec<_> =
                attributes(message.payload(), LINK_HEADER).map(|a| (a.kind(), a.value().to_vec())).collect();
            assert_eq!(values, [(3, b"eth0\0".to_vec()), (4, 1500_u32.to_ne_bytes().to_vec())]);
        }
    }

    #[test]
    fn every_truncation_ends_quietly() {
        let bytes = request();
        for cut in 0..bytes.len() {
            for message in split(&bytes[..cut]) {
                attributes(message.payload(), LINK_HEADER).for_each(drop);
            }
            attributes(&bytes[..cut], 0).for_each(drop);
        }
    }
}
