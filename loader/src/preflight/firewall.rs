//! The netfilter hooks that this host's rule sets use.

use serde_json::Value;

use crate::device::DEVICE;
use crate::{Result, nft};

/// A chain that the kernel asks about packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// `inet`, `ip`, ...
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// `prerouting`, `input`, `forward`, `output`, `postrouting`.
    pub hook: String,
    /// Whether its policy is drop.
    pub drops: bool,
    /// The software that writes its table; rules that others put there are lost or refused.
    pub keeper: Keeper,
}

/// The software that writes a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeper {
    /// None that is known: its rules can be changed by hand.
    #[default]
    Unknown,
    /// firewalld, which may own its table so that others cannot write it, and writes it anew at every reload.
    Firewalld,
    /// ufw, which writes its rules anew at every reload.
    Ufw,
}

/// Lets service traffic in through firewalld: now, and after a reload.
pub(crate) const FIREWALLD_FIX: &str = "firewall-cmd --zone=trusted --change-interface=brattice0 && \
    firewall-cmd --permanent --zone=trusted --change-interface=brattice0";
/// Lets service traffic in through ufw.
pub(crate) const UFW_FIX: &str = "ufw allow in on brattice0";
/// Lets service traffic out through ufw.
const UFW_FIX_OUT: &str = "ufw allow out on brattice0";

impl BaseChain {
    /// The command that lets service traffic pass this chain.
    #[must_use]
    pub fn fix(&self) -> String {
        let out = leaves(&self.hook);
        match self.keeper {
            Keeper::Firewalld if !out => FIREWALLD_FIX.to_owned(),
            Keeper::Ufw if out => UFW_FIX_OUT.to_owned(),
            Keeper::Ufw => UFW_FIX.to_owned(),
            Keeper::Unknown | Keeper::Firewalld => fix(&self.family, &self.table, &self.chain, &self.hook),
        }
    }
}

/// Whether packets at a hook are on their way out.
fn leaves(hook: &str) -> bool {
    matches!(hook, "output" | "postrouting")
}

/// `nft insert rule ...` for a chain of a hook.
pub(super) fn fix(family: &str, table: &str, chain: &str, hook: &str) -> String {
    let side = if leaves(hook) { "oifname" } else { "iifname" };
    // The quotes are nft's own and must reach it.
    format!("nft insert rule {family} {table} {chain} {side} '\"{DEVICE}\"' accept")
}

/// All base chains but Brattice's.
///
/// # Errors
/// When nft is missing or refuses.
pub fn base_chains() -> Result<Vec<BaseChain>> {
    let items = nft::list(&["chains"])?.unwrap_or_default();
    Ok(parse_all(&items))
}

/// The base chains that could drop service traffic by their policy; the active probe shows whether they do.
///
/// # Errors
/// When nft is missing or refuses.
pub fn dropping_chains() -> Result<Vec<BaseChain>> {
    let hooks = ["prerouting", "input", "output", "postrouting"];
    Ok(base_chains()?.into_iter().filter(|c| c.drops && hooks.contains(&c.hook.as_str())).collect())
}

fn parse_all(items: &[Value]) -> Vec<BaseChain> {
    let mut all: Vec<BaseChain> = items.iter().filter_map(parse).filter(|c| !c.table.starts_with("brattice")).collect();
    let field =
        |item: &Value, name: &str| item.pointer(&format!("/chain/{name}")).and_then(Value::as_str).map(str::to_owned);
    let ufw: Vec<(Option<String>, Option<String>)> = items
        .iter()
        .filter(|item| field(item, "name").is_some_and(|name| name.starts_with("ufw-") || name.starts_with("ufw6-")))
        .map(|item| (field(item, "family"), field(item, "table")))
        .collect();
    for chain in &mut all {
        if chain.table == "firewalld" {
            chain.keeper = Keeper::Firewalld;
        } else if ufw.contains(&(Some(chain.family.clone()), Some(chain.table.clone()))) {
            chain.keeper = Keeper::Ufw;
        }
    }
    all
}

fn parse(item: &Value) -> Option<BaseChain> {
    let chain = item.get("chain")?;
    let field = |name: &str| chain.get(name).and_then(Value::as_str).map(str::to_owned);
    let family = field("family")?;
    matches!(family.as_str(), "inet" | "ip" | "ip6").then_some(())?;
    Some(BaseChain {
        family,
        table: field("table")?,
        chain: field("name")?,
        hook: field("hook")?,
        drops: field("policy").as_deref() == Some("drop"),
        keeper: Keeper::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_repaired_by_the_means_of_who_keeps_it() {
        let chain = |family: &str, table: &str, name: &str, hook: Option<&str>| {
            let mut chain = serde_json::json!({"family": family, "table": table, "name": name});
            if let Some(hook) = hook {
                chain["hook"] = hook.into();
                chain["policy"] = "drop".into();
            }
            serde_json::json!({"chain": chain})
        };
        let all = parse_all(&[
            chain("inet", "firewalld", "filter_INPUT", Some("input")),
            chain("ip", "filter", "INPUT", Some("input")),
            chain("ip", "filter", "OUTPUT", Some("output")),
            chain("ip", "filter", "ufw-before-input", None),
            chain("inet", "mine", "in", Some("input")),
            chain("inet", "brattice", "guard", Some("prerouting")),
        ]);
        let fixes: Vec<String> = all.iter().map(BaseChain::fix).collect();
        assert_eq!(
            fixes,
            [
                FIREWALLD_FIX,
                "ufw allow in on brattice0",
                "ufw allow out on brattice0",
                "nft insert rule inet mine in iifname '\"brattice0\"' accept"
            ]
        );
    }
}
