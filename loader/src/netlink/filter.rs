//! Queueing disciplines and tc filters, as far as they carry eBPF programs.

use std::collections::BTreeSet;
use std::io;

use super::{Message, Socket, attributes, u32_at};

/// Bytes of `struct tcmsg`.
const HEADER: usize = 20;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;

/// Parent of the filters of what an interface receives (`TC_H_CLSACT`, `TC_H_MIN_INGRESS`).
pub(crate) const INGRESS: u32 = 0xffff_fff2;
/// Parent of the filters of what it sends.
pub(crate) const EGRESS: u32 = 0xffff_fff3;

/// A filter that is an eBPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// As its loader called it; may be empty.
    pub(crate) name: String,
    /// The program's id.
    pub(crate) id: Option<u32>,
}

fn header(ifindex: u32, parent: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    header
}

/// Interfaces of this namespace with a `clsact` or `ingress` queueing discipline.
pub(crate) fn classifying(socket: &mut Socket) -> io::Result<BTreeSet<u32>> {
    let found = socket.dump(&Message::new(libc::RTM_GETQDISC, &header(0, 0)), |found, kind, payload| {
        let name = attributes(payload, HEADER).text(TCA_KIND).unwrap_or_default();
        if kind == libc::RTM_NEWQDISC && matches!(name.as_str(), "clsact" | "ingress") {
            found.extend(u32_at(payload, 4));
        }
    })?;
    Ok(found.into_iter().collect())
}

/// The eBPF filters of one side of an interface.
pub(crate) fn programs(socket: &mut Socket, ifindex: u32, parent: u32) -> io::Result<Vec<Filter>> {
    let found =
        socket.dump(&Message::new(libc::RTM_GETTFILTER, &header(ifindex, parent)), |found, kind, payload| {
            if kind == libc::RTM_NEWTFILTER {
                found.extend(parse(payload));
            }
        })?;
    Ok(found)
}

/// `None`: not eBPF, or the head of a chain of filters, which has no options.
fn parse(payload: &[u8]) -> Option<Filter> {
    let found = attributes(payload, HEADER);
    if found.text(TCA_KIND).as_deref() != Some("bpf") {
        return None;
    }
    let options = found.inside(TCA_OPTIONS);
    let filter = Filter { name: options.text(TCA_BPF_NAME).unwrap_or_default(), id: options.number(TCA_BPF_ID) };
    (!filter.name.is_empty() || filter.id.is_some()).then_some(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ebpf_filters_are_told_from_others_and_from_heads() {
        let message = |kind: &str, named: bool| {
            let message = Message::new(libc::RTM_NEWTFILTER, &header(3, INGRESS)).text(TCA_KIND, kind);
            let message = message.nested(TCA_OPTIONS, |m| {
                if named { m.text(TCA_BPF_NAME, "cil_from_container").number(TCA_BPF_ID, 42) } else { m }
            });
            message.finish(0, 0)[16..].to_vec()
        };
        assert_eq!(parse(&message("bpf", true)), Some(Filter { name: "cil_from_container".into(), id: Some(42) }));
        assert_eq!(parse(&message("bpf", false)), None);
        assert_eq!(parse(&message("flower", true)), None);
    }
}
