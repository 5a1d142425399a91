//! Changes and writing: as on a naive list of fields, and what is written reads the same.

use brattice_http1::{
    BodyLength, Edits, FieldsView, Known, Limits, Name, RequestHead, RequestReader, RequestView, ResponseHead,
    ResponseReader, Version, write,
};
use bytes::BytesMut;
use proptest::prelude::*;

const LIMITS: Limits = Limits::requests(64 * 1024, 100);

type Field = (String, String);

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["accept", "Cookie", "X-Team", "x-team", "x-other", "VIA", "connection", "x", "te"])
        .prop_map(str::to_owned)
}

fn values() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "b, c", "a longer value, with \t some blanks in it", "\u{e9}", "1"])
        .prop_map(str::to_owned)
}

#[derive(Clone, Debug)]
enum Change {
    Remove(String),
    RemovePlace(usize),
    Set(String, String),
    Add(String, String),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        names().prop_map(Change::Remove),
        (0..8_usize).prop_map(Change::RemovePlace),
        (names(), values()).prop_map(|(name, value)| Change::Set(name, value)),
        (names(), values()).prop_map(|(name, value)| Change::Add(name, value)),
    ];
    prop::collection::vec(change, 0..8)
}

/// Lines with blanks where they may be; `exact`: a canonical one.
fn lines() -> impl Strategy<Value = Vec<(Field, u8)>> {
    prop::collection::vec(((names(), values()), 0..4_u8), 0..8)
}

