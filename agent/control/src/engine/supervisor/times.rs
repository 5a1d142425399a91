//! Timeouts of supervision.

use std::time::Duration;

/// From an engine's death until clients are reset instead of kept waiting.
pub const GRACE: Duration = Duration::from_millis(100);
/// How long the running engine of an earlier agent is called, before it is replaced.
pub const ADOPTION: Duration = Duration::from_secs(2);
/// How long a new engine has from its start to its first `Applied`.
pub const START: Duration = Duration::from_secs(20);
/// Time for the hello of an engine that was called.
pub(super) const GREETING: Duration = Duration::from_secs(2);
/// A worker whose heartbeat is older is stuck, and the engine is replaced ...
pub const STUCK: Duration = Duration::from_secs(10);
/// ... if it is so at this many looks in a row, [`HEARTBEAT`] apart: after the machine slept every heartbeat is old.
pub const STUCK_LOOKS: u32 = 4;
/// How often it is looked whether the engine lives.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(500);
/// An engine that has not answered for so long cannot be reached, and is replaced. Longer than it may take to put a
/// snapshot in force, as it answers in turn.
pub const UNANSWERED: Duration = Duration::from_secs(30);
/// How long an engine may be without a link, before it is replaced.
pub(super) const RELINK: Duration = Duration::from_secs(2);
/// Time between two calls.
pub(super) const AGAIN: Duration = Duration::from_millis(50);
/// Where the socket for later agents cannot be made, the engine waits and it is tried again after this.
pub(super) const DOOR_RETRY: Duration = Duration::from_millis(50);
/// After an engine that is not taken over was killed: its addresses are free by then.
pub(super) const STRAY_PAUSE: Duration = Duration::from_millis(20);
/// After a start that did not succeed at all, the next one waits this long at least.
pub(super) const CANNOT_START_PAUSE: Duration = Duration::from_millis(100);
/// Pause before the successor of an engine that was ended for lack of memory and served for less than [`STABLE`].
pub(super) const MEMORY_PAUSE: Duration = Duration::from_secs(1);
/// An engine that is replaced or stopped is killed this long after the time it has to finish.
pub(super) const LATE: Duration = Duration::from_millis(500);
/// An engine that served this long did not crash at its start.
pub const STABLE: Duration = Duration::from_secs(1);
/// A metrics socket that cannot be made is tried again after this long.
pub(super) const METRICS_RETRY: Duration = Duration::from_secs(5);
