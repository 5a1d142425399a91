//! Our nftables tables. `inet` keeps `brattice0` out of connection tracking, and it guards what `vip_listener` is not asked
//! about: segments for connections that are established (the stack finds those first), and protocols without ports.
//! `arp` keeps the stack from answering for VIPs.
//! Written by the `nft` command: it knows the kernel's netlink dialect of its time, and what it does can be repeated by
//! hand.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::process::{Command, Stdio};

use brattice_abi as abi;
use ipnet::IpNet;
use serde_json::Value;

use crate::device::DEVICE;
use crate::options::Options;
use crate::{Error, Result};

/// Family and name of our tables, in the order in which they are loaded.
pub(crate) const TABLES: [&str; 2] = [TABLE, ARP_TABLE];
/// Of the two, the one for packets.
const TABLE: &str = "inet brattice";
/// The one for ARP.
const ARP_TABLE: &str = "arp brattice";
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
        // nft may have ended already; its exit code shows it.
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

/// Parameters of the rules, by family: nft's keyword, the VIP range, the alias range, the engine's sources.
struct Guarded {
    family: &'static str,
    vip: IpNet,
    alias: IpNet,
    /// First and last, as nft writes a range.
    sources: String,
    /// Matches ICMP errors and redirects.
    errors: &'static str,
    /// Matches fragments.
    fragment: &'static str,
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
        fragment: "ip frag-off & 0x3fff != 0",
        quoted: 8 * (8 + 16),
    }];
    all.extend(options.ipv6.map(|ipv6| Guarded {
        family: "ip6",
        vip: IpNet::V6(ipv6.vip.trunc()),
        alias: IpNet::V6(ipv6.alias.trunc()),
        sources: format!("{}-{}", ipv6.at(first), ipv6.at(last)),
        errors: "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-redirect }",
        fragment: "exthdr frag exists",
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

/// What loads a table.
fn text(table: &str, options: &Options) -> String {
    let (comment, chains) = match table {
        ARP_TABLE => ("the stack does not answer ARP for VIPs".to_owned(), arp_chains(options)),
        _ => (format!("service traffic is not tracked and comes by {DEVICE} only"), chains(options)),
    };
    // "add" first, so that "delete" cannot fail; all in one transaction, so that there is no moment without.
    format!(
        "add table {table}\n\
         delete table {table}\n\
         table {table} {{\n\
           comment \"Brattice: {comment} (brattice cleanup removes this)\"\n\
           {chains}\
         }}\n"
    )
}

/// VIPs are local addresses, so the stack would answer ARP for them on every interface (unless `arp_ignore` is set). A bridge
/// may have no way back: a workload behind it that asks before it is attached would send there, and wait a second for an
/// answer. (On a routed interface the reset of the host reaches the workload, so the stack may answer there.) Once it is attached, `workload_ingress` answers, before the stack is asked, and the workload is told
/// ([`crate::Announcer`]). Nor is other use of these link-local addresses on the host's networks disturbed. For IPv6
/// there is no such thing: the stack speaks only for addresses of the interface that was asked, and for listed proxies.
fn arp_chains(options: &Options) -> String {
    format!(
        "chain questions {{\n\
           type filter hook input priority filter; policy accept;\n\
           meta iifkind \"bridge\" arp operation request arp daddr ip {} counter drop;\n\
         }}\n",
        options.vip.trunc()
    )
}

fn chains(options: &Options) -> String {
    // Workloads appear as aliases, which come by brattice0 only: from elsewhere, a packet from an alias can only end or
    // disturb another workload's connection. So can ICMP errors, without a source of Brattice's ranges. (What comes by lo is this
    // host's own; also the RST of the last rule.) An error to the host itself about a packet to an alias, as if of a
    // router, would teach the stack a small MTU of that alias, or end a connection: but no router ever sees such
    // packets.
    //
    // Of an error in fragments the first one may be too short to show what it is about; later ones are nothing without it. (None
    // of a sound router is in fragments: at most 576 and 1280 bytes, RFC 1812, 4.3.2.3 and RFC 4443, 2.4.)
    //
    // A socket that connects from a service's address and port to an alias gets a RST: otherwise it would wait, and
    // take the SYN of a workload that calls the service from just that port.
    //
    // Nothing that comes by brattice0 is for elsewhere, and nothing to an alias goes by another way. While one of our
    // routes is missing, the host's default route would take such packets.
    //
    // Aliases of processes of the host are addresses of the host: reached by lo only, by the engine, and not by the rest of
    // the world that sends its packets here.
    //
    // Every packet passes here, and to compare an interface's name costs more than all else: it is done once where it can
    // be, and last elsewhere.
    let (mut guard, mut input, mut untracked, mut output, mut astray) =
        (String::new(), String::new(), String::new(), String::new(), String::new());
    for Guarded { family, vip, alias, sources, errors, fragment, quoted } in guarded(options) {
        let (len, prefix) = (alias.prefix_len(), prefix(alias));
        // guard: segments-from-outside
        guard += &format!("{family} saddr {alias} {family} daddr {vip} counter drop;\n");
        // guard: other-protocols-from-outside
        guard += &format!("{family} daddr {vip} meta l4proto != tcp meta l4proto != udp counter drop;\n");
        // guard: icmp-about-aliases
        guard += &format!("{errors} @th,{quoted},{len} {prefix} counter drop;\n");
        guard += &format!("{errors} {fragment} @th,{quoted},{len} != {prefix} accept;\n");
        // guard: icmp-in-fragments
        guard += &format!("{errors} {fragment} counter drop;\n");
        // guard: waiting-poser
        output += &format!(
            "tcp flags & (syn | ack) == syn oifname \"{DEVICE}\" {family} saddr {vip} {family} saddr != {sources} meta skuid != {} counter reject with tcp reset;\n",
            options.engine_uid
        );
        astray += &format!("{family} daddr {alias} oifname != {{ \"{DEVICE}\", \"lo\" }} counter drop;\n");
        // guard: host-alias-from-outside
        input += &format!("{family} daddr {alias} iif != \"lo\" counter drop;\n");
        untracked += &format!("{family} saddr {vip} notrack;\n{family} daddr {vip} notrack;\n");
    }
    format!(
        "chain guard {{\n\
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
           }}\n"
    )
}

/// The chain without a hook whose one rule carries [`mark`]'s word for all others.
const MARK: &str = "loaded";

/// The part of a listing that distinguishes one table from another. It is not parsed: it is compared with what the same
/// table showed when it had just been loaded, as nft prints many things in another form than they were written.
fn essence(item: &Value) -> Option<Value> {
    let (kind, fields) = item.as_object()?.iter().next()?;
    let chain = match kind.as_str() {
        "metainfo" => return None,
        "chain" => fields.get("name"),
        _ => fields.get("chain"),
    };
    if chain.and_then(Value::as_str) == Some(MARK) {
        return None;
    }
    let mut item = item.clone();
    settle(&mut item);
    Some(item)
}

/// Takes away what changes by itself: what counters count, and the order in sets.
fn settle(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Object(counter)) = fields.get_mut("counter") {
                counter.remove("packets");
                counter.remove("bytes");
            }
            fields.values_mut().for_each(settle);
            if let Some(Value::Array(elements)) = fields.get_mut("set") {
                elements.sort_by_key(Value::to_string);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        _ => {}
    }
}

