//! Finds the rule or policy that dropped a packet, by netfilter's own trace of it.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::firewall::{self, BaseChain};
use crate::device::DEVICE;
use crate::{Error, Result, nft};

/// Family and name of the table that exists while a trace runs.
pub(crate) const TRACE_TABLE: &str = "inet brattice-probe";
/// Time that `nft monitor` has to begin listening.
const SETTLE: Duration = Duration::from_millis(300);
/// Most trace lines kept.
const MAX_LINES: usize = 4096;

/// What ate the probe's packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// `inet`, `ip`, ...
    pub family: String,
    /// Its table.
    pub table: String,
    /// The chain the kernel asked first; of the hook below.
    pub chain: String,
    /// `prerouting`, `input`, `output` or `postrouting`.
    pub hook: String,
    /// `policy drop`, or the rule.
    pub what: String,
    /// The command that lets service traffic pass.
    pub fix: String,
}

/// A running trace of one alias's packets on `brattice0`. Dropping it removes its table and ends `nft monitor`.
pub(super) struct Trace {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(super) fn start(alias: IpAddr) -> Result<Self> {
        let family = if alias.is_ipv4() { "ip" } else { "ip6" };
        nft::script(
            "the table of the probe's trace",
            &format!(
                "add table {TRACE_TABLE}\n\
                 delete table {TRACE_TABLE}\n\
                 table {TRACE_TABLE} {{\n\
                   chain i {{ type filter hook prerouting priority -350; policy accept; iifname \"{DEVICE}\" {family} saddr {alias} meta nftrace set 1; }}\n\
                   chain o {{ type filter hook output priority -350; policy accept; oifname \"{DEVICE}\" {family} daddr {alias} meta nftrace set 1; }}\n\
                 }}\n"
            ),
        )?;
        let mut child = match nft::command()
            .args(["monitor", "trace"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
        {
            Ok(child) => child,
            Err(error) => {
                nft::remove(TRACE_TABLE)?;
                return Err(Error::Io { what: "starting nft monitor".into(), source: error });
            }
        };
        let lines = Arc::new(Mutex::new(Vec::new()));
        if let Some(output) = child.stdout.take() {
            let lines = Arc::clone(&lines);
            // Ends with the child's output.
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    if lines.len() < MAX_LINES {
                        lines.push(line);
                    }
                }
            });
        }
        std::thread::sleep(SETTLE);
        Ok(Self { child, lines })
    }

    /// Ends the trace; the rules that dropped packets, each once.
    pub(super) fn culprits(self) -> Result<Vec<Culprit>> {
        // nft writes a line when the packet's trace message came; give the last one time.
        std::thread::sleep(SETTLE);
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        drop(self);
        Ok(read(&lines, &firewall::base_chains()?))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Err(error) = nft::remove(TRACE_TABLE) {
            tracing::warn!(%error, "the table {TRACE_TABLE} of the probe stays; brattice cleanup removes it");
        }
    }
}

/// One line of a trace: `trace id <hex> <family> <table> <chain> <rest>`.
struct Line<'a> {
    id: &'a str,
    family: &'a str,
    table: &'a str,
    chain: &'a str,
    rest: &'a str,
}

fn parse(line: &str) -> Option<Line<'_>> {
    let mut parts = line.strip_prefix("trace id ")?.splitn(5, ' ');
    Some(Line {
        id: parts.next()?,
        family: parts.next()?,
        table: parts.next()?,
        chain: parts.next()?,
        rest: parts.next()?.trim(),
    })
}

/// Whether a rule rejects, and does not just go to a chain that is called so (as ufw's are).
fn rejects(rule: &str, verdict: &str) -> bool {
    let goes_on = ["jump", "goto", "continue", "return", "accept"].iter().any(|word| verdict.starts_with(word));
    !goes_on && rule.contains("reject")
}

