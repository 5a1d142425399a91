//! Netlink: requests and dumps on sockets of any network namespace.
//!
//! The socket is synchronous and small on purpose: one type serves routing, socket diagnosis and namespace ids, in our own
//! and in other network namespaces (a socket belongs to the namespace it was made in). The messages are those of the
//! `netlink-packet-*` crates.

pub(crate) mod address;
pub(crate) mod link;
mod message;
pub(crate) mod nsid;
pub(crate) mod route;
pub(crate) mod rule;
pub(crate) mod sock_diag;
pub(crate) mod tc;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    DoneBuffer, ErrorBuffer, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkSerializable,
};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with, sockopt,
};

use message::attributes;

use crate::socket_option;

/// Bytes of a receive buffer: the kernel's dumps fill at most 32 KiB a message.
const BUFFER: usize = 64 * 1024;
/// How often a dump is repeated that was interrupted by a change (`NLM_F_DUMP_INTR`).
const DUMP_ATTEMPTS: u32 = 8;
/// Longest wait for the kernel's answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Receive buffer of a listening socket, in bytes: some thousand events.
const EVENT_BUFFER: usize = 4 * 1024 * 1024;

/// `NETLINK_GET_STRICT_CHK`: the kernel looks at the filters in a dump request.
const GET_STRICT_CHK: libc::c_int = 12;
/// `NETLINK_ADD_MEMBERSHIP`.
const ADD_MEMBERSHIP: libc::c_int = 1;
/// `NETLINK_LISTEN_ALL_NSID`.
const LISTEN_ALL_NSID: libc::c_int = 8;

/// A netlink family.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    Route,
    SockDiag,
    Netfilter,
}

/// A netlink socket of the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open(family: Family) -> io::Result<Self> {
        let fd = Self::raw(family, SocketFlags::CLOEXEC)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER))?;
        if matches!(family, Family::Route) {
            option(&fd, GET_STRICT_CHK, 1)?;
        }
        Ok(Self { fd, sequence: 0 })
    }

    /// Opens a socket that listens to multicast groups, for `AsyncFd`; with `everywhere` also to those of the namespaces
    /// that have an id here.
    pub(crate) fn listen(family: Family, groups: &[u32], everywhere: bool) -> io::Result<Self> {
        let fd = Self::raw(family, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // Without the privilege for "force" the host's rmem_max limits it; what is lost then shows as ENOBUFS.
        if sockopt::set_socket_recv_buffer_size_force(&fd, EVENT_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&fd, EVENT_BUFFER)?;
        }
        if everywhere {
            option(&fd, LISTEN_ALL_NSID, 1)?;
        }
        // A socket without an address counts as the kernel's own, which gets no messages about the kernel's changes.
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        for group in groups {
            option(&fd, ADD_MEMBERSHIP, *group)?;
        }
        Ok(Self { fd, sequence: 0 })
    }

    fn raw(family: Family, flags: SocketFlags) -> io::Result<OwnedFd> {
        let protocol = match family {
            // It is protocol 0, which rustix leaves out.
            Family::Route => None,
            Family::SockDiag => Some(netlink::SOCK_DIAG),
            Family::Netfilter => Some(netlink::NETFILTER),
        };
        Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?)
    }

    /// Receives once, without waiting on a listening socket; the type numbers of the messages.
    pub(crate) fn received(&self, kinds: &mut Vec<u16>) -> io::Result<()> {
        self.receive(|kind, _| kinds.push(kind))
    }

    /// Receives once, without waiting on a listening socket; calls `each` with every message's type and payload.
    pub(crate) fn receive(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let (length, _) = recv(&self.fd, &mut buffer, RecvFlags::empty())?;
        message::split(&buffer[..length]).for_each(|message| each(message.message_type(), message.payload()));
        Ok(())
    }

    /// Sends a request, with flags such as `NLM_F_CREATE`, and waits for its acknowledgement.
    pub(crate) fn acknowledged(&mut self, request: impl NetlinkSerializable, flags: u16) -> io::Result<()> {
        let (bytes, sequence) = self.encode(request, NLM_F_REQUEST | NLM_F_ACK | flags);
        self.transact(&bytes, sequence, &mut |_, _| {}).map(drop)
    }

    /// Sends a request and takes the payload of the one answer.
    pub(crate) fn ask(&mut self, request: impl NetlinkSerializable) -> io::Result<Vec<u8>> {
        let mut answer = None;
        let (bytes, sequence) = self.encode(request, NLM_F_REQUEST | NLM_F_ACK);
        self.transact(&bytes, sequence, &mut |_, payload| {
            answer.get_or_insert_with(|| payload.to_vec());
        })?;
        answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Dumps: calls `each` with every answer's type and payload. A dump that a change interrupted starts again with an empty
    /// result.
    pub(crate) fn dump<T>(
        &mut self,
        request: &(impl NetlinkSerializable + Clone),
        mut each: impl FnMut(&mut Vec<T>, u16, &[u8]),
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = Vec::new();
            let (bytes, sequence) = self.encode(request.clone(), NLM_F_REQUEST | NLM_F_DUMP);
            let complete = self.transact(&bytes, sequence, &mut |kind, payload| each(&mut found, kind, payload))?;
            if complete {
                return Ok(found);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the tables change faster than they can be read"))
    }

    /// The bytes of a request, and its number, which the answers carry.
    fn encode(&mut self, request: impl NetlinkSerializable, flags: u16) -> (Vec<u8>, u32) {
        self.sequence = self.sequence.wrapping_add(1);
        (message::encode(request, flags, self.sequence), self.sequence)
    }

    /// Sends a request and passes its answers on; `false`: a change interrupted the dump.
    fn transact(&mut self, request: &[u8], sequence: u32, each: &mut dyn FnMut(u16, &[u8])) -> io::Result<bool> {
        send(&self.fd, request, SendFlags::empty())?;
        let mut complete = true;
        let mut buffer = vec![0; BUFFER];
        loop {
            let (length, _) = match recv(&self.fd, &mut buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
                other => other?,
            };
            for answer in message::split(&buffer[..length]) {
                // An answer to an earlier request that timed out.
                if answer.sequence_number() != sequence {
                    continue;
                }
                complete &= answer.flags() & NLM_F_DUMP_INTR == 0;
                let payload = answer.payload();
                match answer.message_type() {
                    NLMSG_ERROR => {
                        let code = ErrorBuffer::new_checked(payload).ok().and_then(|error| error.code());
                        return match code {
                            None => Ok(complete),
                            Some(code) => Err(io::Error::from_raw_os_error(-code.get())),
                        };
                    }
                    NLMSG_DONE => {
                        // The last message of a dump carries the dump's own error, if there was one.
                        let code = DoneBuffer::new_checked(payload).map_or(0, |done| done.code());
                        return if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(complete) };
                    }
                    kind => each(kind, payload),
                }
            }
        }
    }
}

fn option(socket: &OwnedFd, name: libc::c_int, value: u32) -> io::Result<()> {
    socket_option::set(socket, libc::SOL_NETLINK, name, value)
}
