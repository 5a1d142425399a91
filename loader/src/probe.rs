//! The capabilities of this kernel and host, before anything is changed.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};
use brattice_abi as abi;

use crate::{Error, Hook, Result, cgroups, filters, namespace, nft, object, pins, sockets, sys};

/// The oldest kernel that Brattice runs on. Those before lack what [`missing`] names, or were never tried.
const OLDEST: (u32, u32) = (6, 1);

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
    pub fix: Option<String>,
}

impl Check {
    /// A finding.
    pub(crate) fn new(name: &'static str, required: bool, ok: bool, found: impl Into<String>, fix: &str) -> Self {
        let fix = (!ok && !fix.is_empty()).then(|| fix.to_owned());
        Self { name, ok, required, found: found.into(), fix }
    }
}

/// Looks whether this kernel has what Brattice needs. Changes nothing.
#[must_use]
pub fn kernel(bpffs: &Path) -> Vec<Check> {
    let mut checks = vec![version(), privileges(), bpf_fs(bpffs), attaching(Hook::of_this_kernel())];
    let program = |name, kind, fix: &str| match is_program_supported(kind) {
        Ok(true) => Check::new(name, true, true, "supported", ""),
        Ok(false) => Check::new(name, true, false, "not supported by this kernel", fix),
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
        "use a kernel with CONFIG_INET and CONFIG_BPF_SYSCALL",
    ));
    checks.push(program("socket address programs", ProgramType::CgroupSockAddr, "use a kernel with CONFIG_CGROUP_BPF"));
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
                "use a kernel with CONFIG_BPF_STREAM_PARSER, 6.1 or later",
            ),
            Err(error) => Check::new(name, true, false, format!("cannot be asked for: {error}"), "run as root"),
        });
    }
    checks.extend(programs());
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

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn version() -> Check {
    let release = release();
    match old(&release, missing) {
        Some(error) => Check::new("kernel", true, false, release, &error.to_string()),
        None => Check::new("kernel", true, true, release, ""),
    }
}

/// Refuses kernels that are too old, before anything is made.
///
/// # Errors
/// [`Error::KernelTooOld`].
pub(crate) fn refuse_old_kernels() -> Result<()> {
    old(&release(), missing).map_or(Ok(()), Err)
}

/// A kernel of this release; `missing` is asked only of one that is too old. A release that cannot be read is none: what
/// the kernel refuses will tell.
fn old(release: &str, missing: impl FnOnce() -> Vec<&'static str>) -> Option<Error> {
    if parse_release(release).is_none_or(|found| found >= OLDEST) {
        return None;
    }
    let missing = missing();
    let lacks =
        if missing.is_empty() { "tried and known to work are only newer ones".into() } else { missing.join(", ") };
    Some(Error::KernelTooOld { release: release.to_owned(), lacks })
}

/// What Brattice uses and this kernel has not.
fn missing() -> Vec<&'static str> {
    let mut all = Vec::new();
    let lacks = |kind| matches!(is_program_supported(kind), Ok(false));
    if lacks(ProgramType::SchedClassifier) {
        all.push("it has no classifier programs (4.1)");
    }
    if lacks(ProgramType::SkLookup) {
        all.push("it has no sk_lookup programs (5.9)");
    } else if sys::try_lookup_ingress().is_err_and(|error| error.raw_os_error() != Some(libc::EPERM)) {
        all.push("its sk_lookup programs do not see by which interface a packet came (5.17)");
    }
    if matches!(is_map_supported(MapType::RingBuf), Ok(false)) {
        all.push("it has no ring buffer (5.8)");
    }
    all
}

/// What the verifier did not like: the last line of its log that is no statistics of its own.
fn verdict(log: &str) -> &str {
    let statistics = ["processed ", "verification time", "stack depth", "max_states"];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word)))
        .unwrap_or("refused")
}

