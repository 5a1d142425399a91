//! Guests in qemu under software emulation: one of Debian's kernels, an initramfs made of programs of this host, a script
//! that runs in it, and its result. No hardware virtualisation and no disk image is needed.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use brattice_machine::{Guest, Initramfs, Kernel, Options};
//! let kernel = Kernel::of("6.1", std::path::Path::new("target/kernels"))?;
//! let mut files = Initramfs::new(&kernel)?;
//! files.modules(&["veth"])?;
//! files.script("ip link add left type veth peer name right");
//! let outcome = Guest::start(&kernel, &files, &Options::default())?.wait(|line| println!("{line}"))?;
//! assert_eq!(outcome.code, 0);
//! # Ok(())
//! # }
//! ```

mod archive;
mod guest;
mod initramfs;
mod kernel;
mod modules;

pub use guest::{Guest, Options, Outcome, Ran};
pub use initramfs::Initramfs;
pub use kernel::{Kernel, PACKAGES};
