//! The kernel's count of what a thread does (perf_event_open(2), tracepoints).

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const PERF_TYPE_TRACEPOINT: u32 = 2;
/// `_IOW('$', 6, char *)`.
const PERF_EVENT_IOC_SET_FILTER: libc::Ioctl = 0x4008_2406;

/// `struct perf_event_attr`, as far as its first version goes (`PERF_ATTR_SIZE_VER0`).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

/// Counts from its making on.
pub(crate) struct Counter(File);

impl Counter {
    /// Events of a thread, `group/name`: all, or only those that pass a filter of the kernel's.
    pub(crate) fn of(thread: u32, event: &str, filter: Option<String>) -> Self {
        let size = u32::try_from(size_of::<Attributes>()).unwrap();
        let attributes =
            Attributes { kind: PERF_TYPE_TRACEPOINT, size, config: tracepoint(event), ..Attributes::default() };
        // SAFETY: the kernel reads `size` bytes of the attributes, and nothing outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, thread, -1, -1, 0) };
        let file = File::from(owned(fd, "nothing can be counted; this test needs root"));
        if let Some(filter) = filter {
            let filter = CString::new(filter).unwrap();
            // SAFETY: the kernel copies a text that ends with a zero byte.
            let set = unsafe { libc::ioctl(file.as_raw_fd(), PERF_EVENT_IOC_SET_FILTER, filter.as_ptr()) };
            assert!(set == 0, "the filter is refused: {}", io::Error::last_os_error());
        }
        Self(file)
    }

    /// The number of events.
    pub(crate) fn count(&self) -> u64 {
        let mut bytes = [0; 8];
        (&self.0).read_exact(&mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    }
}

/// A tracepoint's number. From a tracefs of our own, which is mounted nowhere: the host may have none.
fn tracepoint(event: &str) -> u64 {
    let path = CString::new(format!("events/{event}/id")).unwrap();
    // SAFETY: texts that end with a zero byte, and numbers.
    let id = unsafe {
        let context = libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), 0);
        let context = owned(context, "there is no tracefs; this test needs root");
        const CREATE: libc::c_int = 6;
        let made = libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, 0, 0, 0);
        assert!(made == 0, "tracefs: {}", io::Error::last_os_error());
        let mount = owned(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 0, 0), "tracefs");
        let id = libc::openat(mount.as_raw_fd(), path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        owned(id.into(), event)
    };
    let mut text = String::new();
    File::from(id).read_to_string(&mut text).unwrap();
    text.trim().parse().unwrap()
}

fn owned(fd: libc::c_long, what: &str) -> OwnedFd {
    assert!(fd >= 0, "{what}: {}", io::Error::last_os_error());
    // SAFETY: a descriptor that the kernel has just made for us.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}