/// Tells what was loaded, and what the kernel then shows of it, from anything else; kept in a comment of the table itself.
fn mark(text: &str, items: &[Value]) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    for item in items.iter().filter_map(essence) {
        item.to_string().hash(&mut hasher);
    }
    format!("as loaded: {:016x}", hasher.finish())
}

/// The kernel's listing of one of our tables.
fn loaded(table: &str) -> Result<Option<Vec<Value>>> {
    let arguments: Vec<&str> = std::iter::once("table").chain(table.split(' ')).collect();
    list(&arguments)
}

/// Whether a table is there as it was loaded for these options: no rule, chain or flag more, less or other.
pub(crate) fn present(table: &str, options: &Options) -> Result<bool> {
    let Some(items) = loaded(table)? else { return Ok(false) };
    let mark = mark(&text(table, options), &items);
    let is_mark = |item: &Value| {
        item.pointer("/rule/chain").and_then(Value::as_str) == Some(MARK)
            && item.pointer("/rule/comment").and_then(Value::as_str) == Some(&mark)
    };
    Ok(items.iter().any(is_mark))
}

/// Rules in a script that Brattice wrote: a line each.
fn rules(text: &str) -> usize {
    text.lines()
        .filter(|line| line.trim_end().ends_with(';') && !line.trim_start().starts_with("type filter hook"))
        .count()
}

