//! What is measured side by side.

mod brattice;
mod envoy;
mod haproxy;
mod hyper;
mod nginx;
mod sidecars;

use std::{collections::BTreeSet, net::SocketAddr, rc::Rc};

use anyhow::Result;
use brattice_tests::lab::Namespace;

use crate::{
    cpu,
    daemon::Daemon,
    site::{self, Site},
};

pub(crate) use brattice::{Features, Scale, orders, sound};

/// Something between a client and a server, or nothing.
pub(crate) struct Peer {
    /// As in the table.
    pub(crate) name: &'static str,
    pub(crate) site: Rc<Site>,
    /// The address that the client calls in HTTP/1.1 ...
    pub(crate) http1: SocketAddr,
    /// ... and in HTTP/2 with prior knowledge.
    pub(crate) http2: Option<SocketAddr>,
    /// `Host` of requests.
    pub(crate) host: &'static str,
    programs: Vec<Daemon>,
    /// Processes of programs that are started elsewhere.
    others: BTreeSet<i32>,
    /// The agent's process, which no request passes through.
    pub(crate) agent: Option<i32>,
}

impl Peer {
    /// Client and server, with the node only forwarding.
    pub(crate) fn direct(site: &Rc<Site>) -> Self {
        Self {
            name: "direct",
            site: Rc::clone(site),
            http1: Site::direct(site::HTTP1),
            http2: Some(Site::direct(site::HTTP2)),
            host: "server",
            programs: Vec::new(),
            others: BTreeSet::new(),
            agent: None,
        }
    }

    /// A program on the node, at the node's address.
    fn proxy(name: &'static str, site: &Rc<Site>, ports: (u16, Option<u16>), program: Daemon) -> Self {
        Self {
            name,
            site: Rc::clone(site),
            http1: node(ports.0),
            http2: ports.1.map(node),
            host: "server",
            programs: vec![program],
            others: BTreeSet::new(),
            agent: None,
        }
    }

    /// Where its load comes from.
    pub(crate) fn client(&self) -> &Namespace {
        &self.site.client.namespace
    }

    /// Its processes, without client and server.
    pub(crate) fn pids(&self) -> BTreeSet<i32> {
        self.programs.iter().flat_map(Daemon::pids).chain(self.others.iter().copied()).collect()
    }

    /// Puts it, and the server, on the core of the site.
    pub(crate) fn pin(&self) {
        cpu::pin(&self.pids(), self.site.core);
        cpu::pin(&self.site.server_pids(), self.site.core);
    }
}

fn node(port: u16) -> SocketAddr {
    format!("{}:{port}", site::NODE).parse().unwrap_or_else(|_| unreachable!("an address"))
}

/// All that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Nothing between client and server but a node that forwards.
    Direct,
    /// nginx with kept connections to the server.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Envoy, one hop.
    Envoy,
    /// Envoy beside the client and beside the server, redirected to by the firewall, with mTLS between them.
    Sidecars,
    /// The smallest reverse proxy that hyper allows: what Brattice is made of.
    Hyper,
    /// Brattice with policies, log and metrics.
    Brattice,
    /// Brattice without policies, log and metrics.
    BratticePlain,
}

/// Builds peers, and the sites that they need.
pub(crate) struct Peers {
    core: usize,
    plain: Option<Rc<Site>>,
}

impl Peers {
    pub(crate) fn new(core: usize) -> Self {
        Self { core, plain: None }
    }

    fn plain(&mut self) -> Result<Rc<Site>> {
        if let Some(site) = &self.plain {
            return Ok(Rc::clone(site));
        }
        let site = Rc::new(Site::build(self.core)?);
        self.plain = Some(Rc::clone(&site));
        Ok(site)
    }

    /// One, running.
    ///
    /// # Errors
    /// When its program is missing or does not start.
    pub(crate) fn start(&mut self, kind: Kind) -> Result<Peer> {
        let peer = match kind {
            Kind::Direct => Peer::direct(&self.plain()?),
            Kind::Nginx => nginx::start(&self.plain()?)?,
            Kind::Haproxy => haproxy::start(&self.plain()?)?,
            Kind::Envoy => envoy::start(&self.plain()?)?,
            Kind::Hyper => hyper::start(&self.plain()?)?,
            Kind::Sidecars => sidecars::start(self.core)?,
            Kind::Brattice => brattice::start(self.core, Features::All, &Scale::default())?,
            Kind::BratticePlain => brattice::start(self.core, Features::None, &Scale::default())?,
        };
        peer.pin();
        Ok(peer)
    }

    /// Brattice on a node of a given size.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn brattice(&self, features: Features, scale: &Scale) -> Result<Peer> {
        let peer = brattice::start(self.core, features, scale)?;
        peer.pin();
        Ok(peer)
    }
}
