//! Reads header sections of HTTP/2 (RFC 7541) for what the HTTP/2 library does not tell: a fragment in `:path`, which it
//! cuts off, and pseudo-header fields in trailers, which it drops. Nothing is kept but what later sections may refer to.

mod huffman;
#[cfg(test)]
pub(super) mod model;
#[cfg(test)]
mod property;

use std::collections::VecDeque;

/// What a dynamic table may hold: the default of SETTINGS_HEADER_TABLE_SIZE, which is not changed here.
const TABLE: usize = 4096;
/// What an entry counts beside its name and value (RFC 7541, 4.1).
const OVERHEAD: usize = 32;
/// Pseudo-header fields of the static table come first (RFC 7541, appendix A).
const LAST_PSEUDO: usize = 14;
/// The names of the static table's entries.
const PSEUDO: [&str; LAST_PSEUDO] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
];
const FIELDS: [&str; 47] = [
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];
const STATIC: usize = LAST_PSEUDO + FIELDS.len();

/// What is known of a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    length: usize,
    pseudo: bool,
    path: bool,
}

/// What is known of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    name: Name,
    value: usize,
    /// The value has `#`.
    hash: bool,
}

impl Field {
    /// Whether it is a pseudo-header field.
    pub(super) fn is_pseudo(self) -> bool {
        self.name.pseudo
    }

    /// Whether it is a `:path` with a fragment.
    pub(super) fn has_fragment(self) -> bool {
        self.name.path && self.hash
    }

    fn size(self) -> usize {
        self.name.length + self.value + OVERHEAD
    }
}

/// The dynamic table of one connection, and direction.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The latest first.
    entries: VecDeque<Field>,
    size: usize,
    most: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: TABLE }
    }
}

impl Decoder {
    /// Calls `each` with the fields of a whole header section. `None`: it is none.
    pub(super) fn read(&mut self, mut block: &[u8], mut each: impl FnMut(Field)) -> Option<()> {
        while let Some(first) = block.first() {
            match first {
                0x80.. => each(self.entry(number(&mut block, 7)?)?),
                0x40.. => {
                    let field = self.literal(&mut block, 6)?;
                    self.insert(field);
                    each(field);
                }
                0x20.. => {
                    self.most = number(&mut block, 5).filter(|most| *most <= TABLE)?;
                    self.evict(0);
                }
                _ => each(self.literal(&mut block, 4)?),
            }
        }
        Some(())
    }

    /// An entry of either table.
    fn entry(&self, index: usize) -> Option<Field> {
        match index {
            0 => None,
            // None of their values has `#`; lengths do not matter where nothing is inserted.
            1..=STATIC => Some(Field { name: fixed(index)?, value: 0, hash: false }),
            _ => self.entries.get(index - STATIC - 1).copied(),
        }
    }

    /// A field whose value, at least, is written out; `bits`: of the index of its name.
    fn literal(&self, block: &mut &[u8], bits: u32) -> Option<Field> {
        let name = match number(block, bits)? {
            0 => {
                let (mut length, mut same, mut pseudo) = (0, true, false);
                text(block, |byte| {
                    same &= b":path".get(length) == Some(&byte);
                    pseudo |= length == 0 && byte == b':';
                    length += 1;
                })?;
                Name { length, pseudo, path: same && length == b":path".len() }
            }
            index => self.entry(index)?.name,
        };
        let (mut value, mut hash) = (0, false);
        text(block, |byte| {
            hash |= byte == b'#';
            value += 1;
        })?;
        Some(Field { name, value, hash })
    }

    fn insert(&mut self, field: Field) {
        self.evict(field.size());
        if field.size() <= self.most {
            self.size += field.size();
            self.entries.push_front(field);
        }
    }

