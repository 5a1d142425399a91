//! Names of fields that are known: a number each, found by a perfect hash.

/// Written once: variants and names in the same order.
macro_rules! known {
    ($($variant:ident $name:literal,)*) => {
        /// A field name that is known. What is not known is found by its bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Known {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
        }

        impl Known {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// In lower case.
            pub const fn name(self) -> &'static str {
                const NAMES: [&str; Known::ALL.len()] = [$($name),*];
                NAMES[self as usize]
            }
        }
    };
}

known! {
    Accept "accept",
    AcceptEncoding "accept-encoding",
    AcceptLanguage "accept-language",
    Age "age",
    Authorization "authorization",
    CacheControl "cache-control",
    Connection "connection",
    ContentEncoding "content-encoding",
    ContentLength "content-length",
    ContentRange "content-range",
    ContentType "content-type",
    Cookie "cookie",
    Date "date",
    Etag "etag",
    Expect "expect",
    Expires "expires",
    Forwarded "forwarded",
    GrpcMessage "grpc-message",
    GrpcStatus "grpc-status",
    GrpcTimeout "grpc-timeout",
    Host "host",
    Http2Settings "http2-settings",
    IfMatch "if-match",
    IfModifiedSince "if-modified-since",
    IfNoneMatch "if-none-match",
    IfUnmodifiedSince "if-unmodified-since",
    KeepAlive "keep-alive",
    LastModified "last-modified",
    Link "link",
    Location "location",
    Origin "origin",
    ProxyAuthenticate "proxy-authenticate",
    ProxyAuthorization "proxy-authorization",
    ProxyConnection "proxy-connection",
    Range "range",
    Referer "referer",
    RetryAfter "retry-after",
    SecWebsocketAccept "sec-websocket-accept",
    SecWebsocketKey "sec-websocket-key",
    Server "server",
    SetCookie "set-cookie",
    Te "te",
    Trailer "trailer",
    TransferEncoding "transfer-encoding",
    Upgrade "upgrade",
    UserAgent "user-agent",
    Vary "vary",
    Via "via",
    WwwAuthenticate "www-authenticate",
    XAmznLatticeIdentity "x-amzn-lattice-identity",
    XAmznLatticeIdentityTags "x-amzn-lattice-identity-tags",
    XAmznLatticeNetwork "x-amzn-lattice-network",
    XAmznLatticeTarget "x-amzn-lattice-target",
    XAmznRequestid "x-amzn-requestid",
    XAmznSourceVpc "x-amzn-source-vpc",
    XForwardedFor "x-forwarded-for",
    XForwardedHost "x-forwarded-host",
    XForwardedPort "x-forwarded-port",
    XForwardedProto "x-forwarded-proto",
    XRequestId "x-request-id",
    Traceparent "traceparent",
    Tracestate "tracestate",
}

/// Places in the table of the hash.
const PLACES: usize = 256;
/// Found by trying; [`TABLE`] does not compile where two names meet.
const FACTOR: u32 = 0xab6e_8213;

/// From the length, the first and the last two bytes of a name of at least two bytes, in lower case.
const fn place(name: &[u8]) -> usize {
    let length = name.len();
    let bytes = [length as u8, name[0] | 0x20, name[length - 1] | 0x20, name[length - 2] | 0x20];
    (u32::from_le_bytes(bytes).wrapping_mul(FACTOR) >> 24) as usize
}

/// The name of each place: one more than its number, 0: none.
const TABLE: [u8; PLACES] = {
    let mut table = [0; PLACES];
    let mut number = 0;
    while number < Known::ALL.len() {
        let place = place(Known::ALL[number].name().as_bytes());
        assert!(table[place] == 0, "two names have the same place: choose another factor");
        table[place] = number as u8 + 1;
        number += 1;
    }
    table
};

const SHORTEST: usize = 2;
const LONGEST: usize = {
    let (mut longest, mut number) = (0, 0);
    while number < Known::ALL.len() {
        let length = Known::ALL[number].name().len();
        if length > longest {
            longest = length;
        }
        number += 1;
    }
    longest
};

