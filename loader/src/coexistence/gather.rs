//! Reads the facts from the kernel and from below a root directory (`/`, but in tests).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::detectors;
use super::facts::{Chain, Device, Facts};
use crate::netlink::{Family, Socket, route, rule};
use crate::own_thread::on_own_thread;
use crate::{Error, Result, cgroups, interfaces, namespace, nft, sys};

/// Most processes looked at.
const MAX_PROCESSES: usize = 65_536;
/// Most CNI configurations that are listed.
const MAX_CONFIGS: usize = 64;
/// `BPF_CGROUP_INET_INGRESS`, `_EGRESS`, `INET4_CONNECT`, `INET6_CONNECT`, `UDP4_SENDMSG`, `UDP6_SENDMSG`.
const CGROUP_HOOKS: [u32; 6] = [0, 1, 10, 11, 14, 15];

/// Gathers. Files are looked for below `root`; everything else is this network namespace's.
///
/// # Errors
/// When the kernel refuses to list interfaces or routes. What else cannot be read is listed in the facts.
pub async fn gather(root: &Path) -> Result<Facts> {
    let root = root.to_owned();
    on_own_thread("coexistence", move || read(&root)).await
}

fn read(root: &Path) -> Result<Facts> {
    let mut facts = Facts { files: files(root), cni_configs: cni_configs(root), ..Facts::default() };
    facts.devices = interfaces::inventory_now()?
        .into_iter()
        .filter(|interface| !interface.ours)
        .map(|interface| Device {
            name: interface.name,
            kind: interface.kind,
            programs: interface.programs.into_iter().map(|program| program.name).collect(),
        })
        .collect();
    let mut socket = Socket::open(Family::Route).map_err(Error::netlink("opening a routing socket"))?;
    facts.routes = route::list(&mut socket)
        .map_err(Error::netlink("listing routes"))?
        .into_iter()
        .filter(|route| route.destination.prefix_len() != 0 && route.protocol != crate::routes::PROTOCOL)
        .map(|route| (route.destination, route.table))
        .collect();
    match rule::tables(&mut socket) {
        Ok(tables) => facts.rule_tables = tables,
        Err(error) => facts.unread.push(format!("policy rules: {error}")),
    }
    match nft::list(&["chains"]) {
        Ok(items) => facts.chains = items.unwrap_or_default().iter().filter_map(chain).collect(),
        Err(error) => facts.unread.push(format!("nftables: {error}")),
    }
    // Only root sees the file's contents.
    let names = fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    facts.legacy_tables = names.lines().map(str::to_owned).collect();
    match processes() {
        Ok(found) => facts.processes = found,
        Err(error) => facts.unread.push(format!("processes: {error}")),
    }
    facts.cgroup_programs = cgroup_programs();
    Ok(facts)
}

fn files(root: &Path) -> BTreeSet<String> {
    let exists = |path: &&str| root.join(path.trim_start_matches('/')).symlink_metadata().is_ok();
    detectors::paths().filter(exists).map(str::to_owned).collect()
}

fn cni_configs(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root.join("etc/cni/net.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // What an agent or an editor keeps aside is not in force.
        .filter(|name| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end)) && !name.starts_with('.'))
        .collect();
    names.sort();
    names.truncate(MAX_CONFIGS);
    names
}

fn chain(item: &Value) -> Option<Chain> {
    let field = |name: &str| item.get("chain")?.get(name)?.as_str().map(str::to_owned);
    let found = Chain { family: field("family")?, table: field("table")?, name: field("name")? };
    (!found.table.starts_with("brattice")).then_some(found)
}

/// Names of the processes in this network namespace: those of containers are not this host's.
fn processes() -> Result<BTreeMap<String, u32>> {
    let own = namespace::own()?;
    let mut all = BTreeMap::new();
    let entries = fs::read_dir("/proc").map_err(Error::io("listing /proc"))?;
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for id in ids.take(MAX_PROCESSES) {
        // A process may end meanwhile.
        let Ok(place) = fs::metadata(format!("/proc/{id}/ns/net")) else { continue };
        if place.ino() != own.inode {
            continue;
        }
        let Ok(name) = fs::read_to_string(format!("/proc/{id}/comm")) else { continue };
        all.entry(name.trim_end().to_owned()).or_insert(id);
    }
    Ok(all)
}

fn cgroup_programs() -> Vec<String> {
    let Some(root) = cgroups::mounted().and_then(|place| File::open(place).ok()) else { return Vec::new() };
    let ids: BTreeSet<u32> =
        CGROUP_HOOKS.iter().flat_map(|hook| sys::query_cgroup(root.as_fd(), *hook).unwrap_or_default()).collect();
    let name = |id: u32| sys::program_by_id(id).and_then(|fd| sys::program_info(fd.as_fd())).map(|info| info.name);
    ids.into_iter().filter_map(|id| name(id).ok()).collect()
}