    /// Makes room for an entry (RFC 7541, 4.3 and 4.4).
    fn evict(&mut self, more: usize) {
        while self.size + more > self.most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

/// The name of an entry of the static table.
fn fixed(index: usize) -> Option<Name> {
    let name =
        if index <= LAST_PSEUDO { PSEUDO.get(index.checked_sub(1)?) } else { FIELDS.get(index - LAST_PSEUDO - 1) }?;
    Some(Name { length: name.len(), pseudo: index <= LAST_PSEUDO, path: *name == ":path" })
}

/// An integer whose first part is the lowest `bits` of a byte (RFC 7541, 5.1).
fn number(block: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let full = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & full;
    if value == full {
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            // Four bytes say more than any section has.
            if shift > 21 {
                return None;
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Some(value)
}

/// Calls `each` with the bytes of a string (RFC 7541, 5.2).
fn text(block: &mut &[u8], mut each: impl FnMut(u8)) -> Option<()> {
    let coded = *block.first()? & 0x80 != 0;
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    if coded {
        return huffman::decode(text, each);
    }
    text.iter().for_each(|byte| each(*byte));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each field: pseudo-header, with a fragment.
    fn read(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<(bool, bool)>> {
        let mut all = Vec::new();
        decoder.read(block, |field| all.push((field.is_pseudo(), field.has_fragment()))).map(|()| all)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// RFC 7541, C.3 and C.4: three requests, plain and by Huffman's code, and the size of the table behind each.
    #[test]
    fn the_standards_examples() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::default();
            for (block, (fields, size)) in blocks.iter().zip([(4, 57), (5, 110), (5, 164)]) {
                let all = read(&mut decoder, &hex(block)).unwrap();
                assert_eq!((all.len(), decoder.size), (fields, size), "{block}");
                assert!(all[..4].iter().all(|(pseudo, fragment)| *pseudo && !*fragment), "{all:?}");
                assert!(all[4..].iter().all(|(pseudo, _)| !*pseudo), "{all:?}");
            }
        }
    }

    #[test]
    fn fragments_and_pseudo_fields_are_found_however_they_are_written() {
        let mut decoder = Decoder::default();
        // `:path: /a#b` with an indexed name that enters the table, from there, never indexed, with a literal name.
        for (block, expected) in [
            (&b"\x44\x04/a#b"[..], (true, true)),
            (b"\xbe", (true, true)),
            (b"\x14\x04/a#b", (true, true)),
            (b"\x00\x05:path\x04/a#b", (true, true)),
            (b"\x40\x05:path\x02/a", (true, false)),
            (b"\xbe", (true, false)),
            (b"\xbf", (true, true)),
            (b"\x0f\x2b\x02#a", (false, false)),
            (b"\x00\x06:path2\x01#", (true, false)),
            (b"\x00\x04:pat\x01#", (true, false)),
            (b"\x00\x01a\x01#", (false, false)),
            (b"\x84", (true, false)),
        ] {
            assert_eq!(read(&mut decoder, block), Some(vec![expected]), "{block:?}");
        }
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut decoder = Decoder::default();
        let entry = |byte: u8| [&b"\x40\x01"[..], &[byte], b"\x7f\x80\x0f", &[b'v'; 2047]].concat();
        for byte in *b"abcdef" {
            read(&mut decoder, &entry(byte)).unwrap();
            assert!(decoder.size <= TABLE && decoder.entries.len() == 1, "{decoder:?}");
        }
        // One of more than all empties it; so does a size of nothing. More than was offered is refused.
        read(&mut decoder, b"\x40\x01a\x01b").unwrap();
        let much = [&b"\x40\x01a\x7f\xff\x3e"[..], &[b'v'; 8190]].concat();
        read(&mut decoder, &much).unwrap();
        assert_eq!((decoder.size, decoder.entries.len()), (0, 0));
        read(&mut decoder, b"\x40\x01a\x01b").unwrap();
        read(&mut decoder, b"\x20").unwrap();
        assert_eq!((decoder.size, read(&mut decoder, b"\xbe")), (0, None));
        assert_eq!(read(&mut decoder, b"\x3f\xe2\x1f"), None);
        assert_eq!(read(&mut decoder, b"\x3f\xe1\x1f"), Some(Vec::new()));
    }

    #[test]
    fn what_is_cut_is_none() {
        let whole = b"\x40\x05:path\x84\x60\x75\x99\x8e";
        for cut in 1..8 {
            assert_eq!(read(&mut Decoder::default(), &whole[..cut]), None, "{cut}");
        }
        for block in [&b"\x80"[..], b"\xbe", b"\x7f\xff\xff\xff\xff\xff\x01", b"\xff\xff\xff\xff\xff\xff", b"\x00"] {
            assert_eq!(read(&mut Decoder::default(), block), None, "{block:?}");
        }
    }
}
