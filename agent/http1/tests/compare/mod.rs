//! The crate beside the naive reader: any bytes, in pieces of some size. Used by tests and by the fuzz targets.

use brattice_http1::{
    BodyLength, BodyReader, Index, Limits, Part, Refusal, RequestHead, RequestReader, ResponseHead, ResponseReader,
};

use crate::naive::{self, Length, Verdict};

/// Small, so that they are reached.
pub(crate) const REQUESTS: Limits = Limits::requests(300, 5);
/// Small, so that they are reached.
pub(crate) const RESPONSES: Limits = Limits::responses(300, 5, 3, 100_000);

fn length(body: BodyLength) -> Length {
    match body {
        BodyLength::None => Length::None,
        BodyLength::Length(length) => Length::Bytes(length),
        BodyLength::Chunked => Length::Chunked,
        BodyLength::UntilClose => Length::Close,
    }
}

fn fields(fields: brattice_http1::Fields<'_>) -> Vec<naive::Field> {
    fields.iter().map(|field| (String::from_utf8_lossy(field.name).to_lowercase(), field.value.to_vec())).collect()
}

fn refused<T>(refusal: Refusal) -> Verdict<T> {
    match refusal {
        Refusal::Malformed(_) => Verdict::Malformed,
        Refusal::HeaderBytes | Refusal::Headers => Verdict::TooLong,
    }
}

/// Ends of pieces of this size.
fn ends(input: &[u8], piece: usize) -> impl Iterator<Item = usize> {
    (piece..input.len()).step_by(piece).chain([input.len()])
}

fn request_in_pieces(input: &[u8], piece: usize) -> Verdict<naive::Head> {
    let (mut reader, mut head) = (RequestReader::new(&REQUESTS), RequestHead::default());
    for end in ends(input, piece) {
        match reader.read(&input[..end], &mut head) {
            Err(refusal) => return refused(refusal),
            Ok(None) => {}
            Ok(Some(count)) => {
                let request = head.on(input);
                let line = [
                    request.method_bytes().to_vec(),
                    request.target().to_vec(),
                    head.version.text().as_bytes().to_vec(),
                ];
                let head = naive::Head { line, fields: fields(request.fields()), length: length(head.body) };
                return Verdict::Read(head, count);
            }
        }
    }
    Verdict::More
}

/// Compares the reading of a request's head.
pub(crate) fn request(input: &[u8]) {
    let expected = naive::request(input, &REQUESTS);
    for piece in [input.len().max(1), 1, 7] {
        assert_eq!(
            request_in_pieces(input, piece),
            expected,
            "{:?} in pieces of {piece}",
            input.escape_ascii().to_string()
        );
    }
}

fn response_in_pieces(input: &[u8], piece: usize, to_head: bool) -> Verdict<naive::Head> {
    let (mut reader, mut head) = (ResponseReader::new(&RESPONSES, to_head), ResponseHead::default());
    let mut held = Vec::new();
    for end in ends(input, piece) {
        held.extend_from_slice(&input[held.len()..end]);
        match reader.read(&mut held, &mut head) {
            Err(brattice_http1::BadResponse::TooLong) => return Verdict::TooLong,
            Err(_) => return Verdict::Malformed,
            Ok(None) => {}
            Ok(Some(count)) => {
                let response = head.on(&held);
                let line = [
                    head.version.text().as_bytes().to_vec(),
                    head.status.to_string().into_bytes(),
                    response.reason().to_vec(),
                ];
                let head = naive::Head { line, fields: fields(response.fields()), length: length(head.body) };
                return Verdict::Read(head, count);
            }
        }
    }
    Verdict::More
}

/// Compares the reading of a response's head.
pub(crate) fn response(input: &[u8], to_head: bool) {
    let expected = naive::response(input, &RESPONSES, to_head);
    for piece in [input.len().max(1), 1, 7] {
        let read = response_in_pieces(input, piece, to_head);
        assert_eq!(read, expected, "{:?} in pieces of {piece}", input.escape_ascii().to_string());
    }
}

fn chunked_in_pieces(input: &[u8], piece: usize) -> Verdict<(Vec<u8>, Vec<naive::Field>)> {
    let (mut reader, mut trailers) = (BodyReader::new(BodyLength::Chunked, &REQUESTS), Index::default());
    let (mut at, mut data) = (0, Vec::new());
    for end in ends(input, piece) {
        loop {
            match reader.next(&input[at..end], &mut trailers) {
                Err(refusal) => return refused(refusal),
                Ok(Part::More) => break,
                Ok(Part::Data(count)) => {
                    assert!(count > 0);
                    data.extend_from_slice(&input[at..at + count]);
                    at += count;
                }
                Ok(Part::Framing { length, .. }) => {
                    assert!(length > 0);
                    at += length;
                }
                Ok(Part::End(length)) => {
                    let fields = fields(trailers.on(&input[at..at + length]));
                    return Verdict::Read((data, fields), at + length);
                }
            }
        }
    }
    Verdict::More
}

/// Compares the reading of a chunked body.
pub(crate) fn chunked(input: &[u8]) {
    let expected = naive::chunked(input, &REQUESTS);
    for piece in [input.len().max(1), 1, 7] {
        let read = chunked_in_pieces(input, piece);
        assert_eq!(read, expected, "{:?} in pieces of {piece}", input.escape_ascii().to_string());
    }
}
