//! A second reader, written straight from the grammar of RFC 9112 and nothing else: it is shown all bytes at once, copies everything, and
//! does not care what it costs. The tests and the fuzz targets compare it with the crate.

#![allow(dead_code, reason = "each user needs a part of it")]

use brattice_http1::Limits;

/// What becomes of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict<T> {
    /// More bytes are awaited.
    More,
    /// Refused for what it says (400, 502).
    Malformed,
    /// Refused for its size (431, 502).
    TooLong,
    /// Read; so many bytes.
    Read(T, usize),
}

/// Name in lower case, and value.
pub(crate) type Field = (String, Vec<u8>);

/// The end of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// No body.
    None,
    /// So many bytes.
    Bytes(u64),
    /// Chunks.
    Chunked,
    /// Until the connection ends.
    Close,
}

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Method, target, version; or version, status, reason.
    pub(crate) line: [Vec<u8>; 3],
    /// The fields.
    pub(crate) fields: Vec<Field>,
    /// The body.
    pub(crate) length: Length,
}

enum Stop {
    More,
    Malformed,
    TooLong,
}

fn verdict<T>(result: Result<(T, usize), Stop>) -> Verdict<T> {
    match result {
        Ok((read, length)) => Verdict::Read(read, length),
        Err(Stop::More) => Verdict::More,
        Err(Stop::Malformed) => Verdict::Malformed,
        Err(Stop::TooLong) => Verdict::TooLong,
    }
}

// RFC 9110, 5.6.2: tchar.
fn tchar(c: u8) -> bool {
    "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".as_bytes().contains(&c)
}

// RFC 9110, 5.5: VCHAR, obs-text, SP, HTAB.
fn field_char(c: u8) -> bool {
    (0x21..=0x7e).contains(&c) || c >= 0x80 || c == b' ' || c == b'\t'
}

// OWS.
fn ows(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_prefix(b" ").or(text.strip_prefix(b"\t")) {
        text = rest;
    }
    while let Some(rest) = text.strip_suffix(b" ").or(text.strip_suffix(b"\t")) {
        text = rest;
    }
    text
}

/// The line at `at` without its CR LF, and where the next one begins.
fn line(input: &[u8], at: usize, most: usize) -> Result<(&[u8], usize), Stop> {
    let Some(length) = input[at..].iter().position(|c| *c == b'\n') else {
        return Err(if input.len() > most { Stop::TooLong } else { Stop::More });
    };
    if at + length >= most {
        return Err(Stop::TooLong);
    }
    match input[at..at + length].strip_suffix(b"\r") {
        Some(line) => Ok((line, at + length + 1)),
        None => Err(Stop::Malformed),
    }
}

/// `field-line = field-name ":" OWS field-value OWS`
fn field(line: &[u8], blank_before_colon: bool) -> Result<Field, Stop> {
    let colon = line.iter().position(|c| *c == b':').ok_or(Stop::Malformed)?;
    let mut name = &line[..colon];
    if blank_before_colon {
        while let Some(rest) = name.strip_suffix(b" ").or(name.strip_suffix(b"\t")) {
            name = rest;
        }
    }
    let value = &line[colon + 1..];
    if name.is_empty() || !name.iter().all(|c| tchar(*c)) || !value.iter().all(|c| field_char(*c)) {
        return Err(Stop::Malformed);
    }
    Ok((String::from_utf8_lossy(name).to_lowercase(), ows(value).to_vec()))
}

fn values<'a>(fields: &'a [Field], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| field.0 == name).map(|field| &*field.1).collect()
}

/// `Content-Length = 1*DIGIT`; at most 18 of them.
fn digits(text: &[u8]) -> Result<u64, Stop> {
    let text = std::str::from_utf8(text).map_err(|_| Stop::Malformed)?;
    let sound = !text.is_empty() && text.len() <= 18 && text.chars().all(|c| c.is_ascii_digit());
    if sound { text.parse().map_err(|_| Stop::Malformed) } else { Err(Stop::Malformed) }
}

/// Skips empty lines before the first one, which has to begin with `start`.
fn first_line<'i>(input: &'i [u8], limits: &Limits, start: impl Fn(&[u8]) -> bool) -> Result<(&'i [u8], usize), Stop> {
    let mut at = 0;
    for skipped in 0.. {
        if at < input.len() && input[at] != b'\r' && input[at] != b'\n' && !start(&input[at..]) {
            return Err(Stop::Malformed);
        }
        let (first, next) = line(input, at, limits.head_bytes)?;
        if !first.is_empty() {
            return Ok((first, next));
        }
        if skipped >= limits.empty_lines {
            return Err(Stop::Malformed);
        }
        at = next;
    }
    Err(Stop::More)
}

