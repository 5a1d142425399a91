//! What the data path put on this host, for operators.

use super::{Inner, routing};
use crate::ipv6::{Ipv6, ipv6};
use crate::{cgroups, device, nft, pins, routes, rules};

impl Inner {
    pub(super) fn footprint(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match routing().and_then(|mut socket| {
            Ok((device::find(&mut socket)?, routes::list(&mut socket)?, rules::present(&mut socket)?))
        }) {
            Ok((device, routes, rules)) => {
                lines.extend(device.map(|d| {
                    let state = if d.up() { "up" } else { "DOWN" };
                    format!("device {} (veth pair with {}), index {}, {state}", device::DEVICE, device::PEER, d.ifindex)
                }));
                lines.extend(self.state().aliases.iter().flatten().map(|alias| {
                    let prefix = if alias.is_ipv4() { 32 } else { 128 };
                    format!("address {alias}/{prefix} dev {} (a process of the host)", device::DEVICE)
                }));
                lines.extend(routes.iter().map(routes::describe));
                lines.extend(rules.into_iter().map(rules::describe));
                if self.options.ipv6.is_some() && ipv6() != Ipv6::On {
                    lines.push(format!("no IPv6 routes: IPv6 is {}", ipv6().text()));
                }
            }
            Err(error) => lines.push(format!("devices and routes cannot be asked for: {error}")),
        }
        for table in nft::TABLES {
            lines.push(match nft::present(table, &self.options) {
                Ok(true) => format!("nftables table {table}"),
                Ok(false) => format!("nftables table {table} IS MISSING"),
                Err(error) => format!("nftables cannot be asked for the table {table}: {error}"),
            });
        }
        lines.push(cgroups::describe());
        for folder in pins::FOLDERS {
            let path = self.pins.schema().join(folder);
            if !path.exists() {
                continue;
            }
            let count = pins::names(&path).map_or(0, |n| n.len());
            lines.push(format!("pins {} ({count})", path.display()));
        }
        lines
    }
}
