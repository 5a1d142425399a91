//! What a start finds: a data path of its own to adopt, another agent's to keep away from, or nothing.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use brattice_abi as abi;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::error::PinsFound;
use crate::links::Link;
use crate::maps::Maps;
use crate::namespace::Namespace;
use crate::netlink::Socket;
use crate::object::{self, Programs};
use crate::options::{Ipv6Ranges, Options};
use crate::pins::{self, Pins};
use crate::sys::{self, Side, Target};
use crate::{Error, Hook, Result, device, filters, instances, namespace, pin_owner};

/// What stands for a range where there is no IPv6.
const OFF: &str = "off";
/// What is asked for, in errors.
const LOOKUPS: &str = "asking for the sk_lookup programs of this network namespace";
/// How often, and after which pause, another data path is looked for that may be going just now.
const GOING_LOOKS: u32 = 10;
const GOING: Duration = Duration::from_millis(30);

/// The programs of the data path that is pinned, if it is whole; `None`: start afresh.
pub(crate) fn running(pins: &Pins, namespace: &Namespace) -> Result<Option<Programs>> {
    let found = pins.found()?;
    pin_owner::refuse_other_namespace(pins, namespace)?;
    // Its network namespace is gone, and every device with it.
    if let Some(link) = Link::open(&pins.link(pins::LISTENER_LINK))?
        && link.info()?.target == (Target::Netns { inode: 0 })
    {
        for pin in &found.links {
            pins::unlink(pin)?;
        }
        return Ok(None);
    }
    match (found.missing.first(), found.links.is_empty()) {
        (None, _) => object::adopt(pins).map(Some),
        // A start that ended before anything was attached.
        (Some(_), true) => Ok(None),
        (Some(missing), false) => Err(Error::PinsIncomplete { path: pins.root().to_owned(), missing: missing.clone() }),
    }
}

/// Refuses to work beside another data path of this kind. The kernel detaches a link whose pin was removed a moment later,
/// so one that is found is looked for again.
pub(crate) fn alone(pins: &Pins, namespace: &Namespace, socket: &mut Socket, ours: Option<&Programs>) -> Result<()> {
    staying(|| other_instance(pins, namespace, socket, ours))
}

/// Refuses to touch a network namespace in which a data path works whose pins are elsewhere, and pins of a data path that works
/// in another one, whether or not its agent runs. What a data path leaves that no longer works (no pins, so no `vip_listener`
/// either) is no hindrance.
pub(crate) fn no_other(pins: &Pins) -> Result<()> {
    let namespace = namespace::own()?;
    pin_owner::refuse_other_namespace(pins, &namespace)?;
    let mut own = Vec::new();
    for schema in pins.schemas()? {
        own.extend(instances::program_ids(&pins.root().join(schema), abi::VIP_LISTENER));
    }
    staying(|| {
        let lookups = match sys::query_sk_lookup(namespace.as_fd()) {
            // A kernel without such programs.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => Vec::new(),
            asked => asked.map_err(Error::bpf(LOOKUPS))?,
        };
        refuse(pins, abi::VIP_LISTENER, lookups, &own)
    })
}

/// Looks again while there is another data path that may be going; then says where its pins are.
fn staying(mut look: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..GOING_LOOKS {
        match look() {
            Err(Error::OtherInstance { .. }) => std::thread::sleep(GOING),
            other => return other,
        }
    }
    look().map_err(|error| match error {
        Error::OtherInstance { program, id, path, .. } => {
            Error::OtherInstance { program, id, path, found: PinsFound(instances::pins_of(program, id)) }
        }
        other => other,
    })
}

fn refuse(pins: &Pins, program: &'static str, ids: Vec<u32>, own: &[u32]) -> Result<()> {
    for id in ids.into_iter().filter(|id| !own.contains(id)) {
        // A program that is gone by now is no hindrance.
        let named = sys::program_by_id(id).and_then(|fd| sys::program_info(fd.as_fd()));
        // The kernel keeps 15 bytes of a name.
        if named.is_ok_and(|info| program.starts_with(&info.name) && info.name.len() >= 12) {
            return Err(Error::OtherInstance { program, id, path: pins.root().to_owned(), found: PinsFound(None) });
        }
    }
    Ok(())
}

fn other_instance(pins: &Pins, namespace: &Namespace, socket: &mut Socket, ours: Option<&Programs>) -> Result<()> {
    let lookups = sys::query_sk_lookup(namespace.as_fd()).map_err(Error::bpf(LOOKUPS))?;
    refuse(pins, abi::VIP_LISTENER, lookups, ours.map(|p| p.listener.id).as_slice())?;
    if let Some(device) = device::find(socket)? {
        let mut programs = filters::programs(socket, device.ifindex, Side::Egress)?;
        if Hook::of_this_kernel() == Hook::Tcx {
            let more = sys::query_tcx(device.ifindex, Side::Egress);
            programs.extend(more.map_err(Error::bpf("asking for the TCX programs of brattice0"))?);
        }
        refuse(pins, abi::WORKLOAD_EGRESS, programs, ours.map(|p| p.egress.id).as_slice())?;
    }
    Ok(())
}

/// Refuses ranges other than those that workloads and their connections use already.
pub(crate) fn same_ranges(maps: &Maps, options: &Options) -> Result<()> {
    let Some(config) = maps.config().get(&0)?.filter(|c| c.ready == 1) else { return Ok(()) };
    let range = |net: u32, mask: u32| {
        Ipv4Net::with_netmask(net.into(), mask.into())
            .map_or_else(|_| format!("{net:08x}/{mask:08x}"), |n| n.to_string())
    };
    let range6 = |net: abi::Address, prefix: u8| {
        if net == abi::Address::default() { OFF.to_owned() } else { format!("{}/{prefix}", IpAddr::from(net)) }
    };
    let asked6 = |of: fn(&Ipv6Ranges) -> Ipv6Net| {
        options.ipv6.as_ref().map_or_else(|| OFF.to_owned(), |ipv6| of(ipv6).trunc().to_string())
    };
    for (which, running, asked) in [
        ("VIP", range(config.vip_net, config.vip_mask), options.vip.trunc().to_string()),
        ("alias", range(config.alias_net, config.alias_mask), options.alias.trunc().to_string()),
        ("IPv6 VIP", range6(config.vip_net6, abi::VIP6_PREFIX), asked6(|ipv6| ipv6.vip)),
        ("IPv6 alias", range6(config.alias_net6, abi::ALIAS6_PREFIX), asked6(|ipv6| ipv6.alias)),
    ] {
        if running != asked {
            return Err(Error::RangeChanged { which, running, asked });
        }
    }
    Ok(())
}
