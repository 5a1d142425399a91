//! Programs attached as filters of `clsact`, on kernels without TCX (before 6.6).
//!
//! A filter is no link: the interface holds it, and it cannot be pinned. What is pinned for each is its program once more,
//! under the interface's index: that says what to look for there. Another pin (`clsact-<index>`) says that the `clsact` of
//! that interface was made here, and may go with the filter if nothing else is on it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use brattice_abi as abi;

use crate::netlink::tc::{self, Place};
use crate::netlink::{Family, Socket};
use crate::sys::{self, LinkInfo, Side, Target};
use crate::{Error, Result, pins};

/// The lowest there is: first of all filters. Those that others add at the same later come before.
pub(crate) const PREFERENCE: u16 = 1;
/// Distinguishes our filters from others at the same preference, together with the name.
pub(crate) const HANDLE: u32 = 187;

/// A filter of Brattice.
#[derive(Debug)]
pub(crate) struct Filter {
    program: OwnedFd,
    name: &'static str,
    ifindex: u32,
    /// Whether `clsact` was made here, too.
    made_here: bool,
}

fn routing() -> Result<Socket> {
    Socket::open(Family::Route).map_err(Error::netlink("opening a routing socket"))
}

const fn side(program: &str) -> Side {
    // The two classifiers; compared by length, as strings cannot be in a constant function.
    if program.len() == abi::WORKLOAD_EGRESS.len() { Side::Egress } else { Side::Ingress }
}

fn place(ifindex: u32, side: Side) -> Place {
    Place { ifindex, side, preference: PREFERENCE, handle: HANDLE }
}

/// `workload_ingress-12` → program and index.
fn parse(pin: &Path) -> Option<(&'static str, u32)> {
    let (name, ifindex) = pin.file_name()?.to_str()?.split_once('-')?;
    let name = [abi::WORKLOAD_INGRESS, abi::WORKLOAD_EGRESS].into_iter().find(|known| *known == name)?;
    Some((name, ifindex.parse().ok()?))
}

/// The pin that says that an interface's `clsact` was made here, beside a filter's pin.
fn clsact_pin(pin: &Path, ifindex: u32) -> PathBuf {
    pin.with_file_name(format!("clsact-{ifindex}"))
}

