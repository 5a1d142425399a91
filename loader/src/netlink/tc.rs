//! `clsact` and its filters (`linux/pkt_sched.h`, `linux/pkt_cls.h`): where programs are attached on kernels without TCX.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Message, Socket, attributes, u32_at};
use crate::sys::Side;

/// Bytes of `struct tcmsg`.
const HEADER: usize = 20;
/// `TC_H_CLSACT`: the parent of the queueing discipline.
const CLSACT: u32 = 0xffff_fff1;
/// Its own handle.
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)` and `..._EGRESS`: parents of filters.
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// `ETH_P_ALL`.
const ALL_PROTOCOLS: u16 = 3;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// `TCA_BPF_FLAG_ACT_DIRECT`: what the program returns is the verdict.
const ACT_DIRECT: u32 = 1;

/// A filter as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `bpf`, `flower`, ...
    pub(crate) kind: String,
    /// Lower ones are asked first.
    pub(crate) preference: u16,
    /// For all protocols, as ours.
    pub(crate) all_protocols: bool,
    /// 0: the head of a list, which every kind of filter has at its preference.
    pub(crate) handle: u32,
    /// Of a `bpf` filter: the name it was given.
    pub(crate) name: String,
    /// Of a `bpf` filter: its program's id.
    pub(crate) program: Option<u32>,
}

fn header(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    for (offset, value) in [(4, ifindex), (8, handle), (12, parent), (16, info)] {
        header[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

const fn parent(side: Side) -> u32 {
    match side {
        Side::Ingress => INGRESS,
        Side::Egress => EGRESS,
    }
}

fn info(preference: u16) -> u32 {
    u32::from(preference) << 16 | u32::from(ALL_PROTOCOLS.to_be())
}

/// Makes `clsact` on an interface; `false`: it (or the older `ingress`) is there already.
pub(crate) fn add_clsact(socket: &mut Socket, ifindex: u32) -> io::Result<bool> {
    let request = Message::new(libc::RTM_NEWQDISC, &header(ifindex, CLSACT_HANDLE, CLSACT, 0))
        .flags(libc::NLM_F_CREATE | libc::NLM_F_EXCL)
        .text(TCA_KIND, "clsact");
    match socket.acknowledged(request) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes `clsact` from an interface.
pub(crate) fn remove_clsact(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    socket.acknowledged(
        Message::new(libc::RTM_DELQDISC, &header(ifindex, CLSACT_HANDLE, CLSACT, 0)).text(TCA_KIND, "clsact"),
    )
}

/// Indices of the interfaces that have `clsact` or `ingress`.
pub(crate) fn interfaces(socket: &mut Socket) -> io::Result<Vec<u32>> {
    socket.dump(&Message::new(libc::RTM_GETQDISC, &header(0, 0, 0, 0)), |all, kind, payload| {
        let named = attributes(payload, HEADER).text(TCA_KIND);
        if kind == libc::RTM_NEWQDISC
            && named.is_some_and(|name| name == "clsact" || name == "ingress")
            && let Some(ifindex) = u32_at(payload, 4)
        {
            all.push(ifindex);
        }
    })
}

/// The filters of one side of an interface, in the order in which they are asked; none where there is no `clsact`.
pub(crate) fn filters(socket: &mut Socket, ifindex: u32, side: Side) -> io::Result<Vec<Filter>> {
    socket.dump(&Message::new(libc::RTM_GETTFILTER, &header(ifindex, 0, parent(side), 0)), |all, kind, payload| {
        if kind != libc::RTM_NEWTFILTER {
            return;
        }
        let found = attributes(payload, HEADER);
        let options = found.inside(TCA_OPTIONS);
        let (Some(handle), Some(info)) = (u32_at(payload, 8), u32_at(payload, 16)) else { return };
        all.push(Filter {
            kind: found.text(TCA_KIND).unwrap_or_default(),
            preference: u16::try_from(info >> 16).unwrap_or(0),
            all_protocols: info & 0xffff == u32::from(ALL_PROTOCOLS.to_be()),
            handle,
            name: options.text(TCA_BPF_NAME).unwrap_or_default(),
            program: options.number(TCA_BPF_ID),
        });
    })
}

/// A `bpf` filter's place: interface, side, preference, handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) ifindex: u32,
    pub(crate) side: Side,
    pub(crate) preference: u16,
    pub(crate) handle: u32,
}

/// Puts a program there: a filter of its own whose return value is the verdict. One that is there is an error, or, with
/// `replace`, gets the program instead, with no moment without.
pub(crate) fn put(
    socket: &mut Socket,
    place: Place,
    program: BorrowedFd<'_>,
    name: &str,
    replace: bool,
) -> io::Result<()> {
    let Place { ifindex, side, preference, handle } = place;
    socket.acknowledged(
        Message::new(libc::RTM_NEWTFILTER, &header(ifindex, handle, parent(side), info(preference)))
            .flags(libc::NLM_F_CREATE | if replace { libc::NLM_F_REPLACE } else { libc::NLM_F_EXCL })
            .text(TCA_KIND, "bpf")
            .nested(TCA_OPTIONS, |m| {
                m.number(TCA_BPF_FD, program.as_raw_fd().cast_unsigned())
                    .text(TCA_BPF_NAME, name)
                    .number(TCA_BPF_FLAGS, ACT_DIRECT)
            }),
    )
}

/// Takes a filter away.
pub(crate) fn remove(socket: &mut Socket, place: Place) -> io::Result<()> {
    let Place { ifindex, side, preference, handle } = place;
    socket.acknowledged(
        Message::new(libc::RTM_DELTFILTER, &header(ifindex, handle, parent(side), info(preference)))
            .text(TCA_KIND, "bpf"),
    )
}
