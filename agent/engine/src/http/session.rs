//! The state of a client's connection.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::IpAddr,
    rc::Rc,
};

use brattice_decide::Connection;

use super::{canonical::Shown, control::Control, server::Server, upgrade::Upgrade};
use crate::{aliases::CallerId, auth, local::Local, tasks::Parties, views::View};

/// One client connection: the caller, and what it called.
pub(crate) struct Session {
    pub(crate) server: Rc<Server>,
    pub(crate) control: Rc<Control>,
    pub(crate) caller: CallerId,
    pub(crate) vip: IpAddr,
    pub(crate) port: u16,
    pub(crate) http2: Cell<bool>,
    /// The fields about the caller for targets; one generation of an alias stands for one address.
    pub(crate) shown: OnceCell<Shown>,
    /// The decision of policies that holds for all of its requests.
    pub(crate) auth: Connection,
    /// The peers of the connection's task: the caller and, after a change of the protocol, the target.
    pub(crate) parties: Parties,
    /// Client and target have agreed on another protocol; taken when the answer that says so is written.
    pub(crate) switched: RefCell<Option<Box<Upgrade>>>,
}

impl Session {
    /// The origin of its requests.
    pub(crate) fn origin(&self) -> auth::Origin {
        auth::Origin { caller: self.caller, vip: self.vip, port: self.port }
    }

    pub(crate) fn local(&self) -> &Rc<Local> {
        &self.server.local
    }

    /// What is in force now.
    pub(crate) fn view(&self) -> Rc<View> {
        self.server.views.latest()
    }
}
