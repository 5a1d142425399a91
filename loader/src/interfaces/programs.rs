//! eBPF programs of other software on an interface: TCX, and tc filters (clsact).

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::AsFd;

use brattice_abi as abi;

use crate::netlink::link::Link;
use crate::netlink::{Socket, tc};
use crate::sys::{self, Side};
use crate::{Error, Result};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// TCX, what the workload sends (host side).
    TcxIngress,
    /// TCX, what it is sent.
    TcxEgress,
    /// A tc filter, what the workload sends.
    TcIngress,
    /// A tc filter, what it is sent.
    TcEgress,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcxIngress => "TCX ingress",
            Self::TcxEgress => "TCX egress",
            Self::TcIngress => "tc ingress",
            Self::TcEgress => "tc egress",
        })
    }
}

/// A program of other software.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Program {
    /// Where.
    pub hook: Hook,
    /// As the kernel has it (15 bytes at most), or as the tc filter calls it; empty where neither says.
    pub name: String,
}

/// Programs by which a CNI's own data path is known: how their names begin, and whose they are.
///
/// The kernel cuts names to 15 bytes. Sources: Cilium `bpf/bpf_lxc.c`, `bpf_host.c` (and the object names that releases before 1.14
/// gave their filters), Calico `felix/bpf-gpl/tc.c`, Amazon's `aws-ebpf-sdk`/network policy agent `tc.v4ingress.bpf.c`.
const DATA_PATHS: [(&str, &str); 6] = [
    ("cil_", "Cilium"),
    ("cilium-", "Cilium"),
    ("bpf_lxc", "Cilium"),
    ("bpf_host", "Cilium"),
    ("cali_tc_", "Calico"),
    ("calico_tc", "Calico"),
];

/// Programs of the AWS network policy agent have common names; the interfaces of the AWS VPC CNI do not.
const AWS: (&str, [&str; 2], &str) = ("eni", ["handle_ingress", "handle_egress"], "the AWS network policy agent");

/// The CNI whose data path a program is part of. Other programs (of monitors, say) are no CNI's: Brattice's run before them, and
/// leave them all that is not service traffic.
#[must_use]
pub fn cni_of(interface: &str, program: &str) -> Option<&'static str> {
    let (prefix, programs, name) = AWS;
    if interface.starts_with(prefix) && programs.contains(&program) {
        return Some(name);
    }
    DATA_PATHS.iter().find(|(prefix, _)| program.starts_with(prefix)).map(|(_, name)| *name)
}

/// Whether a program is one of Brattice's, of any agent on this machine.
fn ours(name: &str) -> bool {
    [abi::WORKLOAD_INGRESS, abi::WORKLOAD_EGRESS].iter().any(|own| cut(own) == name)
}

/// As the kernel keeps a name.
fn cut(name: &str) -> &str {
    name.get(..15).unwrap_or(name)
}

/// Interfaces with a clsact or ingress qdisc: only these can have filters.
///
/// # Errors
/// When the kernel refuses to list them: without the list, a program could be missed.
pub(super) fn filtered(socket: &mut Socket) -> Result<BTreeSet<u32>> {
    let listed = there(tc::interfaces(socket)).map_err(Error::netlink("listing queueing disciplines"))?;
    Ok(listed.into_iter().collect())
}

/// The programs of other software on an interface of this namespace, in the order in which they run.
///
/// # Errors
/// When the kernel refuses to list them: a program that we do not see may be the CNI's.
pub(super) fn on(socket: &mut Socket, link: &Link, filtered: &BTreeSet<u32>) -> Result<Vec<Program>> {
    list(socket, link.ifindex, filtered)
        .map_err(|source| Error::Io { what: format!("listing the eBPF programs on {}", link.name), source })
}

fn list(socket: &mut Socket, ifindex: u32, filtered: &BTreeSet<u32>) -> io::Result<Vec<Program>> {
    let mut all = Vec::new();
    for (side, hook) in [(Side::Ingress, Hook::TcxIngress), (Side::Egress, Hook::TcxEgress)] {
        for id in there(sys::query_tcx(ifindex, side))? {
            all.push(Program { hook, name: name_of(id)? });
        }
    }
    if filtered.contains(&ifindex) {
        for (side, hook) in [(Side::Ingress, Hook::TcIngress), (Side::Egress, Hook::TcEgress)] {
            let filters = there(tc::filters(socket, ifindex, side))?.into_iter();
            // The head of a list of filters has neither name nor program.
            for found in filters.filter(|f| f.kind == "bpf" && (!f.name.is_empty() || f.program.is_some())) {
                let kernels = found.program.map(name_of).transpose()?.unwrap_or_default();
                // A loader may have called the filter anything; a program's own name is worth more where it says whose it is.
                let name = if kernels.is_empty() || cni_of("", &found.name).is_some() { found.name } else { kernels };
                all.push(Program { hook, name });
            }
        }
    }
    all.retain(|program| !ours(&program.name));
    Ok(all)
}

/// On an interface that vanishes meanwhile there is nothing, nor by a hook that the kernel does not have.
fn there<T>(listed: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match listed {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        listed => listed,
    }
}

/// The kernel's name of a program; empty if it is gone.
fn name_of(id: u32) -> io::Result<String> {
    match sys::program_by_id(id).and_then(|fd| sys::program_info(fd.as_fd())) {
        Ok(info) => Ok(info.name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_path_is_known_by_the_names_of_its_programs() {
        for (program, cni) in [
            ("handle_ingress", None),
            ("cil_from_contai", Some("Cilium")),
            ("cil_to_containe", Some("Cilium")),
            ("cil_from_netdev", Some("Cilium")),
            ("bpf_lxc.o:[from-container]", Some("Cilium")),
            ("cali_tc_preambl", Some("Calico")),
            ("calico_tc_main", Some("Calico")),
            ("tcx_ingress_flo", None),
            ("foreign", None),
            ("", None),
        ] {
            assert_eq!(cni_of("veth1", program), cni, "{program}");
        }
        assert_eq!(cni_of("eni8a1b2c3d4e5", "handle_ingress"), Some("the AWS network policy agent"));
        assert_eq!(cni_of("eni8a1b2c3d4e5", "monitor"), None);
    }

    #[test]
    fn only_what_is_not_there_has_no_programs() {
        let listed = |code| there::<u32>(Err(io::Error::from_raw_os_error(code)));
        for code in [libc::ENODEV, libc::EINVAL, libc::EOPNOTSUPP] {
            assert!(listed(code).unwrap().is_empty());
        }
        for code in [libc::EMFILE, libc::ENOMEM, libc::EPERM] {
            assert_eq!(listed(code).unwrap_err().raw_os_error(), Some(code));
        }
        assert_eq!(there(Ok(vec![7])).unwrap(), [7]);
    }

    #[test]
    fn our_own_are_not_foreign() {
        assert!(ours("workload_ingres") && ours("workload_egress"));
        assert!(!ours("cil_from_contai") && !ours(""));
    }
}
