//! bpf(2), as far as aya does not show it: map elements by bytes, link and program facts, TCX order by ifindex.
//!
//! The kernel's `union bpf_attr` is written by offset (`include/uapi/linux/bpf.h`; offsets never change).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
const LINK_DETACH: libc::c_long = 34;

const MAP_TYPE_SOCKMAP: u32 = 15;
const LINK_TYPE_CGROUP: u32 = 3;
const PROGRAM_SK_LOOKUP: u32 = 30;
const LINK_TYPE_NETNS: u32 = 5;
const LINK_TYPE_TCX: u32 = 11;
const ATTACH_SK_LOOKUP: u32 = 36;
const ATTACH_TCX_INGRESS: u32 = 46;
const ATTACH_TCX_EGRESS: u32 = 47;
/// `BPF_F_BEFORE` without a relative program: at the head of the list.
const F_BEFORE: u32 = 1 << 3;
/// Most programs asked for on one attach point; the kernel's own limit for TCX is 64 (`BPF_MPROG_MAX`).
const MAX_QUERY: usize = 64;
/// Most maps of a program that are read back.
const MAX_PROGRAM_MAPS: usize = 64;

/// Side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ingress,
    Egress,
}

impl Side {
    const fn attach_type(self) -> u32 {
        match self {
            Self::Ingress => ATTACH_TCX_INGRESS,
            Self::Egress => ATTACH_TCX_EGRESS,
        }
    }
}

/// `union bpf_attr`.
struct Attr([u8; 144]);

impl Attr {
    const fn new() -> Self {
        Self([0; 144])
    }
    fn u32(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }
    fn u64(mut self, offset: usize, value: u64) -> Self {
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }
    fn fd(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        self.u32(offset, fd.as_raw_fd().cast_unsigned())
    }
    fn read(self, offset: usize, bytes: &[u8]) -> Self {
        self.u64(offset, bytes.as_ptr() as u64)
    }
    fn write(self, offset: usize, bytes: &mut [u8]) -> Self {
        self.u64(offset, bytes.as_mut_ptr() as u64)
    }

    /// The system call. Every pointer in `self` must point to a buffer as long as the command reads or writes.
    #[allow(unsafe_code)]
    fn call(&mut self, command: libc::c_long) -> io::Result<i32> {
        // SAFETY: the attr is 144 bytes, writable, and zero where unused; the callers below put only pointers into it that
        // outlive this call and have the size the command expects.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(i32::MAX)) }
    }

    /// For commands that answer with a new descriptor.
    #[allow(unsafe_code)]
    fn call_fd(&mut self, command: libc::c_long) -> io::Result<OwnedFd> {
        let fd = self.call(command)?;
        // SAFETY: the kernel has just given us this descriptor (close-on-exec); nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(word)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn path_text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Opens a pin.
pub(crate) fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = path_text(path)?;
    Attr::new().read(0, path.as_bytes_with_nul()).call_fd(OBJ_GET)
}

/// Pins a map, program or link.
pub(crate) fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_text(path)?;
    Attr::new().read(0, path.as_bytes_with_nul()).fd(8, fd).call(OBJ_PIN).map(drop)
}

/// A `SOCKMAP` with 8-byte values: only then does the kernel tell a slot's socket cookie.
pub(crate) fn sockmap_create(name: &str, slots: u32) -> io::Result<OwnedFd> {
    let mut attr = Attr::new().u32(0, MAP_TYPE_SOCKMAP).u32(4, 4).u32(8, 8).u32(12, slots);
    // At most 15 bytes and a zero.
    for (place, byte) in attr.0[28..43].iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    attr.call_fd(MAP_CREATE)
}

/// Reads an element; `value` must have the size the kernel writes for this map.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    Attr::new().fd(0, map).read(8, key).write(16, value).call(MAP_LOOKUP_ELEM).map(drop)
}

