//! Normal paths.

#![allow(clippy::unwrap_used)] // A panic in a test is the report.

use std::borrow::Cow;

use brattice_router::path::{Refused, check_query, normalize, requested};
use proptest::prelude::*;

#[test]
fn one_form_for_each_path() {
    for (raw, normal) in [
        // As it is.
        ("/", "/"),
        ("*", "*"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b.c/~d_e-f", "/a/b.c/~d_e-f"),
        ("/...", "/..."),
        ("/.a/..b/c./d..", "/.a/..b/c./d.."),
        ("/a;v=1/b,c:d@e!f$g&h'(i)*+=", "/a;v=1/b,c:d@e!f$g&h'(i)*+="),
        ("/{a}|^\"[]", "/{a}|^\"[]"),
        ("/!~", "/!~"),
        // Escapes.
        ("/%41%7a%30%2D%5F%7E", "/Az0-_~"),
        ("/%2e%2Ea", "/..a"),
        ("/%20%21%7b", "/%20%21%7B"),
        ("/%c3%a9", "/%C3%A9"),
        ("/%C3%A9", "/%C3%A9"),
        ("/%25", "/%25"),
        ("/%2541", "/%2541"),
        ("/%252e%252E/a", "/%252e%252E/a"),
        ("/%3f%23%2B", "/%3F%23%2B"),
        ("/%80%ff", "/%80%FF"),
        // Slashes.
        ("//", "/"),
        ("///a////b//", "/a/b/"),
        ("//a", "/a"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%2F%2Fb", "/a%2F%2Fb"),
        ("/a%5cb", "/a%5Cb"),
        // Dot segments (RFC 3986, 5.2.4).
        ("/a/b/c/./../../g", "/a/g"),
        ("/mid/content=5/../6", "/mid/6"),
        ("/.", "/"),
        ("/..", "/"),
        ("/../a", "/a"),
        ("/../../../a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/./", "/a/"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/b/../..", "/"),
        ("/a/%2e/b/%2E%2e/c", "/a/c"),
        ("/%2e%2e/%2e", "/"),
        ("/.%2e/a", "/a"),
        // `//` is merged first, so that `..` removes what people see as the segment before.
        ("/a//../b", "/b"),
        ("/a/b//..//c", "/a/c"),
        ("/x/..//a", "/a"),
        ("/a/..b/../c", "/a/c"),
        ("/%41/../b", "/b"),
        ("/b/%41/../c/%42", "/b/c/B"),
    ] {
        assert_eq!(normalize(raw).as_deref(), Ok(normal), "{raw}");
        assert_eq!(normalize(normal).as_deref(), Ok(normal), "{normal}, which is normal");
    }
}

#[test]
fn what_can_be_misunderstood_is_refused() {
    use Refused::{
        Backslash, Control, Delimiter, EncodedControl, HiddenDots, MalformedEscape, NonAscii, Relative, Unencoded,
    };
    for (raw, refused, accepted) in [
        ("", Relative, "/"),
        ("a", Relative, "/a"),
        ("**", Relative, "*"),
        ("http://h/a", Relative, "/http://h/a"),
        ("\\a", Relative, "/a"),
        ("/a\\b", Backslash, "/a%5Cb"),
        ("/a?b", Delimiter, "/a%3Fb"),
        ("/a#b", Delimiter, "/a%23b"),
        ("/a<b", Unencoded, "/a%3Cb"),
        ("/a>b", Unencoded, "/a=b"),
        ("/a`b", Unencoded, "/a%60b"),
        ("/a b", Control, "/a!b"),
        ("/a\0", Control, "/a"),
        ("/a\tb", Control, "/a%20b"),
        ("/a\x1fb", Control, "/a!b"),
        ("/a\x7f", Control, "/a~"),
        ("/é", NonAscii, "/%C3%A9"),
        ("/\u{80}", NonAscii, "/\x7e"),
        ("/%00", EncodedControl, "/%20"),
        ("/a%0d%0aX", EncodedControl, "/a%20X"),
        ("/%1F", EncodedControl, "/%20"),
        ("/%7f", EncodedControl, "/%7E"),
        ("/%", MalformedEscape, "/%25"),
        ("/%4", MalformedEscape, "/%41"),
        ("/%4g", MalformedEscape, "/%4F"),
        ("/%g4", MalformedEscape, "/%F4"),
        ("/%4/1", MalformedEscape, "/%41/"),
        ("/a%+1", MalformedEscape, "/a%21"),
        ("/..%2fa", HiddenDots, "/...%2fa"),
        ("/..%2Fetc", HiddenDots, "/.%2e.%2Fetc"),
        ("/a%2f..", HiddenDots, "/a%2f..."),
        ("/a%2f.", HiddenDots, "/a%2f.b"),
        ("/a%2f../b", HiddenDots, "/a%2f..a/b"),
        ("/a%2f%2e%2e%2fb", HiddenDots, "/a%2f%2e%2ea%2fb"),
        ("/.%5c", HiddenDots, "/a.%5c"),
        ("/a%5C..%2Fb", HiddenDots, "/a%5C.a%2Fb"),
        ("/%2F.%2F", HiddenDots, "/%2F%2F"),
        ("/..;/b", HiddenDots, "/..a;/b"),
        ("/.;a=b", HiddenDots, "/;a=b"),
        ("/a%2F..;x%2Fb", HiddenDots, "/a%2Fc;..%2Fb"),
    ] {
        assert_eq!(normalize(raw), Err(refused), "{raw:?}");
        assert!(normalize(accepted).is_ok(), "{accepted:?}: {:?}", normalize(accepted));
        assert!(refused.to_string().starts_with("the path "), "{refused}");
    }
}

#[test]
fn only_options_asks_about_a_star() {
    assert_eq!(requested("OPTIONS", "*").as_deref(), Ok("*"));
    for method in ["GET", "HEAD", "options", "PURGE"] {
        assert_eq!(requested(method, "*"), Err(Refused::Star), "{method}");
        assert_eq!(requested(method, "/a/../*").as_deref(), Ok("/*"), "{method}");
    }
}

#[test]
fn a_query_has_what_browsers_leave_in_it() {
    for query in ["", "a=1&b", "a={b:[1]}|^`'\\", "q=é", "/../%2e%00?", "%"] {
        assert_eq!(check_query(query), Ok(()), "{query}");
    }
    for query in ["a=\"b\"", "a<b", "a>b", "a#b", "#", "a b", "a\tb", "a\0", "\u{7f}"] {
        assert_eq!(check_query(query), Err(Refused::Query), "{query}");
    }
}

#[test]
fn a_normal_path_is_returned_as_it_is() {
    for normal in ["/", "*", "/a/b/", "/a%20b/%C3%A9%2F", "/.well-known/..x"] {
        assert!(matches!(normalize(normal), Ok(Cow::Borrowed(_))), "{normal}");
    }
    for other in ["/a/%c3", "/a/..", "/a/.", "/a//", "//"] {
        assert!(matches!(normalize(other), Ok(Cow::Owned(_))), "{other}");
    }
}

/// Pieces of which paths with all their traps are made.
fn raw() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", "//", ".", "..", "%2e", "%2E", "a", "B", "%41", "%2f", "%2F", "%5c", "%25", "%c3%a9", ";",
        "%3b", "%20", "%", "%4", "\\", "é", "%00", "?", "~", "%7E",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// RFC 3986, 5.2.4, word by word.
fn remove_dot_segments(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if let Some(rest) = input.strip_prefix("../").or_else(|| input.strip_prefix("./")) {
            input = rest.into();
        } else if input.starts_with("/./") {
            input = input[2..].into();
        } else if input == "/." {
            input = "/".into();
        } else if input.starts_with("/../") || input == "/.." {
            input = if input == "/.." { "/".into() } else { input[3..].into() };
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if input == "." || input == ".." {
            input.clear();
        } else {
            let end = input[1..].find('/').map_or(input.len(), |end| end + 1);
            output.push_str(&input[..end]);
            input = input[end..].into();
        }
    }
    output
}

/// The definition, step by step; `None`: refused.
fn naive(raw: &str) -> Option<String> {
    let mut text = String::new();
    let bytes = raw.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        if byte == b'%' {
            let digits =
                raw.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            let value = u8::from_str_radix(digits, 16).unwrap();
            if value < 32 || value == 127 {
                return None;
            }
            if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                text.push(char::from(value));
            } else {
                text.push_str(&format!("%{value:02X}"));
            }
            at += 3;
        } else if byte <= 32 || byte >= 127 || b"\\?#".contains(&byte) {
            return None;
        } else {
            text.push(char::from(byte));
            at += 1;
        }
    }
    while text.contains("//") {
        text = text.replace("//", "/");
    }
    // A target that splits at `%2F` and `%5C`, or drops parameters, must find no dot segment that we did not
    // see.
    let hidden = |segment: &str| {
        segment
            .replace("%5C", "%2F")
            .split("%2F")
            .map(|part| part.split(';').next().unwrap())
            .any(|part| part == "." || part == "..")
    };
    if text.split('/').filter(|segment| *segment != "." && *segment != "..").any(hidden) {
        return None;
    }
    Some(remove_dot_segments(&text))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn normalizing_is_its_definition(raw in raw()) {
        let normal = normalize(&raw).ok();
        prop_assert_eq!(normal.map(Cow::into_owned), naive(&raw), "{}", raw);
    }

    #[test]
    fn normal_paths_are_safe_and_stay_normal(raw in raw()) {
        if let Ok(normal) = normalize(&raw) {
            prop_assert_eq!(normalize(&normal), Ok(normal.clone()));
            prop_assert!(normal.starts_with('/'));
            prop_assert!(!normal.contains("//"), "{}", normal);
            // A target that decodes once more and takes `\` for `/` still cannot go up.
            let decoded = normal.replace("%2F", "/").replace("%5C", "/");
            prop_assert!(decoded.split('/').all(|segment| segment != "." && segment != ".."), "{}", normal);
            prop_assert!(normal.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(*normal == *raw, matches!(normal, Cow::Borrowed(_)), "{}", raw);
        }
    }

    #[test]
    fn any_text_is_answered(raw in "\\PC{0,40}") {
        let _ = normalize(&raw);
        let _ = normalize(&format!("/{raw}"));
    }
}
