//! Values that are lists (RFC 9110, 5.6.1).

use crate::octets::trim;

/// The members of a list, as written; empty ones are none.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::members;

    #[test]
    fn empty_members_are_none() {
        assert_eq!(members(b" a,\tb ,, c d,").collect::<Vec<_>>(), [&b"a"[..], b"b", b"c d"]);
        assert_eq!(members(b"").count() + members(b" ,\t,").count(), 0);
    }
}
