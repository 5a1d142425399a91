//! A place for one test: a network namespace of its own on a thread of its own, a pin directory of its own, and removal
//! of both at the end, also when the test fails.

use std::fs::File;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use brattice_loader::{Datapath, EbpfLog, Ipv6Ranges, Options};
use nix::sched::{CloneFlags, setns, unshare};

/// User of the engine in these tests: no other process has it.
pub(crate) const ENGINE: u32 = 47_811;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What a test gets.
pub(crate) struct Testbed {
    /// Unique, short enough to begin interface and namespace names.
    pub(crate) name: String,
    pub(crate) bpffs: PathBuf,
}

/// Runs a test in a testbed.
pub(crate) fn testbed<F: Future<Output = ()>>(test: impl FnOnce(Testbed) -> F + Send + 'static) {
    let name = format!("bl{}-{}", std::process::id() % 100_000, NEXT.fetch_add(1, Ordering::Relaxed));
    let bpffs = PathBuf::from(format!("/sys/fs/bpf/{name}"));
    let place = bpffs.clone();
    let prefix = name.clone();
    let thread = std::thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            assert!(nix::unistd::geteuid().is_root(), "these tests need root: they work on the kernel");
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            sh("ip link set lo up");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(Testbed { name, bpffs }))));
            drop(runtime);
            if let Err(panic) = result {
                resume_unwind(panic);
            }
        })
        .expect("a thread");
    let result = thread.join();
    // The namespace is gone with its thread; names and pins are not.
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{prefix}-")) {
            let _ = Command::new("ip").args(["netns", "delete", &name]).status();
        }
    }
    remove_pins(&place);
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

fn remove_pins(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_pins(&entry.path());
        } else {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir(path);
}

impl Testbed {
    pub(crate) fn options(&self) -> Options {
        Options {
            bpffs: self.bpffs.clone(),
            vip: "169.254.64.0/20".parse().unwrap(),
            alias: "100.127.0.0/16".parse().unwrap(),
            ipv6: None,
            engine_uid: ENGINE,
            workers: 2,
            half_open_limit: 256,
            ebpf_log: EbpfLog::Off,
        }
    }

    /// As [`Self::options`], of a node with IPv6.
    pub(crate) fn options6(&self) -> Options {
        let ipv6 = Ipv6Ranges { vip: "fd00:a9fe::/64".parse().unwrap(), alias: "fd00:64::/48".parse().unwrap() };
        Options { ipv6: Some(ipv6), ..self.options() }
    }

    pub(crate) async fn start(&self) -> Datapath {
        Datapath::start(self.options()).await.unwrap()
    }

    /// A named namespace with a veth to it: `<host>` here, `eth0` there, up. Returns the name.
    pub(crate) fn workload(&self, host: &str, address: &str) -> String {
        let netns = format!("{}-{host}", self.name);
        sh(&format!("ip netns add {netns}"));
        sh(&format!("ip link add {host} type veth peer name eth0 netns {netns}"));
        sh(&format!("ip link set {host} up"));
        inside(&netns, "ip link set lo up");
        inside(&netns, "ip link set eth0 up");
        // Of IPv6 usable at once, without looking for duplicates first.
        let nodad = if address.contains(':') { "nodad" } else { "" };
        inside(&netns, &format!("ip address add {address} dev eth0 {nodad}"));
        inside(&netns, "ip route add default dev eth0");
        netns
    }
}

/// Runs a command in this thread's namespace; its output.
pub(crate) fn sh(command: &str) -> String {
    let (ok, output) = try_sh(command);
    assert!(ok, "{command}: {output}");
    output
}

/// Runs a command; whether it succeeded, and its output.
pub(crate) fn try_sh(command: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Runs a command in a named namespace.
pub(crate) fn inside(netns: &str, command: &str) -> String {
    sh(&format!("nsenter --net=/run/netns/{netns} {command}"))
}

/// Makes something in a named namespace, such as a socket, to be used from here.
pub(crate) fn there<T: Send>(netns: &str, make: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(File::open(format!("/run/netns/{netns}")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            make()
        });
        thread.join().unwrap()
    })
}

pub(crate) fn ifindex(name: &str) -> u32 {
    sh(&format!("cat /proc/self/net/dev > /dev/null; ip -o link show {name}"))
        .split(':')
        .next()
        .and_then(|n| n.trim().parse().ok())
        .unwrap()
}

/// The MAC of an interface here.
pub(crate) fn mac(name: &str) -> String {
    mac_in(&sh(&format!("ip -o link show {name}")))
}

/// The MAC in a line of `ip -o link show`.
pub(crate) fn mac_in(line: &str) -> String {
    line.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("a MAC").to_owned()
}

/// All files below a directory.
pub(crate) fn tree(path: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        all.push(entry.path());
        if entry.path().is_dir() {
            all.extend(tree(&entry.path()));
        }
    }
    all.sort();
    all
}

/// Programs at the root of the cgroups, which has cgroup v2 on every machine that runs these tests.
pub(crate) const SOCKET_PROGRAMS: usize = 6;
