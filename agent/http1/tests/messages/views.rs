//! What a view says of a request: the parts of its target, and its fields.

use brattice_http1::{Known, RequestHead, RequestReader, RequestView, target::Form};

use crate::harness::REQUESTS;

type Parts<'a> = (&'a str, &'a str, Option<&'a str>, Option<&'a str>);

#[test]
fn a_target_has_the_parts_of_its_form() {
    for (line, form, parts) in [
        ("GET /a/b?c=d", Form::Origin, ("GET", "/a/b", Some("c=d"), None)),
        ("GET /a?", Form::Origin, ("GET", "/a", Some(""), None)),
        ("GET /a?b?c", Form::Origin, ("GET", "/a", Some("b?c"), None)),
        ("GET //a", Form::Origin, ("GET", "//a", None, None)),
        ("GET /?é", Form::Origin, ("GET", "/", Some("é"), None)),
        ("GET http://h.example:80/a?b", Form::Absolute, ("GET", "/a", Some("b"), Some("h.example:80"))),
        ("GET http://h", Form::Absolute, ("GET", "/", None, Some("h"))),
        ("GET http://h?b", Form::Absolute, ("GET", "/", Some("b"), Some("h"))),
        ("GET http://u@[::1]:1/", Form::Absolute, ("GET", "/", None, Some("u@[::1]:1"))),
        ("OPTIONS *", Form::Asterisk, ("OPTIONS", "*", None, None)),
        ("CONNECT h:443", Form::Authority, ("CONNECT", "", None, None)),
    ] {
        let bytes = format!("{line} HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nVia: x\r\n\r\n").into_bytes();
        let mut head = RequestHead::default();
        RequestReader::new(&REQUESTS).read(&bytes, &mut head).unwrap().unwrap();
        let view: &dyn RequestView = &head.on(&bytes);
        let found: Parts<'_> = (view.method(), view.path(), view.query(), view.authority());
        assert_eq!((head.target.form, found), (form, parts), "{line}");
        assert_eq!(Some(&line.as_bytes()[found.0.len() + 1..]), Some(head.on(&bytes).target()), "{line}");
        let mut values = Vec::new();
        view.field("X-a", &mut |value| values.push(value.to_vec()));
        assert_eq!(values, [b"1", b"2"]);
        assert!(view.has(Known::Via) && !view.has(Known::Cookie));
        assert_eq!(head.on(&bytes).fields().first(Known::Host), Some(&b"h"[..]));
        // Of another buffer there is nothing, and no panic.
        assert_eq!(head.on(&[]).method(), "");
    }
}
