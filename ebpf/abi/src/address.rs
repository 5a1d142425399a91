//! Addresses as map keys.

/// A 16-byte address; IPv4 as `::ffff:a.b.c.d`. Aligned to words, so that programs copy and compare it by words.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Address(pub [u8; 16]);

crate::pod!(Address);

impl Address {
    /// From the four octets of an IPv4 address, in network order.
    #[inline(always)]
    pub const fn v4(o: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, o[0], o[1], o[2], o[3]])
    }

    /// From an IPv4 address as a number in host order.
    #[inline(always)]
    pub const fn v4_number(n: u32) -> Self {
        Self::v4(n.to_be_bytes())
    }

    /// In words, each as on the wire.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        // SAFETY: both are 16 plain bytes.
        #[allow(unsafe_code)]
        unsafe {
            core::mem::transmute::<Self, [u32; 4]>(self)
        }
    }

    /// From words, each as on the wire.
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        // SAFETY: as in `words`.
        #[allow(unsafe_code)]
        unsafe {
            core::mem::transmute::<[u32; 4], Self>(words)
        }
    }

    /// The four octets of an IPv4-mapped address; meaningless for any other.
    #[inline(always)]
    pub const fn v4_octets(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }
}

#[cfg(feature = "user")]
mod user {
    extern crate std;
    use core::fmt;
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::Address;

    impl From<IpAddr> for Address {
        fn from(ip: IpAddr) -> Self {
            match ip {
                IpAddr::V4(v4) => v4.into(),
                IpAddr::V6(v6) => v6.into(),
            }
        }
    }

    impl From<Ipv4Addr> for Address {
        fn from(v4: Ipv4Addr) -> Self {
            Self::v4(v4.octets())
        }
    }

    impl From<Ipv6Addr> for Address {
        fn from(v6: Ipv6Addr) -> Self {
            Self(v6.octets())
        }
    }

    impl From<Address> for IpAddr {
        fn from(a: Address) -> Self {
            Ipv6Addr::from(a.0).to_canonical()
        }
    }

    impl fmt::Debug for Address {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", IpAddr::from(*self))
        }
    }
}
