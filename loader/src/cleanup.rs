//! Removes everything of Brattice from this host, and nothing else.

use std::fs;
use std::io;
use std::path::Path;

use brattice_abi as abi;

use crate::links::Link;
use crate::netlink::route::RouteType;
use crate::netlink::{Family, Socket, link};
use crate::own_thread::on_own_thread;
use crate::pins::{self, Pins};
use crate::preflight::TRACE_TABLE;
use crate::{Error, Hook, Result, adopt, device, filters, interfaces, nft, routes, rules};

/// Removes the data path of this network namespace and the pins below `bpffs`, in the reverse order of start, also where
/// a start ended half-way or nothing runs; what was removed, a line each (none: there was nothing). Pins of other schemas
/// lie in the same directory and go, too: this is the way out of [`Error::UnknownSchema`].
///
/// # Errors
/// [`Error::InUse`] while an agent runs. With nothing touched: [`Error::OtherInstance`] where a data path works in this
/// network namespace that is pinned elsewhere, [`Error::OtherNamespace`] where the pins are of one that works in another.
/// Whatever the kernel refuses. It may be run again after any error.
pub async fn run(bpffs: &Path) -> Result<Vec<String>> {
    let bpffs = bpffs.to_owned();
    on_own_thread("cleanup", move || all(&bpffs)).await
}

/// See [`run`].
pub(crate) fn all(bpffs: &Path) -> Result<Vec<String>> {
    let pins = Pins::new(bpffs, Hook::of_this_kernel());
    let lock = pins.lock()?;
    // Device, routes and tables have the same names for all instances; pins are seen from all network namespaces.
    adopt::no_other(&pins)?;
    let mut removed = Vec::new();
    let mut socket = Socket::open(Family::Route).map_err(Error::netlink("opening a routing socket"))?;
    let schemas = pins.schemas()?;

    let links = |wanted: &dyn Fn(&str, &str) -> bool, removed: &mut Vec<String>| -> Result<()> {
        for (schema, kind) in schemas.iter().flat_map(|schema| pins::ATTACHING.map(|kind| (schema, kind))) {
            let folder = pins.root().join(schema).join(kind);
            for name in pins::names(&folder)?.into_iter().filter(|name| wanted(schema, name)) {
                let pin = folder.join(&name);
                match Link::open(&pin) {
                    Ok(Some(link)) => link.remove()?,
                    Ok(None) => continue,
                    // Something under our name that is no BPF object.
                    Err(_) => drop(pins::unlink(&pin)?),
                }
                removed.push(format!("{} {name}", kind.trim_end_matches('s')));
            }
        }
        Ok(())
    };
    let drop_routes = |socket: &mut Socket, kind: RouteType, removed: &mut Vec<String>| -> Result<()> {
        for found in routes::list(socket)?.into_iter().filter(|r| r.kind == kind) {
            routes::remove(socket, &found)?;
            removed.push(routes::describe(&found));
        }
        Ok(())
    };

    links(&|_, name| pins::workload_link_ifindex(name).is_some(), &mut removed)?;
    drop_routes(&mut socket, RouteType::Local, &mut removed)?;
    drop_routes(&mut socket, RouteType::Unicast, &mut removed)?;
    for range in rules::present(&mut socket)? {
        rules::remove(&mut socket, range)?;
        removed.push(rules::describe(range));
    }
    links(&|_, name| name.starts_with(pins::EGRESS_LINK), &mut removed)?;
    removed.extend(filters::sweep(&mut socket)?);
    for table in std::iter::once(TRACE_TABLE).chain(nft::TABLES) {
        if nft::remove(table)? {
            removed.push(format!("nftables table {table}"));
        }
    }
    if device::remove(&mut socket)? {
        removed.push(format!("device {} and its peer {}", device::DEVICE, device::PEER));
    }
    for found in link::list(&mut socket, None).map_err(Error::netlink("listing interfaces"))? {
        if found.name.starts_with(interfaces::PROBE_PREFIX) && found.group == device::GROUP {
            link::delete(&mut socket, found.ifindex).map_err(Error::netlink(format!("removing {}", found.name)))?;
            removed.push(format!("device {}", found.name));
        }
    }
    // Only now: without the route, nothing asks it any more.
    links(&|schema, name| pins::PROGRAMS.contains(&name) || schema != known_schema(), &mut removed)?;
    for schema in &schemas {
        clear_schema(&pins, schema, &mut removed)?;
    }
    // Foreign pins in it keep the directory; the mount point itself cannot be removed either.
    remove_directory(&pins.root().join(pins::LOCK))?;
    if remove_directory(pins.root())? {
        removed.push(format!("directory {}", pins.root().display()));
    }
    drop(lock);
    Ok(removed)
}

fn known_schema() -> String {
    format!("v{}", abi::SCHEMA_VERSION)
}

fn clear_schema(pins: &Pins, schema: &str, removed: &mut Vec<String>) -> Result<()> {
    let root = pins.root().join(schema);
    let known = schema == known_schema();
    for folder in pins::FOLDERS {
        let folder_path = root.join(folder);
        for name in pins::names(&folder_path)? {
            let ours = !known
                || abi::ALL_MAPS.contains(&name.as_str())
                || pins::PROGRAMS.contains(&name.as_str())
                || name.starts_with("clsact-");
            if ours && pins::unlink(&folder_path.join(&name))? {
                removed.push(format!("{} {name}", folder.trim_end_matches('s')));
            }
        }
        remove_directory(&folder_path)?;
    }
    remove_directory(&root)?;
    Ok(())
}

/// Removes a directory if it is empty.
fn remove_directory(path: &Path) -> Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy
            ) || error.raw_os_error() == Some(libc::EPERM) =>
        {
            Ok(false)
        }
        Err(error) => Err(Error::io(format!("removing {}", path.display()))(error)),
    }
}
