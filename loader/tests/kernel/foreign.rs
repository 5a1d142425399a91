//! Other people's programs, before and after ours: by TCX where there is, else by `clsact`.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use aya::maps::{Array, MapData};
use aya::programs::links::FdLink;
use aya::programs::tc::{SchedClassifierLinkId, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};

use brattice_loader::Hook;

use crate::testbed::{Testbed, ifindex, inside, sh, testbed};

/// The foreign program's name in the kernel: that of a monitor, not of a CNI.
const NAME: &str = "counter";

/// A program that counts packets in `map` and passes them on (`TCX_NEXT`).
#[allow(unsafe_code)]
fn counter(map: i32) -> OwnedFd {
    let instruction = |code: u8, registers: u8, offset: i16, immediate: i32| {
        let mut bytes = [0; 8];
        bytes[0] = code;
        bytes[1] = registers;
        bytes[2..4].copy_from_slice(&offset.to_le_bytes());
        bytes[4..8].copy_from_slice(&immediate.to_le_bytes());
        bytes
    };
    let program = [
        instruction(0x62, 10, -4, 0),    // *(u32 *)(r10 - 4) = 0
        instruction(0x18, 0x11, 0, map), // r1 = map
        instruction(0, 0, 0, 0),         //
        instruction(0xbf, 0xa2, 0, 0),   // r2 = r10
        instruction(0x07, 2, 0, -4),     // r2 += -4
        instruction(0x85, 0, 0, 1),      // call bpf_map_lookup_elem
        instruction(0x15, 0, 2, 0),      // if r0 == 0 goto +2
        instruction(0xb7, 1, 0, 1),      // r1 = 1
        instruction(0xdb, 0x10, 0, 0),   // lock *(u64 *)r0 += r1
        instruction(0xb7, 0, 0, -1),     // r0 = TCX_NEXT
        instruction(0x95, 0, 0, 0),      // exit
    ]
    .concat();
    let mut attr = [0_u8; 144];
    attr[48..48 + NAME.len()].copy_from_slice(NAME.as_bytes());
    attr[0..4].copy_from_slice(&3_u32.to_ne_bytes()); // BPF_PROG_TYPE_SCHED_CLS
    attr[4..8].copy_from_slice(&(program.len() as u32 / 8).to_ne_bytes());
    attr[8..16].copy_from_slice(&(program.as_ptr() as u64).to_ne_bytes());
    attr[16..24].copy_from_slice(&(c"GPL".as_ptr() as u64).to_ne_bytes());
    // SAFETY: the attr and what it points to live through the call; BPF_PROG_LOAD gives a descriptor of our own.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, 5, attr.as_mut_ptr(), attr.len());
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(i32::try_from(fd).unwrap())
    }
}

