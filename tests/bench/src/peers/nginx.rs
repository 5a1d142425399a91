//! nginx: one worker, kept connections to the server, no log.

use std::{fs, rc::Rc, time::Duration};

use anyhow::Result;

use super::Peer;
use crate::{
    daemon::Daemon,
    site::{HTTP1, SERVER, Site},
};

const PORT: u16 = 8180;
const PORT_HTTP2: u16 = 8181;

pub(super) fn start(site: &Rc<Site>) -> Result<Peer> {
    let folder = site.folder("nginx")?;
    let configuration = format!(
        "user root; worker_processes 1; daemon off; pid {0}/pid; error_log {0}/error.log;
events {{ worker_connections 30000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; client_max_body_size 0;
  client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
  proxy_http_version 1.1; proxy_set_header Connection ''; proxy_request_buffering off; proxy_max_temp_file_size 0;
  upstream server {{ server {SERVER}:{HTTP1}; keepalive 512; keepalive_requests 1000000000; keepalive_timeout 3600; }}
  server {{ listen {PORT} backlog=16384; location / {{ proxy_pass http://server; }} }}
  server {{ listen {PORT_HTTP2} http2 backlog=16384; location / {{ proxy_pass http://server; }} }}
}}",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration)?;
    let mut command = site.lab.node.command("nginx");
    command.arg("-p").arg(&folder).arg("-c").arg(&file);
    let program = Daemon::start("nginx", &mut command, &site.lab.node, PORT, Duration::from_secs(10))?;
    Ok(Peer::proxy("nginx", site, (PORT, Some(PORT_HTTP2)), program))
}
