//! Changes of a section's fields: what is removed, and what is added. The section itself stays as it came, so that it can be asked,
//! changed and written any number of times.

use std::io::Write;

use crate::{
    BodyLength, FieldsView, Known, Name, RequestView,
    index::{FieldRef, Fields, Span},
    known::same,
    octets,
    request::Request,
};

/// Bytes, and entries, for which room is kept when edits are used again.
const KEPT_TEXT: usize = 4 * 1024;
const KEPT: usize = 64;

/// A name or a value that no field may have: it would be another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no header field can have this name or value")]
pub struct InvalidField;

/// Changes of one section. Used again for the next one, they allocate nothing.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// A bit for each place.
    removed: Vec<u64>,
    added: Vec<Added>,
    /// Names and values of what is added.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Added {
    known: Option<Known>,
    name: Span,
    value: Span,
    /// It was not removed later.
    stays: bool,
}

impl Added {
    fn name<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        self.known.map_or_else(|| self.name.of(text), |known| known.name().as_bytes())
    }

    fn is(&self, name: Name<'_>, text: &[u8]) -> bool {
        match name {
            Name::Known(known) => self.known == Some(known),
            Name::Other(name) => self.known.is_none() && same(self.name.of(text), name),
        }
    }
}

impl Edits {
    /// Forgets everything but the room; a lot of room is given back.
    pub fn clear(&mut self) {
        self.removed.clear();
        self.added.clear();
        self.added.shrink_to(KEPT);
        self.text.clear();
        self.text.shrink_to(KEPT_TEXT);
    }

    /// Bytes that it keeps allocated.
    pub fn allocated(&self) -> usize {
        self.removed.capacity() * 8 + self.added.capacity() * size_of::<Added>() + self.text.capacity()
    }

    /// Removes every field of a name, those that were added before included.
    pub fn remove<'a>(&mut self, fields: Fields<'a>, name: impl Into<Name<'a>>) {
        let name = name.into();
        for field in fields.all(name) {
            self.remove_place(field.place);
        }
        for added in &mut self.added {
            added.stays &= !added.is(name, &self.text);
        }
    }

    /// Removes the field at this place of the section.
    pub fn remove_place(&mut self, place: usize) {
        let word = place / 64;
        if word >= self.removed.len() {
            self.removed.resize(word + 1, 0);
        }
        self.removed[word] |= 1 << (place % 64);
    }

    /// Whether the field at this place is removed.
    pub fn removes(&self, place: usize) -> bool {
        self.removed.get(place / 64).is_some_and(|word| word & 1 << (place % 64) != 0)
    }

    /// Adds one field, behind those that stay.
    ///
    /// # Errors
    /// When no field can have this name or value; then nothing is changed.
    pub fn add<'a>(&mut self, name: impl Into<Name<'a>>, value: &[u8]) -> Result<(), InvalidField> {
        self.add_parts(name, &[value])
    }

    /// As [`Edits::add`], with a value that is made of parts.
    ///
    /// # Errors
    /// As [`Edits::add`].
    pub fn add_parts<'a>(&mut self, name: impl Into<Name<'a>>, parts: &[&[u8]]) -> Result<(), InvalidField> {
        let name = name.into();
        let known = match name {
            Name::Known(known) => Some(known),
            // A known name is known in either form, so that it is found.
            Name::Other(name) if !octets::token(name) => return Err(InvalidField),
            Name::Other(name) => Known::of(name),
        };
        let begin = self.text.len();
        if known.is_none() {
            self.text.extend_from_slice(name.as_bytes());
        }
        let middle = self.text.len();
        parts.iter().for_each(|part| self.text.extend_from_slice(part));
        let value = &self.text[middle..];
        if !octets::value(value) || octets::trim(value).len() < value.len() {
            self.text.truncate(begin);
            return Err(InvalidField);
        }
        let (name, value) = (Span::new(begin..middle), Span::new(middle..self.text.len()));
        self.added.push(Added { known, name, value, stays: true });
        Ok(())
    }

    /// Replaces every field of a name by one.
    ///
    /// # Errors
    /// As [`Edits::add`].
    pub fn set<'a>(&mut self, fields: Fields<'a>, name: impl Into<Name<'a>>, value: &[u8]) -> Result<(), InvalidField> {
        let (name, before) = (name.into(), self.added.len());
        self.add(name, value)?;
        for field in fields.all(name) {
            self.remove_place(field.place);
        }
        for added in &mut self.added[..before] {
            added.stays &= !added.is(name, &self.text);
        }
        Ok(())
    }

    /// Has the message say this length, in one field at most, and no other (RFC 9110, 8.6; RFC 9112, 6). A field that says it already
    /// stays as it is.
    pub fn frame(&mut self, fields: Fields<'_>, body: BodyLength) {
        let mut digits = [0; 20];
        let (wanted, other, value): (_, _, &[u8]) = match body {
            BodyLength::Length(length) => {
                let mut room = &mut digits[..];
                // 20 digits hold every length.
                let _ = write!(room, "{length}");
                let left = room.len();
                (Known::ContentLength, Known::TransferEncoding, &digits[..20 - left])
            }
            BodyLength::Chunked => (Known::TransferEncoding, Known::ContentLength, b"chunked"),
            BodyLength::None | BodyLength::UntilClose => {
                self.remove(fields, Known::ContentLength);
                self.remove(fields, Known::TransferEncoding);
                return;
            }
        };
        self.remove(fields, other);
        let (mut count, mut same) = (0, true);
        fields.edited(self).each(Name::Known(wanted), &mut |found| {
            count += 1;
            same &= found == value;
        });
        if count != 1 || !same {
            // Digits and a word can be a value.
            let _ = self.set(fields, wanted, value);
        }
    }

    fn added(&self) -> impl Iterator<Item = &Added> {
        self.added.iter().filter(|added| added.stays)
    }

    /// What is added, in order: names and values.
    pub(crate) fn additions(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.added().map(|added| (added.name(&self.text), added.value.of(&self.text)))
    }
}

