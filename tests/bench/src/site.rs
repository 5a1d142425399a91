//! A place to measure at: a client and a server, each in a namespace of its own, and the node between them.
//!
//! ```text
//!  client 10.1.0.10 ── veth ── node (10.0.0.1 on both veths, forwards) ── veth ── server 10.2.0.10
//! ```
//! What is measured stands on the node and is called by the client; the server is nginx, which answers from memory. Every
//! peer that would disturb another (its firewall rules, its data path) has a site of its own of the same shape.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;
use brattice_tests::lab::{Lab, Namespace, Wiring, Workload};

use crate::daemon::Daemon;

/// The server's address.
pub(crate) const SERVER: &str = "10.2.0.10";
/// The node's address, as client and server see it.
pub(crate) const NODE: &str = "10.0.0.1";
/// Port of the server for HTTP/1.1 ...
pub(crate) const HTTP1: u16 = 8080;
/// ... and for HTTP/2 with prior knowledge.
pub(crate) const HTTP2: u16 = 8082;
/// Bytes of a small answer's body.
pub(crate) const SMALL: usize = 1_024;
/// Bytes of a large body.
pub(crate) const LARGE: usize = 1 << 20;
/// Path of the large answer.
pub(crate) const LARGE_PATH: &str = "/large";

/// Path that the server never answers.
pub(crate) const STALLED_PATH: &str = "/stalled";
/// Where the server asks for that: nothing accepts there.
const NOBODY: u16 = 8084;

/// Where a body may be sent.
pub(crate) const UPLOAD_PATH: &str = "/upload";

/// A site.
pub(crate) struct Site {
    /// Dropped before the lab, whose end would kill it anyway.
    pub(crate) server: Daemon,
    pub(crate) client: Workload,
    pub(crate) target: Workload,
    pub(crate) lab: Lab,
    pub(crate) core: usize,
    _nobody: TcpListener,
}

impl Site {
    /// Builds it; client, server and what is measured are to run on `core`.
    pub(crate) fn build(core: usize) -> Result<Self> {
        let lab = Lab::new();
        let client = lab.workload("blue1", "10.1.0.10", Wiring::Routed);
        let target = lab.workload("green1", SERVER, Wiring::Routed);
        // Of the site's own namespace.
        lab.node.sh("sysctl -q -w net.ipv4.ip_forward=1");
        for namespace in [&client.namespace, &target.namespace, &lab.node] {
            namespace.sh("sysctl -q -w net.ipv4.tcp_tw_reuse=1");
            namespace.run(&["sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=1024 65000"]);
        }
        let server = backend(&lab, &target.namespace, core)?;
        let nobody = target.namespace.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, NOBODY)))?;
        Ok(Self { server, client, target, lab, core, _nobody: nobody })
    }

    /// The server itself.
    pub(crate) fn direct(port: u16) -> SocketAddr {
        format!("{SERVER}:{port}").parse().unwrap_or_else(|_| unreachable!("an address"))
    }

    /// Where files of a daemon go.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.lab.folder.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// The server's processes.
    pub(crate) fn server_pids(&self) -> BTreeSet<i32> {
        self.server.pids()
    }
}

/// nginx with one worker: 1 KiB from the configuration, 1 MiB from a file, anything that is sent.
fn backend(lab: &Lab, namespace: &Namespace, core: usize) -> Result<Daemon> {
    let folder = lab.folder.join("server");
    fs::create_dir_all(folder.join("files"))?;
    fs::write(folder.join("files").join(&LARGE_PATH[1..]), vec![b'x'; LARGE])?;
    let small = "x".repeat(SMALL);
    // `return` alone would answer before it has read a body; asking itself makes it read the body first.
    let locations = format!(
        "location / {{ return 200 '{small}'; }} location = {LARGE_PATH} {{ root {}/files; }}
    location = {STALLED_PATH} {{ proxy_read_timeout 1h; proxy_pass http://127.0.0.1:{NOBODY}/; }}
    location = {UPLOAD_PATH} {{ client_body_buffer_size 2m; proxy_pass_request_body off; proxy_set_header Content-Length ''; proxy_pass http://127.0.0.1:{HTTP1}/; }}",
        folder.display()
    );
    let configuration = format!(
        "user root; worker_processes 1; daemon off; pid {0}/pid; error_log {0}/error.log;
events {{ worker_connections 30000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; sendfile on; client_max_body_size 0;
  client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
  server {{ listen {HTTP1} backlog=16384; {locations} }}
  server {{ listen {HTTP2} http2 backlog=16384; {locations} }}
}}",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration)?;
    let mut command = namespace.command("taskset");
    command.args(["-c", &core.to_string(), "nginx", "-p"]).arg(&folder).arg("-c").arg(&file);
    Daemon::start("the server (nginx)", &mut command, namespace, HTTP1, Duration::from_secs(10))
}
