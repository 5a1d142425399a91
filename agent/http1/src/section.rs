//! A section of field lines, read line by line as it comes.

use crate::{
    Refusal,
    index::Field,
    line::{self, Line},
    octets::is_blank,
};

/// Bounds of a section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) fields: usize,
}

/// Where reading is. Offsets count from the first byte of the head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Section {
    /// Where the first line begins that was not read yet.
    pub(crate) line: usize,
    /// From here on there may be an LF.
    pub(crate) searched: usize,
    /// Parts of a folded line were found.
    folded: bool,
}

/// What [`Section::next`] found.
#[derive(Debug)]
pub(crate) enum Found {
    Field(Field),
    /// The end of the section; so many bytes are of it.
    End(usize),
    /// The line is not complete.
    Incomplete,
}

impl Section {
    #[inline]
    pub(crate) fn at(line: usize) -> Self {
        Self { line, searched: line, folded: false }
    }

    /// Where the present line ends (its LF), once that is there.
    pub(crate) fn line_end(&mut self, input: &[u8], bounds: Bounds) -> Result<Option<usize>, Refusal> {
        let found = input.get(self.searched..).and_then(|rest| memchr::memchr(b'\n', rest));
        let Some(end) = found.map(|found| self.searched + found) else {
            self.searched = input.len();
            return if input.len() > bounds.bytes { Err(Refusal::HeaderBytes) } else { Ok(None) };
        };
        self.searched = end;
        if end >= bounds.bytes { Err(Refusal::HeaderBytes) } else { Ok(Some(end)) }
    }

    #[inline]
    fn accept(&mut self, line: &Line, bounds: Bounds) -> Result<Option<Found>, Refusal> {
        let (found, next) = match *line {
            Line::Odd => return Ok(None),
            Line::Field(field, next) => (Found::Field(field), next),
            Line::End(next) => (Found::End(next), next),
        };
        if next > bounds.bytes {
            return Err(Refusal::HeaderBytes);
        }
        *self = Self::at(next);
        Ok(Some(found))
    }

    /// The next line of a request's head, or of trailers.
    #[inline]
    pub(crate) fn next(&mut self, input: &[u8], bounds: Bounds) -> Result<Found, Refusal> {
        // A line that was incomplete is read again only when its end is there.
        if self.searched > self.line && self.line_end(input, bounds)?.is_none() {
            return Ok(Found::Incomplete);
        }
        if let Some(found) = self.accept(&line::read(input, self.line), bounds)? {
            return Ok(found);
        }
        match self.line_end(input, bounds)? {
            None => Ok(Found::Incomplete),
            Some(end) => Err(Refusal::Malformed(line::wrong(&input[self.line..end]))),
        }
    }

    /// The next line of a response's head: what RFC 9112 has a proxy repair is repaired in the buffer (5.1 and 5.2).
    #[inline]
    pub(crate) fn next_repaired(&mut self, input: &mut [u8], bounds: Bounds) -> Result<Found, Refusal> {
        if self.searched > self.line && self.line_end(input, bounds)?.is_none() {
            return Ok(Found::Incomplete);
        }
        let before = *self;
        if !self.folded
            && let Some(found) = self.accept(&line::read(input, self.line), bounds)?
        {
            match found {
                // Whether it is folded is known by the next byte.
                Found::Field(_) if input.get(self.line).is_none_or(|byte| is_blank(*byte)) => *self = before,
                _ => return Ok(found),
            }
        }
        let Some(end) = self.logical_end(input, bounds)? else { return Ok(Found::Incomplete) };
        let line = &mut input[self.line..=end];
        let first = memchr::memchr(b'\n', line).unwrap_or(line.len());
        if first + 1 < line.len() && memchr::memchr(b':', &line[..first]).is_some() {
            line::unfold(line);
        }
        line::close_name(line);
        match self.accept(&line::read(input, self.line), bounds)? {
            Some(found) => Ok(found),
            None => Err(Refusal::Malformed(line::wrong(&input[self.line..end]))),
        }
    }

    /// The LF of a line and of the lines that are folded into it.
    fn logical_end(&mut self, input: &[u8], bounds: Bounds) -> Result<Option<usize>, Refusal> {
        while let Some(end) = self.line_end(input, bounds)? {
            match input.get(end + 1) {
                _ if input[..end].last() != Some(&b'\r') => return Ok(Some(end)),
                None => return Ok(None),
                Some(next) if is_blank(*next) && end > self.line + 1 => {
                    self.searched = end + 1;
                    self.folded = true;
                }
                Some(_) => return Ok(Some(end)),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 4096, fields: 100 };

    /// However slowly a line comes, each look at it begins where the last one ended: the cost is linear.
    #[test]
    fn no_byte_of_an_incomplete_line_is_searched_twice() {
        let long = "c".repeat(500);
        for (repaired, section) in [
            (false, format!("a: {long}\r\nb: c\r\n\r\n")),
            (true, format!("a: {long}\r\nb: c\r\n\r\n")),
            (true, format!("a: b\r\n {long}\r\n\t{long}\r\nb : c\r\n\r\n")),
        ] {
            let (mut bytes, mut reader) = (section.into_bytes(), Section::default());
            let (mut fields, mut ended) = (0, false);
            for end in 1..=bytes.len() {
                loop {
                    let found = match repaired {
                        true => reader.next_repaired(&mut bytes[..end], BOUNDS),
                        false => reader.next(&bytes[..end], BOUNDS),
                    };
                    match found.unwrap() {
                        Found::Field(_) => fields += 1,
                        Found::End(length) => {
                            assert_eq!(length, end);
                            ended = true;
                            break;
                        }
                        Found::Incomplete => {
                            // An LF is looked at once more, with what follows it.
                            assert!(end - reader.searched <= 1, "{} of {end} were searched", reader.searched);
                            break;
                        }
                    }
                }
            }
            assert_eq!((fields, ended), (2, true));
        }
    }
}
