//! The interfaces of this network namespace, the peer of each, and events of every change.

mod inventory;
mod place_watch;
pub mod places;
mod programs;
mod watch;

pub use inventory::{Interface, Peer, inventory};
pub(crate) use inventory::{PROBE_PREFIX, list as inventory_now};
pub use place_watch::{LOOK_AGAIN, PlaceWatch};
pub use programs::{Hook, Program, cni_of};
pub use watch::{Change, Watch};
