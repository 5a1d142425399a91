//! HPACK as RFC 7541 describes it, with whole fields and without optimisation: what the reader is compared with.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{FIELDS, LAST_PSEUDO, OVERHEAD, PSEUDO, STATIC, TABLE, huffman, number, text};

/// Name and value.
pub(in crate::http) type Field = (Vec<u8>, Vec<u8>);

/// Values of the static table's pseudo-header fields.
const VALUES: [&str; LAST_PSEUDO] =
    ["", "GET", "POST", "/", "/index.html", "http", "https", "200", "204", "206", "304", "400", "404", "500"];
/// The only other entry with a value.
const ACCEPT_ENCODING: (usize, &str) = (16, "gzip, deflate");

/// How a field is written, of what its encoder may choose.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct How {
    /// By its index, if it has one.
    indexed: bool,
    /// Its name by its index, if it has one.
    name_indexed: bool,
    /// 0: it enters the table; 1: it does not; 2: nor in any later message.
    kind: u8,
    coded: (bool, bool),
    /// Before the first field of a section: a new size of the table.
    resize: Option<usize>,
}

/// Any way to write a field.
pub(in crate::http) fn how() -> impl Strategy<Value = How> {
    let resize = prop_oneof![4 => Just(None), 1 => (0..=TABLE).prop_map(Some)];
    (any::<(bool, bool, (bool, bool))>(), 0..3_u8, resize)
        .prop_map(|((indexed, name_indexed, coded), kind, resize)| How { indexed, name_indexed, kind, coded, resize })
}

/// The tables of one direction, and what is known of them.
#[derive(Debug)]
pub(in crate::http) struct Model {
    /// The latest first.
    pub(super) entries: VecDeque<Field>,
    most: usize,
}

impl Default for Model {
    fn default() -> Self {
        Self { entries: VecDeque::new(), most: TABLE }
    }
}

