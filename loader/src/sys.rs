//! bpf(2), as far as aya does not show it: map elements by bytes, link and program facts, TCX order by ifindex.

mod arrival;

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{
    BPF_F_BEFORE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_info, bpf_map_type,
    bpf_prog_info, bpf_prog_type,
};

pub(crate) use self::arrival::Arrival;

const TCX_INGRESS: u32 = bpf_attach_type::BPF_TCX_INGRESS as u32;
const TCX_EGRESS: u32 = bpf_attach_type::BPF_TCX_EGRESS as u32;
const SK_LOOKUP: u32 = bpf_attach_type::BPF_SK_LOOKUP as u32;
const LINK_CGROUP: u32 = bpf_link_type::BPF_LINK_TYPE_CGROUP as u32;
const LINK_NETNS: u32 = bpf_link_type::BPF_LINK_TYPE_NETNS as u32;
const LINK_TCX: u32 = bpf_link_type::BPF_LINK_TYPE_TCX as u32;
/// Kinds of maps that have a value for each CPU.
const PER_CPU: [u32; 4] = [
    bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH as u32,
    bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32,
    bpf_map_type::BPF_MAP_TYPE_LRU_PERCPU_HASH as u32,
    bpf_map_type::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED as u32,
];
/// Most programs asked for on one attach point; the kernel's own limit for TCX is 64 (`BPF_MPROG_MAX`).
const MAX_QUERY: u32 = 64;
/// Most maps of a program that are read back.
const MAX_PROGRAM_MAPS: u32 = 64;

/// Side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ingress,
    Egress,
}

impl Side {
    const fn attach_type(self) -> u32 {
        match self {
            Self::Ingress => TCX_INGRESS,
            Self::Egress => TCX_EGRESS,
        }
    }
}

/// A value of a type of the kernel's that has zeros everywhere: an attribute, or information to be filled in.
///
/// # Safety
/// `T` must be a plain C type for which zeros are a value.
#[allow(unsafe_code)]
unsafe fn zeroed<T>() -> T {
    // SAFETY: the caller says that zeros are a value of the type.
    unsafe { std::mem::zeroed() }
}

/// Attributes of a command. Their fields are then set one by one, in place, so that all else stays zero as the kernel asks.
#[allow(unsafe_code)]
fn attributes() -> bpf_attr {
    // SAFETY: a union of structures of integers.
    unsafe { zeroed() }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// The system call.
///
/// # Safety
/// Every pointer in the attributes must point to memory that the command may read or write for as long as the attributes, or
/// what is known of the map or object, say.
#[allow(unsafe_code)]
unsafe fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<i32> {
    let command = command as libc::c_long;
    // SAFETY: the attributes are writable and have the size that is given; the pointers in them are the caller's.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<bpf_attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::try_from(result).expect("bpf(2) answers with an int"))
}

/// For commands that answer with a new descriptor.
///
/// # Safety
/// As for [`bpf`], and the command must be such a one.
#[allow(unsafe_code)]
unsafe fn bpf_fd(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the pointers are the caller's; the kernel has just given us this descriptor (close-on-exec), which nobody else
    // owns.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(command, attributes)?)) }
}

fn text(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn path_text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Opens a pin.
#[allow(unsafe_code)]
pub(crate) fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = path_text(path)?;
    let mut attr = attributes();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: the path is a string with its zero that lives through the call.
    unsafe { bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr) }
}

/// Pins a map, program or link.
#[allow(unsafe_code)]
pub(crate) fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_text(path)?;
    let mut attr = attributes();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = number(fd);
    // SAFETY: the path is a string with its zero that lives through the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr) }.map(drop)
}

/// A `SOCKMAP` with 8-byte values: only then does the kernel tell a slot's socket cookie.
#[allow(unsafe_code)]
pub(crate) fn sockmap_create(name: &str, slots: u32) -> io::Result<OwnedFd> {
    let mut map_name = [0; 16];
    // At most 15 bytes and a zero.
    for (place, byte) in map_name[..15].iter_mut().zip(name.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    let mut attr = attributes();
    attr.__bindgen_anon_1.map_type = bpf_map_type::BPF_MAP_TYPE_SOCKMAP as u32;
    attr.__bindgen_anon_1.key_size = 4;
    attr.__bindgen_anon_1.value_size = 8;
    attr.__bindgen_anon_1.max_entries = slots;
    attr.__bindgen_anon_1.map_name = map_name;
    // SAFETY: there is no pointer in it.
    unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr) }
}

