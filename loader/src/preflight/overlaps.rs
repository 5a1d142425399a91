//! Do the VIP range and the alias pool collide with something?

use ipnet::{IpNet, Ipv4Net};
use serde_json::Value;

use crate::netlink::route;
use crate::netlink::{Family, Socket};
use crate::own_thread::on_own_thread;
use crate::{Error, Result, interfaces, nft, routes};

/// A collision of one of our ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// `VIP`, `alias`, `IPv6 VIP` or `IPv6 alias`.
    pub pool: &'static str,
    /// The range.
    pub range: IpNet,
    /// The net it collides with.
    pub net: IpNet,
    /// What that is, such as `route dev tailscale0 table 52`.
    pub with: String,
    /// Whether traffic goes astray: the net is inside the range or equal to it, or holds addresses of workloads. A route
    /// that merely contains the range loses to ours.
    pub serious: bool,
}

/// Collisions of `ranges` (see [`crate::Options::ranges`]) with routes and addresses here and inside attached namespaces, with nftables rules, and with `cidrs` (of
/// VPCs, each with a name to show).
///
/// # Errors
/// When the kernel refuses to list.
pub async fn overlaps(ranges: &[(&'static str, IpNet)], cidrs: &[(String, IpNet)]) -> Result<Vec<Overlap>> {
    let (ranges, cidrs) = (ranges.to_vec(), cidrs.to_vec());
    on_own_thread("overlaps", move || {
        let occupied = occupied(&cidrs)?;
        Ok(ranges.into_iter().flat_map(|(pool, range)| against(pool, range, &occupied)).collect())
    })
    .await
}

/// The first of `candidates` without a serious collision.
///
/// # Errors
/// When the kernel refuses to list.
pub async fn free_range(
    pool: &'static str,
    candidates: &[Ipv4Net],
    cidrs: &[(String, IpNet)],
) -> Result<Option<Ipv4Net>> {
    let (candidates, cidrs) = (candidates.to_vec(), cidrs.to_vec());
    on_own_thread("free-range", move || {
        let occupied = occupied(&cidrs)?;
        let free = |range: &Ipv4Net| !against(pool, IpNet::V4(*range), &occupied).iter().any(|o| o.serious);
        Ok(candidates.into_iter().find(free))
    })
    .await
}

/// [`Overlap::pool`] of the VIP ranges.
const VIP_POOLS: [&str; 2] = ["VIP", "IPv6 VIP"];

/// A net in use, by what, and whether containing our range is harmless.
struct Occupied {
    net: IpNet,
    by: String,
    loses_to_longer: bool,
    /// A route inside a workload's namespace: for VIPs that is the way to us, which every workload needs.
    inside: bool,
}

fn against(pool: &'static str, range: IpNet, occupied: &[Occupied]) -> Vec<Overlap> {
    let ours = range.trunc();
    occupied
        .iter()
        .filter(|o| o.net.contains(&ours) || ours.contains(&o.net))
        .filter(|o| !(o.inside && VIP_POOLS.contains(&pool)))
        .map(|o| {
            let wider = o.net.prefix_len() < ours.prefix_len();
            Overlap { pool, range, net: o.net, with: o.by.clone(), serious: !(wider && o.loses_to_longer) }
        })
        .collect()
}

fn occupied(cidrs: &[(String, IpNet)]) -> Result<Vec<Occupied>> {
    let mut socket = Socket::open(Family::Route).map_err(Error::netlink("opening a routing socket"))?;
    let interfaces = interfaces::inventory_now()?;
    let name = |ifindex: &u32| {
        interfaces.iter().find(|i| i.ifindex == *ifindex).map_or_else(|| ifindex.to_string(), |i| i.name.clone())
    };
    let mut all = Vec::new();
    for found in route::list(&mut socket).map_err(Error::netlink("listing routes"))? {
        if routes::ours(&found) || found.destination.prefix_len() == 0 || found.protocol == routes::PROTOCOL {
            continue;
        }
        // The kernel's own routes to aliases of processes of the host.
        let ours = |ifindex: &u32| interfaces.iter().any(|i| i.ifindex == *ifindex && i.ours);
        if !found.interfaces.is_empty() && found.interfaces.iter().all(ours) {
            continue;
        }
        let through: Vec<String> = found.interfaces.iter().map(name).collect();
        // A route in another table is asked by a rule before ours is.
        let main = found.table == route::TABLE_MAIN || found.table == route::TABLE_LOCAL;
        all.push(Occupied {
            net: found.destination,
            by: format!("route {} dev {} table {}", found.destination, through.join(","), found.table),
            loses_to_longer: main,
            inside: false,
        });
    }
    for interface in interfaces.iter().filter(|i| !i.ours) {
        for address in &interface.addresses {
            let by = format!("address of interface {}", interface.name);
            all.push(Occupied { net: IpNet::from(*address), by, loses_to_longer: false, inside: false });
        }
        let Some(peer) = &interface.peer else { continue };
        let place = peer.namespace.clone().unwrap_or_else(|| "a namespace".into());
        for address in &peer.addresses {
            let by = format!("address of {} in {place} (behind {})", peer.name, interface.name);
            all.push(Occupied { net: IpNet::from(*address), by, loses_to_longer: false, inside: false });
        }
        for net in &peer.routes {
            let by = format!("route {net} in {place} (behind {})", interface.name);
            all.push(Occupied { net: *net, by, loses_to_longer: true, inside: true });
        }
    }
    for (name, net) in cidrs {
        all.push(Occupied { net: *net, by: name.clone(), loses_to_longer: false, inside: false });
    }
    match nft::list(&["ruleset"]) {
        Ok(items) => all.extend(items.unwrap_or_default().iter().flat_map(mentioned)),
        Err(Error::NftMissing) => {}
        Err(error) => return Err(error),
    }
    Ok(all)
}

/// The networks in a rule of other software.
fn mentioned(item: &Value) -> Vec<Occupied> {
    let Some(rule) = item.get("rule") else { return Vec::new() };
    let field = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
    if field("table").starts_with("brattice") {
        return Vec::new();
    }
    let mut nets = Vec::new();
    if let Some(expression) = rule.get("expr") {
        collect(expression, &mut nets);
    }
    nets.sort();
    nets.dedup();
    nets.into_iter()
        .filter(|net| net.prefix_len() != 0)
        .map(|net| Occupied {
            net,
            by: format!(
                "nftables rule in {} {} {} (handle {}) speaks of {net}",
                field("family"),
                field("table"),
                field("chain"),
                rule.get("handle").and_then(Value::as_u64).unwrap_or(0)
            ),
            loses_to_longer: false,
            inside: false,
        })
        .collect()
}

fn collect(value: &Value, nets: &mut Vec<IpNet>) {
    match value {
        Value::Object(fields) => {
            if let Some(prefix) = fields.get("prefix") {
                let address = prefix.get("addr").and_then(Value::as_str).and_then(|a| a.parse().ok());
                let length = prefix.get("len").and_then(Value::as_u64).and_then(|l| u8::try_from(l).ok());
                if let (Some(address), Some(length)) = (address, length) {
                    nets.extend(IpNet::new(address, length));
                }
                return;
            }
            for inner in fields.values() {
                collect(inner, nets);
            }
        }
        Value::Array(items) => {
            for inner in items {
                collect(inner, nets);
            }
        }
        Value::String(text) => {
            if let Ok(address) = text.parse() {
                nets.push(IpNet::new_assert(address, if address.is_ipv4() { 32 } else { 128 }));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_routes_lose_and_the_rest_is_serious() {
        let net = |text: &str| text.parse::<IpNet>().expect("a net");
        let occupied =
            |text: &str, loses| Occupied { net: net(text), by: text.into(), loses_to_longer: loses, inside: false };
        let range = "100.127.0.0/16".parse().expect("a net");
        let serious = |o: Occupied| against("alias", range, &[o]).first().map(|o| o.serious);
        assert_eq!(serious(occupied("100.64.0.0/10", true)), Some(false));
        assert_eq!(serious(occupied("100.64.0.0/10", false)), Some(true));
        assert_eq!(serious(occupied("100.127.0.0/16", true)), Some(true));
        assert_eq!(serious(occupied("100.127.3.0/24", true)), Some(true));
        assert_eq!(serious(occupied("10.0.0.0/8", false)), None);
    }

    #[test]
    fn nets_in_rules_are_found_at_any_depth() {
        let rule = serde_json::json!({"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 7, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                       "right": {"set": [{"prefix": {"addr": "100.64.0.0", "len": 10}}, "169.254.64.9"]}}},
            {"drop": null}]}});
        let nets: Vec<_> = mentioned(&rule).into_iter().map(|o| o.net.to_string()).collect();
        assert_eq!(nets, ["100.64.0.0/10", "169.254.64.9/32"]);
    }
}