fn target(method: &[u8], target: &[u8]) -> Result<(), Stop> {
    if target.is_empty() || target.iter().any(|c| *c <= b' ' || *c == 0x7f || *c == b'#') {
        return Err(Stop::Malformed);
    }
    let text = std::str::from_utf8(target).map_err(|_| Stop::Malformed)?;
    if method == b"CONNECT" || text == "*" {
        return Ok(());
    }
    let path = match text.find("://") {
        Some(colon) if !text.starts_with('/') => {
            let (scheme, rest) = (&text[..colon], &text[colon + 3..]);
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let host = &rest[..end];
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@[]%".contains(c);
            let scheme_char = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            let sound = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(scheme_char)
                && !host.is_empty()
                && host.chars().all(allowed);
            if !sound {
                return Err(Stop::Malformed);
            }
            &rest[end..]
        }
        _ if text.starts_with('/') => text,
        _ => return Err(Stop::Malformed),
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if path.contains(['<', '>', '`']) || query.contains(['<', '>', '"']) {
        return Err(Stop::Malformed);
    }
    Ok(())
}

/// A request's head.
pub(crate) fn request(input: &[u8], limits: &Limits) -> Verdict<Head> {
    verdict(read_request(input, limits))
}

fn read_request(input: &[u8], limits: &Limits) -> Result<(Head, usize), Stop> {
    let (first, mut at) = first_line(input, limits, |start| tchar(start[0]))?;
    // request-line = method SP request-target SP HTTP-version
    let parts: Vec<Vec<u8>> = first.split(|c| *c == b' ').map(<[u8]>::to_vec).collect();
    let line_parts: [Vec<u8>; 3] = parts.try_into().map_err(|_| Stop::Malformed)?;
    let [method, wanted, version] = &line_parts;
    if method.is_empty() || !method.iter().all(|c| tchar(*c)) {
        return Err(Stop::Malformed);
    }
    target(method, wanted)?;
    let old = match &version[..] {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(Stop::Malformed),
    };
    let mut fields = Vec::new();
    loop {
        let (text, next) = line(input, at, limits.head_bytes)?;
        at = next;
        if text.is_empty() {
            break;
        }
        fields.push(field(text, false)?);
        let (lengths, codings) = (values(&fields, "content-length"), values(&fields, "transfer-encoding"));
        if lengths.len() > 1 || codings.len() > 1 {
            return Err(Stop::Malformed);
        }
        lengths.first().map_or(Ok(0), |length| digits(length))?;
        if codings.first().is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
            return Err(Stop::Malformed);
        }
        if fields.len() > limits.fields {
            return Err(Stop::TooLong);
        }
    }
    let hosts = values(&fields, "host").len();
    let length = match (values(&fields, "content-length").first(), values(&fields, "transfer-encoding").first()) {
        (Some(_), Some(_)) => return Err(Stop::Malformed),
        (None, Some(_)) if old => return Err(Stop::Malformed),
        (None, Some(_)) => Length::Chunked,
        (Some(length), None) => Length::Bytes(digits(length)?),
        (None, None) => Length::None,
    };
    if hosts > 1 || hosts == 0 && !old {
        return Err(Stop::Malformed);
    }
    Ok((Head { line: line_parts, fields, length }, at))
}

/// A response's head.
pub(crate) fn response(input: &[u8], limits: &Limits, to_head: bool) -> Verdict<Head> {
    verdict(read_response(input, limits, to_head))
}

/// `status-line = HTTP-version SP status-code SP [ reason-phrase ]`; the last SP may be missing before no phrase.
fn status_line(line: &[u8]) -> Result<([Vec<u8>; 3], u16), Stop> {
    let mut parts = line.splitn(3, |c| *c == b' ');
    let version = parts.next().unwrap_or_default();
    let code = parts.next().unwrap_or_default();
    let reason = parts.next().unwrap_or_default();
    let number = std::str::from_utf8(code).ok().filter(|code| code.len() == 3).and_then(|code| code.parse().ok());
    let sound = matches!(version, b"HTTP/1.0" | b"HTTP/1.1") && reason.iter().all(|c| field_char(*c));
    match number {
        Some(number @ 100..=999) if sound && code.iter().all(u8::is_ascii_digit) => {
            Ok(([version.to_vec(), code.to_vec(), reason.to_vec()], number))
        }
        _ => Err(Stop::Malformed),
    }
}

