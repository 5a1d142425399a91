//! Reads an HTTP/1.1 answer.

use std::io::{self, BufRead, Read};

/// An answer, whole.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Interim answers before it.
    pub interim: Vec<u16>,
    /// Fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, decoded.
    pub body: Vec<u8>,
    /// Trailer fields, names in lower case.
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// The first field of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }

    /// Which test server answered.
    pub fn server(&self) -> &str {
        self.header("x-server").unwrap_or("")
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if reader.by_ref().take(128 * 1024).read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn fields(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    loop {
        let text = line(reader)?;
        if text.is_empty() {
            return Ok(all);
        }
        let (name, value) = text.split_once(':').ok_or_else(|| io::Error::other(format!("no field: {text:?}")))?;
        all.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Reads status, fields, body (not where the head alone was asked for) and trailers.
pub(super) fn read(reader: &mut impl BufRead, head: bool) -> io::Result<Answer> {
    let mut answer = Answer::default();
    loop {
        let first = line(reader)?;
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| first.strip_prefix("HTTP/1.0 "))
            .and_then(|rest| rest.get(..3)?.parse().ok());
        answer.status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
        answer.headers = fields(reader)?;
        if (100..200).contains(&answer.status) {
            answer.interim.push(answer.status);
            continue;
        }
        break;
    }
    if head {
        return Ok(answer);
    }
    if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = line(reader)?;
            let length = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(io::Error::other)?;
            if length == 0 {
                answer.trailers = fields(reader)?;
                return Ok(answer);
            }
            let start = answer.body.len();
            answer.body.resize(start + length, 0);
            reader.read_exact(&mut answer.body[start..])?;
            line(reader)?;
        }
    }
    if answer.status == 204 || answer.status == 304 {
        return Ok(answer);
    }
    match answer.header("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) => {
            answer.body.resize(length, 0);
            reader.read_exact(&mut answer.body)?;
        }
        Some(Err(error)) => return Err(io::Error::other(error)),
        None => {
            reader.read_to_end(&mut answer.body)?;
        }
    }
    Ok(answer)
}
