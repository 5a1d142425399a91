//! Random numbers for request ids and first turns: fast, well spread, not for cryptography.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// `xoshiro256++` (Blackman and Vigna).
#[derive(Debug)]
pub(crate) struct Random([u64; 4]);

impl Random {
    /// Seeded by the system.
    pub(crate) fn from_system() -> Self {
        // Each `RandomState` has keys that come from getrandom(2).
        let seed: [u64; 4] = std::array::from_fn(|n| RandomState::new().hash_one(n));
        Self(if seed == [0; 4] { [1; 4] } else { seed })
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let t = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= t;
        *d = d.rotate_left(45);
        result
    }

    /// A UUID of version 4.
    pub(crate) fn uuid(&mut self) -> uuid::Uuid {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_version_4() {
        let mut random = Random::from_system();
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| random.uuid()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.get_version_num() == 4));
    }
}
