//! Envoy: one hop, one worker, without log, statistics and policies.

use std::{fs, path::PathBuf, rc::Rc, time::Duration};

use anyhow::{Context, Result};

use super::Peer;
use crate::{
    daemon::Daemon,
    site::{HTTP1, SERVER, Site},
};

const PORT: u16 = 8480;

/// Envoy's program: `ENVOY_BIN`, which `cargo xtask bench` sets.
pub(super) fn program() -> Result<PathBuf> {
    let path = std::env::var_os("ENVOY_BIN").context("ENVOY_BIN is not set: run `cargo xtask bench`")?;
    Ok(path.into())
}

/// A listener that hands every request to `cluster`; `more` stands beside its filter chains.
pub(super) fn listener(name: &str, port: u16, cluster: &str, transport: &str) -> String {
    format!(
        "  - name: {name}
    address: {{socket_address: {{address: 0.0.0.0, port_value: {port}}}}}
    tcp_backlog_size: 16384
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          codec_type: AUTO
          generate_request_id: false
          route_config:
            virtual_hosts:
            - {{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}, timeout: 0s}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              dynamic_stats: false
              suppress_envoy_headers: true
{transport}"
    )
}

/// A cluster with one address.
pub(super) fn cluster(name: &str, address: &str, port: u16, transport: &str) -> String {
    format!(
        "  - name: {name}
    type: STATIC
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 20000, max_pending_requests: 20000, max_requests: 20000}}]}}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - {{endpoint: {{address: {{socket_address: {{address: {address}, port_value: {port}}}}}}}}}
{transport}"
    )
}

/// A whole configuration.
pub(super) fn configuration(listener: &str, cluster: &str) -> String {
    format!(
        "static_resources:
  listeners:
{listener}
  clusters:
{cluster}
stats_config: {{stats_matcher: {{reject_all: true}}}}
overload_manager:
  resource_monitors:
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
      max_active_downstream_connections: 20000
"
    )
}

/// The words that start it.
pub(super) fn arguments(file: &std::path::Path) -> Vec<String> {
    let file = file.to_string_lossy();
    ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"].map(String::from).to_vec()
}

pub(super) fn start(site: &Rc<Site>) -> Result<Peer> {
    let file = site.folder("envoy")?.join("envoy.yaml");
    fs::write(&file, configuration(&listener("in", PORT, "server", ""), &cluster("server", SERVER, HTTP1, "")))?;
    let mut command = site.lab.node.command(&program()?.to_string_lossy());
    command.args(arguments(&file));
    let program = Daemon::start("Envoy", &mut command, &site.lab.node, PORT, Duration::from_secs(20))?;
    // The same port reads both versions.
    Ok(Peer::proxy("Envoy", site, (PORT, Some(PORT)), program))
}