/// The fields of a section as they are after changes: what is written, and what rules and policies are asked about.
#[derive(Clone, Copy, Debug)]
pub struct Edited<'a> {
    pub(crate) fields: Fields<'a>,
    pub(crate) edits: &'a Edits,
}

impl<'a> Fields<'a> {
    /// With changes.
    pub fn edited(self, edits: &'a Edits) -> Edited<'a> {
        Edited { fields: self, edits }
    }
}

impl<'a> Edited<'a> {
    /// Those of the section that stay, then what is added.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let stays = move |field: &FieldRef<'_>| !self.edits.removes(field.place);
        let kept = self.fields.iter().filter(stays).map(|field| (field.name, field.value));
        kept.chain(self.edits.additions())
    }
}

impl FieldsView for Edited<'_> {
    fn each(&self, name: Name<'_>, found: &mut dyn FnMut(&[u8])) {
        let fields: Fields<'_> = self.fields;
        let of_section = fields.index().on(fields.bytes());
        let kept = of_section.all(name).filter(|field| !self.edits.removes(field.place));
        kept.for_each(|field| found(field.value));
        let text = &self.edits.text;
        let added = self.edits.added().filter(|added| added.is(name, text));
        added.for_each(|added| found(added.value.of(text)));
    }

    fn fields(&self, found: &mut dyn FnMut(&[u8], &[u8])) {
        self.iter().for_each(|(name, value)| found(name, value));
    }
}

/// A request whose fields are changed.
#[derive(Clone, Copy, Debug)]
pub struct EditedRequest<'a> {
    request: Request<'a>,
    edits: &'a Edits,
}

impl<'a> Request<'a> {
    /// With changes of its fields.
    pub fn edited(self, edits: &'a Edits) -> EditedRequest<'a> {
        EditedRequest { request: self, edits }
    }
}

impl<'a> EditedRequest<'a> {
    /// As it came.
    pub fn request(self) -> Request<'a> {
        self.request
    }

    /// The fields as they are now.
    pub fn edited_fields(self) -> Edited<'a> {
        self.request.fields().edited(self.edits)
    }
}

impl FieldsView for EditedRequest<'_> {
    fn each(&self, name: Name<'_>, found: &mut dyn FnMut(&[u8])) {
        self.edited_fields().each(name, found);
    }

    fn fields(&self, found: &mut dyn FnMut(&[u8], &[u8])) {
        self.edited_fields().fields(found);
    }
}

impl RequestView for EditedRequest<'_> {
    fn method(&self) -> &str {
        self.request.method()
    }

    fn path(&self) -> &str {
        self.request.path()
    }

    fn query(&self) -> Option<&str> {
        self.request.query()
    }

    fn authority(&self) -> Option<&str> {
        self.request.authority()
    }
}