impl Known {
    /// The known name that is written so, in any case.
    pub fn of(name: &[u8]) -> Option<Self> {
        if name.len() < SHORTEST || name.len() > LONGEST {
            return None;
        }
        let number = TABLE[place(name)].checked_sub(1)?;
        let known = Self::ALL[usize::from(number)];
        is(name, known.name().as_bytes()).then_some(known)
    }
}

/// Whether two names are the same but for the case of letters.
pub(crate) fn same(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len() && name.eq_ignore_ascii_case(other)
}

/// As [`same`], for a known name, eight bytes at a time: it is of small letters, digits and `-`.
fn is(name: &[u8], lower: &[u8]) -> bool {
    if name.len() != lower.len() {
        return false;
    }
    let (Some(last), Some(last_lower)) = (name.last_chunk(), lower.last_chunk()) else {
        return name.eq_ignore_ascii_case(lower);
    };
    let (mut names, mut lowers) = (name.chunks_exact(8), lower.chunks_exact(8));
    let words = names.by_ref().zip(lowers.by_ref());
    let mut differ = differences(*last, *last_lower);
    for (name, lower) in words {
        if let (Some(name), Some(lower)) = (name.first_chunk(), lower.first_chunk()) {
            differ |= differences(*name, *lower);
        }
    }
    differ == 0
}

/// The bits in which eight bytes differ from others in lower case, but for the case of letters.
fn differences(bytes: [u8; 8], lower: [u8; 8]) -> u64 {
    let (bytes, lower) = (u64::from_le_bytes(bytes), u64::from_le_bytes(lower));
    // 0x40 is set in letters, and in nothing else that a known name has.
    let letters = (lower & u64::from_le_bytes([0x40; 8])) >> 1;
    (bytes ^ lower) & !letters
}

/// A set of known names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet(u64);

impl KnownSet {
    /// Of these.
    pub const fn of(names: &[Known]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < names.len() {
            set |= 1 << names[at] as u8;
            at += 1;
        }
        Self(set)
    }

    /// Adds one.
    pub fn insert(&mut self, name: Known) {
        self.0 |= 1 << name as u8;
    }

    /// Whether it is one of them.
    pub const fn contains(self, name: Known) -> bool {
        self.0 & 1 << name as u8 != 0
    }
}

const _: () = assert!(Known::ALL.len() <= u64::BITS as usize, "a set has a bit for each name");

/// The name of a field that is looked for or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// One that is known.
    Known(Known),
    /// Any other, in any case.
    Other(&'a [u8]),
}

impl<'a> Name<'a> {
    /// As it is written.
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Known(known) => known.name().as_bytes(),
            Self::Other(name) => name,
        }
    }
}

impl From<Known> for Name<'_> {
    fn from(known: Known) -> Self {
        Self::Known(known)
    }
}

impl<'a> From<&'a [u8]> for Name<'a> {
    fn from(name: &'a [u8]) -> Self {
        Known::of(name).map_or(Self::Other(name), Self::Known)
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(name: &'a str) -> Self {
        name.as_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for (number, known) in Known::ALL.into_iter().enumerate() {
            assert_eq!(known as usize, number);
            let name = known.name();
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(name.bytes().all(plain), "{name}");
            assert!((SHORTEST..=LONGEST).contains(&name.len()), "{name}");
            assert_eq!(Known::of(name.as_bytes()), Some(known), "{name}");
            assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), Some(known), "{name}");
        }
    }

    #[test]
    fn a_name_with_another_byte_is_not_known() {
        for known in Known::ALL {
            for place in 0..known.name().len() {
                for byte in 0..=255_u8 {
                    let mut name = known.name().as_bytes().to_vec();
                    let was = std::mem::replace(&mut name[place], byte);
                    if byte.to_ascii_lowercase() != was && Known::of(&name).is_some() {
                        let found = Known::of(&name).unwrap();
                        assert_eq!(found.name().as_bytes(), name.to_ascii_lowercase(), "{name:?}");
                    }
                }
            }
        }
        for name in ["", "h", "hos", "hostt", "x-", "\u{c}ost"] {
            assert_eq!(Known::of(name.as_bytes()), None, "{name}");
        }
    }
}
