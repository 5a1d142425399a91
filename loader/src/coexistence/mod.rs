//! Other network software on this host, and what it means for Brattice.
//!
//! Facts are gathered once (`gather`), looked through by a table of detectors (`detectors`), and reported as findings.
//! Only the gathering touches the host.

mod detectors;
mod facts;
mod gather;

pub use detectors::{Finding, Verdict, detect};
pub use facts::{Chain, Device, Facts};
pub use gather::gather;
