//! `clsact` and its filters (`linux/pkt_sched.h`, `linux/pkt_cls.h`): where programs are attached on kernels without TCX.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Parseable, ParseableParametrized};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption,
};

use super::{Socket, attributes};
use crate::sys::Side;

/// Bytes of `struct tcmsg`.
const HEADER: usize = 20;
/// The handle of `clsact` itself.
const CLSACT_HANDLE: TcHandle = TcHandle { major: u16::MAX, minor: 0 };
/// `ETH_P_ALL`, in network byte order as in `tcm_info`.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

/// A filter as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `bpf`, `flower`, ...
    pub(crate) kind: String,
    /// Lower ones are asked first.
    pub(crate) preference: u16,
    /// For all protocols, as Brattice's are.
    pub(crate) all_protocols: bool,
    /// 0: the head of a list, which every kind of filter has at its preference.
    pub(crate) handle: u32,
    /// Of a `bpf` filter: the name it was given.
    pub(crate) name: String,
    /// Of a `bpf` filter: its program's id.
    pub(crate) program: Option<u32>,
}

fn header(ifindex: u32, handle: TcHandle, parent: TcHandle, info: u32) -> TcHeader {
    TcHeader { index: ifindex.cast_signed(), handle, parent, info, ..TcHeader::default() }
}

const fn parent(side: Side) -> TcHandle {
    let minor = match side {
        Side::Ingress => TcHandle::MIN_INGRESS,
        Side::Egress => TcHandle::MIN_EGRESS,
    };
    TcHandle { major: TcHandle::CLSACT.major, minor }
}

/// `tcm_info` of a filter: preference and protocol.
fn info(preference: u16) -> u32 {
    u32::from(preference) << 16 | u32::from(ALL_PROTOCOLS)
}

fn clsact(ifindex: u32) -> TcMessage {
    let kind = TcAttribute::Kind("clsact".to_owned());
    TcMessage::from_parts(header(ifindex, CLSACT_HANDLE, TcHandle::CLSACT, 0), vec![kind])
}

/// Makes `clsact` on an interface; `false`: it (or the older `ingress`) is there already.
pub(crate) fn add_clsact(socket: &mut Socket, ifindex: u32) -> io::Result<bool> {
    let request = RouteNetlinkMessage::NewQueueDiscipline(clsact(ifindex));
    match socket.acknowledged(request, NLM_F_CREATE | NLM_F_EXCL) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes `clsact` from an interface.
pub(crate) fn remove_clsact(socket: &mut Socket, ifindex: u32) -> io::Result<()> {
    socket.acknowledged(RouteNetlinkMessage::DelQueueDiscipline(clsact(ifindex)), 0)
}

/// The kind of a queueing discipline or filter.
fn kind(payload: &[u8]) -> String {
    attributes(payload, HEADER)
        .filter(|attribute| attribute.kind() == libc::TCA_KIND)
        .find_map(|attribute| match TcAttribute::parse_with_param(&attribute, "") {
            Ok(TcAttribute::Kind(kind)) => Some(kind),
            _ => None,
        })
        .unwrap_or_default()
}

/// Indices of the interfaces that have `clsact` or `ingress`.
pub(crate) fn interfaces(socket: &mut Socket) -> io::Result<Vec<u32>> {
    let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
    socket.dump(&request, |all, message, payload| {
        if message == libc::RTM_NEWQDISC
            && matches!(&*kind(payload), "clsact" | "ingress")
            && let Ok(header) = TcHeader::parse(payload)
        {
            all.push(header.index.cast_unsigned());
        }
    })
}

impl Filter {
    fn parse(payload: &[u8]) -> Option<Self> {
        let header = TcHeader::parse(payload).ok()?;
        let [preference, protocol] = [header.info >> 16, header.info & 0xffff];
        let mut filter = Self {
            kind: kind(payload),
            preference: u16::try_from(preference).expect("the upper half of 32 bits"),
            all_protocols: protocol == u32::from(ALL_PROTOCOLS),
            handle: header.handle.into(),
            name: String::new(),
            program: None,
        };
        // The options of other kinds are nothing to us.
        let options = attributes(payload, HEADER)
            .filter(|attribute| filter.kind == TcFilterBpf::KIND && attribute.kind() == libc::TCA_OPTIONS)
            .flat_map(|options| {
                attributes(options.value(), 0).filter_map(|o| TcFilterBpfOption::parse(&o).ok()).collect::<Vec<_>>()
            });
        for option in options.collect::<Vec<_>>() {
            match option {
                TcFilterBpfOption::ProgName(name) => filter.name = name,
                TcFilterBpfOption::ProgId(id) => filter.program = Some(id),
                _ => {}
            }
        }
        Some(filter)
    }
}

/// The filters of one side of an interface, in the order in which they are asked; none where there is no `clsact`.
pub(crate) fn filters(socket: &mut Socket, ifindex: u32, side: Side) -> io::Result<Vec<Filter>> {
    let request = TcMessage::from_parts(header(ifindex, TcHandle::UNSPEC, parent(side), 0), Vec::new());
    socket.dump(&RouteNetlinkMessage::GetTrafficFilter(request), |all, message, payload| {
        if message == libc::RTM_NEWTFILTER {
            all.extend(Filter::parse(payload));
        }
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

impl Place {
    fn message(&self, options: Vec<TcFilterBpfOption>) -> TcMessage {
        let header = header(self.ifindex, self.handle.into(), parent(self.side), info(self.preference));
        let mut attributes = vec![TcAttribute::Kind(TcFilterBpf::KIND.to_owned())];
        if !options.is_empty() {
            attributes.push(TcAttribute::Options(options.into_iter().map(TcOption::Bpf).collect()));
        }
        TcMessage::from_parts(header, attributes)
    }
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
    let message = place.message(vec![
        TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
        TcFilterBpfOption::ProgName(name.to_owned()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ]);
    let flags = NLM_F_CREATE | if replace { NLM_F_REPLACE } else { NLM_F_EXCL };
    socket.acknowledged(RouteNetlinkMessage::NewTrafficFilter(message), flags)
}

/// Takes a filter away.
pub(crate) fn remove(socket: &mut Socket, place: Place) -> io::Result<()> {
    socket.acknowledged(RouteNetlinkMessage::DelTrafficFilter(place.message(Vec::new())), 0)
}
