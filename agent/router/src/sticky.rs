//! Stickiness: the same target group for the same caller.

use std::net::IpAddr;

/// Bytes of a caller's key.
const KEY: usize = 64;

/// A caller, as a key of [`sticky`]: its address (IPv4 mapped to IPv6), then the id of its VPC (cut, if it should be longer
/// than there is room for).
#[derive(Debug)]
pub struct SourceKey {
    room: [u8; KEY],
    length: usize,
}

impl SourceKey {
    /// The caller with this address in the VPC with this id.
    pub fn new(vpc: &str, address: IpAddr) -> Self {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        }
        .octets();
        let vpc = &vpc.as_bytes()[..vpc.len().min(KEY - address.len())];
        let mut room = [0; KEY];
        room[..address.len()].copy_from_slice(&address);
        room[address.len()..address.len() + vpc.len()].copy_from_slice(vpc);
        Self { room, length: address.len() + vpc.len() }
    }

    /// The key.
    pub fn bytes(&self) -> &[u8] {
        &self.room[..self.length]
    }
}

/// Which of several groups, each a stable id and a weight, a key goes to: weighted rendezvous hashing. Every key goes
/// somewhere by chance in proportion to the weights, and always to the same group; when a weight rises, keys only move
/// towards its group, when it falls, only away from it, and the order of the groups does not matter. `None` when every
/// weight is 0.
pub fn sticky<I: AsRef<[u8]>>(groups: &[(I, u16)], key: &[u8]) -> Option<usize> {
    let mut nearest = None;
    for (index, (id, weight)) in groups.iter().enumerate() {
        if *weight == 0 {
            continue;
        }
        // How long a process waits that happens `weight` times per unit of time: of several, each is the first in
        // proportion to its weight.
        let wait = -unit(id.as_ref(), key).ln() / f64::from(*weight);
        if nearest.is_none_or(|(_, least)| wait < least) {
            nearest = Some((index, wait));
        }
    }
    nearest.map(|(index, _)| index)
}

/// A number in (0, 1), evenly spread over ids and keys.
fn unit(id: &[u8], key: &[u8]) -> f64 {
    // FNV-1a, its length bytes keeping (`ab`, `c`) from (`a`, `bc`), then the finalizer of SplitMix64 for its low quality
    // bits, without its last step, which improves the lower half only.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in (id.len() as u64).to_le_bytes().iter().chain(id).chain(key) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    between((hash >> 32) as u32)
}

/// The middle of one of the 2^32 steps between 0 and 1, so that neither comes out.
fn between(step: u32) -> f64 {
    (f64::from(step) + 0.5) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{KEY, SourceKey, between};

    #[test]
    fn callers_differ_by_vpc_and_address() {
        let key = |vpc: &str, address: &str| {
            SourceKey::new(vpc, address.parse::<IpAddr>().expect("an address")).bytes().to_vec()
        };
        assert_ne!(key("vpc-1", "10.0.0.10"), key("vpc-2", "10.0.0.10"));
        assert_ne!(key("vpc-1", "10.0.0.10"), key("vpc-1", "10.0.0.11"));
        assert_eq!(key("vpc-1", "10.0.0.10"), key("vpc-1", "::ffff:10.0.0.10"));
        assert_eq!(key(&"v".repeat(100), "10.0.0.10").len(), KEY);
    }

    #[test]
    fn steps_lie_between_0_and_1() {
        assert!(between(0) > 0.0 && between(0) < between(1));
        assert!(between(u32::MAX) < 1.0 && between(u32::MAX) > between(u32::MAX - 1));
        assert!((between(u32::MAX / 2) + between(u32::MAX / 2 + 1) - 1.0).abs() < f64::EPSILON);
    }
}
