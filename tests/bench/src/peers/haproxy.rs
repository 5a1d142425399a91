//! HAProxy: one thread, kept connections to the server, no log.

use std::{fs, rc::Rc, time::Duration};

use anyhow::Result;

use super::Peer;
use crate::{
    daemon::Daemon,
    site::{HTTP1, SERVER, Site},
};

/// Most connections: it wants two files for each before it starts, and 20,000 are a usual limit.
const MOST: u16 = 9_980;
const PORT: u16 = 8280;
const PORT_HTTP2: u16 = 8281;

pub(super) fn start(site: &Rc<Site>) -> Result<Peer> {
    let file = site.folder("haproxy")?.join("haproxy.cfg");
    let configuration = format!(
        "global
  nbthread 1
  maxconn {MOST}
defaults
  mode http
  timeout client 1h
  timeout server 1h
  timeout connect 5s
  timeout http-keep-alive 1h
  http-reuse always
frontend in
  bind :{PORT} backlog 16384
  bind :{PORT_HTTP2} proto h2 backlog 16384
  default_backend server
backend server
  server one {SERVER}:{HTTP1} pool-max-conn 512
"
    );
    fs::write(&file, configuration)?;
    let mut command = site.lab.node.command("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    let program = Daemon::start("HAProxy", &mut command, &site.lab.node, PORT, Duration::from_secs(10))?;
    Ok(Peer::proxy("HAProxy", site, (PORT, Some(PORT_HTTP2)), program))
}
