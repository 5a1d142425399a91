//! What httparse takes and the crate refuses: each difference is listed with its reason. The crate takes nothing that httparse refuses.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

#[path = "messages/corpus.rs"]
#[allow(dead_code)]
mod corpus;

use brattice_http1::{Limits, RequestHead, RequestReader, ResponseHead, ResponseReader};

const LIMITS: Limits = Limits::requests(512, 6);

/// Why a head that httparse takes is refused. Framing is not httparse's: it knows no `Content-Length`.
const STRICTER: &[(&str, &str)] = &[
    ("a line ends with LF alone", "RFC 9112, 2.2 lets a recipient take it; two readers would disagree"),
    ("there are several content lengths", "framing"),
    ("the content length is malformed", "framing"),
    ("the transfer encoding is not exactly chunked", "framing"),
    ("there are a transfer encoding and a content length", "framing"),
    ("HTTP/1.0 has no transfer encoding", "framing"),
    ("there is not exactly one Host field", "RFC 9112, 3.2"),
    ("there is no request line", "httparse skips empty lines without end"),
    ("the request target is malformed", "httparse takes every target without blanks and control characters"),
    ("the request line is malformed", "httparse takes a fragment"),
    ("the header section is too long", "httparse has no bound of bytes"),
];

fn httparse_takes(bytes: &[u8]) -> Option<bool> {
    let mut fields = [httparse::EMPTY_HEADER; LIMITS.fields];
    match httparse::Request::new(&mut fields).parse(bytes) {
        Ok(status) => status.is_complete().then_some(true),
        Err(_) => Some(false),
    }
}

/// A head, and what becomes of each change of one byte.
fn changed(bytes: &[u8], mut check: impl FnMut(&[u8])) {
    check(bytes);
    for at in 0..bytes.len().min(120) {
        for byte in *b"\r\n \t:#\0a\x7f\x80\"<" {
            let mut other = bytes.to_vec();
            other[at] = byte;
            check(&other);
        }
    }
}

#[test]
fn requests_differ_from_httparse_where_it_is_listed() {
    let mut met = std::collections::BTreeSet::new();
    for row in corpus::requests() {
        changed(&row.bytes(), |bytes| {
            let mut head = RequestHead::default();
            let read = RequestReader::new(&LIMITS).read(bytes, &mut head);
            match (read, httparse_takes(bytes)) {
                (Ok(Some(_)), Some(true)) | (Err(_), Some(false)) | (Ok(None), None) => {}
                (Err(refusal), Some(true) | None) => {
                    let listed = STRICTER.iter().any(|(text, _)| *text == refusal.text());
                    let early = httparse_takes(bytes).is_none();
                    assert!(listed || early, "{:?}: {refusal}", bytes.escape_ascii().to_string());
                    met.insert(refusal.text());
                }
                // It judges bytes before the end of their line is there.
                (Ok(None), Some(false)) => {}
                (read, theirs) => panic!("{:?}: {read:?}, httparse {theirs:?}", bytes.escape_ascii().to_string()),
            }
        });
    }
    for (text, reason) in STRICTER {
        assert!(met.contains(text), "no longer a difference: {text} ({reason})");
    }
}

#[test]
fn what_both_take_they_read_in_the_same_way() {
    for row in corpus::requests() {
        let bytes = row.bytes();
        let mut head = RequestHead::default();
        let Ok(Some(length)) = RequestReader::new(&LIMITS).read(&bytes, &mut head) else { continue };
        let mut fields = [httparse::EMPTY_HEADER; LIMITS.fields];
        let mut theirs = httparse::Request::new(&mut fields);
        assert_eq!(theirs.parse(&bytes).unwrap().unwrap(), length, "{}", row.what);
        let ours = head.on(&bytes);
        assert_eq!(theirs.method, Some(ours.method()), "{}", row.what);
        assert_eq!(theirs.path.map(str::as_bytes), Some(ours.target()), "{}", row.what);
        let ours: Vec<_> = ours.fields().iter().map(|field| (field.name, field.value)).collect();
        let theirs: Vec<_> = theirs.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
        assert_eq!(ours, theirs, "{}", row.what);
    }
    for row in corpus::responses() {
        let mut bytes = row.bytes();
        let came = bytes.clone();
        let mut head = ResponseHead::default();
        let limits = Limits::responses(512, 6, 2, 700);
        let Ok(Some(length)) = ResponseReader::new(&limits, false).read(&mut bytes, &mut head) else { continue };
        let mut fields = [httparse::EMPTY_HEADER; LIMITS.fields];
        let mut theirs = httparse::Response::new(&mut fields);
        let mut config = httparse::ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(true).allow_obsolete_multiline_headers_in_responses(true);
        assert_eq!(config.parse_response(&mut theirs, &came).unwrap().unwrap(), length, "{}", row.what);
        assert_eq!(theirs.code, Some(head.status), "{}", row.what);
        let joined = |value: &[u8]| {
            let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
            lines.collect::<Vec<_>>().join(&b' ')
        };
        let ours: Vec<_> = head.on(&bytes).fields().iter().map(|field| (field.name, field.value.to_vec())).collect();
        let theirs: Vec<_> = theirs.headers.iter().map(|field| (field.name.as_bytes(), joined(field.value))).collect();
        assert_eq!(ours, theirs, "{}", row.what);
    }
}
