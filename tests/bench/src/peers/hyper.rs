//! The smallest reverse proxy that hyper allows (`bin/bare-hyper.rs`).

use std::{rc::Rc, time::Duration};

use anyhow::Result;

use super::Peer;
use crate::{
    daemon::Daemon,
    site::{HTTP1, SERVER, Site},
};

const PORT: u16 = 8380;
const PORT_HTTP2: u16 = 8381;

pub(super) fn start(site: &Rc<Site>) -> Result<Peer> {
    let program = std::env::current_exe()?.with_file_name("bare-hyper");
    let mut command = site.lab.node.command(&program.to_string_lossy());
    command.args([&PORT.to_string(), &PORT_HTTP2.to_string(), &format!("{SERVER}:{HTTP1}")]);
    let program = Daemon::start("bare hyper", &mut command, &site.lab.node, PORT_HTTP2, Duration::from_secs(10))?;
    Ok(Peer::proxy("bare hyper", site, (PORT, Some(PORT_HTTP2)), program))
}
