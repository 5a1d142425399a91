//! Frames that arrive at an interface because this process says so.
//!
//! The kernel runs an XDP program on them (`BPF_F_TEST_XDP_LIVE_FRAMES`, from 5.18 on) as if the interface had received them. The
//! program passes each on, so it goes to the interface's programs and to the stack like any other frame.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya_obj::generated::{bpf_cmd, bpf_prog_type};

use super::{attributes, bpf, bpf_fd, number};

/// `BPF_F_TEST_XDP_LIVE_FRAMES`.
const LIVE_FRAMES: u32 = 1 << 1;

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// An XDP program that passes every frame on. It is attached nowhere.
#[derive(Debug)]
pub(crate) struct Arrival(OwnedFd);

impl Arrival {
    #[allow(unsafe_code)]
    pub(crate) fn load() -> io::Result<Self> {
        // r0 = XDP_PASS; exit
        let code: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
        let mut attr = attributes();
        attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
        attr.__bindgen_anon_3.insn_cnt = 2;
        attr.__bindgen_anon_3.insns = code.as_ptr() as u64;
        attr.__bindgen_anon_3.license = c"Apache-2.0".as_ptr() as u64;
        // SAFETY: there are two instructions, and the licence is a string with its zero.
        unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) }.map(Self)
    }

    /// Has a frame, with complete checksums, arrive at an interface of the calling thread's network namespace.
    #[allow(unsafe_code)]
    pub(crate) fn arrive(&self, ifindex: u32, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let context = Context { data_end: length, ingress_ifindex: ifindex, ..Context::default() };
        let mut attr = attributes();
        attr.test.prog_fd = number(self.0.as_fd());
        attr.test.data_in = frame.as_ptr() as u64;
        attr.test.data_size_in = length;
        attr.test.ctx_in = std::ptr::from_ref(&context) as u64;
        attr.test.ctx_size_in = u32::try_from(size_of::<Context>()).expect("it is 24");
        attr.test.repeat = 1;
        attr.test.batch_size = 1;
        attr.test.flags = LIVE_FRAMES;
        // SAFETY: frame and context live through the call, are only read, and their sizes are given.
        unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr) }.map(drop)
    }
}