impl Model {
    /// Bytes of the dynamic table (RFC 7541, 4.1).
    pub(super) fn size(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len() + OVERHEAD).sum()
    }

    fn entry(&self, index: usize) -> Option<Field> {
        let field = |name: &str, value: &str| Some((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        match index {
            0 => None,
            1..=LAST_PSEUDO => field(PSEUDO[index - 1], VALUES[index - 1]),
            index if index == ACCEPT_ENCODING.0 => field(FIELDS[index - LAST_PSEUDO - 1], ACCEPT_ENCODING.1),
            index if index <= STATIC => field(FIELDS[index - LAST_PSEUDO - 1], ""),
            _ => self.entries.get(index - STATIC - 1).cloned(),
        }
    }

    fn find(&self, is: impl Fn(&Field) -> bool) -> Option<usize> {
        (1..=STATIC + self.entries.len()).find(|index| self.entry(*index).is_some_and(|field| is(&field)))
    }

    fn resize(&mut self, most: usize) {
        self.most = most;
        while self.size() > most {
            self.entries.pop_back();
        }
    }

    fn insert(&mut self, field: Field) {
        self.entries.push_front(field);
        // One of more than all empties the table.
        self.resize(self.most);
    }

    /// Reads a section.
    pub(in crate::http) fn read(&mut self, mut block: &[u8]) -> Option<Vec<Field>> {
        let mut all = Vec::new();
        while let Some(first) = block.first() {
            let (bits, enters) = match first {
                0x80.. => {
                    all.push(self.entry(number(&mut block, 7)?)?);
                    continue;
                }
                0x40.. => (6, true),
                0x20.. => {
                    let most = number(&mut block, 5)?;
                    if most > TABLE {
                        return None;
                    }
                    self.resize(most);
                    continue;
                }
                _ => (4, false),
            };
            let read = |block: &mut &[u8]| {
                let mut all = Vec::new();
                text(block, |byte| all.push(byte)).map(|()| all)
            };
            let name = match number(&mut block, bits)? {
                0 => read(&mut block)?,
                index => self.entry(index)?.0,
            };
            let field = (name, read(&mut block)?);
            if enters {
                self.insert(field.clone());
            }
            all.push(field);
        }
        Some(all)
    }

    /// Writes a section.
    pub(in crate::http) fn write(&mut self, fields: &[(Field, How)]) -> Vec<u8> {
        let mut block = Vec::new();
        if let Some(most) = fields.first().and_then(|(_, how)| how.resize) {
            put_number(&mut block, 0x20, 5, most);
            self.resize(most);
        }
        for ((name, value), how) in fields {
            let known = self.find(|field| field == &(name.clone(), value.clone()));
            if let Some(index) = known.filter(|_| how.indexed) {
                put_number(&mut block, 0x80, 7, index);
                continue;
            }
            let (first, bits) = [(0x40, 6), (0, 4), (0x10, 4)][usize::from(how.kind)];
            match self.find(|field| field.0 == *name).filter(|_| how.name_indexed) {
                Some(index) => put_number(&mut block, first, bits, index),
                None => {
                    block.push(first);
                    put_text(&mut block, name, how.coded.0);
                }
            }
            put_text(&mut block, value, how.coded.1);
            if how.kind == 0 {
                self.insert((name.clone(), value.clone()));
            }
        }
        block
    }
}

fn put_number(block: &mut Vec<u8>, first: u8, bits: u32, number: usize) {
    let full = (1_usize << bits) - 1;
    if number < full {
        block.push(first | u8::try_from(number).unwrap());
        return;
    }
    block.push(first | u8::try_from(full).unwrap());
    let mut rest = number - full;
    while rest >= 0x80 {
        block.push(u8::try_from(rest % 0x80).unwrap() | 0x80);
        rest /= 0x80;
    }
    block.push(u8::try_from(rest).unwrap());
}

fn put_text(block: &mut Vec<u8>, text: &[u8], coded: bool) {
    let (first, bytes) = if coded { (0x80, huffman::encode(text)) } else { (0, text.to_vec()) };
    put_number(block, first, 7, bytes.len());
    block.extend(bytes);
}

/// Bytes of a field's value (RFC 9110, 5.5).
fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => b'!'..=b'~', 1 => 0x80..=0xff_u8, 1 => Just(b'#')];
    let length = prop_oneof![8 => 0..40_usize, 2 => 40..400_usize, 1 => 4_000..6_000_usize];
    length.prop_flat_map(move |length| prop::collection::vec(byte.clone(), length))
}

/// Names that are alike, and of all places of the tables.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let known =
        prop::sample::select(vec!["accept", "accept-encoding", "www-authenticate", "path", "pat", "x-a", "cookie"]);
    prop_oneof![3 => known.prop_map(Into::into), 1 => "[a-z][a-z0-9-]{0,30}".prop_map(Into::into)]
        .prop_map(|name: String| name.into_bytes())
        .prop_filter("it has a meaning of its own", |name| {
            ![&b"connection"[..], b"te", b"upgrade", b"host", b"content-length", b"transfer-encoding"]
                .contains(&&name[..])
        })
}

/// The header section of a request, each field in any way.
pub(in crate::http) fn request() -> impl Strategy<Value = Vec<(Field, How)>> {
    let path = ("/[a-z]{0,10}", prop_oneof![3 => Just(""), 1 => Just("#b")]);
    let fields = prop::collection::vec((name(), value()), 0..12);
    (path, fields, prop::collection::vec(how(), 16)).prop_map(|((path, fragment), fields, hows)| {
        let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "h"), (":path", &*(path + fragment))]
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        pseudo.into_iter().chain(fields).zip(hows).collect()
    })
}

/// Some requests of one connection.
pub(in crate::http) fn requests() -> impl Strategy<Value = Vec<Vec<(Field, How)>>> {
    prop::collection::vec(request(), 1..8)
}
