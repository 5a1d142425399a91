//! Values by name: header fields, query parameters, tags.

/// Values by name; names match without regard to (ASCII) case.
pub trait Lookup {
    /// Calls `found` with each value of the name, in order.
    fn each(&self, name: &str, found: &mut dyn FnMut(&str));
}

/// Names with values in a slice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pairs<'a>(pub &'a [(&'a str, &'a str)]);

impl Lookup for Pairs<'_> {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).for_each(|(_, value)| found(value));
    }
}

impl Lookup for std::collections::BTreeMap<String, String> {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        self.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).for_each(|(_, value)| found(value));
    }
}

/// Nothing.
pub const NOTHING: &Pairs<'static> = &Pairs(&[]);

/// The query of a request as it was sent, without the `?`: `a=1&b=2`. Names and values are percent-decoded, and `+` is a
/// space. A parameter without `=` has an empty value. Bytes that are no UTF-8 become U+FFFD.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a>(pub &'a str);

/// Longest name or value that is decoded without allocating, bytes.
const DECODED: usize = 1024;

impl Lookup for Query<'_> {
    fn each(&self, name: &str, found: &mut dyn FnMut(&str)) {
        for parameter in self.0.split('&').filter(|parameter| !parameter.is_empty()) {
            let (own, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let mut same = false;
            decoded(own, &mut |own| same = own.eq_ignore_ascii_case(name));
            if same {
                decoded(value, found);
            }
        }
    }
}

fn decoded(text: &str, found: &mut dyn FnMut(&str)) {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return found(text);
    }
    if text.len() <= DECODED {
        let mut room = [0; DECODED];
        let length = decode(text.as_bytes(), &mut room);
        match std::str::from_utf8(&room[..length]) {
            Ok(text) => found(text),
            Err(_) => found(&String::from_utf8_lossy(&room[..length])),
        }
    } else {
        let mut room = vec![0; text.len()];
        let length = decode(text.as_bytes(), &mut room);
        found(&String::from_utf8_lossy(&room[..length]));
    }
}

/// Decodes into room of at least the same size; how much it took. A `%` without two digits stays as it is.
fn decode(text: &[u8], room: &mut [u8]) -> usize {
    let digit =
        |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let (mut at, mut length) = (0, 0);
    while let Some(byte) = text.get(at) {
        room[length] = match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                at += 2;
                high * 16 + low
            }
            (b'+', ..) => b' ',
            (byte, ..) => *byte,
        };
        at += 1;
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(query: &str, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        Query(query).each(name, &mut |value| values.push(value.to_owned()));
        values
    }

    #[test]
    fn queries_are_decoded() {
        assert_eq!(values("a=1&b=2&A=3", "a"), ["1", "3"]);
        assert_eq!(values("a", "a"), [""]);
        assert_eq!(values("a=", "a"), [""]);
        assert_eq!(values("&&a=b=c&", "a"), ["b=c"]);
        assert_eq!(values("%61=%2Fx%2fy+z", "a"), ["/x/y z"]);
        assert_eq!(values("a=%zz%4&a=%", "a"), ["%zz%4", "%"]);
        assert_eq!(values("a=%ff", "a"), ["\u{fffd}"]);
        assert_eq!(values("a=%C3%A9", "a"), ["é"]);
        assert!(values("", "a").is_empty() && values("ab=1", "a").is_empty() && values("=1", "a").is_empty());
        for length in [DECODED - 1, DECODED, DECODED + 1] {
            let text = "x".repeat(length - 3);
            assert_eq!(values(&format!("a=%41{text}"), "a"), [format!("A{text}")]);
            assert_eq!(values(&format!("a=%ff{text}"), "a"), [format!("\u{fffd}{text}")]);
        }
    }

    #[test]
    fn pairs_and_maps_are_looked_up_in_any_case() {
        let mut values = Vec::new();
        let pairs = [("X-A", "1"), ("x-b", "2"), ("x-a", "3")];
        Pairs(&pairs).each("x-A", &mut |value| values.push(value.to_owned()));
        let map = std::collections::BTreeMap::from([("Team".to_owned(), "a".to_owned())]);
        map.each("team", &mut |value| values.push(value.to_owned()));
        map.each("other", &mut |value| values.push(value.to_owned()));
        assert_eq!(values, ["1", "3", "a"]);
    }
}
