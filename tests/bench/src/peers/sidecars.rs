//! Envoy beside the client and beside the server, as service meshes run it: the firewall redirects what goes out and what
//! comes in, and the two speak mutual TLS.

use std::{fs, path::Path, process::Command, rc::Rc, time::Duration};

use anyhow::{Result, ensure};
use brattice_tests::lab::output;

use super::{Peer, envoy};
use crate::{
    daemon::Daemon,
    site::{HTTP1, SERVER, Site},
};

/// Where the client's sidecar listens for what is redirected to it.
const OUTBOUND: u16 = 15001;
/// Where the server's does.
const INBOUND: u16 = 15006;

pub(super) fn start(core: usize) -> Result<Peer> {
    let site = Rc::new(Site::build(core)?);
    let folder = site.folder("sidecars")?;
    certificates(&folder)?;
    let program = envoy::program()?;
    let run = |name: &str, configuration: String, port: u16, namespace: &brattice_tests::lab::Namespace| {
        let file = folder.join(format!("{name}.yaml"));
        fs::write(&file, configuration)?;
        let mut command = namespace.command(&program.to_string_lossy());
        command.args(envoy::arguments(&file));
        Daemon::start(name, &mut command, namespace, port, Duration::from_secs(20))
    };
    let inbound = envoy::configuration(
        &envoy::listener("inbound", INBOUND, "application", &transport(&folder, "Downstream", "server")),
        &envoy::cluster("application", "127.0.0.1", HTTP1, ""),
    );
    let outbound = envoy::configuration(
        &envoy::listener("outbound", OUTBOUND, "service", ""),
        &envoy::cluster("service", SERVER, HTTP1, &transport(&folder, "Upstream", "client")),
    );
    let beside_server = run("inbound", inbound, INBOUND, &site.target.namespace)?;
    let beside_client = run("outbound", outbound, OUTBOUND, &site.client.namespace)?;
    redirect(&site, "output", HTTP1, OUTBOUND)?;
    redirect(&site, "prerouting", HTTP1, INBOUND)?;
    let mut peer = Peer::proxy("Envoy sidecars, mTLS", &site, (HTTP1, Some(HTTP1)), beside_client);
    peer.programs.push(beside_server);
    (peer.http1, peer.http2) = (Site::direct(HTTP1), Some(Site::direct(HTTP1)));
    Ok(peer)
}

/// The mark of what the client's sidecar sends, which is not redirected again.
const MARK: u32 = 1337;

/// nat rules in the namespace of the client (`output`) or of the server (`prerouting`).
fn redirect(site: &Site, hook: &str, from: u16, to: u16) -> Result<()> {
    let namespace = if hook == "output" { &site.client.namespace } else { &site.target.namespace };
    let rules = format!(
        "table ip sidecar {{
  chain {hook} {{
    type nat hook {hook} priority -100
    meta mark {MARK} accept
    tcp dport {from} redirect to :{to}
  }}
}}
"
    );
    let file = site.folder("sidecars")?.join(format!("{hook}.nft"));
    fs::write(&file, rules)?;
    let done = namespace.run(&["nft", "-f", &file.to_string_lossy()]);
    ensure!(done.ok(), "nft refuses the redirection: {}", done.text());
    Ok(())
}

/// Mutual TLS 1.3, and the mark on the client's side.
fn transport(folder: &Path, side: &str, name: &str) -> String {
    let folder = folder.display();
    let (indent, required) =
        if side == "Downstream" { ("      ", "require_client_certificate: true") } else { ("    ", "sni: server") };
    let mut text = format!(
        "{indent}transport_socket:
{indent}  name: envoy.transport_sockets.tls
{indent}  typed_config:
{indent}    '@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext
{indent}    {required}
{indent}    common_tls_context:
{indent}      tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}
{indent}      tls_certificates: [{{certificate_chain: {{filename: {folder}/{name}.crt}}, private_key: {{filename: {folder}/{name}.key}}}}]
{indent}      validation_context: {{trusted_ca: {{filename: {folder}/ca.crt}}}}
"
    );
    if side == "Upstream" {
        text.push_str(&format!(
            "{indent}upstream_bind_config: {{source_address: {{address: 0.0.0.0, port_value: 0}}, socket_options: [{{level: 1, name: 36, int_value: {MARK}, state: STATE_PREBIND}}]}}\n"
        ));
    }
    text
}

/// An authority and two certificates of it, for these sidecars alone.
fn certificates(folder: &Path) -> Result<()> {
    let openssl = |words: &[&str]| {
        let done = output(Command::new("openssl").args(words).current_dir(folder));
        ensure!(done.ok(), "openssl {}: {}", words.join(" "), done.text());
        Ok(())
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(
        &[&["req", "-x509"], &key[..], &["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=bench", "-days", "2"]]
            .concat(),
    )?;
    for name in ["server", "client"] {
        let (request, private, certificate) = (format!("{name}.csr"), format!("{name}.key"), format!("{name}.crt"));
        let subject = format!("/CN={name}");
        openssl(&[&["req"], &key[..], &["-keyout", &private, "-out", &request, "-subj", &subject]].concat())?;
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-out",
            &certificate,
        ])?;
    }
    Ok(())
}