fn read_response(input: &[u8], limits: &Limits, to_head: bool) -> Result<(Head, usize), Stop> {
    let begins = |start: &[u8]| start.iter().zip(b"HTTP/1.").all(|(a, b)| a == b);
    let (first, mut at) = first_line(input, limits, begins)?;
    let (line_parts, status) = status_line(first)?;
    let mut fields = Vec::new();
    loop {
        let begin = at;
        let (mut text, mut next) = line(input, at, limits.head_bytes)?;
        if text.is_empty() {
            at = next;
            break;
        }
        // obs-fold = OWS CRLF RWS: a space.
        let mut joined = Vec::new();
        let whole_name = text.contains(&b':');
        loop {
            match input.get(next) {
                None => return Err(Stop::More),
                Some(b' ' | b'\t') => {}
                Some(_) => break,
            }
            joined.push(text);
            (text, next) = line(input, next, limits.head_bytes)?;
        }
        at = next;
        if joined.is_empty() {
            fields.push(field(text, true)?);
        } else {
            if !whole_name || matches!(input[begin], b' ' | b'\t') {
                return Err(Stop::Malformed);
            }
            joined.push(text);
            let parts: Vec<&[u8]> = joined.into_iter().map(ows).filter(|part| !part.is_empty()).collect();
            fields.push(field(&parts.join(&b' '), true)?);
        }
        if fields.len() > limits.fields {
            return Err(Stop::TooLong);
        }
    }
    let length = response_length(&fields, &line_parts[0], status, to_head)?;
    Ok((Head { line: line_parts, fields, length }, at))
}

fn response_length(fields: &[Field], version: &[u8], status: u16, to_head: bool) -> Result<Length, Stop> {
    let codings = values(fields, "transfer-encoding");
    match codings[..] {
        [] => {}
        [one] if one.eq_ignore_ascii_case(b"chunked") && version == b"HTTP/1.1" => {}
        _ => return Err(Stop::Malformed),
    }
    if !codings.is_empty() && !values(fields, "content-length").is_empty() {
        return Err(Stop::Malformed);
    }
    if (100..200).contains(&status) || status == 204 {
        return Ok(Length::None);
    }
    let none = to_head || status == 304;
    if !codings.is_empty() {
        return Ok(if none { Length::None } else { Length::Chunked });
    }
    let mut lengths = Vec::new();
    for value in values(fields, "content-length") {
        for member in value.split(|c| *c == b',') {
            lengths.push(digits(ows(member))?);
        }
    }
    lengths.dedup();
    match lengths[..] {
        _ if lengths.len() > 1 => Err(Stop::Malformed),
        _ if none => Ok(Length::None),
        [length] => Ok(Length::Bytes(length)),
        _ => Ok(Length::Close),
    }
}

/// A body's data, and its trailers.
pub(crate) type Body = (Vec<u8>, Vec<Field>);

/// A chunked body.
pub(crate) fn chunked(input: &[u8], limits: &Limits) -> Verdict<Body> {
    verdict(read_chunked(input, limits))
}

fn read_chunked(input: &[u8], limits: &Limits) -> Result<(Body, usize), Stop> {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        // chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
        let (size, next) = chunk_size(&input[at..], limits)?;
        at += next;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).map_err(|_| Stop::More)?;
        let rest = &input[at..];
        if rest.len() < size {
            return Err(Stop::More);
        }
        data.extend_from_slice(&rest[..size]);
        match &rest[size..] {
            [] | [b'\r'] => return Err(Stop::More),
            [b'\r', b'\n', ..] => at += size + 2,
            _ => return Err(Stop::Malformed),
        }
    }
    let (mut fields, mut from, section) = (Vec::new(), 0, &input[at..]);
    loop {
        let (text, next) = line(section, from, limits.trailer_bytes)?;
        from = next;
        if text.is_empty() {
            return Ok(((data, fields), at + from));
        }
        fields.push(field(text, false)?);
        if fields.len() > limits.trailer_fields {
            return Err(Stop::TooLong);
        }
    }
}

/// `chunk-size = 1*HEXDIG`, `chunk-ext` any field characters behind a `;`. Each byte is judged as soon as it is there.
fn chunk_size(input: &[u8], limits: &Limits) -> Result<(u64, usize), Stop> {
    let count = input.iter().take_while(|c| c.is_ascii_hexdigit()).count();
    if count > limits.chunk_digits || count > limits.chunk_line {
        return Err(Stop::Malformed);
    }
    let mut rest = &input[count..];
    let mut end = count;
    if rest.is_empty() {
        return Err(Stop::More);
    }
    if count == 0 {
        return Err(Stop::Malformed);
    }
    if rest[0] == b';' {
        let extension = rest.iter().take_while(|c| field_char(**c)).count();
        end += extension;
        rest = &rest[extension..];
    }
    if end > limits.chunk_line || end + rest.len().min(2) > limits.chunk_line {
        return Err(Stop::Malformed);
    }
    let text = std::str::from_utf8(&input[..count]).map_err(|_| Stop::Malformed)?;
    match rest {
        [] | [b'\r'] => Err(Stop::More),
        [b'\r', b'\n', ..] => Ok((u64::from_str_radix(text, 16).map_err(|_| Stop::Malformed)?, end + 2)),
        _ => Err(Stop::Malformed),
    }
}