/// Writes an element; sizes as for [`lookup`].
pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    Attr::new().fd(0, map).read(8, key).read(16, value).call(MAP_UPDATE_ELEM).map(drop)
}

/// Removes an element.
pub(crate) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    Attr::new().fd(0, map).read(8, key).call(MAP_DELETE_ELEM).map(drop)
}

/// The key after `key` (`None`: the first); `false` at the end.
pub(crate) fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let attr = Attr::new().fd(0, map);
    let attr = match key {
        Some(key) => attr.read(8, key),
        None => attr,
    };
    match attr.write(16, next).call(MAP_GET_NEXT_KEY) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the kernel knows of a map.
#[derive(Clone, Debug)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
}

/// What the kernel knows of a program.
#[derive(Clone, Debug)]
pub(crate) struct ProgramInfo {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) map_ids: Vec<u32>,
    /// Instructions that the verifier went through, all paths counted.
    pub(crate) verified: u32,
    /// Bytes after the verifier's changes, and as machine code (0: it is interpreted).
    pub(crate) translated: u32,
    pub(crate) machine: u32,
}

/// Where a link is attached. Index 0 and inode 0 mean: no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Interface { ifindex: u32, side: Side },
    Netns { inode: u32 },
    Cgroup { id: u64, hook: u32 },
    Other { kind: u32 },
}

/// What the kernel knows of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    pub(crate) id: u32,
    pub(crate) program_id: u32,
    pub(crate) target: Target,
}

fn info(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<()> {
    let length = u32::try_from(buffer.len()).unwrap_or(0);
    Attr::new().fd(0, fd).u32(4, length).write(8, buffer).call(OBJ_GET_INFO_BY_FD).map(drop)
}

/// Asks for a map's facts.
pub(crate) fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut buffer = [0; 80];
    info(fd, &mut buffer)?;
    Ok(MapInfo {
        kind: word(&buffer, 0),
        id: word(&buffer, 4),
        key_size: word(&buffer, 8),
        value_size: word(&buffer, 12),
        max_entries: word(&buffer, 16),
    })
}

/// Asks for a program's facts.
pub(crate) fn program_info(fd: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut ids = [0_u8; MAX_PROGRAM_MAPS * 4];
    let mut buffer = [0; 232];
    buffer[52..56].copy_from_slice(&u32::try_from(MAX_PROGRAM_MAPS).unwrap_or(0).to_ne_bytes());
    buffer[56..64].copy_from_slice(&(ids.as_mut_ptr() as u64).to_ne_bytes());
    info(fd, &mut buffer)?;
    let count = (word(&buffer, 52) as usize).min(MAX_PROGRAM_MAPS);
    Ok(ProgramInfo {
        id: word(&buffer, 4),
        name: text(&buffer[64..80]),
        map_ids: (0..count).map(|i| word(&ids, i * 4)).collect(),
        verified: word(&buffer, 216),
        translated: word(&buffer, 20),
        machine: word(&buffer, 16),
    })
}

/// Asks for a link's facts.
pub(crate) fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut buffer = [0; 64];
    info(fd, &mut buffer)?;
    let target = match (word(&buffer, 0), word(&buffer, 20)) {
        (LINK_TYPE_TCX, ATTACH_TCX_INGRESS) => Target::Interface { ifindex: word(&buffer, 16), side: Side::Ingress },
        (LINK_TYPE_TCX, ATTACH_TCX_EGRESS) => Target::Interface { ifindex: word(&buffer, 16), side: Side::Egress },
        (LINK_TYPE_CGROUP, _) => {
            let id = u64::from(word(&buffer, 16)) | u64::from(word(&buffer, 20)) << 32;
            Target::Cgroup { id, hook: word(&buffer, 24) }
        }
        (LINK_TYPE_NETNS, ATTACH_SK_LOOKUP) => Target::Netns { inode: word(&buffer, 16) },
        (kind, _) => Target::Other { kind },
    };
    Ok(LinkInfo { id: word(&buffer, 4), program_id: word(&buffer, 8), target })
}

