//! HTTP from inside workloads.

use std::{io, net::SocketAddr};

use super::Connection;
use crate::lab::Workload;

impl Workload {
    /// An HTTP/1.1 connection from inside.
    ///
    /// # Errors
    /// When it is refused or times out.
    pub fn http(&self, to: SocketAddr) -> io::Result<Connection> {
        Ok(Connection::new(self.connect(to)?))
    }
}
