//! Whether any process has a file open for writing, asked of the kernel.
//!
//! inotify reports writers that close, but not those that had the file open before it was watched. A read lease
//! (fcntl(2), `F_SETLEASE`) is refused while any process has the file open for writing or maps it so, and while the
//! lease is held an open for writing waits: so what is read meanwhile is never half-written.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// `F_SETSIG` of fcntl(2), which the `libc` crate does not have.
const F_SETSIG: libc::c_int = 10;

/// Whether a file has a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// None, until the descriptor is closed: an open for writing waits until then.
    None,
    /// A process has it open.
    Some,
    /// This file system, or this process' rights, do not allow to ask.
    Unknown,
}

/// Keeps writers out of a file that is open for reading, until the descriptor is closed.
pub fn keep_out(file: BorrowedFd<'_>) -> Writers {
    let fd = file.as_raw_fd();
    // A writer that comes meanwhile causes a signal: one that is ignored unless asked for.
    #[allow(unsafe_code, reason = "no crate in the tree wraps F_SETSIG and F_SETLEASE")]
    // SAFETY: both commands take an integer and touch no memory of ours.
    let leased = unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG) == 0 && libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0
    };
    if leased {
        return Writers::None;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Writers::Some,
        _ => Writers::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_has_it_open_for_writing_is_known_and_who_comes_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let asked = || keep_out(File::open(&path).unwrap().as_fd());
        let mut writer = File::create(&path).unwrap();
        assert_eq!(asked(), Writers::Some);
        writer.write_all(b"a").unwrap();
        assert_eq!(asked(), Writers::Some);
        drop(writer);
        assert_eq!(asked(), Writers::None);
        let _reader = File::open(&path).unwrap();
        assert_eq!(asked(), Writers::None, "readers are nobody's business");

        let kept = File::open(&path).unwrap();
        assert_eq!(keep_out(kept.as_fd()), Writers::None);
        let late = std::thread::spawn({
            let path = path.clone();
            move || fs::write(path, "late").unwrap()
        });
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(fs::read(&path).unwrap(), b"a", "it waits, and its signal ends nobody");
        drop(kept);
        late.join().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"late");
    }
}