/// Loads an `sk_lookup` program that reads the interface a packet came by (from 5.17 on) and passes.
pub(crate) fn try_lookup_ingress() -> io::Result<OwnedFd> {
    // r0 = *(u32 *)(r1 + 64); r0 = SK_PASS; exit
    let code: [u64; 3] = [0x0000_0000_0040_1061, 0x0000_0001_0000_00b7, 0x95];
    Attr::new()
        .u32(0, PROGRAM_SK_LOOKUP)
        .u32(4, 3)
        .u64(8, code.as_ptr() as u64)
        .u64(16, c"Apache-2.0".as_ptr() as u64)
        .u32(68, ATTACH_SK_LOOKUP)
        .call_fd(PROG_LOAD)
}

/// The program with this id.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    Attr::new().u32(0, id).call_fd(PROG_GET_FD_BY_ID)
}

/// Attaches a TCX program at the head of an interface's list, so that nobody else's program hides packets from it.
pub(crate) fn attach_tcx(program: BorrowedFd<'_>, ifindex: u32, side: Side) -> io::Result<OwnedFd> {
    Attr::new().fd(0, program).u32(4, ifindex).u32(8, side.attach_type()).u32(12, F_BEFORE).call_fd(LINK_CREATE)
}

/// Attaches an `sk_lookup` program to a network namespace.
pub(crate) fn attach_sk_lookup(program: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Attr::new().fd(0, program).fd(4, namespace).u32(8, ATTACH_SK_LOOKUP).call_fd(LINK_CREATE)
}

/// Attaches a program to a cgroup, beside those of others; `hook` is its `BPF_CGROUP_*` attach type.
pub(crate) fn attach_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: u32) -> io::Result<OwnedFd> {
    Attr::new().fd(0, program).fd(4, cgroup).u32(8, hook).call_fd(LINK_CREATE)
}

/// Detaches a link, whoever else holds it.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    Attr::new().fd(0, link).call(LINK_DETACH).map(drop)
}

/// Ids of the TCX programs of an interface, in the order in which they run.
pub(crate) fn query_tcx(ifindex: u32, side: Side) -> io::Result<Vec<u32>> {
    query(Attr::new().u32(0, ifindex), side.attach_type())
}

/// Ids of the `sk_lookup` programs of a network namespace.
pub(crate) fn query_sk_lookup(namespace: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    query(Attr::new().fd(0, namespace), ATTACH_SK_LOOKUP)
}

/// Ids of the programs of a cgroup that are attached as `attach_type`.
pub(crate) fn query_cgroup(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    query(Attr::new().fd(0, cgroup), attach_type)
}

fn query(attr: Attr, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u8; MAX_QUERY * 4];
    let mut attr = attr.u32(4, attach_type).write(16, &mut ids).u32(24, u32::try_from(MAX_QUERY).unwrap_or(0));
    attr.call(PROG_QUERY)?;
    let count = (word(&attr.0, 24) as usize).min(MAX_QUERY);
    Ok((0..count).map(|i| word(&ids, i * 4)).collect())
}

/// `SO_NETNS_COOKIE` of a fresh socket.
#[allow(unsafe_code)]
pub(crate) fn netns_cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the value and its length are valid and of the size that is told.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if result != 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// Bytes of a [`aya::Pod`] value.
#[allow(unsafe_code)]
pub(crate) fn bytes_of<T: aya::Pod>(value: &T) -> &[u8] {
    // SAFETY: Pod types have no padding and no invalid bit patterns, so that all their bytes are initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// A [`aya::Pod`] value from its bytes; `None` if the length differs.
#[allow(unsafe_code)]
pub(crate) fn from_bytes<T: aya::Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length was compared; every bit pattern is a valid Pod, and the read is unaligned.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}
