//! Which processes used the processors during a sample.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

/// `USER_HZ`: the unit of /proc/stat, fixed in the kernel's interface to user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// Time that something ran on a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seconds(pub(crate) f64);

/// The processors at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Per processor: time in user space and kernel, softirq and irq included, without steal.
    cores: Vec<f64>,
    /// Over all processors: time in irq and softirq alone.
    interrupts: f64,
    /// Of the processes asked about.
    processes: Vec<f64>,
}

/// What happened between two moments.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    /// Of the core that is measured.
    pub(crate) core: Seconds,
    /// Of each group of processes.
    pub(crate) groups: Vec<Seconds>,
    /// Over all processors, by processes in no group.
    pub(crate) others: Seconds,
}

impl Clock {
    /// Now; `groups` of processes, with all that they started.
    pub(crate) fn now(groups: &[BTreeSet<i32>]) -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let rows = text.lines().filter(|line| line.starts_with("cpu"));
        let mut cores = Vec::new();
        let mut interrupts = 0.0;
        for row in rows {
            let ticks: Vec<f64> = row.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
            let at = |index: usize| ticks.get(index).copied().unwrap_or(0.0) / TICKS_PER_SECOND;
            if row.starts_with("cpu ") {
                interrupts = at(5) + at(6);
            } else {
                cores.push(at(0) + at(1) + at(2) + at(5) + at(6));
            }
        }
        let processes = groups.iter().map(|group| group.iter().map(|pid| ran(*pid)).sum()).collect();
        Self { cores, interrupts, processes }
    }

    /// From `self` to `end`.
    pub(crate) fn until(&self, end: &Self, core: usize) -> Used {
        let spent =
            |index: usize| end.cores.get(index).zip(self.cores.get(index)).map_or(0.0, |(end, begin)| end - begin);
        let groups: Vec<Seconds> =
            self.processes.iter().zip(&end.processes).map(|(begin, end)| Seconds((end - begin).max(0.0))).collect();
        let all: f64 = (0..self.cores.len()).map(spent).sum();
        let ours: f64 = groups.iter().map(|group| group.0).sum();
        let others = all - ours - (end.interrupts - self.interrupts);
        Used { core: Seconds(spent(core)), groups, others: Seconds(others.max(0.0)) }
    }
}

/// Processors that are online, also those that the bench may not use itself.
pub(crate) fn online() -> usize {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cores = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    cores.max(1)
}

/// Seconds that the threads of a process have run. The kernel's work for packets that they send is in it, as far as it is
/// done at once.
fn ran(pid: i32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    threads.flatten().map(|thread| ran_thread(&thread.path())).sum()
}

fn ran_thread(folder: &Path) -> f64 {
    let text = fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
    let nanoseconds: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    Duration::from_nanos(nanoseconds as u64).as_secs_f64()
}

/// A process and all that it started.
pub(crate) fn with_children(pid: i32) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([pid]);
    let mut todo = vec![pid];
    while let Some(parent) = todo.pop() {
        let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { continue };
        for thread in threads.flatten() {
            let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
                if found.insert(child) {
                    todo.push(child);
                }
            }
        }
    }
    found
}

/// Resident memory of processes, bytes.
pub(crate) fn resident(pids: &BTreeSet<i32>) -> u64 {
    let of = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib =
            text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1_024
    };
    pids.iter().map(of).sum()
}

/// Puts all threads of processes on one core.
///
/// # Errors
/// None: a thread that is gone needs none.
pub(crate) fn pin(pids: &BTreeSet<i32>, core: usize) {
    let mut set = nix::sched::CpuSet::new();
    if set.set(core).is_err() {
        return;
    }
    for pid in pids {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let id = thread.file_name().to_string_lossy().parse().unwrap_or(0);
            // A thread that has ended meanwhile runs nowhere.
            let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(id), &set);
        }
    }
}
