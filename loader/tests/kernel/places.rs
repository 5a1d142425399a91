//! Where a namespace is: at a path, or behind the processes of a cgroup.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use brattice_loader::interfaces::PlaceWatch;
use brattice_loader::interfaces::places::{Asked, NoNamespace, Places};
use tokio::time::timeout;

use crate::testbed::{Testbed, sh, testbed};

/// A process in a network namespace of its own; ended when dropped.
struct Process(Child);

impl Process {
    async fn start() -> Self {
        let child = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
        let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let process = Self(child);
        while fs::read_link(process.path()).unwrap() == own {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn inode(&self) -> u64 {
        fs::metadata(self.path()).unwrap().ino()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cgroup of a test's own; its processes must end before it is dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2 is mounted");
        let path = Path::new(line.split(' ').nth(4).unwrap()).join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn take(&self, process: &Process) {
        fs::write(self.0.join("cgroup.procs"), process.0.id().to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn paths(paths: &[&str]) -> Asked {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Asked { paths, prefixes: BTreeSet::new(), wanted: Arc::new(|_| false), hosts: Arc::new(|_| false) }
}

#[test]
fn a_path_leads_to_a_namespace_or_is_told_for_what_it_is() {
    testbed(async |testbed: Testbed| {
        let process = Process::start().await;
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        let (file, link, mounted, pipe) = (at("file"), at("link"), at("mounted"), at("pipe"));
        fs::write(&file, "").unwrap();
        fs::write(&mounted, "").unwrap();
        std::os::unix::fs::symlink(process.path(), &link).unwrap();
        sh(&format!("mkfifo {pipe}"));
        let netns = testbed.workload("v0", "10.0.0.10/24");
        let named = format!("/run/netns/{netns}");
        let mount_namespace = format!("/proc/{}/ns/mnt", process.0.id());
        let root = format!("/proc/{}/root{named}", process.0.id());
        let (gone, folder) = (at("gone"), place.path().display().to_string());
        // This thread's namespace is the testbed's, not the process' first one.
        let own = format!("/proc/{}/ns/net", nix::unistd::gettid());
        let asked = paths(&[
            &process.path(),
            &named,
            &file,
            &link,
            &mounted,
            &pipe,
            &mount_namespace,
            &root,
            &own,
            &gone,
            &folder,
        ]);
        let mut watch = PlaceWatch::open().unwrap();
        let found = watch.look(&asked, &BTreeSet::new()).unwrap().paths;
        assert_eq!(found[&process.path()], Ok(process.inode()));
        assert_eq!(found[&named], Ok(fs::metadata(&named).unwrap().ino()));
        assert_eq!(found[&link], Err(NoNamespace::Symlink));
        assert_eq!(found[&root], Err(NoNamespace::Symlink));
        assert_eq!(found[&own], Err(NoNamespace::Host));
        assert_eq!(found[&gone], Err(NoNamespace::Missing));
        for (path, what) in [(&file, "a file"), (&pipe, "a file"), (&mounted, "a file"), (&folder, "a directory")] {
            assert_eq!(found[path], Err(NoNamespace::Other(what)), "{path}");
        }
        assert!(found[&mount_namespace].is_err(), "{:?}", found[&mount_namespace]);

        // A runtime mounts the namespace there: the mount is an event, and so is its end.
        sh(&format!("mount --bind {} {mounted}", process.path()));
        timeout(Duration::from_secs(5), watch.changed()).await.expect("word of the mount").unwrap();
        assert_eq!(watch.look(&asked, &BTreeSet::new()).unwrap().paths[&mounted], Ok(process.inode()));
        sh(&format!("umount {mounted}"));
        timeout(Duration::from_secs(5), watch.changed()).await.expect("word of its end").unwrap();
        let path = process.path();
        drop(process);
        let found = watch.look(&asked, &BTreeSet::new()).unwrap().paths;
        assert_eq!(found[&path], Err(NoNamespace::ProcessGone));
        assert!(found[&mounted].is_err());
    });
}

#[test]
fn processes_of_a_cgroup_lead_to_their_namespace_by_event() {
    testbed(async |testbed: Testbed| {
        let parent = format!("{}.slice", testbed.name);
        let (wanted, other) = (format!("{parent}/pay.scope"), format!("{parent}/other.scope"));
        let pattern = wanted.clone();
        let asked = Asked {
            paths: BTreeSet::new(),
            prefixes: BTreeSet::from([wanted.clone()]),
            wanted: Arc::new(move |cgroup| cgroup == pattern),
            hosts: Arc::new(|_| false),
        };
        let mut watch = PlaceWatch::open().unwrap();
        /// No event of before is left.
        async fn quiet(watch: &mut PlaceWatch, asked: &Asked) {
            watch.look(asked, &BTreeSet::new()).unwrap();
            while timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {
                watch.look(asked, &BTreeSet::new()).unwrap();
            }
        }
        /// Looks only after an event.
        async fn told(watch: &mut PlaceWatch, asked: &Asked, what: &str, holds: impl Fn(&Places) -> bool) {
            let wait = async {
                loop {
                    watch.changed().await.unwrap();
                    if holds(&watch.look(asked, &BTreeSet::new()).unwrap()) {
                        return;
                    }
                }
            };
            // Less than the polling interval: it is the event that is seen.
            timeout(Duration::from_secs(5), wait).await.unwrap_or_else(|_| panic!("no word of {what}"));
        }
        let nothing = watch.look(&asked, &BTreeSet::new()).unwrap();
        assert!(nothing.cgroups.is_empty() && nothing.problem.is_none(), "{nothing:?}");
        let process = Process::start().await;
        let slice = Cgroup::make(&parent);
        let (scope, elsewhere) = (Cgroup::make(&wanted), Cgroup::make(&other));
        elsewhere.take(&process);
        assert!(watch.look(&asked, &BTreeSet::new()).unwrap().cgroups.is_empty(), "another cgroup's is not");
        quiet(&mut watch, &asked).await;
        scope.take(&process);
        let inode = process.inode();
        told(&mut watch, &asked, "the process", |found| {
            found.cgroups.get(&inode).is_some_and(|cgroups| cgroups.contains(&wanted))
        })
        .await;
        // The last process leaves.
        quiet(&mut watch, &asked).await;
        elsewhere.take(&process);
        told(&mut watch, &asked, "its leaving", |found| found.cgroups.is_empty()).await;
        drop(process);
        drop((scope, elsewhere, slice));
    });
}
