//! Any text as a file of documents: no panic, an error for every part from which no tree or no document is made, bounds
//! hold, and every place that is named lies in the text. `cargo +nightly fuzz run documents fuzz/corpus/documents
//! fuzz/seeds/documents` in `agent/model`.

#![no_main]

use brattice_model::{Owner, Source, limits::MAX_NODES_PER_OWNER, parse, yaml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut nodes = 0;
    let (_, refusals) = yaml::read(text, &mut nodes);
    assert!(nodes <= MAX_NODES_PER_OWNER + 1, "{nodes} nodes");
    // A lone CR ends a line of YAML.
    let ends = text.replace("\r\n", "\n").matches(['\n', '\r']).count();
    let lines = u32::try_from(ends + 1).unwrap_or(u32::MAX);
    for refusal in &refusals {
        assert!((1..=lines + 1).contains(&refusal.mark.line), "line {} of {lines}", refusal.mark.line);
        assert!(refusal.mark.column >= 1 && !refusal.message.is_empty());
    }
    for owner in [Owner::Operator, Owner::Account("shop".into())] {
        let source = Source { path: "a.yaml".into(), text: text.to_owned() };
        match parse(&owner, &[source]) {
            Ok(_) => assert!(refusals.is_empty(), "what cannot be read is in force"),
            Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
        }
    }
});
