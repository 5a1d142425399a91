//! Which connection is kept after a message (RFC 9112, 9.3).

use crate::{BodyLength, RequestHead, ResponseHead, Version, framing::ConnectionOptions};

/// Whether a connection is kept after a message of its peer, or of ours, that says this.
///
/// | version | `close` | `keep-alive` | body ends with the connection | kept |
/// |---|---|---|---|---|
/// | any | said | any | any | no |
/// | any | any | any | yes | no |
/// | HTTP/1.1 | – | any | – | yes |
/// | HTTP/1.0 | – | said | – | yes |
/// | HTTP/1.0 | – | – | – | no |
pub const fn kept(version: Version, options: ConnectionOptions, body: BodyLength) -> bool {
    let asked = match version {
        Version::Http11 => true,
        Version::Http10 => options.keep_alive,
    };
    asked && !options.close && !matches!(body, BodyLength::UntilClose)
}

impl RequestHead {
    /// Whether the client wants its connection kept.
    pub const fn keeps(&self) -> bool {
        kept(self.version, self.facts.connection, self.body)
    }
}

impl ResponseHead {
    /// Whether the target keeps its connection, once its response was read to the end. Not after a change of the protocol.
    pub const fn keeps(&self) -> bool {
        kept(self.version, self.facts.connection, self.body) && self.status >= 200
    }
}

/// What our own message says about the connection, in the field `connection`; `None`: nothing, the version's usual is meant.
pub const fn says(version: Version, kept: bool) -> Option<&'static str> {
    match (version, kept) {
        (Version::Http11, true) => None,
        (Version::Http10, true) => Some("keep-alive"),
        (_, false) => Some("close"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_kept_as_its_version_and_options_say() {
        use BodyLength::{Chunked, Length, None, UntilClose};
        use Version::{Http10, Http11};
        for version in [Http10, Http11] {
            for close in [false, true] {
                for keep_alive in [false, true] {
                    for body in [None, Length(0), Length(5), Chunked, UntilClose] {
                        let options = ConnectionOptions { close, keep_alive, ..ConnectionOptions::default() };
                        let expected = match (version, close, keep_alive, body) {
                            (_, true, _, _) | (_, _, _, UntilClose) => false,
                            (Http11, ..) => true,
                            (Http10, _, keep_alive, _) => keep_alive,
                        };
                        assert_eq!(kept(version, options, body), expected, "{version:?} {options:?} {body:?}");
                    }
                }
            }
        }
        assert_eq!([says(Http11, true), says(Http10, true)], [Option::None, Some("keep-alive")]);
        assert_eq!([says(Http11, false), says(Http10, false)], [Some("close"); 2]);
    }
}