/// Name of the check of a program.
fn program_check(program: &str) -> &'static str {
    match program {
        abi::WORKLOAD_INGRESS => "program workload_ingress",
        abi::WORKLOAD_EGRESS => "program workload_egress",
        abi::VIP_LISTENER => "program vip_listener",
        abi::HOST_CONNECT4 => "program host_connect4",
        abi::HOST_CONNECT6 => "program host_connect6",
        abi::HOST_SENDMSG4 => "program host_sendmsg4",
        abi::HOST_SENDMSG6 => "program host_sendmsg6",
        abi::HOST_BIND4 => "program host_bind4",
        abi::HOST_BIND6 => "program host_bind6",
        _ => "program of another name",
    }
}

/// Whether the programs load, and what the verifier had to look at.
fn programs() -> Vec<Check> {
    let refused = |name, error: &Error| {
        let text = match error {
            Error::Program { source, .. } | Error::Object(source) => source.to_string(),
            other => other.to_string(),
        };
        Check::new(name, true, false, verdict(&text), "use Linux 6.1 or later")
    };
    match object::try_load() {
        Ok(all) => all
            .into_iter()
            .map(|(program, info)| {
                let name = program_check(program);
                match info {
                    Ok(info) => {
                        let found = format!(
                            "{} instructions verified, {} bytes, {} of machine code",
                            info.verified, info.translated, info.machine
                        );
                        Check::new(name, true, true, found, "")
                    }
                    Err(error) => refused(name, &error),
                }
            })
            .collect(),
        Err(error) => vec![refused("programs", &error)],
    }
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
    let ok = pins::is_bpffs(&there).unwrap_or(false);
    let found = if ok { there.display().to_string() } else { format!("{} is another file system", there.display()) };
    Check::new("bpffs", true, ok, found, "mount -t bpf bpf /sys/fs/bpf")
}

fn attaching(hook: Hook) -> Check {
    let found = match hook {
        Hook::Tcx => "TCX".to_owned(),
        Hook::Clsact => {
            format!("clsact, preference {}: this kernel has no TCX (6.6, CONFIG_NET_XGRESS)", filters::PREFERENCE)
        }
    };
    Check::new("attaching", true, true, found, "")
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
    let fix = "mount -t cgroup2 cgroup2 /sys/fs/cgroup (without it, nothing keeps \
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
            "run the agent in the host's cgroup namespace (an engine that runs outside of this one would reach more than it may)",
        ),
        Ok(None) => Check::new("cgroup v2", false, false, "not mounted", fix),
        Err(error) => Check::new("cgroup v2", false, false, error.to_string(), fix),
    }
}

/// Whether the network namespace already has an `sk_lookup` program of other software, which runs before or after `vip_listener`.
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
    }

    #[test]
    fn the_verdict_is_found_in_a_log() {
        let log = "the BPF_PROG_LOAD syscall returned EINVAL\n0: (61) r0 = *(u32 *)(r1 +64)\ninvalid bpf_context access\n\
                   processed 1 insns (limit 1000000)\n\n";
        assert_eq!(verdict(log), "invalid bpf_context access");
        assert_eq!(verdict(""), "refused");
    }

    #[test]
    fn kernels_before_6_1_are_refused_with_what_they_lack() {
        let lacks = || vec!["it has no ring buffer (5.8)", "and no more"];
        for release in ["5.15.0-101-generic", "5.10.0-46-cloud-amd64", "4.19.0", "6.0.9"] {
            let text = old(release, lacks).expect("too old").to_string();
            assert!(
                text.contains(release) && text.contains("6.1") && text.contains("no ring buffer (5.8), and"),
                "{text}"
            );
        }
        let text = old("5.15.0", Vec::new).expect("too old").to_string();
        assert!(text.contains("newer ones"), "{text}");
        for release in ["6.1.0-56-cloud-amd64", "6.12.1", "7.0-rc1", "unreadable"] {
            assert!(old(release, || panic!("not asked")).is_none(), "{release}");
        }
    }

    #[test]
    fn a_missing_bpffs_is_named_with_its_mend() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let check = bpf_fs(&place.path().join("none"));
        assert!(!check.ok && check.required);
        assert_eq!(check.fix.as_deref(), Some("mount -t bpf bpf /sys/fs/bpf"));
    }
}
