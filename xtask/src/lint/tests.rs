//! The checks that read the source, on small crates.

use std::collections::BTreeSet;

use super::{cycles, exceptions, modules::Modules, saturations};

/// The cycles of a crate of these files: `a.rs b.rs` each.
fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
    let modules = Modules::of(files).expect("the files are Rust");
    cycles::find(&modules).iter().map(|cycle| cycle.files.join(" ")).collect()
}

const NONE: [&str; 0] = [];

#[test]
fn two_files_that_import_each_other_are_a_cycle() {
    for back in [
        "use crate::a::A;",
        "use super::a::A;",
        "use crate::{c::C, a::{self}};",
        "use crate::a as other;",
        "use crate::a::*;",
        "fn f() { crate::a::g(); }",
        "fn f(_: &crate::a::A) {}",
        "fn f() { use crate::a; a::g(); }",
        "fn f() { println!(\"{}\", crate::a::g()); }",
        "mod inner { use super::super::a::A; }",
        "impl crate::a::T for B {}",
    ] {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", back),
            ("c.rs", ""),
        ];
        assert_eq!(cycles_of(&files), ["a.rs b.rs"], "{back}");
    }
}

#[test]
fn what_is_no_import_makes_no_cycle() {
    for back in [
        "// use crate::a::A;",
        "const TEXT: &str = \"crate::a::A\";",
        "#[cfg(test)] use crate::a::A;",
        "#[cfg(test)] mod tests { use crate::a::A; }",
        "#[test] fn f() { crate::a::g(); }",
        "use other::a::A; use a_crate; fn f() { a_crate::a::g(); }",
        "use std::a::A; fn f() { A::new(); }",
        "use crate::b::B;",
        "use crate::c::C;",
    ] {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", back),
            ("c.rs", ""),
        ];
        assert_eq!(cycles_of(&files), NONE, "{back}");
    }
}

#[test]
fn a_cycle_has_all_its_files_and_the_imports_between_them() {
    let files = [
        ("main.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "\nuse crate::b::B;\nuse crate::b::C;"),
        ("b.rs", "use crate::{c, d};"),
        ("c.rs", "fn f() { super::a::f(); }"),
        ("d.rs", ""),
    ];
    let found = cycles::find(&Modules::of(&files).expect("Rust"));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].files, ["a.rs", "b.rs", "c.rs"]);
    let imports: Vec<String> = found[0]
        .imports
        .iter()
        .map(|import| {
            format!("{}:{} {} {} {}", import.from, import.first.line, import.to, import.first.text(), import.places)
        })
        .collect();
    assert_eq!(imports, ["a.rs:2 b.rs crate::b::B 2", "b.rs:1 c.rs crate::c 1", "c.rs:1 a.rs super::a::f 1"]);
}

#[test]
fn a_name_that_is_passed_on_is_imported_from_where_it_is_declared() {
    // By the crate's root, by the parent, by its `*`, by another name.
    for (root, import) in [
        ("pub use a::A;", "use crate::A;"),
        ("pub use a::A;", "use super::A;"),
        ("pub use a::*;", "use crate::A;"),
        ("pub use a::A as Other;", "use crate::Other;"),
        ("use a::A;", "use super::*; fn f() { A::new(); }"),
        ("pub use a as other;", "use crate::other::A;"),
    ] {
        let root = format!("mod a; mod b; {root}");
        let files = [("lib.rs", root.as_str()), ("a.rs", "use crate::b::B; pub struct A;"), ("b.rs", import)];
        assert_eq!(cycles_of(&files), ["a.rs b.rs"], "{root} {import}");
    }
}

#[test]
fn children_may_import_from_the_modules_around_them() {
    let files = [
        ("lib.rs", "mod a; use a::x::X; pub struct Shared;"),
        ("a.rs", "mod x; mod y; use x::X; use self::y::Y; struct OfParent;"),
        ("a/x.rs", "use super::OfParent; use crate::Shared;"),
        ("a/y/mod.rs", "use super::{x::X, OfParent};"),
    ];
    assert_eq!(cycles_of(&files), NONE);
}

#[test]
fn a_cycle_may_lead_through_a_parent_and_its_child() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "mod x; pub struct A; fn f() { x::f(); }"),
        ("a/x.rs", "use crate::b::B;"),
        ("b.rs", "use crate::a::A;"),
    ];
    assert_eq!(cycles_of(&files), ["a.rs a/x.rs b.rs"]);
}

