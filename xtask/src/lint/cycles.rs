//! Import cycles between the files of a crate.
//!
//! A file imports another if it refers to something that is declared there; a name that a third file only passes on (`pub
//! use`) counts as an import of where it is declared. What a module imports from a module around it does not count: a parent
//! may use its children, and they the types that it shares among them.

use std::collections::BTreeMap;

use super::modules::{Modules, Name, Reference};

/// An import of one file by another of the same cycle.
#[derive(Debug)]
pub(super) struct Import {
    /// The file that imports.
    pub(super) from: String,
    /// The one that it imports.
    pub(super) to: String,
    /// The first place, and how many there are.
    pub(super) first: Reference,
    pub(super) places: usize,
}

/// Files each of which imports every other, directly or by way of others.
#[derive(Debug)]
pub(super) struct Cycle {
    /// Names of the files, sorted.
    pub(super) files: Vec<String>,
    pub(super) imports: Vec<Import>,
}

/// All cycles of a crate.
pub(super) fn find(modules: &Modules) -> Vec<Cycle> {
    let imports = imports(modules);
    let mut cycles: Vec<Cycle> = components(&modules.files.keys().collect::<Vec<_>>(), &imports)
        .into_iter()
        .filter(|names| names.len() > 1)
        .map(|names| {
            let file = |name: &Name| modules.files[name].name.clone();
            let inside = imports.iter().filter(|((from, to), _)| names.contains(from) && names.contains(to));
            let mut files: Vec<String> = names.iter().map(|name| file(name)).collect();
            files.sort();
            Cycle {
                files,
                imports: inside
                    .map(|((from, to), places)| Import {
                        from: file(from),
                        to: file(to),
                        first: places[0].clone(),
                        places: places.len(),
                    })
                    .collect(),
            }
        })
        .collect();
    cycles.sort_by(|a, b| a.files.cmp(&b.files));
    cycles
}

type Imports<'a> = BTreeMap<(&'a Name, &'a Name), Vec<&'a Reference>>;

fn imports(modules: &Modules) -> Imports<'_> {
    let mut imports = Imports::new();
    for (from, file) in &modules.files {
        for reference in &file.references {
            match modules.target(reference) {
                Some(to) if !from.starts_with(to) => imports.entry((from, to)).or_default().push(reference),
                _ => {}
            }
        }
    }
    imports
}

/// Strongly connected components (Tarjan).
fn components<'a>(names: &[&'a Name], imports: &Imports<'a>) -> Vec<Vec<&'a Name>> {
    let mut search = Search { imports, seen: BTreeMap::new(), stack: Vec::new(), found: Vec::new() };
    for name in names {
        if !search.seen.contains_key(*name) {
            search.visit(name);
        }
    }
    search.found
}

struct Search<'a, 'b> {
    imports: &'b Imports<'a>,
    /// Order in which a file was reached.
    seen: BTreeMap<&'a Name, usize>,
    stack: Vec<&'a Name>,
    found: Vec<Vec<&'a Name>>,
}

impl<'a> Search<'a, '_> {
    fn visit(&mut self, name: &'a Name) -> usize {
        let order = self.seen.len();
        let mut lowest = order;
        self.seen.insert(name, order);
        self.stack.push(name);
        for (_, to) in self.imports.keys().filter(|(from, _)| *from == name) {
            match self.seen.get(to) {
                None => lowest = lowest.min(self.visit(to)),
                Some(order) if self.stack.contains(to) => lowest = lowest.min(*order),
                Some(_) => {}
            }
        }
        if lowest == order {
            let start = self.stack.iter().position(|other| *other == name).unwrap_or_default();
            self.found.push(self.stack.split_off(start));
        }
        lowest
    }
}
