//! Heads that are written: unchanged canonical lines are copied in runs, what was changed is spliced in.

use bytes::BytesMut;

use crate::{BodyLength, Edited, Edits, Name, Version, edits::InvalidField, index::Index, reason};

/// The head has more bytes than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header section is longer than it may be")]
pub struct TooLong;

/// `100 Continue` (RFC 9110, 15.2.1), whole.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A buffer with a bound. What does not fit leaves it as it was.
struct Out<'b> {
    buffer: &'b mut BytesMut,
    left: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(TooLong)?;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), TooLong> {
        for part in [name, b": ", value, b"\r\n"] {
            self.put(part)?;
        }
        Ok(())
    }

    fn fields(&mut self, edited: Edited<'_>) -> Result<(), TooLong> {
        let (fields, edits) = (edited.fields, edited.edits);
        let bytes = fields.bytes();
        let mut run = 0..0;
        for (place, field) in fields.index().fields().iter().enumerate() {
            let line = if edits.removes(place) { continue } else { field.line() };
            match line {
                Some(line) if line.start == run.end => run.end = line.end,
                line => {
                    self.put(bytes.get(std::mem::take(&mut run)).unwrap_or_default())?;
                    match line {
                        Some(line) => run = line,
                        None => self.field(field.name.of(bytes), field.value.of(bytes))?,
                    }
                }
            }
        }
        self.put(bytes.get(run).unwrap_or_default())?;
        edits.additions().try_for_each(|(name, value)| self.field(name, value))
    }

    fn status_line(&mut self, version: Version, status: u16, phrase: &[u8]) -> Result<(), TooLong> {
        let digit = |place: u16| b'0' + u8::try_from(status / place % 10).expect("a digit");
        let code = [b' ', digit(100), digit(10), digit(1), b' '];
        for part in [version.text().as_bytes(), &code, phrase, b"\r\n"] {
            self.put(part)?;
        }
        Ok(())
    }
}

/// Writes with a bound.
fn bounded(
    buffer: &mut BytesMut,
    most: usize,
    write: impl FnOnce(&mut Out<'_>) -> Result<(), TooLong>,
) -> Result<(), TooLong> {
    let before = buffer.len();
    let mut out = Out { buffer, left: most };
    let written = write(&mut out);
    if written.is_err() {
        buffer.truncate(before);
    }
    written
}

/// Appends a request's head. The target is given in parts, such as path, `?` and query.
///
/// # Errors
/// When it has more than `most` bytes; then nothing is appended.
pub fn request(
    buffer: &mut BytesMut,
    most: usize,
    (method, target): (&[u8], &[&[u8]]),
    fields: Edited<'_>,
) -> Result<(), TooLong> {
    bounded(buffer, most, |out| {
        out.put(method)?;
        out.put(b" ")?;
        target.iter().try_for_each(|part| out.put(part))?;
        out.put(b" HTTP/1.1\r\n")?;
        out.fields(fields)?;
        out.put(b"\r\n")
    })
}

/// Appends a response's head, an interim one's too.
///
/// # Errors
/// When it has more than `most` bytes; then nothing is appended.
pub fn response(
    buffer: &mut BytesMut,
    most: usize,
    (version, status, phrase): (Version, u16, &[u8]),
    fields: Edited<'_>,
) -> Result<(), TooLong> {
    bounded(buffer, most, |out| {
        out.status_line(version, status, phrase)?;
        out.fields(fields)?;
        out.put(b"\r\n")
    })
}

/// Appends a response's head, of fields that are kept elsewhere than in a buffer of HTTP/1. Each of them must be one that a field can
/// be: a token, and a value without control characters.
pub fn response_of<'f>(
    buffer: &mut BytesMut,
    (version, status, phrase): (Version, u16, &[u8]),
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) {
    let mut out = Out { buffer, left: usize::MAX };
    let written = out
        .status_line(version, status, phrase)
        .and_then(|()| fields.into_iter().try_for_each(|(name, value)| out.field(name, value)))
        .and_then(|()| out.put(b"\r\n"));
    debug_assert!(written.is_ok(), "nothing is longer than memory");
}

/// Appends the head of a response that no target gave, with the usual reason phrase.
///
/// # Errors
/// When it has more than `most` bytes; then nothing is appended.
pub fn own_response(
    buffer: &mut BytesMut,
    most: usize,
    (version, status): (Version, u16),
    edits: &Edits,
) -> Result<(), TooLong> {
    let (none, phrase) = (Index::default(), reason::phrase(status));
    response(buffer, most, (version, status, phrase.as_bytes()), none.on(&[]).edited(edits))
}

impl Edits {
    /// The fields of a message that is made up: these, and its length.
    ///
    /// # Errors
    /// When no field can have one of these names or values.
    pub fn made_up(&mut self, fields: &[(Name<'_>, &[u8])], body: BodyLength) -> Result<(), InvalidField> {
        self.clear();
        fields.iter().try_for_each(|(name, value)| self.add(*name, value))?;
        self.frame(Index::default().on(&[]), body);
        Ok(())
    }
}

/// Appends the end of a chunked body, with trailers that are kept elsewhere, as [`response_of`] has fields.
pub fn last_chunk_of<'f>(buffer: &mut BytesMut, trailers: impl IntoIterator<Item = (&'f [u8], &'f [u8])>) {
    let mut out = Out { buffer, left: usize::MAX };
    let written = out
        .put(crate::body::LAST_SIZE)
        .and_then(|()| trailers.into_iter().try_for_each(|(name, value)| out.field(name, value)))
        .and_then(|()| out.put(b"\r\n"));
    debug_assert!(written.is_ok(), "nothing is longer than memory");
}

/// Appends the end of a chunked body, with these trailers.
///
/// # Errors
/// When it has more than `most` bytes; then nothing is appended.
pub fn last_chunk(buffer: &mut BytesMut, most: usize, trailers: Edited<'_>) -> Result<(), TooLong> {
    bounded(buffer, most, |out| {
        out.put(crate::body::LAST_SIZE)?;
        out.fields(trailers)?;
        out.put(b"\r\n")
    })
}