#[test]
fn siblings_below_one_parent_may_not_import_each_other() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a.rs", "mod x; mod y; pub use x::X;"),
        ("a/x.rs", "use super::y::Y; pub struct X;"),
        ("a/y.rs", "use super::X; pub struct Y;"),
    ];
    assert_eq!(cycles_of(&files), ["a/x.rs a/y.rs"]);
}

#[test]
fn files_that_are_there_for_tests_are_left_out() {
    let files = [
        ("lib.rs", "mod a; #[cfg(test)] mod tests;"),
        ("a.rs", "use crate::tests::helper;"),
        ("tests.rs", "mod more; use crate::a::A;"),
        ("tests/more.rs", "use crate::a::A;"),
    ];
    assert_eq!(cycles_of(&files), NONE);
}

#[test]
fn functions_are_measured_from_their_signature_to_their_last_bracket() {
    let text = "/// Not counted.\n#[inline]\nfn a() {\n\n}\nstruct S;\nimpl S {\n    fn b(\n        self,\n    ) {}\n}\ntrait T {\n    \
                fn c();\n    fn d() {}\n}\n#[cfg(test)]\nmod tests {\n    fn e() {}\n}\n";
    let modules = Modules::of(&[("lib.rs", text)]).expect("Rust");
    let functions: Vec<String> =
        modules.files[&Vec::new()].functions.iter().map(|f| format!("{}:{} {}", f.name, f.line, f.lines)).collect();
    assert_eq!(functions, ["a:3 3", "S::b:8 3", "T::d:14 1"]);
}

#[test]
fn exceptions_only_get_fewer() {
    let list = "# a list\ncycle a.rs\ncycle b.rs # until it is split\nlong a.rs f\n";
    let found = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(exceptions::judge(list, "cycle", &found(&["a.rs", "b.rs"])), exceptions::Judged::default());
    let judged = exceptions::judge(list, "cycle", &found(&["b.rs", "c.rs"]));
    assert_eq!((judged.new, judged.unneeded), (vec!["c.rs".to_owned()], vec!["a.rs".to_owned()]));
    assert_eq!(exceptions::judge(list, "long", &found(&["a.rs f"])), exceptions::Judged::default());
}

/// Lines of a function with this body that convert in silence.
fn saturating(body: &str) -> Vec<usize> {
    saturations::of(&format!("fn f(n: usize) {{\n{body}\n}}\n")).expect("Rust")
}

#[test]
fn a_conversion_that_gives_another_number_in_silence_is_found() {
    for planted in [
        "u32::try_from(n).unwrap_or(0);",
        "let a = u32::try_from(n).unwrap_or(u32::MAX);",
        "std::primitive::u16::try_from(n).ok().unwrap_or_default();",
        "g((u8::try_from(n)).unwrap_or(255), 1);",
        "let a: u32 = n.try_into().unwrap_or(0);",
        "let a: u32 = h(n).try_into().unwrap_or_default() + 1;",
        "usize::try_from(n).map_or(0, |n| n + 1);",
        "println!(\"{}\", u32::try_from(n).unwrap_or(0));",
        "// saturates:\u{20}\u{20}",
    ] {
        let (body, line) = match planted.starts_with("//") {
            true => (format!("{planted}\nu32::try_from(n).unwrap_or(0);"), 3),
            false => (planted.to_owned(), 2),
        };
        assert_eq!(saturating(&body), [line], "{body}");
    }
}

#[test]
fn a_conversion_that_says_why_or_fails_is_left_alone() {
    for body in [
        "u32::try_from(n).expect(\"n is small\");",
        "u32::try_from(n)?;",
        "let a = u32::try_from(n).ok();",
        "Some(1).unwrap_or(0);",
        "Name::try_from(n).unwrap_or(Name::NONE);",
        "// saturates: more is as good as all.\nu32::try_from(n).unwrap_or(u32::MAX);",
        "u32::try_from(n).unwrap_or(0); // saturates: 0 is none.",
        "u32::try_from(n)\n    // saturates: 0 is none.\n    .unwrap_or(0);",
        "}\n#[cfg(test)] mod tests { fn f() { u32::try_from(1).unwrap_or(0); }",
        "}\n#[test] fn g() { u32::try_from(1).unwrap_or(0);",
    ] {
        assert_eq!(saturating(body), [0; 0], "{body}");
    }
}
