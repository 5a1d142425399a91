//! Addresses: as the programs compute with them, and as map keys.

use brattice_abi::Address;

/// An address of one family: IPv4 as a number in host order (`u32`), IPv6 as its own key ([`Address`]).
pub(crate) trait Ip: Copy {
    /// As a key.
    fn key(self) -> Address;

    /// From a key of the same family.
    fn of(key: &Address) -> Self;

    /// Are they the same?
    fn is(self, other: Self) -> bool;
}

impl Ip for u32 {
    /// In two words: byte by byte, as the compiler builds the array, costs a call of `memset` per packet.
    #[inline(always)]
    fn key(self) -> Address {
        let words = [0, 0xffff_0000 | (self.to_be() as u64) << 32];
        // SAFETY: both are 16 plain bytes.
        unsafe { core::mem::transmute::<[u64; 2], Address>(words) }
    }

    #[inline(always)]
    fn of(key: &Address) -> Self {
        u32::from_be(key.words()[3])
    }

    #[inline(always)]
    fn is(self, other: Self) -> bool {
        self == other
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "the words of an IPv4 key are those of a little-endian machine");

impl Ip for Address {
    #[inline(always)]
    fn key(self) -> Address {
        self
    }

    #[inline(always)]
    fn of(key: &Address) -> Self {
        *key
    }

    #[inline(always)]
    fn is(self, other: Self) -> bool {
        let (a, b) = (self.words(), other.words());
        (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
    }
}

/// `::`.
pub(crate) const UNSPECIFIED: Address = Address([0; 16]);

/// IPv4-mapped?
#[inline(always)]
pub(crate) fn is_ipv4(address: &Address) -> bool {
    let words = address.words();
    words[0] | words[1] | (words[2] ^ IPV4_MAPPED) == 0
}

/// The third word of an IPv4-mapped address.
pub(crate) const IPV4_MAPPED: u32 = 0xffff_0000;