/// A map, opened. Keys and values are checked against the sizes that the kernel says it has.
#[derive(Debug)]
pub(crate) struct Map {
    fd: OwnedFd,
    pub(crate) info: MapInfo,
    /// Bytes that the kernel reads and writes as a value: of a per-CPU map, one for each CPU.
    value_bytes: usize,
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Map {
    /// Opens a pinned map.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let fd = obj_get(path)?;
        let info = map_info(fd.as_fd())?;
        let value_bytes = if PER_CPU.contains(&info.kind) {
            let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
            (info.value_size as usize).next_multiple_of(8) * cpus
        } else {
            info.value_size as usize
        };
        Ok(Self { fd, info, value_bytes })
    }

    /// Bytes of a value in [`Self::lookup`] and [`Self::update`].
    pub(crate) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    pub(crate) fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Fails if a key or value does not have the map's size: the kernel would read or write beyond it.
    fn check(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let fits =
            key.len() == self.info.key_size as usize && value.is_none_or(|value| value.len() == self.value_bytes);
        if fits {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not the size of the map's entries"))
        }
    }

    fn element(&self, key: &[u8]) -> bpf_attr {
        let mut attr = attributes();
        attr.__bindgen_anon_2.map_fd = number(self.fd.as_fd());
        attr.__bindgen_anon_2.key = key.as_ptr() as u64;
        attr
    }

    /// Reads an element into `value`.
    #[allow(unsafe_code)]
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        self.check(key, Some(value))?;
        let mut attr = self.element(key);
        attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
        // SAFETY: both have the sizes that the kernel reads and writes, as just checked.
        unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) }.map(drop)
    }

    /// Writes an element.
    #[allow(unsafe_code)]
    pub(crate) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key, Some(value))?;
        let mut attr = self.element(key);
        attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
        // SAFETY: both have the sizes that the kernel reads, as just checked.
        unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    /// Removes an element.
    #[allow(unsafe_code)]
    pub(crate) fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.check(key, None)?;
        // SAFETY: the key has the size that the kernel reads, as just checked.
        unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut self.element(key)) }.map(drop)
    }

    /// Writes the key after `key` (`None`: the first) into `next`; `false` at the end.
    #[allow(unsafe_code)]
    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        self.check(next, None)?;
        key.map_or(Ok(()), |key| self.check(key, None))?;
        let mut attr = self.element(key.unwrap_or_default());
        if key.is_none() {
            attr.__bindgen_anon_2.key = 0;
        }
        attr.__bindgen_anon_2.__bindgen_anon_1.next_key = next.as_mut_ptr() as u64;
        // SAFETY: both have the size that the kernel reads and writes, as just checked; no key is a null pointer.
        match unsafe { bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
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

/// Lets the kernel fill in what it knows of an object.
///
/// # Safety
/// `T` must be the kernel's information of objects of this kind, and pointers in it as the kernel asks.
#[allow(unsafe_code)]
unsafe fn info<T>(fd: BorrowedFd<'_>, information: &mut T) -> io::Result<()> {
    let mut attr = attributes();
    attr.info.bpf_fd = number(fd);
    attr.info.info_len = u32::try_from(size_of::<T>()).expect("such a structure has some hundred bytes");
    attr.info.info = std::ptr::from_mut(information) as u64;
    // SAFETY: the information is writable and has the size that is given; what it points to is the caller's.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

/// Asks for a map's facts.
#[allow(unsafe_code)]
pub(crate) fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    // SAFETY: a structure of integers, without a pointer.
    let found: bpf_map_info = unsafe {
        let mut found = zeroed();
        info(fd, &mut found)?;
        found
    };
    Ok(MapInfo {
        kind: found.type_,
        id: found.id,
        key_size: found.key_size,
        value_size: found.value_size,
        max_entries: found.max_entries,
    })
}

/// Asks for a program's facts.
#[allow(unsafe_code)]
pub(crate) fn program_info(fd: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut map_ids = [0_u32; MAX_PROGRAM_MAPS as usize];
    // SAFETY: a structure of integers; the pointer that is set has room for as many ids as are told.
    let found: bpf_prog_info = unsafe {
        let mut found: bpf_prog_info = zeroed();
        found.nr_map_ids = MAX_PROGRAM_MAPS;
        found.map_ids = map_ids.as_mut_ptr() as u64;
        info(fd, &mut found)?;
        found
    };
    Ok(ProgramInfo {
        id: found.id,
        name: text(&found.name),
        map_ids: map_ids.into_iter().take(found.nr_map_ids as usize).collect(),
        verified: found.verified_insns,
        translated: found.xlated_prog_len,
        machine: found.jited_prog_len,
    })
}

/// Asks for a link's facts.
#[allow(unsafe_code)]
pub(crate) fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // SAFETY: a structure of integers, without a pointer for the types of links that Brattice makes.
    let found: bpf_link_info = unsafe {
        let mut found = zeroed();
        info(fd, &mut found)?;
        found
    };
    // SAFETY: each is read for its own type only, and all are integers, of which every bit pattern is a value.
    let target = unsafe {
        let own = &found.__bindgen_anon_1;
        match found.type_ {
            LINK_TCX if own.tcx.attach_type == TCX_INGRESS => {
                Target::Interface { ifindex: own.tcx.ifindex, side: Side::Ingress }
            }
            LINK_TCX if own.tcx.attach_type == TCX_EGRESS => {
                Target::Interface { ifindex: own.tcx.ifindex, side: Side::Egress }
            }
            LINK_CGROUP => Target::Cgroup { id: own.cgroup.cgroup_id, hook: own.cgroup.attach_type },
            LINK_NETNS if own.netns.attach_type == SK_LOOKUP => Target::Netns { inode: own.netns.netns_ino },
            kind => Target::Other { kind },
        }
    };
    Ok(LinkInfo { id: found.id, program_id: found.prog_id, target })
}

