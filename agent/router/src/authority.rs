//! The host that a request names: `Host` of HTTP/1, `:authority` of HTTP/2 (RFC 3986, 3.2; RFC 9110, 4.2 and 7.2).

use std::net::Ipv6Addr;

/// The host of `host` or `host:port`. `None`: it is none, or has user information, which `http` may not have.
pub fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (literal, _) = rest.split_once(']')?;
            literal.parse::<Ipv6Addr>().ok()?;
            authority.split_at(literal.len() + 2)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            if host.is_empty() || !host.bytes().all(is_name) {
                return None;
            }
            (host, port)
        }
    };
    is_port(port).then_some(host)
}

/// Of a registered name: unreserved and sub-delims (RFC 3986, 3.2.2). No escapes: names here are those of DNS.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// What follows a host: nothing, or a colon and perhaps a number.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        None => text.is_empty(),
        Some("") => true,
        Some(digits) => digits.bytes().all(|digit| digit.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn hosts_lose_their_port() {
        for (authority, name) in [
            ("a.example", Some("a.example")),
            ("A.example.:80", Some("A.example.")),
            ("a.example:", Some("a.example")),
            ("10.0.0.1:65535", Some("10.0.0.1")),
            ("a_b", Some("a_b")),
            ("[fd00::1]", Some("[fd00::1]")),
            ("[fd00::1]:80", Some("[fd00::1]")),
            ("[::ffff:10.0.0.1]", Some("[::ffff:10.0.0.1]")),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("a:1:2", None),
            ("a:+1", None),
            ("a:65536", None),
            ("a:123456", None),
            ("[fd00::1", None),
            ("[fd00::1]80", None),
            ("[fd00::1%eth0]", None),
            ("[a]", None),
            ("[]", None),
            ("fd00::1", None),
            ("user@a.example", None),
            ("user:password@a.example", None),
            ("@a.example", None),
            ("a/admin", None),
            ("a?b", None),
            ("a#b", None),
            ("a b", None),
            ("a%41", None),
            ("a\\b", None),
            ("\u{e4}.example", None),
        ] {
            assert_eq!(host(authority), name, "{authority}");
        }
    }
}
