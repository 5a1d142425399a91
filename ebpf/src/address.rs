//! Addresses as map keys.

use brattice_abi::Address;

/// An IPv4 address (host order) as [`Address::v4_number`] gives it, in two words: byte by byte, as the compiler builds the
/// array, costs a call of `memset` per packet.
#[inline(always)]
pub(crate) fn v4(address: u32) -> Address {
    let words = [0, 0xffff_0000 | (address.to_be() as u64) << 32];
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute::<[u64; 2], Address>(words) }
}

/// The IPv4 address (host order) in an IPv4-mapped one.
#[inline(always)]
pub(crate) fn number(address: &Address) -> u32 {
    u32::from_be_bytes(address.v4_octets())
}

/// IPv4-mapped?
#[inline(always)]
pub(crate) fn is_v4(address: &Address) -> bool {
    let words = words(address);
    words[0] | words[1] | (words[2] ^ 0xffff_0000) == 0
}

/// The four words of an address, as they lie in memory.
#[inline(always)]
pub(crate) fn words(address: &Address) -> [u32; 4] {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute::<Address, [u32; 4]>(*address) }
}

/// The reverse of [`words`].
#[inline(always)]
pub(crate) fn from_words(words: [u32; 4]) -> Address {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute::<[u32; 4], Address>(words) }
}

const _: () = assert!(cfg!(target_endian = "little"), "the words of `v4` are those of a little-endian machine");
