//! The engine as the agent sees it: an unprivileged process that is started, fed with snapshots, watched, replaced when
//! it dies or misbehaves, and adopted when the agent itself was the one that was gone.

pub mod handle;
pub mod link;
pub mod outputs;
pub mod process;
pub mod sockets;
pub mod supervisor;

pub use handle::{Event, Handle, Supervision};
