//! Everything that is bounded, by name. The caller gives the values.

/// Bounds of one direction of a connection. What each protects is the memory that the caller must keep while something is
/// incomplete, or the work for something that carries no part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head: first line, fields, empty lines before it. Over it: [`Refusal::HeaderBytes`](crate::Refusal::HeaderBytes).
    pub head_bytes: usize,
    /// Fields of a head. Over it: [`Refusal::Headers`](crate::Refusal::Headers).
    pub fields: usize,
    /// Empty lines before a first line that are skipped (RFC 9112, 2.2 asks for at least one).
    pub empty_lines: usize,
    /// Bytes of the line with a chunk's size: digits, extensions, CR LF.
    pub chunk_line: usize,
    /// Digits of a chunk's size, zeros before it included; at most 15, which hold any length below 2^60.
    pub chunk_digits: usize,
    /// Bytes of a trailer section, the empty line behind it included.
    pub trailer_bytes: usize,
    /// Fields of a trailer section.
    pub trailer_fields: usize,
    /// Interim responses (1xx, but for 101) before a final one.
    pub interim_responses: u32,
    /// Bytes of interim responses and of the final response's head, together.
    pub interim_bytes: usize,
}

impl Limits {
    /// For requests; a header section and its trailers have the same bounds.
    pub const fn requests(head_bytes: usize, fields: usize) -> Self {
        Self {
            head_bytes,
            fields,
            empty_lines: 2,
            chunk_line: 256,
            chunk_digits: 15,
            trailer_bytes: head_bytes,
            trailer_fields: fields,
            interim_responses: 0,
            interim_bytes: 0,
        }
    }

    /// For responses; a header section and its trailers have the same bounds.
    pub const fn responses(head_bytes: usize, fields: usize, interim_responses: u32, interim_bytes: usize) -> Self {
        Self { interim_responses, interim_bytes, ..Self::requests(head_bytes, fields) }
    }
}
