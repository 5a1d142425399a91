//! An accepted connection of a client.

use std::net::IpAddr;

use brattice_decide::{Listener, Service};

use crate::{limits::Taken, state::Caller, transport::Stream, views::View};

/// Who calls what, over which stream.
pub(crate) struct Accepted<'v> {
    /// The state in force.
    pub(crate) view: &'v View,
    /// Who calls, by the state in force now; later states are asked by its [`id`](Caller::id).
    pub(crate) caller: Caller<'v>,
    /// The port that it calls from, for records.
    pub(crate) source_port: u16,
    /// The VIP that it called.
    pub(crate) vip: IpAddr,
    pub(crate) port: u16,
    /// The service that the VIP stands for and its listener; none where the caller sees none there.
    pub(crate) called: Option<(&'v Service, &'v Listener)>,
    /// Reset when dropped, unless the code that serves it has closed it in another way.
    pub(crate) stream: Stream,
    /// Its place among the connections of its workload.
    pub(crate) taken: Taken,
}