#[allow(unsafe_code)]
fn pin(fd: &OwnedFd, path: &Path) {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let mut attr = [0_u8; 144];
    attr[0..8].copy_from_slice(&(path.as_ptr() as u64).to_ne_bytes());
    attr[8..12].copy_from_slice(&fd.as_raw_fd().to_ne_bytes());
    // SAFETY: the attr and the path live through the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, 6, attr.as_mut_ptr(), attr.len()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A foreign program attached to `device`, pinned with its link at `path`.
pub(crate) struct Foreign {
    count: Array<MapData, u64>,
    pub(crate) program: SchedClassifier,
}

impl Foreign {
    pub(crate) fn attach(device: &str, order: LinkOrder, path: &Path) -> Self {
        let count = Array::<MapData, u64>::create(1, 0).unwrap();
        let fd = counter(std::os::fd::AsFd::as_fd(map_data(&count).fd()).as_raw_fd());
        pin(&fd, path);
        let mut program = SchedClassifier::from_pin(path).unwrap();
        if Hook::of_this_kernel() == Hook::Clsact {
            let _ = qdisc_add_clsact(device);
            program.attach(device, TcAttachType::Ingress).unwrap();
            return Self { count, program };
        }
        let id: SchedClassifierLinkId =
            program.attach_with_options(device, TcAttachType::Ingress, TcAttachOptions::TcxOrder(order)).unwrap();
        let link: FdLink = program.take_link(id).unwrap().try_into().unwrap();
        // A name on a BPF file system has no dot.
        link.pin(format!("{}-link", path.display())).unwrap();
        Self { count, program }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.get(&0, 0).unwrap()
    }
}

/// Ids and names of the ingress programs of an interface, in order.
pub(crate) fn attached(device: &str) -> Vec<(u32, String)> {
    if Hook::of_this_kernel() == Hook::Clsact {
        let shown = sh(&format!("tc filter show dev {device} ingress"));
        let after = |line: &str, word: &str| line.split(word).nth(1)?.split_whitespace().next().map(str::to_owned);
        return shown
            .lines()
            .filter_map(|line| Some((after(line, " id ")?.parse().ok()?, after(line, " name ").unwrap_or_default())))
            .collect();
    }
    let (_, infos) = SchedClassifier::query_tcx(device, TcAttachType::Ingress).unwrap();
    infos.iter().map(|i| (i.id(), String::from_utf8_lossy(i.name()).into_owned())).collect()
}

fn map_data(array: &Array<MapData, u64>) -> &MapData {
    use aya::maps::IterableMap;
    array.map()
}

#[test]
fn foreign_programs_before_and_after_ours_go_on() {
    testbed(async |testbed: Testbed| {
        let netns = testbed.workload("v0", "10.0.0.10/24");
        sh("ip address add 10.0.0.1/24 dev v0");
        sh(&format!("mkdir -p {}", testbed.bpffs.display()));
        let early = Foreign::attach("v0", LinkOrder::first(), &testbed.bpffs.join("early"));
        let datapath = testbed.start().await;
        datapath.attach(ifindex("v0")).await.unwrap();
        let before = Foreign::attach("v0", LinkOrder::first(), &testbed.bpffs.join("before"));
        let after = Foreign::attach("v0", LinkOrder::last(), &testbed.bpffs.join("after"));
        let order = |device: &str| -> Vec<u32> { attached(device).into_iter().map(|(id, _)| id).collect() };
        let ours = datapath.attached().unwrap().into_iter().find(|a| a.program == "workload_ingress").unwrap();
        let id = |f: &Foreign| f.program.info().unwrap().id();
        // Ours went before the one that was there; the one attached first later is before ours. Filters without a
        // preference of their own get lower and lower ones, yet none as low as ours.
        let clsact = Hook::of_this_kernel() == Hook::Clsact;
        let theirs = if clsact { [&after, &before, &early] } else { [&before, &early, &after] }.map(id);
        let mut all = theirs.to_vec();
        all.insert(usize::from(!clsact), ours.program_id);
        assert_eq!(order("v0"), all);
        inside(&netns, "bash -c 'for n in 1 2 3; do echo $n > /dev/udp/10.0.0.1/9; done'");
        for (name, foreign) in [("early", &early), ("before", &before), ("after", &after)] {
            assert!(foreign.count() >= 3, "{name} saw {}", foreign.count());
        }
        datapath.detach(ifindex("v0")).await.unwrap();
        assert_eq!(order("v0"), theirs);
        let seen = after.count();
        inside(&netns, "bash -c 'echo > /dev/udp/10.0.0.1/9'");
        assert!(after.count() > seen);
    });
}

#[test]
fn the_inventory_names_foreign_programs_of_tcx_and_tc() {
    use aya::programs::tc::NlOptions;
    use brattice_loader::interfaces::{Hook, Program, inventory};
    testbed(async |testbed: Testbed| {
        for device in ["v0", "v1"] {
            testbed.workload(device, "10.0.0.10/24");
        }
        sh(&format!("mkdir -p {}", testbed.bpffs.display()));
        let datapath = testbed.start().await;
        for device in ["v0", "v1"] {
            datapath.attach(ifindex(device)).await.unwrap();
        }
        let programs = async |device: &str| -> Vec<Program> {
            inventory().await.unwrap().into_iter().find(|i| i.name == device).unwrap().programs
        };
        assert_eq!(programs("v0").await, [], "ours are not foreign");
        let _foreign = Foreign::attach("v0", LinkOrder::last(), &testbed.bpffs.join("tcx"));
        let named = |hook| Program { hook, name: NAME.into() };
        assert_eq!(programs("v0").await, [named(Hook::TcxIngress)]);
        assert_eq!(programs("v1").await, []);
        // As a tc filter.
        let count = Array::<MapData, u64>::create(1, 0).unwrap();
        let fd = counter(std::os::fd::AsFd::as_fd(map_data(&count).fd()).as_raw_fd());
        let path = testbed.bpffs.join("tc");
        pin(&fd, &path);
        let mut filter = SchedClassifier::from_pin(&path).unwrap();
        sh("tc qdisc add dev v1 clsact");
        filter.attach_with_options("v1", TcAttachType::Egress, TcAttachOptions::Netlink(NlOptions::default())).unwrap();
        assert_eq!(programs("v1").await, [named(Hook::TcEgress)]);
    });
}
