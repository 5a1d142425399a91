//! Where the pins of a running data path are: its bpffs directory names the instance.

use std::collections::VecDeque;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::pins;
use crate::sys;

/// Folders that are looked into for one search, over all BPF file systems. Other software may have many there.
const MAX_FOLDERS: usize = 4096;
/// How deep below a mount point a pin directory is looked for.
const MAX_DEPTH: usize = 4;

/// Ids of the programs that are pinned under a program's name in a schema's folder: by itself, and by its link.
pub(crate) fn program_ids(schema: &Path, program: &str) -> Vec<u32> {
    let pinned = sys::obj_get(&schema.join("programs").join(program))
        .and_then(|fd| sys::program_info(fd.as_fd()))
        .map(|info| info.id);
    let linked = sys::obj_get(&schema.join("links").join(program))
        .and_then(|fd| sys::link_info(fd.as_fd()))
        .map(|info| info.program_id);
    pinned.into_iter().chain(linked).collect()
}

/// The pin directory (`--bpffs`) in which this program is pinned; `None`: in none that can be reached from here.
pub(crate) fn pins_of(program: &str, id: u32) -> Option<PathBuf> {
    let mut waiting: VecDeque<(PathBuf, usize)> = mounts().into_iter().map(|path| (path, 0)).collect();
    for _ in 0..MAX_FOLDERS {
        let (folder, depth) = waiting.pop_front()?;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // No links: they may lead round in a circle.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if pins::is_schema(&entry.file_name().to_string_lossy()) {
                if program_ids(&entry.path(), program).contains(&id) {
                    return Some(folder);
                }
            } else if depth < MAX_DEPTH {
                waiting.push_back((entry.path(), depth + 1));
            }
        }
    }
    None
}

/// Mount points of BPF file systems, the usual one first.
fn mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    let mut found: Vec<PathBuf> = table.lines().filter_map(mount_point).collect();
    found.sort_by_key(|path| path != Path::new("/sys/fs/bpf"));
    found.dedup();
    found
}

/// The mount point in a line of the mount table, if its file system is a BPF one.
fn mount_point(line: &str) -> Option<PathBuf> {
    let mut words = line.split(' ').skip(1);
    let (path, kind) = (words.next()?, words.next()?);
    (kind == "bpf").then(|| path.replace("\\040", " ").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_of_bpf_file_systems_are_found() {
        assert_eq!(mount_point("bpf /sys/fs/bpf bpf rw,mode=700 0 0"), Some("/sys/fs/bpf".into()));
        assert_eq!(mount_point("none /srv/a\\040b bpf rw 0 0"), Some("/srv/a b".into()));
        assert_eq!(mount_point("bpf /proc proc rw 0 0"), None);
        assert_eq!(mount_point("bpf"), None);
    }
}
