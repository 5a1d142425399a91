//! Pins that go while the data path runs.

use std::time::Duration;

use brattice_loader::{Datapath, Error, PinWatch, cleanup};
use tokio::time::timeout;

use crate::testbed::{SOCKET_PROGRAMS, Testbed, ifindex, sh, testbed, tree, try_sh};

/// Unmounts what a test mounted, also when it fails.
struct Mounted(String);

impl Mounted {
    fn bpffs(place: &str) -> Self {
        sh(&format!("mkdir -p {place} && mount -t bpf none {place}"));
        Self(place.to_owned())
    }

    /// One that all users may write, as `mount -t bpf -o mode=1777` makes it.
    fn everybodys(place: &str) -> Self {
        sh(&format!("mkdir -p {place} && chmod a+rx {place}/.. && mount -t bpf -o mode=1777 none {place}"));
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l", &self.0]).status();
    }
}

async fn told(watch: &mut PinWatch, what: &str) {
    timeout(Duration::from_secs(5), watch.changed()).await.unwrap_or_else(|_| panic!("no word of {what}")).unwrap();
}

#[test]
fn a_removed_pin_is_told_and_put_back() {
    testbed(async |testbed: Testbed| {
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        let datapath = testbed.start().await;
        datapath.attach(ifindex("v0")).await.unwrap();
        let before = (datapath.attached().unwrap(), tree(&testbed.bpffs));
        let mut watch = PinWatch::open(&testbed.bpffs).unwrap();
        let root = testbed.bpffs.display();
        for what in ["v5/links/vip_listener", "v5/maps/WORKLOADS", "v5/programs/workload_ingress", "v5/links", "v5"] {
            sh(&format!("rm -r {root}/{what}"));
            told(&mut watch, what).await;
            // The burst may come in parts; after the last there is nothing left to repair.
            let mut repaired = datapath.repair().await.unwrap();
            while timeout(Duration::from_millis(200), watch.changed()).await.is_ok() {
                repaired.extend(datapath.repair().await.unwrap());
            }
            assert!(!repaired.is_empty() && repaired.iter().all(|m| *m == "pins"), "{what}: {repaired:?}");
            assert_eq!((datapath.attached().unwrap(), tree(&testbed.bpffs)), before, "{what}");
        }
        // Changes beside it by others do not concern us.
        let beside = format!("{root}-beside");
        sh(&format!("mkdir {beside} && rmdir {beside}"));
        assert!(
            timeout(Duration::from_millis(300), watch.changed()).await.is_err(),
            "told of somebody else's directory"
        );
    });
}

#[test]
fn without_its_file_system_the_data_path_works_on_and_is_pinned_when_it_is_back() {
    testbed(async |mut testbed: Testbed| {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("bpf").display().to_string();
        let mount = Mounted::bpffs(&path);
        testbed.bpffs = format!("{path}/brattice").into();
        let _workload = testbed.workload("v0", "10.0.0.10/24");
        let datapath = testbed.start().await;
        datapath.attach(ifindex("v0")).await.unwrap();
        let before = (datapath.attached().unwrap(), tree(&testbed.bpffs));
        let mut watch = PinWatch::open(&testbed.bpffs).unwrap();

        sh(&format!("umount -l {path}"));
        told(&mut watch, "the unmount").await;
        // The rest is repaired all the same, and reported when the pins can be repaired, too.
        sh("nft delete table inet brattice");
        let error = datapath.repair().await.unwrap_err();
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
        assert!(!testbed.bpffs.exists(), "nothing is left in the directory below");
        sh("nft list table inet brattice");
        assert_eq!(datapath.attached().unwrap(), before.0);
        assert!(datapath.whole().unwrap());

        let again = Mounted::bpffs(&path);
        told(&mut watch, "the mount").await;
        assert_eq!(datapath.repair().await.unwrap(), ["nft", "pins"]);
        assert_eq!((datapath.attached().unwrap(), tree(&testbed.bpffs)), before);
        // The directory is another one, and ours alone all the same.
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        drop(datapath);
        let next = testbed.start().await;
        assert!(next.adopted());
        assert_eq!((next.steps(), next.attached().unwrap()), (vec![], before.0));
        drop((again, mount));
    });
}

