//! A TCX program that is not ours, by plain system calls: it drops UDP to one port and passes everything else on.
#![allow(unsafe_code)] // bpf(2) has no safe wrapper outside of the libraries under test

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use crate::lab::Namespace;

/// The UDP port whose datagrams the foreign program drops.
pub const FOREIGN_PORT: u16 = 9_999;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
/// Without a relative program: at the head.
const BPF_F_BEFORE: u32 = 1 << 3;

/// Where in an interface's list a program goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

/// A program attached to an interface while this value lives.
pub struct ForeignProgram {
    _program: OwnedFd,
    _link: OwnedFd,
}

/// `BPF_PROG_LOAD`'s attributes up to `expected_attach_type` (linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

/// `BPF_LINK_CREATE`'s attributes for TCX.
#[repr(C)]
#[derive(Default)]
struct Link {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

impl ForeignProgram {
    /// Attaches at TCX ingress of an interface, after what is there.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn attach(namespace: &Namespace, interface: &str) -> Self {
        Self::named(namespace, interface, "foreign", Place::Last)
    }

    /// Attaches at TCX ingress of an interface, under a name of at most 15 bytes.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn named(namespace: &Namespace, interface: &str, called: &str, place: Place) -> Self {
        let port = i32::from(FOREIGN_PORT);
        // Classic packet loads ([code, registers, offset, constant]), so that short packets simply pass on.
        let code: [u64; 9] = [
            instruction(0xbf, 6, 1, 0, 0),    // r6 = context
            instruction(0x30, 0, 0, 0, 23),   // r0 = byte 23: IPv4 protocol
            instruction(0x55, 0, 0, 4, 17),   // not UDP: pass on
            instruction(0x28, 0, 0, 0, 36),   // r0 = bytes 36, 37: destination port
            instruction(0x55, 0, 0, 2, port), // another port: pass on
            instruction(0xb7, 0, 0, 0, 2),    // TCX_DROP
            instruction(0x95, 0, 0, 0, 0),
            instruction(0xb7, 0, 0, 0, -1), // TCX_NEXT
            instruction(0x95, 0, 0, 0, 0),
        ];
        let mut name = [0; 16];
        name[..called.len()].copy_from_slice(called.as_bytes());
        let load = Load {
            kind: BPF_PROG_TYPE_SCHED_CLS,
            instructions: code.len() as u32,
            code: code.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            name,
            expected_attach_type: BPF_TCX_INGRESS,
            ..Load::default()
        };
        let program = bpf(BPF_PROG_LOAD, &load).expect("the kernel loads it");
        let link = namespace.enter(|| {
            let target = nix::net::if_::if_nametoindex(interface).expect("an interface");
            let create = Link {
                program: program.as_raw_fd().cast_unsigned(),
                target,
                attach_type: BPF_TCX_INGRESS,
                flags: if place == Place::First { BPF_F_BEFORE } else { 0 },
                ..Link::default()
            };
            bpf(BPF_LINK_CREATE, &create).expect("the kernel attaches it")
        });
        Self { _program: program, _link: link }
    }
}

/// `struct bpf_insn` as one number, little endian.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, constant: i32) -> u64 {
    u64::from(code)
        | u64::from(source << 4 | destination) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(constant.cast_unsigned()) << 32
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are a repr(C) prefix of union bpf_attr of the given size, and what they point to outlives
    // the call; the kernel treats the rest as zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match i32::try_from(result) {
        // SAFETY: a new descriptor that nothing else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
