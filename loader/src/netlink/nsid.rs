//! Namespace ids: how one network namespace numbers another (`RTM_GETNSID`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Message, Socket, attributes};

const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// Bytes of `struct rtgenmsg`, padded.
const HEADER: usize = 4;

/// The id that the socket's namespace has for another one; `None` if it has none, which means that no interface of ours
/// has a peer there.
pub(crate) fn of(socket: &mut Socket, namespace: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let request =
        Message::new(libc::RTM_GETNSID, &[0; HEADER]).number(NETNSA_FD, namespace.as_raw_fd().cast_unsigned());
    let answer = socket.ask(request)?;
    // NETNSA_NSID_NOT_ASSIGNED is -1.
    Ok(attributes(&answer, HEADER).number(NETNSA_NSID).filter(|id| *id != u32::MAX))
}