/// Loads an `sk_lookup` program that reads the interface a packet came by (from 5.17 on) and passes.
#[allow(unsafe_code)]
pub(crate) fn try_lookup_ingress() -> io::Result<OwnedFd> {
    // r0 = *(u32 *)(r1 + 64); r0 = SK_PASS; exit
    let code: [u64; 3] = [0x0000_0000_0040_1061, 0x0000_0001_0000_00b7, 0x95];
    let mut attr = attributes();
    attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_SK_LOOKUP as u32;
    attr.__bindgen_anon_3.insn_cnt = 3;
    attr.__bindgen_anon_3.insns = code.as_ptr() as u64;
    attr.__bindgen_anon_3.license = c"Apache-2.0".as_ptr() as u64;
    attr.__bindgen_anon_3.expected_attach_type = SK_LOOKUP;
    // SAFETY: there are three instructions, and the licence is a string with its zero.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) }
}

/// The program with this id.
#[allow(unsafe_code)]
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    // SAFETY: there is no pointer in it.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr) }
}

#[allow(unsafe_code)]
fn attach(program: BorrowedFd<'_>, target: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = attributes();
    attr.link_create.__bindgen_anon_1.prog_fd = number(program);
    attr.link_create.__bindgen_anon_2.target_fd = target;
    attr.link_create.attach_type = attach_type;
    attr.link_create.flags = flags;
    // SAFETY: there is no pointer in it.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

/// Attaches a TCX program at the head of an interface's list, so that no other program hides packets from it.
pub(crate) fn attach_tcx(program: BorrowedFd<'_>, ifindex: u32, side: Side) -> io::Result<OwnedFd> {
    // "Before" without another program means: before all.
    attach(program, ifindex, side.attach_type(), BPF_F_BEFORE)
}

/// Attaches an `sk_lookup` program to a network namespace.
pub(crate) fn attach_sk_lookup(program: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    attach(program, number(namespace), SK_LOOKUP, 0)
}

/// Attaches a program to a cgroup, beside those of others; `hook` is its `BPF_CGROUP_*` attach type.
pub(crate) fn attach_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: u32) -> io::Result<OwnedFd> {
    attach(program, number(cgroup), hook, 0)
}

/// Puts another program in place of a link's.
#[allow(unsafe_code)]
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attributes();
    attr.link_update.link_fd = number(link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = number(program);
    // SAFETY: there is no pointer in it.
    unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches a link, also if another process holds it.
#[allow(unsafe_code)]
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = attributes();
    attr.link_detach.link_fd = number(link);
    // SAFETY: there is no pointer in it.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr) }.map(drop)
}

/// Ids of the TCX programs of an interface, in the order in which they run.
pub(crate) fn query_tcx(ifindex: u32, side: Side) -> io::Result<Vec<u32>> {
    query(ifindex, side.attach_type())
}

/// Ids of the `sk_lookup` programs of a network namespace.
pub(crate) fn query_sk_lookup(namespace: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    query(number(namespace), SK_LOOKUP)
}

/// Ids of the programs of a cgroup that are attached as `attach_type`.
pub(crate) fn query_cgroup(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    query(number(cgroup), attach_type)
}

/// `target`: a descriptor, or the index of an interface.
#[allow(unsafe_code)]
fn query(target: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MAX_QUERY as usize];
    let mut attr = attributes();
    attr.query.__bindgen_anon_1.target_fd = target;
    attr.query.attach_type = attach_type;
    attr.query.prog_ids = ids.as_mut_ptr() as u64;
    attr.query.__bindgen_anon_2.prog_cnt = MAX_QUERY;
    // SAFETY: there is room for as many ids as are told; the count is an integer, which the kernel has written.
    let count = unsafe {
        bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
        attr.query.__bindgen_anon_2.prog_cnt
    };
    Ok(ids.into_iter().take(count as usize).collect())
}

/// `SO_NETNS_COOKIE` of a fresh socket.
#[allow(unsafe_code)]
pub(crate) fn netns_cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the value and its length are valid and of the size that is given.
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
