//! Namespace ids: how one network namespace numbers another (`RTM_GETNSID`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::Parseable;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::{Socket, attributes};

/// Bytes of `struct rtgenmsg`, padded.
const HEADER: usize = 4;

/// The id that the socket's namespace has for another one; `None` if it has none, which means that no interface of ours
/// has a peer there.
pub(crate) fn of(socket: &mut Socket, namespace: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mut request = NsidMessage::default();
    request.attributes = vec![NsidAttribute::Fd(namespace.as_raw_fd().cast_unsigned())];
    let answer = socket.ask(RouteNetlinkMessage::GetNsId(request))?;
    let id = attributes(&answer, HEADER).find_map(|attribute| match NsidAttribute::parse(&attribute) {
        Ok(NsidAttribute::Id(id)) => Some(id),
        _ => None,
    });
    // NETNSA_NSID_NOT_ASSIGNED is -1.
    Ok(id.and_then(|id| u32::try_from(id).ok()))
}