impl Filter {
    /// The filter that a pin stands for; `None`: the pin is not there or stands for none.
    pub(crate) fn open(pin: &Path) -> Result<Option<Self>> {
        let Some((name, ifindex)) = parse(pin) else { return Ok(None) };
        match sys::obj_get(pin) {
            Ok(program) => {
                let made_here = clsact_pin(pin, ifindex).exists();
                Ok(Some(Self { program, name, ifindex, made_here }))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(Error::bpf(format!("opening the pin {}", pin.display()))(error)),
        }
    }

    /// Attaches, before all other filters. The pin is made first: one without a filter does no harm.
    pub(crate) fn attach(program: &OwnedFd, ifindex: u32, side: Side, pin: &Path) -> Result<Self> {
        let name = match side {
            Side::Ingress => abi::WORKLOAD_INGRESS,
            Side::Egress => abi::WORKLOAD_EGRESS,
        };
        let failed = |source: std::io::Error| match source.raw_os_error() {
            Some(libc::ENODEV) => Error::NoInterface { ifindex },
            Some(libc::ENOENT | libc::EOPNOTSUPP) => Error::Netlink {
                what: format!(
                    "attaching {name} to interface {ifindex} by clsact (the kernel may lack the modules sch_ingress and cls_bpf)"
                ),
                source,
            },
            _ => Error::Netlink { what: format!("attaching {name} to interface {ifindex} by clsact"), source },
        };
        let mut socket = routing()?;
        // Also where nothing can be attached to it, an interface has a name; a missing one shows before anything is pinned.
        let record = clsact_pin(pin, ifindex);
        if tc::add_clsact(&mut socket, ifindex).map_err(failed)? {
            pins::unlink(&record)?;
            sys::obj_pin(program.as_fd(), &record).map_err(Error::bpf(format!("pinning {}", record.display())))?;
        }
        let found = tc::filters(&mut socket, ifindex, side).map_err(failed)?;
        let mut replace = false;
        for filter in found.iter().filter(|filter| filter.preference == PREFERENCE) {
            let place_taken = filter.handle == HANDLE && filter.name != name;
            if filter.kind != "bpf" || !filter.all_protocols || place_taken {
                return Err(Error::FilterTaken { ifindex, kind: filter.kind.clone(), name: filter.name.clone() });
            }
            replace |= filter.handle == HANDLE;
        }
        pins::unlink(pin)?;
        sys::obj_pin(program.as_fd(), pin).map_err(Error::bpf(format!("pinning {}", pin.display())))?;
        let program = program.try_clone().map_err(Error::io("keeping a program open"))?;
        if let Err(error) = tc::put(&mut socket, place(ifindex, side), program.as_fd(), name, replace) {
            pins::unlink(pin)?;
            return Err(failed(error));
        }
        Ok(Self { program, name, ifindex, made_here: record.exists() })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Puts another program in its place, here and at the pin. Nothing is done where it is not there any more.
    pub(crate) fn replace(&self, program: &OwnedFd, pin: &Path) -> Result<()> {
        let side = side(self.name);
        let mut socket = routing()?;
        if ours(&mut socket, self.ifindex, side)?.next().is_none() {
            return Ok(());
        }
        tc::put(&mut socket, place(self.ifindex, side), program.as_fd(), self.name, true)
            .map_err(Error::netlink(format!("giving another program to interface {}", self.ifindex)))?;
        pins::unlink(pin)?;
        sys::obj_pin(program.as_fd(), pin).map_err(Error::bpf(format!("pinning {}", pin.display())))
    }

    /// What the kernel says of it now; interface 0 when it is no longer there. A filter has no id of its own.
    pub(crate) fn info(&self) -> Result<LinkInfo> {
        let side = side(self.name);
        let program_id = sys::program_info(self.program.as_fd()).map_err(Error::bpf("asking for a program"))?.id;
        let there = ours(&mut routing()?, self.ifindex, side)?.any(|found| found.program == Some(program_id));
        let ifindex = if there { self.ifindex } else { 0 };
        Ok(LinkInfo { id: 0, program_id, target: Target::Interface { ifindex, side } })
    }

    /// Puts back pins that were removed; whether any was.
    pub(crate) fn repin(&self, pin: &Path) -> Result<bool> {
        let record = clsact_pin(pin, self.ifindex);
        let mut any = false;
        for path in std::iter::once(pin).chain(self.made_here.then_some(record.as_path())) {
            if !path.exists() {
                sys::obj_pin(self.program.as_fd(), path).map_err(Error::bpf(format!("pinning {}", path.display())))?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Takes it away, and `clsact` if that was made here and nothing else is on it; then the pins. Where the filter is not
    /// there any more, the interface may be another one of the same index: nothing is done to it.
    pub(crate) fn remove(self, pin: &Path) -> Result<()> {
        let record = clsact_pin(pin, self.ifindex);
        let mut socket = routing()?;
        take(&mut socket, self.ifindex, self.name, self.made_here)?;
        pins::unlink(&record)?;
        pins::unlink(pin).map(drop)
    }
}

/// Filters at our place with our name.
fn ours(socket: &mut Socket, ifindex: u32, side: Side) -> Result<impl Iterator<Item = tc::Filter> + use<>> {
    let name = match side {
        Side::Ingress => abi::WORKLOAD_INGRESS,
        Side::Egress => abi::WORKLOAD_EGRESS,
    };
    let found = tc::filters(socket, ifindex, side)
        .map_err(Error::netlink(format!("asking for the filters of interface {ifindex}")))?;
    Ok(found.into_iter().filter(move |found| {
        found.preference == PREFERENCE && found.handle == HANDLE && found.kind == "bpf" && found.name == name
    }))
}

/// Takes our filter from an interface; whether there was one.
fn take(socket: &mut Socket, ifindex: u32, name: &str, made_here: bool) -> Result<bool> {
    let side = side(name);
    if ours(socket, ifindex, side)?.next().is_none() {
        return Ok(false);
    }
    let gone = |result: std::io::Result<()>| match result {
        // The interface or the filter vanished meanwhile.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) => Ok(()),
        other => other.map_err(Error::netlink(format!("taking {name} from interface {ifindex}"))),
    };
    gone(tc::remove(socket, place(ifindex, side)))?;
    let mut left = 0;
    for side in [Side::Ingress, Side::Egress] {
        left += tc::filters(socket, ifindex, side)
            .map_err(Error::netlink(format!("asking for the filters of interface {ifindex}")))?
            .len();
    }
    if made_here && left == 0 {
        gone(tc::remove_clsact(socket, ifindex))?;
    }
    Ok(true)
}

/// Ids of the programs of our name on one side of an interface, whichever process attached them.
pub(crate) fn programs(socket: &mut Socket, ifindex: u32, side: Side) -> Result<Vec<u32>> {
    Ok(ours(socket, ifindex, side)?.filter_map(|found| found.program).collect())
}

/// Removes our filters that have no pin any more; returns where. Their `clsact` may be of other software: it stays.
pub(crate) fn sweep(socket: &mut Socket) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for ifindex in tc::interfaces(socket).map_err(Error::netlink("listing queueing disciplines"))? {
        for name in [abi::WORKLOAD_INGRESS, abi::WORKLOAD_EGRESS] {
            if take(socket, ifindex, name, false)? {
                removed.push(format!("filter {name} of interface {ifindex}"));
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_name_program_and_interface() {
        assert_eq!(parse(Path::new("/x/filters/workload_ingress-12")), Some((abi::WORKLOAD_INGRESS, 12)));
        assert_eq!(parse(Path::new("workload_egress-7")), Some((abi::WORKLOAD_EGRESS, 7)));
        for other in ["workload_egress", "clsact-7", "workload_ingress-", "workload_ingress-x", "vip_listener-1"] {
            assert_eq!(parse(Path::new(other)), None, "{other}");
        }
        assert_eq!(side(abi::WORKLOAD_INGRESS), Side::Ingress);
        assert_eq!(side(abi::WORKLOAD_EGRESS), Side::Egress);
    }
}
