//! Replaces the programs of a running data path, link by link, with no moment without one.

use std::os::fd::{AsFd, OwnedFd};

use crate::filters::Filter;
use crate::object::{self, Programs};
use crate::options::EbpfLog;
use crate::pins::{self, Pins};
use crate::{Error, Result, sys};

/// Loads the programs anew with the pinned maps and puts them in place of the running ones. A start that ends half-way leaves
/// links of both, each of them at work; the next one attaches those anew that are not as pinned.
pub(crate) fn programs(pins: &Pins, running: &Programs, log: EbpfLog) -> Result<Programs> {
    let fresh = object::load_programs(pins, log)?;
    let of_name = |name: &str| fresh.iter().find(|(own, _)| *own == name).map(|(_, fd)| fd);
    for pin in pins.found()?.links {
        if pins::is_filter(&pin) {
            if let Some(filter) = Filter::open(&pin)?
                && let Some(program) = of_name(filter.name())
            {
                filter.replace(program, &pin)?;
            }
            continue;
        }
        let failed = |what: &str| format!("{what} the link {}", pin.display());
        let link = sys::obj_get(&pin).map_err(Error::bpf(failed("opening")))?;
        let id = sys::link_info(link.as_fd()).map_err(Error::bpf(failed("asking for")))?.program_id;
        let name = running.all().find(|(_, loaded)| loaded.id == id).map(|(name, _)| name);
        if let Some(program) = name.and_then(of_name) {
            update(&link, program).map_err(Error::bpf(failed("giving another program to")))?;
        }
    }
    for (name, program) in &fresh {
        let pin = pins.program(name);
        pins::unlink(&pin)?;
        sys::obj_pin(program.as_fd(), &pin).map_err(Error::bpf(format!("pinning program {name}")))?;
    }
    object::open_programs(pins)
}

fn update(link: &OwnedFd, program: &OwnedFd) -> std::io::Result<()> {
    match sys::link_update(link.as_fd(), program.as_fd()) {
        // Its interface, namespace or cgroup is gone.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOLINK | libc::ENODEV | libc::ENOENT)) => Ok(()),
        other => other,
    }
}
