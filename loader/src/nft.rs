//! Our nftables table. It keeps `brattice0` out of connection tracking, and it guards what `vip_listener` is not asked
//! about: segments for connections that are established (the stack finds those first), and protocols without ports.
//! Written by the `nft` command: it knows the kernel's netlink dialect of its time, and what it does can be repeated by
//! hand.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use brattice_abi as abi;
use ipnet::Ipv4Net;
use serde_json::Value;

use crate::device::DEVICE;
use crate::options::Options;
use crate::{Error, Result};

/// Family and name of the table.
pub(crate) const TABLE: &str = "inet brattice";
/// Before the connection tracker puts fragments together (-400): a forged one must not get among a workload's.
const GUARD: i32 = -450;
/// Where `nft` is on systems whose services have a short PATH.
const PLACES: &str = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin";

/// A `Command` for nft.
pub(crate) fn command() -> Command {
    let path = match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{PLACES}"),
        _ => PLACES.to_owned(),
    };
    let program = path
        .split(':')
        .map(|place| std::path::Path::new(place).join("nft"))
        .find(|file| file.is_file())
        .unwrap_or_else(|| "nft".into());
    let mut command = Command::new(program);
    command.env("PATH", path).env("LC_ALL", "C");
    command
}

fn missing(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        Error::NftMissing
    } else {
        Error::Io { what: "starting nft".into(), source: error }
    }
}

/// Runs a script in one transaction.
pub(crate) fn script(what: &'static str, text: &str) -> Result<()> {
    let mut child = command()
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // nft may have ended already; its exit code tells.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(Error::io("waiting for nft"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Nft { what, output: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// Lists as JSON; `None` if what was asked for does not exist.
pub(crate) fn list(arguments: &[&str]) -> Result<Option<Vec<Value>>> {
    let output = command().arg("-j").arg("list").args(arguments).stdin(Stdio::null()).output().map_err(missing)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        if errors.contains("No such file or directory") {
            return Ok(None);
        }
        return Err(Error::Nft { what: "a listing", output: errors.trim().to_owned() });
    }
    let parsed: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::Nft { what: "a listing", output: format!("its JSON cannot be read: {error}") })?;
    match parsed.get("nftables") {
        Some(Value::Array(items)) => Ok(Some(items.clone())),
        _ => Err(Error::Nft { what: "a listing", output: "its JSON has no list \"nftables\"".into() }),
    }
}

fn text(options: &Options) -> String {
    let (vip, alias, sources) = (options.vip.trunc(), options.alias.trunc(), sources(options.vip));
    // "add" first, so that "delete" cannot fail; all in one transaction, so that there is no moment without.
    //
    // Callers and targets show as aliases, and come by brattice0 only: from elsewhere, a packet from an alias can but
    // mean to end or fill somebody's connection. ICMP errors do the same without a source of ours. (What comes by lo is
    // this host's own; also the RST of the last rule.)
    //
    // An alias of a process of this host is a local address, and from outside no way to what listens everywhere.
    //
    // Who connects from a service's address and port to an alias gets a RST: else that socket would wait, and eat the SYN
    // of a workload that calls the service from just that port.
    format!(
        "add table {TABLE}\n\
         delete table {TABLE}\n\
         table {TABLE} {{\n\
           comment \"Brattice: service traffic is not tracked and comes by {DEVICE} only (brattice cleanup removes this)\"\n\
           chain guard {{\n\
             type filter hook prerouting priority {GUARD}; policy accept;\n\
             iifname != \"{DEVICE}\" iifname != \"lo\" ip saddr {alias} ip daddr {vip} counter drop;\n\
             iifname != \"{DEVICE}\" iifname != \"lo\" ip daddr {vip} meta l4proto != tcp meta l4proto != udp counter drop;\n\
           }}\n\
           chain input {{\n\
             type filter hook input priority {GUARD}; policy accept;\n\
             iifname != \"lo\" ip daddr {alias} counter drop;\n\
           }}\n\
           chain prerouting {{\n\
             type filter hook prerouting priority raw; policy accept;\n\
             iifname \"{DEVICE}\" notrack;\n\
           }}\n\
           chain output {{\n\
             type filter hook output priority raw; policy accept;\n\
             oifname \"{DEVICE}\" notrack;\n\
             oifname \"{DEVICE}\" tcp flags & (syn | ack) == syn ip saddr {vip} ip saddr != {sources} meta skuid != {engine} counter reject with tcp reset;\n\
           }}\n\
         }}\n",
        engine = options.engine_uid,
    )
}

/// First and last of the engine's source addresses, as nft writes a range.
fn sources(vip: Ipv4Net) -> String {
    let at = |offset: u32| Ipv4Addr::from(u32::from(vip.network()) + offset);
    format!("{}-{}", at(abi::FIRST_ENGINE_SOURCE), at(abi::FIRST_ENGINE_SOURCE + abi::ENGINE_SOURCES - 1))
}

/// Whether the table is there with its chains and their rules.
pub(crate) fn present(options: &Options) -> Result<bool> {
    let Some(items) = list(&["table", "inet", "brattice"])? else { return Ok(false) };
    let hook = |hook: &str| items.iter().any(|i| i.pointer("/chain/hook").and_then(Value::as_str) == Some(hook));
    let rule = |chain: &str, words: &[&str]| {
        items.iter().filter(|i| i.pointer("/rule/chain").and_then(Value::as_str) == Some(chain)).any(|i| {
            let text = i.pointer("/rule/expr").map(Value::to_string).unwrap_or_default();
            words.iter().all(|word| text.contains(word))
        })
    };
    let net = |net: Ipv4Net| format!("{{\"addr\":\"{}\",\"len\":{}}}", net.network(), net.prefix_len());
    let (vip, alias) = (net(options.vip), net(options.alias));
    Ok(hook("prerouting")
        && hook("output")
        && rule("prerouting", &["notrack"])
        && rule("output", &["notrack"])
        && rule("guard", &["saddr", &alias, &vip, "drop"])
        && rule("input", &["daddr", &alias, "drop"])
        && rule("guard", &["l4proto", &vip, "drop"])
        && rule("output", &["skuid", &format!("\"right\":{}}}", options.engine_uid), &vip, "reject"]))
}

/// Writes the table unless it is there; whether it was written.
pub(crate) fn ensure(options: &Options) -> Result<bool> {
    if present(options)? {
        return Ok(false);
    }
    script("the table inet brattice", &text(options))?;
    Ok(true)
}

/// Removes a table of ours; whether it was there.
pub(crate) fn remove(table: &'static str) -> Result<bool> {
    let name: Vec<&str> = table.split(' ').collect();
    let arguments: Vec<&str> = std::iter::once("table").chain(name).collect();
    match list(&arguments) {
        Ok(None) => return Ok(false),
        // Without nft there is no table of ours: it was written by nft.
        Err(Error::NftMissing) => return Ok(false),
        Err(error) => return Err(error),
        Ok(Some(_)) => {}
    }
    script("to remove a table", &format!("delete table {table}\n"))?;
    Ok(true)
}
