//! Our nftables table. It keeps `brattice0` out of connection tracking, and it guards what `vip_listener` is not asked
//! about: segments for connections that are established (the stack finds those first), and protocols without ports.
//! Written by the `nft` command: it knows the kernel's netlink dialect of its time, and what it does can be repeated by
//! hand.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use brattice_abi as abi;
use ipnet::IpNet;
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

/// What the guards speak of, by family: the word of nft, the VIP range, the alias range, the engine's sources.
struct Guarded {
    family: &'static str,
    vip: IpNet,
    alias: IpNet,
    /// First and last, as nft writes a range.
    sources: String,
    /// Matches ICMP errors and redirects.
    errors: &'static str,
    /// Where the destination lies in the header that one quotes, in bits from the start of the ICMP header.
    quoted: u32,
}

fn guarded(options: &Options) -> Vec<Guarded> {
    let (first, last) = (abi::FIRST_ENGINE_SOURCE, abi::FIRST_ENGINE_SOURCE + abi::ENGINE_SOURCES - 1);
    let at = |offset: u32| std::net::Ipv4Addr::from(options.vip.network().to_bits() + offset);
    let mut all = vec![Guarded {
        family: "ip",
        vip: IpNet::V4(options.vip.trunc()),
        alias: IpNet::V4(options.alias.trunc()),
        sources: format!("{}-{}", at(first), at(last)),
        errors: "icmp type { destination-unreachable, redirect, time-exceeded, parameter-problem }",
        quoted: 8 * (8 + 16),
    }];
    all.extend(options.ipv6.map(|ipv6| Guarded {
        family: "ip6",
        vip: IpNet::V6(ipv6.vip.trunc()),
        alias: IpNet::V6(ipv6.alias.trunc()),
        sources: format!("{}-{}", ipv6.at(first), ipv6.at(last)),
        errors: "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-redirect }",
        quoted: 8 * (8 + 24),
    }));
    all
}

/// The bits of a network's prefix as one number.
fn prefix(net: IpNet) -> u128 {
    match net {
        IpNet::V4(net) => {
            u128::from(net.network().to_bits().checked_shr(u32::from(32 - net.prefix_len())).unwrap_or(0))
        }
        IpNet::V6(net) => net.network().to_bits().checked_shr(u32::from(128 - net.prefix_len())).unwrap_or(0),
    }
}

fn text(options: &Options) -> String {
    // Callers and targets show as aliases, and come by brattice0 only: from elsewhere, a packet from an alias can but
    // mean to end or fill somebody's connection. ICMP errors do the same without a source of ours. (What comes by lo is
    // this host's own; also the RST of the last rule.) An error to the host itself about what went to an alias, of a router
    // as it were, would teach the stack a small MTU of that alias, or end a connection: but no router ever sees such packets.
    //
    // Who connects from a service's address and port to an alias gets a RST: else that socket would wait, and eat the SYN
    // of a workload that calls the service from just that port.
    //
    // Nothing that comes by brattice0 is for elsewhere, and nothing to an alias goes by another way. While somebody has
    // removed one of our routes, the host's default route would take it.
    //
    // Aliases of processes of the host are addresses of the host: reached by lo only, by the engine, and not by the rest of
    // the world that sends its packets here.
    //
    // Every packet passes here, and to compare an interface's name costs more than all else: it is done once where it can
    // be, and last elsewhere.
    let (mut guard, mut input, mut untracked, mut output, mut astray) =
        (String::new(), String::new(), String::new(), String::new(), String::new());
    for Guarded { family, vip, alias, sources, errors, quoted } in guarded(options) {
        let (len, prefix) = (alias.prefix_len(), prefix(alias));
        guard += &format!(
            "{family} saddr {alias} {family} daddr {vip} counter drop;\n\
             {family} daddr {vip} meta l4proto != tcp meta l4proto != udp counter drop;\n\
             {errors} @th,{quoted},{len} {prefix} counter drop;\n"
        );
        output += &format!(
            "tcp flags & (syn | ack) == syn oifname \"{DEVICE}\" {family} saddr {vip} {family} saddr != {sources} meta skuid != {} counter reject with tcp reset;\n",
            options.engine_uid
        );
        astray += &format!("{family} daddr {alias} oifname != {{ \"{DEVICE}\", \"lo\" }} counter drop;\n");
        input += &format!("{family} daddr {alias} iif != \"lo\" counter drop;\n");
        untracked += &format!("{family} saddr {vip} notrack;\n{family} daddr {vip} notrack;\n");
    }
    // "add" first, so that "delete" cannot fail; all in one transaction, so that there is no moment without.
    format!(
        "add table {TABLE}\n\
         delete table {TABLE}\n\
         table {TABLE} {{\n\
           comment \"Brattice: service traffic is not tracked and comes by {DEVICE} only (brattice cleanup removes this)\"\n\
           chain guard {{\n\
             type filter hook prerouting priority {GUARD}; policy accept;\n\
             iifname \"{DEVICE}\" accept;\n\
             iifname \"lo\" accept;\n\
             {guard}\
           }}\n\
           chain own {{\n\
             {untracked}\
           }}\n\
           chain input {{\n\
             type filter hook input priority {GUARD}; policy accept;\n\
             {input}\
           }}\n\
           chain prerouting {{\n\
             type filter hook prerouting priority raw; policy accept;\n\
             iifname \"{DEVICE}\" notrack;\n\
             iif \"lo\" jump own;\n\
           }}\n\
           chain output {{\n\
             type filter hook output priority raw; policy accept;\n\
             oifname \"{DEVICE}\" notrack;\n\
             oif \"lo\" jump own;\n\
             {output}\
           }}\n\
           chain forward {{\n\
             type filter hook forward priority raw; policy accept;\n\
             iifname \"{DEVICE}\" counter drop;\n\
           }}\n\
           chain astray {{\n\
             type filter hook output priority raw; policy accept;\n\
             {astray}\
           }}\n\
         }}\n"
    )
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
    let net = |net: IpNet| format!("{{\"addr\":\"{}\",\"len\":{}}}", net.network(), net.prefix_len());
    let engine = format!("\"right\":{}}}", options.engine_uid);
    let families = guarded(options).into_iter().all(|Guarded { vip, alias, .. }| {
        let prefix = format!("\"right\":{}}}", prefix(alias));
        let (vip, alias) = (net(vip), net(alias));
        rule("guard", &["saddr", &alias, &vip, "drop"])
            && rule("guard", &["l4proto", &vip, "drop"])
            && rule("guard", &["\"base\":\"th\"", &prefix, "drop"])
            && rule("output", &["skuid", &engine, &vip, "reject"])
            && rule("astray", &["oifname", "\"lo\"", &alias, "drop"])
            && rule("input", &["iif", &alias, "drop"])
            && rule("own", &["notrack", &vip])
    });
    let ours = |device: &str| rule("guard", &["iifname", &format!("\"right\":\"{device}\""), "accept"]);
    Ok(families
        && ours(DEVICE)
        && ours("lo")
        && hook("prerouting")
        && hook("output")
        && hook("input")
        && rule("prerouting", &["notrack"])
        && rule("prerouting", &["own"])
        && rule("output", &["notrack"])
        && rule("output", &["own"])
        && hook("forward")
        && rule("forward", &["iifname", "drop"]))
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
