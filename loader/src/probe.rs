//! What this kernel and host can do, before anything is changed.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::sys::{self, Side};
use crate::{cgroups, namespace, nft, sockets};

/// The oldest kernel whose TCX is whole.
const OLDEST: (u32, u32) = (6, 6);

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether nothing works without it; else it costs speed or comfort.
    pub required: bool,
    /// What was found.
    pub found: String,
    /// What to do, if something can be done.
    pub mend: Option<String>,
}

impl Check {
    /// A finding.
    pub(crate) fn new(name: &'static str, required: bool, ok: bool, found: impl Into<String>, mend: &str) -> Self {
        let mend = (!ok && !mend.is_empty()).then(|| mend.to_owned());
        Self { name, ok, required, found: found.into(), mend }
    }
}

/// Looks whether this kernel has what Brattice needs. Changes nothing.
#[must_use]
pub fn kernel(bpffs: &Path) -> Vec<Check> {
    let mut checks = vec![version(), privileges(), bpf_fs(bpffs), tcx()];
    let program = |name, kind, mend: &str| match is_program_supported(kind) {
        Ok(true) => Check::new(name, true, true, "supported", ""),
        Ok(false) => Check::new(name, true, false, "not supported by this kernel", mend),
        Err(error) => Check::new(name, true, false, format!("cannot be asked for: {error}"), "run as root"),
    };
    checks.push(program(
        "classifier programs",
        ProgramType::SchedClassifier,
        "use a kernel with CONFIG_NET_CLS_ACT and CONFIG_BPF_SYSCALL",
    ));
    checks.push(program(
        "sk_lookup programs",
        ProgramType::SkLookup,
        "use a kernel with CONFIG_INET and CONFIG_BPF_SYSCALL, 5.9 or later",
    ));
    for (name, kind) in
        [("socket address programs", ProgramType::CgroupSockAddr), ("cgroup packet programs", ProgramType::CgroupSkb)]
    {
        checks.push(program(name, kind, "use a kernel with CONFIG_CGROUP_BPF"));
    }
    for (name, kind) in [
        ("socket map", MapType::SockMap),
        ("ring buffer", MapType::RingBuf),
        ("LRU hash map", MapType::LruHash),
        ("per-CPU array", MapType::PerCpuArray),
    ] {
        checks.push(match is_map_supported(kind) {
            Ok(true) => Check::new(name, true, true, "supported", ""),
            Ok(false) => Check::new(
                name,
                true,
                false,
                "not supported by this kernel",
                "use a kernel with CONFIG_BPF_STREAM_PARSER, 6.6 or later",
            ),
            Err(error) => Check::new(name, true, false, format!("cannot be asked for: {error}"), "run as root"),
        });
    }
    checks.push(btf());
    checks.push(jit());
    checks.push(cgroups());
    checks.push(match nft::list(&["tables"]) {
        Ok(_) => Check::new("nftables", true, true, "nft works", ""),
        Err(error) => Check::new(
            "nftables",
            true,
            false,
            error.to_string(),
            "install the package nftables, on a kernel with CONFIG_NF_TABLES",
        ),
    });
    checks.push(if sockets::destroy_supported() {
        Check::new("destroying sockets", true, true, "supported", "")
    } else {
        Check::new(
            "destroying sockets",
            true,
            false,
            "not supported",
            "use a kernel with CONFIG_INET_DIAG_DESTROY and the module tcp_diag",
        )
    });
    checks
}

/// Major and minor of a release such as `6.6.13-cloud`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn version() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ok = parse_release(&release).is_some_and(|found| found >= OLDEST);
    Check::new("kernel", true, ok, release.trim(), "Brattice needs Linux 6.6 or later")
}

fn privileges() -> Check {
    // CAP_NET_ADMIN 12, CAP_SYS_ADMIN 21, CAP_BPF 39.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")]
        .into_iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| name)
        .collect();
    let found = if missing.is_empty() { "all there".to_owned() } else { format!("missing: {}", missing.join(", ")) };
    Check::new("privileges", true, missing.is_empty(), found, "run as root")
}

fn bpf_fs(bpffs: &Path) -> Check {
    let there: PathBuf = bpffs.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/")).to_owned();
    let ok = statfs(&there).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC);
    let found = if ok { there.display().to_string() } else { format!("{} is another file system", there.display()) };
    Check::new("bpffs", true, ok, found, "mount -t bpf bpf /sys/fs/bpf")
}

fn tcx() -> Check {
    // Interface 1 is lo, in every network namespace.
    match sys::query_tcx(1, Side::Ingress) {
        Ok(_) => Check::new("TCX", true, true, "supported", ""),
        Err(error) => Check::new(
            "TCX",
            true,
            false,
            format!("not there: {error}"),
            "Brattice needs Linux 6.6 or later with CONFIG_NET_XGRESS",
        ),
    }
}

fn btf() -> Check {
    let ok = Path::new("/sys/kernel/btf/vmlinux").exists();
    let found = if ok {
        "/sys/kernel/btf/vmlinux"
    } else {
        "none; Brattice's programs read no kernel structures and load without"
    };
    Check::new("BTF", false, ok, found, "a kernel with CONFIG_DEBUG_INFO_BTF shows more in bpftool")
}

fn jit() -> Check {
    let value = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    // A kernel with CONFIG_BPF_JIT_ALWAYS_ON may not have the switch at all.
    let ok = value.is_empty() || value.trim() != "0";
    let found = if value.is_empty() { "no switch: always on" } else { value.trim() };
    Check::new(
        "BPF JIT",
        false,
        ok,
        found,
        "sysctl -w net.core.bpf_jit_enable=1 (programs are several times slower without)",
    )
}

fn cgroups() -> Check {
    let mend = "mount -t cgroup2 cgroup2 /sys/fs/cgroup (without it, host processes cannot be workloads, and nothing keeps \
                an engine that was taken over from the host's own services)";
    match cgroups::Root::find() {
        Ok(Some(root)) if root.is_of_the_machine() => {
            Check::new("cgroup v2", false, true, root.path().display().to_string(), "")
        }
        Ok(Some(root)) => Check::new(
            "cgroup v2",
            false,
            false,
            format!("{} is a container's, not the machine's", root.path().display()),
            "run the agent in the host's cgroup namespace (host processes can only then be workloads)",
        ),
        Ok(None) => Check::new("cgroup v2", false, false, "not mounted", mend),
        Err(error) => Check::new("cgroup v2", false, false, error.to_string(), mend),
    }
}

/// Whether the network namespace already has an `sk_lookup` program of somebody else, which is asked before or after ours.
#[must_use]
pub fn other_lookups(own: &[u32]) -> Vec<String> {
    let Ok(here) = namespace::own() else { return Vec::new() };
    sys::query_sk_lookup(here.as_fd())
        .unwrap_or_default()
        .into_iter()
        .filter(|id| !own.contains(id))
        .map(|id| {
            let name = sys::program_by_id(id).and_then(|fd| sys::program_info(fd.as_fd())).map(|info| info.name);
            format!("{} (program id {id})", name.unwrap_or_default())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_release("6.6.13-cloud-amd64"), Some((6, 6)));
        assert_eq!(parse_release("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(parse_release("7-rc1"), None);
        assert!(parse_release("6.1.0").is_some_and(|v| v < OLDEST));
    }

    #[test]
    fn a_missing_bpffs_is_named_with_its_mend() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let check = bpf_fs(&place.path().join("none"));
        assert!(!check.ok && check.required);
        assert_eq!(check.mend.as_deref(), Some("mount -t bpf bpf /sys/fs/bpf"));
    }
}
