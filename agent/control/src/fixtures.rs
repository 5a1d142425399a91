//! Test data that several modules share.

use brattice_loader::interfaces::{Interface, Peer};

/// A veth whose other end is in a namespace without a name, and has these addresses.
pub(crate) fn veth(ifindex: u32, name: &str, addresses: &[&str]) -> Interface {
    let [.., last] = ifindex.to_be_bytes();
    Interface {
        ifindex,
        name: name.into(),
        kind: "veth".into(),
        mac: [2, 1, 0, 0, 0, last],
        mtu: 1500,
        up: true,
        master: None,
        has_default_route: false,
        ours: false,
        addresses: Vec::new(),
        programs: Vec::new(),
        peer: Some(Peer {
            ifindex: 2,
            name: "eth0".into(),
            mac: [2, 2, 0, 0, 0, last],
            mtu: 1500,
            namespace: None,
            namespace_inode: Some(4_000_000_000 + u64::from(ifindex)),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            routes: Vec::new(),
        }),
    }
}