#[test]
fn an_interface_in_another_namespace_is_let_go_even_where_its_index_is_taken_anew() {
    testbed(async |testbed: Testbed| {
        let elsewhere = format!("{}-elsewhere", testbed.name);
        sh(&format!("ip netns add {elsewhere}"));
        sh("ip link add v0 index 777 type veth peer name v1");
        let datapath = testbed.start().await;
        datapath.attach(777).await.unwrap();
        assert!(datapath.whole().unwrap());
        sh(&format!("ip link set v0 netns {elsewhere}"));
        sh("ip link add w0 index 777 type veth peer name w1");
        assert!(!datapath.whole().unwrap());
        assert_eq!(datapath.repair().await.unwrap(), ["workload_ingress"]);
        let there = sh(&format!("ip netns exec {elsewhere} bpftool net show dev v0 2>/dev/null || true"));
        assert!(!there.contains("workload_ingr"), "{there}");
        datapath.attach(777).await.unwrap();
        assert!(crate::foreign::attached("w0").len() == 1);
        // And back: it is as new.
        sh("ip link delete w0");
        use std::os::fd::AsRawFd;
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let here = format!("/proc/{}/fd/{}", std::process::id(), here.as_raw_fd());
        sh(&format!("ip -n {elsewhere} link set v0 netns {here}"));
        datapath.repair().await.unwrap();
        assert_eq!(datapath.attached().unwrap().len(), 2 + SOCKET_PROGRAMS);
    });
}

/// Runs a command as a user without any privilege; whether it succeeded.
fn as_stranger(command: &str) -> bool {
    try_sh(&format!("setpriv --reuid 47822 --regid 47822 --clear-groups -- {command}")).0
}

#[test]
fn in_a_folder_open_to_all_users_others_take_no_lock_and_make_no_folder() {
    testbed(async |mut testbed: Testbed| {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("bpf").display().to_string();
        let _mount = Mounted::everybodys(&path);
        testbed.bpffs = format!("{path}/brattice").into();
        let root = testbed.bpffs.display().to_string();
        let refused = async |what: &str| {
            let error = Datapath::start(testbed.options()).await.unwrap_err();
            let foreign = matches!(&error, Error::PinsForeign { .. });
            assert!(foreign && error.to_string().contains("rm -r"), "{what}: {error}");
            let error = cleanup::run(&testbed.bpffs).await.unwrap_err();
            assert!(matches!(error, Error::PinsForeign { .. }), "{what}: {error}");
        };
        // Made by another user, or a symlink to another user's folder.
        assert!(as_stranger(&format!("mkdir {root}")), "control: there they may");
        refused("another's folder").await;
        assert!(as_stranger(&format!("rmdir {root}")));
        assert!(as_stranger(&format!("mkdir {path}/theirs")) && as_stranger(&format!("ln -s {path}/theirs {root}")));
        refused("another's link").await;
        assert!(as_stranger(&format!("rm {root}")));
        // Root's, but open to all; as the lock in it.
        for open in [root.clone(), format!("{root}/lock")] {
            sh(&format!("mkdir -p {root} && mkdir -p -m 777 {open} && chmod 777 {open}"));
            refused("a folder for everybody").await;
            sh(&format!("rm -r {root}"));
        }
        // A folder of root's that others may look into is theirs to lock, as the pin directory of older versions.
        sh(&format!("mkdir -m 755 {root}"));
        assert!(as_stranger(&format!("flock -n {root} true")), "control");
        let datapath = testbed.start().await;
        assert!(!as_stranger(&format!("flock -n {root}/lock true")), "nobody else can hold the lock");
        assert!(!as_stranger(&format!("mkdir {root}/x")) && !as_stranger(&format!("mkdir {root}/v5/x")));
        let error = Datapath::start(testbed.options()).await.unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        drop(datapath);
        assert!(testbed.start().await.adopted());
        cleanup::run(&testbed.bpffs).await.unwrap();
        assert!(!testbed.bpffs.exists());
        // Made by us, others may not enter it.
        let datapath = testbed.start().await;
        assert_eq!(sh(&format!("stat -c '%u %a' {root} {root}/lock")), "0 700\n0 700\n");
        drop(datapath);
        cleanup::run(&testbed.bpffs).await.unwrap();
    });
}