/// Writes the tables that are not there; whether any was written.
pub(crate) fn ensure(options: &Options) -> Result<bool> {
    let mut written = false;
    for table in TABLES {
        if present(table, options)? {
            continue;
        }
        match load(table, options) {
            Ok(()) => written = true,
            Err(error) if table == ARP_TABLE && is_unsupported(&error) => {
                static ONCE: std::sync::Once = std::sync::Once::new();
                ONCE.call_once(|| {
                    tracing::warn!(
                        %error,
                        "this kernel has no nftables for ARP (CONFIG_NF_TABLES_ARP): the host answers ARP for VIPs, and the first \
                         call of a workload behind a bridge may take a second; net.ipv4.conf.all.arp_ignore=1 avoids that"
                    );
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// Whether the kernel was built without a family of tables.
fn is_unsupported(error: &Error) -> bool {
    matches!(error, Error::Nft { output, .. } if output.contains("not supported"))
}

fn load(table: &'static str, options: &Options) -> Result<()> {
    let text = text(table, options);
    script(table, &text)?;
    let items = loaded(table)?.unwrap_or_default();
    if items.iter().filter(|item| item.get("rule").is_some()).count() != rules(&text) {
        return Err(Error::Nft {
            what: table,
            output: "another program changed the table while it was being loaded; it is loaded again".into(),
        });
    }
    let mark = mark(&text, &items);
    script(table, &format!("add chain {table} {MARK}\nadd rule {table} {MARK} return comment \"{mark}\"\n"))
}

/// Removes a table of Brattice; whether it was there.
pub(crate) fn remove(table: &'static str) -> Result<bool> {
    match loaded(table) {
        Ok(None) => return Ok(false),
        // Without nft there is no table of Brattice: it was written by nft.
        Err(Error::NftMissing) => return Ok(false),
        Err(error) => return Err(error),
        Ok(Some(_)) => {}
    }
    script("to remove a table", &format!("delete table {table}\n"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nix::sched::{CloneFlags, unshare};

    use super::*;
    use crate::options::Ipv6Ranges;

    /// In a network namespace of its own. Needs root.
    fn apart(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let test = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("root, for a network namespace");
                test();
            });
            test.join().expect("the test");
        });
    }

    fn options(vip: &str, alias: &str) -> Options {
        let ipv6 =
            Ipv6Ranges { vip: "fd00:a9fe::/64".parse().expect("a net"), alias: "fd00:64::/48".parse().expect("a net") };
        Options {
            bpffs: PathBuf::new(),
            vip: vip.parse().expect("a net"),
            alias: alias.parse().expect("a net"),
            ipv6: Some(ipv6),
            engine_uid: 47_811,
            workers: 1,
            half_open_limit: 1,
            ebpf_log: crate::EbpfLog::Off,
        }
    }

    /// nft shows bits that end within a byte in another way than it takes them.
    #[test]
    fn ranges_of_every_length_are_written_once() {
        apart(|| {
            let aliases = (8..=29).map(|length| options("169.254.64.0/20", &format!("198.18.0.0/{length}")));
            let vips = (8..=26).map(|length| options(&format!("10.64.0.0/{length}"), "100.127.0.0/16"));
            for options in aliases.chain(vips) {
                let what = format!("{} {}", options.vip, options.alias);
                assert!(ensure(&options).expect(&what), "{what}: others were there");
                assert!(!ensure(&options).expect(&what), "{what}: it is there");
            }
        });
    }

    #[test]
    fn the_rules_of_a_script_are_counted() {
        let text = "table inet x {\n comment \"a; b\"\n chain c {\n type filter hook input priority 0; policy accept;\n \
                    iif \"lo\" accept;\n counter drop;\n\n}\n}\n";
        assert_eq!(rules(text), 2);
    }
}