fn head(lines: &[(Field, u8)]) -> Vec<u8> {
    let mut head = b"GET /a?b HTTP/1.1\r\nHost: h\r\n".to_vec();
    for ((name, value), form) in lines {
        let (before, behind) = [(" ", ""), ("", ""), ("\t ", " "), (" ", "\t")][usize::from(*form)];
        let value: Vec<u8> = value.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        head.extend([name.as_bytes(), b":", before.as_bytes(), &value, behind.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn raw(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// The same changes of a list. An entry of the message keeps its place.
fn naively(lines: &[(Field, u8)], changes: &[Change]) -> Vec<Field> {
    let host = ("Host".to_owned(), "h".to_owned());
    let came = [&host].into_iter().chain(lines.iter().map(|(field, _)| field)).cloned();
    let mut fields: Vec<(Option<usize>, Field)> = came.enumerate().map(|(n, field)| (Some(n), field)).collect();
    for change in changes {
        match change {
            Change::Remove(name) => fields.retain(|(_, field)| !field.0.eq_ignore_ascii_case(name)),
            Change::RemovePlace(place) => fields.retain(|(at, _)| *at != Some(*place)),
            Change::Set(name, value) => {
                fields.retain(|(_, field)| !field.0.eq_ignore_ascii_case(name));
                fields.push((None, (name.clone(), value.clone())));
            }
            Change::Add(name, value) => fields.push((None, (name.clone(), value.clone()))),
        }
    }
    fields.into_iter().map(|(_, (name, value))| (name.to_lowercase(), value)).collect()
}

fn read(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    assert_eq!(RequestReader::new(&LIMITS).read(bytes, &mut head), Ok(Some(bytes.len())), "{:?}", latin1(bytes));
    head
}

fn collected(view: &dyn FieldsView) -> Vec<Field> {
    let mut fields = Vec::new();
    view.fields(&mut |name, value| fields.push((latin1(name).to_lowercase(), latin1(value))));
    fields
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_are_those_of_a_list_and_what_is_written_is_read(lines in lines(), changes in changes()) {
        let bytes = head(&lines);
        let head = read(&bytes);
        let fields = head.on(&bytes).fields();
        let mut edits = Edits::default();
        for change in &changes {
            match change {
                Change::Remove(name) => edits.remove(fields, &**name),
                Change::RemovePlace(place) => edits.remove_place(*place),
                Change::Set(name, value) => edits.set(fields, &**name, &raw(value)).unwrap(),
                Change::Add(name, value) => edits.add(&**name, &raw(value)).unwrap(),
            }
        }
        let expected = naively(&lines, &changes);
        let edited = head.on(&bytes).edited(&edits);
        prop_assert_eq!(collected(&edited), expected.clone());
        for name in ["host", "cookie", "x-team", "X-TEAM", "connection", "nothing"] {
            let mut found = Vec::new();
            edited.field(name, &mut |value| found.push(latin1(value)));
            let same = |field: &&Field| field.0.eq_ignore_ascii_case(name);
            let wanted: Vec<_> = expected.iter().filter(same).map(|field| field.1.clone()).collect();
            prop_assert_eq!(found, wanted);
        }
        let mut written = BytesMut::new();
        let line = (edited.method().as_bytes(), &[edited.path().as_bytes(), b"?b"][..]);
        write::request(&mut written, 64 * 1024, line, edited.edited_fields()).unwrap();
        // Every line that is written is canonical: writing it again copies it.
        let (mut again, mut twice) = (RequestHead::default(), BytesMut::new());
        if RequestReader::new(&LIMITS).read(&written, &mut again).is_ok() {
            prop_assert_eq!(collected(&again.on(&written)), expected);
            let none = Edits::default();
            write::request(&mut twice, 64 * 1024, line, again.on(&written).fields().edited(&none)).unwrap();
            prop_assert_eq!(&twice, &written);
            let most = written.len() - 1;
            let mut short = BytesMut::from(&b"before"[..]);
            let refused = write::request(&mut short, most, line, again.on(&written).fields().edited(&none));
            prop_assert!(refused.is_err());
            prop_assert_eq!(&short[..], b"before");
        } else {
            // Without a host it is no request.
            prop_assert!(!expected.iter().any(|field| field.0 == "host"));
        }
    }

    #[test]
    fn names_and_values_that_none_can_have_are_refused(name in "\\PC{0,6}", value in any::<Vec<u8>>()) {
        let mut edits = Edits::default();
        let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        let sound = !name.is_empty() && name.bytes().all(token);
        let text = |c: u8| c == b'\t' || c >= b' ' && c != 0x7f;
        let blank = |c: Option<&u8>| matches!(c, Some(b' ' | b'\t'));
        let sound = sound && value.iter().all(|c| text(*c)) && !blank(value.first()) && !blank(value.last());
        prop_assert_eq!(edits.add(&*name, &value).is_ok(), sound);
        prop_assert!(edits.add(Known::Via, b"a\r\nb: c").is_err() && edits.add("a b", b"").is_err());
    }
}

fn framed(came: &str, body: BodyLength) -> String {
    let bytes = format!("HTTP/1.1 200 OK\r\n{came}\r\n").into_bytes();
    let (mut head, mut buffer) = (ResponseHead::default(), bytes.clone());
    ResponseReader::new(&Limits::responses(1024, 10, 1, 0), false).read(&mut buffer, &mut head).unwrap().unwrap();
    let (mut edits, mut written) = (Edits::default(), BytesMut::new());
    let fields = head.on(&bytes).fields();
    edits.frame(fields, body);
    write::response(&mut written, 1024, (Version::Http11, 200, b"OK"), fields.edited(&edits)).unwrap();
    latin1(&written).strip_prefix("HTTP/1.1 200 OK\r\n").unwrap().to_owned()
}

#[test]
fn a_message_says_its_length_once() {
    use BodyLength::{Chunked, Length, None, UntilClose};
    for (came, body, goes) in [
        ("Content-Length: 5\r\na: b\r\n", Length(5), "Content-Length: 5\r\na: b\r\n\r\n"),
        ("Content-Length:5\r\n", Length(5), "Content-Length: 5\r\n\r\n"),
        ("Content-Length: 05\r\na: b\r\n", Length(5), "a: b\r\ncontent-length: 5\r\n\r\n"),
        ("Content-Length: 5, 5\r\n", Length(5), "content-length: 5\r\n\r\n"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Length(5), "content-length: 5\r\n\r\n"),
        ("Content-Length: 5\r\n", Chunked, "transfer-encoding: chunked\r\n\r\n"),
        ("Transfer-Encoding: CHUNKED\r\n", Chunked, "transfer-encoding: chunked\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", Length(0), "content-length: 0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", UntilClose, "\r\n"),
        ("Content-Length: 5\r\n", None, "\r\n"),
        ("", Length(u64::MAX), "content-length: 18446744073709551615\r\n\r\n"),
    ] {
        assert_eq!(framed(came, body), goes, "{came:?} {body:?}");
    }
}

#[test]
fn responses_of_our_own_are_made_up() {
    let (mut edits, mut written) = (Edits::default(), BytesMut::new());
    let fields: [(Name<'_>, &[u8]); 2] = [(Known::ContentType.into(), b"text/plain"), ("x-a".into(), b"1")];
    edits.made_up(&fields, BodyLength::Length(3)).unwrap();
    write::own_response(&mut written, 1024, (Version::Http10, 404), &edits).unwrap();
    assert_eq!(
        latin1(&written),
        "HTTP/1.0 404 Not Found\r\ncontent-type: text/plain\r\nx-a: 1\r\ncontent-length: 3\r\n\r\n"
    );
    assert!(edits.made_up(&[("x".into(), b"\r")], BodyLength::None).is_err());
}
