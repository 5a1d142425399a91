//! What the rule sets of this host hook into.

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
}

impl BaseChain {
    /// The command that lets service traffic pass this chain.
    #[must_use]
    pub fn mend(&self) -> String {
        mend(&self.family, &self.table, &self.chain, &self.hook)
    }
}

/// `nft insert rule ...` for a chain of a hook.
pub(super) fn mend(family: &str, table: &str, chain: &str, hook: &str) -> String {
    let side = if matches!(hook, "output" | "postrouting") { "oifname" } else { "iifname" };
    // The quotes are nft's own and must reach it.
    format!("nft insert rule {family} {table} {chain} {side} '\"{DEVICE}\"' accept")
}

/// All base chains but ours.
///
/// # Errors
/// When nft is missing or refuses.
pub fn base_chains() -> Result<Vec<BaseChain>> {
    let items = nft::list(&["chains"])?.unwrap_or_default();
    Ok(items.iter().filter_map(parse).filter(|c| !c.table.starts_with("brattice")).collect())
}

/// The base chains that could eat service traffic by their policy; whether they do, the active probe tells.
///
/// # Errors
/// When nft is missing or refuses.
pub fn dropping_chains() -> Result<Vec<BaseChain>> {
    let hooks = ["prerouting", "input", "output", "postrouting"];
    Ok(base_chains()?.into_iter().filter(|c| c.drops && hooks.contains(&c.hook.as_str())).collect())
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
    })
}
