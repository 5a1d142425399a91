//! Where the fields of a section are in the buffer that holds it.

use std::ops::Range;

use crate::{
    known::{Known, KnownSet, Name, same},
    view::FieldsView,
};

/// Fields for which room is kept when an index is used again.
const KEPT: usize = 128;

/// A part of a buffer, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    length: u32,
}

/// Offsets are below 2^32: limits are, and nothing is indexed beyond them.
fn offset(at: usize) -> u32 {
    // saturates: such an offset is behind every buffer, so it shows nothing.
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Span {
    pub(crate) fn new(range: Range<usize>) -> Self {
        Self { start: offset(range.start), length: offset(range.end.saturating_sub(range.start)) }
    }

    /// The offsets.
    pub fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.length as usize
    }

    /// The bytes, of the buffer that was read; of a shorter one, nothing.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }

    /// Whether it has no byte.
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Span,
    /// Without blanks around it.
    pub(crate) value: Span,
    pub(crate) known: Option<Known>,
    /// The line is `name: value` CR LF and nothing else, so that it can be copied.
    pub(crate) canonical: bool,
}

impl Field {
    /// The whole line, if it is canonical.
    pub(crate) fn line(&self) -> Option<Range<usize>> {
        self.canonical.then(|| self.name.range().start..self.value.range().end + 2)
    }
}

/// Fields by their offsets. Used again for the next message, it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Index {
    fields: Vec<Field>,
    present: KnownSet,
}

impl Index {
    /// Forgets everything but the room; a lot of room is given back.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.fields.shrink_to(KEPT);
        self.present = KnownSet::default();
    }

    pub(crate) fn push(&mut self, field: Field) {
        if let Some(known) = field.known {
            self.present.insert(known);
        }
        self.fields.push(field);
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether a known field is there.
    pub fn has(&self, name: Known) -> bool {
        self.present.contains(name)
    }

    /// Bytes that it keeps allocated.
    pub fn allocated(&self) -> usize {
        self.fields.capacity() * size_of::<Field>()
    }

    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// With the buffer that it is of.
    pub fn on<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        Fields { index: self, bytes }
    }
}

/// The fields of a section as they came.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    index: &'a Index,
    bytes: &'a [u8],
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRef<'a> {
    /// Its number in the section, from 0.
    pub place: usize,
    /// As written.
    pub name: &'a [u8],
    /// Its number, if the name is known.
    pub known: Option<Known>,
    /// Without blanks around it.
    pub value: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The index.
    pub fn index(self) -> &'a Index {
        self.index
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// All of them, in their order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = FieldRef<'a>> + Clone {
        self.index.fields.iter().enumerate().map(move |(place, field)| FieldRef {
            place,
            name: field.name.of(self.bytes),
            known: field.known,
            value: field.value.of(self.bytes),
        })
    }

    /// Those of one name. For a known name that is not there this is one look at a bit.
    pub fn all(self, name: impl Into<Name<'a>>) -> impl Iterator<Item = FieldRef<'a>> + Clone {
        let name = name.into();
        let some = match name {
            Name::Known(known) => self.index.has(known),
            Name::Other(_) => true,
        };
        self.iter().take(if some { self.index.len() } else { 0 }).filter(move |field| match name {
            Name::Known(known) => field.known == Some(known),
            Name::Other(name) => field.known.is_none() && same(field.name, name),
        })
    }

    /// The first value of a name.
    pub fn first(self, name: impl Into<Name<'a>>) -> Option<&'a [u8]> {
        self.all(name).next().map(|field| field.value)
    }
}

impl FieldsView for Fields<'_> {
    fn each(&self, name: Name<'_>, found: &mut dyn FnMut(&[u8])) {
        // Two lifetimes: the name may live shorter than the buffer.
        let fields = Fields { index: self.index, bytes: self.bytes };
        fields.all(name).for_each(|field| found(field.value));
    }

    fn fields(&self, found: &mut dyn FnMut(&[u8], &[u8])) {
        self.iter().for_each(|field| found(field.name, field.value));
    }
}