/// Finds the lines that end a packet, and the base chain each came through.
fn read(lines: &[String], bases: &[BaseChain]) -> Vec<Culprit> {
    let mut culprits: Vec<Culprit> = Vec::new();
    let parsed: Vec<Line<'_>> = lines.iter().filter_map(|l| parse(l)).collect();
    for (position, line) in parsed.iter().enumerate() {
        let what = if line.rest.starts_with("policy drop") {
            "policy drop".to_owned()
        } else if let Some(rule) = line.rest.strip_prefix("rule ")
            && let Some((rule, verdict)) = rule.rsplit_once(" (verdict ")
            && (verdict.starts_with("drop") || rejects(rule, verdict))
        {
            format!("rule: {rule}")
        } else {
            continue;
        };
        // The rule may stand in a chain that was jumped to: go back to the base chain of this packet and table.
        let base = parsed[..=position]
            .iter()
            .rev()
            .filter(|l| l.id == line.id && l.table == line.table && l.family == line.family)
            .find_map(|l| bases.iter().find(|b| b.family == l.family && b.table == l.table && b.chain == l.chain));
        let (chain, hook) = base.map_or((line.chain, "input"), |b| (b.chain.as_str(), b.hook.as_str()));
        let culprit = Culprit {
            family: line.family.to_owned(),
            table: line.table.to_owned(),
            chain: chain.to_owned(),
            hook: hook.to_owned(),
            what,
            fix: base.map_or_else(|| firewall::fix(line.family, line.table, chain, hook), BaseChain::fix),
        };
        if !culprits.contains(&culprit) {
            culprits.push(culprit);
        }
    }
    culprits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(name: &str, hook: &str) -> BaseChain {
        BaseChain {
            family: "inet".into(),
            table: "filter".into(),
            chain: name.into(),
            hook: hook.into(),
            drops: true,
            keeper: firewall::Keeper::Unknown,
        }
    }

    #[test]
    fn a_policy_is_named_once() {
        let lines: Vec<String> = ["1a", "1b"]
            .iter()
            .flat_map(|id| {
                [
                    format!("trace id {id} inet brattice-probe i packet: iif \"brattice0\" ip saddr 100.127.255.255"),
                    format!("trace id {id} inet filter in verdict continue "),
                    format!("trace id {id} inet filter in policy drop "),
                ]
            })
            .collect();
        let found = read(&lines, &[chain("in", "input")]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "policy drop");
        assert_eq!(found[0].fix, "nft insert rule inet filter in iifname '\"brattice0\"' accept");
    }

    #[test]
    fn a_rule_in_a_chain_jumped_to_is_repaired_in_its_base_chain() {
        let lines: Vec<String> = [
            "trace id 1 inet filter out rule jump strict (verdict jump strict)",
            "trace id 1 inet filter strict rule tcp dport 53 drop (verdict drop)",
        ]
        .map(str::to_owned)
        .to_vec();
        let found = read(&lines, &[chain("out", "output")]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].chain.as_str(), found[0].hook.as_str()), ("out", "output"));
        assert_eq!(found[0].what, "rule: tcp dport 53 drop");
        assert!(found[0].fix.contains("out oifname"));
    }

    #[test]
    fn a_jump_to_a_chain_called_reject_is_no_rejection() {
        let line = |rule: &str, verdict: &str| format!("trace id 1 ip filter OUTPUT rule {rule} (verdict {verdict})");
        let bases = [BaseChain { family: "ip".into(), table: "filter".into(), ..chain("OUTPUT", "output") }];
        let jump = line("counter packets 3 bytes 160 jump ufw-reject-output", "jump ufw-reject-output");
        assert!(read(&[jump], &bases).is_empty());
        let reject = line("reject with icmpx admin-prohibited", "drop");
        assert_eq!(read(&[reject], &bases).len(), 1);
    }

    #[test]
    fn accepted_packets_name_no_culprit() {
        let lines = ["trace id 1 inet filter in rule ct state established accept (verdict accept)".to_owned()];
        assert!(read(&lines, &[chain("in", "input")]).is_empty());
    }
}
